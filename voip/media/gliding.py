"""Sound without pauses, of a clock that is not ours: heard a little slower or faster for a while.

A step's length of sound is put in or taken out, a sample a step (of 160): after some seconds whole
packets are heard again, as before, and meanwhile the pitch is off by a tenth of a semitone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from voip.dsp.glide import REACH, glide
from voip.media.columns import Bools, Floats, Ints, Rows, distinct, some

if TYPE_CHECKING:
    from voip.media.playout import Playout

__all__ = ["LENGTHEN_AFTER_S", "REACH", "SHORTEN_AFTER_S", "Gliding"]

LENGTHEN_AFTER_S, SHORTEN_AFTER_S = 6.0, 20.0
"""So long a pause is waited for: a delay that is too long makes no gaps."""
_DEPTH = 160
"""Of so many samples one is put in, or left out."""


class Gliding:
    """Glides rows of a `Playout`, in whose columns it works."""

    def __init__(self, playout: Playout) -> None:
        self._playout = playout

    def begin(self, rows: Rows, excess: Floats, count: int, rate: int) -> Bools:
        """Begin with those of `rows` (k,) that have been off their target for long; tell which.

        `excess` (k,): by how much they are above it. Each row comes with each step in which it is.
        """
        playout = self._playout
        played = playout.played[rows]
        new = played - playout.off_seen[rows] > count
        playout.off_since[rows[new]] = played[new]
        playout.off_seen[rows] = played
        after = np.where(excess < 0, LENGTHEN_AFTER_S, SHORTEN_AFTER_S)
        begins: Bools = played - playout.off_since[rows] >= after * rate
        begins &= playout.pcm.fill[rows] == 0  # whole packets are heard
        if some(begins):
            playout.glide[rows[begins]] = np.where(excess[begins] < 0, count, -count)
            playout.trail[rows[begins]] = np.inf
        return begins

    def play(self, rows: Rows, count: int, due: Floats, coded: bool) -> npt.NDArray[np.float32]:
        """Return the next `count` samples of `rows` (k,), all of which glide: (k, count)."""
        playout = self._playout
        heard = np.empty((rows.size, count), np.float32)
        most = max(count // _DEPTH, 1)
        more = np.clip(playout.glide[rows], -most, most)
        for one in distinct(more):
            here = np.flatnonzero(more == one)
            heard[here] = self._step(rows[here], count, count - one, due[here], coded)
        playout.glide[rows] -= more
        playout.expanded[rows] += np.maximum(more, 0)
        playout.accelerated[rows] += np.maximum(-more, 0)
        playout.off_seen[rows] = playout.played[rows]
        return heard

    def _step(
        self, rows: Rows, count: int, given: int, due: Floats, coded: bool
    ) -> npt.NDArray[np.float32]:
        """Return `count` samples of `rows` (k,) for the next `given` ones: float32 (k, count)."""
        playout = self._playout
        pcm = playout.pcm
        playout.decode_ahead(rows, given + REACH, coded)
        sound = np.empty((rows.size, REACH + given + REACH), np.float32)
        sound[:, REACH:-REACH] = playout.play_pieces(rows, given, due, coded=coded)
        trail = playout.trail[rows]
        sound[:, :REACH] = np.where(np.isinf(trail), sound[:, REACH, None], trail)
        playout.trail[rows] = sound[:, given : given + REACH]
        held: Ints = np.minimum(pcm.fill[rows], REACH)
        ahead = np.minimum(np.arange(REACH), np.maximum(held - 1, 0)[:, None])
        following = pcm.data[rows[:, None], ahead]
        last = sound[:, REACH + given - 1, None]
        sound[:, -REACH:] = np.where(held[:, None] > 0, following, last)
        return glide(sound, count)
