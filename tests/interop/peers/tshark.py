"""tshark, the dissector: what it makes of the RTP in a capture, by the SDP that is there."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

STREAM = re.compile(
    r"^ *[\d.]+ +[\d.]+ +\S+ +(?P<port>\d+) +\S+ +\d+ +(?P<ssrc>0x[0-9A-F]+) +(?P<names>\S.*?) +"
    r"\d+ +(?P<lost>-?\d+) \(",
    re.MULTILINE,
)


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
    ssrc: str
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
    found: dict[tuple[int, str], list[RtpPacket]] = {}
    fields = ("udp.srcport", "rtp.ssrc", "rtp.p_type", "rtp.seq", "rtp.timestamp", "rtp.marker")
    shown = [word for name in (*fields, "udp.length") for word in ("-e", name)]
    for line in _tshark(capture, "-Y", "rtp", "-T", "fields", *shown).splitlines():
        port, ssrc, kind, sequence, timestamp, marker, length = line.split("\t")
        packet = RtpPacket(
            int(kind), int(sequence), int(timestamp), marker in ("1", "True"), int(length) - 20
        )
        found.setdefault((int(port), ssrc.upper().replace("0X", "0x")), []).append(packet)
    names: dict[tuple[int, str], tuple[str, int]] = {}
    for match in STREAM.finditer(_tshark(capture, "-q", "-z", "rtp,streams")):
        key = int(match["port"]), match["ssrc"]
        before = names.get(key, ("", 0))
        names[key] = before[0] or match["names"], before[1] + int(match["lost"])
    return [
        RtpStream(port, ssrc, *names[port, ssrc], tuple(packets))
        for (port, ssrc), packets in found.items()
    ]


def event_durations(capture: Path, ports: range) -> list[int]:
    """How long the digits (RFC 4733) that left `ports` lasted, in units of their clock."""
    fields = ("-e", "rtp.timestamp", "-e", "rtpevent.duration")
    ended = f"rtpevent.end_of_event == 1 && udp.srcport >= {ports.start}"
    ended += f" && udp.srcport < {ports.stop}"
    lines = _tshark(capture, "-Y", ended, "-T", "fields", *fields).splitlines()
    by_digit = dict(line.split("\t") for line in lines)
    return [int(duration) for duration in by_digit.values()]


def _tshark(capture: Path, *options: str) -> str:
    done = subprocess.run(
        ["tshark", "-r", str(capture), *options], capture_output=True, text=True, check=True
    )
    return done.stdout
