"""Recordings of a call or a conference: begun, paused, resumed, ended, and what is told of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, Protocol

from voip.errors import CallStateError, ConfigError, MediaError
from voip.media.record.formats import Sides
from voip.media.record.plan import MAX_PRE_ROLL_S, Beep, RecordPlan
from voip.media.record.sink import RecordingSink
from voip.media.rings import AudioRing
from voip.session.audio import CallAudio
from voip.session.file_job import FileJob, in_loop, to_the_end
from voip.session.stack import Stack

__all__ = ["FileRecording", "PairCarrier", "PreRoll"]

FILE_RING_S = 2.0
"""How long a disk may take for nothing to be lost."""


class PairCarrier(Protocol):
    """What the engine does for the recordings of a call: both sides, in step."""

    async def add_pair_sink(self, ring: int) -> None:
        """Write what is heard and what is sent to a ring, in pairs."""

    async def remove_sink(self, ring: int) -> None:
        """Stop that."""

    async def beep(self, owner: object, beep: Beep | None) -> None:
        """Let the sides hear a beep every so often, or no more of this owner's."""


class PreRoll:
    """The last seconds of a call, both sides, kept for a recording that begins later."""

    def __init__(self, stack: Stack, audio: CallAudio, pairs: PairCarrier) -> None:
        self._stack = stack
        self._audio = audio
        self._pairs = pairs
        self._seconds = 0.0
        self._number: int | None = None

    @property
    def seconds(self) -> float:
        """How much is kept."""
        return self._seconds

    async def keep(self, seconds: float) -> None:
        """Keep so much from now on; 0: nothing."""
        if not 0 <= seconds <= MAX_PRE_ROLL_S:
            raise ConfigError(f"{seconds} s are not kept", hint=f"0 to {MAX_PRE_ROLL_S:g} s")
        await self.release()
        self._seconds = seconds
        if seconds:
            # an eighth of a ring may be overwritten at any moment
            self._number = await pair_ring(
                self._stack, self._audio, self._pairs, (seconds + FILE_RING_S) * 8 / 7
            )
            self._audio.look_after(self)

    def take(self) -> int | None:
        """Give the ring with what is kept to a recording, which goes on reading it."""
        number, self._number = self._number, None
        return number

    async def renew(self) -> None:
        """Keep as much again, after a recording has taken what there was."""
        with suppress(CallStateError, MediaError):  # the call ends
            await self.keep(self._seconds)

    async def release(self) -> None:
        """Keep nothing any more."""
        self._audio.forget(self)
        if self._number is not None:
            number, self._number = self._number, None
            await drop_ring(self._stack, self._pairs, number)


async def pair_ring(stack: Stack, audio: CallAudio, pairs: PairCarrier, seconds: float) -> int:
    """Let the engine write both sides to a new ring; return its number."""
    audio.check_open()
    rate = audio.fix_rate()
    # whole sixteens: an eighth of the ring may be skipped, and pairs stay together
    number = stack.arena.allocate(-(-int(2 * seconds * rate) // 16) * 16, rate)
    try:
        await pairs.add_pair_sink(number)
    except BaseException:
        stack.arena.release(number)
        raise
    return number


async def drop_ring(stack: Stack, pairs: PairCarrier, number: int) -> None:
    """Let nothing more be written to a ring, and give it back; it can still be read."""
    try:
        with suppress(CallStateError, MediaError):  # the call is over: nothing is written
            await pairs.remove_sink(number)
    finally:
        stack.arena.release(number)


class FileRecording:
    """Files being written of a call's sound; an async context manager.

    It ends with the `async with` block, and the files are whole then; if the call ends before, so
    does the recording. What goes wrong later (a full disk) ends the recording and not the call: it
    is told by the event `RecordingFailed`, and is `error` from then on.

    `pairs` None: there is only what is heard, as in a conference. `about`: what the sidecar says of
    the call, asked for at the start and at the end.
    """

    _written: ClassVar[set[Path]] = set()
    """What this process records to now."""

    def __init__(
        self,
        stack: Stack,
        audio: CallAudio,
        plan: RecordPlan,
        pairs: PairCarrier | None = None,
        *,
        pre_roll: PreRoll | None = None,
        about: Callable[[], Mapping[str, object]] = dict,
        failed: Callable[[Path, Exception], None] | None = None,
    ) -> None:
        if pairs is None and (plan.sides is not Sides.HEARD or plan.beep or plan.pre_roll_s):
            raise ConfigError(
                "of a conference only what all say is recorded, without a beep or a pre-roll",
                hint="record its calls for each party",
            )
        self.path = plan.path
        self.plan = plan
        self._stack = stack
        self._audio = audio
        self._pairs = pairs
        self._pre_roll = pre_roll
        self._about = about
        self._failed = failed
        self._number: int | None = None
        self._sink: RecordingSink | None = None
        self._job: FileJob | None = None
        self._turn = asyncio.Lock()
        self._claimed: Path | None = None

    @property
    def duration_s(self) -> float:
        """Seconds of sound in the files, without pauses."""
        return self._sink.duration_s if self._sink else 0.0

    @property
    def files(self) -> list[Path]:
        """The files so far, in order."""
        if self._sink is None:
            return []
        return [self.path.with_name(str(entry["name"])) for entry in self._sink.journal.files]

    @property
    def error(self) -> Exception | None:
        """What ended it before its time; None: nothing did."""
        return self._job.error if self._job is not None else None

    async def start(self) -> None:
        """Begin to record. Raises `AudioFileError` where a file cannot be written."""
        async with self._turn:
            if self._sink is not None:
                raise ConfigError("a recording is started once", hint="make another one")
            self._claim()
            try:
                ring, held = await self._listen()
            except BaseException:
                self._let_go()
                raise
            loop, audio = asyncio.get_running_loop(), self._audio
            job = self._job = FileJob(self._broke)
            self._sink = RecordingSink(
                ring,
                self.plan,
                pairs=self._pairs is not None,
                wall=self._stack.wall,
                about=self._about(),
                pre_roll=held,
                on_ready=job.ready,
                on_lost=lambda lost: in_loop(loop, lambda: audio.tell_lost(lost)),
            )
            self._stack.files.add(self._sink, job.broke)
            try:
                await job.wait_ready()
                if self._pairs is not None and self._hears_beep is not None:
                    await self._pairs.beep(self, self._hears_beep)
                if self._pre_roll is not None and self.plan.pre_roll_s:
                    await self._pre_roll.renew()
            except BaseException:
                await self._end()
                raise

    def _claim(self) -> None:
        """Take the path; two that wrote to it would spoil each other's file."""
        if self._claimed is not None:
            raise ConfigError("a recording is started once", hint="make another one")
        path = self.path.absolute()
        if path in self._written:
            raise ConfigError(f"{path} is being recorded to already", hint="another path")
        self._written.add(path)
        self._claimed = path

    def _let_go(self) -> None:
        if self._claimed is not None:
            self._written.discard(self._claimed)

    @property
    def _hears_beep(self) -> Beep | None:
        beep = self.plan.beep
        return beep if beep is not None and beep.to != "file" else None

    async def _listen(self) -> tuple[AudioRing, int]:
        """Return the ring that is recorded, and how many frames of it are from before."""
        if self._pairs is None:
            self._number, ring = await self._audio.listen(self, FILE_RING_S)
            return ring, 0
        kept = None
        if self.plan.pre_roll_s:
            kept = self._pre_roll.take() if self._pre_roll is not None else None
            if kept is None:
                raise ConfigError("no sound has been kept", hint="await call.keep_sound(10) before")
        if kept is None:
            kept = await pair_ring(self._stack, self._audio, self._pairs, FILE_RING_S)
        self._number = kept
        self._audio.look_after(self)
        ring = self._stack.arena.ring(kept)
        held = 0
        if self.plan.pre_roll_s:
            held = ring.keep_last(2 * int(self.plan.pre_roll_s * ring.rate_hz)) // 2
        return ring, held

    def pause(self) -> None:
        """Leave out what is said from now on; nothing happens where it is paused already."""
        self._running().pause()

    def resume(self) -> None:
        """Go on after a pause. What was said meanwhile is in no file; the sidecar says how long."""
        self._running().resume()

    def _running(self) -> RecordingSink:
        if self._sink is None or self._number is None:
            raise CallStateError("nothing is recorded", hint="between start and stop")
        return self._sink

    async def stop(self) -> None:
        """Write the rest and make the files whole; a recording that failed has told so before."""
        async with self._turn:
            await self._end()

    async def release(self) -> None:
        """Make the files whole, for the call is over."""
        await self.stop()

    async def _end(self) -> None:
        if self._number is None or self._sink is None or self._job is None:
            return
        number, self._number = self._number, None
        try:
            await to_the_end(self._finish(number, self._sink, self._job))
        finally:
            self._let_go()

    async def _finish(self, number: int, sink: RecordingSink, job: FileJob) -> None:
        try:
            if self._pairs is None:
                await self._audio.unlisten(self, number)
            else:
                self._audio.forget(self)
                if self._hears_beep is not None:
                    with suppress(CallStateError, MediaError):  # the call is over
                        await self._pairs.beep(self, None)
                await drop_ring(self._stack, self._pairs, number)
        finally:
            about = self._about()

            def finish() -> None:
                sink.know(about)
                sink.close()

            try:
                await self._stack.files.remove(sink, finish)
            except Exception as error:
                job.broke(error)
            finally:
                job.end()

    def _broke(self, error: Exception) -> None:
        if self._failed is not None and not self._audio.over:
            self._failed(self.path, error)
        else:  # nothing is told of a call that is over
            self._audio.log.warning("the recording %s ended: %s", self.path, error)

    async def __aenter__(self) -> FileRecording:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()
