"""The stream table: one row per RTP stream, and the parts that keep each row's state.

Nothing but the tick touches it. Rows are reused; the table doubles when it is full.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from voip.errors import MediaError
from voip.media.columns import Bools, ColumnSpec, Floats, Ints, Rows, grow, make, reset
from voip.media.fifo import FifoArray
from voip.media.lane import Lane
from voip.media.playout import PCM_SAMPLES, Playout
from voip.media.receive import Receiver
from voip.media.transmit import Transmitter
from voip.rtp.source import SourceLearner
from voip.rtp.telephone_event import EventReceiver, EventSender
from voip.types import Address

__all__ = ["BASE_STEP_S", "EVENT", "UNKNOWN", "StreamTable"]

BASE_STEP_S = 0.010
UNKNOWN = 255
"""A payload type that was not negotiated."""
EVENT = 254
"""A payload type that is telephone-event."""


class StreamTable:
    """Rows and what belongs to them; the parts have the same number of rows."""

    active: Bools
    stream: Ints
    step: Ints
    due: Floats
    connected: Bools
    listening: Bools
    muted: Bools
    symmetric: Bools
    described: Floats
    missed: Floats
    meaning: npt.NDArray[np.uint8]
    source: Ints
    discarded: Ints
    level_in: Floats
    level_in_before: Floats
    level_out: Floats
    level_out_before: Floats
    level_steps: Ints
    underrun: Ints

    COLUMNS: ClassVar[ColumnSpec] = {
        "active": (np.bool_, False, ()),
        "stream": (np.int64, -1, ()),
        "step": (np.int64, 160, ()),  # samples a step
        "due": (np.float64, np.inf, ()),  # of the next step
        "connected": (np.bool_, False, ()),  # a session description was applied
        "listening": (np.bool_, False, ()),  # what comes is to be heard
        "muted": (np.bool_, False, ()),
        "symmetric": (np.bool_, True, ()),
        "described": (np.float64, np.inf, ()),  # when the last description was applied
        "missed": (np.float64, -np.inf, ()),  # when the peer's silence was last told
        "meaning": (np.uint8, UNKNOWN, (128,)),  # of payload types: lane code, EVENT, UNKNOWN
        "source": (np.int64, -1, ()),  # the row whose sound is sent on this one
        "discarded": (np.int64, 0, ()),
        "level_in": (np.float64, 0.0, ()),  # mean square of the loudest step of this second
        "level_in_before": (np.float64, 0.0, ()),  # and of the second before
        "level_out": (np.float64, 0.0, ()),
        "level_out_before": (np.float64, 0.0, ()),
        "level_steps": (np.int64, 0, ()),
        "underrun": (np.int64, 0, ()),  # samples an audio source did not have in time
    }

    def __init__(self, lane: Lane, rows: int = 16) -> None:
        make(self, rows)
        self.lane = lane
        self.receiver = Receiver(rows)
        self.playout = Playout(rows, lane)
        self.transmitter = Transmitter(rows, lane)
        self.feed = FifoArray(rows, PCM_SAMPLES)
        self.rows: dict[int, int] = {}
        self._free = list(range(rows - 1, -1, -1))
        self._phases = [0, 0]
        # what only some rows have, or what is looked at rarely
        self.cname: dict[int, str] = {}
        self.codec: dict[int, str] = {}
        self.negotiated: dict[int, Address | None] = {}
        self.remote: dict[int, Address | None] = {}
        self.rtcp_negotiated: dict[int, Address | None] = {}
        self.rtcp_remote: dict[int, Address | None] = {}
        self.learners: dict[int, SourceLearner] = {}
        self.event_receivers: dict[int, EventReceiver] = {}
        self.event_senders: dict[int, EventSender] = {}
        self.event_format: dict[int, tuple[int, int]] = {}  # payload type and clock we send with
        self.pcm_source: dict[int, int] = {}  # row -> ring
        self.sinks: dict[int, list[tuple[int, bool]]] = {}  # row -> (ring, what is sent)

    def __len__(self) -> int:
        return len(self.rows)

    def row(self, stream: int) -> int:
        """Return the row of `stream`; `MediaError` when there is none."""
        try:
            return self.rows[stream]
        except KeyError:
            raise MediaError(f"there is no stream {stream}", hint="it was closed") from None

    def add(self, stream: int) -> int:
        """Take a row for `stream`; it takes part in no step before it is scheduled."""
        if stream in self.rows:
            raise MediaError(f"stream {stream} is open already")
        if not self._free:
            self._grow()
        row = self._free.pop()
        reset(self, row)
        self.receiver.reset(row)
        self.playout.reset(row)
        self.feed.clear(row)
        self.rows[stream] = row
        self.stream[row] = stream
        self.active[row] = True
        return row

    def remove(self, row: int) -> None:
        """Give a row back, with everything that belongs to it."""
        if np.isfinite(self.due[row]):
            self._phases[self._phase(float(self.due[row]))] -= 1
        self.rows.pop(int(self.stream[row]), None)
        self.playout.stop(row)
        self.transmitter.pause(row)
        reset(self, row)
        self.source[self.source == row] = -1
        for part in (
            self.cname,
            self.codec,
            self.negotiated,
            self.remote,
            self.rtcp_negotiated,
            self.rtcp_remote,
            self.learners,
            self.event_receivers,
            self.event_senders,
            self.event_format,
            self.pcm_source,
            self.sinks,
        ):
            part.pop(row, None)
        self._free.append(row)

    def schedule(self, row: int, step_ms: int, now: float) -> None:
        """Let a row take part from the next step on, in the emptier phase."""
        self.step[row] = step_ms * self.lane.rate_hz // 1000
        if np.isfinite(self.due[row]):
            return  # it keeps its place
        slot = int(now / BASE_STEP_S) + 1
        if self._phases[slot % 2] > self._phases[(slot + 1) % 2]:
            slot += 1
        self._phases[slot % 2] += 1
        self.due[row] = slot * BASE_STEP_S

    def due_rows(self, now: float) -> Rows:
        """Return the rows whose step is due."""
        return np.flatnonzero(self.due <= now + 1e-9)

    def next_due(self) -> float | None:
        """When the next step of any row is due; None when no row takes part."""
        first = float(self.due.min())
        return first if np.isfinite(first) else None

    @staticmethod
    def _phase(due: float) -> int:
        return round(due / BASE_STEP_S) % 2

    def _grow(self) -> None:
        rows = self.active.size
        grow(self, 2 * rows)
        for part in (self.receiver, self.playout, self.transmitter, self.feed):
            part.grow(2 * rows)
        self._free = list(range(2 * rows - 1, rows - 1, -1))
