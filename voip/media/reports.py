"""RTCP of every row: when to report, what to say, and what the peer said of us (RFC 3550, 6)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from voip.errors import RtpError
from voip.media.columns import Bools, ColumnSpec, Floats, Ints, Rows, make, reset, where
from voip.media.columns import grow as grow_columns
from voip.media.io import PacketIO
from voip.media.table import StreamTable
from voip.rtp import ntp
from voip.rtp.report_batch import (
    ReceptionFigures,
    SenderFigures,
    build_reports,
    fractions_lost,
)
from voip.rtp.report_interval import deterministic_interval, report_interval
from voip.rtp.rtcp import (
    Bye,
    ReceiverReport,
    ReportBlock,
    RtcpPacket,
    SenderReport,
    build_packet,
    parse_compound,
    source_description,
)
from voip.types import Address, Random

__all__ = ["GONE_S", "RemoteReport", "Reporter"]

GONE_S = 5 * deterministic_interval()
"""A peer that has sent nothing for so long is gone (section 6.3.5)."""


@dataclass(frozen=True, slots=True)
class RemoteReport:
    """What the peer's last report said about what we send; None where it said nothing."""

    packets_lost: int | None = None
    fraction_lost: float | None = None
    jitter_ms: float | None = None
    rtt_ms: float | None = None


_NOTHING = RemoteReport()
_REPORTING = 2
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
    heard: Ints
    heard_at: Floats

    COLUMNS: ClassVar[ColumnSpec] = {
        "due": (np.float64, np.inf, ()),
        "reports": (np.int64, 0, ()),  # sent so far
        "sent_prior": (np.int64, 0, ()),  # RTP packets up to the last report
        "sent_before": (np.int64, 0, ()),  # and up to the one before
        "sr_ssrc": (np.int64, -1, ()),  # whose the peer's last SR is
        "last_sr": (np.int64, 0, ()),  # its NTP time, the middle 32 bits
        "last_sr_at": (np.float64, 0.0, ()),
        "heard": (np.int64, 0, ()),  # packets of the peer's since the last description
        "heard_at": (np.float64, -np.inf, ()),
    }

    def __init__(self, table: StreamTable, io: PacketIO, random: Random) -> None:
        make(self, table.active.size)
        self._table = table
        self._io = io
        self._random = random
        self.remote: dict[int, RemoteReport] = {}
        """What the peers said last of what rows send, by row."""
        self._descriptions: dict[int, bytes] = {}
        self._left: list[tuple[int, str]] = []
        self._invalid = 0
        self._next_round = 0.0

    @property
    def reporting(self) -> Bools:
        """Which peers have reported since they were described: more than what was on its way."""
        reporting: Bools = self.heard >= _REPORTING
        return reporting

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
        self._descriptions.pop(row, None)

    def connect(self, row: int, now: float) -> None:
        """Begin to report on a row whose peer is known, or described anew."""
        self.heard[row] = 0
        if not np.isfinite(self.due[row]):
            self.due[row] = now + self._interval(initial=True)

    def close(self, row: int, now: float) -> None:
        """Say BYE, if the peer has ever heard of us (section 6.3.7)."""
        ssrc = int(self._table.transmitter.ssrc[row])
        spoke = self._table.transmitter.packets[row] > 0 or self.reports[row] > 0
        if spoke and self._table.rtcp_remote.get(row) is not None:
            (report,) = self._compounds(np.array([row]), now, None)
            self._io.send_one(row, report + build_packet(Bye((ssrc,))), rtcp=True)
        self.remote.pop(row, None)
        self._descriptions.pop(row, None)
        reset(self, row)

    def tick(self, now: float, wall: float) -> list[tuple[int, str]]:
        """Send the reports that are due; return the streams whose peers said BYE, and why."""
        if now >= self._next_round:
            self._next_round = now + _ROUND_S
            due = where(self.due <= now)
            if due.size:
                for row in due:
                    self.due[row] = now + self._interval()
                known = [self._table.rtcp_remote.get(row) is not None for row in due.tolist()]
                self._report(due[known], now, wall)
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
        self.heard[row] += 1
        self.heard_at[row] = arrival
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
                jitter_ms=1000 * block.jitter / int(self._table.transmitter.clock[row]),
                rtt_ms=before.rtt_ms if round_trip is None else 1000 * round_trip,
            )

    def _report(self, rows: Rows, now: float, wall: float) -> None:
        """Send a compound packet for each of `rows` (k,): a report, and our CNAME (section 6.1)."""
        for row, packet in zip(rows.tolist(), self._compounds(rows, now, wall), strict=True):
            self._io.send_one(row, packet, rtcp=True)

    def _compounds(self, rows: Rows, now: float, wall: float | None) -> list[bytes]:
        """Return an SR, or an RR (without `wall`, too), and the SDES, for each of `rows` (k,)."""
        transmitter, receiver = self._table.transmitter, self._table.receiver
        sent = transmitter.packets[rows]
        sender = SenderFigures(
            ssrc=transmitter.ssrc[rows],
            # within the last two intervals (section 6.4)
            sent=(sent > self.sent_before[rows]) & (wall is not None),
            ntp=ntp.from_wall(wall or 0.0),
            timestamp=transmitter.origin[rows]
            + np.rint(now * transmitter.clock[rows]).astype(np.int64),
            packets=sent,
            octets=transmitter.octets[rows],
        )
        self.sent_before[rows] = self.sent_prior[rows]
        self.sent_prior[rows] = sent
        self.reports[rows] += 1
        lost = receiver.expected(rows) - receiver.received[rows]
        source = receiver.ssrc[rows]
        answers = (self.sr_ssrc[rows] == source) & (source >= 0)
        since = np.where(answers, now - self.last_sr_at[rows], 0.0)
        reception = ReceptionFigures(
            heard=source >= 0,
            ssrc=source,
            fraction=fractions_lost(*receiver.interval(rows)),
            lost=lost,
            highest=receiver.last_sequence[rows] - 0x10000,
            jitter=receiver.jitter[rows].astype(np.int64),
            last_sr=np.where(answers, self.last_sr[rows], 0),
            delay=np.rint(np.clip(since * 65536, 0, 0xFFFFFFFF)).astype(np.int64),
        )
        reports = build_reports(sender, reception)
        return [
            report + self._description(row)
            for row, report in zip(rows.tolist(), reports, strict=True)
        ]

    def _description(self, row: int) -> bytes:
        """Return the SDES of a row, which stays the same."""
        known = self._descriptions.get(row)
        if known is None:
            ssrc, name = int(self._table.transmitter.ssrc[row]), self._table.cname.get(row, "")
            known = self._descriptions[row] = build_packet(source_description(ssrc, name))
        return known

    def _interval(self, *, initial: bool = False) -> float:
        return report_interval(deterministic_interval(initial=initial), self._random)
