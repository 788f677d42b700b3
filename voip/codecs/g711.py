"""ITU-T G.711: µ-law and A-law as table look-ups over arrays of any shape.

The tables are computed from the Recommendation's decision values (tables 1a/2a), not from bit
tricks. Magnitudes are one's complement, as in the ITU's software tools: an input `v < 0` is coded
like `-v - 1`, because 16-bit PCM is 14-bit (µ-law) or 13-bit (A-law) PCM with extra low bits.
The widespread encoder that negates after shifting differs from that on 508 negative inputs, four
at each of the 127 negative µ-law segment steps, by one code; A-law is the same in both.
"""

from __future__ import annotations

from enum import Enum

import numpy as np
import numpy.typing as npt

from voip.errors import CodecError

__all__ = [
    "ALAW_DECODE",
    "ALAW_ENCODE",
    "ULAW_DECODE",
    "ULAW_ENCODE",
    "Law",
    "decode",
    "decode_into",
    "encode",
    "encode_into",
    "silence_code",
]


class Law(Enum):
    """Which companding law; the value is the encoding name of RFC 3551."""

    ULAW = "pcmu"
    ALAW = "pcma"


def _ulaw_decision_values() -> npt.NDArray[np.int64]:
    """Decision values x1..x128 in the 14-bit scale: steps of 2, then doubled every 16."""
    steps = np.concatenate(([1], np.full(15, 2), np.repeat(2 ** np.arange(2, 9), 16)))
    return np.cumsum(steps, dtype=np.int64)


def _alaw_decision_values() -> npt.NDArray[np.int64]:
    """Decision values x1..x128 in the 13-bit scale: 32 steps of 2, then doubled every 16."""
    steps = np.concatenate((np.full(32, 2), np.repeat(2 ** np.arange(2, 8), 16)))
    return np.cumsum(steps, dtype=np.int64)


def _tables(law: Law) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.uint8]]:
    """Return (decode int16 (256,), encode uint8 (65536,)), the latter indexed by uint16 bits."""
    if law is Law.ULAW:
        decisions, first_output, scale = _ulaw_decision_values(), 0, 4
    else:
        decisions, first_output, scale = _alaw_decision_values(), 1, 8
    outputs = np.concatenate(([first_output], (decisions[:-1] + decisions[1:]) // 2)) * scale

    pcm = np.arange(65536, dtype=np.uint16).view(np.int16).astype(np.int64)
    magnitude = np.where(pcm < 0, ~pcm, pcm)
    level = np.minimum(np.searchsorted(decisions * scale, magnitude, side="right"), 127)

    if law is Law.ULAW:  # all bits inverted; the sign bit is 1 for positive
        positive, negative = 0xFF - np.arange(128), 0x7F - np.arange(128)
    else:  # even bits inverted; the sign bit is 1 for positive
        positive, negative = np.arange(128) ^ 0xD5, np.arange(128) ^ 0x55
    table = np.zeros(256, np.int16)
    table[positive] = outputs
    table[negative] = -outputs
    return table, np.where(pcm < 0, negative[level], positive[level]).astype(np.uint8)


ULAW_DECODE, ULAW_ENCODE = _tables(Law.ULAW)
"""int16 (256,) by code word; uint8 (65536,) by the int16 sample viewed as uint16."""
ALAW_DECODE, ALAW_ENCODE = _tables(Law.ALAW)
"""int16 (256,) by code word; uint8 (65536,) by the int16 sample viewed as uint16."""

_DECODE = {Law.ULAW: ULAW_DECODE, Law.ALAW: ALAW_DECODE}
_ENCODE = {Law.ULAW: ULAW_ENCODE, Law.ALAW: ALAW_ENCODE}
_DECODE_FLOAT = {law: table / np.float32(32768) for law, table in _DECODE.items()}
for _law in Law:
    _DECODE[_law].flags.writeable = False
    _ENCODE[_law].flags.writeable = False
    _DECODE_FLOAT[_law].flags.writeable = False


def encode(pcm: npt.NDArray[np.int16], law: Law) -> npt.NDArray[np.uint8]:
    """Encode int16 PCM of any shape; return uint8 code words of the same shape."""
    codes = np.empty(pcm.shape, np.uint8)
    encode_into(pcm, law, codes)
    return codes


def decode(codes: npt.NDArray[np.uint8], law: Law) -> npt.NDArray[np.int16]:
    """Decode uint8 code words of any shape; return int16 PCM of the same shape."""
    return np.take(_DECODE[law], codes)


def encode_into(
    pcm: npt.NDArray[np.int16],
    law: Law,
    out: npt.NDArray[np.uint8],
    *,
    scratch: npt.NDArray[np.intp] | None = None,
) -> None:
    """Encode `pcm` int16 (streams, samples), or any shape, into `out` of the same shape.

    NumPy looks up with intp indices and makes a copy of them; given `scratch` of the same shape
    nothing is allocated. Raises CodecError where shapes or types do not fit.
    """
    if pcm.dtype != np.int16 or out.dtype != np.uint8 or pcm.shape != out.shape:
        raise CodecError(
            f"G.711 encodes int16 to uint8 of one shape, "
            f"not {pcm.dtype} {pcm.shape} to {out.dtype} {out.shape}"
        )
    _look_up(_ENCODE[law], pcm.view(np.uint16), out, scratch)


def decode_into(
    codes: npt.NDArray[np.uint8],
    law: Law,
    out: npt.NDArray[np.int16] | npt.NDArray[np.float32],
    *,
    scratch: npt.NDArray[np.intp] | None = None,
) -> None:
    """Decode `codes` uint8 (streams, samples), or any shape, into `out` of the same shape.

    `out` int16 receives PCM, `out` float32 the same divided by 32768, without a second pass.
    `scratch` and errors as for `encode_into`.
    """
    if codes.dtype != np.uint8 or codes.shape != out.shape:
        raise CodecError(
            f"G.711 decodes uint8 to PCM of one shape, "
            f"not {codes.dtype} {codes.shape} to {out.dtype} {out.shape}"
        )
    if out.dtype == np.float32:
        _look_up(_DECODE_FLOAT[law], codes, out, scratch)
    elif out.dtype == np.int16:
        _look_up(_DECODE[law], codes, out, scratch)
    else:
        raise CodecError(f"G.711 decodes to int16 or float32, not {out.dtype}")


def silence_code(law: Law) -> int:
    """Return the code word of PCM zero: 0xFF in µ-law, 0xD5 in A-law (which decodes to 8)."""
    return int(_ENCODE[law][0])


def _look_up(
    table: npt.NDArray[np.generic],
    index: npt.NDArray[np.uint8] | npt.NDArray[np.uint16],
    out: npt.NDArray[np.generic],
    scratch: npt.NDArray[np.intp] | None,
) -> None:
    # Every index is within its table; mode="clip" only spares NumPy a buffered copy of `out`.
    if scratch is None:
        np.take(table, index, out=out, mode="clip")
    else:
        np.copyto(scratch, index)
        np.take(table, scratch, out=out, mode="clip")
