"""Sound through Asterisk: what we hear of it, and what it hears of us."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from peers.asterisk import Asterisk
from phones import (
    CODECS,
    LEG_HZ,
    TAIL_S,
    echo_of,
    ended,
    part,
    require_speech,
    shipped,
    softphone,
    stretches,
    until,
)
from stalls import repeated_after_stalls

from voip.events import Answered, CallEnded, CallState, EarlyMedia, EndedBy
from voip.harness.audio import Sound, dominant_tone, find_offset, is_silence
from voip.harness.grade import Bar, grade_tone

MILLIWATT_DBFS = -6.18
"""0 dBm0 as a sine: ITU-T G.711 puts full scale at +3.17 dBm0 (A-law: +3.14)."""

CLEAN = Bar(snr_db=30.0)
"""Coded once by G.711 a tone keeps an SNR of about 37 dB; more than that is not lost on the way."""

STAGE_S = 1.6
"""How long a tone sounds, or does not, before it is judged: at least a second of it counts."""


@pytest.mark.parametrize("codec", CODECS)
@repeated_after_stalls
async def test_speech_comes_back_from_600_and_is_what_614_records(
    asterisk: Asterisk, artifacts: Path, codec: str
) -> None:
    speech = shipped("speech-8k.wav")

    async with softphone(asterisk, "1001", artifacts, codecs=(codec,)) as phone:

        async def speak(number: str) -> Sound:
            async with await phone.dial(number) as call:
                assert call.codec == codec
                return await echo_of(call, speech, artifacts / f"ours-{number}.wav")

        async with asyncio.TaskGroup() as group:
            echoing = group.create_task(speak("600"))
            group.create_task(speak("614"))

    echo = echoing.result()
    require_speech(speech, echo, what="600 sends back")
    place = find_offset(speech, echo)
    assert place is not None
    assert place.likeness > 0.98
    assert 0 < place.offset < TAIL_S * LEG_HZ
    require_speech(speech, Sound.read(await asterisk.recording("614")), what="614 recorded")


@repeated_after_stalls
async def test_612_records_both_directions_as_one(asterisk: Asterisk, artifacts: Path) -> None:
    tone = Sound.sine(700, 1.8, LEG_HZ, -26)  # whole periods in 20 ms: its echo is in phase
    async with (
        softphone(asterisk, "1001", artifacts) as phone,
        await phone.dial("612") as call,
    ):
        echo = await echo_of(call, tone, artifacts / "echo.wav")
    grade_tone(tone, echo, leg_rate_hz=LEG_HZ, bar=CLEAN).require()
    mixed = Sound.read(await asterisk.recording("612"))
    grade = grade_tone(tone, mixed, leg_rate_hz=LEG_HZ, bar=CLEAN).require()
    assert grade.gain_db == pytest.approx(6.0, abs=1.0)


@pytest.mark.parametrize("codec", CODECS)
@repeated_after_stalls
async def test_601_sounds_1004_hz_at_one_milliwatt(
    asterisk: Asterisk, artifacts: Path, codec: str
) -> None:
    path = artifacts / "heard.wav"
    async with (
        softphone(asterisk, "1001", artifacts, codecs=(codec,)) as phone,
        await phone.dial("601") as call,
        call.record(path),
    ):
        await asyncio.sleep(1.8)
    heard = Sound.read(path)
    tone = Sound.sine(1004, 1, LEG_HZ, MILLIWATT_DBFS)
    grade = grade_tone(tone, heard, leg_rate_hz=LEG_HZ, bar=CLEAN).require()
    assert grade.windows >= 10
    assert grade.start_s is not None
    found = dominant_tone(part(heard, grade.start_s, grade.start_s + grade.seconds))
    assert found is not None
    assert found.frequency_hz == pytest.approx(1004, abs=0.5)
    assert found.level_dbfs == pytest.approx(MILLIWATT_DBFS, abs=0.5)


@repeated_after_stalls
async def test_603_is_heard_until_the_server_hangs_up(asterisk: Asterisk, artifacts: Path) -> None:
    path = artifacts / "heard.wav"
    async with softphone(asterisk, "1001", artifacts) as phone:
        call = await phone.dial("603")
        async with call.record(path):
            end = await ended(call)
    assert end.by is EndedBy.REMOTE
    prompt = Sound.read(asterisk.sound("demo-thanks"))
    require_speech(prompt, Sound.read(path), coverage=0.98)


@repeated_after_stalls
async def test_606_is_heard_before_it_answers_and_echoes_after(
    asterisk: Asterisk, artifacts: Path
) -> None:
    prompt = shipped("prompt-8k.wav")
    async with softphone(asterisk, "1001", artifacts) as phone:
        async with await phone.dial("606", wait="ringing") as call:
            assert call.state is CallState.EARLY
            async with call.record(artifacts / "early.wav"):
                await call.wait_answered(10)
            assert call.state is CallState.ACTIVE
            echo = await echo_of(call, prompt, artifacts / "echo.wav")
        kinds = [type(event) for event in [event async for event in call.events()]]
    assert kinds == [EarlyMedia, Answered, CallEnded]
    early = Sound.read(asterisk.sound("privacy-prompt"))
    require_speech(early, Sound.read(artifacts / "early.wav"), coverage=0.95, what="early media")
    require_speech(prompt, echo, what="echo after the answer")


@repeated_after_stalls
async def test_F017_F019_hold_silences_asterisk_for_us_and_not_us_for_asterisk(
    asterisk: Asterisk, artifacts: Path
) -> None:
    mark = asterisk.mark()
    music = Sound.sine(700, 10, LEG_HZ, -20)
    milliwatt = Sound.sine(1004, 1, LEG_HZ, MILLIWATT_DBFS)

    async with softphone(asterisk, "1001", artifacts) as phone:
        listening, recorded = await asyncio.gather(phone.dial("601"), phone.dial("614"))
        playing = asyncio.create_task(recorded.play(music.samples))
        async with listening.record(artifacts / "601.wav"):
            await asyncio.sleep(STAGE_S)
            for call in (listening, recorded):
                await call.hold()
                assert call.state is CallState.HELD
            held = await recorded.measure()
            await asyncio.sleep(STAGE_S)
            after = await recorded.measure()
            for call in (listening, recorded):
                await call.resume()
                assert call.state is CallState.ACTIVE
            await asyncio.sleep(STAGE_S)
        await asyncio.gather(listening.hangup(), recorded.hangup())
        await playing

    directions = re.findall(r"a=(sendonly|recvonly)", asterisk.log_since(mark))
    assert sorted(directions) == ["recvonly"] * 2 + ["sendonly"] * 2
    heard = Sound.read(artifacts / "601.wav")
    before, hold, resumed = tone_silence_tone(heard)
    assert hold.seconds > STAGE_S - 0.3
    for tone in (before, resumed):
        grade_tone(milliwatt, tone, leg_rate_hz=LEG_HZ, bar=CLEAN).require()

    assert after.packets_sent - held.packets_sent >= 50 * (STAGE_S - 0.2)
    far_end = Sound.read(await asterisk.recording("614"))
    grade = grade_tone(music, far_end, leg_rate_hz=LEG_HZ, bar=CLEAN).require()
    assert grade.seconds > 3 * STAGE_S - 0.3, "music on hold has a hole"


@repeated_after_stalls
async def test_mute_is_silence_in_what_614_records(asterisk: Asterisk, artifacts: Path) -> None:
    tone = Sound.sine(700, 10, LEG_HZ, -20)
    async with softphone(asterisk, "1001", artifacts) as phone:
        call = await phone.dial("614")
        playing = asyncio.create_task(call.play(tone.samples))
        await asyncio.sleep(STAGE_S)
        await call.mute()
        muted = await call.measure()
        await asyncio.sleep(STAGE_S)
        after = await call.measure()
        await call.unmute()
        await asyncio.sleep(STAGE_S)
        await call.hangup()
        await playing

    assert after.packets_sent - muted.packets_sent >= 50 * (STAGE_S - 0.2)
    heard = Sound.read(await asterisk.recording("614"))
    before, silence, unmuted = tone_silence_tone(heard)
    assert silence.seconds > STAGE_S - 0.3
    assert is_silence(part(silence, 0.02, silence.seconds - 0.02))
    for sound in (before, unmuted):
        grade_tone(tone, sound, leg_rate_hz=LEG_HZ, bar=CLEAN).require()


@repeated_after_stalls
async def test_rtcp_goes_both_ways(asterisk: Asterisk, artifacts: Path) -> None:
    mark = asterisk.mark()
    asterisk.cli("rtcp set debug on")
    try:
        async with (
            softphone(asterisk, "1001", artifacts) as phone,
            await phone.dial("600") as call,
        ):

            async def both_know_the_round_trip() -> bool:
                measured = (await call.measure()).rtt_ms is not None
                return measured and bool(_round_trips(asterisk.log_since(mark)))

            await until(both_know_the_round_trip, "reports that answer each other", 15)
            stats, quality = call.stats, call.quality
    finally:
        asterisk.cli("rtcp set debug off")

    assert stats.rtt_ms is not None
    assert 0 <= stats.rtt_ms < 300
    assert stats.remote_packets_lost == 0
    assert quality.mos is not None
    assert quality.mos > 3.5
    log = asterisk.log_since(mark)
    assert all(abs(seconds) < 0.3 for seconds in _round_trips(log)), _round_trips(log)
    assert set(re.findall(r"Packets lost so far: (-?\d+)", log)) == {"0"}
    assert "Received an SDES" in log


def _round_trips(log: str) -> list[float]:
    """What Asterisk made of those of our reports that named one of its own, in seconds."""
    blocks = re.findall(r"Last SR\(our NTP\): (\S+).*?RTT: (\S+?)\(sec\)", log, re.DOTALL)
    return [float(rtt) for last_report, rtt in blocks if float(last_report)]


def tone_silence_tone(sound: Sound) -> list[Sound]:
    """The three parts of which a sound must be made."""
    parts = stretches(sound)
    shape = [f"{'tone' if loud else 'silence'} of {found.seconds:.2f} s" for loud, found in parts]
    assert [loud for loud, _ in parts] == [True, False, True], shape
    return [found for _, found in parts]
