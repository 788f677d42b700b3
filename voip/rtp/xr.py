"""RTCP extended reports (XR, RFC 3611): report blocks of every type, read and built.

`rtcp.py` frames them into packets; runs of lost or duplicated packets (section 4.1) are packed and
unpacked here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from enum import IntEnum

from voip.errors import RtpError

__all__ = [
    "MAX_BLOCKS",
    "MAX_RUNS",
    "UNAVAILABLE",
    "DelaySinceReference",
    "ReceiptTimes",
    "ReferenceDelay",
    "ReferenceTime",
    "RunLengths",
    "StatisticsSummary",
    "UnknownBlock",
    "VoipMetrics",
    "XrBlock",
    "XrType",
    "build_blocks",
    "pack_runs",
    "parse_blocks",
    "unpack_runs",
]

UNAVAILABLE = 127
"""What several fields of VoIP metrics hold where nothing is known (section 4.7)."""
MAX_BLOCKS = 64
"""How many blocks one packet may hold."""
MAX_RUNS = 65_534
"""How many packets a block of runs may tell of (section 4.1)."""
_MAX_RUN = (1 << 14) - 1
_VECTOR_BITS = 15

_BLOCK = struct.Struct("!BBH")
_SPAN = struct.Struct("!IHH")
_REFERENCE = struct.Struct("!Q")
_DELAY = struct.Struct("!III")
_SUMMARY = struct.Struct("!IHHIIIIIIBBBB")
_METRICS = struct.Struct("!IBBBBHHHHbbBBBBBBBxHHH")


class XrType(IntEnum):
    """Numbers of report blocks (section 4)."""

    LOSS_RLE = 1
    DUPLICATE_RLE = 2
    RECEIPT_TIMES = 3
    REFERENCE_TIME = 4
    DELAY_SINCE_REFERENCE = 5
    STATISTICS_SUMMARY = 6
    VOIP_METRICS = 7


# ---------------------------------------------------------------- blocks


@dataclass(frozen=True, slots=True)
class RunLengths:
    """Which packets of `ssrc` came (4.1), or came once only (4.2, `duplicates`).

    Of those numbered `begin` up to, and without, `end`, every 2^`thinning`th; `chunks`, each of 16
    bits, as `pack_runs` makes them: 1 is received, or not duplicated.
    """

    ssrc: int
    begin: int
    end: int
    chunks: tuple[int, ...]
    thinning: int = 0
    duplicates: bool = False


@dataclass(frozen=True, slots=True)
class ReceiptTimes:
    """When packets came, in RTP timestamp units (4.3); span and thinning as in `RunLengths`."""

    ssrc: int
    begin: int
    end: int
    times: tuple[int, ...]
    thinning: int = 0


@dataclass(frozen=True, slots=True)
class ReferenceTime:
    """Receiver reference time (4.4): the sender's 64-bit NTP time; 0: when it is sent."""

    ntp: int = 0


@dataclass(frozen=True, slots=True)
class ReferenceDelay:
    """Sub-block of DLRR: middle 32 bits of a reference time, and the delay since, in 1/65536 s."""

    ssrc: int
    last_reference: int
    delay: int


@dataclass(frozen=True, slots=True)
class DelaySinceReference:
    """DLRR (4.5): answers to reference times, so that who sends nothing knows the round trip."""

    delays: tuple[ReferenceDelay, ...]


@dataclass(frozen=True, slots=True)
class StatisticsSummary:
    """Figures beyond those of a reception report (4.6); None where the sender does not tell.

    loss: packets lost and duplicated; jitter in timestamp units, and TTL or hop limit: minimum,
    maximum, mean, standard deviation. hop_limit: that it is IPv6's.
    """

    ssrc: int
    begin: int
    end: int
    lost: int | None = None
    duplicated: int | None = None
    jitter: tuple[int, int, int, int] | None = None
    ttl: tuple[int, int, int, int] | None = None
    hop_limit: bool = False


@dataclass(frozen=True, slots=True)
class VoipMetrics:
    """What a call sounds like (4.7), in the units of the wire.

    loss_rate, discard_rate, burst_density, gap_density: 1/256. *_ms as named. signal_dbm,
    noise_dbm: dBm0; rerl_db; r_factor, external_r: 0 to 100; mos_lq, mos_cq: ten times MOS;
    `UNAVAILABLE` (127) is none of these. receiver: bits of PLC, JBA and JB rate (4.7.6).
    """

    ssrc: int
    loss_rate: int = 0
    discard_rate: int = 0
    burst_density: int = 0
    gap_density: int = 0
    burst_ms: int = 0
    gap_ms: int = 0
    round_trip_ms: int = 0
    end_system_ms: int = 0
    signal_dbm: int = UNAVAILABLE
    noise_dbm: int = UNAVAILABLE
    rerl_db: int = UNAVAILABLE
    gmin: int = 16
    r_factor: int = UNAVAILABLE
    external_r: int = UNAVAILABLE
    mos_lq: int = UNAVAILABLE
    mos_cq: int = UNAVAILABLE
    receiver: int = 0
    jitter_buffer_ms: int = 0
    jitter_buffer_max_ms: int = 0
    jitter_buffer_abs_max_ms: int = 0


@dataclass(frozen=True, slots=True)
class UnknownBlock:
    """A block of another type, or of another length than its type has."""

    kind: int
    specific: int
    body: bytes


XrBlock = (
    RunLengths
    | ReceiptTimes
    | ReferenceTime
    | DelaySinceReference
    | StatisticsSummary
    | VoipMetrics
    | UnknownBlock
)


# ---------------------------------------------------------------- reading


def parse_blocks(body: bytes) -> tuple[XrBlock, ...]:
    """Read the blocks of one XR packet, `body` being all behind its SSRC.

    Raises RtpError where a block is longer than the packet, and for more than `MAX_BLOCKS`.
    """
    blocks: list[XrBlock] = []
    offset = 0
    while offset < len(body):
        if len(blocks) == MAX_BLOCKS:
            raise RtpError(f"more than {MAX_BLOCKS} RTCP XR blocks in one packet")
        if offset + _BLOCK.size > len(body):
            raise RtpError("RTCP XR block without its header")
        kind, specific, words = _BLOCK.unpack_from(body, offset)
        end = offset + 4 * (words + 1)
        if end > len(body):
            raise RtpError("RTCP XR block is longer than its packet")
        blocks.append(_parse_block(kind, specific, body[offset + 4 : end]))
        offset = end
    return tuple(blocks)


def _parse_block(kind: int, specific: int, body: bytes) -> XrBlock:
    size = len(body)
    if kind in (XrType.LOSS_RLE, XrType.DUPLICATE_RLE) and size >= _SPAN.size:
        ssrc, begin, end = _SPAN.unpack_from(body)
        used = len(body[8:].rstrip(b"\0")) + 1 & ~1  # what fills up the word is no chunk
        chunks = struct.unpack(f"!{used // 2}H", body[8 : 8 + used])
        duplicates = kind == XrType.DUPLICATE_RLE
        return RunLengths(ssrc, begin, end, chunks, specific & 15, duplicates)
    if kind == XrType.RECEIPT_TIMES and size >= _SPAN.size:
        ssrc, begin, end = _SPAN.unpack_from(body)
        times = struct.unpack(f"!{(size - 8) // 4}I", body[8:])
        return ReceiptTimes(ssrc, begin, end, times, specific & 15)
    if kind == XrType.REFERENCE_TIME and size == _REFERENCE.size:
        return ReferenceTime(*_REFERENCE.unpack(body))
    if kind == XrType.DELAY_SINCE_REFERENCE and size % _DELAY.size == 0:
        return DelaySinceReference(
            tuple(ReferenceDelay(*item) for item in _DELAY.iter_unpack(body))
        )
    if kind == XrType.STATISTICS_SUMMARY and size == _SUMMARY.size:
        return _parse_summary(specific, body)
    if kind == XrType.VOIP_METRICS and size == _METRICS.size:
        return VoipMetrics(*_METRICS.unpack(body))
    return UnknownBlock(kind, specific, body)


def _parse_summary(specific: int, body: bytes) -> StatisticsSummary:
    ssrc, begin, end, lost, duplicated, *figures = _SUMMARY.unpack(body)
    ttl = specific >> 3 & 3
    return StatisticsSummary(
        ssrc,
        begin,
        end,
        lost if specific & 0x80 else None,
        duplicated if specific & 0x40 else None,
        tuple(figures[:4]) if specific & 0x20 else None,
        tuple(figures[4:]) if ttl in (1, 2) else None,
        ttl == 2,
    )


# ---------------------------------------------------------------- building


def build_blocks(blocks: Iterable[XrBlock]) -> bytes:
    """Build the blocks of one XR packet. Raises RtpError or struct.error for what does not fit."""
    return b"".join(map(_build_block, blocks))


def _build_block(block: XrBlock) -> bytes:
    match block:
        case RunLengths(ssrc, begin, end, chunks, thinning, duplicates):
            body = _SPAN.pack(ssrc, begin, end) + struct.pack(f"!{len(chunks)}H", *chunks)
            kind = XrType.DUPLICATE_RLE if duplicates else XrType.LOSS_RLE
            return _framed(kind, _thinning(thinning), body + bytes(-len(body) % 4))
        case ReceiptTimes(ssrc, begin, end, times, thinning):
            body = _SPAN.pack(ssrc, begin, end) + struct.pack(f"!{len(times)}I", *times)
            return _framed(XrType.RECEIPT_TIMES, _thinning(thinning), body)
        case ReferenceTime(ntp):
            return _framed(XrType.REFERENCE_TIME, 0, _REFERENCE.pack(ntp))
        case DelaySinceReference(delays):
            body = b"".join(_DELAY.pack(one.ssrc, one.last_reference, one.delay) for one in delays)
            return _framed(XrType.DELAY_SINCE_REFERENCE, 0, body)
        case StatisticsSummary():
            return _build_summary(block)
        case VoipMetrics():
            return _framed(XrType.VOIP_METRICS, 0, _METRICS.pack(*astuple(block)))
        case UnknownBlock(kind, specific, body):
            if len(body) % 4:
                raise RtpError("RTCP XR block of no whole number of words")
            return _framed(kind, specific, body)


def _build_summary(block: StatisticsSummary) -> bytes:
    specific = 0x80 * (block.lost is not None) | 0x40 * (block.duplicated is not None)
    specific |= 0x20 * (block.jitter is not None)
    if block.ttl is not None:
        specific |= (2 if block.hop_limit else 1) << 3
    body = _SUMMARY.pack(
        block.ssrc,
        block.begin,
        block.end,
        block.lost or 0,
        block.duplicated or 0,
        *(block.jitter or (0, 0, 0, 0)),
        *(block.ttl or (0, 0, 0, 0)),
    )
    return _framed(XrType.STATISTICS_SUMMARY, specific, body)


def _framed(kind: int, specific: int, body: bytes) -> bytes:
    return _BLOCK.pack(kind, specific, len(body) // 4) + body


def _thinning(value: int) -> int:
    if not 0 <= value <= 15:
        raise RtpError(f"thinning of {value} does not fit RTCP XR", hint="0 to 15")
    return value


# ---------------------------------------------------------------- runs


def pack_runs(came: Sequence[bool]) -> tuple[int, ...]:
    """Return the chunks (4.1.1, 4.1.2) of whether packets came, in order of their numbers.

    Long runs become run lengths, up to 16,383 packets each; what changes often, vectors of 15 bits.
    Raises RtpError for more than `MAX_RUNS`.
    """
    count = len(came)
    if count > MAX_RUNS:
        raise RtpError(f"{count} packets do not fit a block", hint=f"at most {MAX_RUNS}")
    chunks = []
    at = 0
    while at < count:
        value = bool(came[at])
        end = at + 1
        while end < count and end - at < _MAX_RUN and bool(came[end]) is value:
            end += 1
        if end - at >= _VECTOR_BITS or end == count:
            chunks.append(value << 14 | (end - at))
        else:
            end = min(at + _VECTOR_BITS, count)
            bits = sum(bool(came[n]) << _VECTOR_BITS - 1 - n + at for n in range(at, end))
            chunks.append(1 << 15 | bits)
        at = end
    return tuple(chunks)


def unpack_runs(chunks: Iterable[int], count: int) -> list[bool]:
    """Return whether each of `count` packets came; those the chunks say nothing of are left out."""
    came: list[bool] = []
    for chunk in chunks:
        left = count - len(came)
        if not chunk or left <= 0:
            break
        if chunk >> 15:
            vector = [bool(chunk >> bit & 1) for bit in range(_VECTOR_BITS - 1, -1, -1)]
            came += vector[:left]
        else:
            came += [bool(chunk >> 14)] * min(chunk & _MAX_RUN, left)
    return came
