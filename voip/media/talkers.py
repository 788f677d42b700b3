"""Who talks in a mix: by the levels of all rows, with onset, hangover and hysteresis.

A row *talks* after 50 ms above its threshold, and until 500 ms below it. The threshold is 9 dB
above what the row's own noise has been of late, within -50 and -31 dBFS. Of a mix that lets only
its loudest be heard, these are the ones with the highest levels; one that is heard already is left
only for another that is 3 dB louder, and both come and go along a line of one step, without a
click.
"""

from __future__ import annotations

from collections.abc import Mapping
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
_ALL = 1 << 62
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
    was_chosen: Bools

    COLUMNS: ClassVar[ColumnSpec] = {
        "level": (np.float64, 0.0, ()),  # mean square, quick up and slow down
        "lasting": (np.float64, 0.0, ()),  # of half a second
        "noise": (np.float64, _THRESHOLD_LOW / _ABOVE_NOISE, ()),
        "above": (np.int64, 0, ()),  # steps in a row that were louder than the threshold
        "below": (np.int64, HANGOVER_STEPS, ()),
        "talks": (np.bool_, False, ()),
        "chosen": (np.bool_, True, ()),  # it is heard
        "was_chosen": (np.bool_, True, ()),  # in the step before
    }

    def __init__(self, rows: int) -> None:
        make(self, rows)
        self.loudest: dict[int, int] = {}
        """How many are heard at a time, by mix; all in mixes that are not there."""
        self.told: dict[int, tuple[int, ...]] = {}
        """The mixes of which it is told who talks, and whom was told last, as rows."""
        self._first_told: dict[int, float] = {}  # how loud the loudest of a mix was then
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
                self.was_chosen.fill(True)
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
        self._first_told.pop(mix, None)

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

    def choose(self, rows: Rows, mixes: Ints, elsewhere: Mapping[int, Floats]) -> None:
        """Decide who is let be heard in this step; `fade` does it.

        `rows` (k,): all that there are of `mixes` (k,), at whatever rates. elsewhere: by mix, how
        loud those are who may be heard in other engines' parts of it.
        """
        was = self.chosen[rows]
        self.was_chosen[rows] = was
        if not self.loudest:
            return
        room = np.array([self.loudest.get(mix, _ALL) for mix in mixes.tolist()])
        score = self._scores(rows)
        order = np.lexsort((-score, mixes))
        place = np.arange(rows.size)
        begins = np.ones(rows.size, np.bool_)
        np.not_equal(mixes[order[1:]], mixes[order[:-1]], out=begins[1:])
        rank = np.empty(rows.size, np.int64)
        rank[order] = place - where(begins)[begins.cumsum() - 1]
        for mix, others in elsewhere.items():
            if mix in self.loudest:
                here = where(mixes == mix)
                louder = np.searchsorted(np.sort(others), score[here], side="right")
                rank[here] += others.size - louder
        self.chosen[rows] = rank < room

    def loudest_of(self, mix: int, rows: Rows) -> Floats:
        """Return how loud the loudest of a mix are, of its `rows`: as many as may be heard (n,)."""
        scores = np.sort(self._scores(rows))[::-1]
        return scores[: self.loudest.get(mix, 0)]

    def _scores(self, rows: Rows) -> Floats:
        level = self.level[rows]
        scores: Floats = np.where(self.was_chosen[rows], level * _STAYS, level)
        return scores

    def fade(self, rows: Rows, sound: Pcm) -> Bools:
        """Leave those of `rows` (k,) who are not let be heard out of `sound`, in place.

        sound: float32 (k, samples). Returns which are heard (k,).
        """
        now, was = self.chosen[rows], self.was_chosen[rows]
        changed = now != was
        if some(changed):
            line = np.arange(1, sound.shape[1] + 1, dtype=np.float32) / sound.shape[1]
            sound[changed & now] *= line
            sound[changed & was] *= 1.0 - line
        heard: Bools = now | was
        sound[~heard] = 0.0
        return heard

    def tell(
        self, mix: int, members: Rows, step: int, *, linked: bool = False
    ) -> tuple[int, ...] | None:
        """Return the rows of a mix that talk, the loudest first; None: nothing new to tell.

        linked: others who talk are elsewhere, and how loud these are is told, too (`how_loud`).
        """
        if step % _LOOK_STEPS or step < self._next.get(mix, 0):
            return None
        talking = members[self.talks[members]]
        lasting = self.lasting[talking]
        known = self.told[mix]
        if known:
            lasting[talking == known[0]] *= _STAYS
        found = tuple(talking[np.argsort(-lasting, kind="stable")].tolist())
        same = set(found) == set(known) and found[:1] == known[:1]
        if same and linked and found:
            before, now = self._first_told.get(mix, 0.0), float(self.lasting[found[0]])
            same = before / _STAYS < now < before * _STAYS
        if same:
            return None
        self.told[mix] = found
        self._next[mix] = step + TELL_STEPS
        if found:
            self._first_told[mix] = float(self.lasting[found[0]])
        return found

    def how_loud(self, rows: tuple[int, ...]) -> tuple[float, ...]:
        """Return the mean squares of half a second of rows."""
        return tuple(float(self.lasting[row]) for row in rows)
