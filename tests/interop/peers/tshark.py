"""tshark, the dissector: what it makes of the RTP in a capture, by the SDP that is there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dissector import fields, streams


@dataclass(frozen=True, slots=True)
class RtpPacket:
    """A packet as tshark reads it: `octets` of payload; the timestamp in units of its clock."""

    payload_type: int
    sequence: int
    timestamp: int
    marker: bool
    octets: int


@dataclass(frozen=True, slots=True)
class RtpStream:
    """All packets of one SSRC that left one port, and what tshark calls what is in them."""

    port: int
    ssrc: int
    name: str
    lost: int
    packets: tuple[RtpPacket, ...]

    @property
    def sizes(self) -> set[int]:
        """Octets of the payloads."""
        return {packet.octets for packet in self.packets}

    def ticks(self) -> set[tuple[int, int]]:
        """For each two packets in sequence: octets of the first, and how far the timestamps are."""
        pairs = zip(self.packets, self.packets[1:], strict=False)
        return {
            (one.octets, next_.timestamp - one.timestamp)
            for one, next_ in pairs
            if next_.sequence == one.sequence + 1 and not next_.marker
        }


def rtp_streams(capture: Path) -> list[RtpStream]:
    """The streams of a capture in which their session descriptions are, too."""
    found: dict[tuple[int, int], list[RtpPacket]] = {}
    columns = ("udp.srcport", "rtp.ssrc", "rtp.p_type", "rtp.seq", "rtp.timestamp", "rtp.marker")
    for row in fields(capture, *columns, "udp.length", options=("-Y", "rtp")):
        port, ssrc, kind, sequence, timestamp, marker, length = (int(one, 0) for one in row)
        packet = RtpPacket(kind, sequence, timestamp, marker == 1, length - 20)
        found.setdefault((port, ssrc), []).append(packet)
    names: dict[tuple[int, int], tuple[str, int]] = {}
    for one in streams(capture):
        before = names.get((one.port, one.ssrc), ("", 0))
        names[one.port, one.ssrc] = before[0] or one.codec, before[1] + one.lost
    return [
        RtpStream(port, ssrc, *names[port, ssrc], tuple(packets))
        for (port, ssrc), packets in found.items()
    ]


def event_durations(capture: Path, ports: range) -> list[int]:
    """How long the digits (RFC 4733) that left `ports` lasted, in units of their clock."""
    ended = f"rtpevent.end_of_event == 1 && udp.srcport >= {ports.start}"
    ended += f" && udp.srcport < {ports.stop}"
    rows = fields(capture, "rtp.timestamp", "rtpevent.duration", options=("-Y", ended))
    by_digit = {timestamp: int(duration) for timestamp, duration in rows}
    return list(by_digit.values())
