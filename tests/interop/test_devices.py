"""A telephone by the sound cards of a PulseAudio: baresip hears its microphone, we its speaker."""

from __future__ import annotations

import asyncio
import importlib.util
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NoReturn

import pytest
from peers.baresip import Baresip
from peers.ports import free_port, is_taken
from peers.pulse import Pulse
from phones import part, until
from stalls import repeated_after_stalls
from test_asterisk_command import VOIP, Command

from voip.harness.audio import Sound, dominant_tone
from voip.harness.grade import Bar, grade_tone
from voip.media.wav import WavWriter

MICROPHONE_HZ, BARESIP_HZ = 1000, 440
LEVEL_DBFS = {MICROPHONE_HZ: -15.0, BARESIP_HZ: -13.5}
TALK_S = 6.0
CARD = Bar(seconds=1.0, snr_db=25.0, allowed=0.4)
"""PulseAudio and PortAudio wait for a busy machine no longer than 30 ms: there may be gaps."""
FOLLOWS_PPM = 2000.0
"""By so much a device is resampled at most until its buffer is as full as it should be."""


@pytest.fixture
def sound_cards(pulse: Pulse, missing: Callable[[str], NoReturn]) -> Pulse:
    """PulseAudio, where PortAudio is there to use it."""
    if importlib.util.find_spec("sounddevice") is None:
        missing("the package sounddevice is not installed")
    try:
        importlib.import_module("sounddevice")
    except OSError as error:
        missing(f"PortAudio is not installed (make peers): {error}")
    return pulse


async def voip(*arguments: str, env: dict[str, str]) -> Command:
    process = await asyncio.create_subprocess_exec(
        VOIP, *arguments, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE, env=env,
    )  # fmt: skip
    return Command(process)


async def test_the_sound_cards_are_found(sound_cards: Pulse) -> None:
    command = await voip("devices", "--json", env=sound_cards.environment)
    done = await command.done()
    assert done.status == 0, done.stderr
    names = {one["name"] for one in json.loads(done.stdout)["devices"]}
    assert {"desk_speaker", "desk_microphone"} <= names, names


@pytest.mark.parametrize("way", ["call", "answer"])
@repeated_after_stalls
async def test_tones_go_from_card_to_baresip_and_back(
    baresip: Callable[..., Awaitable[Baresip]], sound_cards: Pulse, artifacts: Path, way: str
) -> None:
    said = Sound.sine(MICROPHONE_HZ, 60, 48000, LEVEL_DBFS[MICROPHONE_HZ])
    with WavWriter(artifacts / "said.wav", said.rate_hz) as file:
        file.write(said.samples)
    await sound_cards.speak(artifacts / "said.wav")
    peer = await baresip(codecs=["PCMU"], tone_hz=BARESIP_HZ, answer="auto")
    cards = ("--device", "desk_speaker", "--microphone", "desk_microphone", "--codec", "pcmu")
    port = free_port()
    where = (peer.uri,) if way == "call" else ("--calls", "1")
    command = await voip(
        way, *where, "--bind", f"{peer.host}:{port}", *cards, "--duration", f"{TALK_S:g}",
        env=sound_cards.environment,
    )  # fmt: skip
    try:
        if way == "answer":
            await until(lambda: is_taken(port), "the phone", 20)
            await peer.dial(f"sip:desk@{peer.host}:{port};transport=udp")
        await peer.established(20)
        await sound_cards.listen(artifacts / "played.wav")
        await peer.closed(20)
        await sound_cards.quiet()
        done = await command.done()
    finally:
        await command.stop()
    assert done.status == 0, done.stderr
    recording = await peer.recording()
    heard, played = Sound.read(recording.received), Sound.read(artifacts / "played.wav")
    for hertz, sound, who in (
        (MICROPHONE_HZ, heard, "baresip"),
        (BARESIP_HZ, played, "the speaker"),
    ):
        middle = part(sound, 1.5, min(sound.seconds, TALK_S) - 0.3)
        found = dominant_tone(middle)
        assert found is not None, f"{who} hears nothing"
        assert found.frequency_hz == pytest.approx(hertz, rel=FOLLOWS_PPM * 1e-6, abs=0.3)
        sent = Sound.sine(found.frequency_hz, 3, 8000, LEVEL_DBFS[hertz])
        grade = grade_tone(sent, middle, bar=CARD)
        assert grade.passed, f"{who}: {grade.explain()}"
        assert grade.gain_db == pytest.approx(0, abs=1.5)
        print(f"{who}: {grade.explain()}")
