"""The machinery itself: peers that call each other, before they call us."""

from __future__ import annotations

import asyncio
import wave
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest
from peers.asterisk import Asterisk
from peers.baresip import Baresip
from peers.pjsua import Pjsua
from peers.sipp import Sipp

StartBaresip = Callable[..., Awaitable[Baresip]]
StartPjsua = Callable[..., Awaitable[Pjsua]]
StartSipp = Callable[..., Awaitable[Sipp]]


def longest_tone_s(path: Path, hz: float) -> float:
    """The longest run of seconds, in steps of 0.1, in which nearly all energy is at `hz`."""
    with wave.open(str(path)) as wav:
        rate = wav.getframerate()
        pcm = np.frombuffer(wav.readframes(wav.getnframes()), "<i2").astype(float)
    step = rate // 10
    best = run = 0
    for start in range(0, len(pcm) - step + 1, step):
        power = np.abs(np.fft.rfft(pcm[start : start + step] * np.hanning(step))) ** 2
        near = np.abs(np.fft.rfftfreq(step, 1 / rate) - hz) <= 30
        heard = power.sum() > 1e6 and power[near].sum() > 0.95 * power.sum()
        run = run + 1 if heard else 0
        best = max(best, run)
    return best / 10


def test_asterisk_boots_with_its_numbers_and_phones(asterisk: Asterisk) -> None:
    assert asterisk.version().startswith("Asterisk ")
    assert asterisk.calls() == 0
    assert asterisk.contacts("1001") == []
    assert "Echo" in asterisk.cli("dialplan show 600@phones")
    assert asterisk.sound("demo-thanks").stat().st_size > 80_000


async def test_baresip_registers_at_asterisk_and_hears_echo_and_tone(
    asterisk: Asterisk, baresip: StartBaresip
) -> None:
    alice = await baresip(
        user="1001", registrar=asterisk.address, password=asterisk.password("1001"), tone_hz=700
    )
    await alice.registered()
    assert len(asterisk.contacts("1001")) == 1

    for number, hz in (("600", 700), ("601", 1004)):
        await alice.dial(asterisk.uri(number))
        await alice.established()
        await asyncio.sleep(1.6)
        await alice.hangup()
        await alice.closed()
        recording = await alice.recording()
        assert longest_tone_s(recording.sent, 700) >= 1
        assert longest_tone_s(recording.received, hz) >= 1
    await asterisk.idle()


async def test_baresip_sends_digits_that_asterisk_reads_and_hears_those_it_sends(
    asterisk: Asterisk, baresip: StartBaresip
) -> None:
    alice = await baresip(
        user="1001", registrar=asterisk.address, password=asterisk.password("1001")
    )
    await alice.registered()

    await alice.dial(asterisk.uri("604"))
    await alice.established()
    await alice.dtmf("4711")
    assert await asterisk.digits("1001") == "4711"
    await alice.hangup()
    await alice.closed()

    await alice.dial(asterisk.uri("605"))
    await alice.established()
    await alice.closed()
    assert alice.digits() == "1234*0#"


async def test_asterisk_records_what_baresip_sends(
    asterisk: Asterisk, baresip: StartBaresip
) -> None:
    alice = await baresip(
        user="1002", registrar=asterisk.address, password=asterisk.password("1002"), tone_hz=500
    )
    await alice.registered()
    await alice.dial(asterisk.uri("614"))
    await alice.established()
    await asyncio.sleep(1.5)
    await alice.hangup()
    assert longest_tone_s(await asterisk.recording("614"), 500) >= 1


async def test_sipp_calls_sipp_over_udp(sipp: StartSipp) -> None:
    callee = await sipp("uas", calls=20)
    caller = await sipp("uac", remote=callee.address, calls=20, rate=40)
    (await caller.finished()).require(20)
    (await callee.finished()).require(20)


async def test_sipp_calls_sipp_over_tcp(sipp: StartSipp) -> None:
    callee = await sipp("uas", calls=20, transport="tcp")
    caller = await sipp("uac", remote=callee.address, calls=20, rate=40, transport="tcp")
    (await caller.finished()).require(20)


async def test_sipp_says_what_failed(sipp: StartSipp, asterisk: Asterisk) -> None:
    caller = await sipp("uac", remote=asterisk.address, calls=3, service="600")
    result = await caller.finished()
    assert (result.exit_status, result.successful, result.failed) == (1, 0, 3)
    assert result.reasons == {"FailedUnexpectedMessage": 3}
    assert "401" in result.errors
    with pytest.raises(AssertionError, match="0 of 3 calls"):
        result.require(3)


async def test_pjsip_registers_at_asterisk_and_calls_it(
    asterisk: Asterisk, pjsua: StartPjsua
) -> None:
    bob = await pjsua(user="1002", registrar=asterisk.address, password=asterisk.password("1002"))
    await bob.registered()
    call = await bob.call(asterisk.uri("600"))
    await bob.established(call)
    assert bob.codec() in ("PCMU", "PCMA")
    await bob.hangup(call)
    await bob.closed(call)

    busy = await bob.call(asterisk.uri("607"))
    assert (await bob.closed(busy)).status == 486


async def test_baresip_hears_itself_through_pjsip(baresip: StartBaresip, pjsua: StartPjsua) -> None:
    bob = await pjsua()
    alice = await baresip(tone_hz=600, codecs=["PCMA"])
    await alice.dial(bob.uri)
    call = await bob.incoming()
    await bob.answer(call)
    await bob.established(call)
    await alice.established()
    await asyncio.sleep(1.6)
    assert bob.codec() == "PCMA"
    await alice.dtmf("42")
    for digit in "42":
        await bob.wait_for("dtmf", call=call, text=digit)
    assert bob.digits(call) == "42"
    await bob.hangup(call)
    await alice.closed()
    assert longest_tone_s((await alice.recording()).received, 600) >= 1
