"""G.729: what the other side sends can be heard, by FFmpeg through PyAV; there is no encoder.

PyAV is imported when the first codec is built: its wheels carry parts under the GPL, see NOTICE.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, Final

import numpy as np

from voip.codecs.coder import ArrayCodec
from voip.codecs.core import CodecInfo, Ways
from voip.codecs.pcm import Octets, Whole
from voip.errors import CodecError

__all__ = ["G729", "g729_codec", "g729_ways"]

_MAX_FRAMES: Final = 20

G729: Final = CodecInfo(
    name="g729",
    clock_rate=8000,
    sample_rate=8000,
    channels=1,
    frame_samples=80,
    ptime_ms=20,
    bit_rate=8000,
    algorithmic_delay_ms=15.0,
    static_payload_type=18,
    packet_frames=tuple(range(1, _MAX_FRAMES + 1)),
)
_SAMPLES: Final = G729.frame_samples
_OCTETS: Final = 10
_SILENCE: Final = 2
"""Octets of a frame of Annex B, which comes last and describes silence (RFC 3551, 4.5.6)."""


def g729_codec() -> ArrayCodec:
    """Build a decoder. Raises CodecError where PyAV is not installed."""
    if not g729_ways():
        raise CodecError("G.729 needs PyAV, which is not here", hint="pip install av")
    return ArrayCodec(G729, _Coder)


def g729_ways() -> Ways:
    """Return what can be done here: decoding, where PyAV is installed. It is not imported."""
    return Ways.DECODE if find_spec("av") is not None else Ways.NONE


class _Coder:
    def __init__(self) -> None:
        import av

        self._av = av
        context: Any
        try:
            context = av.CodecContext.create("g729", "r")
        except av.codec.codec.UnknownCodecError:
            raise CodecError("PyAV's FFmpeg has no G.729 here", hint="pip install av") from None
        context.sample_rate, context.layout = G729.sample_rate, "mono"
        self._context = context

    def octets(self, samples: int) -> int:
        raise CodecError("G.729 cannot be encoded", hint="offer another codec")

    def samples(self, payload: Octets) -> int:
        frames, rest = divmod(payload.size, _OCTETS)
        if rest not in (0, _SILENCE) or frames > _MAX_FRAMES:
            raise CodecError(
                f"G.729 has frames of {_OCTETS} octets and one of {_SILENCE} at the end, "
                f"which do not make {payload.size}"
            )
        return (frames + bool(rest)) * _SAMPLES

    def encode(self, pcm: Whole, out: Octets) -> int:
        raise CodecError("G.729 cannot be encoded")

    def decode(self, payload: Octets, out: Whole) -> None:
        out[:] = 0  # what FFmpeg does not give, Annex B's silence too
        octets = payload.tobytes()
        for n in range(payload.size // _OCTETS):
            packet = self._av.Packet(octets[n * _OCTETS : (n + 1) * _OCTETS])
            try:
                frames = self._context.decode(packet)
            except self._av.FFmpegError:
                continue
            place = out[n * _SAMPLES : (n + 1) * _SAMPLES]
            sound = np.concatenate([frame.to_ndarray().ravel() for frame in frames] or [place])
            place[: sound.size] = sound[:_SAMPLES]
