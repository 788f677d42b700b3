"""Call-progress tones of ours, by the ears of others: Asterisk's detectors, and baresip records."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from direct import desk
from peers.asterisk import Asterisk
from peers.baresip import Baresip
from phones import softphone, stretches
from stalls import repeated_after_stalls

from voip.call import Call
from voip.harness.audio import Sound, tone_lines

StartBaresip = Callable[..., Awaitable[Baresip]]

DETECTED = {"sit": "a", "busy": "b", "dial": "c", "ringback": "p"}
"""Tones, and what Asterisk calls its detectors of America's."""
CADENCES = {
    # ITU-T E.180 Supplement 2: hertz, seconds of sound and of silence
    ("busy", "de"): ({425}, (0.48, 0.48)),
    ("ringback", "gb"): ({400, 450}, (0.4, 0.2, 0.4, 2.0)),
    ("congestion", "us"): ({480, 620}, (0.25, 0.25)),
    ("dial", "fr"): ({440}, ()),
    ("busy", "jp"): ({400}, (0.5, 0.5)),
}
HEARD_S = 4.2


async def playing(call: Call, name: str, country: str = "us") -> None:
    """Let a tone sound until the call ends, or nobody waits for it any more."""
    tone = asyncio.create_task(call.play_tone(name, country=country))
    await call.wait_ended()
    tone.cancel()
    await asyncio.gather(tone, return_exceptions=True)


@repeated_after_stalls
async def test_asterisk_knows_america_s_tones_from_each_other(
    asterisk: Asterisk, artifacts: Path, missing: Callable[[str], NoReturn]
) -> None:
    """Each by its own detector, and not by that of another."""
    if not asterisk.knows_tones():
        missing("this Asterisk detects no tones")
    numbers = {
        (name, detector): f"620{detector}{name}"
        for name, detector in [
            *DETECTED.items(), ("busy", "c"), ("dial", "b"), ("ringback", "a"), ("sit", "p")
        ]
    }  # fmt: skip
    async with softphone(asterisk, "1001", artifacts, codecs=("pcmu",)) as phone:
        calls = [await phone.dial(number) for number in numbers.values()]
        await asyncio.gather(
            *(playing(call, name) for call, (name, _) in zip(calls, numbers, strict=True))
        )
        for (name, detector), number in numbers.items():
            wanted = "yes" if DETECTED[name] == detector else "no"
            assert await asterisk.tone(number) == wanted, (name, detector)


@repeated_after_stalls
async def test_asterisk_counts_the_beats_of_tones(
    asterisk: Asterisk, artifacts: Path, missing: Callable[[str], NoReturn]
) -> None:
    if not asterisk.knows_tones():
        missing("this Asterisk detects no tones")
    async with softphone(asterisk, "1001", artifacts, codecs=("pcmu",)) as phone:
        wanted = {"621425": ("busy", "de", {"4", "5"}), "621400": ("busy", "jp", {"4"}),
                  "621440": ("busy", "us", {"0"})}  # fmt: skip
        calls = [await phone.dial(number) for number in wanted]
        await asyncio.gather(
            *(
                playing(call, name, country)
                for call, (name, country, _) in zip(calls, wanted.values(), strict=True)
            )
        )
        for number, (_, _, counts) in wanted.items():
            assert await asterisk.tone(number) in counts, number


@repeated_after_stalls
async def test_baresip_records_the_frequencies_and_the_beat_of_the_itu_s_list(
    baresip: StartBaresip, artifacts: Path
) -> None:
    """What it recorded is taken apart by NumPy: a beat to 20 ms, a frequency to 1 Hz."""
    peers = [await baresip(codecs=["PCMU"], answer="auto") for _ in CADENCES]
    async with desk(artifacts, codecs=("pcmu",)) as us:
        calls = [await us.phone.dial(peer.uri) for peer in peers]
        tones = [
            asyncio.create_task(call.play_tone(name, country=country, seconds=HEARD_S))
            for call, (name, country) in zip(calls, CADENCES, strict=True)
        ]
        await asyncio.gather(*tones)
        await asyncio.sleep(0.5)
        for call in calls:
            await call.hangup()
    for (tone, (hertz, beat)), peer in zip(CADENCES.items(), peers, strict=True):
        heard = Sound.read((await peer.recording()).received)
        parts = stretches(heard, at_least_s=0.1)
        assert parts, f"{tone} is not heard"
        for number, (loud, sound) in enumerate(parts[:-1]):
            wanted = beat[number % len(beat)]
            assert loud == (number % 2 == 0)
            assert sound.seconds == pytest.approx(wanted, abs=0.041), (tone, number)
        if not beat:
            assert len(parts) == 1 and parts[0][1].seconds > HEARD_S - 0.2
        first = parts[0][1].samples
        lines = tone_lines(Sound(np.ascontiguousarray(first[240:-240]), heard.rate_hz))
        assert len(lines) == len(hertz), (tone, lines)
        assert sorted(lines) == pytest.approx(sorted(hertz), abs=1.0), tone
