"""Requests that are too long for UDP: by TCP, and by UDP where there is none (RFC 3261, 18.1.1)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from proxy_stage import to
from virtual_sip import ANSWER, OFFER, Net, Phone, assert_nothing_left

from voip.sip.config import AgentConfig
from voip.sip.events import (
    Answered,
    Cause,
    DialogEnded,
    IncomingInvite,
    InviteFailed,
    RequestFailed,
)
from voip.sip.flow import Flow
from voip.sip.message import Request, Response

pytestmark = pytest.mark.rfc("3261", "18.1.1")


@pytest.fixture
def net() -> Iterator[Net]:
    net = Net()
    yield net
    net.run(40)
    assert_nothing_left(net)


LONG = OFFER + b"a=x:" + b"y" * 1500 + b"\r\n"


def no_tcp(net: Net) -> None:
    """Let connections be refused, a moment after somebody has tried."""

    def refuse(message: Request | Response, flow: Flow) -> bool:
        if flow.transport == "tcp":
            phone = net.phones[flow.local]
            net.at(net.now + 0.01, lambda: phone.agent.flow_failed(flow, "nobody listens", net.now))
        return flow.transport == "tcp"

    net.path = replace(net.path, drop=refuse)


def ways(net: Net, by: Phone, method: str) -> list[tuple[str, str]]:
    """(transport of the flow, transport in Via) of requests of a method."""
    return [
        (flow.transport, message.via.transport)
        for _, message, flow in net.wire
        if isinstance(message, Request) and message.method == method and flow.local == by.address
    ]


def test_a_long_invite_goes_by_tcp_and_the_call_goes_on(net: Net, alice: Phone, bob: Phone) -> None:
    bob.on(IncomingInvite, lambda event: bob.answer(event.invite))
    alice.on(Answered, lambda event: alice.agent.bye(event.dialog, now=net.now))
    alice.call(bob, body=LONG)
    net.run(40)
    assert ways(net, alice, "INVITE") == [("tcp", "TCP")]
    assert ways(net, alice, "ACK") == ways(net, alice, "BYE") == [("udp", "UDP")]
    assert alice.only(DialogEnded) and bob.only(DialogEnded)
    assert alice.agent.transactions == bob.agent.transactions == 0


def test_what_follows_a_long_invite_goes_by_tcp_where_the_callee_asks_for_that(
    net: Net, alice: Phone, bob: Phone
) -> None:
    contact = f"<sip:bob@{bob.address};transport=TCP>"
    bob.on(IncomingInvite, lambda event: bob.agent.respond(
        event.invite, 200, contact=contact, body=ANSWER, content_type="application/sdp",
        now=net.now,
    ))  # fmt: skip
    alice.on(Answered, lambda event: alice.agent.bye(event.dialog, now=net.now))
    alice.call(bob, body=LONG)
    net.run(40)
    for method in ("INVITE", "ACK", "BYE"):
        assert ways(net, alice, method) == [("tcp", "TCP")]
    assert alice.only(DialogEnded) and bob.only(DialogEnded)


def test_a_long_invite_falls_back_to_udp_in_the_same_transaction(
    net: Net, alice: Phone, bob: Phone
) -> None:
    no_tcp(net)
    bob.on(IncomingInvite, lambda event: bob.answer(event.invite))
    alice.on(Answered, lambda event: alice.agent.bye(event.dialog, now=net.now))
    alice.call(bob, body=LONG)
    net.run(40)
    assert ways(net, alice, "INVITE") == [("tcp", "TCP"), ("udp", "UDP")]
    branches = {
        m.via.branch for _, m, _ in net.wire if isinstance(m, Request) and m.method == "INVITE"
    }
    assert len(branches) == 1
    assert alice.only(DialogEnded) and len(bob.events(IncomingInvite)) == 1
    alice.call(bob, body=LONG)  # bob has no TCP: that is known for a while
    net.run(40)
    assert ways(net, alice, "INVITE")[2:] == [("udp", "UDP")]
    net.run(600)
    alice.call(bob, body=LONG)
    net.run(40)
    assert ways(net, alice, "INVITE")[3:] == [("tcp", "TCP"), ("udp", "UDP")]
    assert alice.agent.transactions == bob.agent.transactions == 0
    assert alice.agent.timers == 0


def test_cancel_goes_the_way_of_its_invite(net: Net, alice: Phone, bob: Phone) -> None:
    bob.on(
        IncomingInvite, lambda event: bob.agent.ring(event.invite, contact=bob.contact, now=net.now)
    )
    invite = alice.call(bob, body=LONG)
    net.run(1)
    alice.agent.cancel(invite, now=net.now)
    net.run(40)
    assert ways(net, alice, "CANCEL") == [("tcp", "TCP")]
    assert alice.only(InviteFailed).cause is Cause.CANCELLED
    assert alice.agent.transactions == bob.agent.transactions == 0


@pytest.mark.parametrize(("extra", "transport"), [(0, "udp"), (1, "tcp")])
def test_1300_bytes_are_the_longest_that_udp_takes(
    net: Net, alice: Phone, bob: Phone, extra: int, transport: str
) -> None:
    def send(body: bytes) -> None:
        alice.agent.request(
            "MESSAGE", bob.uri, flow=alice.to(bob), from_=f"<{alice.uri}>", to=f"<{bob.uri}>",
            body=body, content_type="text/plain", call_id="x", now=net.now,
        )  # fmt: skip

    send(b"x" * 900)
    net.flush()
    (_, message, _) = net.wire[-1]
    spare = 1300 - len(message.to_bytes())
    net.run(40)
    send(b"x" * (900 + spare + extra))
    net.flush()
    (_, message, flow) = net.wire[-1]
    assert flow.transport == transport


def test_where_neither_is_there_the_request_fails_once(net: Net, alice: Phone, bob: Phone) -> None:
    def nobody(message: Request | Response, flow: Flow) -> bool:
        net.at(
            net.now + 0.01, lambda: alice.agent.flow_failed(flow, f"no {flow.transport}", net.now)
        )
        return True

    net.path = replace(net.path, drop=nobody)
    alice.agent.request(
        "MESSAGE", bob.uri, flow=alice.to(bob), from_=f"<{alice.uri}>", to=f"<{bob.uri}>",
        body=b"x" * 1500, content_type="text/plain", now=net.now,
    )  # fmt: skip
    net.run(40)
    failed = alice.only(RequestFailed)
    assert (failed.cause, failed.reason) == (Cause.TRANSPORT, "no udp")
    assert alice.agent.transactions == alice.agent.timers == 0


def test_a_response_by_tcp_and_then_a_lost_connection_repeat_nothing(
    net: Net, alice: Phone, bob: Phone
) -> None:
    bob.on(
        IncomingInvite, lambda event: bob.agent.ring(event.invite, contact=bob.contact, now=net.now)
    )
    alice.call(bob, body=LONG)
    net.run(1)
    alice.agent.flow_failed(Flow("tcp", alice.address, bob.address), "lost", net.now)
    net.run(1)
    assert ways(net, alice, "INVITE") == [("tcp", "TCP")]
    bob.answer(bob.only(IncomingInvite).invite, 486)


def test_the_switch_can_be_turned_off(net: Net, bob: Phone) -> None:
    carol = net.phone("192.0.2.77", replace(AgentConfig(), max_udp_request=None))
    bob.on(IncomingInvite, lambda event: bob.answer(event.invite, body=ANSWER))
    carol.on(Answered, lambda event: carol.agent.bye(event.dialog, now=net.now))
    carol.call(bob, body=LONG)
    net.run(1)
    assert ways(net, carol, "INVITE") == [("udp", "UDP")]


@pytest.mark.parametrize("tcp", [True, False], ids=["by TCP", "no TCP there"])
def test_a_long_request_that_a_proxy_sends_on_keeps_the_way_back(
    net: Net, alice: Phone, bob: Phone, tcp: bool
) -> None:
    """Only the proxy's own Via changes with the transport: the answer reaches the caller."""
    proxy = net.proxy("192.0.2.9", to((bob,)))
    if not tcp:
        no_tcp(net)
    bob.on(IncomingInvite, lambda event: bob.answer(event.invite, 486))
    alice.agent.invite(
        "sip:bob@192.0.2.9", flow=alice.to(proxy), from_="<sip:alice@a.example>",  # type: ignore[arg-type]
        to="<sip:bob@b.example>", contact=alice.contact, body=LONG, now=net.now,
    )  # fmt: skip
    net.run(40)
    by = [("tcp", "TCP")] if tcp else [("tcp", "TCP"), ("udp", "UDP")]
    assert ways(net, proxy, "INVITE") == by  # type: ignore[arg-type]
    invite = bob.only(IncomingInvite).invite.request
    assert [via.rpartition(" ")[2].partition(";")[0] for via in invite.headers.values("Via")] == [
        "192.0.2.9:5060",
        "192.0.2.1:5060",
    ]
    assert alice.only(InviteFailed).status == 486
