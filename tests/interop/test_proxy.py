"""Our proxy between other people's programs: SIPp calls SIPp, baresip calls baresip."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from peers.baresip import Baresip
from peers.pjsua import Pjsua
from peers.ports import HOST
from peers.sipp import Sipp
from sipp_flow import (
    ACKED,
    CONTACT,
    DESCRIBED,
    OURS,
    TAG,
    answered,
    asked,
    echoed,
    maybe,
    replied,
    scenario,
    sent,
)
from test_embedded_pbx import PATIENT, require_tone

from voip.harness.pbx import EmbeddedPbx
from voip.proxy import SipProxy
from voip.sip.endpoint.trace import SipTraceRecord
from voip.sip.headers import NameAddr
from voip.sip.location import Binding
from voip.sip.proxy_policy import Target
from voip.sip.uri import SipUri

StartBaresip = Callable[..., Awaitable[Baresip]]
StartSipp = Callable[..., Awaitable[Sipp]]
StartPjsua = Callable[..., Awaitable[Pjsua]]

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


# ---------------------------------------------------------------- 3xx, as others send them

TO = "<sip:[service]@[remote_ip]:[remote_port]>"
WITHIN = {"uri": "[next_url]", "to": TO, "tag": TAG}
CALLS_BY_ROUTE = (
    sent("INVITE", 1, CONTACT, *DESCRIBED, uri=TO[1:-1], to=TO),
    maybe(100),
    maybe(180),
    answered(200, routed=True),
    sent("ACK", 1, "[routes]", again=False, **WITHIN),
    "<pause/>",
    sent("BYE", 2, "[routes]", **WITHIN),
    answered(200),
)
"""SIPp's own `uac` and `uas` know nothing of routes: BYE goes to whom it has called."""
ANSWERS_BY_ROUTE = (
    '<recv request="INVITE"/>',
    echoed(200, CONTACT, *DESCRIBED, tag=OURS, again=True),
    ACKED,
    '<recv request="BYE"/>',
    echoed(200),
)


def declines(status: int, *lines: str) -> tuple[str, ...]:
    """It answers so, and is acknowledged."""
    return '<recv request="INVITE"/>', echoed(status, *lines, tag=OURS, again=True), ACKED


def sends_on(artifacts: Path, *contacts: str) -> Path:
    """A scenario that answers 302 with these contacts."""
    return scenario(artifacts, "sends-on", *declines(302, f"Contact: {', '.join(contacts)}"))


async def test_calls_that_sipp_sends_on_are_followed(sipp: StartSipp, artifacts: Path) -> None:
    """To another SIPp, and first to where nobody is; a third SIPp calls, and hears of no 302."""
    there = await sipp(scenario(artifacts, "answers", *ANSWERS_BY_ROUTE), calls=CALLS)
    nobody = "<sip:nobody@127.0.0.1:9>;q=1.0"
    phone = await sipp(sends_on(artifacts, nobody, f"<{there.uri}>;q=0.5"), calls=CALLS)

    def service(number: str) -> Target | None:
        return Target(phone.uri) if number == "service" else None

    async with SipProxy({}, services=service, known_hosts=["127.0.0.1"], max_redirects=2) as proxy:
        caller = scenario(artifacts, "calls", *CALLS_BY_ROUTE)
        uac = await sipp(caller, remote=proxy.address, calls=CALLS, rate=RATE, duration_ms=200)
        for one in (uac, phone, there):
            result = await one.finished()
            result.require(CALLS)
            assert result.unexpected_out_of_call == 0, result.errors
        assert proxy.agent.counters.malformed == 0


async def test_a_302_of_sipp_is_passed_on_where_the_proxy_is_not_to_follow(
    sipp: StartSipp, artifacts: Path
) -> None:
    there = await sipp("uas", calls=1)
    phone = await sipp(sends_on(artifacts, f"<{there.uri}>"), calls=1)

    def service(number: str) -> Target | None:
        return Target(phone.uri) if number == "service" else None

    async with SipProxy({}, services=service, known_hosts=["127.0.0.1"]) as proxy:
        uac = await sipp("uac", remote=proxy.address, calls=1)
        result = await uac.finished()
        assert result.failed == 1
        assert "SIP/2.0 302" in result.errors
        (await phone.finished()).require(1)


# ---------------------------------------------------------------- flows, as edges keep them

LOWER_VIA = '<ereg regexp=".*" search_in="hdr" header="Via:" occurrence="2" assign_to="5"/>'
RINGS = (
    asked("INVITE", 1, more=LOWER_VIA),
    echoed(180, tag=OURS),
    '<recv request="CANCEL"/>',
    echoed(200),
    replied(487, 1, "Via:[$5]", tag=OURS, again=True),
    ACKED,
)


@pytest.mark.rfc("5626", "7")
async def test_F111_where_sipp_says_that_a_flow_failed_the_next_one_is_tried_beside_what_rings(
    sipp: StartSipp, artifacts: Path
) -> None:
    """Two SIPp are edges of one phone, of which the newer has lost it; a third one's phone rings.

    It rings until the call is answered by the other flow: that was not waited for its end.
    """
    lost = await sipp(scenario(artifacts, "flow-failed", *declines(430)), calls=CALLS)
    kept = await sipp(scenario(artifacts, "answers", *ANSWERS_BY_ROUTE), calls=CALLS)
    other = await sipp(scenario(artifacts, "rings", *RINGS), calls=CALLS)

    def by(edge: Sipp, instance: str, reg_id: int) -> Binding:
        uri = "sip:1001@192.0.2.7"  # nobody is there: by its edge alone it is reached
        return Binding(
            NameAddr("", uri), SipUri.parse(uri), float("inf"), "c", 1,
            path=(f"<sip:{HOST}:{edge.port};lr;ob>",), instance=instance, reg_id=reg_id,
        )  # fmt: skip

    async with SipProxy(USERS, known_hosts=[HOST]) as proxy:
        bindings = [by(kept, "desk", 1), by(lost, "desk", 2), by(other, "mobile", 1)]
        proxy.location.set("1001", bindings, proxy.now())
        caller = scenario(artifacts, "calls", *CALLS_BY_ROUTE)
        uac = await sipp(
            caller, remote=proxy.address, calls=CALLS, rate=RATE, duration_ms=200, service="1001"
        )
        for one in (uac, lost, kept, other):
            result = await one.finished()
            result.require(CALLS)
            assert result.unexpected_out_of_call == 0, result.errors
        assert proxy.agent.counters.malformed == 0


@pytest.mark.parametrize("max_redirects", [0, 1])
async def test_F023_pjsip_sends_baresip_on_to_another_user(
    baresip: StartBaresip, pjsua: StartPjsua, max_redirects: int
) -> None:
    """It is registered, and answers 302: our proxy goes there, or tells baresip, who does."""
    users = {**USERS, "1003": "secret1003"}
    told: list[bytes] = []

    def trace(record: SipTraceRecord) -> None:
        if record.sent and record.data.startswith(b"SIP/2.0 302"):
            told.append(record.data)

    async with EmbeddedPbx(
        users=users, proxy=True, max_redirects=max_redirects, media=PATIENT, trace=trace
    ) as pbx:
        bob = await pjsua(user="1002", registrar=pbx.address, password=users["1002"])
        await bob.registered()
        phones = [
            await baresip(user=user, registrar=pbx.address, password=users[user], tone_hz=hz)
            for user, hz in (("1001", 700), ("1003", 1004))
        ]
        alice, carol = phones
        for phone in phones:
            await phone.registered()
        await alice.dial(pbx.uri("1002"))
        call = await bob.incoming()
        await bob.send_on(call, pbx.uri("1003"))
        await carol.incoming()
        await carol.accept()
        await alice.established()
        await carol.established()
        await asyncio.sleep(2.2)
        await carol.hangup()
        await alice.closed()
        require_tone((await alice.recording()).received, 1004)
        require_tone((await carol.recording()).received, 700)
    assert len(told) == (0 if max_redirects else 1)
