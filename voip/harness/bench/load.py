"""The other side of the benchmark: many calls from one process, for very little CPU.

Every call has a phase of its own within the 20 ms. Its packets are delayed by up to 10 ms (5 ms
either way of the mean), 1 % of them are never sent, and 1 % are sent after their successor. Calls
share a few sockets, so that a millisecond's packets leave in a few system calls; the engine's side
has two sockets for each call, as in life.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from voip.errors import MediaError
from voip.harness.bench.batch_socket import BatchSocket
from voip.harness.bench.echo_check import EchoVerdict, check_echo
from voip.harness.bench.load_keys import LoadKeys
from voip.harness.bench.media_codecs import frames_of, payload_format
from voip.net.drops import socket_drops
from voip.rtp import ntp
from voip.rtp.rtcp import (
    ReportBlock,
    SenderReport,
    build_compound,
    parse_compound,
    source_description,
)

__all__ = ["CHECKED_CALLS", "Load", "LoadReport"]

FRAME_MS = 20
CALLS_PER_SOCKET = 250
JITTER_MS = 5
LOSS = 0.01
REORDERING = 0.01
MAX_BEHIND_MS = 5000.0
REORDER_MS = 2 * JITTER_MS + FRAME_MS + 2
"""Delays a packet beyond its successor, however late that is."""
CHECKED_CALLS = 10
REPORT_INTERVAL_MS = 5000
REPORTS_EACH_MS = 10
"""Peers do not report all at once."""
_SPEECH_FRAMES = 3000  # a minute, every call beginning at another place of it
_HEADER_BYTES = 12
_CALENDAR_MS = 64  # longer than any delay
_KEPT_FRAMES = 4  # of which packets may still have to leave


@dataclass(slots=True)
class LoadReport:
    """What the load did and saw."""

    sent: int = 0
    withheld: int = 0  # lost on purpose
    reordered: int = 0
    seen: int = 0  # RTP of the engine's
    seen_missing: int = 0  # numbers missing in it, and numbers seen twice
    reports_sent: int = 0
    reports_seen: int = 0
    kernel_drops: int = 0
    behind_ms_max: float = 0.0  # how late the load itself was at worst
    payloads: EchoVerdict = field(default_factory=EchoVerdict)


class Load:
    """`calls` calls towards the RTP and RTCP ports of an engine on 127.0.0.1.

    srtp: the suite they are protected by, for payloads of one length; None: they are not.
    """

    def __init__(self, calls: int, seed: int, codec: str = "pcmu", srtp: str | None = None) -> None:
        self.report = LoadReport()
        self._calls = calls
        self._random = np.random.default_rng(seed)
        self._seed = seed
        self._payload_type = payload_format(codec).payload_type
        groups = -(-calls // CALLS_PER_SOCKET)
        frames = frames_of(codec, _SPEECH_FRAMES, seed)
        self._frames, self._octets, self._span = frames.payloads, frames.octets, frames.span
        self._keys = LoadKeys(srtp, calls) if srtp else None
        tag_bytes = self._keys.tag_bytes if self._keys else 0
        packet_bytes = _HEADER_BYTES + self._frames.shape[1] + tag_bytes
        width = max(256, packet_bytes)
        self._rtp = [BatchSocket(width=width) for _ in range(groups)]
        self._lengths = np.zeros((_KEPT_FRAMES, calls), np.int64)
        self._comes_back = codec == "pcmu"  # byte for byte
        self._rtcp = [BatchSocket() for _ in range(groups)]
        self._phase_ms = np.arange(calls) * FRAME_MS // calls
        self._begin = self._random.integers(0, _SPEECH_FRAMES, calls)
        self._ssrc = self._random.integers(1, 1 << 32, calls, dtype=np.uint32)
        self._sequence = self._random.integers(0, 1 << 15, calls)
        self._timestamp = self._random.integers(0, 1 << 31, calls)
        self._packets = np.zeros((_KEPT_FRAMES, calls, packet_bytes), np.uint8)
        self._packets[:, :, 0] = 0x80
        self._packets[:, :, 8:12] = _big_endian(self._ssrc, ">u4")
        self._ports = np.zeros((calls, 2), np.uint16)  # of the engine
        self._call_of_report_port: dict[int, int] = {}
        self._reports: dict[int, tuple[SenderReport, float]] = {}  # the engine's last, and when
        self._call_of_port = np.full(65536, -1, np.int64)
        self._calendar: list[list[npt.NDArray[np.int64]]] = [[] for _ in range(_CALENDAR_MS)]
        self._tick = 0  # milliseconds since the start
        self._sent_packets = 0
        # of the engine's sequence numbers; it begins low enough not to go round in 10 minutes
        self._first = np.full(calls, 1 << 16, np.int64)
        self._last = np.full(calls, -1, np.int64)
        self._seen = np.zeros(calls, np.int64)
        self._checked = {int(call) for call in np.linspace(0, calls - 1, CHECKED_CALLS)}
        self._is_checked = np.zeros(calls, np.bool_)
        self._is_checked[list(self._checked)] = True
        self._disturbed: dict[int, set[int]] = {call: set() for call in self._checked}
        self._heard: dict[int, list[tuple[int, int, bytes]]] = {c: [] for c in self._checked}

    def addresses(self) -> list[tuple[int, int]]:
        """Return the RTP and RTCP port of every call, on this side."""
        groups = [call // CALLS_PER_SOCKET for call in range(self._calls)]
        return [(self._rtp[group].port, self._rtcp[group].port) for group in groups]

    def connect(self, ports: list[tuple[int, int]]) -> None:
        """Learn the engine's RTP and RTCP ports."""
        self._ports[:] = ports
        self._call_of_port[self._ports[:, 0]] = np.arange(self._calls)
        self._call_of_report_port = {rtcp: call for call, (_, rtcp) in enumerate(ports)}

    # ------------------------------------------------------------ running

    def run(self, seconds: float) -> None:
        """Send and receive for so long; raises `MediaError` when that is too much for us."""
        begun = time.monotonic()
        for step in range(round(seconds * 1000)):
            remaining = begun + step / 1000 - time.monotonic()
            if remaining > 0:
                time.sleep(remaining)
            behind_ms = -1000 * remaining
            self.report.behind_ms_max = max(self.report.behind_ms_max, behind_ms)
            if behind_ms > MAX_BEHIND_MS:
                raise MediaError(
                    f"this machine is too slow to play the other side of {self._calls} calls",
                    hint="measure fewer calls, or when nothing else runs",
                )
            self._send_step(late=behind_ms > JITTER_MS)
            self._receive()

    def listen(self, seconds: float) -> None:
        """Receive only, for so long, or what there is."""
        until = time.monotonic() + seconds
        self._receive()
        while time.monotonic() < until:
            time.sleep(0.001)
            self._receive()

    def _send_step(self, *, late: bool) -> None:
        now = self._tick
        if now % FRAME_MS == 0:
            self._plan(now // FRAME_MS)
        due = self._calendar[now % _CALENDAR_MS]
        if due:
            packets = np.concatenate(due)
            if late:  # more than the jitter buffer was promised
                self._disturb(packets)
            self._send(packets)
            due.clear()
        if now % REPORTS_EACH_MS == 0:
            self._send_reports(now)
        self._tick += 1

    def _plan(self, frame: int) -> None:
        """Write packet number `frame` of every call, and decide when it leaves, if it does."""
        self._write(frame)
        delay = self._random.integers(0, 2 * JITTER_MS + 1, self._calls)
        chance = self._random.random(self._calls)
        lost = chance < LOSS
        reordered = ~lost & (chance < LOSS + REORDERING)
        delay[reordered] = REORDER_MS + self._random.integers(0, 5, int(reordered.sum()))
        self.report.withheld += int(lost.sum())
        self.report.reordered += int(reordered.sum())
        packets = frame * self._calls + np.arange(self._calls)  # packet and call in one number
        self._disturb(packets[lost | reordered])
        at = (self._tick + self._phase_ms + delay) % _CALENDAR_MS
        for slot in np.unique(at[~lost]):
            self._calendar[slot].append(packets[(at == slot) & ~lost])

    def _disturb(self, packets: npt.NDArray[np.int64]) -> None:
        """Remember, for the calls that are checked, what arrives late or not at all."""
        frame, call = np.divmod(packets, self._calls)
        for position in np.flatnonzero(self._is_checked[call]):
            self._disturbed[int(call[position])].add(int(frame[position]))

    def _write(self, frame: int) -> None:
        """Write packet number `frame` of every call."""
        data = self._packets[frame % _KEPT_FRAMES]
        data[:, 1] = self._payload_type | (0x80 if frame == 0 else 0)  # a talkspurt begins
        data[:, 2:4] = _big_endian(self._sequence + frame, ">u2")
        data[:, 4:8] = _big_endian(self._timestamp + frame * self._span, ">u4")
        which = (self._begin + frame) % _SPEECH_FRAMES
        octets = self._octets[which]
        data[:, _HEADER_BYTES : _HEADER_BYTES + self._frames.shape[1]] = self._frames[which]
        if self._keys is not None:
            self._keys.protect(data)
            octets = octets + self._keys.tag_bytes
        self._lengths[frame % _KEPT_FRAMES] = _HEADER_BYTES + octets

    def _send(self, packets: npt.NDArray[np.int64]) -> None:
        frame, call = np.divmod(packets, self._calls)
        data = self._packets[frame % _KEPT_FRAMES, call]
        lengths = self._lengths[frame % _KEPT_FRAMES, call]
        ports = self._ports[call, 0]
        group = call // CALLS_PER_SOCKET
        for number, one in enumerate(self._rtp):
            here = np.flatnonzero(group == number)
            if here.size:
                self.report.sent += one.send(data[here], ports[here], lengths[here])

    def _send_reports(self, now: int) -> None:
        """Send the sender reports of those calls whose turn it is: one per call every 5 s."""
        turns = REPORT_INTERVAL_MS // REPORTS_EACH_MS
        for call in range(now // REPORTS_EACH_MS % turns, self._calls, turns):
            frame = now // FRAME_MS
            report = SenderReport(
                ssrc=int(self._ssrc[call]),
                ntp=ntp.from_wall(time.time()),
                rtp_timestamp=int(self._timestamp[call] + frame * self._span) & 0xFFFFFFFF,
                packet_count=frame,
                octet_count=frame * int(self._octets[0]),
                blocks=self._block(call),
            )
            compound = build_compound(
                [report, source_description(int(self._ssrc[call]), f"load-{call}")]
            )
            if self._keys is not None:
                compound = self._keys.protect_report(call, compound)
            packet = np.frombuffer(compound, np.uint8).reshape(1, -1)
            ports = self._ports[call : call + 1, 1]
            self.report.reports_sent += self._rtcp[call // CALLS_PER_SOCKET].send(packet, ports)

    # ------------------------------------------------------------ receiving

    def _receive(self) -> None:
        for one in self._rtp:
            while self._receive_from(one):
                pass
        if self._tick % 10 == 0:
            for one in self._rtcp:
                self._receive_reports(one)

    def _receive_from(self, one: BatchSocket) -> bool:
        """Take what one socket has; False when that was not a full batch."""
        data, lengths, ports = one.receive()
        if not lengths.size:
            return False
        call = self._call_of_port[ports]
        sequence = data[:, 2].astype(np.int64) << 8 | data[:, 3]
        np.add.at(self._seen, call, 1)
        self.report.seen += int(call.size)
        np.minimum.at(self._first, call, sequence)
        np.maximum.at(self._last, call, sequence)
        for position in np.flatnonzero(self._is_checked[call]):
            packet = data[position, : lengths[position]].tobytes()
            if self._keys is not None:
                packet = self._keys.unprotect(int(call[position]), packet, rtcp=False)
            timestamp = int.from_bytes(packet[4:8])
            entry = (int(sequence[position]), timestamp, packet[_HEADER_BYTES:])
            self._heard[int(call[position])].append(entry)
        return lengths.size == one.slots

    def _receive_reports(self, one: BatchSocket) -> None:
        """Note the engine's sender reports: ours answer them, so that it learns its round trip."""
        data, lengths, ports = one.receive()
        for packet, length, port in zip(data, lengths.tolist(), ports.tolist(), strict=True):
            call = self._call_of_report_port.get(port)
            if call is None:
                continue
            self.report.reports_seen += 1
            compound = packet[:length].tobytes()
            if self._keys is not None:
                compound = self._keys.unprotect(call, compound, rtcp=True)
            for part in parse_compound(compound):
                if isinstance(part, SenderReport):
                    self._reports[call] = (part, time.monotonic())

    def _block(self, call: int) -> tuple[ReportBlock, ...]:
        if call not in self._reports:
            return ()
        report, heard = self._reports[call]
        return (
            ReportBlock(
                ssrc=report.ssrc,
                fraction_lost=0,
                packets_lost=0,
                highest_sequence=int(self._last[call]),
                jitter=0,
                last_sr=ntp.middle(report.ntp),
                delay_since_last_sr=round((time.monotonic() - heard) * 65536),
            ),
        )

    # ------------------------------------------------------------ the end

    def finish(self) -> LoadReport:
        """Judge what was heard, close everything, and return the report."""
        heard = self._seen > 0
        span = (self._last - self._first)[heard] + 1
        self.report.seen_missing = int(np.abs(span - self._seen[heard]).sum())
        frames = -(-self._tick // FRAME_MS)
        for call in self._checked if self._comes_back else ():
            rows = (self._begin[call] + np.arange(frames)) % _SPEECH_FRAMES
            packets = [(timestamp, payload) for _, timestamp, payload in sorted(self._heard[call])]
            verdict = check_echo(self._frames[rows], self._disturbed[call], packets)
            self.report.payloads = self.report.payloads.plus(verdict)
        for one in (*self._rtp, *self._rtcp):
            self.report.kernel_drops += socket_drops(one.sock)
            one.close()
        return self.report


def _big_endian(values: npt.NDArray[Any], kind: str) -> npt.NDArray[np.uint8]:
    """Return integers as bytes, uint8 (n, width of `kind`), modulo its range."""
    width = np.dtype(kind).itemsize
    reduced = (values.astype(np.uint64) & np.uint64((1 << 8 * width) - 1)).astype(kind)
    return reduced.view(np.uint8).reshape(-1, width)
