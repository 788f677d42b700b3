"""Recordings of real calls, through Asterisk and with baresip: each side of each file is graded."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from direct import desk
from peers.asterisk import Asterisk
from peers.installed import Installed
from phones import LEG_HZ, TAIL_S, require_speech, shipped, softphone
from stalls import repeated_after_stalls
from test_baresip import StartBaresip, connect, turned

from voip.dsp.cadence import Segment
from voip.dsp.call_progress import COUNTRIES, call_progress_tone
from voip.harness.audio import Sound
from voip.harness.grade import grade_speech, pesq_installed
from voip.media.wav import WavWriter

__all__ = ["turned"]


def sides(path: Path) -> list[Sound]:
    """Left and right of a recording, decoded by FFmpeg, at 8 kHz."""
    import av

    resampler = av.AudioResampler(format="s16", layout="stereo", rate=LEG_HZ)
    with av.open(str(path)) as container:
        pieces = [
            piece for frame in container.decode(audio=0) for piece in resampler.resample(frame)
        ]
    pieces += resampler.resample(None)
    pcm = np.concatenate([piece.to_ndarray() for piece in pieces], axis=1).reshape(-1, 2)
    return [Sound(np.ascontiguousarray(pcm[:, side]), LEG_HZ) for side in (0, 1)]


@pytest.mark.parametrize("suffix", ["wav", "opus"])
@repeated_after_stalls
async def test_V01_both_sides_of_a_call_through_asterisk(
    asterisk: Asterisk, artifacts: Path, suffix: str
) -> None:
    """600 sends back what it hears: the left side is the right one, a little later."""
    speech = shipped("speech-8k.wav")
    path = artifacts / f"both.{suffix}"
    async with (
        softphone(asterisk, "1001", artifacts) as phone,
        await phone.dial("600") as call,
        call.record(path, channels="stereo", sidecar=True) as recording,
    ):
        await call.play(speech.samples)
        await asyncio.sleep(TAIL_S)
    assert recording.error is None
    heard, sent = sides(path)
    for sound, what in ((sent, "what we said"), (heard, "what came back")):
        if suffix == "wav":
            require_speech(speech, sound, what=what)
        elif pesq_installed():  # Opus keeps the speech and not its waveform
            grade = grade_speech(speech, sound, leg_rate_hz=LEG_HZ)
            assert grade.passed, f"{what}: {grade.explain()}"
    told = json.loads(path.with_name(path.name + ".json").read_text())
    assert told["gaps"] == [] and told["remote"].startswith("sip:600@")
    assert told["duration_s"] == pytest.approx(heard.samples.size / LEG_HZ, abs=0.01)


@repeated_after_stalls
async def test_V01_both_sides_of_a_call_with_baresip(
    baresip: StartBaresip, turned: Path, artifacts: Path
) -> None:
    """baresip says one thing and we another: neither is heard on the other's side."""
    peer = await baresip(codecs=["PCMU"], play=turned)
    speech = shipped("speech-8k.wav")
    async with desk(artifacts) as us:
        call = await connect(us, peer, "us")
        async with call.record(artifacts / "both.wav", channels="stereo"):
            await call.play(speech.samples)
            await asyncio.sleep(TAIL_S)
        await call.hangup()
    heard, sent = sides(artifacts / "both.wav")
    require_speech(speech, sent, what="what we said")
    spoken = Sound.read((await peer.recording()).sent)
    require_speech(spoken, heard, coverage=0, what="what baresip said")


@repeated_after_stalls
async def test_a_list_of_files_of_many_kinds_reaches_asterisk(
    asterisk: Asterisk, artifacts: Path
) -> None:
    """FLAC, WAV of 44.1 kHz (both made by SoX) and an array after each other, without a gap."""
    prompt = shipped("prompt-8k.wav")
    files = [artifacts / "prompt.flac", artifacts / "prompt-44k.wav"]
    with WavWriter(artifacts / "prompt.wav", LEG_HZ) as file:
        file.write(prompt.samples)
    subprocess.run(["sox", artifacts / "prompt.wav", files[0]], check=True)
    subprocess.run(["sox", artifacts / "prompt.wav", "-r", "44100", files[1]], check=True)
    async with (
        softphone(asterisk, "1001", artifacts) as phone,
        await phone.dial("600") as call,
        call.record(artifacts / "heard.wav"),
    ):
        await call.play([*files, prompt.samples])
        await asyncio.sleep(TAIL_S)
    heard = Sound.read(artifacts / "heard.wav")
    expected = Sound(np.tile(prompt.samples, 3), LEG_HZ)
    require_speech(expected, heard, what="three times the prompt")


# ---------------------------------------------------------------- tones as Asterisk knows them

DIFFERENT = {
    ("de", "callwaiting"): "ours goes on, Asterisk's ends after five times",
    ("dk", "callwaiting"): "ours goes on, Asterisk's ends",
    ("jp", "ring"): "modulated by 16 Hz, as E.180 has it; Asterisk adds 15 Hz",
    ("jp", "callwaiting"): "modulated by 16 Hz, as E.180 has it; Asterisk adds it",
    ("th", "callwaiting"): "we have none",
    ("za", "callwaiting"): "Asterisk gives four bursts, which are the same as three",
}
"""Where we go another way, and why."""
NAMES = {
    "dial": "dial", "busy": "busy", "ring": "ringback", "congestion": "congestion",
    "callwaiting": "waiting",
}  # fmt: skip


def indications(text: str) -> dict[str, dict[str, str]]:
    """Read an indications.conf: sections of names and what they are."""
    found: dict[str, dict[str, str]] = {}
    section: dict[str, str] = {}
    for line in text.splitlines():
        line = line.split(";")[0].strip()
        if head := re.fullmatch(r"\[([\w-]+)\]", line):
            section = found.setdefault(head[1], {})
        elif "=" in line:
            name, _, value = line.partition("=")
            section[name.strip()] = value.strip()
    return found


def written(tone: str) -> list[tuple[tuple[float, ...], float, float]]:
    """What is repeated of a tone of Asterisk's: frequencies, modulation, milliseconds."""
    parts = []
    for word in tone.split(","):
        sound, _, length = word.strip().partition("/")
        base, _, modulation = sound.partition("*")
        hertz = tuple(float(item) for item in base.split("+") if float(item))
        parts.append((hertz, float(modulation or 0), float(length or "inf")))
    return parts


def ours(segments: tuple[Segment, ...]) -> list[tuple[tuple[float, ...], float, float]]:
    return [
        (item.frequencies_hz, item.modulation_hz, round(item.seconds * 1000, 3))
        for item in segments
    ]


def test_tones_are_those_that_asterisk_gives(
    peers: Installed, missing: Callable[[str], NoReturn]
) -> None:
    """Frequencies and cadences of 39 countries and more, but for those that are named."""
    root = peers.asterisk or missing("Asterisk is not installed (make peers)")
    sample = root / "usr/share/asterisk/conf/samples/indications.conf.sample"
    theirs = indications(sample.read_text())
    same, other = 0, []
    for code, tones in theirs.items():
        country = {"uk": "gb"}.get(code, code)
        for name, kind in NAMES.items():
            if country not in COUNTRIES or name not in tones:
                continue
            if (country, name) in DIFFERENT or "!" in tones[name]:
                continue
            tone = call_progress_tone(kind, country)
            if ours(tone.over_and_over) == written(tones[name]):
                same += 1
            else:
                other.append((country, name, tones[name], ours(tone.over_and_over)))
    assert not other
    assert same > 180
