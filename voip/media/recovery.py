"""Lost packets that later ones have something of: put in their place, and waited for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from voip.media.columns import Bools, Floats, Ints, Rows, some

if TYPE_CHECKING:
    from voip.media.playout import Playout

__all__ = ["Recovery"]


class Recovery:
    """Recovers packets of the rows of a `Playout`, in whose columns it works. Decision 0116."""

    def __init__(self, playout: Playout) -> None:
        self._playout = playout

    def repeat(
        self,
        rows: Rows,
        sequence: Ints,
        timestamp: Ints,
        duration: Ints,
        arrival: Floats,
        code: npt.NDArray[np.uint8],
        data: npt.NDArray[np.uint8],
        packet: Rows,
        offset: Ints,
        size: Ints,
    ) -> None:
        """Take what packets that came at `arrival` repeat of earlier ones; as `Arrivals.take`.

        It stands for those that have not come, where their time has not. They count as recovered.
        """
        playout, ring = self._playout, self._playout.ring
        wanted = self.miss(rows, sequence, timestamp, duration, arrival)
        if not some(wanted):
            return
        rows, sequence, timestamp = rows[wanted], sequence[wanted], timestamp[wanted]
        slots = ring.slots(rows, sequence)
        ring.insert(
            rows, slots, sequence, timestamp, duration[wanted], code[wanted], data,
            packet[wanted], offset[wanted], size[wanted],
        )  # fmt: skip
        ring.spare[slots] = sequence
        playout.recovered[rows] += 1
        playout.peak[rows] = np.maximum(playout.peak[rows], ring.count[rows])

    def miss(
        self, rows: Rows, sequence: Ints, timestamp: Ints, duration: Ints, arrival: Floats
    ) -> Bools:
        """Tell which packets (k,) of `rows` have not come, and may still be heard: bool (k,).

        Packets that came at `arrival` have their sound, too. To hear it from them takes as long a
        delay as if the lost ones had come then, and as such they are noted: where nothing is lost
        the delay is none the longer for it.
        """
        playout, ring = self._playout, self._playout.ring
        transit = arrival - timestamp / playout.rates(rows)
        slots = ring.slots(rows, sequence)
        missing = (playout.state[rows] != playout.IDLE) & (timestamp >= playout.first[rows])
        known = ring.sequence[slots] == sequence
        missing &= (~known | (ring.spare[slots] == -sequence)) & (ring.duration[slots] == 0)
        missing &= transit - playout.delays.quickest[rows] <= playout.maximum[rows]
        missing &= ~ring.holds(rows, timestamp)
        new = missing & ~known
        if some(new):
            lost = slots[new]
            ring.sequence[lost], ring.spare[lost] = sequence[new], -sequence[new]
            playout.delays.update(rows[new], transit[new])
        wanted: Bools = missing & (timestamp + duration > playout.decoded[rows])
        return wanted
