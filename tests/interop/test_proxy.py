"""Our proxy between other people's programs: SIPp calls SIPp, baresip calls baresip."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from peers.baresip import Baresip
from peers.sipp import Sipp
from test_embedded_pbx import PATIENT, require_tone

from voip.harness.pbx import EmbeddedPbx
from voip.proxy import SipProxy
from voip.sip.proxy_policy import Target

StartBaresip = Callable[..., Awaitable[Baresip]]
StartSipp = Callable[..., Awaitable[Sipp]]

CALLS = 200
RATE = 50
USERS = {"1001": "secret1001", "1002": "secret1002"}


@pytest.fixture
async def proxy() -> AsyncIterator[SipProxy]:
    async with SipProxy(USERS) as proxy:
        yield proxy


def account(proxy: SipProxy, user: str) -> dict[str, str]:
    return {"user": user, "registrar": proxy.address, "password": USERS[user]}


@pytest.mark.parametrize(("caller", "callee"), [("udp", "udp"), ("tcp", "udp"), ("udp", "tcp")])
async def test_sipp_calls_sipp_through_the_proxy(sipp: StartSipp, caller: str, callee: str) -> None:
    uas = await sipp("uas", calls=CALLS, transport=callee)

    def service(number: str) -> Target | None:
        return Target(uas.uri) if number == "service" else None

    async with SipProxy({}, services=service, known_hosts=["127.0.0.1"]) as proxy:
        uac = await sipp(
            "uac", remote=proxy.address, transport=caller, calls=CALLS, rate=RATE, duration_ms=200
        )
        result = await uac.finished()
        result.require(CALLS)
        assert result.reasons == {}
        assert result.unexpected_out_of_call == 0, result.errors
        answered = await uas.finished()
        answered.require(CALLS)
        assert answered.unexpected_out_of_call == 0, answered.errors
        agent = proxy.agent
        assert (agent.counters.malformed, agent.counters.overload) == (0, 0)


@pytest.mark.parametrize(("alices", "bobs"), [("udp", "udp"), ("tcp", "udp"), ("udp", "tcp")])
async def test_baresip_calls_baresip_through_the_proxy_and_they_hear_each_other(
    proxy: SipProxy, baresip: StartBaresip, alices: str, bobs: str
) -> None:
    alice = await baresip(**account(proxy, "1001"), tone_hz=700, transport=alices)
    bob = await baresip(**account(proxy, "1002"), tone_hz=1004, transport=bobs)
    await alice.registered()
    await bob.registered()

    await alice.dial(f"sip:1002@{proxy.address}")
    await bob.incoming()
    await bob.accept()
    await alice.established()
    await bob.established()
    await asyncio.sleep(2.2)
    await bob.hangup()  # the callee's BYE finds its way back too
    await alice.closed()

    require_tone((await alice.recording()).received, 1004)
    require_tone((await bob.recording()).received, 700)


async def test_baresip_is_refused_what_the_other_refuses(
    proxy: SipProxy, baresip: StartBaresip
) -> None:
    alice = await baresip(**account(proxy, "1001"))
    await alice.registered()
    await alice.dial(f"sip:1002@{proxy.address}")
    closed = await alice.closed()
    assert "480" in closed.param


async def test_the_embedded_pbx_has_its_numbers_behind_a_proxy(baresip: StartBaresip) -> None:
    async with EmbeddedPbx(proxy=True, media=PATIENT) as pbx:
        alice = await baresip(
            user="1001", registrar=pbx.address, password=pbx.password("1001"), tone_hz=700
        )
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
