"""Flows instead of addresses: RFC 5626, and what comes with it (RFC 3327, 3608, 5627)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

import pytest
from callers import until
from test_phone_registration import HERE, OVER_TCP, Desk

from voip.call import Call
from voip.errors import ConfigError, RegistrationError
from voip.events import Registered, RegistrationFailed
from voip.phone import Softphone
from voip.sip.flow import Flow
from voip.sip.headers import NameAddr
from voip.sip.message import Response, parse_message
from voip.sip.registration import RETRY_BASE_S, RETRY_BASE_WHILE_REACHED_S
from voip.sip.terms import Terms
from voip.types import Address

pytestmark = pytest.mark.rfc("5626", "4")

INSTANCE = "f81d4fae-7dec-11d0-a765-00a0c91e6bf6"
NAMED = f'+sip.instance="<urn:uuid:{INSTANCE}>"'


@pytest.fixture
async def edges() -> AsyncIterator[tuple[Desk, Desk]]:
    """Two edge proxies, each its own registrar too."""
    first, second = Desk(), Desk()
    first.more = second.more = [("Require", "outbound")]
    async with first.phone, second.phone:
        yield first, second


def phone(*desks: Desk, **more: object) -> Softphone:
    more.setdefault("network", OVER_TCP)
    more.setdefault("instance", INSTANCE)
    proxies = [f"sip:127.0.0.1:{desk.phone.port}" for desk in desks]
    return Softphone("sip:alice@voip.test", proxy=proxies, **more)  # type: ignore[arg-type]


def answering(desk: Desk) -> list[Call]:
    calls: list[Call] = []

    @desk.phone.on_incoming
    async def answer(call: Call) -> None:
        calls.append(call)
        await call.answer()

    return calls


async def test_F111_each_proxy_has_a_flow_of_the_same_phone(edges):
    async with phone(*edges) as alice:
        await until(lambda: all(desk.asked for desk in edges))
        asked = [desk.asked[0].request for desk in edges]
        contacts = [request.headers.get("Contact") for request in asked]
        assert [re.search(r";reg-id=(\d)", one)[1] for one in contacts] == ["1", "2"]
        assert all(NAMED in one for one in contacts)
        for request in asked:
            assert {"path", "outbound", "gruu"} <= set(request.headers.values("Supported"))
        assert len({one.call_id for one in asked}) == 2
        ports = [desk.phone.port for desk in edges]
        routes = [f"<sip:127.0.0.1:{port};lr>" for port in ports]
        assert [one.headers.get("Route") for one in asked] == routes
        await until(lambda: len(list(alice._events)) == 2)
        assert len(alice._transport._keeper) == 2
        await alice.unregister()
        assert [desk.asked_for()[-1] for desk in edges] == ["0", "0"]
        assert all(NAMED in desk.asked[-1].request.headers.get("Contact") for desk in edges)


async def test_F111_one_flow_that_fails_leaves_the_other(edges):
    first, second = edges
    first.refusal = 503
    calls = answering(second)
    async with phone(*edges) as alice:
        assert alice.registered
        await until(lambda: len(list(alice._events)) == 2)
        (failed,) = [one for one in alice._events if isinstance(one, RegistrationFailed)]
        assert failed.status == 503 and failed.retry_in_s is not None
        async with await alice.dial("bob"):
            assert len(calls) == 1
            request = calls[0]._session.dialog
            assert request is not None
        line = alice._lines.first.registrars.by_preference()[1]
        assert not line.registered and line.others_hold()


async def test_F111_waiting_is_longer_while_another_flow_reaches_us(edges):
    first, second = edges
    first.refusal = 403
    async with phone(*edges) as alice:
        await until(lambda: len(list(alice._events)) == 2)
        first.refusal = 503
        with pytest.raises(RegistrationError):
            await alice._lines.first.registrars.by_preference()[1].start()
        failed = list(alice._events)[-1]
        assert isinstance(failed, RegistrationFailed) and failed.retry_in_s is not None
        assert RETRY_BASE_WHILE_REACHED_S <= failed.retry_in_s <= 2 * RETRY_BASE_WHILE_REACHED_S
    first.refusal = second.refusal = 503
    alone = phone(*edges)
    with pytest.raises(RegistrationError, match="503"):
        await alone.start()
    waits = [one.retry_in_s for one in alone._events if isinstance(one, RegistrationFailed)]
    assert all(RETRY_BASE_S / 2 <= wait <= 4 * RETRY_BASE_WHILE_REACHED_S for wait in waits)
    assert min(waits) <= 2 * RETRY_BASE_S


async def test_F111_a_flow_that_is_lost_is_formed_again_with_its_reg_id(edges):
    first, second = edges
    async with phone(*edges) as alice:
        await until(lambda: len(list(alice._events)) == 2)
        second.hang_up()
        await until(lambda: len(second.asked) == 2)
        before, after = (one.request.headers.get("Contact") for one in second.asked)
        assert ";reg-id=2;" in before and ";reg-id=2;" in after
        assert len(first.asked) == 1


async def test_F111_a_first_hop_without_outbound_is_registered_at_without(edges):
    first, _ = edges
    first.refusal = 439
    asked = []

    def after() -> None:
        asked.append(first.asked[-1].request.headers.get("Contact"))
        first.refusal = None

    first.after = after
    async with phone(first, outbound=True) as alice:
        assert alice.registered
    assert ";reg-id=1" in asked[0] and "reg-id" not in asked[1] and NAMED in asked[1]


async def test_F111_the_contact_of_a_call_asks_for_its_flow(edges):
    first, _ = edges
    seen: list[bytes] = []
    async with phone(first, outbound=True, trace=lambda one: seen.append(one.data)) as alice:
        answering(first)
        async with await alice.dial("bob"):
            pass
    (invite,) = [one for one in seen if one.startswith(b"INVITE")]
    assert re.search(rb"Contact: <sip:alice@[0-9.]+:\d+;transport=tcp;ob>", invite)


@pytest.mark.parametrize("instance", [INSTANCE, f"urn:uuid:{INSTANCE}", INSTANCE.upper()])
def test_an_instance_is_a_uuid(instance):
    assert Softphone(instance=instance)._instance == f"urn:uuid:{INSTANCE}"
    with pytest.raises(ConfigError, match="is no UUID"):
        Softphone(instance="my phone")


async def test_F111_who_gives_no_instance_is_a_phone_of_its_own(edges):
    desk, _ = edges
    for _ in range(2):
        async with phone(desk, outbound=True, instance=None):
            pass
    contacts = [one.request.headers.get("Contact") for one in desk.asked]
    found = [re.search(r'instance="<(urn:uuid:[0-9a-f-]{36})>"', one)[1] for one in contacts]
    assert len(found) == 4 and len(set(found)) == 2  # each comes and goes under its own name


# ---------------------------------------------------------------- Path, Service-Route, GRUU


async def test_F113_path_is_supported_and_what_it_says_is_passed_over(edges):
    desk, _ = edges
    desk.more = [("Path", "<sip:edge.example;lr>, <sip:x@other.example;lr>")]
    async with Softphone(desk.uri, network=HERE) as alice:
        supported = desk.asked[0].request.headers.values("Supported")
        assert "path" in supported and "outbound" not in supported
        assert alice.registered and "reg-id" not in desk.asked[0].request.headers.get("Contact")


@pytest.mark.rfc("5627", "4.1")
@pytest.mark.parametrize("proxies", [0, 1, 2])
@pytest.mark.parametrize("outbound", [False, True])
async def test_who_knows_gruus_says_so_in_whatever_it_sends(edges, proxies, outbound):
    """And asks for one by its instance only where it wants one."""
    calls = answering(edges[0])
    uris = [f"sip:127.0.0.1:{desk.phone.port}" for desk in edges][:proxies]
    seen: list[bytes] = []
    async with Softphone(
        edges[0].uri,
        network=HERE,
        proxy=uris,
        outbound=outbound,
        trace=lambda one: seen.append(one.data) if one.sent else None,
    ) as alice:
        async with await alice.dial("bob"):
            pass
        assert len(calls) == 1
        alice.on_incoming(Call.answer)
        async with await edges[0].phone.dial(f"sip:alice@127.0.0.1:{alice.port}"):
            pass
    asked = [one for one in seen if one.startswith((b"REGISTER", b"INVITE", b"BYE"))]
    asked += [one for one in seen if one.startswith(b"SIP/2.0 200") and b" INVITE\r\n" in one]
    assert len(asked) >= 4
    for one in asked:
        assert any(b"gruu" in line for line in re.findall(rb"Supported: (.*)\r\n", one)), one
    wants = any(b"+sip.instance" in one for one in asked)
    assert wants == (outbound or proxies > 1)


async def test_F114_requests_go_by_the_service_route_until_it_is_gone(edges):
    registrar, proxy = edges
    route = f"<sip:127.0.0.1:{proxy.phone.port};lr>, <sip:home.example;lr>"
    registrar.more = [("Service-Route", route)]
    calls, direct = answering(proxy), answering(registrar)
    seen: list[bytes] = []
    async with Softphone(
        registrar.uri, network=HERE, trace=lambda one: seen.append(one.data)
    ) as alice:
        async with await alice.dial("bob"):
            assert (len(calls), len(direct)) == (1, 0)
        invite = next(one for one in seen if one.startswith(b"INVITE"))
        routes = re.findall(rb"Route: (.*)\r\n", invite)
        assert b", ".join(routes).decode() == route
        registrar.more = []
        await alice.register()
        async with await alice.dial("bob"):
            assert (len(calls), len(direct)) == (1, 1)


def ok(*lines: str) -> Response:
    via = "Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1"
    message = parse_message("\r\n".join(["SIP/2.0 200 OK", via, *lines, "", ""]).encode())
    assert isinstance(message, Response)
    return message


@pytest.mark.parametrize(
    ("lines", "route"),
    [
        (
            ["Service-Route: <sip:P2.HOME.EXAMPLE.COM;lr>,", " <sip:HSP.HOME.EXAMPLE.COM;lr>"],
            ("<sip:P2.HOME.EXAMPLE.COM;lr>", "<sip:HSP.HOME.EXAMPLE.COM;lr>"),
        ),
        (["Service-Route: <sip:strict.example>"], ()),
        (["Service-Route: <sip:a;lr>", "Service-Route: <nonsense"], ()),
        ([], ()),
    ],
)
def test_F114_a_service_route_is_one_of_loose_routers(lines, route):
    flow = Flow("udp", Address("192.0.2.1", 5060), Address("192.0.2.9", 5060))
    assert Terms.of(ok(*lines), flow).service_route == route


async def test_F112_a_gruu_is_where_calls_say_that_we_are(edges):
    desk, _ = edges
    gruu = f"sip:alice@voip.test;gr=urn:uuid:{INSTANCE}"
    desk.contact_more = f';pub-gruu="{gruu}";temp-gruu="sip:tgruu.7hs==x@voip.test;gr"'
    seen: list[bytes] = []
    async with phone(desk, outbound=True, trace=lambda one: seen.append(one.data)) as alice:
        assert alice.gruu == gruu
        calls = answering(desk)
        async with await alice.dial("bob"):
            assert calls[0]._session.dialog.remote_target == gruu
        rung: list[Call] = []

        @alice.on_incoming
        async def answer(call: Call) -> None:
            rung.append(call)
            await call.answer()

        async with await desk.phone.dial(f"sip:alice@127.0.0.1:{alice.port}") as call:
            assert call._session.dialog.remote_target == gruu
        await alice.unregister()
        assert alice.gruu is None
    contacts = [re.search(rb"Contact: (.*)\r\n", one)[1] for one in seen if b"REGISTER sip" in one]
    assert all(b"gruu" not in one and b"<sip:alice@127.0.0.1" in one for one in contacts)
    invites = [one for one in seen if one.startswith(b"INVITE sip:bob")]
    assert f"Contact: <{gruu}>".encode() in invites[0]
    supported = parse_message(invites[0]).headers.values("Supported")
    assert "gruu" in supported  # RFC 5627 section 4.4


@pytest.mark.parametrize(
    ("contact", "pub", "temp"),
    [
        ('<sip:a@b>;pub-gruu="sip:a@c;gr=1";temp-gruu="sip:t@c;gr"', "sip:a@c;gr=1", "sip:t@c;gr"),
        ('<sip:a@b>;temp-gruu="sip:t@c;gr"', None, "sip:t@c;gr"),
        ('<sip:a@b>;pub-gruu="sip:a@c"', None, None),  # no GRUU without gr
        ('<sip:a@b>;pub-gruu="nonsense"', None, None),
        ("<sip:a@b>;pub-gruu", None, None),
        ("<sip:a@b>", None, None),
    ],
)
def test_F112_a_gruu_has_gr(contact, pub, temp):
    flow = Flow("udp", Address("192.0.2.1", 5060), Address("192.0.2.9", 5060))
    terms = Terms.of(ok(), flow, NameAddr.parse(contact))
    assert (terms.pub_gruu, terms.temp_gruu) == (pub, temp)


async def test_F111_closing_while_a_proxy_is_silent_leaves_no_task(edges, monkeypatch):
    monkeypatch.setattr("voip.registration.GOODBYE_S", 0.2)
    _, second = edges
    second.answers = False
    async with phone(*edges) as alice:
        assert list(alice._events) == [Registered(300.0)]
    await asyncio.sleep(0)
    assert not [one for one in asyncio.all_tasks() if "Registrar" in repr(one)]
