"""The embedded PBX judged by other people's phones: baresip and PJSIP are its users."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from peers.baresip import Baresip
from peers.pjsua import Pjsua

from voip.config import MediaConfig
from voip.harness.audio import Sound
from voip.harness.grade import Bar, grade_tone
from voip.harness.pbx import EmbeddedPbx

StartBaresip = Callable[..., Awaitable[Baresip]]
StartPjsua = Callable[..., Awaitable[Pjsua]]

PATIENT = MediaConfig(jitter_min_ms=200.0, jitter_policy="fixed")
BUSY_MACHINE = Bar(seconds=0.4, allowed=0.4)


@pytest.fixture
async def pbx(tmp_path: Path) -> AsyncIterator[EmbeddedPbx]:
    async with EmbeddedPbx(recordings=tmp_path, media=PATIENT) as pbx:
        yield pbx


def account(pbx: EmbeddedPbx, user: str) -> dict[str, str]:
    return {"user": user, "registrar": pbx.address, "password": pbx.password(user)}


def require_tone(path: Path, frequency_hz: float) -> None:
    sent = Sound.sine(frequency_hz, 1.0, 8000, -6.15)
    grade = grade_tone(sent, Sound.read(path), bar=BUSY_MACHINE)
    assert grade.heard_hz == pytest.approx(frequency_hz, abs=2.0), grade.explain()
    assert grade.seconds >= 0.8, grade.explain()


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_baresip_registers_and_hears_echo_and_tone(
    pbx: EmbeddedPbx, baresip: StartBaresip, transport: str
) -> None:
    alice = await baresip(**account(pbx, "1001"), tone_hz=700, transport=transport)
    await alice.registered()
    assert len(pbx.contacts("1001")) == 1

    for number, frequency_hz in (("600", 700), ("601", 1004)):
        await alice.dial(pbx.uri(number))
        await alice.established()
        await asyncio.sleep(2.2)
        await alice.hangup()
        await alice.closed()
        require_tone((await alice.recording()).received, frequency_hz)
    await pbx.idle()


async def test_baresips_digits_are_read_and_ours_are_heard(
    pbx: EmbeddedPbx, baresip: StartBaresip
) -> None:
    alice = await baresip(**account(pbx, "1001"))
    await alice.registered()

    await alice.dial(pbx.uri("604"))
    await alice.established()
    await alice.dtmf("4711")
    assert await pbx.digits("1001") == "4711"
    await alice.closed()

    await alice.dial(pbx.uri("605"))
    await alice.established()
    await alice.closed()
    assert alice.digits() == "1234*0#"


async def test_what_baresip_sends_is_recorded(pbx: EmbeddedPbx, baresip: StartBaresip) -> None:
    alice = await baresip(**account(pbx, "1002"), tone_hz=500)
    await alice.registered()
    await alice.dial(pbx.uri("614"))
    await alice.established()
    await asyncio.sleep(1.5)
    await alice.hangup()

    require_tone(await pbx.recording("614"), 500)


async def test_pjsip_registers_calls_and_is_refused(pbx: EmbeddedPbx, pjsua: StartPjsua) -> None:
    bob = await pjsua(**account(pbx, "1002"))
    await bob.registered()
    call = await bob.call(pbx.uri("600"))
    await bob.established(call)
    assert bob.codec() in ("PCMU", "PCMA")
    await bob.hangup(call)
    await bob.closed(call)

    for number, status in (("607", 486), ("608", 503), ("999", 404)):
        refused = await bob.call(pbx.uri(number))
        assert (await bob.closed(refused)).status == status


async def test_baresip_hears_itself_through_us_and_pjsip(
    pbx: EmbeddedPbx, baresip: StartBaresip, pjsua: StartPjsua
) -> None:
    alice = await baresip(**account(pbx, "1001"), tone_hz=600)
    bob = await pjsua(**account(pbx, "1002"))
    await asyncio.gather(alice.registered(), bob.registered())

    await alice.dial(pbx.uri("1002"))
    call = await bob.incoming()
    await bob.answer(call)
    await asyncio.gather(alice.established(), bob.established(call))
    await asyncio.sleep(2.2)
    await alice.hangup()
    await bob.closed(call)

    require_tone((await alice.recording()).received, 600)
    await pbx.idle()
