"""The codecs that `voip bench media` lets all calls speak, and what they cost barely.

G.711 is what everything else is measured with. Another codec's speech is encoded once, by a
registry's codec; every call begins at another place of it.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from voip.codecs.core import CodecFormat
from voip.codecs.opus.codec import OPUS, OpusCodec
from voip.codecs.opus.settings import OpusSettings
from voip.codecs.registry import CodecEntry, Registry, default_registry
from voip.errors import ConfigError
from voip.harness.bench.codec_sides import FRAME_MS, Material, Sides, alone, formats
from voip.harness.bench.native_codecs import native
from voip.harness.bench.speech import speech_frames
from voip.media.commands import PayloadFormat

__all__ = [
    "BARS",
    "CODECS",
    "PLAIN",
    "Frames",
    "bare_codec_us",
    "frames_of",
    "payload_format",
    "registry",
]

PLAIN: Final = ("pcmu", "pcma")
BARS: Final = {"g722": 1.3, "opus": 1.15}
"""How many times the bare codec a call may cost, beside what a call of G.711 may."""
_PAYLOAD_TYPES: Final = {"pcmu": 0, "gsm": 3, "pcma": 8, "g722": 9}
_OPUS: Final = OpusSettings(bit_rate=24_000, complexity=5, fec=True, expected_loss=5)
_OPUS_FMTP: Final = "useinbandfec=1"
_BARE_FRAMES = 50
_APART = 7
"""Frames that a stream is ahead of the one before it."""
_PAUSE_S = 0.02


def registry() -> Registry:
    """Return the codecs, with Opus at 24 kbit/s, complexity 5, with forward error correction."""
    opus = CodecEntry(OPUS, lambda format_: OpusCodec.negotiated(format_.fmtp, _OPUS))
    return default_registry().extended(opus)


def _formats() -> dict[str, CodecFormat]:
    found = formats(default_registry())
    return found | {"opus": CodecFormat("opus", 48000, 2, _OPUS_FMTP)}


CODECS: Final = tuple(_formats())
"""By the names that `voip bench codecs` has for them."""


def payload_format(codec: str) -> PayloadFormat:
    """Return the format of a codec by its name here; `ConfigError` where there is none."""
    try:
        found = _formats()[codec]
    except KeyError:
        raise ConfigError(f"there is no codec {codec!r}", hint=", ".join(CODECS)) from None
    number = _PAYLOAD_TYPES.get(found.name, 96)
    return PayloadFormat(number, found.name, found.clock_rate, found.channels, found.fmtp)


@dataclass(frozen=True, slots=True)
class Frames:
    """Payloads of 20 ms: uint8 (frames, width), int64 (frames,) octets; and RTP units of each."""

    payloads: npt.NDArray[np.uint8]
    octets: npt.NDArray[np.int64]
    span: int


def frames_of(codec: str, count: int, seed: int) -> Frames:
    """Return speech as `count` payloads. Raises `ConfigError` for a codec without 20 ms."""
    if codec == "pcmu":
        payloads = speech_frames(count, seed)
        return Frames(payloads, np.full(count, payloads.shape[1], np.int64), payloads.shape[1])
    format_ = _format(codec)
    one = registry().create(format_)
    material = Material(one.info, count)
    if material.frame_ms != FRAME_MS:
        raise ConfigError(f"{codec} has no packets of {FRAME_MS:g} ms", hint="take another one")
    octets = material.payloads(one)
    table = np.zeros((count, max(payload.size for payload in octets)), np.uint8)
    for row, payload in zip(table, octets, strict=True):
        row[: payload.size] = payload
    span = format_.clock_rate * int(FRAME_MS) // 1000
    return Frames(table, np.array([payload.size for payload in octets], np.int64), span)


def bare_codec_us(codec: str, calls: int) -> float:
    """Measure a codec, decode and encode, for 20 ms of a stream: microseconds of CPU time.

    There are as many streams as calls, each has its turn every 20 ms, and something else has been
    done meanwhile: what they remember is no more in the nearest caches than that of calls is. By
    the native library's own calls where there is one, else by the registry's codec: the median.
    """
    if codec in PLAIN:
        return 0.0
    format_, codecs = _format(codec), registry()
    material = Material(codecs.create(format_).info, _BARE_FRAMES)
    streams = [_bare(codec, material, format_, codecs) for _ in range(calls)]
    measured = []
    for number in range(_BARE_FRAMES):
        time.sleep(_PAUSE_S)
        begun = time.process_time()
        for works in ([one.decode for one in streams], [one.encode for one in streams]):
            for stream, work in enumerate(works):
                at = (number + _APART * stream) % _BARE_FRAMES
                if work is not None:
                    work(slice(at, at + 1))
        measured.append((time.process_time() - begun) / calls)
    return 1e6 * statistics.median(measured) * FRAME_MS / material.frame_ms


def _bare(codec: str, material: Material, format_: CodecFormat, codecs: Registry) -> Sides:
    """Return what decodes and encodes a stream."""
    _, sides = native(material, lambda: codecs.create(format_), format_)
    if sides.encode is None or sides.decode is None or codec not in BARS:
        sides = alone(material, lambda: codecs.create(format_))
    return sides


def _format(codec: str) -> CodecFormat:
    found = payload_format(codec)
    return CodecFormat(found.name, found.clock_rate, found.channels, found.fmtp)
