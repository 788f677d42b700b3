"""L16: uncompressed PCM in network byte order (RFC 3551, section 4.5.11), arrays of any shape.

Channels are interleaved; mono and stereo at 8, 16, 44.1 and 48 kHz. The payload types 10 (stereo)
and 11 (mono) are 44.1 kHz; other rates have a type of their own in each session.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from voip.codecs.coder import ArrayCodec
from voip.codecs.core import CodecInfo
from voip.codecs.pcm import Octets, Whole
from voip.errors import CodecError

__all__ = ["L16", "decode", "encode", "l16_codec"]

_NETWORK: Final = np.dtype(">i2")
_LARGE: Final = 1440
"""Octets that fit a packet on Ethernet, beside its headers."""


def _info(rate_hz: int, channels: int) -> CodecInfo:
    in_20_ms = rate_hz // 50 * channels * _NETWORK.itemsize
    return CodecInfo(
        name="l16",
        clock_rate=rate_hz,
        sample_rate=rate_hz,
        channels=channels,
        frame_samples=1,
        ptime_ms=20 if in_20_ms <= _LARGE else 10,
        bit_rate=16 * rate_hz * channels,
        algorithmic_delay_ms=1000 / rate_hz,
        static_payload_type={(44100, 2): 10, (44100, 1): 11}.get((rate_hz, channels)),
        pcm_channels=channels,
    )


L16: Final = tuple(
    _info(rate_hz, channels) for rate_hz in (8000, 16000, 44100, 48000) for channels in (1, 2)
)
"""What there is of it."""


def encode(pcm: Whole) -> Octets:
    """Encode int16 (..., samples) to uint8 (..., octets): two a sample, the high one first."""
    return np.ascontiguousarray(pcm).astype(_NETWORK).view(np.uint8)


def decode(payloads: Octets) -> Whole:
    """Decode uint8 (..., octets) to int16 (..., samples). Raises CodecError for an odd number."""
    _check(payloads.shape[-1], 1)
    return np.ascontiguousarray(payloads).view(_NETWORK).astype(np.int16)


def l16_codec(info: CodecInfo) -> ArrayCodec:
    """Build one of `L16`; it remembers nothing."""
    return ArrayCodec(info, lambda: _Coder(info.channels))


class _Coder:
    def __init__(self, channels: int) -> None:
        self._channels = channels

    def octets(self, samples: int) -> int:
        if samples % self._channels:
            raise CodecError(f"L16 of {self._channels} channels cannot have {samples} samples")
        return samples * _NETWORK.itemsize

    def samples(self, payload: Octets) -> int:
        _check(payload.size, self._channels)
        return payload.size // _NETWORK.itemsize

    def encode(self, pcm: Whole, out: Octets) -> int:
        np.copyto(out.view(_NETWORK), pcm)
        return out.size

    def decode(self, payload: Octets, out: Whole) -> None:
        np.copyto(out, payload.view(_NETWORK))


def _check(octets: int, channels: int) -> None:
    if octets % (_NETWORK.itemsize * channels):
        raise CodecError(f"L16 of {channels} channels cannot have {octets} octets")
