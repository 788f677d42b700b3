"""G.711 as a `Codec`: for one stream at a time; the tables serve all streams at once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from voip.codecs import g711
from voip.codecs.core import CodecInfo
from voip.codecs.g711 import Law
from voip.errors import CodecError

__all__ = ["PCMA", "PCMU", "G711Codec"]

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


class G711Codec:
    """µ-law or A-law; it remembers nothing."""

    def __init__(self, law: Law) -> None:
        self._law = law
        self._info = PCMU if law is Law.ULAW else PCMA

    @property
    def info(self) -> CodecInfo:
        """What is known about the encoding."""
        return self._info

    def encode(self, pcm: npt.NDArray[np.int16]) -> bytes:
        """Encode int16 (samples,): an octet a sample."""
        return g711.encode(pcm, self._law).tobytes()

    def decode(self, payload: bytes) -> npt.NDArray[np.int16]:
        """Decode octets to int16 (samples,)."""
        return g711.decode(np.frombuffer(payload, np.uint8), self._law)

    def conceal(self, samples: int) -> npt.NDArray[np.int16]:
        """Return silence: G.711 alone conceals nothing."""
        return np.zeros(samples, np.int16)

    def samples(self, payload: npt.NDArray[np.uint8]) -> int:
        """Return the payload's size: an octet is a sample."""
        return payload.size

    def encode_into(self, pcm: npt.NDArray[np.int16], out: npt.NDArray[np.uint8]) -> int:
        """Encode into the beginning of `out`; return how many octets it took."""
        g711.encode_into(pcm, self._law, out[: self._fit(pcm.size, out.size)])
        return pcm.size

    def decode_into(self, payload: npt.NDArray[np.uint8], out: npt.NDArray[np.int16]) -> int:
        """Decode into the beginning of `out`; return how many samples it gave."""
        g711.decode_into(payload, self._law, out[: self._fit(payload.size, out.size)])
        return payload.size

    def reset(self) -> None:
        """Do nothing: there is nothing to forget."""

    def _fit(self, needed: int, there: int) -> int:
        if needed > there:
            raise CodecError(f"{self._info.name} needs room for {needed}, there is {there}")
        return needed
