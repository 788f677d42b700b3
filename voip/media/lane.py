"""A lane: streams of one family of codecs, coded in one operation for all of them.

A code is the lane's own small number for an encoding (`voices.PLAIN`); rows of different ones are
looked up together.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from voip.codecs import g711

__all__ = ["G711Lane", "Lane"]


class Lane(Protocol):
    """What the engine asks of a family of codecs."""

    rate_hz: int

    def decode(
        self,
        codes: npt.NDArray[np.uint8],
        payloads: npt.NDArray[np.uint8],
        out: npt.NDArray[np.float32] | None = None,
    ) -> npt.NDArray[np.float32]:
        """Decode payloads (k, bytes) of `codes` (k,) to float32 (k, samples) in [-1, 1).

        Without memory: a payload may be decoded twice, or in vain. `out`: where to.
        """
        ...

    def encode(
        self, codes: npt.NDArray[np.uint8], pcm: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.uint8]:
        """Encode float32 (k, samples) to uint8 (k, bytes); what is out of [-1, 1) saturates."""
        ...


_ROUNDER = np.float32(1.5 * 2**23)
_ROUNDER_BITS = 0x4B400000  # of that float32


class G711Lane:
    """µ-law (code 0) and A-law (code 1) by two tables (ITU-T G.711)."""

    rate_hz = 8000

    def __init__(self) -> None:
        decode = np.stack((g711.ULAW_DECODE, g711.ALAW_DECODE))
        self.decode_table: npt.NDArray[np.float32] = np.divide(
            decode.ravel(), 32768, dtype=np.float32
        )
        encode = np.stack((g711.ULAW_ENCODE, g711.ALAW_ENCODE))
        # by the sample plus 32768: what is beyond either end of the table is clipped to it
        self.encode_table: npt.NDArray[np.uint8] = np.roll(encode, 32768, axis=1).ravel()
        self._encode_ulaw = self.encode_table[:65536]
        # what `encode` works in: large arrays that are made anew each time lie in cold memory
        self._scaled: npt.NDArray[np.float32] = np.empty((0, 0), np.float32)
        self._index: npt.NDArray[np.intp] = np.empty((0, 0), np.intp)

    def decode(
        self,
        codes: npt.NDArray[np.uint8],
        payloads: npt.NDArray[np.uint8],
        out: npt.NDArray[np.float32] | None = None,
    ) -> npt.NDArray[np.float32]:
        """Look the samples up: float32 (k, bytes)."""
        index = payloads
        if np.count_nonzero(codes):
            index = payloads.astype(np.uint16)
            index += codes.astype(np.uint16)[:, None] << 8
        # in range by its type: "clip" spares the check
        return self.decode_table.take(index, out=out, mode="clip")

    def encode(
        self, codes: npt.NDArray[np.uint8], pcm: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.uint8]:
        """Look the code words up: uint8 (k, samples)."""
        rows, samples = pcm.shape
        if rows > len(self._scaled) or samples != self._scaled.shape[1]:
            self._scaled = np.empty((rows, samples), np.float32)
            self._index = np.empty((rows, samples), np.intp)
        scaled, index = self._scaled[:rows], self._index[:rows]
        np.multiply(pcm, np.float32(32768.0), out=scaled)
        # A float32 of 1.5 * 2^23 and more has no room for fractions: the sum is rounded (half to
        # even), and its bits, as an integer, count whole samples; monotonically even beyond them.
        scaled += _ROUNDER
        np.subtract(scaled.view(np.int32), _ROUNDER_BITS - 32768, out=index)
        if not np.count_nonzero(codes):
            return self._encode_ulaw.take(index, mode="clip")
        np.clip(index, 0, 65535, out=index)
        index += codes.astype(np.intp)[:, None] << 16
        return self.encode_table.take(index, mode="clip")
