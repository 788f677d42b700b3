"""What a codec benchmark lets take turns: a codec of the registry alone, and 64 streams of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from voip.codecs import g711
from voip.codecs.core import Codec, CodecFormat, CodecInfo
from voip.codecs.ilbc.codec import mode_of
from voip.codecs.ilbc.decoder import DecoderState
from voip.codecs.ilbc.decoder import decode as ilbc_decode
from voip.codecs.ilbc.encoder import EncoderState
from voip.codecs.ilbc.encoder import encode as ilbc_encode
from voip.codecs.registry import Registry
from voip.dsp.resample import resample
from voip.harness.audio import Pcm, Sound
from voip.sounds import asset_path

__all__ = [
    "FRAME_MS",
    "Material",
    "Sides",
    "Work",
    "alone",
    "formats",
    "packet_samples",
    "together",
]

FRAME_MS: Final = 20.0
"""What figures are for; codecs of longer frames are counted by what 20 ms of them cost."""

Octets: TypeAlias = npt.NDArray[np.uint8]
Work: TypeAlias = Callable[[slice], object]
"""Code these frames of the material."""

_ROOM: Final = 1276
"""Octets that any codec's 20 ms fit in; a sample takes at most two."""
_PARAMETERS: Final = {"ilbc": "mode=20", "amr": "octet-align=1", "amr-wb": "octet-align=1"}
"""fmtp that a codec is measured with, by encoding name; others have none."""
_APART_S: Final = 0.5
"""By how much streams of a batch hear different parts of the recording."""


@dataclass(frozen=True, slots=True)
class Sides:
    """Both directions; None for one that there is not."""

    encode: Work | None
    decode: Work | None
    keeps: object = None
    """What they have nothing of but pointers."""


def formats(registry: Registry) -> dict[str, CodecFormat]:
    """Return the format to measure of each codec, by its name; by all of it where two share one."""
    names = [info.name for info in registry]
    return {
        info.name if names.count(info.name) == 1 else str(info.format): CodecFormat(
            info.name, info.clock_rate, info.channels, _PARAMETERS.get(info.name, "")
        )
        for info in registry
    }


def packet_samples(info: CodecInfo) -> int:
    """Return how many samples of each channel 20 ms are, or the least whole frames over that."""
    least = round(info.sample_rate * FRAME_MS / 1000)
    return -(-least // info.frame_samples) * info.frame_samples


class Material:
    """Speech at a codec's rate, in frames of 20 ms, or the least whole frames that are longer.

    `pcm`: int16 (frames, streams, samples), channels interleaved.
    """

    def __init__(self, info: CodecInfo, frames: int, streams: int = 1) -> None:
        samples = packet_samples(info)
        self.frames = frames
        self.frame_ms = 1000 * samples / info.sample_rate
        with asset_path("speech-16k.wav") as path:
            sound = Sound.read(path)
        mono = resample(sound.samples, sound.rate_hz, info.sample_rate)
        apart = round(_APART_S * info.sample_rate)
        rows = [np.resize(np.roll(mono, -apart * n), frames * samples) for n in range(streams)]
        width = samples * info.pcm_channels
        framed = np.repeat(rows, info.pcm_channels, axis=1).reshape(streams, frames, width)
        self.pcm: Pcm = np.ascontiguousarray(framed.swapaxes(0, 1))
        self.room = max(_ROOM, 2 * width)

    def payloads(self, codec: Codec, stream: int = 0) -> list[Octets]:
        """Return the packets of one stream, each in an array of its own."""
        out = np.empty(self.room, np.uint8)
        return [out[: codec.encode_into(pcm[stream], out)].copy() for pcm in self.pcm]


def alone(material: Material, build: Callable[[], Codec]) -> Sides:
    """Return one stream of a codec, by its own `encode_into` and `decode_into`."""
    pieces = [frame[0].copy() for frame in material.pcm]
    payloads = material.payloads(build())
    coder, decoder = build(), build()
    out, pcm = np.empty(material.room, np.uint8), np.empty(pieces[0].size, np.int16)

    def encode(part: slice) -> None:
        for piece in pieces[part]:
            coder.encode_into(piece, out)

    def decode(part: slice) -> None:
        for payload in payloads[part]:
            decoder.decode_into(payload, pcm)

    return Sides(encode, decode)


def together(material: Material, build: Callable[[], Codec], format_: CodecFormat) -> Sides:
    """Return many streams at once: by array functions where a codec has them, else one by one."""
    if format_.name in [law.value for law in g711.Law]:
        return _g711(material, g711.Law(format_.name))
    if format_.name == "ilbc":
        return _ilbc(material, format_)
    return _one_by_one(material, build)


def _g711(material: Material, law: g711.Law) -> Sides:
    codes = g711.encode(material.pcm, law)
    out, pcm = np.empty_like(codes[0]), np.empty_like(material.pcm[0])
    scratch = np.empty(pcm.shape, np.intp)

    def encode(part: slice) -> None:
        for frame in material.pcm[part]:
            g711.encode_into(frame, law, out, scratch=scratch)

    def decode(part: slice) -> None:
        for frame in codes[part]:
            g711.decode_into(frame, law, pcm, scratch=scratch)

    return Sides(encode, decode)


def _ilbc(material: Material, format_: CodecFormat) -> Sides:
    mode = mode_of(format_.fmtp)
    streams = material.pcm.shape[1]
    coder, decoder = EncoderState.of(streams, mode), DecoderState.of(streams, mode)
    before = EncoderState.of(streams, mode)
    payloads = [ilbc_encode(frame, before, mode) for frame in material.pcm]
    received = np.ones(streams, np.bool_)

    def encode(part: slice) -> None:
        for frame in material.pcm[part]:
            ilbc_encode(frame, coder, mode)

    def decode(part: slice) -> None:
        for payload in payloads[part]:
            ilbc_decode(payload, received, decoder, mode)

    return Sides(encode, decode)


def _one_by_one(material: Material, build: Callable[[], Codec]) -> Sides:
    """Return streams that a native library codes row by row, each with a state of its own."""
    streams = range(material.pcm.shape[1])
    coders, decoders = [build() for _ in streams], [build() for _ in streams]
    payloads = list(zip(*(material.payloads(build(), row) for row in streams), strict=True))
    out = np.empty(material.room, np.uint8)
    pcm = np.empty(material.pcm.shape[2], np.int16)

    def encode(part: slice) -> None:
        for frame in material.pcm[part]:
            for coder, piece in zip(coders, frame, strict=True):
                coder.encode_into(piece, out)

    def decode(part: slice) -> None:
        for packets in payloads[part]:
            for decoder, packet in zip(decoders, packets, strict=True):
                decoder.decode_into(packet, pcm)

    return Sides(encode, decode)
