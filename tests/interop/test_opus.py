"""Opus judged by others: the Opus tools in processes of their own, and FFmpeg's own decoder."""

from __future__ import annotations

import re
import subprocess
import wave
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import pytest
from peers.installed import installed
from peers.ogg_opus import OggOpus

from voip.codecs.opus.codec import OpusCodec
from voip.codecs.opus.settings import Application, OpusSettings, RateControl, Signal
from voip.codecs.opus.toc import Bandwidth, read_packet
from voip.dsp.resample import resample
from voip.harness.audio import Sound, snr_db
from voip.harness.grade import pesq_installed

pytestmark = pytest.mark.rfc("6716", "2-4")

Missing = Callable[[str], NoReturn]
Pcm = npt.NDArray[np.int16]
FULL_HZ = 48000
# The means over a set of speech may differ by so much of PESQ, a single file's by that.
MEAN_BAR, FILE_BAR = 0.03, 0.05


@pytest.fixture(scope="module")
def tool(missing: Missing) -> Callable[..., str]:
    """Run one of the three programs; return what it says."""
    programs = installed().opus_tools or missing("the Opus tools are not installed (make peers)")
    paths = {program.name: program for program in programs}

    def run(name: str, *arguments: str | Path) -> str:
        done = subprocess.run(
            [str(paths[name]), *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    return run


@pytest.fixture(scope="module")
def ffmpeg(missing: Missing) -> Any:
    """PyAV: FFmpeg in this process."""
    try:
        import av
    except ImportError:
        missing("the package av is not installed")
    return av


@pytest.fixture(scope="module")
def pesq(missing: Missing) -> Callable[..., float]:
    """PESQ of what was heard, both int16 at 16 kHz: wide-band (ITU-T P.862.2), or "nb"."""
    if not pesq_installed():
        missing("the package pesq is not installed")
    from pesq import pesq as score

    def graded(sent: Pcm, heard: Pcm, band: str = "wb") -> float:
        return float(score(16000, sent[: heard.size], heard[: sent.size], band))

    return graded


@pytest.fixture(scope="module")
def speech(reference_data: Path) -> list[Pcm]:
    """Sentences of LibriVox at 16 kHz."""
    names = sorted((reference_data / "speech/librivox-16k-pocketsphinx").glob("sense*.wav"))
    assert len(names) >= 5
    return [Sound.read(name).samples for name in names]


def encoded(pcm: Pcm, settings: OpusSettings, channels: int = 1, packet_ms: float = 20) -> OggOpus:
    """Encode sound of 48 kHz."""
    codec = OpusCodec(FULL_HZ, channels, settings)
    length = round(FULL_HZ * packet_ms / 1000) * channels
    room = np.zeros(pcm.size + length - pcm.size % length, np.int16)
    room[: pcm.size] = pcm
    packets = [codec.encode(frame) for frame in room.reshape(-1, length)]
    return OggOpus(packets, channels, pre_skip=codec.lookahead)


def write(path: Path, stream: OggOpus) -> Path:
    """Write a stream as an Ogg file."""
    stream.write(path, [int(read_packet(packet).duration_ms * 48) for packet in stream.packets])
    return path


def decoded(stream: OggOpus) -> Pcm:
    """Decode a stream by our decoder at 48 kHz, without what comes before the sound."""
    codec = OpusCodec(FULL_HZ, stream.channels)
    pcm = np.concatenate([codec.decode(packet) for packet in stream.packets])
    return pcm[stream.pre_skip * stream.channels :]


def wav(path: Path) -> Pcm:
    """Read a WAV file of 48 kHz, its channels interleaved."""
    with wave.open(str(path)) as file:
        assert (file.getframerate(), file.getsampwidth()) == (FULL_HZ, 2)
        return np.frombuffer(file.readframes(file.getnframes()), np.int16)


def to_wav(path: Path, pcm: Pcm) -> Path:
    """Write mono sound of 48 kHz."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(FULL_HZ)
        file.writeframes(pcm.tobytes())
    return path


def up(pcm: Pcm) -> Pcm:
    return resample(pcm, 16000, FULL_HZ)


def down(pcm: Pcm) -> Pcm:
    return resample(pcm, FULL_HZ, 16000)


def likeness_db(one: Pcm, other: Pcm) -> float:
    """How far above their difference two sounds of one start are, in dB."""
    size = min(one.size, other.size)
    first, second = one[:size].astype(np.float64), other[:size].astype(np.float64)
    return snr_db(float(np.mean(first**2)), float(np.mean((first - second) ** 2)))


SPEECH = OpusSettings(24_000, complexity=10)
MUSIC = OpusSettings(96_000, application=Application.AUDIO, signal=Signal.MUSIC)
STREAMS = [
    pytest.param(SPEECH, 1, 20, id="speech"),
    pytest.param(replace(SPEECH, expected_loss=20), 1, 20, id="redundancy"),
    pytest.param(SPEECH, 1, 60, id="speech-60ms"),
    pytest.param(OpusSettings(8_000, bandwidth=Bandwidth.NARROW), 1, 40, id="narrow-40ms"),
    pytest.param(OpusSettings(12_000, bandwidth=Bandwidth.MEDIUM), 1, 10, id="medium-10ms"),
    pytest.param(replace(SPEECH, bandwidth=Bandwidth.SUPER_WIDE), 1, 20, id="hybrid"),
    pytest.param(replace(SPEECH, rate_control=RateControl.CBR), 1, 20, id="constant"),
    pytest.param(replace(SPEECH, dtx=True), 1, 20, id="dtx"),
    pytest.param(MUSIC, 1, 20, id="music"),
    pytest.param(MUSIC, 2, 5, id="stereo-5ms"),
    pytest.param(replace(MUSIC, application=Application.LOW_DELAY), 2, 2.5, id="stereo-2.5ms"),
    pytest.param(replace(SPEECH, bit_rate=48_000), 2, 120, id="stereo-120ms"),
]


# FFmpeg 8.1's own decoder loses its way here; opusdec does not.
LONG_REDUNDANCY = pytest.param(replace(SPEECH, expected_loss=20), 1, 60, id="redundancy-60ms")


@pytest.mark.parametrize(("settings", "channels", "packet_ms"), [*STREAMS, LONG_REDUNDANCY])
def test_opusdec_hears_what_we_hear(
    tool: Callable[..., str],
    speech: list[Pcm],
    tmp_path: Path,
    settings: OpusSettings,
    channels: int,
    packet_ms: float,
) -> None:
    left = up(speech[1])
    pcm = left if channels == 1 else np.column_stack((left, np.roll(left, 5000))).ravel()
    stream = encoded(pcm, settings, channels, packet_ms)
    file = write(tmp_path / "ours.opus", stream)

    told = tool("opusinfo", file)
    assert "WARNING" not in told, told
    assert re.search(rf"Channels: {channels}\b", told)
    durations = re.search(r"Packet duration: +([\d.]+)ms \(max\), +([\d.]+)ms \(avg\)", told)
    assert durations is not None, told
    assert {*map(float, durations.groups())} == {packet_ms}

    tool("opusdec", "--no-dither", file, tmp_path / "theirs.wav")
    theirs, ours = wav(tmp_path / "theirs.wav"), decoded(stream)
    assert theirs.size == ours.size
    assert np.abs(theirs.astype(int) - ours).max() <= 1
    assert np.abs(ours).max() > 3000


@pytest.mark.parametrize(
    "options",
    [
        ("--speech", "--bitrate", "16"),
        ("--speech", "--bitrate", "24", "--expect-loss", "20", "--framesize", "60"),
        ("--music", "--bitrate", "64", "--framesize", "2.5"),
        ("--hard-cbr", "--bitrate", "32", "--framesize", "40"),
        ("--cvbr", "--bitrate", "10", "--comp", "0"),
    ],
    ids=" ".join,
)
def test_we_hear_what_opusenc_says(
    tool: Callable[..., str], speech: list[Pcm], tmp_path: Path, options: tuple[str, ...]
) -> None:
    sent = to_wav(tmp_path / "sent.wav", up(speech[1]))
    tool("opusenc", *options, sent, tmp_path / "theirs.opus")
    tool("opusdec", "--no-dither", tmp_path / "theirs.opus", tmp_path / "theirs.wav")
    theirs = wav(tmp_path / "theirs.wav")
    ours = decoded(OggOpus.read(tmp_path / "theirs.opus"))[: theirs.size]
    assert np.abs(theirs.astype(int) - ours).max() <= 1
    assert np.abs(ours).max() > 3000


def test_speech_is_as_good_as_by_opusenc_and_opusdec(
    tool: Callable[..., str],
    pesq: Callable[..., float],
    speech: list[Pcm],
    tmp_path: Path,
) -> None:
    scores = []
    for bit_rate in (16, 32):
        settings = OpusSettings(
            bit_rate * 1000, RateControl.VBR, 10, application=Application.AUDIO, signal=Signal.VOICE
        )
        options = ("--vbr", "--speech", "--comp", "10", "--bitrate", str(bit_rate))
        for pcm in speech:
            sent = to_wav(tmp_path / "sent.wav", up(pcm))
            tool("opusenc", *options, sent, tmp_path / "theirs.opus")
            tool("opusdec", tmp_path / "theirs.opus", tmp_path / "theirs.wav")
            theirs = pesq(pcm, down(wav(tmp_path / "theirs.wav")))
            ours = pesq(pcm, down(decoded(encoded(up(pcm), settings))))
            scores.append((ours, theirs))
            assert ours >= theirs - FILE_BAR, (bit_rate, scores)
    means = np.mean(scores, axis=0)
    assert len(scores) == 2 * len(speech)
    assert means[0] >= means[1] - MEAN_BAR, scores
    assert means[0] > 3.5, scores


# ---------------------------------------------------------------- FFmpeg


def by_ffmpeg(ffmpeg: Any, stream: OggOpus) -> Pcm:
    """Decode by the decoder that FFmpeg wrote itself, which is not libopus."""
    context = ffmpeg.CodecContext.create("opus", "r")
    assert context.codec.long_name == "Opus"
    context.extradata = stream.head
    context.sample_rate = FULL_HZ
    frames = [
        frame
        for packet in (*map(ffmpeg.Packet, stream.packets), None)
        for frame in context.decode(packet)
    ]
    planes = np.concatenate([frame.to_ndarray() for frame in frames], axis=1)
    assert len(planes) == stream.channels
    return np.clip(np.rint(planes.T.ravel() * 32768), -32768, 32767).astype(np.int16)


@pytest.mark.parametrize(("settings", "channels", "packet_ms"), STREAMS)
def test_ffmpegs_own_decoder_hears_what_we_hear(
    ffmpeg: Any,
    pesq: Callable[..., float],
    speech: list[Pcm],
    settings: OpusSettings,
    channels: int,
    packet_ms: float,
) -> None:
    left = up(speech[1])
    pcm = left if channels == 1 else np.repeat(left, 2)
    stream = encoded(pcm, settings, channels, packet_ms)
    theirs, ours = by_ffmpeg(ffmpeg, stream)[::channels], decoded(stream)[::channels]
    assert theirs.size == ours.size
    if settings.application is not Application.VOIP:  # the music layer, bit by bit nearly
        assert likeness_db(ours, theirs) > 60
    else:  # it has another sample rate converter behind the speech layer, which is heard in numbers
        assert likeness_db(ours, theirs) > 8
        band = "nb" if settings.bandwidth is Bandwidth.NARROW else "wb"
        score = pesq(speech[1], down(theirs), band)
        assert score == pytest.approx(pesq(speech[1], down(ours), band), abs=FILE_BAR)


def test_we_hear_what_ffmpeg_encodes(
    ffmpeg: Any, pesq: Callable[..., float], speech: list[Pcm]
) -> None:
    context = ffmpeg.CodecContext.create("libopus", "w")
    context.sample_rate, context.layout, context.format = FULL_HZ, "mono", "s16"
    context.bit_rate = 24_000
    context.options = {"application": "voip", "frame_duration": "20"}
    packets = []
    for frame in up(speech[1])[: -(speech[1].size * 3 % 960) or None].reshape(-1, 960):
        sound = ffmpeg.AudioFrame.from_ndarray(frame[None], "s16", "mono")
        sound.sample_rate = FULL_HZ
        packets += [bytes(packet) for packet in context.encode(sound)]
    packets += [bytes(packet) for packet in context.encode(None)]
    heard = decoded(OggOpus(packets))
    theirs = by_ffmpeg(ffmpeg, OggOpus(packets))
    score = pesq(speech[1], down(heard))
    assert score >= pesq(speech[1], down(theirs)) - FILE_BAR
    assert score > 4
