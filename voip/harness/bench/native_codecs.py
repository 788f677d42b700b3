"""The native libraries that codecs are measured beside: libopus and libg722 barely, FFmpeg by PyAV.

Of libopus only the C function is called, with pointers made beforehand. PyAV's figures include the
making of its packets and frames, which are Python's objects. Libraries are loaded when asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from voip.codecs.core import Codec, CodecFormat
from voip.codecs.opus.binding import address, libopus
from voip.codecs.opus.codec import OpusCodec
from voip.codecs.opus.decoder import OpusDecoder
from voip.codecs.opus.encoder import OpusEncoder
from voip.errors import CodecError
from voip.harness.bench.codec_sides import Material, Sides, Work
from voip.harness.ffmpeg import Ffmpeg

__all__ = ["native"]

_NOTHING: Final = Sides(None, None)


def native(
    material: Material, build: Callable[[], Codec], format_: CodecFormat
) -> tuple[str | None, Sides]:
    """Return the library's name, and both directions of one stream of `material` by it.

    (None, ...) where no library here has the codec, or it is not installed.
    """
    codec = build()
    if isinstance(codec, OpusCodec):
        return f"libopus {libopus().version}", _libopus(material, codec)
    if format_.name == "g722":
        try:
            return "libg722", _libg722(material, importlib.import_module("G722"))
        except ImportError:
            return None, _NOTHING
    try:
        ffmpeg = Ffmpeg(format_, codec.info)
    except CodecError:
        return None, _NOTHING
    return ffmpeg.version, _ffmpeg(ffmpeg, material, codec)


def _libopus(material: Material, codec: OpusCodec) -> Sides:
    """The bare C call, on an encoder and a decoder with the settings of `codec`."""
    info, library = codec.info, libopus()
    rate, channels = info.sample_rate, info.pcm_channels
    coder = OpusEncoder(rate, channels, codec.settings).state
    decoder = OpusDecoder(rate, channels).state
    pieces = [frame[0].copy() for frame in material.pcm]
    packets = material.payloads(codec)
    out, pcm = np.empty(material.room, np.uint8), np.empty(pieces[0].size, np.int16)
    samples, room, into, heard = pcm.size // channels, out.size, address(out), address(pcm)
    where = [address(piece) for piece in pieces]
    payloads = [(address(packet), packet.size) for packet in packets]

    def encode(part: slice) -> None:
        for pointer in where[part]:
            library.encode(coder.pointer, pointer, samples, into, room)

    def decode(part: slice) -> None:
        for pointer, size in payloads[part]:
            library.decode(decoder.pointer, pointer, size, heard, samples, 0)

    return Sides(encode, decode, keeps=(pieces, packets, out, pcm))


def _libg722(material: Material, package: Any) -> Sides:
    """The package's own call at 64 kbit/s, which is C and makes the object that it returns."""
    coder, decoder = package.G722(16000, 64000), package.G722(16000, 64000)
    before = package.G722(16000, 64000)
    pieces = [frame[0].copy() for frame in material.pcm]
    payloads = [before.encode(piece) for piece in pieces]

    def encode(part: slice) -> None:
        for piece in pieces[part]:
            coder.encode(piece)

    def decode(part: slice) -> None:
        for payload in payloads[part]:
            decoder.decode(payload)

    return Sides(encode, decode)


def _ffmpeg(ffmpeg: Ffmpeg, material: Material, codec: Codec) -> Sides:
    payloads = [ffmpeg.packet(payload.tobytes()) for payload in material.payloads(codec)]
    frames = [ffmpeg.frame(pcm[0]) for pcm in material.pcm]

    def encode(part: slice) -> None:
        for frame in frames[part]:
            ffmpeg.encode(frame)

    def decode(part: slice) -> None:
        for payload in payloads[part]:
            ffmpeg.frames_of(payload)

    return Sides(_possible(encode), _possible(decode))


def _possible(work: Work) -> Work | None:
    """Return the way itself, None where the first frame shows that it is none."""
    try:
        work(slice(0, 1))
    except CodecError:
        return None
    return work
