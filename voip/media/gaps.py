"""What is heard where a packet is missing, and how sound goes on after that."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from voip.dsp.conceal import FADE_S, REJOIN_S, blend, bridge, conceal
from voip.media.columns import Bools, Floats, Ints, Rows, distinct, every, some
from voip.media.lane import Lane
from voip.media.pacing import Pacer
from voip.media.past import HISTORY
from voip.media.voiced import Voiced

if TYPE_CHECKING:
    from voip.media.playout import Playout

__all__ = ["FADED", "SEAM", "Gaps", "faded_after"]

SEAM = round(REJOIN_S * 8000)
"""Samples over which concealment leads back into sound."""
FADED = round(FADE_S * 8000)
"""Samples after which concealment is silence: 60 ms at 8 kHz."""


def faded_after(rate: int) -> int:
    """Return after how many samples at a rate concealment is silence."""
    return FADED * rate // 8000


class Gaps:
    """Conceals in the rows of a `Playout`, in whose columns it works."""

    def __init__(self, playout: Playout, voiced: Voiced, pacer: Pacer, lane: Lane) -> None:
        self._playout = playout
        self._lane = lane
        self._voiced = voiced
        self._pacer = pacer

    def rejoin(self, rows: Rows, pcm: npt.NDArray[np.float32]) -> None:
        """Lead, in place, from what was concealed of `rows` (k,) into `pcm`, (k, samples)."""
        playout = self._playout
        silent = playout.silent[rows]
        if not np.count_nonzero(silent):
            return
        playout.silent[rows] = 0
        audible = (silent > 0) & (silent < FADED)
        if some(audible):
            joined = pcm[audible]
            blend(playout.seam[rows[audible]], joined)
            pcm[audible] = joined

    def fill(self, rows: Rows, missing: Ints, gap: Ints, due: Floats, coded: bool) -> Bools:
        """Conceal `missing` samples (k,) of `rows`; the next packet begins after `gap`.

        Returns for which rows (k,) playout waits meanwhile, which lengthens the delay.
        """
        playout = self._playout
        rate = playout.rate_of(rows)
        faded = faded_after(rate)
        silent = playout.silent[rows]
        fading = silent < faded
        playout.concealed[rows] += np.minimum(np.maximum(faded - silent, 0), missing)
        playout.silent[rows] = silent + missing
        waits = self._pacer.wait(rows, missing, due) & ~playout.comfort.on[rows]
        if coded:
            missing, recovered, repeated = self._conceal_voices(rows, silent, missing, gap, fading)
            playout.recovered[repeated] += 1
            if some(recovered):  # all of it, by what comes next: there is nothing to wait for
                waits &= ~recovered
                here = rows[recovered]
                playout.decoded[here] += playout.waited[here]
                playout.waited[here] = 0
        else:
            self._conceal(rows, silent, missing, fading)
        playout.waited[rows] += np.where(waits, missing, 0)
        playout.decoded[rows] += np.where(waits, 0, missing)
        return waits

    def _conceal_voices(
        self, rows: Rows, silent: Ints, missing: Ints, gap: Ints, fading: Bools
    ) -> tuple[Ints, Bools, Rows]:
        """As `_conceal`, for rows with voices, or `Voiced.conceal`, which it returns."""
        playout = self._playout
        told = ~fading & playout.comfort.known[rows]
        if not some(told):
            return self._voiced.conceal(rows, silent, missing, gap, playout.decoded[rows])
        filled, recovered = missing.copy(), np.zeros(rows.size, np.bool_)
        playout.comfort.append(rows[told], missing[told])
        lost = ~told
        repeated = rows[:0]
        if some(lost):
            filled[lost], recovered[lost], repeated = self._voiced.conceal(
                rows[lost], silent[lost], missing[lost], gap[lost], playout.decoded[rows[lost]]
            )
        return filled, recovered, repeated

    def _conceal(self, rows: Rows, silent: Ints, missing: Ints, fading: Bools) -> None:
        """Append `missing` samples (k,) of a gap, of which there were `silent` (k,) before."""
        playout = self._playout
        width = int(missing.max()) + SEAM
        if every(fading):
            sound = conceal(playout.past.last(rows), silent, width)
        else:
            sound = np.zeros((rows.size, width), np.float32)
            sound[fading] = conceal(playout.past.last(rows[fading]), silent[fading], width)
            # who has told of a noise before sends nothing for that: its packet was lost
            if some(paused := ~fading & playout.comfort.known[rows]):
                sound[paused] = playout.comfort.make(rows[paused], width)
                playout.comfort.heard[rows[paused]] += missing[paused]
        after = playout.decoded[rows] + playout.waited[rows] + missing
        for size in distinct(missing):
            here = missing == size
            part = sound[here, : size + SEAM]
            if some(fading[here]):
                self._bridge(rows[here], after[here], fading[here], part)
            playout.pcm.append(rows[here], part[:, :size])
            playout.seam[rows[here]] = part[:, size:]

    def conceal(self, rows: Rows, count: int) -> npt.NDArray[np.float32]:
        """Return the sound of the step of `rows` (k,) that has just gone by in a gap.

        float32 (k, count). All else of it has been noted (`native.py`).
        """
        playout = self._playout
        before = playout.silent[rows] - count
        sound = conceal(playout.past.sound[rows], before, count + SEAM)
        if some(fading := before < FADED):
            self._bridge(rows, playout.decoded[rows] + playout.waited[rows], fading, sound)
        playout.seam[rows] = sound[:, count:]
        return sound[:, :count]

    def _bridge(
        self, rows: Rows, after: Ints, audible: Bools, sound: npt.NDArray[np.float32]
    ) -> None:
        """Lead, in place, to the packets of `rows` (k,) that begin at timestamps `after` (k,).

        `sound`: float32 (k, samples), to the end of the gap and `SEAM` beyond it. `audible` (k,):
        where something is heard before. Packets that are not there yet, or short, change nothing.
        """
        playout, ring = self._playout, self._playout.ring
        slots, _ = ring.find(rows, after, playout.sequence[rows] + 1)
        there = audible & (slots >= 0) & (ring.length[slots] >= HISTORY)
        at = np.flatnonzero(there & (ring.timestamp[slots] == after))
        for size in distinct(ring.length[slots[at]]) if at.size else ():
            of_size = at[ring.length[slots[at]] == size]
            here = slots[of_size]
            following = self._lane.decode(ring.code[here], ring.payloads(here, size))
            part = sound[of_size]
            bridge(part[:, :-SEAM], following)
            part[:, -SEAM:] = following[:, :SEAM]
            sound[of_size] = part
