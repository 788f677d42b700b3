"""What our engine lets be heard of a trace, in virtual time, many calls at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from voip.codecs.g711 import ULAW_ENCODE
from voip.harness.audio import Pcm
from voip.harness.jitter_quality.traces import Trace
from voip.media.answers import Applied, StreamStats
from voip.media.commands import (
    AddSink,
    Command,
    ConnectStream,
    OpenStream,
    PayloadFormat,
    ReadStats,
)
from voip.media.engine import Engine
from voip.media.io import PacketBatch
from voip.media.playout import PLAYING
from voip.media.rings import RingArena
from voip.rtp.packet import pack_header
from voip.types import Address, SeededRandom

__all__ = ["RATE_HZ", "Heard", "listen"]

RATE_HZ: Final = 8000
_BEGIN: Final = 100.0
"""When traces begin, by the engine's clock."""
_TAIL_S: Final = 1.0
_ENDING_MS: Final = 60.0
"""Concealed after the last packet, of every trace."""
_FIRST_TIMESTAMP: Final = 16_000
_FORMAT: Final = PayloadFormat(0, "pcmu")
_PEER: Final = Address("192.0.2.1", 20_000)


@dataclass(frozen=True, slots=True, eq=False)
class Heard:
    """What was heard of one trace.

    pcm: int16 (samples,). at, sample: float64 (steps,): when which sample of the speech was next,
    seconds of the trace and samples. delay_ms: mean from a packet's departure to its playout;
    gap_ms: sound that had to be made up, beyond what was lost: packets too late or waited for.
    target_ms: float64 (steps,), the delay that was aimed at, from the quickest packet's arrival on.
    """

    pcm: Pcm
    at: npt.NDArray[np.float64]
    sample: npt.NDArray[np.float64]
    begun: float
    delay_ms: float
    gap_ms: float
    target_ms: npt.NDArray[np.float64] | None = None
    stats: StreamStats | None = None

    def of(self, first: int, last: int) -> Pcm:
        """Return what was heard from about sample `first` of the speech up to `last`."""
        times = [
            float(self.at[int(np.searchsorted(self.sample, n)) if n < self.sample[-1] else -1])
            for n in (first, last)
        ]
        begin, end = (round((at - self.begun) * RATE_HZ) for at in times)
        return self.pcm[max(begin, 0) : end]


class _TraceIO:
    """Delivers the packets of all rows when their traces say so; takes what is sent nowhere."""

    kernel_timestamps = True

    def __init__(
        self, calls: Sequence[tuple[Trace, Pcm]], first_sequence: int, first_timestamp: int
    ) -> None:
        rows, arrivals, packets = [], [], []
        for row, (trace, pcm) in enumerate(calls):
            size = round(trace.packet_s * RATE_HZ)
            coded = ULAW_ENCODE[pcm.view(np.uint16)]
            for number in np.flatnonzero(~trace.lost):
                stamp = (first_timestamp + int(number) * size) & 0xFFFFFFFF
                sequence = (first_sequence + int(number)) & 0xFFFF
                header = pack_header(0, sequence, stamp, row + 1)
                payload = coded[number * size : (number + 1) * size].tobytes()
                packets.append(header + payload)
                rows.append(row)
                arrivals.append(_BEGIN + trace.arrival[number])
        order = np.argsort(arrivals, kind="stable")
        self._arrivals = np.array(arrivals)[order]
        self._rows = np.array(rows)[order]
        self._packets = [packets[at] for at in order]
        self._next = 0
        self.row_of: dict[int, int] = {}

    def open(self, row: int, host: str) -> tuple[Address, Address]:
        self.row_of[len(self.row_of)] = row
        return Address(host, 10_000 + 2 * row), Address(host, 10_001 + 2 * row)

    def connect(self, row: int, rtp: Address | None, rtcp: Address | None) -> None: ...

    def close(self, row: int) -> None: ...

    def receive(self, batch: PacketBatch, now: float) -> int:
        end = int(np.searchsorted(self._arrivals, now, side="right"))
        count = min(end - self._next, batch.capacity)
        for at in range(count):
            packet = self._packets[self._next + at]
            batch.data[at, : len(packet)] = np.frombuffer(packet, np.uint8)
            batch.slots[at], batch.lengths[at] = at, len(packet)
            batch.rows[at] = self.row_of[int(self._rows[self._next + at])]
            batch.arrival[at] = self._arrivals[self._next + at]
        batch.rtcp[:count], batch.source[:count] = False, -1
        batch.count = count
        self._next += count
        return count

    def send(self, rows: Any, packets: Any, lengths: Any) -> int:
        return len(rows)

    def send_one(self, row: int, packet: bytes, *, rtcp: bool) -> bool:
        return True


def listen(
    calls: Sequence[tuple[Trace, Pcm]],
    *,
    settings: Mapping[str, Any] | None = None,
    native: bool | None = None,
    first_sequence: int = 100,
    first_timestamp: int = _FIRST_TIMESTAMP,
) -> list[Heard]:
    """Let one engine hear all `calls`: traces, and the speech whose packets they carry.

    Speech is int16 (samples,), as much as the packets of its trace. settings: of `OpenStream`.
    """
    io = _TraceIO(calls, first_sequence, first_timestamp)
    engine = Engine(io, random=SeededRandom(1), native=native, arena=RingArena(1 << 20))
    now = _BEGIN - 0.1
    rings = []
    longest = max(float(trace.arrival[~trace.lost].max()) for trace, _ in calls)
    span = int((longest + _TAIL_S + 1.0) * RATE_HZ)

    def do(command: Command) -> Any:
        token = engine.submit(command)
        engine.tick(now, now)
        for event in engine.events():
            if isinstance(event, Applied) and event.token == token:
                return event.result
        raise AssertionError(command)

    for number in range(len(calls)):
        do(OpenStream(number + 1, "127.0.0.1", "a@b", **(settings or {})))
        do(ConnectStream(number + 1, _PEER, None, _FORMAT, (_FORMAT,), send=False))
        rings.append(engine.arena.allocate(span))
        do(AddSink(number + 1, rings[-1]))
    table = engine._table
    rows = np.array([io.row_of[number] for number in range(len(calls))])
    playout = table.playout
    begun = np.full(rows.size, np.nan)
    times, samples, targets = [], [], []
    end = _BEGIN + longest + _TAIL_S
    while (due := engine.next_due()) is not None and due <= end:
        now = max(now, due)
        slots = table.slot[rows].copy()
        engine.tick(now, now)
        engine.events()
        begun = np.where(np.isnan(begun) & (table.slot[rows] != slots), slots * 0.01, begun)
        playing = playout.state[rows] == PLAYING
        times.append(table.slot[rows] * 0.01 - _BEGIN)
        position = playout.decoded[rows] - playout.pcm.fill[rows] - first_timestamp
        targets.append(1000 * playout.target[rows])
        samples.append(np.where(playing, position, -np.inf))
    at, sample, target = np.stack(times), np.stack(samples), np.stack(targets)
    heard = []
    for number, (trace, _) in enumerate(calls):
        stats = do(ReadStats(number + 1))
        pcm = engine.arena.ring(rings[number]).read(span)
        first = float(begun[number]) - _BEGIN
        one = _judge(trace, pcm, at[:, number], sample[:, number], first, stats)
        heard.append(replace(one, target_ms=target[:, number]))
    return heard


def _judge(
    trace: Trace,
    pcm: Pcm,
    at: npt.NDArray[np.float64],
    sample: npt.NDArray[np.float64],
    begun: float,
    stats: StreamStats,
) -> Heard:
    size = round(trace.packet_s * RATE_HZ)
    extended = sample
    within = (extended >= 0) & (extended < trace.delay.size * size)
    delay = at[within] - trace.phase_s - extended[within] / RATE_HZ
    lost = 1000 * trace.packet_s * int(np.count_nonzero(trace.lost))
    return Heard(
        pcm,
        at,
        np.maximum.accumulate(extended),
        begun,
        1000 * float(delay.mean()),
        max(0.0, (stats.concealed_ms or 0.0) - lost - _ENDING_MS),
        stats=stats,
    )
