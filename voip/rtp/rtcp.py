"""RTCP of RFC 3550: compound packets read and built, and the figures that go into them.

SR, RR, SDES, BYE, APP and XR; time stamps are `ntp.py`, the blocks of XR `xr.py`, when to send is
`report_interval.py`.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from voip.errors import RtpError
from voip.rtp.xr import XrBlock, build_blocks, parse_blocks

__all__ = [
    "LEAST_LOST",
    "MAX_PACKETS",
    "MAX_REPORT_BLOCKS",
    "MOST_LOST",
    "RR",
    "RTCP_TYPES",
    "SR",
    "App",
    "Bye",
    "ExtendedReport",
    "ReceiverReport",
    "ReportBlock",
    "RtcpPacket",
    "SdesChunk",
    "SdesType",
    "SenderReport",
    "SourceDescription",
    "build_compound",
    "build_packet",
    "parse_compound",
    "source_description",
]

MAX_PACKETS = 64
"""How many RTCP packets one datagram may hold."""
MAX_REPORT_BLOCKS = 31
"""How many report blocks one SR or RR can hold: its count has five bits."""

SR, RR, _SDES, _BYE, _APP, _XR = 200, 201, 202, 203, 204, 207
RTCP_TYPES = range(192, 224)
"""Second octets that make a packet RTCP on a port that takes RTP, too (RFC 5761, section 4)."""
LEAST_LOST, MOST_LOST = -0x800000, 0x7FFFFF
"""What the 24 bits of a cumulative number of packets lost hold (section 6.4.1)."""
_HEADER = struct.Struct("!BBH")
_SENDER = struct.Struct("!IQIII")
_BLOCK = struct.Struct("!IIIIII")


class SdesType(IntEnum):
    """Numbers of SDES items (RFC 3550, section 6.5)."""

    CNAME = 1
    NAME = 2
    EMAIL = 3
    PHONE = 4
    LOC = 5
    TOOL = 6
    NOTE = 7
    PRIV = 8


# ---------------------------------------------------------------- packets


@dataclass(frozen=True, slots=True)
class ReportBlock:
    """How a source was received (section 6.4.1).

    `fraction_lost` in 1/256 since the last report; `packets_lost` signed, 24 bits, since the
    beginning; `jitter` in timestamp units; `last_sr` and `delay_since_last_sr` in 1/65536 s.
    """

    ssrc: int
    fraction_lost: int
    packets_lost: int
    highest_sequence: int
    jitter: int
    last_sr: int = 0
    delay_since_last_sr: int = 0


@dataclass(frozen=True, slots=True)
class SenderReport:
    """SR: what was sent until the instant that is both `ntp` and `rtp_timestamp`."""

    ssrc: int
    ntp: int
    rtp_timestamp: int
    packet_count: int
    octet_count: int
    blocks: tuple[ReportBlock, ...] = ()


@dataclass(frozen=True, slots=True)
class ReceiverReport:
    """RR: reports of one who has not sent lately."""

    ssrc: int
    blocks: tuple[ReportBlock, ...] = ()


@dataclass(frozen=True, slots=True)
class SdesChunk:
    """The items (type, text) that describe one source."""

    ssrc: int
    items: tuple[tuple[int, str], ...]

    @property
    def cname(self) -> str | None:
        """The canonical name, if there is one."""
        return next((text for kind, text in self.items if kind == SdesType.CNAME), None)


@dataclass(frozen=True, slots=True)
class SourceDescription:
    """SDES: who the sources are."""

    chunks: tuple[SdesChunk, ...]


@dataclass(frozen=True, slots=True)
class Bye:
    """BYE: the sources that leave, and why."""

    ssrcs: tuple[int, ...]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class App:
    """APP: what applications tell each other (section 6.7).

    name: four octets of ASCII; subtype: 0 to 31; data: a whole number of 32-bit words.
    """

    ssrc: int
    name: bytes
    data: bytes = b""
    subtype: int = 0


@dataclass(frozen=True, slots=True)
class ExtendedReport:
    """XR: further figures (RFC 3611)."""

    ssrc: int
    blocks: tuple[XrBlock, ...]


RtcpPacket = SenderReport | ReceiverReport | SourceDescription | Bye | App | ExtendedReport


def source_description(ssrc: int, cname: str) -> SourceDescription:
    """Return the SDES every compound packet needs: the CNAME of `ssrc` (section 6.1)."""
    return SourceDescription((SdesChunk(ssrc, ((SdesType.CNAME, cname),)),))


# ---------------------------------------------------------------- reading


def parse_compound(data: bytes, *, reduced_size: bool = False) -> list[RtcpPacket]:
    """Read one datagram; types unknown here are checked for length and left out.

    Raises RtpError for what fails the checks of appendix A.2 or contradicts its own lengths;
    `reduced_size` drops the demand that an SR or RR comes first (RFC 5506).
    """
    if len(data) < (4 if reduced_size else 8):  # BYE of nobody
        raise RtpError(f"RTCP of {len(data)} octets is too short")
    packets: list[RtcpPacket] = []
    offset = 0
    for _ in range(MAX_PACKETS):
        first, kind, words = _HEADER.unpack_from(data, offset)
        end = offset + 4 * (words + 1)
        if first >> 6 != 2:
            raise RtpError(f"RTCP version {first >> 6}, not 2")
        if offset == 0 and kind not in (SR, RR) and not reduced_size:
            raise RtpError(f"compound RTCP begins with type {kind}, not with SR or RR")
        if end > len(data):
            raise RtpError("RTCP packet is longer than its datagram")
        body = data[offset + 4 : end]
        if first & 0x20:
            if end != len(data):
                raise RtpError("RTCP padding before the last packet")
            body = _without_padding(body)
        if (packet := _parse_packet(kind, first & 0x1F, body)) is not None:
            packets.append(packet)
        if end == len(data):
            return packets
        if end + 4 > len(data):
            raise RtpError("RTCP lengths do not add up to the datagram")
        offset = end
    raise RtpError(f"more than {MAX_PACKETS} RTCP packets in one datagram")


def _without_padding(body: bytes) -> bytes:
    padding = body[-1] if body else 0
    if padding == 0 or padding % 4 or padding > len(body):
        raise RtpError(f"RTCP padding of {padding} octets in a packet of {len(body) + 4}")
    return body[:-padding]


def _parse_packet(kind: int, count: int, body: bytes) -> RtcpPacket | None:
    if kind == SR:
        if len(body) < _SENDER.size:
            raise RtpError("RTCP SR without sender information")
        ssrc, ntp, timestamp, packets, octets = _SENDER.unpack_from(body)
        blocks = _parse_blocks(count, body, _SENDER.size)
        return SenderReport(ssrc, ntp, timestamp, packets, octets, blocks)
    if kind == RR:
        return ReceiverReport(_ssrc(body, 0), _parse_blocks(count, body, 4))
    if kind == _SDES:
        return _parse_sdes(count, body)
    if kind == _BYE:
        return _parse_bye(count, body)
    if kind == _APP:
        return App(_ssrc(body, 0), _app_name(body), body[8:], count)
    if kind == _XR:
        return ExtendedReport(_ssrc(body, 0), parse_blocks(body[4:]))
    return None


def _app_name(body: bytes) -> bytes:
    if len(body) < 8:
        raise RtpError("RTCP APP without a name")
    return body[4:8]


def _ssrc(body: bytes, offset: int) -> int:
    if offset + 4 > len(body):
        raise RtpError("RTCP packet ends before its SSRC")
    return int.from_bytes(body[offset : offset + 4], "big")


def _parse_blocks(count: int, body: bytes, offset: int) -> tuple[ReportBlock, ...]:
    end = offset + count * _BLOCK.size
    if end > len(body):
        raise RtpError(f"RTCP report has no room for its {count} blocks")
    blocks = []
    for ssrc, loss, highest, jitter, last_sr, delay in _BLOCK.iter_unpack(body[offset:end]):
        lost = loss & 0xFFFFFF
        signed = lost - (1 << 24) if lost & 0x800000 else lost
        blocks.append(ReportBlock(ssrc, loss >> 24, signed, highest, jitter, last_sr, delay))
    return tuple(blocks)


def _parse_sdes(count: int, body: bytes) -> SourceDescription:
    chunks = []
    offset = 0
    for _ in range(count):
        ssrc = _ssrc(body, offset)
        offset += 4
        items = []
        while offset < len(body) and body[offset] != 0:
            text_end = offset + 2 + (body[offset + 1] if offset + 1 < len(body) else len(body))
            if text_end > len(body):
                raise RtpError("RTCP SDES item is longer than its packet")
            items.append((body[offset], _text(body[offset + 2 : text_end])))
            offset = text_end
        if offset >= len(body):
            raise RtpError("RTCP SDES chunk without its end")
        offset = (offset // 4 + 1) * 4
        chunks.append(SdesChunk(ssrc, tuple(items)))
    return SourceDescription(tuple(chunks))


def _parse_bye(count: int, body: bytes) -> Bye:
    ssrcs = tuple(_ssrc(body, 4 * n) for n in range(count))
    rest = body[4 * count :]
    if not rest:
        return Bye(ssrcs)
    if rest[0] >= len(rest):
        raise RtpError("RTCP BYE reason is longer than its packet")
    return Bye(ssrcs, _text(rest[1 : 1 + rest[0]]))


def _text(octets: bytes) -> str:
    return octets.decode("utf-8", "replace")


# ---------------------------------------------------------------- building


def build_compound(packets: Sequence[RtcpPacket], *, reduced_size: bool = False) -> bytes:
    """Build one datagram.

    Raises RtpError where it would not begin with a report, which `reduced_size` allows (RFC 5506),
    or a value does not fit its field.
    """
    reports = SenderReport | ReceiverReport
    if not packets or not (reduced_size or isinstance(packets[0], reports)):
        raise RtpError("compound RTCP must begin with SR or RR")
    try:
        return b"".join(map(build_packet, packets))
    except struct.error as error:
        raise RtpError(f"RTCP value does not fit its field: {error}") from None


def build_packet(packet: RtcpPacket) -> bytes:
    """Build one packet, a part of a compound one. Raises RtpError or struct.error."""
    match packet:
        case SenderReport(ssrc, ntp, timestamp, sent, octets, blocks):
            sender = _SENDER.pack(ssrc, ntp, timestamp, sent, octets)
            return _framed(SR, len(blocks), sender + _build_blocks(blocks))
        case ReceiverReport(ssrc, blocks):
            return _framed(RR, len(blocks), struct.pack("!I", ssrc) + _build_blocks(blocks))
        case SourceDescription(chunks):
            return _framed(_SDES, len(chunks), b"".join(map(_build_chunk, chunks)))
        case Bye(ssrcs, reason):
            body = struct.pack(f"!{len(ssrcs)}I", *ssrcs)
            return _framed(_BYE, len(ssrcs), _padded(body + _counted(reason) if reason else body))
        case App(ssrc, name, data, subtype):
            if len(name) != 4 or len(data) % 4:
                raise RtpError(
                    f"RTCP APP {name!r} with {len(data)} octets",
                    hint="a name of four octets, and data in words of four",
                )
            return _framed(_APP, subtype, struct.pack("!I", ssrc) + name + data)
        case ExtendedReport(ssrc, xr_blocks):
            return _framed(_XR, 0, struct.pack("!I", ssrc) + build_blocks(xr_blocks))


def _framed(kind: int, count: int, body: bytes) -> bytes:
    if not 0 <= count <= 31:
        raise RtpError(f"{count} entries do not fit one RTCP packet", hint="at most 31")
    return _HEADER.pack(2 << 6 | count, kind, len(body) // 4) + body


def _build_blocks(blocks: tuple[ReportBlock, ...]) -> bytes:
    return b"".join(
        _BLOCK.pack(
            block.ssrc,
            _octet(block.fraction_lost) << 24 | _clamp24(block.packets_lost) & 0xFFFFFF,
            block.highest_sequence,
            block.jitter,
            block.last_sr,
            block.delay_since_last_sr,
        )
        for block in blocks
    )


def _build_chunk(chunk: SdesChunk) -> bytes:
    if any(kind == 0 for kind, _ in chunk.items):
        raise RtpError("RTCP SDES item type 0 would end its chunk")
    items = b"".join(bytes([_octet(kind)]) + _counted(text) for kind, text in chunk.items)
    return _padded(struct.pack("!I", chunk.ssrc) + items + b"\0")


def _counted(text: str) -> bytes:
    octets = text.encode()
    if len(octets) > 255:
        raise RtpError(f"RTCP text of {len(octets)} octets", hint="at most 255")
    return bytes([len(octets)]) + octets


def _padded(octets: bytes) -> bytes:
    return octets + bytes(-len(octets) % 4)


def _octet(value: int) -> int:
    if not 0 <= value <= 255:
        raise RtpError(f"RTCP value {value} does not fit an octet")
    return value


def _clamp24(value: int) -> int:
    return max(LEAST_LOST, min(MOST_LOST, value))
