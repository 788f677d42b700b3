"""Takes sound out of a ring and makes a recording of it: outside the tick, every now and then."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict
from enum import Enum
from threading import Lock

import numpy as np
import numpy.typing as npt

from voip.dsp.resample import Resampler
from voip.dsp.tones import Tone, play
from voip.errors import AudioFileError
from voip.media.record.formats import Sides
from voip.media.record.plan import RecordPlan
from voip.media.record.sidecar import Journal
from voip.media.record.tracks import Tracks
from voip.media.rings import AudioRing

__all__ = ["RecordingSink"]

PIECE_S = 1.0
"""How much is read at a time."""
SIDECAR_S = 10.0
"""How often the sidecar is written while nothing happens that it tells of."""

Pcm = npt.NDArray[np.int16]


class _Mark(Enum):
    PAUSE = "pause"
    RESUME = "resume"


class RecordingSink:
    """Writes what comes out of `ring` (`pairs`: frames of two, heard and sent) as `plan` says.

    The files are made by the first `service`, which raises `AudioFileError` where they cannot be
    and else calls `on_ready`. What a full ring loses is silence of the same length, and told by
    `on_lost(samples)`. `wall`: the time of day, seconds since 1970; `about`: for the sidecar.
    `pause` and `resume` are called in another thread, all else in one.
    """

    def __init__(
        self,
        ring: AudioRing,
        plan: RecordPlan,
        *,
        pairs: bool,
        wall: Callable[[], float],
        about: Mapping[str, object] | None = None,
        pre_roll: int = 0,
        on_ready: Callable[[], None] | None = None,
        on_lost: Callable[[int], None] | None = None,
    ) -> None:
        self._ring = ring
        self._plan = plan
        self._width = 2 if pairs else 1
        self._on_ready = on_ready
        self._on_lost = on_lost
        self._wall = wall
        rate, self._rate_hz = ring.rate_hz, plan.file_rate(ring.rate_hz)
        self._channels = 1 if plan.sides in (Sides.HEARD, Sides.SENT, Sides.MONO) else 2
        self._resampler = Resampler(rate, self._rate_hz, self._channels)
        self._skip = self._resampler.delay
        self._in = self._out = 0  # frames taken at the ring's rate, given at the file's
        self._lost = ring.lost
        self._marks: deque[tuple[int, _Mark]] = deque()
        self._marking = Lock()
        self._is_paused = False
        self._paused = 0  # frames of the ring in the present pause
        beep = plan.beep
        self._beep = None
        if beep is not None and beep.to == "file":
            cadence = (beep.duration_s, beep.every_s - beep.duration_s)
            self._beep = Tone((beep.frequency_hz,), beep.level_dbm0, cadence)
        self._journal = Journal(
            dict(about or {}),
            plan.channels,
            plan.format.value,
            self._rate_hz,
            0.0,
            pre_roll * self._rate_hz // rate,
            None if beep is None else asdict(beep),
        )
        self._tracks = Tracks(plan, self._journal)
        self._begun = False
        self._told = 0

    @property
    def duration_s(self) -> float:
        """Seconds of sound taken so far, without pauses."""
        return self._journal.frames / self._rate_hz

    @property
    def journal(self) -> Journal:
        """What is known of it."""
        return self._journal

    def pause(self) -> None:
        """Leave out what comes from now on. May be called in any one thread."""
        self._mark(_Mark.PAUSE)

    def resume(self) -> None:
        """Go on, as `pause`."""
        self._mark(_Mark.RESUME)

    def _mark(self, mark: _Mark) -> None:
        with self._marking:  # or what is taken meanwhile would be past the mark
            self._marks.append((self._ring.written, mark))

    def know(self, about: Mapping[str, object]) -> None:
        """Say more for the sidecar; called before `close`, when nobody serves it any more."""
        self._journal.about = {**self._journal.about, **about}

    def service(self, now: float) -> None:
        """Write what is there."""
        try:
            self._begin()
            self._take_all()
            if self._journal.frames - self._told >= SIDECAR_S * self._rate_hz:
                self._tell()
        except AudioFileError as error:
            self._fail(error)
            raise

    def _begin(self) -> None:
        if self._begun:
            return
        self._begun = True
        held = self._ring.available // self._width / self._ring.rate_hz
        self._journal.started = self._wall() - held
        self._tracks.open()
        self._tell()
        if self._on_ready is not None:
            self._on_ready()

    def _take_all(self) -> None:
        ring = self._ring
        piece = self._width * int(PIECE_S * ring.rate_hz)
        with self._marking:
            end = ring.written  # what comes meanwhile is for the next time
        while ring.position < end:
            count = min(piece, end - ring.position)
            if self._marks:
                at, mark = self._marks[0]
                if ring.position >= at:
                    self._marks.popleft()
                    self._turn(mark)
                    continue
                count = min(count, at - ring.position)
            pcm, lost = self._read(count)
            if lost:
                self._lose(lost // self._width)
            if not pcm.size:
                break
            self._take(pcm.reshape(-1, self._width))

    def _read(self, count: int) -> tuple[Pcm, int]:
        """Return whole frames, and how many samples were lost before them.

        Frames begin at multiples of their width, wherever a ring that went round lets one go on.
        """
        ring, width = self._ring, self._width
        pcm = ring.read(count)
        before = (ring.position - pcm.size) % width
        lost, self._lost = ring.lost - self._lost, ring.lost
        if before:
            pcm, lost = pcm[width - before :], lost + width - before
        if pcm.size % width:
            pcm = np.concatenate((pcm, ring.read(width - pcm.size % width)))
        return pcm, lost

    def _lose(self, frames: int) -> None:
        if self._on_lost is not None:
            self._on_lost(frames)
        if not self._is_paused:
            self._journal.gap(frames * self._rate_hz // self._ring.rate_hz)
        piece = int(PIECE_S * self._ring.rate_hz)
        for start in range(0, frames, piece):
            self._take(np.zeros((min(piece, frames - start), self._width), np.int16))

    def _turn(self, mark: _Mark) -> None:
        if mark is _Mark.PAUSE and not self._is_paused:
            self._is_paused, self._paused = True, 0
        elif mark is _Mark.RESUME and self._is_paused:
            self._end_pause()
        self._tell()

    def _end_pause(self) -> None:
        self._is_paused = False
        self._journal.pause(self._paused * self._rate_hz // self._ring.rate_hz)

    def _take(self, frames: Pcm) -> None:
        """Take frames of the ring, int16 (samples, width)."""
        if self._is_paused:
            self._paused += frames.shape[0]
            return
        self._in += frames.shape[0]
        out = self._resampler.process(np.ascontiguousarray(self._choose(frames).T))
        skipped = min(self._skip, out.shape[1])
        self._skip -= skipped
        self._put(out[:, skipped:])

    def _choose(self, frames: Pcm) -> Pcm:
        """Return what is recorded of frames: int16 (samples, channels)."""
        if self._width == 1:
            return frames
        match self._plan.sides:
            case Sides.HEARD:
                return frames[:, :1]
            case Sides.SENT:
                return frames[:, 1:]
            case Sides.MONO:
                both: npt.NDArray[np.int32] = frames.astype(np.int32).sum(axis=1, keepdims=True)
                return np.clip(both, -32768, 32767).astype(np.int16)
            case _:
                return frames

    def _put(self, pcm: Pcm) -> None:
        """Write int16 (channels, samples) of the file's rate."""
        if not pcm.shape[1]:
            return
        if self._beep is not None:
            tone = play(self._beep, self._out, pcm.shape[1], self._rate_hz) * np.float32(32768.0)
            summed: npt.NDArray[np.float32] = pcm + np.rint(tone)
            pcm = np.clip(summed, -32768, 32767).astype(np.int16)
        self._out += pcm.shape[1]
        if self._tracks.write(np.ascontiguousarray(pcm.T)):
            self._tell()

    def close(self) -> None:
        """Write the rest and make everything whole."""
        if not self._begun or self._journal.ended or self._journal.failure is not None:
            return
        try:
            if self._is_paused:
                self._end_pause()
            wanted = -(-self._in * self._rate_hz // self._ring.rate_hz) - self._out
            tail = np.clip(np.rint(self._resampler.flush()), -32768, 32767).astype(np.int16)
            self._put(tail[:, self._skip : self._skip + max(0, wanted)])
            self._tracks.close()
            self._journal.ended = True
            self._tell()
        except AudioFileError as error:
            self._fail(error)
            raise

    def _fail(self, error: AudioFileError) -> None:
        self._journal.failure = error.message
        self._tracks.give_up()
        try:
            self._tell()
        except AudioFileError:
            return  # the same disk: the recording's own failure is told by the event

    def _tell(self) -> None:
        self._told = self._journal.frames
        if self._plan.sidecar:
            self._journal.write(self._plan.sidecar_path)
