"""Our conference between baresip and Asterisk's ConfBridge: both ways graded, and recorded.

baresip speaks G.722 and is in ours; a phone of ours that is in Asterisk's hears it through both,
and is heard by it through both. Of two conferences that are in each other nothing must go round.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from peers.asterisk import Asterisk
from peers.baresip import Baresip
from phones import softphone
from stalls import repeated_after_stalls
from test_conference import BARESIP, OURS, heard, loudness_db

from voip.events import ActiveSpeaker
from voip.harness.audio import Sound
from voip.harness.grade import Bar, grade_tone

BAR = Bar(seconds=1.0, snr_db=20.0, allowed=0.1)
"""Coded by G.722 or G.711 and mixed twice; baresip holds back less than a busy machine stalls."""


@pytest.mark.parametrize("codec", ["G722", pytest.param("PCMU", marks=pytest.mark.matrix)])
@repeated_after_stalls
async def test_V02_baresip_and_asterisk_s_confbridge_hear_each_other_through_ours(
    asterisk: Asterisk,
    baresip: Callable[..., Awaitable[Baresip]],
    artifacts: Path,
    codec: str,
) -> None:
    rate = 16000 if codec == "G722" else 8000
    peer = await baresip(answer="auto", tone_hz=BARESIP, rate_hz=rate, codecs=(codec,))
    said = Sound.sine(OURS, 3.0, 8000, -16)
    async with (
        softphone(asterisk, "1001", artifacts, codecs=("g722", "pcmu")) as host,
        softphone(asterisk, "1002", artifacts, codecs=("pcmu",)) as guest,
    ):
        theirs, bridge = await guest.dial("615"), await host.dial("615")
        async with await host.conference(bridge) as conference:
            speakers: list[int] = []
            conference.on_event(
                lambda event: isinstance(event, ActiveSpeaker) and speakers.append(len(event.calls))
            )
            party = await conference.add(peer.uri)
            assert party.codec == codec.lower()
            assert conference.rate == max(party.rate, bridge.rate)
            path = artifacts / f"room-{codec}.wav"
            async with conference.record(path, per_party=True) as recording:
                there, _ = await asyncio.gather(heard(theirs, 3.5), theirs.play(said.samples))
            assert max(speakers) == 2  # both sides speak
        record = await peer.recording()
        await theirs.hangup()
    of_baresip = Sound.read(record.sent)
    at_guest, at_baresip = Sound(there, theirs.rate), Sound.read(record.received)
    (from_baresip,), (from_bridge,) = recording.paths[party], recording.paths[bridge]
    for sent, sound in (
        (of_baresip, at_guest),
        (said, at_baresip),
        (of_baresip, Sound.read(from_baresip)),
        (said, Sound.read(from_bridge)),
    ):
        grade_tone(sent, sound, bar=BAR).require()
    narrow = Sound.read(record.received)
    assert loudness_at(narrow, BARESIP) < loudness_at(narrow, OURS) - 40  # nobody hears itself
    assert loudness_at(at_guest, OURS) < loudness_at(at_guest, BARESIP) - 40
    await asterisk.idle()


def loudness_at(sound: Sound, hertz: int) -> float:
    """How loud a frequency is in the loudest second, in dB."""
    every = sound.rate_hz // 8000
    return loudness_db(sound.samples[::every], hertz)
