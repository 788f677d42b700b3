"""Digits heard in the sound of many streams while it comes: `voip.dsp.dtmf` step by step.

Every 5 ms the last 25.6 ms of each stream are measured, those of one rate together; what cannot be
a digit by its two strongest frequencies is measured no further. A digit is told when it is over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from voip.dsp.dtmf import BLOCK_S, HOP_S, KEYPAD, PURITY, SHORTEST_S, HeardTone, keys_of

__all__ = ["DtmfEar", "hear_step"]

Pcm = npt.NDArray[np.float32]

PAUSE_HOPS = 6
"""What is missing in fewer blocks is a drop-out, of 15 ms at most, and no pause between digits."""
_HOPS_PER_SECOND = round(1 / HOP_S)
_EDGE_S = (2 * PURITY - 1) * BLOCK_S  # a block counts as long as PURITY of it is tone
_SHORTEST_HOPS = 1 + round((SHORTEST_S - _EDGE_S) / HOP_S + 0.499)


@dataclass(slots=True, eq=False)
class DtmfEar:
    """Of one stream, at `rate_hz`: its last block, and the digit that it is in the middle of."""

    rate_hz: int
    past: Pcm
    hops: int = 0  # how many there were
    key: int = -1
    first: int = 0  # with which hop it began, and with which it was heard last
    last: int = 0

    @classmethod
    def at(cls, rate_hz: int) -> DtmfEar:
        """Return one that has heard nothing."""
        return cls(rate_hz, np.zeros(round(BLOCK_S * rate_hz), np.float32))

    def take(self, keys: npt.NDArray[np.int64]) -> list[HeardTone]:
        """Take the keys of the next hops (n,), -1 where there is none; return what is over."""
        over: list[HeardTone] = []
        if self.key < 0 and not np.count_nonzero(keys >= 0):
            self.hops += keys.size
            return over
        for key in keys.tolist():
            if key >= 0 and key == self.key:
                self.last = self.hops
            elif key >= 0 or (self.key >= 0 and self.hops - self.last >= PAUSE_HOPS):
                over += self._end()
                self.key, self.first, self.last = key, self.hops, self.hops
            self.hops += 1
        return over

    def _end(self) -> list[HeardTone]:
        hops = self.last - self.first
        if self.key < 0 or hops + 1 < _SHORTEST_HOPS:
            return []
        row, column = divmod(self.key, 4)
        start_s = self.first * HOP_S - PURITY * BLOCK_S
        return [HeardTone(KEYPAD[row][column], max(0.0, start_s), hops * HOP_S + _EDGE_S)]


def hear_step(ears: Sequence[DtmfEar], pcm: Pcm) -> list[tuple[int, HeardTone]]:
    """Let `ears`, all of one rate, hear the next step: float32 (k, samples), whole 10 ms.

    Returns the digits that are over: whose (its place among `ears`), and which.
    """
    if not ears:
        return []
    rate, samples = ears[0].rate_hz, pcm.shape[1]
    hops = max(1, samples * _HOPS_PER_SECOND // rate)
    block = ears[0].past.size
    sound = np.concatenate((np.stack([ear.past for ear in ears]), pcm), axis=1)
    ends = [samples * (hop + 1) // hops for hop in range(hops)]
    blocks = np.stack([sound[:, end : end + block] for end in ends], axis=1)
    keys = keys_of(blocks.reshape(-1, block), rate).reshape(len(ears), hops)
    found = []
    for place, ear in enumerate(ears):
        ear.past = sound[place, -block:].copy()
        found += [(place, digit) for digit in ear.take(keys[place])]
    return found
