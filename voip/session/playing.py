"""Playing in a call or a conference: begun, paused, moved, made louder, ended by whom."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import Enum
from typing import cast

from voip.errors import CallStateError, ConfigError, MediaError
from voip.media.files import FileServer, Octets
from voip.media.play.opening import MAX_ITEMS, Playable, check, is_url
from voip.media.play.source import PlaySource, Program
from voip.media.rings import AudioRing
from voip.session.audio import RING_S, CallAudio
from voip.session.file_job import FileJob, to_the_end
from voip.session.stack import Stack

__all__ = [
    "MAX_VOLUME_DB",
    "HoldMusic",
    "Played",
    "Player",
    "StoppedBy",
    "play",
    "program_of",
]

MAX_VOLUME_DB = 20.0
MAX_FADE_S = 60.0


class StoppedBy(Enum):
    """What ended playing."""

    END = "end"  # there was no more
    STOP = "stop"  # the application
    DTMF = "dtmf"  # a digit of the other side's
    VOICE = "voice"  # the other side spoke
    CALL = "call"  # the call ended


@dataclass(frozen=True, slots=True)
class Played:
    """How playing ended. `seconds`: how much was heard; `digit`: by which, where one ended it."""

    stopped_by: StoppedBy
    seconds: float
    digit: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Current:
    """What is played now."""

    number: int
    ring: AudioRing
    source: PlaySource
    server: FileServer
    own_server: bool


def program_of(
    source: Playable | Sequence[Playable],
    *,
    loop: bool | int = False,
    start_s: float = 0.0,
    fade_s: float = 0.0,
) -> Program:
    """Check what is to be played; raises `ConfigError` for what cannot be."""
    several = isinstance(source, list | tuple)
    items = cast(Sequence[Playable], source if several else [source])
    if not 1 <= len(items) <= MAX_ITEMS:
        raise ConfigError(f"{len(items)} things cannot be played", hint=f"1 to {MAX_ITEMS}")
    if loop is not True and not 0 <= loop <= 1_000_000:
        raise ConfigError(f"loop={loop}", hint="True, or how many times")
    if not 0 <= start_s < 1e6:
        raise ConfigError(f"start_s={start_s}", hint="0 or more")
    if not 0 <= fade_s <= MAX_FADE_S:
        raise ConfigError(f"fade_s={fade_s}", hint=f"0 to {MAX_FADE_S:g}")
    times = None if loop is True else max(1, int(loop))
    return Program([check(item) for item in items], times, 0, start_s, fade_s)


class Player:
    """Plays a program in a call; `async with` ends it at the end of the block.

    One thing is played at a time: `start` waits until what plays now is over. Volume, pause and
    stop take effect within a tick, by a ramp, so that nothing clicks. It ends with the call.
    """

    def __init__(
        self, stack: Stack, audio: CallAudio, program: Program, *, volume_db: float = 0.0
    ) -> None:
        self._stack = stack
        self._audio = audio
        self._program = program
        self._gain = _gain(volume_db)
        self._volume_db = volume_db
        self._paused = False
        self._current: _Current | None = None
        self._job: FileJob | None = None
        self._over = asyncio.Event()
        self._done = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._changing = asyncio.Lock()
        self._error: Exception | None = None
        self._seconds = 0.0
        self._stopped_by: StoppedBy | None = None
        self._last = (program.item, program.start_s)

    # ------------------------------------------------------------ what it is

    @property
    def position(self) -> tuple[int, float]:
        """What is heard now: the number of the item, from 0 on, and seconds in it."""
        return self._last if self._current is None else self._current.source.position()

    @property
    def duration_s(self) -> float | None:
        """How long the present item is in seconds, as far as it is known."""
        current = self._current
        return None if current is None else current.source.durations.get(self.position[0])

    @property
    def paused(self) -> bool:
        """Whether it is paused."""
        return self._paused

    @property
    def volume_db(self) -> float:
        """How much louder than it is; may be set at any time, up to +20."""
        return self._volume_db

    @volume_db.setter
    def volume_db(self, volume_db: float) -> None:
        self._gain, self._volume_db = _gain(volume_db), volume_db
        if self._current is not None and not self._paused:
            self._current.ring.gain = self._gain

    # ------------------------------------------------------------ what it does

    async def start(self) -> None:
        """Begin; returns when the first sound is on its way. Raises `AudioFileError`."""
        if self._task is not None or self._done.is_set():
            raise ConfigError("a player is started once", hint="make another one")
        await self._audio.turn.acquire()
        try:
            self._audio.check_open()
            await self._begin(self._program, self._gain)
        except BaseException:
            await to_the_end(self._finish())
            raise
        self._task = asyncio.get_running_loop().create_task(self._watch())

    async def _begin(self, program: Program, gain: float) -> None:
        audio, files = self._audio, self._stack.files
        number = audio.allocate(RING_S)
        ring = self._stack.arena.ring(number)
        ring.start_at(gain)
        job = self._job = FileJob(over=self._over)
        source = PlaySource(ring, program, files.open_url, on_ready=job.ready)
        apart = any(is_url(item) for item in program.items)
        server = files.apart() if apart else files
        self._current = _Current(number, ring, source, server, apart)
        audio.playing[number] = self._over
        server.add(source, job.broke)
        await job.wait_ready()
        with suppress(CallStateError):  # the call is over
            await audio.send_from(number)
        if audio.over:
            self._over.set()

    async def _watch(self) -> None:
        await self._over.wait()
        async with self._changing:
            await self._finish()

    async def _finish(self) -> None:
        try:
            await self._let_go(send_on=True)
        finally:
            if self._job is not None:
                self._error = self._job.error
            if self._stopped_by is None:
                self._stopped_by = StoppedBy.CALL if self._audio.over else StoppedBy.END
            self._audio.turn.release()
            self._done.set()

    async def _let_go(self, *, send_on: bool) -> None:
        """Let go of what is played now."""
        current, self._current = self._current, None
        if current is None:
            return
        self._last = current.source.position()
        self._seconds += current.ring.position / current.ring.rate_hz
        self._audio.playing.pop(current.number, None)
        try:
            if send_on:
                with suppress(CallStateError, MediaError):
                    await self._audio.send_from(None)
            if current.own_server:  # it may wait for a server that says nothing
                self._audio.spawn(_leave(current))
            else:
                await _leave(current)
        finally:
            self._stack.arena.release(current.number)

    async def wait(self) -> Played:
        """Return when it is over; raises what kept a file from being read."""
        await self._done.wait()
        if self._error is not None:
            raise self._error
        return Played(self._stopped_by or StoppedBy.END, self._seconds)

    async def pause(self) -> None:
        """Be silent, and go on from here with `resume`."""
        self._paused = True
        if self._current is not None:
            self._current.ring.gain = -1.0

    async def resume(self) -> None:
        """Go on after `pause`."""
        self._paused = False
        if self._current is not None:
            self._current.ring.gain = self._gain

    async def seek(self, seconds: float, item: int | None = None) -> None:
        """Go on from there; `item`: of another item of the list. `AudioFileError` if it cannot."""
        async with self._changing:
            if self._current is None or self._over.is_set():
                raise CallStateError("nothing is played any more")
            here = self.position[0] if item is None else item
            if not (0 <= here < len(self._program.items) and 0 <= seconds < 1e6):
                raise ConfigError(f"item {here}, second {seconds} is not there")
            await self._fall_silent(0.0)
            program = replace(self._program, item=here, start_s=seconds, fade_s=0.0)
            await self._let_go(send_on=False)
            try:
                await self._begin(program, 0.0)
            except BaseException:
                self._over.set()
                raise
            if self._current is not None:
                self._current.ring.gain = -1.0 if self._paused else self._gain

    async def stop(self, fade_s: float = 0.0, *, by: StoppedBy = StoppedBy.STOP) -> None:
        """End it, after `fade_s` of becoming softer; returns when it is over."""
        if not self._done.is_set() and self._task is not None:
            if not self._over.is_set():
                await self._fall_silent(min(fade_s, MAX_FADE_S))
                if self._stopped_by is None and not self._over.is_set():
                    self._stopped_by = by
            self._over.set()
            await asyncio.shield(self._task)

    async def _fall_silent(self, fade_s: float) -> None:
        """Become silent by steps of a tick each."""
        current = self._current
        if current is None:
            return
        start, begun = max(current.ring.gain, 0.0), current.ring.position
        samples = fade_s * current.ring.rate_hz
        while not self._over.is_set():
            done = (current.ring.position - begun) / samples if samples else 1.0
            if done >= 1.0 or self._paused:
                break
            current.ring.gain = start * (1.0 - done)
            await self._audio.wait_tick()
        if not self._paused:
            current.ring.gain = -1.0
            for _ in range(2):  # the second has seen it
                await self._audio.wait_tick()

    async def __aenter__(self) -> Player:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await to_the_end(self.stop())


async def play(
    stack: Stack, audio: CallAudio, program: Program, *, volume_db: float = 0.0
) -> Played:
    """Play to the end; cancelled, it stops. Raises `AudioFileError`."""
    async with Player(stack, audio, program, volume_db=volume_db) as player:
        return await player.wait()


async def _leave(current: _Current) -> None:
    await current.server.remove(current.source)
    current.source.close()
    if current.own_server:
        await current.server.close()


def _gain(volume_db: float) -> float:
    if not volume_db <= MAX_VOLUME_DB:
        raise ConfigError(f"{volume_db} dB cannot be had", hint=f"up to {MAX_VOLUME_DB:g} dB")
    return float(10.0 ** (volume_db / 20.0))


class HoldMusic:
    """What the other side hears while we hold it, as long as nothing else is played."""

    def __init__(self, stack: Stack, audio: CallAudio, program: Program) -> None:
        self._stack = stack
        self._audio = audio
        self._program = replace(program, times=None)
        self._number: int | None = None
        self._source: PlaySource | None = None

    async def begin(self) -> None:
        """Begin; raises `AudioFileError` where it cannot be read."""
        audio = self._audio
        audio.check_open()
        number = self._number = audio.allocate(RING_S)
        job = FileJob()
        self._source = PlaySource(
            self._stack.arena.ring(number), self._program, _no_url, on_ready=job.ready
        )
        audio.look_after(self)
        self._stack.files.add(self._source, job.broke)
        try:
            await job.wait_ready()
            audio.hold_ring = number
            if not audio.playing:
                await audio.send_from(None)
        except BaseException:
            await to_the_end(self.release())
            raise

    async def release(self) -> None:
        """End it; ending twice does nothing."""
        audio = self._audio
        audio.forget(self)
        number, self._number = self._number, None
        source, self._source = self._source, None
        if number is None or source is None:
            return
        if audio.hold_ring == number:
            audio.hold_ring = None
        try:
            if not audio.playing:
                with suppress(CallStateError, MediaError):  # the call is over
                    await audio.send_from(None)
            await self._stack.files.remove(source)
            source.close()
        finally:
            self._stack.arena.release(number)


def _no_url(url: str) -> Octets:
    raise ConfigError(f"music on hold is not played from {url}", hint="a file")
