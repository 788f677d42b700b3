"""A clean path: what our encoder and decoder make of speech, and what others make of it."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import wave
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from voip.codecs.core import Codec, CodecFormat, CodecInfo
from voip.codecs.ilbc.codec import mode_of
from voip.codecs.opus.codec import OpusCodec
from voip.codecs.opus.settings import Application, OpusSettings, RateControl, Signal
from voip.codecs.registry import Registry, default_registry
from voip.errors import CodecError
from voip.harness.audio import Pcm
from voip.harness.bench.codec_sides import formats, packet_samples
from voip.harness.codec_quality.ilbc_program import IlbcProgram
from voip.harness.codec_quality.speech import Band, score, sound_at
from voip.harness.ffmpeg import Ffmpeg

__all__ = ["CleanScore", "Variant", "clean_score", "coded", "packets_of", "variants", "working"]

_OPUS_BIT_RATES: Final = (16_000, 24_000, 32_000)
_OPUS_HZ: Final = 48_000
_TIMEOUT_S: Final = 60.0
_ILBC_MODES: Final = ("mode=20", "mode=30")


@dataclass(frozen=True, slots=True)
class Variant:
    """A codec with its settings, by name; `build` makes one for a stream."""

    name: str
    format: CodecFormat
    build: Callable[[], Codec]
    opus: OpusSettings | None = None


@dataclass(frozen=True, slots=True)
class CleanScore:
    """MOS-LQO of one recording through ours, and through another's (None: there is no other)."""

    ours: float
    theirs: float | None
    other: str | None
    """Who the other is."""


def variants(registry: Registry | None = None) -> dict[str, Variant]:
    """Return what is judged of each codec: none whose library is missing, no linear PCM."""
    registry = registry or default_registry()
    found: list[Variant] = []
    for name, format_ in formats(registry).items():
        if format_.name == "opus":
            found += [_opus(bit_rate) for bit_rate in _OPUS_BIT_RATES]
            continue
        if format_.name == "ilbc":
            asked = [(f"{name} {fmtp}", replace(format_, fmtp=fmtp)) for fmtp in _ILBC_MODES]
        else:
            asked = [(name, format_)]
        found += [Variant(said, one, partial(registry.create, one)) for said, one in asked]
    return {variant.name: variant for variant in found if _is_judged(variant)}


def _opus(bit_rate: int) -> Variant:
    """Return Opus as `opusenc --vbr --speech --comp 10` sets it."""
    settings = OpusSettings(
        bit_rate, RateControl.VBR, 10, application=Application.AUDIO, signal=Signal.VOICE
    )
    name = f"opus {bit_rate // 1000} kbit/s"
    return Variant(
        name,
        CodecFormat("opus", 48000, 2),
        partial(OpusCodec, _OPUS_HZ, 1, settings),
        settings,
    )


def _is_judged(variant: Variant) -> bool:
    """Tell whether there is something to judge: its library is there, and something is lost."""
    try:
        info = working(variant.build).info
    except CodecError:
        return False
    return info.bit_rate < 16 * info.sample_rate * info.pcm_channels


def working(build: Callable[[], Codec]) -> Codec:
    """Return a codec that encodes and decodes here. Raises CodecError where it does not."""
    codec = build()
    codec.decode(codec.encode(packets_of(np.zeros(0, np.int16), codec.info)[0]))
    return build()


def clean_score(variant: Variant, path: Path, program: Path | None = None) -> CleanScore:
    """Judge a recording by what comes out of both; at the codec's rate, in its band.

    program: the library of RFC 3951's program, which is another iLBC.
    """
    info = variant.build().info
    band = Band.of(info.sample_rate)
    sent = sound_at(path, info.sample_rate)
    judge = partial(score, sent, rate_hz=info.sample_rate, band=band)
    ours = judge(_mono(coded(variant.build(), _for(info.pcm_channels, sent)), info.pcm_channels))
    try:
        other, heard = _theirs(variant, sent, program)
    except CodecError:
        return CleanScore(ours, None, None)
    return CleanScore(ours, judge(_mono(heard, info.pcm_channels)), other)


def coded(codec: Codec, pcm: Pcm) -> Pcm:
    """Encode and decode, packet by packet; where Opus says how late its sound is, that is cut."""
    early = codec.lookahead * codec.info.pcm_channels if isinstance(codec, OpusCodec) else 0
    return np.concatenate(
        [codec.decode(codec.encode(frame)) for frame in packets_of(pcm, codec.info)]
    )[early:]


def packets_of(pcm: Pcm, info: CodecInfo) -> Pcm:
    """Return int16 (packets, samples) of 20 ms each, or of the least whole frames over that.

    Silence follows, for what a codec is late: at most 20 ms.
    """
    width = packet_samples(info) * info.pcm_channels
    room = np.zeros(pcm.size + width + -pcm.size % width, np.int16)
    room[: pcm.size] = pcm
    return room.reshape(-1, width)


def _for(channels: int, mono: Pcm) -> Pcm:
    return mono if channels == 1 else np.repeat(mono, channels)


def _mono(pcm: Pcm, channels: int) -> Pcm:
    return np.ascontiguousarray(pcm[::channels])


def _theirs(variant: Variant, sent: Pcm, program: Path | None) -> tuple[str, Pcm]:
    """Return who else, and what they make of it. Raises CodecError where there is nobody."""
    if variant.opus is not None:
        return "opusenc, opusdec", _by_opus_tools(variant.opus.bit_rate, sent)
    info = variant.build().info
    packets = packets_of(_for(info.pcm_channels, sent), info)
    if variant.format.name == "ilbc":  # FFmpeg only decodes, and leaves the enhancer out
        if program is None:
            raise CodecError("RFC 3951's program is not there")
        ilbc = IlbcProgram(program, mode_of(variant.format.fmtp))
        heard = [ilbc.decode(ilbc.encode(packet)) for packet in packets]
        return "the program of RFC 3951", np.concatenate(heard)
    ffmpeg = Ffmpeg(variant.format, info)
    frames = [*map(ffmpeg.frame, packets), None]
    try:
        payloads = [payload for frame in frames for payload in ffmpeg.encode(frame)]
        other = "FFmpeg"
    except CodecError:  # it decodes only
        codec, other = variant.build(), "our encoder, FFmpeg's decoder"
        payloads = [ffmpeg.packet(codec.encode(packet)) for packet in packets]
    return other, np.concatenate([ffmpeg.decode(payload) for payload in payloads])


def _by_opus_tools(bit_rate: int, sent: Pcm) -> Pcm:
    encoder, decoder = shutil.which("opusenc"), shutil.which("opusdec")
    if encoder is None or decoder is None:
        raise CodecError("the Opus tools are not installed", hint="apt-get install opus-tools")
    options = ("--quiet", "--vbr", "--speech", "--comp", "10", "--bitrate", str(bit_rate // 1000))
    with tempfile.TemporaryDirectory() as folder:
        before, between, after = (Path(folder) / name for name in ("a.wav", "b.opus", "c.wav"))
        with wave.open(str(before), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(_OPUS_HZ)
            file.writeframes(sent.tobytes())
        for command in (
            (encoder, *options, str(before), str(between)),
            (decoder, "--quiet", "--no-dither", str(between), str(after)),
        ):
            done = subprocess.run(command, capture_output=True, timeout=_TIMEOUT_S)
            if done.returncode:
                raise CodecError(f"{command[0]}: {done.stderr.decode(errors='replace').strip()}")
        with wave.open(str(after)) as file:
            return np.frombuffer(file.readframes(file.getnframes()), np.int16)
