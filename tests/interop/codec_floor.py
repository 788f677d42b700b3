"""How good speech is after a codec: by PESQ, beside what codecs of others make of the same speech.

FFmpeg (in PyAV's wheel) and SoX code it for comparison, without a network. What a call made of it
may be worse by 0.15 and not more. Narrow band (ITU-T P.862.1) at 8 kHz, wide band (P.862.2) else.
"""

from __future__ import annotations

import math
import subprocess
import tempfile
import wave
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from peers.tshark import rtp_streams
from phones import shipped

from voip.codecs.core import CodecFormat
from voip.codecs.registry import default_registry
from voip.config import NetworkConfig
from voip.harness.audio import Sound, find_offset

LIVE_BAR = 0.15
"""How much less of MOS-LQO a call may have than the codec alone."""
SPEECH_S = 6.0
"""As much speech as a score must rest on, at least."""
WIDE_HZ, NARROW_HZ = 16000, 8000
PTIMES = [20, *(pytest.param(ms, marks=pytest.mark.matrix) for ms in (10, 40, 60))]
"""Packet times to be tried."""


def chiefly(cases: Iterable[Any], *chief: Any) -> list[Any]:
    """Return parameters of which all but the `chief` ones are left to the full matrix."""
    return [
        case
        if case in chief
        else pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.matrix)
        for case in cases
    ]


OUR_PORTS = range(*NetworkConfig().rtp_ports)

Pcm = npt.NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class Spoken:
    """A codec in a call: how `MediaConfig` names it, and its rate.

    `clock_hz`: what its timestamps count. `octets_ms`: of payload in a millisecond, where it is
    always the same. `shortest_ms`, `longest_ms`: our packets, of those that are asked
    for here. `ffmpeg`: FFmpeg's encoder and decoder, with the encoder's `options`; None: it has
    none, or none is needed.
    """

    name: str
    rate_hz: int = 8000
    clock_hz: int = 8000
    octets_ms: int | None = None
    shortest_ms: int = 10
    longest_ms: int = 60
    ffmpeg: tuple[str, str] | None = None
    options: tuple[tuple[str, str], ...] = ()

    @property
    def encoding(self) -> str:
        """Its encoding name."""
        return self.name.partition("/")[0]

    def packet_ms(self, asked_ms: int) -> int:
        """How long our packets are where others are asked for."""
        return max(self.shortest_ms, min(asked_ms, self.longest_ms))

    @property
    def judged_hz(self) -> int:
        """8 kHz for what is of narrow band, 16 kHz for all else."""
        return NARROW_HZ if self.rate_hz == NARROW_HZ else WIDE_HZ

    def speech(self, *, turned: bool = False) -> Sound:
        """The shipped speech at the codec's rate; `turned`: its second half first."""
        sound = at_rate(shipped("speech-16k.wav"), self.rate_hz)
        if self.rate_hz == NARROW_HZ:
            sound = shipped("speech-8k.wav")
        half = len(sound.samples) // 2 if turned else 0
        return Sound(np.roll(sound.samples, half), sound.rate_hz)


OPUS_SETTINGS = (("b", "32000"), ("application", "voip"), ("vbr", "constrained"))
PCMU = Spoken("pcmu", octets_ms=8, ffmpeg=("pcm_mulaw", "pcm_mulaw"))
PCMA = Spoken("pcma", octets_ms=8, ffmpeg=("pcm_alaw", "pcm_alaw"))
G722 = Spoken("g722", 16000, octets_ms=8, ffmpeg=("g722", "g722"))
OPUS = Spoken("opus", 48000, 48000, ffmpeg=("libopus", "libopus"), options=OPUS_SETTINGS)
L16 = Spoken("l16/16000", 16000, 16000, octets_ms=32, longest_ms=40)
ILBC = Spoken("ilbc")
L16_NARROW = Spoken("l16/8000", octets_ms=16)
GSM = Spoken("gsm", shortest_ms=20)
SPEEX = Spoken("speex/8000", shortest_ms=20)
SPEEX_WIDE = Spoken("speex/16000", 16000, 16000, shortest_ms=20)
AMR_CODERS = ("libopencore_amrnb", "libopencore_amrnb")
AMR = Spoken("amr", shortest_ms=20, ffmpeg=AMR_CODERS, options=(("b", "12200"),))
AMR_WB = Spoken("amr-wb", 16000, 16000, shortest_ms=20)


def at_rate(sound: Sound, rate_hz: int) -> Sound:
    """A sound at another rate."""
    if sound.rate_hz == rate_hz:
        return sound
    from scipy.signal import resample_poly  # here: it loads long

    common = math.gcd(sound.rate_hz, rate_hz)
    up, down = rate_hz // common, sound.rate_hz // common
    samples = resample_poly(sound.samples.astype(np.float64), up, down)
    return Sound(np.clip(np.rint(samples), -32768, 32767).astype(np.int16), rate_hz)


def write(path: Path, sound: Sound) -> Path:
    """Write a WAV file."""
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, sound.rate_hz, 0, "NONE", ""))
        file.writeframes(sound.samples.tobytes())
    return path


def quality(sent: Sound, heard: Sound, judged_hz: int, *, at_least_s: float = SPEECH_S) -> float:
    """MOS-LQO of what of `sent` is in `heard`; AssertionError where that is too little."""
    from pesq import pesq

    sent, heard = at_rate(sent, judged_hz), at_rate(heard, judged_hz)
    place = find_offset(sent, heard)
    assert place is not None, "nothing but silence was heard"
    first = max(0, -place.offset)
    size = min(len(sent.samples) - first, len(heard.samples) - max(0, place.offset))
    assert size >= at_least_s * judged_hz, f"only {size / judged_hz:.2f} s can be compared"
    before = sent.samples[first : first + size]
    after = heard.samples[max(0, place.offset) :][:size]
    return float(pesq(judged_hz, before, after, "nb" if judged_hz == NARROW_HZ else "wb"))


@dataclass(frozen=True, slots=True)
class Ear:
    """What one side of a call heard of what was `sent`, and what others make of the same."""

    what: str
    sent: Sound
    heard: Sound
    judged_hz: int
    floor: float


def require_floors(*ears: Ear, bar: float = LIVE_BAR) -> None:
    """Hold all that was heard against the floors.

    When all calls are over: to score takes the processor for longer than jitter buffers hold.
    """
    assert ears
    failed = []
    for ear in ears:
        score = quality(ear.sent, ear.heard, ear.judged_hz)
        told = f"{ear.what}: {score:.2f} MOS-LQO, by others {ear.floor:.2f}"
        print(told)
        if score < ear.floor - bar:
            failed.append(told)
    assert not failed, "\n".join(failed)


def require_packets(capture: Path, codec: Spoken, ptime_ms: int) -> None:
    """Let tshark say what both sides sent: nothing but the codec, ours in packets of one length."""
    streams = rtp_streams(capture)
    assert len(streams) == 2, streams
    for stream in streams:
        assert stream.name.lower() == codec.encoding
        assert stream.lost == 0
    (ours,) = (stream for stream in streams if stream.port in OUR_PORTS)
    length_ms = codec.packet_ms(ptime_ms)
    assert len(ours.packets) > 1000 * SPEECH_S / length_ms
    assert {ticks for _, ticks in ours.ticks()} == {codec.clock_hz * length_ms // 1000}
    if codec.octets_ms is not None:
        assert ours.sizes == {codec.octets_ms * length_ms}


# -- what others make of it ---------------------------------------------------------------------


@cache
def floor(*codecs: Spoken, said: Spoken | None = None, turned: bool = False) -> float:
    """What the speech scores after FFmpeg or SoX has coded it by each codec in turn.

    `said`: the codec that has the rate of what was said, and is heard; None: the first.
    """
    sound = sent = (said or codecs[0]).speech(turned=turned)
    for codec in codecs:
        sound = coded(codec, at_rate(sound, codec.rate_hz))
    judged_hz = min(codec.judged_hz for codec in (*codecs, said or codecs[0]))
    return quality(sent, sound, judged_hz)


def coded(codec: Spoken, sound: Sound) -> Sound:
    """Encode and decode by a program that is not ours."""
    if codec.ffmpeg is not None:
        return _by_ffmpeg(*codec.ffmpeg, dict(codec.options), sound)
    if codec.name == "gsm":
        return _by_sox(codec.name, sound)
    if codec.name.startswith("l16"):
        return sound
    return _by_its_library(codec, sound)


def _by_ffmpeg(encoder: str, decoder: str, options: dict[str, str], sound: Sound) -> Sound:
    import av

    encoding = av.CodecContext.create(encoder, "w")
    encoding.sample_rate, encoding.layout, encoding.format = sound.rate_hz, "mono", "s16"
    encoding.options = options
    encoding.open()
    decoding = av.CodecContext.create(decoder, "r")
    decoding.sample_rate, decoding.layout = sound.rate_hz, "mono"
    size = sound.rate_hz // 50
    whole = sound.samples[: len(sound.samples) // size * size].reshape(-1, 1, size)
    heard = []
    for frame in [*whole, None]:
        for packet in encoding.encode(None if frame is None else _frame(frame, sound.rate_hz)):
            heard += decoding.decode(packet)
    return at_rate(Sound(np.concatenate([*map(_pcm, heard)]), heard[0].sample_rate), sound.rate_hz)


def _frame(pcm: Pcm, rate_hz: int) -> Any:
    import av

    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(pcm), "s16", "mono")
    frame.sample_rate = rate_hz
    return frame


def _pcm(frame: Any) -> Pcm:
    """What FFmpeg decoded, whatever it counts in, as mono."""
    pcm: npt.NDArray[Any] = frame.to_ndarray()[0].reshape(-1, len(frame.layout.channels))[:, 0]
    if pcm.dtype != np.int16:
        pcm = np.clip(np.rint(pcm * 32768), -32768, 32767)
    return pcm.astype(np.int16)


def _by_its_library(codec: Spoken, sound: Sound) -> Sound:
    """What libspeex, or who codes it for us, makes of it without a network: nobody else is here."""
    coder = default_registry().create(CodecFormat(codec.encoding, codec.clock_hz))
    size = coder.info.frame_samples
    whole = sound.samples[: len(sound.samples) // size * size].reshape(-1, size)
    heard = [coder.decode(coder.encode(frame)) for frame in whole]
    return Sound(np.concatenate(heard), sound.rate_hz)


def _by_sox(kind: str, sound: Sound) -> Sound:
    with tempfile.TemporaryDirectory() as directory:
        there = write(Path(directory, "sent.wav"), sound)
        middle, back = there.with_name(f"coded.{kind}"), there.with_name("heard.wav")
        subprocess.run(["sox", there, middle], check=True)
        subprocess.run(["sox", middle, "-e", "signed-integer", "-b", "16", back], check=True)
        return Sound.read(back)
