"""What a player does, by what baresip records; what stops it, by what baresip and PJSIP send.

And what a recorder does in a call with baresip: rotation, sides in files of their own, pauses and
what was before, as SoX measures them.
"""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest
from direct import desk
from peers.baresip import Baresip
from peers.pjsua import Pjsua
from phones import part, stretches, until
from stalls import repeated_after_stalls
from test_baresip import connect
from test_foreign_files import soxi
from test_troubles import made

from voip.harness.audio import Sound, dominant_tone, level_dbfs

StartBaresip = Callable[..., Awaitable[Baresip]]
QUICK_S = 1.5
"""How soon a player has stopped: a digit is told when it ends."""


def loudest_hz(sound: Sound) -> float:
    found = dominant_tone(part(sound, 0.04, sound.seconds - 0.04))
    assert found is not None
    return found.frequency_hz


@repeated_after_stalls
async def test_loops_seeks_volume_and_fades_are_as_baresip_hears_them(
    baresip: StartBaresip, artifacts: Path
) -> None:
    """Of a file of SoX's: half a second of 500 Hz, as much of 900 Hz, and a quarter of nothing."""
    for name, effects in (
        ("low", ("synth", "0.5", "sine", "500", "gain", "-9")),
        ("high", ("synth", "0.5", "sine", "900", "gain", "-9")),
        ("none", ("trim", "0", "0.25")),
    ):
        made(artifacts / f"{name}.wav", *effects)
    file = artifacts / "both.flac"
    pieces = [artifacts / f"{name}.wav" for name in ("low", "high", "none")]
    subprocess.run(["sox", *pieces, file], check=True)
    peer = await baresip(codecs=["PCMU"], answer="auto")
    async with desk(artifacts, codecs=("pcmu",)) as us:
        call = await us.phone.dial(peer.uri)
        await asyncio.sleep(0.3)
        once = await call.play(file)
        again = await call.play(file, loop=2)
        await call.play(file, start_s=0.5, volume_db=-6.0)
        player = call.player(file, loop=True)
        async with player:
            await asyncio.sleep(0.25)
            await player.seek(0.5)
            await asyncio.sleep(0.25)
            await player.stop(0.1)
            await player.wait()
        await asyncio.sleep(0.6)
        await call.hangup()
    assert (once.seconds, again.seconds) == pytest.approx((1.25, 2.5), abs=0.02)
    heard = Sound.read((await peer.recording()).received)
    loud = [sound for is_loud, sound in stretches(heard, at_least_s=0.1) if is_loud]
    assert len(loud) == 6, [sound.seconds for sound in loud]
    for sound in loud[:3]:
        assert sound.seconds == pytest.approx(1.0, abs=0.05)
        assert loudest_hz(part(sound, 0.05, 0.45)) == pytest.approx(500, abs=2)
        assert loudest_hz(part(sound, 0.55, 0.95)) == pytest.approx(900, abs=2)
    softer = loud[3]
    assert softer.seconds == pytest.approx(0.5, abs=0.05)
    assert loudest_hz(softer) == pytest.approx(900, abs=2)
    levels = [
        level_dbfs(part(sound, 0.1, 0.4).samples) for sound in (part(loud[0], 0.5, 1.0), softer)
    ]
    assert levels[1] - levels[0] == pytest.approx(-6.0, abs=0.3)
    before, moved = loud[4:6]  # with a breath between them, so that nothing clicks
    assert loudest_hz(before) == pytest.approx(500, abs=5)
    assert loudest_hz(moved) == pytest.approx(900, abs=10)
    assert 0.2 < moved.seconds < 0.5


@pytest.mark.parametrize("by", ["dtmf", "voice"])
@repeated_after_stalls
async def test_baresip_s_digit_or_voice_stops_what_it_hears(
    baresip: StartBaresip, artifacts: Path, by: str
) -> None:
    """Its voice is a minute of a tone of SoX's that begins after two seconds of silence."""
    silent = made(artifacts / "silent.wav", "trim", "0", "2" if by == "voice" else "20")
    speech = made(artifacts / "noise.wav", "synth", "20", "sine", "300-1800", "gain", "-12")
    subprocess.run(["sox", silent, speech, artifacts / "said.wav"], check=True)
    peer = await baresip(codecs=["PCMU"], play=artifacts / "said.wav")
    long = np.rint(4000 * np.sin(2 * np.pi * 700 / 8000 * np.arange(20 * 8000))).astype(np.int16)
    loop = asyncio.get_running_loop()
    async with desk(artifacts, codecs=("pcmu",)) as us:
        call = await connect(us, peer, "us")
        begun = loop.time()
        playing = asyncio.create_task(call.play(long, barge_in=by))
        if by == "dtmf":
            await asyncio.sleep(1.5)
            await peer.dtmf("7")
        played = await asyncio.wait_for(playing, 12)
        assert played.stopped_by.value == by
        assert played.digit == ("7" if by == "dtmf" else None)
        assert 1.0 < played.seconds <= loop.time() - begun + 0.1
        assert loop.time() - begun < 1.5 + 2 * QUICK_S
        await asyncio.sleep(1.0)
        await call.hangup()
    heard = Sound.read((await peer.recording()).received)
    tone = [sound for is_loud, sound in stretches(heard) if is_loud]
    assert len(tone) == 1 and tone[0].seconds == pytest.approx(played.seconds, abs=0.15)


async def test_pjsip_s_digit_stops_what_it_hears(
    pjsua: Callable[..., Awaitable[Pjsua]], artifacts: Path
) -> None:
    peer = await pjsua()
    async with desk(artifacts, codecs=("pcmu",)) as us:
        number = await peer.call(us.uri())
        call = await us.incoming()
        await call.answer()
        await peer.established(number)
        playing = asyncio.create_task(call.play(np.zeros(20 * 8000, np.int16), barge_in="dtmf"))
        await asyncio.sleep(0.5)
        await peer.dtmf(number, "#")
        played = await asyncio.wait_for(playing, 8)
        assert (played.stopped_by.value, played.digit) == ("dtmf", "#")
        await peer.hangup(number)
        await call.wait_ended()


@repeated_after_stalls
async def test_sox_measures_files_that_rotate_pauses_and_sides_of_a_call_with_baresip(
    baresip: StartBaresip, artifacts: Path
) -> None:
    peer = await baresip(codecs=["PCMU"], tone_hz=440)
    ours = np.rint(6000 * np.sin(2 * np.pi * 900 / 8000 * np.arange(10 * 8000))).astype(np.int16)
    async with desk(artifacts, codecs=("pcmu",)) as us:
        call = await connect(us, peer, "us")
        await call.keep_sound(2)
        playing = asyncio.create_task(call.play(ours))
        await until(lambda: call.stats.packets_received > 125, "what was before", 8)
        separate = call.record(artifacts / "side.wav", channels="separate", pre_roll_s=1.0)
        rotating = call.record(artifacts / "turn.flac", rotate_s=1.0)
        async with separate, rotating:
            await asyncio.sleep(2.2)
            rotating.pause()
            await asyncio.sleep(1.0)
            rotating.resume()
            await asyncio.sleep(0.4)
        await call.hangup()
        await playing
    sides = {name: artifacts / f"side-{name}.wav" for name in ("remote", "local")}
    for name, hertz in (("remote", 440), ("local", 900)):
        channels, rate, seconds = soxi(sides[name])
        assert (channels, rate) == (1, 8000)
        assert seconds == pytest.approx(separate.duration_s, abs=0.001)
        assert seconds > 4.4  # a second of it was before
        sound = Sound.read(sides[name])
        assert sox_hz(sides[name]) == pytest.approx(hertz, rel=0.05)  # as rough as SoX calls it
        assert level_dbfs(sound.samples[: 8000 // 2]) > -30, "the pre-roll is silent"
    turns = sorted(artifacts.glob("turn-*.flac"))
    lengths = [soxi(path)[2] for path in turns]
    assert len(turns) >= 3, lengths
    assert lengths[:-1] == pytest.approx([1.0] * (len(turns) - 1), abs=0.02)
    assert sum(lengths) == pytest.approx(rotating.duration_s, abs=0.02)


def sox_hz(path: Path) -> float:
    """The rough frequency of a file, as SoX calls it."""
    done = subprocess.run(["sox", path, "-n", "stat"], capture_output=True, text=True, check=True)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("Rough")]
    return float(line.split()[-1])
