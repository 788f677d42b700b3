"""The native libraries that codecs are measured beside: libopus and libg722 barely, FFmpeg by PyAV.

Of libopus only the C function is called, with pointers made beforehand. PyAV's figures include the
making of its packets and frames, which are Python's objects. Libraries are loaded when asked for.
"""

from __future__ import annotations

import importlib
import io
from collections.abc import Callable
from types import ModuleType
from typing import Any, Final

import numpy as np

from voip.codecs.core import Codec, CodecFormat
from voip.codecs.ilbc.codec import mode_of
from voip.codecs.opus.binding import address, libopus
from voip.codecs.opus.codec import OpusCodec
from voip.codecs.opus.decoder import OpusDecoder
from voip.codecs.opus.encoder import OpusEncoder
from voip.harness.bench.codec_sides import Material, Sides

__all__ = ["native"]

_FFMPEG: Final = {"pcmu": "pcm_mulaw", "pcma": "pcm_alaw", "l16": "pcm_s16be", "gsm": "gsm"}
"""FFmpeg's names of codecs without parameters, by encoding name; iLBC is told its frames."""
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
        package = _loaded("G722")
        return (None, _NOTHING) if package is None else ("libg722", _libg722(material, package))
    av = _loaded("av")
    if av is None or format_.name not in (*_FFMPEG, "ilbc"):
        return None, _NOTHING
    name = f"FFmpeg (libavcodec {av.library_versions['libavcodec'][0]})"
    payloads = [payload.tobytes() for payload in material.payloads(codec)]
    if format_.name == "ilbc":
        return name, _ffmpeg_ilbc(av, payloads, mode_of(format_.fmtp).frame_ms)
    return name, _ffmpeg(av, material, payloads, codec)


def _loaded(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


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

    # pointers do not keep what they point to
    encode.__dict__["keeps"], decode.__dict__["keeps"] = (pieces, out), (packets, pcm)
    return Sides(encode, decode)


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


def _ffmpeg(av: Any, material: Material, payloads: list[bytes], codec: Codec) -> Sides:
    info = codec.info
    layout = "mono" if info.pcm_channels == 1 else "stereo"

    def context(way: str) -> Any:
        made = av.CodecContext.create(_FFMPEG[info.name], way)
        made.sample_rate, made.layout = info.sample_rate, layout
        if way == "w":
            made.format = "s16"
        return made

    frames = [av.AudioFrame.from_ndarray(pcm, "s16", layout) for pcm in material.pcm]
    for frame in frames:
        frame.sample_rate = info.sample_rate
    decode = _decoding(av, context("r"), payloads)
    try:
        coder = context("w")
    except av.codec.codec.UnknownCodecError:
        return Sides(None, decode)

    def encode(part: slice) -> None:
        for frame in frames[part]:
            coder.encode(frame)

    return Sides(encode, decode)


def _ffmpeg_ilbc(av: Any, payloads: list[bytes], frame_ms: int) -> Sides:
    """FFmpeg decodes iLBC only; how long frames are it learns from the head of a file."""
    file = io.BytesIO(b"#!iLBC%d\n" % frame_ms + b"".join(payloads))
    opened = av.open(file, format="ilbc")
    decode = _decoding(av, opened.streams.audio[0].codec_context, payloads)
    decode.__dict__["keeps"] = opened
    return Sides(None, decode)


def _decoding(av: Any, context: Any, payloads: list[bytes]) -> Callable[[slice], None]:
    def decode(part: slice) -> None:
        for payload in payloads[part]:
            context.decode(av.Packet(payload))

    return decode
