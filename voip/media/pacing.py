"""Bringing playout nearer to the delay that is aimed at: faster or slower, and waiting.

Pauses are shortened and lengthened first, at once and by whole steps: what is heard of that is
nothing. Speech is (`voip.dsp.stretch`) where it cannot wait for a pause. Where a packet is missing,
playout waits for it: what is concealed meanwhile stands for the packet if it does not come, which
costs nothing, and lengthens the delay if it does. Row by row: few are off their target at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from voip.dsp.conceal import FADE_S as FADE_AFTER_S
from voip.dsp.stretch import FADE_S, jump, likeness
from voip.media.columns import Bools, Floats, Ints, Rows, some
from voip.media.gliding import Gliding
from voip.media.payloads import NOTHING_WAITS

if TYPE_CHECKING:
    from voip.media.playout import Playout

__all__ = [
    "AGAIN_S",
    "ANCHOR_S",
    "FAST_S",
    "FORCE_S",
    "GROW_S",
    "LASTS_FAR_S",
    "LASTS_S",
    "PAUSE_S",
    "QUIET",
    "SHORT_S",
    "SHRINK_S",
    "SLOW_S",
    "Pacer",
]

GROW_S = 0.005
SHRINK_S = 0.018
"""Playout is let alone while its delay is at most so far below its target, or above it."""
FORCE_S = 0.200
"""So far above, sound is left out at once, whatever it is."""
SLOW_S, FAST_S = 0.060, 0.060
"""So far below, or above, speech is stretched or shortened; else it waits for a pause."""
_ALIKE = 0.6
"""What resembles each other less is not led into each other."""
_SEARCH_S, _SEARCH_STEP_S = 0.030, 0.005
"""How much farther ahead, and how finely, is looked for a place to jump from."""
ANCHOR_S = 5.0
"""A delay that is fixed counts from the first packet; from then on, as against the quickest."""
SHORT_S = 0.030
"""So far below, a packet that is late is waited for."""
LASTS_S = 2.0
LASTS_FAR_S = 0.5
"""How long a delay must have been too long, or far too long, before it is shortened."""
AGAIN_S = 0.3
"""Packets that are late more often are waited for."""
_REST_S = 0.100
"""Between two jumps within speech."""
QUIET = 10 ** (-45 / 20)
PAUSE_S = 0.040
"""A pause is quiet for so long, or as far as what waits is there."""


class Pacer:
    """Corrects the delay of rows of a `Playout`, in whose columns it works."""

    def __init__(self, playout: Playout, gliding: Gliding) -> None:
        self._playout = playout
        self._gliding = gliding

    # ------------------------------------------------------------ waiting

    def wait(self, rows: Rows, missing: Ints, due: Floats) -> Bools:
        """Tell which of `rows` (k,) wait for a packet, for which nothing is left out (k,).

        `missing` (k,) samples are to be concealed meanwhile. To wait costs nothing before it is
        known what for; it must be possible to play that much later.
        """
        playout = self._playout
        longer = playout.delay(rows, due) + missing / playout.rates(rows)
        waits: Bools = longer <= playout.maximum[rows] + 1e-9
        return waits

    def settle(self, rows: Rows, count: int, due: Floats) -> None:
        """Tell for those of `rows` (k,) that waited what came of it, if that is known.

        A packet that came late by its own length or less is let go where the next one is there, if
        that is rare and the delay about what it should be: one gap is heard either way, and what
        is to be longer waits for a pause. Else it is played late.
        """
        playout, ring = self._playout, self._playout.ring
        wanted, waited = playout.decoded[rows], playout.waited[rows]
        slots, gap = ring.find(rows, wanted, playout.sequence[rows])
        late = slots >= 0
        if some(late):
            whole = np.where(late, ring.timestamp[slots] + ring.duration[slots] - wanted, 0)
            playout.aim(rows[late])
            delay = playout.delay(rows, due) - waited / playout.rates(rows)
            short = late & (waited >= whole) & (waited < 2 * whole)
            short &= delay >= playout.target[rows] - SHORT_S
            short &= playout.played[rows] - playout.skipped[rows] > AGAIN_S * playout.rates(rows)
            at = np.flatnonzero(short)
            if at.size:
                end = wanted[at] + whole[at]
                following, _ = ring.find(rows[at], end, playout.sequence[rows[at]] + 1)
                at = at[following >= 0]
                late[at] = False
                gap[at] = whole[at]
                playout.skipped[rows[at]] = playout.played[rows[at]]
                copied = ring.spare[slots[at]] == ring.sequence[slots[at]]  # and never came itself
                playout.recovered[rows[at[copied]]] -= 1
                playout.late[rows[at[~copied]]] += 1
                playout.learn(rows[at], slots[at])
                for row, until in zip(rows[at].tolist(), end[following >= 0].tolist(), strict=True):
                    playout.dropped[row] += ring.drop_before(row, until)
        gone = ~late & (waited >= gap)
        faded = ~late & ~gone & (gap < NOTHING_WAITS)
        silent = playout.silent[rows]
        faded &= (silent >= round(FADE_AFTER_S * playout.rate_of(rows))) & (silent < playout.NEVER)
        if some(faded):  # in silence, what comes next begins when its time has come
            here = rows[faded]
            rates, target = playout.rates(here), playout.target[here]
            begins = playout.delay(here, due[faded]) - gap[faded] / rates >= target - GROW_S
            # or more waits than should, which is certain where the quickest is not
            held = ring.newest(here) - wanted[faded] - gap[faded]
            gone[faded] = begins | (held >= target * rates + 2 * count)
        passing, gap = rows[gone], gap[gone]
        if passing.size:  # what was concealed stands for what is lost
            playout.decoded[passing] += gap
            playout.sequence[passing] += gap // count
            longer = waited[gone] - gap
            playout.expanded[passing] += np.maximum(longer, 0)
            playout.accelerated[passing] += np.maximum(-longer, 0)
            playout.waited[passing] = 0
        rows = rows[late]
        playout.expanded[rows] += waited[late]
        playout.waited[rows] = 0

    # ------------------------------------------------------------ faster, slower

    def correct(self, rows: Rows, excess: Floats, count: int, coded: bool) -> None:
        """Bring `rows` (k,), so many seconds (k,) above their targets, nearer to them.

        By steps of `count` samples: whole packets are cheaper to play than pieces, and may come
        later, for of a piece the next one is needed in the same step.
        """
        playout = self._playout
        rate = playout.rate_of(rows)
        fixed = (playout.fixed[rows] > 0) & (excess > 0) & (playout.played[rows] < ANCHOR_S * rate)
        if some(fixed):  # the first packet was none of the quickest: what is fixed is its delay
            here = rows[fixed]
            anchored = playout.target[here] + excess[fixed]
            playout.minimum[here] = playout.maximum[here] = playout.target[here] = anchored
            rows, excess = rows[~fixed], excess[~fixed]
        far = excess > FORCE_S
        for row, much in zip(rows[far].tolist(), excess[far].tolist(), strict=True):
            skip = -int((SHRINK_S - much) * rate // count) * count
            playout.leave_out(row, skip)
            playout.accelerated[row] += skip
        alone = far | self._gliding.begin(rows, excess, count, rate)
        for back in (False, True):
            here = ~alone & ((excess < 0) == back)
            if not back:
                here &= self._lasts(rows, here, excess > FAST_S, rate)
            if some(here):
                self._stretch(rows[here], np.abs(excess[here]), count, rate, coded, back=back)

    def _lasts(self, rows: Rows, over: Bools, much: Bools, rate: int) -> Bools:
        """Tell which of `rows` (k,) that are `over` their target have been so for long: bool (k,).

        `much` (k,): which are far over. Those that have just been shortened may be again.
        """
        rested, played = self._playout.rested[rows], self._playout.played[rows]
        new = over & (played - rested > rate)
        lasts = np.where(much[new], round(LASTS_FAR_S * rate), round(LASTS_S * rate))
        self._playout.rested[rows[new]] = played[new] + lasts
        return ~new & (rested <= played)

    def _stretch(
        self, rows: Rows, off: Floats, count: int, rate: int, coded: bool, *, back: bool
    ) -> None:
        """Lengthen what `rows` (k,) hear next (`back`) by a step, or shorten it.

        `off` (k,): by how many seconds they are off their target.
        """
        playout = self._playout
        pcm = playout.pcm
        needed = count + round(FADE_S * rate)
        pause = max(needed, round(PAUSE_S * rate)) if back else needed
        playout.decode_ahead(rows, pause, coded)
        pauses = self._pauses(rows, count if back else needed, pause)
        if back:
            self._lengthen_pauses(rows[pauses], count)
        else:
            self._jump(rows[pauses], 0, count, rate, back=False)
            playout.rested[rows[pauses]] = playout.played[rows[pauses]]
        urgent = off > (SLOW_S if back else FAST_S)
        urgent &= ~pauses & (playout.rested[rows] <= playout.played[rows])
        rows = rows[urgent]
        search = round(_SEARCH_S * rate)
        playout.decode_ahead(rows, needed + search, coded)
        for begin in range(0, search + 1, round(_SEARCH_STEP_S * rate)):
            rows = rows[pcm.fill[rows] >= begin + needed]
            if not rows.size:
                return
            ahead = pcm.data[rows, begin : begin + needed]
            fits = np.abs(ahead).max(axis=1) < QUIET
            rest = np.where(fits, 0, round(_REST_S * rate))
            fits |= likeness(ahead, count, count, back=back, rate_hz=rate)[:, 0] >= _ALIKE
            self._jump(rows[fits], begin, count, rate, back=back)
            playout.rested[rows[fits]] = playout.played[rows[fits]] + rest[fits]
            rows = rows[~fits]

    def _pauses(self, rows: Rows, least: int, pause: int) -> Bools:
        """Tell which of `rows` (k,) hear nothing in `pause` samples, or what is there of them.

        That is to be `least` samples.
        """
        pcm = self._playout.pcm
        held = pcm.fill[rows]
        loud = ~(np.abs(pcm.data[rows, :pause]) < QUIET)
        pauses: Bools = (held >= least) & ~(loud & (np.arange(pause) < held[:, None])).any(axis=1)
        return pauses

    def _jump(self, rows: Rows, begin: int, count: int, rate: int, *, back: bool) -> None:
        """Leave out a step of what `rows` (k,) hear from `begin` on, or repeat it (`back`)."""
        playout, pcm = self._playout, self._playout.pcm
        for row in rows.tolist():
            sound = pcm.data[row, begin : int(pcm.fill[row])]
            sound = jump(sound, count, longest=count, back=back, rate_hz=rate)
            pcm.data[row, begin : begin + sound.size] = sound
            pcm.fill[row] = begin + sound.size
        figure = playout.expanded if back else playout.accelerated
        figure[rows] += count

    def _lengthen_pauses(self, rows: Rows, count: int) -> None:
        """Repeat the next step of `rows` (k,). They may have no more than that."""
        playout, pcm = self._playout, self._playout.pcm
        for row in rows.tolist():
            held = int(pcm.fill[row])
            pcm.data[row, count : count + held] = pcm.data[row, :held].copy()
            pcm.fill[row] = count + held
        playout.expanded[rows] += count
