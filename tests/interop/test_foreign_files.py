"""Recordings of calls as other programs read them, and files of other programs as calls hear them.

SoX, the Opus tools, FFmpeg and the standard library say how long a recording is, what it is called,
and what is in it; SoX and opusenc make what is played.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import wave
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from direct import desk
from peers.baresip import Baresip
from peers.installed import Installed
from phones import LEG_HZ, TAIL_S, part, require_speech, shipped
from stalls import repeated_after_stalls
from test_asterisk_command import VOIP
from test_baresip import connect, turned
from test_recording import sides

from voip.harness.audio import Sound
from voip.harness.grade import Grade, grade_speech
from voip.media.wav import WavWriter

__all__ = ["turned"]

StartBaresip = Callable[..., Awaitable[Baresip]]
KINDS = ("wav", "flac", "opus", "mp3")
EXACT_S = {"wav": 0.001, "flac": 0.001, "opus": 0.07, "mp3": 0.1}
"""How exactly a file's length is that of the recording: coders of music have frames."""

pytestmark = pytest.mark.usefixtures("codec_judges")


@pytest.fixture
def opus_tools(peers: Installed, missing: Callable[[str], NoReturn]) -> tuple[Path, Path, Path]:
    """Opusenc, opusdec, opusinfo."""
    return peers.opus_tools or missing("the Opus tools are not installed (make peers)")


def told(*command: str | Path) -> str:
    """What a program says; it must not complain."""
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "WARN" not in done.stderr and "ERROR" not in done.stderr, done.stderr
    return done.stdout


def soxi(path: Path) -> tuple[int, int, float]:
    """Channels, samples a second, and length in seconds."""
    channels, rate, seconds = (told("soxi", option, path) for option in ("-c", "-r", "-D"))
    return int(channels), int(rate), float(seconds)


def decoded(path: Path, opusdec: Path) -> tuple[Sound, Sound]:
    """Left and right at 8 kHz, by another program than ours: SoX, opusdec, or FFmpeg."""
    if path.suffix == ".mp3":
        left, right = sides(path)
        return left, right
    plain, wav = path.with_suffix(".plain.wav"), path.with_suffix(".8k.wav")
    if path.suffix == ".opus":
        subprocess.run([opusdec, "--quiet", path, plain], check=True)
    told("sox", path if path.suffix != ".opus" else plain, "-r", "8000", "-b", "16", wav)
    return Sound.read(wav, 0), Sound.read(wav, 1)


def require_pesq(sent: Sound, heard: Sound, what: str, coverage: float = 1.0) -> Grade:
    """Speech through a coder that does not keep the waveform."""
    grade = grade_speech(sent, heard, leg_rate_hz=LEG_HZ)
    assert grade.passed and (grade.coverage or 0) >= coverage, f"{what}: {grade.explain()}"
    return grade


@repeated_after_stalls
async def test_other_programs_read_what_was_recorded_of_one_call(
    baresip: StartBaresip,
    turned: Path,
    artifacts: Path,
    opus_tools: tuple[Path, Path, Path],
) -> None:
    """In four formats at once: channels, length, name and sound, both sides of it."""
    import av

    peer = await baresip(codecs=["PCMU"], play=turned)
    speech = shipped("speech-8k.wav")
    async with desk(artifacts, codecs=("pcmu",)) as us:
        call = await connect(us, peer, "us")
        recordings = {
            kind: call.record(artifacts / f"both.{kind}", channels="stereo") for kind in KINDS
        }
        for recording in recordings.values():
            await recording.__aenter__()
        await call.play(speech.samples)
        await asyncio.sleep(TAIL_S)
        for recording in recordings.values():
            await recording.__aexit__(None, None, None)
        await call.hangup()
        name = call.id
    spoken = Sound.read((await peer.recording()).sent)
    for kind, recording in recordings.items():
        path = artifacts / f"both.{kind}"
        assert recording.error is None
        seconds = recording.duration_s
        assert seconds > speech.seconds
        if kind in ("wav", "flac"):
            assert soxi(path) == (2, 8000, pytest.approx(seconds, abs=EXACT_S[kind]))
        if kind == "flac":
            assert f"title={name}" in told("soxi", "-a", path)
        if kind == "wav":
            with wave.open(str(path)) as file:
                assert (file.getnchannels(), file.getsampwidth()) == (2, 2)
                assert file.getnframes() == round(seconds * 8000)
        if kind == "opus":
            info = told(opus_tools[2], path)
            assert f"title={name}" in info and "Channels: 2" in info, info
            length = re.search(r"Playback length: (\d+)m:([\d.]+)s", info)
            assert length is not None
            minutes, rest = length.groups()
            assert 60 * int(minutes) + float(rest) == pytest.approx(seconds, abs=EXACT_S[kind])
        if kind == "mp3":
            with av.open(str(path)) as container:
                (stream,) = container.streams.audio
                assert stream.codec_context.channels == 2
                assert container.metadata["title"] == name
                assert container.duration is not None
                assert container.duration / 1e6 == pytest.approx(seconds, abs=EXACT_S[kind])
        heard, sent = decoded(path, opus_tools[1])
        judge = require_speech if kind in ("wav", "flac") else require_pesq
        judge(speech, sent, what=f"{kind}: what we said")
        judge(spoken, heard, coverage=0, what=f"{kind}: what baresip said")


@pytest.mark.parametrize("kind", KINDS)
@repeated_after_stalls
async def test_other_programs_read_the_recording_of_a_call_that_was_killed(
    baresip: StartBaresip,
    turned: Path,
    artifacts: Path,
    opus_tools: tuple[Path, Path, Path],
    kind: str,
) -> None:
    """`voip call` is killed while it records baresip (SIGKILL): a second may be missing."""
    peer = await baresip(codecs=["PCMU"], play=turned, answer="auto")
    path = artifacts / f"killed.{kind}"
    command = await asyncio.create_subprocess_exec(
        VOIP, "call", peer.uri, "--bind", "127.0.0.1", "--codec", "pcmu", "--record", path,
        "--duration", "60", stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL, env={**os.environ},
    )  # fmt: skip
    try:
        await peer.established(20)
        await asyncio.sleep(5.5)
    finally:
        command.send_signal(signal.SIGKILL)
        await command.wait()
    await peer.hangup()
    await peer.stop()
    if kind in ("wav", "flac"):
        channels, rate, _ = soxi(path)
        assert (channels, rate) == (1, 8000)
    if kind == "opus":
        done = subprocess.run([opus_tools[2], path], capture_output=True, text=True, check=False)
        length = re.search(r"Playback length: 0m:([\d.]+)s", done.stdout)
        assert length is not None and float(length[1]) > 3.5, done.stdout + done.stderr
    heard = Sound.read(_mono(path, opus_tools[1]))
    assert heard.seconds > 3.5
    spoken = Sound.read((await peer.recording()).sent)
    judge = require_speech if kind in ("wav", "flac") else require_pesq
    grade = judge(spoken, heard, coverage=0, what=f"{kind}: what baresip said")
    assert grade.seconds > 3, grade.explain()


def _mono(path: Path, opusdec: Path) -> Path:
    """What others make of it, at 8 kHz."""
    wav = path.with_suffix(".8k.wav")
    if path.suffix == ".mp3":
        with WavWriter(wav, LEG_HZ) as file:
            file.write(sides(path)[0].samples)
        return wav
    source = path
    if path.suffix == ".opus":
        source = path.with_suffix(".plain.wav")
        subprocess.run([opusdec, "--quiet", path, source], check=True)
    subprocess.run(["sox", source, "-r", "8000", "-b", "16", wav], check=True)
    return wav


@repeated_after_stalls
async def test_files_that_others_made_are_heard_without_a_seam(
    baresip: StartBaresip, artifacts: Path, opus_tools: tuple[Path, Path, Path]
) -> None:
    """Speech in six pieces, each of another format, rate and depth; baresip hears it whole."""
    speech = shipped("speech-8k.wav")
    whole = artifacts / "speech.wav"
    with WavWriter(whole, 8000) as file:
        file.write(speech.samples)
    made: list[tuple[str, tuple[str, ...]]] = [
        ("opus.wav", ("-r", "48000")),
        ("a.flac", ("-r", "44100", "-b", "24", "-c", "2")),
        ("b.aiff", ("-r", "32000", "-b", "24")),
        ("c.au", ("-r", "16000")),
        ("d.wav", ("-r", "8000", "-e", "mu-law")),
        ("e.wav", ("-r", "22050", "-e", "floating-point", "-b", "32")),
    ]
    step = int(speech.samples.size / len(made) / 160) * 160
    files = []
    for number, (name, form) in enumerate(made):
        path = artifacts / name
        length = [f"{step}s"] if number + 1 < len(made) else []
        told("sox", whole, *form, path, "trim", f"{number * step}s", *length)
        files.append(path)
    files[0] = artifacts / "first.opus"
    told(opus_tools[0], "--quiet", "--bitrate", "64", artifacts / "opus.wav", files[0])
    peer = await baresip(codecs=["PCMU"], answer="auto")
    async with desk(artifacts, codecs=("pcmu",)) as us:
        call = await us.phone.dial(peer.uri)
        await asyncio.sleep(0.3)
        await call.play(files)
        await asyncio.sleep(TAIL_S)
        await call.hangup()
    heard = Sound.read((await peer.recording()).received)
    require_pesq(speech, heard, "six files in a row")
    exact = Sound(np.ascontiguousarray(speech.samples[2 * step :]), 8000)
    require_speech(exact, part(heard, 2 * step / 8000, heard.seconds), what="but for the first")
