"""RTCP of every row: when to report, what to say, and what the peer said of us (RFC 3550, 6)."""

from __future__ import annotations

from itertools import chain
from typing import ClassVar

import numpy as np

from voip.errors import RtpError
from voip.media.answers import EngineEvent, SsrcChanged, StreamEnded
from voip.media.clocks import Clocks
from voip.media.columns import Bools, ColumnSpec, Floats, Ints, Rows, make, reset, where
from voip.media.columns import grow as grow_columns
from voip.media.commands import ConnectStream, SendApp, SendXr
from voip.media.extras import Extras, delays_on
from voip.media.io import PacketIO
from voip.media.multiplex import Multiplexer
from voip.media.table import StreamTable
from voip.rtp import ntp
from voip.rtp.collision import Conflicts
from voip.rtp.report_batch import (
    ReceptionFigures,
    SenderFigures,
    build_reports,
    fractions_lost,
)
from voip.rtp.report_interval import (
    average_size,
    deterministic_interval,
    reconsider,
    report_interval,
)
from voip.rtp.rtcp import (
    App,
    Bye,
    ExtendedReport,
    ReceiverReport,
    ReportBlock,
    RtcpPacket,
    SenderReport,
    SourceDescription,
    build_packet,
    parse_compound,
    source_description,
)
from voip.types import Address, Random

__all__ = ["GONE_S", "Reporter"]

GONE_S = 5 * deterministic_interval()
"""A peer that has sent nothing for so long is gone (section 6.3.5)."""


_DATAGRAM_OCTETS = 28
"""What IPv4 and UDP add to a packet, whose size counts with them (section 6.3.3)."""
_REPORTING = 2
_ROUND_S = 0.050
"""Reports go out in rounds: the first of several costs ten times what the next one does, since the
processor has forgotten the way. What is random by seconds may be late by so much."""


class Reporter:
    """Sends and reads reports; its arrays have a row for each of the table's."""

    due: Floats
    last: Floats
    average: Floats
    left: Bools
    reduced: Bools
    asks: Bools
    sent: Ints
    received: Ints
    reports: Ints
    answers: Ints
    remote_lost: Floats
    remote_fraction: Floats
    remote_jitter_s: Floats
    round_trip_s: Floats
    sent_prior: Ints
    sent_before: Ints
    sr_ssrc: Ints
    last_sr: Ints
    last_sr_at: Floats
    heard: Ints
    heard_at: Floats

    COLUMNS: ClassVar[ColumnSpec] = {
        "due": (np.float64, np.inf, ()),
        "last": (np.float64, -np.inf, ()),  # when the last one went: tp of section 6.3
        "average": (np.float64, 128.0, ()),  # octets of packets of both sides (6.3.3)
        "left": (np.bool_, False, ()),  # the peer said BYE, and nothing since
        "reduced": (np.bool_, False, ()),  # packets without a report were agreed on (RFC 5506)
        "asks": (np.bool_, False, ()),  # for the round trip by XR, while nothing is sent
        "sent": (np.int64, 0, ()),  # RTCP packets of all SSRCs
        "received": (np.int64, 0, ()),
        "reports": (np.int64, 0, ()),  # sent so far by the present SSRC
        "sent_prior": (np.int64, 0, ()),  # RTP packets up to the last report
        "sent_before": (np.int64, 0, ()),  # and up to the one before
        "sr_ssrc": (np.int64, -1, ()),  # whose the peer's last SR is
        "last_sr": (np.int64, 0, ()),  # its NTP time, the middle 32 bits
        "last_sr_at": (np.float64, 0.0, ()),
        "heard": (np.int64, 0, ()),  # packets of the peer's since the last description
        "heard_at": (np.float64, -np.inf, ()),
        # what the peer has said of what we send: how often, and last; NaN where it said nothing
        "answers": (np.int64, 0, ()),
        "remote_lost": (np.float64, np.nan, ()),
        "remote_fraction": (np.float64, np.nan, ()),
        "remote_jitter_s": (np.float64, np.nan, ()),
        "round_trip_s": (np.float64, np.nan, ()),
    }

    def __init__(
        self, table: StreamTable, io: PacketIO, random: Random, multiplexer: Multiplexer
    ) -> None:
        make(self, table.active.size)
        self._table = table
        self._io = io
        self._random = random
        self.conflicts: dict[int, Conflicts] = {}
        """Of the rows whose SSRC has come from somebody else."""
        self.multiplexer = multiplexer
        self.extras = Extras()
        self.clocks = Clocks(table.receiver)
        self._descriptions: dict[int, bytes] = {}
        self._events: list[EngineEvent] = []
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

    def make_room(self) -> None:
        """Have as many rows as the table."""
        if self.due.size < self._table.active.size:
            grow_columns(self, self._table.active.size)

    def open(self, row: int) -> None:
        """Start a row afresh."""
        self.make_room()
        self._forget(row)

    def connect(self, row: int, command: ConnectStream, now: float) -> None:
        """Begin to report on a row whose peer is known, or described anew."""
        self.heard[row] = 0
        self.multiplexer.set(row, command.rtcp_mux)
        self.reduced[row] = command.rtcp_rsize
        self.asks[row] = command.rtcp_ask_round_trip
        if not np.isfinite(self.due[row]):
            self.last[row] = now
            self.due[row] = now + self._interval(row)

    def close(self, row: int, now: float) -> None:
        """Say BYE, if the peer has ever heard of us (section 6.3.7)."""
        self._say_bye(row, now)
        self._forget(row)

    def _forget(self, row: int) -> None:
        for part in (self.conflicts, self._descriptions):
            part.pop(row, None)
        self.extras.forget(row)
        self.clocks.open(row)
        reset(self, row)

    def queue(self, row: int, command: SendXr | SendApp) -> None:
        """Let APP or XR go with the row's next report, or soon where that was agreed on."""
        self.extras.queue(row, command)

    def overlook(self, row: int) -> None:
        """Let a packet that has just gone be none that makes us a sender (section 6.4)."""
        self.sent_prior[row] += 1
        self.sent_before[row] += 1

    def tick(self, now: float, wall: float) -> list[EngineEvent]:
        """Send the reports that are due; return what reports told."""
        if now >= self._next_round:
            self._next_round = now + _ROUND_S
            due = where(self.due <= now)
            if due.size:
                self._report(self._reconsidered(due, now), now, wall)
            for row in self.extras.rows:
                if self.reduced[row] and self.extras.may_go_early(row, now):
                    self._send(row, self._extra(row, now, wall))
            self.clocks.compare(now)
        events, self._events = self._events, []
        return events

    def _reconsidered(self, due: Rows, now: float) -> Rows:
        """Return those of the rows that are due that are to report after all (section 6.3.6)."""
        chosen = []
        for row in due.tolist():
            goes, when = reconsider(float(self.last[row]), self._interval(row), now)
            if not goes:
                self.due[row] = when
                continue
            self.last[row] = now
            self.due[row] = now + self._interval(row)
            if self._has_peer(row):
                chosen.append(row)
        return np.array(chosen, np.intp)

    def conflict(self, row: int, address: Address, now: float) -> None:
        """Take note that a packet with the row's own SSRC came from `address` (section 8.2).

        At a collision we say BYE and go on as another source. What comes back of our own is heard.
        """
        if not self.conflicts.setdefault(row, Conflicts()).is_new(address, now):
            return
        sender = self._table.transmitter
        before = int(sender.ssrc[row])
        goodbye = self._say_bye(row, now)
        ssrc = self._random.below(1 << 32)
        while ssrc in (before, int(self._table.receiver.ssrc[row])):
            ssrc = (ssrc + 1) % (1 << 32)
        self.conflicts[row].give_up(before, goodbye)
        sender.become(row, ssrc=ssrc, sequence=self._random.below(1 << 15))
        self._descriptions.pop(row, None)
        self.reports[row] = self.sent_prior[row] = self.sent_before[row] = 0
        self._events.append(SsrcChanged(int(self._table.stream[row]), before, ssrc))

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
            packets = parse_compound(payload, reduced_size=bool(self.reduced[row]))
        except RtpError:
            self._invalid += 1
            return
        ours = int(self._table.transmitter.ssrc[row])
        if self._is_ours(row, packets, payload):
            whence = stranger or self._whence(row)
            if ours in map(_source_of, packets) and whence is not None:
                self.conflict(row, whence, now)
            return
        if stranger is not None and not self._believe(row, packets, stranger):
            return
        self.heard[row] += 1
        self.received[row] += 1
        self.heard_at[row] = arrival
        self.left[row] &= any(isinstance(packet, Bye) for packet in packets)
        self.average[row] = average_size(self.average[row], len(payload) + _DATAGRAM_OCTETS)
        came = wall - (now - arrival)
        for packet in packets:
            match packet:
                case SenderReport():
                    self.sr_ssrc[row] = packet.ssrc
                    self.last_sr[row] = ntp.middle(packet.ntp)
                    self.last_sr_at[row] = arrival
                    self.clocks.take(row, packet)
                    self._read_blocks(row, ours, packet.blocks, came)
                case ReceiverReport():
                    self._read_blocks(row, ours, packet.blocks, came)
                case Bye() if int(self._table.receiver.ssrc[row]) in packet.ssrcs:
                    self._lose(row, packet.reason, now)
                case ExtendedReport() | App():
                    self._hear_extra(row, ours, packet, arrival, came)
                case _:
                    pass

    def _is_ours(self, row: int, packets: list[RtcpPacket], payload: bytes) -> bool:
        """Whether what came was said by us, now or before: it has come back, or collides."""
        ours = {int(self._table.transmitter.ssrc[row])}
        if row in self.conflicts:
            self.conflicts[row].came_back(payload)
            ours |= self.conflicts[row].were_ours(int(self._table.receiver.ssrc[row]))
        sources = chain(map(_source_of, packets[:1]), *map(_described_by, packets))
        return not ours.isdisjoint(sources)

    def _whence(self, row: int) -> Address | None:
        by_rtp = self.multiplexer.is_set(row)
        return (self._table.remote if by_rtp else self._table.rtcp_remote).get(row)

    def _lose(self, row: int, reason: str, now: float) -> None:
        """Take a BYE: one member less, and reports come sooner by that (section 6.3.4)."""
        self._events.append(StreamEnded(int(self._table.stream[row]), reason))
        if not self.left[row] and np.isfinite(self.due[row]):
            self.left[row] = True
            self.due[row] = now + (self.due[row] - now) / 2
            self.last[row] = now - (now - self.last[row]) / 2

    def _hear_extra(
        self, row: int, ours: int, packet: ExtendedReport | App, arrival: float, wall: float
    ) -> None:
        stream = int(self._table.stream[row])
        self._events += self.extras.hear(row, stream, packet, arrival)
        if not isinstance(packet, ExtendedReport):
            return
        for answer in delays_on(ours, packet.blocks):
            round_trip = ntp.round_trip(answer.last_reference, answer.delay, ntp.from_wall(wall))
            if round_trip is not None:
                self.answers[row] += 1
                self.round_trip_s[row] = round_trip

    def _believe(self, row: int, packets: list[RtcpPacket], stranger: Address) -> bool:
        table = self._table
        remote = table.remote.get(row)
        if self.multiplexer.is_set(row):
            return stranger == remote  # learned a moment ago
        if remote is None or remote.host != stranger.host or not packets:
            return False
        first = packets[0]
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
            round_trip = ntp.round_trip(
                block.last_sr, block.delay_since_last_sr, ntp.from_wall(wall)
            )
            self.answers[row] += 1
            self.remote_lost[row] = block.packets_lost
            self.remote_fraction[row] = block.fraction_lost / 256
            self.remote_jitter_s[row] = block.jitter / int(self._table.transmitter.clock[row])
            if round_trip is not None:
                self.round_trip_s[row] = round_trip

    def _report(self, rows: Rows, now: float, wall: float) -> None:
        """Send a compound packet for each of `rows` (k,): a report, and our CNAME (section 6.1)."""
        if not rows.size:
            return
        for row, packet in zip(rows.tolist(), self._compounds(rows, now, wall), strict=True):
            self._send(row, packet)

    def _say_bye(self, row: int, now: float) -> bytes:
        ssrc = int(self._table.transmitter.ssrc[row])
        spoke = self._table.transmitter.packets[row] > 0 or self.reports[row] > 0
        if spoke and self._has_peer(row):
            (report,) = self._compounds(np.array([row]), now, None)
            goodbye = report + build_packet(Bye((ssrc,)))
            self._send(row, goodbye)
            return goodbye
        return b""

    def _has_peer(self, row: int) -> bool:
        return self._whence(row) is not None

    def _send(self, row: int, packet: bytes) -> None:
        """Let RTCP go: all of it goes here."""
        self._io.send_one(row, packet, rtcp=True)
        self.sent[row] += 1
        self.average[row] = average_size(self.average[row], len(packet) + _DATAGRAM_OCTETS)

    def _extra(self, row: int, now: float, wall: float | None, *, ask: bool = False) -> bytes:
        ssrc = int(self._table.transmitter.ssrc[row])
        return self.extras.take(row, ssrc, now, wall, ask=ask)

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
        asks = (self.asks[rows] & ~sender.sent).tolist()
        return [
            report + self._description(row) + self._extra(row, now, wall, ask=ask)
            for row, report, ask in zip(rows.tolist(), reports, asks, strict=True)
        ]

    def _description(self, row: int) -> bytes:
        """Return the SDES of a row, which stays the same."""
        known = self._descriptions.get(row)
        if known is None:
            ssrc, name = int(self._table.transmitter.ssrc[row]), self._table.cname.get(row, "")
            known = self._descriptions[row] = build_packet(source_description(ssrc, name))
        return known

    def _interval(self, row: int) -> float:
        """Draw an interval for a row (section 6.3.1), as long as its packets are of late."""
        others = int(
            not self.left[row] and (self.heard[row] > 0 or self._table.receiver.ssrc[row] >= 0)
        )
        we_sent = bool(self._table.transmitter.packets[row] > self.sent_before[row])
        interval = deterministic_interval(
            members=1 + others,
            senders=int(we_sent) + others,
            we_sent=we_sent,
            average_octets=float(self.average[row]),
            initial=self.reports[row] == 0,
        )
        return report_interval(interval, self._random)


def _source_of(packet: RtcpPacket) -> int:
    """Return whom a packet is from; -1: it is about many."""
    return -1 if isinstance(packet, SourceDescription | Bye) else packet.ssrc


def _described_by(packet: RtcpPacket) -> list[int]:
    """Return whom a packet describes, or says goodbye for."""
    match packet:
        case SourceDescription(chunks):
            return [chunk.ssrc for chunk in chunks]
        case Bye(ssrcs):
            return list(ssrcs)
    return []
