"""A call's sound for applications: reading it, sending it, playing and recording files.

All of it goes through rings of one second. Whoever waits for sound or for room is woken by the
tick; a call without readers costs nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from os import PathLike, fspath
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from voip.errors import CallStateError, ConfigError, MediaError
from voip.logs.lines import CallLog
from voip.media.files import ArraySource, FileSink, FileSource
from voip.media.rings import AudioRing
from voip.media.wav import MAX_RATE_HZ, MIN_RATE_HZ
from voip.session.stack import Stack

__all__ = ["AudioReader", "CallAudio", "Carrier", "FileRecording"]

RING_S = 1.0
FILE_RING_S = 2.0
MAX_FRAME_MS = 60_000
MAX_READ_S = 3600
PIECE_S = 0.1
"""What a reader takes out of its ring at a time: frames may be longer than the ring."""


class Carrier(Protocol):
    """What the engine does for a call's sound, or for a conference's."""

    @property
    def rate_hz(self) -> int:
        """Samples a second of the sound."""

    def check_carried(self) -> None:
        """Raise `CallStateError` or `MediaError` where there is no sound (yet, or any more)."""

    async def add_sink(self, ring: int) -> None:
        """Write what is heard to a ring."""

    async def remove_sink(self, ring: int) -> None:
        """Stop that."""

    async def set_source(self, ring: int | None) -> None:
        """Send what is in a ring, or nothing."""


class _Listener(Protocol):
    """Who hears a call, and lets go of it when the call is over."""

    async def release(self) -> None: ...


class CallAudio:
    """The sound of a call, or of a conference, until `end`. `lost` hears of lost milliseconds."""

    def __init__(
        self, stack: Stack, media: Carrier, lost: Callable[[float], None], log: CallLog
    ) -> None:
        self.over = False
        self._rate: int | None = None
        self.log = log
        self._stack = stack
        self._media = media
        self._lost = lost
        self._sending = asyncio.Lock()
        self._send_ring: int | None = None
        self._voice: int | None = None  # the ring of a device that speaks
        self._playing: dict[int, _FileJob] = {}
        self._listeners: dict[_Listener, None] = {}  # in order: a simulation repeats
        self._waiting: dict[asyncio.Event, None] = {}

    @property
    def rate(self) -> int:
        """Samples a second of what is sent and read here.

        That of the codec which is agreed on when sound is first sent or read; it stays, whatever
        is agreed on later.
        """
        return self._media.rate_hz if self._rate is None else self._rate

    def _allocate(self, seconds: float) -> int:
        """Make a ring, of what will be the rate from now on."""
        self._rate = self.rate
        return self._stack.arena.allocate(int(seconds * self._rate), self._rate)

    # ------------------------------------------------------------ sending

    async def play(
        self, source: str | PathLike[str] | npt.NDArray[np.int16], *, loop: bool = False
    ) -> None:
        """Send a WAV file or an array, int16 (samples,) at `rate`; returns when it has gone out.

        One thing is played at a time: a second call waits for the first. Ends silently with the
        call. Raises `AudioFileError` where the file cannot be read.
        """
        sound = _checked(source) if isinstance(source, np.ndarray) else fspath(source)
        async with self._sending:
            self._check_open()
            number = self._allocate(RING_S)
            ring, job = self._stack.arena.ring(number), _FileJob()
            feeder: FileSource | ArraySource
            if isinstance(sound, np.ndarray):
                feeder = ArraySource(ring, sound, loop=loop, on_ready=job.ready)
            else:
                feeder = FileSource(ring, sound, self.rate, loop=loop, on_ready=job.ready)
            try:
                await self._play(number, feeder, job)
            finally:
                self._stack.arena.release(number)
        job.check()

    async def _play(self, number: int, feeder: FileSource | ArraySource, job: _FileJob) -> None:
        self._playing[number] = job
        self._stack.files.add(feeder, job.broke)
        try:
            await job.wait_ready()
            with suppress(CallStateError):  # the call is over
                await self._media.set_source(number)
                if not self.over:
                    await job.over.wait()
        finally:
            del self._playing[number]
            await _to_the_end(self._stop_playing(feeder))

    async def _stop_playing(self, feeder: FileSource | ArraySource) -> None:
        await self._stack.files.remove(feeder)
        feeder.close()
        with suppress(CallStateError, MediaError):
            await self._media.set_source(self._background)

    def on_source_drained(self, ring: int) -> None:
        """The engine has sent the last sample of a closed ring."""
        if ring in self._playing:
            self._playing[ring].over.set()

    async def send(self, pcm: npt.NDArray[np.int16]) -> None:
        """Send `pcm`, int16 (samples,) at `rate`, after what was sent before; waits for room.

        Up to a second is kept. Raises `CallStateError` when the call is over.
        """
        left = _checked(pcm)
        async with self._sending:
            self._check_open()
            if self._voice is not None:
                raise CallStateError("a device speaks in this call", hint="end its link first")
            ring = await self._sent_from()
            while True:
                self._check_open()
                left = left[ring.push(left) :]
                if not left.size:
                    return
                await self.wait_tick()

    async def _sent_from(self) -> AudioRing:
        """Return the ring of `send`, which is made by the first one."""
        arena = self._stack.arena
        if self._send_ring is None:
            number = self._allocate(RING_S)
            try:
                await self._media.set_source(number)
                self._check_open()
            except BaseException:
                arena.release(number)
                raise
            self._send_ring = number
        return arena.ring(self._send_ring)

    async def speak(self, seconds: float) -> tuple[int, AudioRing]:
        """Send what is in a new ring while nothing is played, until `hush`: a device's voice.

        Returns its number and itself. Raises `CallStateError` where another one speaks.
        """
        self._check_open()
        if self._voice is not None:
            raise CallStateError("another device speaks in this call", hint="one at a time")
        number = self._voice = self._allocate(seconds)
        ring = self._stack.arena.ring(number)
        try:
            if not self._playing:
                await self._media.set_source(number)
        except BaseException:
            await self.hush(number)
            raise
        return number, ring

    async def hush(self, number: int) -> None:
        """Send no more of what `speak` has begun, and give its ring back."""
        if self._voice == number:
            self._voice = None
            self._stack.arena.release(number)
            if not (self._playing or self.over):
                with suppress(CallStateError, MediaError):
                    await self._media.set_source(self._send_ring)

    @property
    def _background(self) -> int | None:
        """The ring of what is sent while nothing is played."""
        return self._send_ring if self._voice is None else self._voice

    def _check_open(self) -> None:
        if self.over:
            raise CallStateError("the call is over")
        self._media.check_carried()

    # ------------------------------------------------------------ the end

    def end(self) -> None:
        """The call is over: nobody waits for its sound any more."""
        self.over = True
        self._lost = _nobody  # and let go of the call
        for job in self._playing.values():
            job.over.set()
        for waiting in tuple(self._waiting):
            waiting.set()

    async def close(self) -> None:
        """Give the rings back, and make recordings whole that nobody stopped.

        All of them, also when it is cancelled meanwhile.
        """
        if self._send_ring is not None:
            self._stack.arena.release(self._send_ring)
            self._send_ring = None
        await asyncio.gather(*(listener.release() for listener in self._listeners))

    # ------------------------------------------------------------ receiving

    def reader(self, frame_ms: float) -> AudioReader:
        """Return a reader of what is heard from now on."""
        if not 0 < frame_ms <= MAX_FRAME_MS:
            raise ConfigError(
                f"frames of {frame_ms} ms cannot be read", hint=f"up to {MAX_FRAME_MS} ms"
            )
        return AudioReader(self, frame_ms)

    async def listen(self, listener: _Listener, seconds: float) -> tuple[int, AudioRing]:
        """Let the engine write what is heard to a new ring; return its number and itself.

        `listener.release` is called when the call is over.
        """
        self._check_open()
        arena = self._stack.arena
        number = self._allocate(seconds)
        ring = arena.ring(number)
        try:
            await self._media.add_sink(number)
        except BaseException:
            arena.release(number)  # the engine drops a sink whose ring is gone
            raise
        self._listeners[listener] = None
        return number, ring

    async def unlisten(self, listener: _Listener, number: int) -> None:
        """Let nothing more be written to a ring, and give it back; it can still be read."""
        self._listeners.pop(listener, None)
        try:
            with suppress(CallStateError, MediaError):  # the call is over: nothing is written
                await self._media.remove_sink(number)
        finally:
            self._stack.arena.release(number)

    def tell_lost(self, samples: int) -> None:
        """Tell the application that a listener was too slow."""
        self._lost(1000 * samples / self.rate)

    async def wait_tick(self) -> None:
        """Wait for the next tick, or for the end of the call."""
        ticked = asyncio.Event()
        stop = self._stack.driver.on_tick(ticked.set)
        self._waiting[ticked] = None
        try:
            if not self.over:
                await ticked.wait()
        finally:
            del self._waiting[ticked]
            stop()


class AudioReader:
    """What is heard, as frames: `async for frame in reader`, each int16 (samples,).

    The last frame of a call may be shorter. `aclose` (or the end of `async with`) stops reading;
    so does the end of the call. Raises `CallStateError` where the call has no sound yet.
    """

    def __init__(self, audio: CallAudio, frame_ms: float) -> None:
        self._audio = audio
        self._frame_s = frame_ms / 1000
        self._number: int | None = None
        self._ring: AudioRing | None = None
        self._lost = 0
        self._closed = False

    def __aiter__(self) -> AsyncIterator[npt.NDArray[np.int16]]:
        return self

    async def __anext__(self) -> npt.NDArray[np.int16]:
        pcm = await self.read(self._frame_s)
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
        if not 0 <= seconds <= MAX_READ_S:
            raise ConfigError(f"{seconds} s cannot be read at once", hint=f"up to {MAX_READ_S} s")
        if not self._closed and not (self._ring is None and self._audio.over):
            await self._open()
        return await self._collect(round(seconds * self._audio.rate))

    async def aclose(self) -> None:
        """Stop reading."""
        self._closed = True
        await self.release()

    async def release(self) -> None:
        """Let nothing more come; what is there can still be read."""
        if self._number is not None:
            number, self._number = self._number, None
            await self._audio.unlisten(self, number)

    async def _open(self) -> AudioRing:
        if self._ring is None:
            self._number, self._ring = await self._audio.listen(self, RING_S)
        return self._ring

    async def _collect(self, wanted: int) -> npt.NDArray[np.int16]:
        """Return the next `wanted` samples, less only at the end."""
        pieces: list[npt.NDArray[np.int16]] = []
        while wanted > 0:
            pcm = await self._read(min(wanted, int(PIECE_S * self._audio.rate)))
            if not pcm.size:
                break
            pieces.append(pcm)
            wanted -= pcm.size
        return np.concatenate(pieces) if pieces else np.zeros(0, np.int16)

    async def _read(self, count: int) -> npt.NDArray[np.int16]:
        audio = self._audio
        if self._closed or (self._ring is None and audio.over):
            return np.zeros(0, np.int16)
        ring = await self._open()
        while ring.available < count and not (audio.over or self._closed):
            await audio.wait_tick()
        pcm = ring.read(count)
        if ring.lost > self._lost:
            audio.tell_lost(ring.lost - self._lost)
            self._lost = ring.lost
        return pcm


class FileRecording:
    """A WAV file being written of what is heard; an async context manager.

    It ends with the `async with` block, and the file is whole then; if the call ends before, so
    does the recording.
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
        self._number: int | None = None
        self._sink: FileSink | None = None
        self._job: _FileJob | None = None
        self._turn = asyncio.Lock()

    @property
    def duration_s(self) -> float:
        """Seconds of sound in the file."""
        return self._sink.duration_s if self._sink else 0.0

    async def start(self) -> None:
        """Begin to record. Raises `AudioFileError` where the file cannot be written."""
        async with self._turn:
            if self._sink is not None:
                raise ConfigError("a recording is started once", hint="make another one")
            rate = self._audio.rate
            loop = asyncio.get_running_loop()
            self._number, ring = await self._audio.listen(self, FILE_RING_S)
            job = self._job = _FileJob()
            self._sink = FileSink(
                ring,
                self.path,
                rate,
                file_rate_hz=self._rate_hz,
                on_ready=job.ready,
                on_lost=lambda lost: _in_loop(loop, lambda: self._audio.tell_lost(lost)),
            )
            self._stack.files.add(self._sink, job.broke)
            try:
                await job.wait_ready()
            except BaseException:
                await self._end()
                raise

    async def stop(self) -> None:
        """Write the rest and close the file; raises what writing raised meanwhile."""
        async with self._turn:
            await self._end()
        if self._job is not None:
            self._job.check()

    async def release(self) -> None:
        """Make the file whole, for the call is over; what went wrong is told by `stop`."""
        try:
            await self.stop()
        except Exception as error:
            self._audio.log.warning("the recording %s ended: %s", self.path, error)

    async def _end(self) -> None:
        if self._number is None or self._sink is None:
            return
        number, self._number = self._number, None
        await _to_the_end(self._finish(number, self._sink))

    async def _finish(self, number: int, sink: FileSink) -> None:
        try:
            await self._audio.unlisten(self, number)
            await self._stack.files.remove(sink)
        finally:
            sink.close()

    async def __aenter__(self) -> FileRecording:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()


class _FileJob:
    """What the thread that serves files tells the event loop about one of them."""

    def __init__(self) -> None:
        self.over = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._ready = asyncio.Event()
        self._error: Exception | None = None

    def ready(self) -> None:
        """The file is open. Called in the other thread."""
        _in_loop(self._loop, self._ready.set)

    def broke(self, error: Exception) -> None:
        """The file cannot be read or written (any more). Called in the other thread."""
        _in_loop(self._loop, lambda: self._fail(error))

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
        self.over.set()
        self._ready.set()


async def _to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """Await `work`, also when cancelled meanwhile: letting go must not stop half-way."""
    doing = asyncio.ensure_future(work)
    try:
        await asyncio.shield(doing)
    except asyncio.CancelledError:
        if not doing.done():
            await asyncio.wait({doing})
        raise


def _in_loop(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
    with suppress(RuntimeError):  # the loop has been closed: nobody waits any more
        loop.call_soon_threadsafe(callback)


def _checked(pcm: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
    """Return `pcm` if it is what can be sent: int16, one axis."""
    if pcm.dtype != np.int16 or pcm.ndim != 1:
        raise ConfigError(
            f"{pcm.dtype} of shape {pcm.shape} cannot be sent", hint="give mono int16 (samples,)"
        )
    return pcm


def _nobody(lost_ms: float) -> None:
    """Hear of sound that was lost after the end."""
