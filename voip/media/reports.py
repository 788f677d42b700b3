"""RTCP of every row: when to report, what to say, and what the peer said of us (RFC 3550, 6)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from voip.errors import RtpError
from voip.media.columns import ColumnSpec, Floats, Ints, make, reset, where
from voip.media.columns import grow as grow_columns
from voip.media.io import PacketIO
from voip.media.table import StreamTable
from voip.rtp import ntp
from voip.rtp.report_interval import deterministic_interval, report_interval
from voip.rtp.rtcp import (
    Bye,
    ReceiverReport,
    ReportBlock,
    RtcpPacket,
    SenderReport,
    build_compound,
    cumulative_lost,
    fraction_lost,
    parse_compound,
    source_description,
)
from voip.types import Address, Random

__all__ = ["RemoteReport", "Reporter"]


@dataclass(frozen=True, slots=True)
class RemoteReport:
    """What the peer's last report said about what we send; None where it said nothing."""

    packets_lost: int | None = None
    fraction_lost: float | None = None
    jitter_ms: float | None = None
    rtt_ms: float | None = None


_NOTHING = RemoteReport()
_ROUND_S = 0.100
"""Reports go out in rounds: the first of several costs ten times what the next one does, since the
processor has forgotten the way. What is random by seconds may be late by so much."""


class Reporter:
    """Sends and reads reports; its arrays have a row for each of the table's."""

    due: Floats
    reports: Ints
    sent_prior: Ints
    sent_before: Ints
    sr_ssrc: Ints
    last_sr: Ints
    last_sr_at: Floats

    COLUMNS: ClassVar[ColumnSpec] = {
        "due": (np.float64, np.inf, ()),
        "reports": (np.int64, 0, ()),  # sent so far
        "sent_prior": (np.int64, 0, ()),  # RTP packets up to the last report
        "sent_before": (np.int64, 0, ()),  # and up to the one before
        "sr_ssrc": (np.int64, -1, ()),  # whose the peer's last SR is
        "last_sr": (np.int64, 0, ()),  # its NTP time, the middle 32 bits
        "last_sr_at": (np.float64, 0.0, ()),
    }

    def __init__(self, table: StreamTable, io: PacketIO, random: Random) -> None:
        make(self, table.active.size)
        self._table = table
        self._io = io
        self._random = random
        self.remote: dict[int, RemoteReport] = {}
        """What the peers said last of what rows send, by row."""
        self._left: list[tuple[int, str]] = []
        self._invalid = 0
        self._next_round = 0.0

    @property
    def invalid(self) -> int:
        """Packets that came to an RTCP port and were no RTCP."""
        return self._invalid

    def open(self, row: int) -> None:
        """Start a row afresh."""
        if self.due.size < self._table.active.size:
            grow_columns(self, self._table.active.size)
        reset(self, row)
        self.remote.pop(row, None)

    def connect(self, row: int, now: float) -> None:
        """Begin to report on a row whose peer is known."""
        if not np.isfinite(self.due[row]):
            self.due[row] = now + self._interval(initial=True)

    def close(self, row: int, now: float) -> None:
        """Say BYE, if the peer has ever heard of us (section 6.3.7)."""
        ssrc = int(self._table.transmitter.ssrc[row])
        spoke = self._table.transmitter.packets[row] > 0 or self.reports[row] > 0
        if spoke and self._table.rtcp_remote.get(row) is not None:
            self._send(row, ReceiverReport(ssrc, self._blocks(row, now)), Bye((ssrc,)))
        self.remote.pop(row, None)
        reset(self, row)

    def tick(self, now: float, wall: float) -> list[tuple[int, str]]:
        """Send the reports that are due; return the streams whose peers said BYE, and why."""
        if now >= self._next_round:
            self._next_round = now + _ROUND_S
            for row in where(self.due <= now):
                self._report(int(row), now, wall)
                self.due[row] = now + self._interval()
        left, self._left = self._left, []
        return left

    def receive(
        self,
        row: int,
        payload: bytes,
        stranger: Address | None,
        arrival: float,
        now: float,
        wall: float,
    ) -> None:
        """Read a packet that came to the RTCP port of `row`.

        `stranger`: its sender where that is not whom the row expects. It is believed when it is
        the host the row's RTP comes from and speaks for that RTP's SSRC.
        """
        try:
            packets = parse_compound(payload)
        except RtpError:
            self._invalid += 1
            return
        if stranger is not None and not self._believe(row, packets, stranger):
            return
        ours = int(self._table.transmitter.ssrc[row])
        for packet in packets:
            match packet:
                case SenderReport():
                    self.sr_ssrc[row] = packet.ssrc
                    self.last_sr[row] = ntp.middle(packet.ntp)
                    self.last_sr_at[row] = arrival
                    self._read_blocks(row, ours, packet.blocks, wall - (now - arrival))
                case ReceiverReport():
                    self._read_blocks(row, ours, packet.blocks, wall - (now - arrival))
                case Bye() if int(self._table.receiver.ssrc[row]) in packet.ssrcs:
                    self._left.append((int(self._table.stream[row]), packet.reason))
                case _:
                    pass

    def _believe(self, row: int, packets: list[RtcpPacket], stranger: Address) -> bool:
        table = self._table
        remote = table.remote.get(row)
        first = packets[0]
        if remote is None or remote.host != stranger.host:
            return False
        if not isinstance(first, SenderReport | ReceiverReport):
            return False
        if first.ssrc != int(table.receiver.ssrc[row]):
            return False
        table.rtcp_remote[row] = stranger
        self._io.connect(row, remote, stranger)
        return True

    def _read_blocks(
        self, row: int, ours: int, blocks: tuple[ReportBlock, ...], wall: float
    ) -> None:
        for block in blocks:
            if block.ssrc != ours:
                continue
            before = self.remote.get(row, _NOTHING)
            round_trip = ntp.round_trip(
                block.last_sr, block.delay_since_last_sr, ntp.from_wall(wall)
            )
            self.remote[row] = replace(
                before,
                packets_lost=block.packets_lost,
                fraction_lost=block.fraction_lost / 256,
                jitter_ms=1000 * block.jitter / self._table.lane.rate_hz,
                rtt_ms=before.rtt_ms if round_trip is None else 1000 * round_trip,
            )

    def _report(self, row: int, now: float, wall: float) -> None:
        table = self._table
        if table.rtcp_remote.get(row) is None:
            return
        transmitter = table.transmitter
        ssrc, sent = int(transmitter.ssrc[row]), int(transmitter.packets[row])
        blocks = self._blocks(row, now)
        report: RtcpPacket = ReceiverReport(ssrc, blocks)
        if sent > self.sent_before[row]:  # within the last two intervals (section 6.4)
            report = SenderReport(
                ssrc,
                ntp.from_wall(wall),
                transmitter.timestamp(row, now),
                sent & 0xFFFFFFFF,
                int(transmitter.octets[row]) & 0xFFFFFFFF,
                blocks,
            )
        self.sent_before[row] = self.sent_prior[row]
        self.sent_prior[row] = sent
        self.reports[row] += 1
        self._send(row, report)

    def _blocks(self, row: int, now: float) -> tuple[ReportBlock, ...]:
        receiver = self._table.receiver
        if receiver.ssrc[row] < 0:
            return ()
        expected, received = receiver.expected(row), int(receiver.received[row])
        interval = receiver.interval(row)
        last_sr, since = 0, 0.0
        if self.sr_ssrc[row] == receiver.ssrc[row]:
            last_sr, since = int(self.last_sr[row]), now - float(self.last_sr_at[row])
        return (
            ReportBlock(
                ssrc=int(receiver.ssrc[row]),
                fraction_lost=fraction_lost(*interval),
                packets_lost=cumulative_lost(expected, received),
                highest_sequence=int(receiver.last_sequence[row] - 0x10000) & 0xFFFFFFFF,
                jitter=int(receiver.jitter[row]),
                last_sr=last_sr,
                delay_since_last_sr=min(max(0, round(since * 65536)), 0xFFFFFFFF),
            ),
        )

    def _send(self, row: int, report: RtcpPacket, *more: RtcpPacket) -> None:
        """Send a compound packet; our CNAME is in every one (section 6.1)."""
        ssrc, name = int(self._table.transmitter.ssrc[row]), self._table.cname.get(row, "")
        packets = [report, source_description(ssrc, name), *more]
        self._io.send_one(row, build_compound(packets), rtcp=True)

    def _interval(self, *, initial: bool = False) -> float:
        return report_interval(deterministic_interval(initial=initial), self._random)
