"""Who talks in a mix: by the levels of all rows, with onset, hangover and hysteresis.

A row *talks* after 50 ms above its threshold, and until 500 ms below it. The threshold is 9 dB
above what the row's own noise has been of late, within -50 and -31 dBFS. Of a mix that lets only
its loudest be heard, these are the ones with the highest levels; one that is heard already is left
only for another that is 3 dB louder, and both come and go along a line of one step, without a
click.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from voip.media.columns import Bools, ColumnSpec, Floats, Ints, Rows, grow, make, reset, some, where

__all__ = ["HANGOVER_STEPS", "ONSET_STEPS", "TELL_STEPS", "Talkers"]

Pcm = npt.NDArray[np.float32]

ONSET_STEPS, HANGOVER_STEPS = 5, 50
TELL_STEPS = 25
"""Who talks is told at most so often: every 250 ms."""
_LOOK_STEPS = 5
_THRESHOLD_LOW, _THRESHOLD_HIGH = 10 ** (-50 / 10), 10 ** (-31 / 10)  # mean squares
_ABOVE_NOISE = 10 ** (9 / 10)
_NOISE_RISES = 10 ** (0.03 / 10)  # a step: 3 dB a second
_ATTACK, _DECAY = 0.5, 0.04  # of a level, a step: 20 ms and 250 ms
_LASTING = 0.02  # of a level that one is the loudest by: 500 ms
_STAYS = 2.0  # 3 dB
_SILENCE = 1e-9  # -90 dBFS: below there is no speech, however it compares


class Talkers:
    """How loud the rows of mixes are, which of them are let be heard, and which talk."""

    level: Floats
    lasting: Floats
    noise: Floats
    above: Ints
    below: Ints
    talks: Bools
    chosen: Bools

    COLUMNS: ClassVar[ColumnSpec] = {
        "level": (np.float64, 0.0, ()),  # mean square, quick up and slow down
        "lasting": (np.float64, 0.0, ()),  # of half a second
        "noise": (np.float64, _THRESHOLD_LOW / _ABOVE_NOISE, ()),
        "above": (np.int64, 0, ()),  # steps in a row that were louder than the threshold
        "below": (np.int64, HANGOVER_STEPS, ()),
        "talks": (np.bool_, False, ()),
        "chosen": (np.bool_, True, ()),  # it is heard
    }

    def __init__(self, rows: int) -> None:
        make(self, rows)
        self.loudest: dict[int, int] = {}
        """How many are heard at a time, by mix; all in mixes that are not there."""
        self.told: dict[int, tuple[int, ...]] = {}
        """The mixes of which it is told who talks, and whom was told last, as rows."""
        self._next: dict[int, int] = {}  # the step from which a mix may be told of again

    def grow(self, rows: int) -> None:
        """Make room for `rows` rows in all."""
        grow(self, rows)

    def reset(self, row: int) -> None:
        """Forget how loud a row was."""
        reset(self, row)

    @property
    def is_idle(self) -> bool:
        """Whether no mix asks for any of it."""
        return not (self.loudest or self.told)

    def shape(self, mix: int, loudest: int | None, *, speakers: bool) -> None:
        """Let only the `loudest` of a mix be heard (None: all), and tell who talks, or do not."""
        if loudest is None:
            self.loudest.pop(mix, None)
            if not self.loudest:
                self.chosen.fill(True)
        else:
            self.loudest[mix] = loudest
        if speakers:
            self.told.setdefault(mix, ())
        else:
            self.told.pop(mix, None)

    def forget(self, mix: int) -> None:
        """Take it that a mix is over."""
        self.shape(mix, None, speakers=False)
        self._next.pop(mix, None)

    def measure(self, rows: Rows, power: npt.NDArray[np.float32]) -> None:
        """Take the mean squares (k,) of what `rows` (k,) say in this step."""
        now = power.astype(np.float64)
        level = self.level[rows]
        level += np.where(now > level, _ATTACK, _DECAY) * (now - level)
        self.level[rows] = level
        lasting = self.lasting[rows]
        lasting += _LASTING * (now - lasting)
        self.lasting[rows] = lasting
        noise = np.minimum(np.maximum(now, _SILENCE), self.noise[rows] * _NOISE_RISES)
        self.noise[rows] = noise
        loud = now > np.clip(noise * _ABOVE_NOISE, _THRESHOLD_LOW, _THRESHOLD_HIGH)
        above = np.where(loud, self.above[rows] + 1, 0)
        below = np.where(loud, 0, self.below[rows] + 1)
        self.above[rows], self.below[rows] = above, below
        self.talks[rows] = np.where(self.talks[rows], below < HANGOVER_STEPS, above >= ONSET_STEPS)

    def choose(self, rows: Rows, mixes: Ints, sound: Pcm) -> Bools | None:
        """Leave those who are not let be heard out of `sound`, float32 (k, samples), in place.

        `rows` (k,) are sorted by `mixes` (k,), and are all that there are. Returns which are heard
        (k,); None: all of them.
        """
        if not self.loudest:
            return None
        room = np.array([self.loudest.get(mix, rows.size) for mix in mixes.tolist()])
        was = self.chosen[rows]
        score = self.level[rows]
        score = np.where(was, score * _STAYS, score)
        order = np.lexsort((-score, mixes))
        begins = np.ones(rows.size, np.bool_)
        np.not_equal(mixes[1:], mixes[:-1], out=begins[1:])
        first = where(begins)[begins.cumsum() - 1]  # where a row's mix begins
        rank = np.empty(rows.size, np.int64)
        rank[order] = np.arange(rows.size)
        now = rank - first < room
        self.chosen[rows] = now
        changed = now != was
        if some(changed):
            line = np.arange(1, sound.shape[1] + 1, dtype=np.float32) / sound.shape[1]
            sound[changed & now] *= line
            sound[changed & was] *= 1.0 - line
        heard: Bools = now | was
        sound[~heard] = 0.0
        return heard

    def tell(self, mix: int, members: Rows, step: int) -> tuple[int, ...] | None:
        """Return the rows of a mix that talk, the loudest first; None: nothing new to tell."""
        if step % _LOOK_STEPS or step < self._next.get(mix, 0):
            return None
        talking = members[self.talks[members]]
        lasting = self.lasting[talking]
        known = self.told[mix]
        if known:
            lasting[talking == known[0]] *= _STAYS
        found = tuple(talking[np.argsort(-lasting, kind="stable")].tolist())
        if set(found) == set(known) and found[:1] == known[:1]:
            return None
        self.told[mix] = found
        self._next[mix] = step + TELL_STEPS
        return found
