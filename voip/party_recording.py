"""A recording of a conference with a file for each party beside that of the mix.

All files begin together: one of a party that comes later has silence in front. What the engine
writes for a party is its part of the mix, in the same steps as the mix, so that how much later one
begins is known by counting; where a disk was too slow there is silence for what was lost.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from os import PathLike
from pathlib import Path

import numpy as np
import numpy.typing as npt

from voip.call import Call
from voip.errors import CallStateError, ConfigError, MediaError, VoipError
from voip.logs.lines import CallLog
from voip.media.files import FileSink
from voip.media.rings import AudioRing
from voip.session.audio import CallAudio
from voip.session.file_job import FileJob
from voip.session.mix import Mix
from voip.session.stack import Stack

__all__ = ["PartyRecording"]

_RING_S = 2.0
_LEAD_S = 60.0
"""How much silence is written at a time: other files wait meanwhile."""
_HEADER_BYTES = 64
_STRANGE = re.compile(r"[^A-Za-z0-9_.+-]+")


class _Track:
    """One file: `lead` samples of silence, then what comes out of `ring`.

    The thread that serves files calls `service`.
    """

    def __init__(self, ring: AudioRing, path: Path, rate_hz: int | None, lead: int) -> None:
        self.path = path
        self._ring, self._lead, self._lost = ring, lead, 0
        self._backlog: deque[npt.NDArray[np.int16]] = deque()
        size = int(2 * _RING_S * ring.rate_hz)
        self._room = AudioRing(memoryview(bytearray(_HEADER_BYTES + 2 * size)))
        self.job = FileJob()
        """When there is a file, and what kept it from being written."""
        self._sink = FileSink(
            self._room, path, ring.rate_hz, file_rate_hz=rate_hz, on_ready=self.job.ready
        )

    @property
    def duration_s(self) -> float:
        """Seconds in the file."""
        return self._sink.duration_s

    def service(self, now: float) -> None:
        """Write what is there, and part of the silence before it."""
        pcm = self._ring.read(self._ring.capacity)
        lost, self._lost = self._ring.lost - self._lost, self._ring.lost
        if lost:
            self._backlog.append(np.zeros(lost, np.int16))
        if pcm.size:
            self._backlog.append(pcm)
        wait = int(_LEAD_S * self._ring.rate_hz)
        while self._lead and wait > 0:
            silence = np.zeros(min(self._lead, self._room.capacity), np.int16)
            self._lead -= silence.size
            wait -= silence.size
            self._write(silence, now)
        while self._backlog and not self._lead:
            self._write(self._backlog.popleft(), now)
        self._sink.service(now)

    def _write(self, pcm: npt.NDArray[np.int16], now: float) -> None:
        while pcm.size:
            pcm = pcm[self._room.push(pcm) :]
            self._sink.service(now)

    def close(self) -> None:
        """Write all that is left, and close the file."""
        try:
            while self._lead and self.job.error is None:
                self.service(0.0)
        finally:
            self._sink.close()


class PartyRecording:
    """WAV files being written of a conference's mix and of each party; an async context manager.

    `path` is the mix's; those of parties have a number and the party's name before the suffix. It
    ends with the `async with` block or the last party; a party's file ends when that leaves.
    """

    def __init__(
        self,
        stack: Stack,
        mix: Mix,
        audio: CallAudio,
        path: str | PathLike[str],
        rate_hz: int | None,
        parties: Callable[[], list[Call]],
        log: CallLog,
    ) -> None:
        self.path = Path(path)
        self.paths: dict[Call, list[Path]] = {}
        """The files of each party, which has several if it has left and come back."""
        self._stack, self._mix, self._audio, self._log = stack, mix, audio, log
        self._rate_hz, self._parties = rate_hz, parties
        self._count = 0
        self._rate = 0
        self._base: AudioRing | None = None
        self._mixed: _Track | None = None
        self._tracks: dict[Call | None, tuple[int, _Track]] = {}  # ring; None: of the mix
        self._failure: Exception | None = None
        self._turn = asyncio.Lock()
        self.is_over = False

    @property
    def duration_s(self) -> float:
        """Seconds of sound in the mix's file."""
        return self._mixed.duration_s if self._mixed else 0.0

    async def start(self) -> None:
        """Begin to record. Raises `AudioFileError` where a file cannot be written."""
        async with self._turn:
            if self._base is not None:
                raise ConfigError("a recording is started once", hint="make another one")
            try:
                await self._begin(None)
                beginning = (self._begin(call) for call in self._parties())
                for outcome in await asyncio.gather(*beginning, return_exceptions=True):
                    if isinstance(outcome, BaseException):
                        raise outcome
            except BaseException:
                await self._end()
                raise

    async def joined(self, call: Call) -> None:
        """Record a party that comes; what keeps it from that is logged."""
        try:
            async with self._turn:
                if self._base is not None and not self.is_over and call not in self._tracks:
                    await self._begin(call)
        except VoipError as error:
            self._log.warning("%s is not recorded: %s", call.remote, error)

    async def left(self, call: Call) -> None:
        """End the file of a party that has gone."""
        async with self._turn:
            await self._finish(call)

    async def stop(self) -> None:
        """Write the rest and close all files; raises what writing raised meanwhile."""
        async with self._turn:
            await self._end()
        if self._failure is not None:
            raise self._failure

    async def release(self) -> None:
        """Make the files whole, for the last party has gone; what went wrong is told by `stop`."""
        async with self._turn:
            await self._end()

    async def _begin(self, call: Call | None) -> None:
        if self._base is None:
            self._rate = self._audio.rate  # it stays, whoever comes
        rate = self._rate
        path = self.path if call is None else self._path_of(call)
        number = self._stack.arena.allocate(int(_RING_S * rate), rate)
        ring, lead = self._stack.arena.ring(number), 0
        try:
            if call is None:
                await self._mix.add_sink(number)
                self._base = ring
            else:
                await self._mix.add_part(number, call._session.media.stream)
                lead = await self._later(ring)
            track = _Track(ring, path, self._rate_hz, lead)
        except BaseException:
            self._stack.arena.release(number)  # the engine lets go of it
            raise
        self._tracks[call] = number, track
        if call is None:
            self._mixed = track
        self._stack.files.add(track, track.job.broke)
        await track.job.wait_ready()

    async def _later(self, ring: AudioRing) -> int:
        """Return by how many samples a ring was begun later than the mix's.

        Both are written in each step, one after the other: two looks must agree.
        """
        base, seen = self._base, None
        if base is None:
            return 0
        while not self._audio.over:
            now = base.written - ring.written
            if now == seen:
                return now
            seen = now
            await self._audio.wait_tick()
        raise CallStateError("the conference is over")

    def _path_of(self, call: Call) -> Path:
        self._count += 1
        user = call.remote.partition("@")[0].partition(":")[2]
        name = _STRANGE.sub("_", user)[:40] or "anonymous"
        path = self.path.with_name(f"{self.path.stem}-{self._count}-{name}{self.path.suffix}")
        self.paths.setdefault(call, []).append(path)
        return path

    async def _finish(self, call: Call | None) -> None:
        found = self._tracks.pop(call, None)
        if found is None:
            return
        number, track = found
        with suppress(CallStateError, MediaError):  # the mix is over: nothing is written
            await self._mix.remove_sink(number)
        self._stack.arena.release(number)
        await self._stack.files.remove(track, track.close)
        try:
            track.job.check()
        except Exception as error:
            self._failure = error
            self._log.warning("the recording %s ended: %s", track.path, error)

    async def _end(self) -> None:
        self.is_over = True
        for call in list(self._tracks):
            await self._finish(call)

    async def __aenter__(self) -> PartyRecording:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()
