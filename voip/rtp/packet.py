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


def parse_headers(
    data: npt.NDArray[np.uint8], lengths: npt.NDArray[np.int32], slots: npt.NDArray[np.intp]
) -> RtpHeaders:
    """Read the headers of the packets `data[slots[i], : lengths[i]]`.

    data: uint8 (any, width), whose rows are contiguous; lengths, slots: of shape (n,).
    Never raises for what the bytes say: a wrong version, a truncated header, an extension or
    padding longer than the packet make `valid` False.
    """
    words = data[:, :HEADER_BYTES].view(">u4")[slots].astype(np.int64)
    first = words[:, 0]
    size = lengths.astype(np.int64)
    plain = ((first >> 24) == 0x80) & (size >= HEADER_BYTES)
    if np.count_nonzero(plain) == plain.size:
        valid, offset = plain, np.full(size.size, HEADER_BYTES, np.int64)
        size -= HEADER_BYTES
    else:
        valid, offset, size = _find_payloads(data, slots, first >> 24, size)
    return RtpHeaders(
        valid=valid,
        marker=(first & 0x800000) != 0,
        payload_type=((first >> 16) & 0x7F).astype(np.uint8),
        sequence=first & 0xFFFF,
        timestamp=words[:, 1],
        ssrc=words[:, 2],
        offset=offset,
        size=size,
    )


def _find_payloads(
    data: npt.NDArray[np.uint8],
    slots: npt.NDArray[np.intp],
    first: npt.NDArray[np.int64],
    size: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return validity, offset and size of payloads (n,); `first` is the first byte of each."""
    valid = (size >= HEADER_BYTES) & (first >> 6 == 2)
    offset = HEADER_BYTES + 4 * (first & 0x0F)
    end = size.copy()
    extended = np.flatnonzero(valid & ((first & 0x10) != 0))
    fits = offset[extended] + 4 <= size[extended]
    valid[extended[~fits]] = False
    extended = extended[fits]
    at = offset[extended]
    where = slots[extended]
    words = (data[where, at + 2].astype(np.int64) << 8) | data[where, at + 3]
    offset[extended] = at + 4 + 4 * words
    padded = np.flatnonzero(valid & ((first & 0x20) != 0))
    padding = data[slots[padded], size[padded] - 1].astype(np.int64)
    valid[padded[padding == 0]] = False
    end[padded] -= padding
    valid &= end >= offset
    return valid, offset, end - offset


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
    words = np.empty((rows.size, HEADER_BYTES // 4), ">u4")  # what is too long is cut
    words[:, 0] = (payload_type | np.uint32(0x8000)) << 16 | marker << 23 | sequence & 0xFFFF
    words[:, 1] = timestamp
    words[:, 2] = ssrc
    out[rows, :HEADER_BYTES] = words.view(np.uint8)


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
