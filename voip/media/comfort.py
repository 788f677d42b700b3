"""Comfort noise (RFC 3389) instead of what a peer does not send while it has nothing to say.

A noise begins where its packet says, or where the sound before it ends, and lasts until the next
packet of sound is played. Rows in it are out of the ordinary for all of playout (`on`), and made
in arrays: what they hear costs a random number a sample, and a filter where the peer told a colour.
Nothing in a pause tells apart what is late and what was never sent: so a delay that is off its
target is set right there and then, and what comes late is played late and not dropped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np
import numpy.typing as npt

from voip.codecs.comfort_noise import MAX_ORDER, ComfortNoise, colour
from voip.media.columns import (
    Bools,
    ColumnSpec,
    Floats,
    Ints,
    Rows,
    distinct,
    give_back,
    grow,
    make,
    reset,
    some,
    where,
)
from voip.media.pacing import FORCE_S
from voip.media.payloads import SLOTS

if TYPE_CHECKING:
    from voip.media.playout import Playout

__all__ = ["MAX_OCTETS", "Comfort"]

MAX_OCTETS: Final = 1 + MAX_ORDER
"""Of a payload, what is read."""
NEVER: Final = 1 << 62
_FAR_S: Final = 2.0
"""A timestamp so far from what is heard is by another clock: the noise begins now."""
_LATEST_S: Final = 0.9 * FORCE_S
_SEED: Final = 3389
"""Noise is no secret, and repeats."""


class Comfort:
    """The noises of rows of a `Playout`, in whose columns it works beside its own."""

    on: Bools
    known: Bools
    begins: Ints
    again: Ints
    order: Ints
    deviation: Floats
    filter: Floats
    state: Floats
    packets: Ints
    heard: Ints

    COLUMNS: ClassVar[ColumnSpec] = {
        "on": (np.bool_, False, ()),  # a noise is heard, or begins when what waits is played
        "known": (np.bool_, False, ()),  # what the peer's noise is like
        "begins": (np.int64, NEVER, ()),  # timestamp, in samples of the row
        "again": (np.int64, NEVER, ()),  # likewise of the next one, after sound that waits
        "order": (np.int64, 0, ()),  # of its filter
        "deviation": (np.float64, 0.0, ()),  # of the white noise that is filtered
        "filter": (np.float64, 0.0, (MAX_ORDER,)),
        "state": (np.float64, 0.0, (MAX_ORDER,)),
        "packets": (np.int64, 0, ()),
        "heard": (np.int64, 0, ()),  # samples of noise
    }

    def __init__(self, rows: int, playout: Playout) -> None:
        make(self, rows)
        self._playout = playout
        self._random = np.random.default_rng(_SEED)
        self._payloads: dict[int, bytes] = {}  # by row, what was read last

    def grow(self, rows: int) -> None:
        """Make room for `rows` rows in all."""
        grow(self, rows)

    def give_back(self, first: int, last: int) -> None:
        """Give back what rows [first, last), in which nothing is, have used of memory."""
        for array in (self.filter, self.state):
            give_back(array, first, last)

    def reset(self, row: int) -> None:
        """Start a row afresh, figures included."""
        if self.packets[row]:  # else its filter's memory has never been used
            reset(self, row)
            self._payloads.pop(row, None)

    def stop(self, row: int) -> None:
        """Let no noise be heard on a row, nor be known; figures stay."""
        if self.known[row]:
            self.on[row] = self.known[row] = False
            self.begins[row] = self.again[row] = NEVER
            self.state[row] = 0.0
            self._payloads.pop(row, None)

    # ------------------------------------------------------------ packets

    def arrive(
        self,
        row: int,
        payload: bytes,
        sequence: int,
        timestamp: int,
        wanted: int,
        *,
        newest: bool,
    ) -> None:
        """Take the payload of a packet; an empty one changes nothing.

        sequence, timestamp: extended, the latter in samples of the row, as is what will be heard
        next, `wanted`. newest: whether no packet that has come was sent after it.
        """
        playout, ring = self._playout, self._playout.ring
        if abs(timestamp - wanted) > _FAR_S * playout.rate[row]:
            timestamp = wanted
        if not payload or (not newest and timestamp < wanted):
            return
        self._read(row, payload)
        playout.decoded[row] += playout.waited[row]  # what was waited for will not come
        playout.waited[row] = 0
        slots = row * SLOTS + np.arange(SLOTS)
        before = (ring.duration[slots] > 0) & (ring.sequence[slots] < sequence)
        ends = (ring.timestamp[slots] + ring.duration[slots])[before].max(initial=wanted)
        begins = max(timestamp, int(ends))
        if not self.on[row] or begins < self.begins[row]:
            self.on[row], self.begins[row] = True, begins
        elif ends > max(self.begins[row], wanted):
            self.again[row] = begins
        if begins == wanted:
            playout.sequence[row] = sequence + 1

    def _read(self, row: int, payload: bytes) -> None:
        if self._payloads.get(row) == payload:
            return
        self._payloads[row] = payload
        deviation, filter_ = ComfortNoise.read(payload).synthesis
        if self.order[row] != filter_.size:
            self.state[row] = 0.0
        self.known[row], self.deviation[row] = True, deviation
        self.order[row] = filter_.size
        self.filter[row] = 0.0
        self.filter[row, : filter_.size] = filter_

    def keep(self, rows: Rows, timestamp: Ints, late: Bools, lateness: Floats) -> None:
        """Let rows (k,) play what came `late` (k,) after a pause, if it may wait so much longer.

        timestamp, lateness (k,): of packets of sound, in samples and in seconds. What will be
        played is late no more. Who is later than is corrected by force has another time base.
        """
        playout = self._playout
        kept = late & self.on[rows] & (timestamp >= self.begins[rows])
        kept &= lateness <= np.minimum(playout.maximum[rows], playout.target[rows] + _LATEST_S)
        if some(kept):
            self._play_from(rows[kept], timestamp[kept])
            late &= ~kept

    def end(self, rows: Rows, slots: Ints) -> None:
        """Note that rows (k,) play packets of sound, in `slots` (k,) of the ring."""
        at = where(self.on[rows])
        if not at.size:
            return
        timestamp = self._playout.ring.timestamp[slots[at]]
        over = timestamp >= self.begins[rows[at]]
        rows, timestamp = rows[at[over]], timestamp[over]
        begun = timestamp < self._playout.decoded[rows]
        self._play_from(rows[begun], timestamp[begun])
        self.begins[rows] = self.again[rows]
        self.on[rows] = self.again[rows] < NEVER
        self.again[rows] = NEVER

    def _play_from(self, rows: Rows, timestamp: Ints) -> None:
        """Go back in rows (k,), that have heard noise instead, to where sound begins (k,)."""
        playout = self._playout
        playout.expanded[rows] += playout.decoded[rows] - timestamp
        playout.decoded[rows] = timestamp

    # ------------------------------------------------------------ sound

    def lasts(self, rows: Rows) -> Bools:
        """Say which of `rows` (k,) hear noise, and nothing else waits to be heard."""
        playout = self._playout
        lasts: Bools = self.on[rows] & (self.begins[rows] <= playout.decoded[rows])
        lasts &= (playout.ring.count[rows] == 0) & (playout.pcm.fill[rows] == 0)
        return lasts

    def set_right(self, rows: Rows, excess: Floats) -> None:
        """Bring rows (k,) in a noise that `lasts` to their targets, seconds (k,) below."""
        playout = self._playout
        samples = np.rint(excess * playout.rates(rows)).astype(np.int64)
        playout.decoded[rows] += samples
        self.begins[rows] = np.minimum(self.begins[rows], playout.decoded[rows])
        playout.accelerated[rows] += np.maximum(samples, 0)
        playout.expanded[rows] += np.maximum(-samples, 0)

    def play(self, rows: Rows, count: int, *, coded: bool) -> npt.NDArray[np.float32]:
        """Return the next `count` samples of rows (k,) in a noise that `lasts`: (k, count)."""
        playout = self._playout
        noise = self.make(rows, count)
        self.heard[rows] += count
        if not coded:
            playout.past.hear(rows, noise)
        playout.decoded[rows] += count
        playout.silent[rows] = 0
        return noise

    def fill(self, rows: Rows, missing: Ints) -> Bools:
        """Append noise to the sound of those of `rows` (k,) that are in it, `missing` samples (k,).

        Of the others, for which it returns True, those in which it is to begin miss no more than is
        missing until then: that is changed.
        """
        playout = self._playout
        on = self.on[rows]
        if not some(on):
            return ~on
        until = np.where(on, self.begins[rows] - playout.decoded[rows], NEVER)
        np.minimum(missing, np.where(until > 0, until, missing), out=missing)
        noisy = until <= 0
        here, samples = rows[noisy], missing[noisy]
        self.append(here, samples)
        playout.decoded[here] += samples
        playout.silent[here] = 0
        return ~noisy

    def append(self, rows: Rows, samples: Ints) -> None:
        """Append so much noise (k,) to the sound of rows (k,)."""
        for size in distinct(samples):
            here = rows[samples == size]
            self._playout.pcm.append(here, self.make(here, size))
            self.heard[here] += size

    def make(self, rows: Rows, count: int) -> npt.NDArray[np.float32]:
        """Return `count` samples of the noises of `rows` (k,): float32 (k, count)."""
        white = self._random.standard_normal((rows.size, count), np.float32)
        white *= self.deviation[rows, None].astype(np.float32)
        longest = int(self.order[rows].max(initial=0))
        state = self.state[rows, :longest]
        noise = colour(white, self.filter[rows, :longest], state)
        self.state[rows, :longest] = state
        return noise
