"""PCM in arrays: int16, or float32 in [-1, 1); and what is asked of a caller's arrays."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from voip.errors import CodecError

__all__ = [
    "Octets",
    "Pcm",
    "Rounding",
    "Whole",
    "check_into",
    "check_octets",
    "check_pcm",
    "divide",
]

Whole: TypeAlias = npt.NDArray[np.int16]
Octets: TypeAlias = npt.NDArray[np.uint8]
Pcm: TypeAlias = npt.NDArray[np.int16] | npt.NDArray[np.float32]
"""Samples, channels interleaved; float32 in [-1, 1)."""

_INT16, _FLOAT32, _UINT8 = np.dtype(np.int16), np.dtype(np.float32), np.dtype(np.uint8)
_LARGEST: Final = np.float32(32767 / 32768)
_SCALE: Final = np.float32(32768)
_PIECE: Final = 1024


class Rounding:
    """From float32 to int16, in memory of its own: nearest, half to even.

    What is out of [-1, 1) saturates, what is not a number is silence.
    """

    def __init__(self) -> None:
        self._scaled = np.empty(_PIECE, np.float32)
        self._strange = np.empty(_PIECE, np.bool_)

    def __call__(self, pcm: npt.NDArray[np.float32], out: Whole) -> None:
        """Round `pcm` (samples,) into `out` of the same size."""
        for begin in range(0, pcm.size, _PIECE):
            part = pcm[begin : begin + _PIECE]
            scaled, strange = self._scaled[: part.size], self._strange[: part.size]
            np.clip(part, -1, _LARGEST, out=scaled)
            np.isnan(scaled, out=strange)
            np.copyto(scaled, 0, where=strange)
            np.multiply(scaled, _SCALE, out=scaled)
            np.rint(scaled, out=scaled)
            np.copyto(out[begin : begin + part.size], scaled, casting="unsafe")


def divide(pcm: Whole, out: npt.NDArray[np.float32]) -> None:
    """Write int16 into float32 `out` of the same shape, divided by 32768."""
    np.copyto(out, pcm)
    np.divide(out, _SCALE, out=out)


def check_pcm(pcm: Pcm, name: str) -> None:
    """Raise CodecError for what is no PCM of a stream."""
    if pcm.ndim != 1 or (pcm.dtype != _INT16 and pcm.dtype != _FLOAT32):
        raise CodecError(
            f"{name} encodes int16 or float32 (samples,), not {pcm.dtype} {pcm.shape}",
            hint="float32 is in [-1, 1)",
        )


def check_octets(payload: Octets, name: str) -> None:
    """Raise CodecError for what is no payload."""
    if payload.ndim != 1 or payload.dtype != _UINT8:
        raise CodecError(f"{name} decodes uint8 (octets,), not {payload.dtype} {payload.shape}")


def check_into(out: npt.NDArray[Any], needed: int, name: str, *, sound: bool) -> None:
    """Raise CodecError for an array that `needed` elements cannot be written to.

    `sound`: PCM is to be written, not a payload.
    """
    fits = out.dtype in (_INT16, _FLOAT32) if sound else out.dtype == _UINT8
    if not fits or out.ndim != 1:
        kind = "decodes to int16 or float32" if sound else "encodes to uint8"
        raise CodecError(f"{name} {kind} of one dimension, not {out.dtype} {out.shape}")
    if not (out.flags.c_contiguous and out.flags.writeable):
        raise CodecError(f"{name} cannot write to this array: it is read-only, or not contiguous")
    if out.size < needed:
        unit = "samples" if sound else "octets"
        raise CodecError(f"{name} needs room for {needed} {unit}, there is {out.size}")
