"""G.711 as a `Codec`: for one stream at a time; the tables serve all streams at once."""

from __future__ import annotations

from typing import Final

import numpy as np

from voip.codecs import g711
from voip.codecs.coder import ArrayCodec
from voip.codecs.core import CodecInfo
from voip.codecs.g711 import Law
from voip.codecs.pcm import Octets, Whole

__all__ = ["PCMA", "PCMU", "g711_codec"]

PCMU, PCMA = (
    CodecInfo(
        name=law.value,
        clock_rate=8000,
        sample_rate=8000,
        channels=1,
        frame_samples=1,
        ptime_ms=20,
        bit_rate=64000,
        algorithmic_delay_ms=0.125,
        static_payload_type=payload_type,
    )
    for law, payload_type in ((Law.ULAW, 0), (Law.ALAW, 8))
)
_PIECE: Final = 1024


def g711_codec(law: Law) -> ArrayCodec:
    """Build µ-law or A-law; it remembers nothing."""
    return ArrayCodec(PCMU if law is Law.ULAW else PCMA, lambda: _Coder(law))


class _Coder:
    def __init__(self, law: Law) -> None:
        self._law = law
        self._index = np.empty(_PIECE, np.intp)

    def octets(self, samples: int) -> int:
        return samples

    def samples(self, payload: Octets) -> int:
        return payload.size

    def encode(self, pcm: Whole, out: Octets) -> int:
        for begin in range(0, pcm.size, _PIECE):
            part = pcm[begin : begin + _PIECE]
            scratch = self._index[: part.size]
            g711.encode_into(part, self._law, out[begin : begin + part.size], scratch=scratch)
        return out.size

    def decode(self, payload: Octets, out: Whole) -> None:
        for begin in range(0, out.size, _PIECE):
            part = payload[begin : begin + _PIECE]
            scratch = self._index[: part.size]
            g711.decode_into(part, self._law, out[begin : begin + part.size], scratch=scratch)
