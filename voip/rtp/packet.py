"""RTP headers of many packets at once (RFC 3550, section 5.1, and 5.3.1 for extensions).

Arrays in, arrays out: one call reads or writes the headers of a whole batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["HEADER_BYTES", "RtpHeaders", "pack_header", "parse_headers", "write_headers"]

HEADER_BYTES = 12
"""A header without contributing sources and extension: what we send."""

_HEADER = np.dtype([("v", "u1"), ("m", "u1"), ("seq", ">u2"), ("ts", ">u4"), ("ssrc", ">u4")])


@dataclass(frozen=True, slots=True)
class RtpHeaders:
    """Headers of n packets; every array has shape (n,).

    valid: bool, a well-formed RTP packet; the other fields mean nothing where it is False.
    marker: bool; payload_type: uint8; sequence, timestamp, ssrc: int64 holding the unsigned
    values; offset, size: int64, where the payload starts and how many bytes it has.
    """

    valid: npt.NDArray[np.bool_]
    marker: npt.NDArray[np.bool_]
    payload_type: npt.NDArray[np.uint8]
    sequence: npt.NDArray[np.int64]
    timestamp: npt.NDArray[np.int64]
    ssrc: npt.NDArray[np.int64]
    offset: npt.NDArray[np.int64]
    size: npt.NDArray[np.int64]


def parse_headers(data: npt.NDArray[np.uint8], lengths: npt.NDArray[np.int32]) -> RtpHeaders:
    """Read the headers of `data`, uint8 (n, width), of which `lengths` (n,) bytes each count.

    Never raises for what the bytes say: a wrong version, a truncated header, an extension or
    padding longer than the packet make `valid` False.
    """
    size = lengths.astype(np.int64)
    head = np.ascontiguousarray(data[:, :HEADER_BYTES])
    first = head[:, 0]
    valid = (size >= HEADER_BYTES) & (first >> 6 == 2)
    offset = HEADER_BYTES + 4 * (first & 0x0F).astype(np.int64)
    odd = np.flatnonzero(valid & ((first & 0x30) != 0))
    end = size.copy()
    if odd.size:  # extension or padding: rare, and only then worth looking at
        extended = odd[(first[odd] & 0x10) != 0]
        fits = offset[extended] + 4 <= size[extended]
        valid[extended[~fits]] = False
        extended = extended[fits]
        at = offset[extended]
        words = (data[extended, at + 2].astype(np.int64) << 8) | data[extended, at + 3]
        offset[extended] = at + 4 + 4 * words
        padded = odd[(first[odd] & 0x20) != 0]
        padding = data[padded, size[padded] - 1].astype(np.int64)
        valid[padded[padding == 0]] = False
        end[padded] -= padding
    length = end - offset
    valid &= length >= 0
    second = head[:, 1]
    shorts = head.view(">u2")
    words32 = head.view(">u4")
    return RtpHeaders(
        valid=valid,
        marker=second >= 0x80,
        payload_type=second & np.uint8(0x7F),
        sequence=shorts[:, 1].astype(np.int64),
        timestamp=words32[:, 1].astype(np.int64),
        ssrc=words32[:, 2].astype(np.int64),
        offset=offset,
        size=length,
    )


def write_headers(
    out: npt.NDArray[np.uint8],
    rows: npt.NDArray[np.intp],
    *,
    payload_type: npt.NDArray[np.uint8],
    marker: npt.NDArray[np.bool_],
    sequence: npt.NDArray[np.int64],
    timestamp: npt.NDArray[np.int64],
    ssrc: npt.NDArray[np.int64],
) -> None:
    """Write 12-byte headers into `out[rows, :12]`; `out` is uint8 (table, width).

    The other arrays have the shape of `rows`; sequence and timestamp are cut to 16 and 32 bits.
    """
    header = np.empty(rows.size, _HEADER)
    header["v"] = 0x80
    header["m"] = payload_type | (marker.astype(np.uint8) << 7)
    header["seq"] = sequence & 0xFFFF
    header["ts"] = timestamp & 0xFFFFFFFF
    header["ssrc"] = ssrc
    out[rows, :HEADER_BYTES] = header.view(np.uint8).reshape(rows.size, HEADER_BYTES)


def pack_header(
    payload_type: int, sequence: int, timestamp: int, ssrc: int, *, marker: bool = False
) -> bytes:
    """Return one 12-byte header: for packets that are sent singly (telephone-event)."""
    return (
        bytes((0x80, payload_type | (0x80 if marker else 0)))
        + (sequence & 0xFFFF).to_bytes(2, "big")
        + (timestamp & 0xFFFFFFFF).to_bytes(4, "big")
        + (ssrc & 0xFFFFFFFF).to_bytes(4, "big")
    )
