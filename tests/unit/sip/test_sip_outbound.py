"""Phones with several flows, called through the proxy that has their bindings (RFC 5626, 7)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from virtual_sip import CONFIG, OFFER, SDP, Net, Path, Phone, Proxy, assert_nothing_left

from voip.sip.edge import EdgePolicy
from voip.sip.events import (
    Answered,
    IncomingInvite,
    InviteCancelled,
    InviteFailed,
    RequestDone,
    RequestReceived,
)
from voip.sip.flow import Flow
from voip.sip.headers import NameAddr
from voip.sip.location import Binding, Location
from voip.sip.proxy import ProxyConfig
from voip.sip.proxy_policy import LocationPolicy
from voip.sip.uri import SipUri

pytestmark = [pytest.mark.rfc("5626", "7"), pytest.mark.rfc("3261", "16")]

PROXY, HOME = "192.0.2.11", "192.0.2.12"
TAKES_TEXT = replace(CONFIG, allow=(*CONFIG.allow, "MESSAGE"))
LOSSES = pytest.mark.parametrize(("loss", "seed"), [(0.0, 1), (0.2, 1), (0.2, 2), (0.2, 3)])


class Town:
    """Bob has a desk phone with three flows, each to an edge of its own, and a mobile with one.

    The edges are played by phones, who answer as such.
    """

    def __init__(
        self,
        loss: float = 0.0,
        seed: int = 1,
        *,
        q: tuple[float, float] = (1, 1),
        timer_c: float = 185.0,
    ) -> None:
        self.net = net = Net(Path(loss=loss), seed)
        self.alice = net.phone("192.0.2.1")
        self.flows = [net.phone(f"192.0.2.{number}", TAKES_TEXT) for number in (2, 3, 4)]
        self.mobile = net.phone("192.0.2.5")
        self.location = Location()
        policy = LocationPolicy({"bob": "builder"}, self.location, None)
        config = ProxyConfig(domains=frozenset({"here.example"}), timer_c=timer_c)
        self.proxy: Proxy = net.proxy(PROXY, policy, config)
        there = [self.binding(flow, "desk", number, q[0]) for number, flow in enumerate(self.flows)]
        self.location.set("bob", [*there, self.binding(self.mobile, "mobile", 0, q[1])], 0.0)
        self.rung: list[tuple[float, Phone]] = []

    def binding(self, phone: Phone, instance: str, reg_id: int, q: float) -> Binding:
        flow = Flow("udp", self.proxy.address, phone.address)
        return Binding(
            NameAddr("", phone.uri), SipUri.parse(phone.uri), 1e9, "c", 1,
            q=q, flow=flow, instance=instance, reg_id=reg_id + 1,
        )  # fmt: skip

    def says(self, phone: Phone, *statuses: int) -> None:
        def answer(event: IncomingInvite) -> None:
            self.rung.append((self.net.now, phone))
            for status in statuses:
                phone.answer(event.invite, status)

        phone.on(IncomingInvite, answer)

    def call(self) -> Any:
        return self.alice.agent.invite(
            "sip:bob@here.example", flow=self.alice.to(self.proxy), from_="<sip:a@there.example>",
            to="<sip:bob@here.example>", contact=self.alice.contact, body=OFFER, content_type=SDP,
            now=self.net.now,
        )  # type: ignore[arg-type]  # fmt: skip

    @property
    def phones(self) -> list[Phone]:
        """Whose phones rang, in this order."""
        return [phone for _, phone in self.rung]

    def hang_up(self) -> None:
        self.alice.agent.bye(self.alice.only(Answered).dialog, now=self.net.now)
        self.net.run(80)
        assert_nothing_left(self.net)


@LOSSES
@pytest.mark.parametrize("status", [430, 408])
def test_F111_the_next_flow_is_tried_at_once_while_the_mobile_rings(
    status: int, loss: float, seed: int
) -> None:
    town = Town(loss, seed)
    first, second, third = town.flows
    town.says(third, status)
    town.says(second, status)
    town.says(first, 180)
    town.says(town.mobile, 180)
    town.call()
    town.net.run(20)
    assert sorted(map(id, town.phones)) == sorted(map(id, (third, town.mobile, second, first)))
    assert [phone for phone in town.phones if phone is not town.mobile] == [third, second, first]
    if not loss:
        assert town.rung[-1][0] - town.rung[0][0] < 0.1
    breadths = {
        phone.address.host: phone.only(IncomingInvite).invite.request.headers.get("Max-Breadth")
        for phone in town.phones
    }
    assert set(breadths.values()) == {"30"}
    assert not town.mobile.events(InviteCancelled)
    first.answer(first.only(IncomingInvite).invite)
    town.net.run(40)
    assert town.alice.only(Answered).response.contacts[0].uri == first.uri
    assert town.mobile.only(InviteCancelled)
    town.hang_up()


@pytest.mark.parametrize("status", [486, 480, 404, 488, 503, 500, 487])
def test_F111_a_phone_that_has_answered_is_not_asked_by_another_flow(status: int) -> None:
    town = Town()
    first, second, third = town.flows
    town.says(third, status)
    town.says(second, 200)
    town.says(first, 200)
    town.says(town.mobile, 180)
    town.call()
    town.net.run(5)
    assert set(town.phones) == {third, town.mobile}
    town.mobile.answer(town.mobile.only(IncomingInvite).invite)
    town.net.run(40)
    assert set(town.phones) == {third, town.mobile}
    town.hang_up()


def test_F111_a_phone_without_any_flow_left_is_not_there() -> None:
    """The caller hears nothing of flows; and who has another phone of less preference, of that."""
    town = Town(q=(1, 0.5))
    for flow in town.flows:
        town.says(flow, 430)
    town.says(town.mobile, 486)
    town.call()
    town.net.run(40)
    assert town.phones == [*town.flows[::-1], town.mobile]
    assert town.alice.only(InviteFailed).status == 480
    assert_nothing_left(town.net)


def test_F111_a_flow_that_nothing_can_be_sent_by_has_failed_too() -> None:
    town = Town()
    _, second, third = town.flows
    town.says(second, 180)
    town.says(town.mobile, 180)
    town.net.lose(third)
    town.call()
    town.net.run(1)
    flow = next(one.flow for one in town.location.bindings("bob", 0) if one.uri.host == "192.0.2.4")
    assert flow is not None
    town.proxy.agent.flow_failed(flow, "port unreachable", town.net.now)
    town.net.run(1)
    assert set(town.phones) == {town.mobile, second}
    assert flow not in [one.flow for one in town.location.bindings("bob", town.net.now)]
    second.answer(second.only(IncomingInvite).invite)
    town.net.run(5)
    assert town.alice.only(Answered).response.contacts[0].uri == second.uri
    town.hang_up()


@pytest.mark.parametrize(
    ("transport", "reg_id", "left"),
    [("udp", 1, False), ("tcp", 1, False), ("tcp", None, False), ("udp", None, True)],
)
def test_F111_what_is_registered_as_a_flow_is_gone_with_it(
    transport: str, reg_id: int | None, left: bool
) -> None:
    """Of UDP too (section 7); but a phone seen behind a NAT is not forgotten for an ICMP error."""
    town = Town()
    flow = Flow(transport, town.proxy.address, town.mobile.address)
    binding = replace(town.binding(town.mobile, "mobile", 0, 1), flow=flow, reg_id=reg_id)
    town.location.set("bob", [binding], 0.0)
    town.proxy.agent.flow_failed(replace(flow, remote=town.alice.address), "closed", 0.0)
    assert town.location.bindings("bob", 0.0) == [binding]
    town.proxy.agent.flow_failed(flow, "closed", 0.0)
    assert town.location.bindings("bob", 0.0) == [binding] * left


def test_F111_who_gives_up_has_no_other_flow_tried() -> None:
    town = Town()
    first, second, third = town.flows
    town.says(third, 180)
    town.says(town.mobile, 180)
    for flow in (first, second):
        town.says(flow, 200)
    invite = town.call()
    town.net.run(1)
    town.alice.agent.cancel(invite, now=town.net.now)
    third.on(InviteCancelled, lambda _: None)
    town.net.run(80)
    assert set(town.phones) == {third, town.mobile}
    assert town.alice.only(InviteFailed).status == 487
    assert_nothing_left(town.net)


def test_F111_what_timer_c_gave_up_rings_nowhere_else() -> None:
    """It rang, and went silent: neither a word for a minute, nor an answer to the CANCEL."""
    town = Town(timer_c=60.0)
    first, second, third = town.flows
    town.says(third, 180)
    town.says(town.mobile, 486)
    for flow in (first, second):
        town.says(flow, 200)
    town.call()
    town.net.run(1)
    town.net.lose(third)
    town.net.run(100)
    assert set(town.phones) == {third, town.mobile}
    assert town.alice.only(InviteFailed).status == 486
    town.net.run(80)
    assert_nothing_left(town.net)


def test_F111_an_edge_says_that_a_flow_failed_before_a_call_and_in_it() -> None:
    """Section 5.3.1: what comes for a phone whose connection breaks under way is answered 430."""
    net = Net()
    home, phone = net.phone(HOME), net.phone("192.0.2.2")
    policy = EdgePolicy(f"sip:{HOME}", lambda flow: True)
    edge = net.proxy(PROXY, policy, ProxyConfig(is_edge=True))
    bob = "<sip:bob@here.example>"
    phone.agent.request(
        "REGISTER", "sip:here.example", flow=phone.to(edge, "tcp"), from_=bob, to=bob,
        headers=[("Contact", phone.contact)], now=net.now,
    )  # type: ignore[arg-type]  # fmt: skip
    net.run(1)
    (register,) = (message for _, message, flow in net.wire if flow.remote == home.address)
    path = register.headers.get("Path")
    assert path is not None
    flow = Flow("tcp", edge.address, phone.address)

    def invite() -> Any:
        return home.agent.invite(
            phone.uri, flow=home.to(edge), from_="<sip:a@here.example>", to=bob, route=[path],
            contact=home.contact, body=OFFER, content_type=SDP, now=net.now,
        )  # type: ignore[arg-type]  # fmt: skip

    phone.on(IncomingInvite, lambda event: phone.answer(event.invite))
    invite()
    net.run(1)
    dialog = home.only(Answered).dialog
    net.lose(phone)
    home.agent.dialog_request(dialog, "MESSAGE", now=net.now)
    net.run(0.1)
    edge.agent.flow_failed(flow, "closed", net.now)
    net.run(1)
    assert home.only(RequestDone).response.status == 430
    invite()
    net.run(0.1)
    edge.agent.flow_failed(flow, "closed", net.now)
    net.run(1)
    assert home.only(InviteFailed).status == 430


def test_F111_in_a_call_too_the_caller_hears_nothing_of_flows() -> None:
    town = Town()
    town.says(town.flows[2], 200)
    town.call()
    town.net.run(1)
    dialog = town.alice.only(Answered).dialog
    town.flows[2].on(RequestReceived, lambda event: event.request.reply(430, now=town.net.now))
    town.alice.agent.dialog_request(dialog, "MESSAGE", now=town.net.now)
    town.net.run(1)
    assert town.alice.only(RequestDone).response.status == 480
    town.hang_up()
