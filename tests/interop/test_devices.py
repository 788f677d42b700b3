"""A telephone by the sound cards of a PulseAudio: baresip hears its microphone, we its speaker."""

from __future__ import annotations

import asyncio
import importlib.util
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from peers.baresip import Baresip
from peers.ports import free_port, is_taken
from peers.pulse import Pulse
from phones import part, until
from stalls import repeated_after_stalls
from test_asterisk_command import VOIP, Command

from voip.harness.audio import Sound, dominant_tone, fit_tones, snr_db
from voip.media.wav import WavWriter

MICROPHONE_HZ, BARESIP_HZ = 1000, 440
LEVEL_DBFS = {MICROPHONE_HZ: -15.0, BARESIP_HZ: -13.5}
TALK_S = 6.0
WINDOW_S, SNR_DB = 0.2, 25.0
CLEAN = 5
"""So many windows in a row: PulseAudio and PortAudio do not wait for a busy machine, and there may
be gaps, long ones where both begin anew."""
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
        require_tone(middle, hertz, who)


def require_tone(sound: Sound, hertz: float, who: str) -> None:
    """Windows of it are a tone as loud as it was said, each of a speed that is followed slowly."""
    window = round(WINDOW_S * sound.rate_hz)
    figures = []
    for samples in np.split(sound.samples, range(window, sound.samples.size, window))[:-1]:
        found = dominant_tone(Sound(np.ascontiguousarray(samples), sound.rate_hz))
        if found is None:
            figures.append((0.0, -99.0, -99.0))
            continue
        (signal,), (rest,) = fit_tones(samples[None], sound.rate_hz, (found.frequency_hz,))
        figures.append((found.frequency_hz, found.level_dbfs, snr_db(signal, rest)))
    good = [
        abs(heard_hz / hertz - 1) < 1e-6 * (FOLLOWS_PPM + 500)
        and abs(level - LEVEL_DBFS[round(hertz)]) < 1.5
        and ratio > SNR_DB
        for heard_hz, level, ratio in figures
    ]
    longest = max((len(run) for run in "".join(" +"[one] for one in good).split()), default=0)
    told = f"{who}: {sum(good)} of {len(good)} windows are {hertz} Hz, {longest} in a row"
    print(told)
    assert longest >= CLEAN, f"{told}: {np.round(figures, 2)}"
