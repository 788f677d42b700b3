"""A call's sound for applications: reading it, sending it, and who has a turn at that.

All of it goes through rings of one second. Whoever waits for sound or for room is woken by the
tick; a call without readers costs nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from voip.errors import CallStateError, ConfigError, MediaError
from voip.logs.lines import CallLog
from voip.media.rings import AudioRing
from voip.media.voices import STEPS_PER_SECOND
from voip.media.wav import MAX_RATE_HZ, MIN_RATE_HZ
from voip.session.stack import Stack

__all__ = ["AudioReader", "CallAudio", "Carrier", "Listener"]

RING_S = 1.0
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


class Listener(Protocol):
    """Who hears a call, and lets go of it when the call is over."""

    async def release(self) -> None:
        """Give its rings back."""


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
        self.turn = asyncio.Lock()
        """Who plays or sends has it: one at a time."""
        self.playing: dict[int, asyncio.Event] = {}
        """Rings that are played, and what is set when one has gone out."""
        self._tasks: set[asyncio.Task[None]] = set()
        self.hold_ring: int | None = None
        """The ring of music on hold."""
        self._send_ring: int | None = None
        self._listeners: dict[Listener, None] = {}  # in order: a simulation repeats
        self._voice: int | None = None  # the ring of a device that speaks
        self._waiting: dict[asyncio.Event, None] = {}

    @property
    def rate(self) -> int:
        """Samples a second of what is sent and read here.

        That of the codec which is agreed on when sound is first sent or read; it stays, whatever
        is agreed on later.
        """
        return self._media.rate_hz if self._rate is None else self._rate

    def allocate(self, seconds: float) -> int:
        """Make a ring, of what will be the rate from now on."""
        rate = self.fix_rate()
        return self._stack.arena.allocate(int(seconds * rate), rate)

    # ------------------------------------------------------------ sending

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Let something go on that nobody waits for."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def send_from(self, number: int | None) -> None:
        """Send what is in ring `number`; None: what is sent while nothing is played."""
        await self._media.set_source(self._background if number is None else number)

    def on_source_drained(self, ring: int) -> None:
        """The engine has sent the last sample of a closed ring."""
        if ring in self.playing:
            self.playing[ring].set()

    async def send(self, pcm: npt.NDArray[np.int16]) -> None:
        """Send `pcm`, int16 (samples,) at `rate`, after what was sent before; waits for room.

        Up to a second is kept. Raises `CallStateError` when the call is over.
        """
        left = _checked(pcm)
        async with self.turn:
            self.check_open()
            if self._voice is not None:
                raise CallStateError("a device speaks in this call", hint="end its link first")
            ring = await self._sent_from()
            while True:
                self.check_open()
                left = left[ring.push(left) :]
                if not left.size:
                    return
                await self.wait_tick()

    async def _sent_from(self) -> AudioRing:
        """Return the ring of `send`, which is made by the first one."""
        arena = self._stack.arena
        if self._send_ring is None:
            number = self.allocate(RING_S)
            try:
                await self._media.set_source(number)
                self.check_open()
            except BaseException:
                arena.release(number)
                raise
            self._send_ring = number
        return arena.ring(self._send_ring)

    async def speak(self, seconds: float, rate_hz: int | None = None) -> tuple[int, AudioRing]:
        """Send what is in a new ring while nothing is played, until `hush`: a device's voice.

        Or an agent's. rate_hz: of the ring; None: `rate`. Returns its number and itself. Raises
        `CallStateError` where another one speaks.
        """
        self.check_open()
        if self._voice is not None:
            raise CallStateError("another device speaks in this call", hint="one at a time")
        if rate_hz is None:
            number = self._voice = self.allocate(seconds)
        else:
            number = self._voice = self._stack.arena.allocate(int(seconds * rate_hz), rate_hz)
        ring = self._stack.arena.ring(number)
        try:
            if not self.playing:
                await self.send_from(None)
        except BaseException:
            await self.hush(number)
            raise
        return number, ring

    async def hush(self, number: int) -> None:
        """Send no more of what `speak` has begun, and give its ring back."""
        if self._voice == number:
            self._voice = None
            try:
                if not (self.playing or self.over):
                    with suppress(CallStateError, MediaError):
                        await self.send_from(None)
            finally:  # not before: it may have just been told to send from it
                self._stack.arena.release(number)

    @property
    def _background(self) -> int | None:
        """The ring of what is sent while nothing is played: music on hold goes first."""
        rings = (self.hold_ring, self._voice, self._send_ring)
        return next((ring for ring in rings if ring is not None), None)

    def check_open(self) -> None:
        """Raise `CallStateError` where nothing can be sent or heard (any more)."""
        if self.over:
            raise CallStateError("the call is over")
        self._media.check_carried()

    # ------------------------------------------------------------ the end

    def end(self) -> None:
        """The call is over: nobody waits for its sound any more."""
        self.over = True
        self._lost = _nobody  # and let go of the call
        for over in self.playing.values():
            over.set()
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

    def reader(self, frame_ms: float, rate_hz: int | None = None) -> AudioReader:
        """Return a reader of what is heard from now on, at `rate_hz`; None: at `rate`."""
        if not 0 < frame_ms <= MAX_FRAME_MS:
            raise ConfigError(
                f"frames of {frame_ms} ms cannot be read", hint=f"up to {MAX_FRAME_MS} ms"
            )
        if rate_hz is not None and (
            not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ or rate_hz % STEPS_PER_SECOND
        ):
            raise ConfigError(
                f"{rate_hz} samples a second cannot be read",
                hint=f"{MIN_RATE_HZ} to {MAX_RATE_HZ} Hz, in whole hundreds",
            )
        return AudioReader(self, frame_ms, rate_hz)

    async def listen(
        self, listener: Listener, seconds: float, rate_hz: int | None = None
    ) -> tuple[int, AudioRing]:
        """Let the engine write what is heard to a new ring; return its number and itself.

        `listener.release` is called when the call is over. rate_hz: of the ring; None: `rate`.
        """
        self.check_open()
        arena = self._stack.arena
        if rate_hz is None:
            number = self.allocate(seconds)
        else:
            number = arena.allocate(int(seconds * rate_hz), rate_hz)
        ring = arena.ring(number)
        try:
            await self._media.add_sink(number)
        except BaseException:
            arena.release(number)  # the engine drops a sink whose ring is gone
            raise
        self._listeners[listener] = None
        return number, ring

    def look_after(self, listener: Listener) -> None:
        """Release a listener with rings of its own when the call is over."""
        self._listeners[listener] = None

    def forget(self, listener: Listener) -> None:
        """Look after it no longer."""
        self._listeners.pop(listener, None)

    def fix_rate(self) -> int:
        """Return the rate, which stays from now on."""
        self._rate = self.rate
        return self._rate

    async def unlisten(self, listener: Listener, number: int) -> None:
        """Let nothing more be written to a ring, and give it back; it can still be read."""
        self._listeners.pop(listener, None)
        try:
            with suppress(CallStateError, MediaError):  # the call is over: nothing is written
                await self._media.remove_sink(number)
        finally:
            self._stack.arena.release(number)

    def tell_lost(self, samples: int, rate_hz: int | None = None) -> None:
        """Tell the application that a listener was too slow."""
        self._lost(1000 * samples / (rate_hz or self.rate))

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

    def __init__(self, audio: CallAudio, frame_ms: float, rate_hz: int | None = None) -> None:
        self._audio = audio
        self._frame_s = frame_ms / 1000
        self._rate_hz = rate_hz
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

    @property
    def rate(self) -> int:
        """Samples a second of what is read."""
        return self._audio.rate if self._rate_hz is None else self._rate_hz

    async def read(self, seconds: float) -> npt.NDArray[np.int16]:
        """Return the next `seconds` of sound, less only where the call ends: int16 (samples,)."""
        if not 0 <= seconds <= MAX_READ_S:
            raise ConfigError(f"{seconds} s cannot be read at once", hint=f"up to {MAX_READ_S} s")
        if not self._closed and not (self._ring is None and self._audio.over):
            await self._open()
        return await self._collect(round(seconds * self.rate))

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
            listen = self._audio.listen
            self._number, self._ring = await listen(self, RING_S, self._rate_hz)
        return self._ring

    async def _collect(self, wanted: int) -> npt.NDArray[np.int16]:
        """Return the next `wanted` samples, less only at the end."""
        pieces: list[npt.NDArray[np.int16]] = []
        while wanted > 0:
            pcm = await self._read(min(wanted, int(PIECE_S * self.rate)))
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
            audio.tell_lost(ring.lost - self._lost, self.rate)
            self._lost = ring.lost
        return pcm


def _checked(pcm: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
    """Return `pcm` if it is what can be sent: int16, one axis."""
    if not isinstance(pcm, np.ndarray):
        raise ConfigError(f"a {type(pcm).__name__} cannot be sent", hint="give int16 (samples,)")
    if pcm.dtype != np.int16 or pcm.ndim != 1:
        raise ConfigError(
            f"{pcm.dtype} of shape {pcm.shape} cannot be sent", hint="give mono int16 (samples,)"
        )
    return pcm


def _nobody(lost_ms: float) -> None:
    """Hear of sound that was lost after the end."""
