"""A call's sound for applications: reading it, sending it, playing and recording files.

All of it goes through rings of one second. Whoever waits for sound or for room is woken by the
tick; a call without readers costs nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from os import PathLike

import numpy as np
import numpy.typing as npt

from voip.errors import CallStateError, ConfigError
from voip.media.commands import AddSink, RemoveSink, SetSource
from voip.media.files import ArraySource, FileSink, FileSource
from voip.media.wav import MAX_RATE_HZ, MIN_RATE_HZ
from voip.session.media import MediaSession
from voip.session.stack import Stack

__all__ = ["AudioReader", "CallAudio", "FileRecording"]

RING_S = 1.0
FILE_RING_S = 2.0


class CallAudio:
    """The sound of one call. `over` is set when the call is; `lost` hears of lost samples."""

    def __init__(
        self,
        stack: Stack,
        media: MediaSession,
        over: asyncio.Event,
        lost: Callable[[float], None],
    ) -> None:
        self.rate = 8000
        self._stack = stack
        self._media = media
        self._over = over
        self._lost = lost
        self._sending = asyncio.Lock()
        self._send_ring: int | None = None
        self._drained: dict[int, asyncio.Event] = {}

    # ------------------------------------------------------------ sending

    async def play(
        self, source: str | PathLike[str] | npt.NDArray[np.int16], *, loop: bool = False
    ) -> None:
        """Send a WAV file or an array, int16 (samples,) at `rate`; returns when it has gone out.

        One thing is played at a time: a second call waits for the first. Ends silently with the
        call. Raises `AudioFileError` where the file cannot be read.
        """
        number = self._stack.arena.allocate(int(RING_S * self.rate))
        try:
            async with self._sending:
                await self._play(number, source, loop)
        finally:
            self._stack.arena.release(number)

    async def _play(
        self, number: int, source: str | PathLike[str] | npt.NDArray[np.int16], loop: bool
    ) -> None:
        if not self._media.is_open:
            raise CallStateError("the call has no sound yet", hint="answer it first")
        job = _FileJob()
        ring = self._stack.arena.ring(number)
        feeder: FileSource | ArraySource
        if isinstance(source, np.ndarray):
            feeder = ArraySource(ring, _checked(source), loop=loop, on_ready=job.ready)
        else:
            feeder = FileSource(ring, source, self.rate, loop=loop, on_ready=job.ready)
        drained = self._drained[number] = asyncio.Event()
        self._stack.files.add(feeder, job.broke)
        try:
            await job.wait_ready()
            await self._set_source(number)
            await self._until(drained, job.failed)
        finally:
            del self._drained[number]
            await self._stack.files.remove(feeder)
            feeder.close()
            await self._set_source(self._send_ring)
        job.check()

    def on_source_drained(self, ring: int) -> None:
        """The engine has sent the last sample of a closed ring."""
        if ring in self._drained:
            self._drained[ring].set()

    async def send(self, pcm: npt.NDArray[np.int16]) -> None:
        """Send `pcm`, int16 (samples,) at `rate`, after what was sent before; waits for room.

        Up to a second is kept. Raises `CallStateError` when the call is over.
        """
        left = _checked(pcm)
        async with self._sending:
            if self._over.is_set() or not self._media.is_open:
                raise CallStateError("the call is over, or was never answered")
            if self._send_ring is None:
                self._send_ring = self._stack.arena.allocate(int(RING_S * self.rate))
                ring = self._stack.arena.ring(self._send_ring)
                left = left[ring.push(left) :]
                await self._stack.driver.apply(SetSource(self._media.stream, self._send_ring))
            ring = self._stack.arena.ring(self._send_ring)
            while True:
                if self._over.is_set():
                    raise CallStateError("the call is over")
                left = left[ring.push(left) :]
                if not left.size:
                    return
                await self._tick()

    async def close(self) -> None:
        """Give the rings back: the call is over."""
        if self._send_ring is not None:
            self._stack.arena.release(self._send_ring)
            self._send_ring = None

    async def _set_source(self, ring: int | None) -> None:
        if self._media.is_open:
            await self._stack.driver.apply(SetSource(self._media.stream, ring))

    # ------------------------------------------------------------ receiving

    def reader(self, frame_ms: float) -> AudioReader:
        """Return a reader of what is heard from now on."""
        return AudioReader(self, round(self.rate * frame_ms / 1000))

    async def add_sink(self, samples: int) -> int:
        """Let the engine write what is heard to a new ring; return its number."""
        number = self._stack.arena.allocate(samples)
        try:
            await self._stack.driver.apply(AddSink(self._media.stream, number))
        except BaseException:
            self._stack.arena.release(number)
            raise
        return number

    async def remove_sink(self, number: int) -> None:
        """Stop that, and give the ring back."""
        await self.stop_sink(number)
        self._stack.arena.release(number)

    async def stop_sink(self, number: int) -> None:
        """Let nothing more be written to a ring; what is in it can still be read."""
        if self._media.is_open:
            await self._stack.driver.apply(RemoveSink(self._media.stream, number))

    # ------------------------------------------------------------ waiting

    async def _until(self, *events: asyncio.Event) -> None:
        """Wait for any of `events`, or for the end of the call."""
        loop = asyncio.get_running_loop()
        waits = [loop.create_task(event.wait()) for event in (*events, self._over)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waits:
                task.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def _tick(self) -> None:
        """Wait for the next tick, or for the end of the call."""
        ticked = asyncio.Event()
        stop = self._stack.driver.on_tick(ticked.set)
        try:
            await self._until(ticked)
        finally:
            stop()


class AudioReader:
    """What is heard, as frames: `async for frame in reader`, each int16 (samples,).

    The last frame of a call may be shorter. `aclose` (or the end of `async with`) stops reading;
    so does the end of the call.
    """

    def __init__(self, audio: CallAudio, frame: int) -> None:
        self._audio = audio
        self._frame = max(1, frame)
        self._ring: int | None = None
        self._lost = 0
        self._closed = False

    def __aiter__(self) -> AsyncIterator[npt.NDArray[np.int16]]:
        return self

    async def __anext__(self) -> npt.NDArray[np.int16]:
        pcm = await self._read(self._frame)
        if not pcm.size:
            await self.aclose()
            raise StopAsyncIteration
        return pcm

    async def __aenter__(self) -> AudioReader:
        await self._open()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    async def read(self, seconds: float) -> npt.NDArray[np.int16]:
        """Return the next `seconds` of sound, less only where the call ends: int16 (samples,)."""
        wanted = round(seconds * self._audio.rate)
        pieces: list[npt.NDArray[np.int16]] = []
        while wanted > 0:
            pcm = await self._read(min(wanted, self._audio.rate // 10))
            if not pcm.size:
                break
            pieces.append(pcm)
            wanted -= pcm.size
        return np.concatenate(pieces) if pieces else np.zeros(0, np.int16)

    async def aclose(self) -> None:
        """Stop reading."""
        self._closed = True
        if self._ring is not None:
            number, self._ring = self._ring, None
            await self._audio.remove_sink(number)

    async def _open(self) -> int:
        if self._ring is None:
            self._ring = await self._audio.add_sink(int(RING_S * self._audio.rate))
        return self._ring

    async def _read(self, count: int) -> npt.NDArray[np.int16]:
        audio = self._audio
        if self._closed or (self._ring is None and not audio._media.is_open):
            return np.zeros(0, np.int16)
        ring = audio._stack.arena.ring(await self._open())
        while ring.available < count and not audio._over.is_set():
            await audio._tick()
        pcm = ring.read(count)
        if ring.lost > self._lost:
            audio._lost(1000 * (ring.lost - self._lost) / audio.rate)
            self._lost = ring.lost
        return pcm


class FileRecording:
    """A WAV file being written of what is heard; an async context manager.

    It ends with the `async with` block, and the file is whole then; if the call ends before, so
    does the sound.
    """

    def __init__(
        self, stack: Stack, audio: CallAudio, path: str | PathLike[str], rate_hz: int | None = None
    ) -> None:
        if rate_hz is not None and not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
            raise ConfigError(
                f"a recording cannot have {rate_hz} Hz", hint=f"{MIN_RATE_HZ} to {MAX_RATE_HZ}"
            )
        self.path = path
        self._rate_hz = rate_hz
        self._stack = stack
        self._audio = audio
        self._ring: int | None = None
        self._sink: FileSink | None = None
        self._job: _FileJob | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def duration_s(self) -> float:
        """Seconds of sound in the file."""
        return self._sink.duration_s if self._sink else 0.0

    async def start(self) -> None:
        """Begin to record. Raises `AudioFileError` where the file cannot be written."""
        rate = self._audio.rate
        number = self._ring = await self._audio.add_sink(int(FILE_RING_S * rate))
        ring = self._stack.arena.ring(number)
        job = self._job = _FileJob()
        self._sink = FileSink(
            ring,
            self.path,
            rate,
            file_rate_hz=self._rate_hz,
            on_ready=job.ready,
            on_lost=self._on_lost,
        )
        self._loop = asyncio.get_running_loop()
        self._stack.files.add(self._sink, job.broke)
        try:
            await job.wait_ready()
        except BaseException:
            await self._audio.remove_sink(number)
            raise

    async def stop(self) -> None:
        """Write the rest and close the file; raises what writing raised meanwhile."""
        if self._sink is None or self._ring is None or self._job is None:
            return
        number, self._ring = self._ring, None
        try:
            await self._audio.stop_sink(number)
            await self._stack.files.remove(self._sink)
        finally:
            self._stack.arena.release(number)
            self._sink.close()
        self._job.check()

    async def __aenter__(self) -> FileRecording:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    def _on_lost(self, samples: int) -> None:
        if self._loop is not None:
            lost_ms = 1000 * samples / self._audio.rate
            self._loop.call_soon_threadsafe(self._audio._lost, lost_ms)


class _FileJob:
    """What the thread that serves files tells the event loop about one of them."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ready = asyncio.Event()
        self.failed = asyncio.Event()
        self._error: Exception | None = None

    def ready(self) -> None:
        """The file is open. Called in the other thread."""
        self._loop.call_soon_threadsafe(self._ready.set)

    def broke(self, error: Exception) -> None:
        """The file cannot be read or written (any more). Called in the other thread."""
        self._loop.call_soon_threadsafe(self._fail, error)

    async def wait_ready(self) -> None:
        """Return when the file is open; raises what kept it from that."""
        await self._ready.wait()
        self.check()

    def check(self) -> None:
        """Raise what went wrong, if anything did."""
        if self._error is not None:
            raise self._error

    def _fail(self, error: Exception) -> None:
        self._error = error
        self.failed.set()
        self._ready.set()


def _checked(pcm: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
    """Return `pcm` if it is what can be sent: int16, one axis."""
    if pcm.dtype != np.int16 or pcm.ndim != 1:
        raise CallStateError(
            f"{pcm.dtype} of shape {pcm.shape} cannot be sent", hint="give mono int16 (samples,)"
        )
    return pcm
