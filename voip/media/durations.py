"""How long payloads are, and when they begin, in samples of the rows that hear them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from voip.media.columns import Ints, Rows, where
from voip.media.table import StreamTable

__all__ = ["in_samples"]


def in_samples(
    table: StreamTable,
    data: npt.NDArray[np.uint8],
    rows: Rows,
    slots: Rows,
    offset: Ints,
    size: Ints,
    code: npt.NDArray[np.uint8],
    timestamp: Ints,
) -> tuple[Ints, Ints]:
    """Return when payloads (k,) of `rows` begin and how long they are, in samples of their rows.

    They are `data[slots, offset : offset + size]` in formats `code`; timestamp: by the RTP clock.
    What cannot be played is 0 samples long.
    """
    voicing = table.playout.voicing
    counted, unknown = voicing.durations(rows, size, data[slots, offset])
    coded = table.coded[rows]
    duration = np.where(coded, counted, size)
    unknown |= code != voicing.code[rows]
    for at in where(coded & unknown):
        payload = data[slots[at], int(offset[at]) : int(offset[at] + size[at])]
        duration[at] = table.voices[int(rows[at])].samples(int(code[at]), payload)
    rate, clock = table.playout.rate[rows], table.receiver.clock[rows]
    return timestamp * rate // clock, duration
