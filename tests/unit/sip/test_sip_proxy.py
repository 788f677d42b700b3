"""A proxy of ours between agents of ours, in virtual time: RFC 3261 section 16."""

from __future__ import annotations

from typing import Any

import pytest
from proxy_stage import P1, P2, USERS, Says, at, call, sent, to
from virtual_sip import Net, Path, Phone, Proxy, assert_nothing_left

from voip.sip.authenticator import Authenticator
from voip.sip.dialog import DialogState
from voip.sip.digest import Credentials
from voip.sip.digest_server import DigestServer
from voip.sip.events import (
    Acknowledged,
    Answered,
    Cause,
    DialogEnded,
    IncomingInvite,
    InviteCancelled,
    InviteFailed,
    Provisional,
    RequestDone,
    RequestFailed,
    RequestReceived,
)
from voip.sip.headers import NameAddr
from voip.sip.proxy import ProxyConfig
from voip.sip.proxy_policy import Decision, Forward, Incoming, Refuse, Target
from voip.types import SeededRandom

pytestmark = [pytest.mark.rfc("3261", "16"), pytest.mark.rfc("5393", "4")]

LOSSES = pytest.mark.parametrize("loss", [0.0, 0.2])


class TestCalls:
    def two(self, loss: float, seed: int = 1) -> tuple[Net, Phone, Phone, Proxy, Proxy]:
        net = Net(Path(loss=loss), seed)
        alice, bob = net.phone("192.0.2.1"), net.phone("192.0.2.2")
        second = net.proxy(P2, to((bob,)))
        first = net.proxy(P1, Says(lambda i: Forward(((Target(f"sip:bob@{P2}"),),))))
        return net, alice, bob, first, second

    @LOSSES
    @pytest.mark.parametrize("seed", range(1, 6))
    def test_F007_a_call_through_two_proxies(self, loss: float, seed: int) -> None:
        net, alice, bob, first, second = self.two(loss, seed)
        at(net, bob, IncomingInvite)
        call(alice, first)
        net.run(20)
        dialog = alice.only(Answered).dialog
        assert bob.events(Acknowledged), net.trace()
        assert [NameAddr.parse(r).sip_uri.host for r in dialog.route_set] == [P1, P2]
        bob.agent.bye(bob.only(IncomingInvite).invite.dialog, now=net.now)
        net.run(40)
        assert alice.only(DialogEnded).by_remote
        assert bob.only(DialogEnded).status == 200
        invite = sent(net, "INVITE", second)[0]
        assert (invite.max_forwards, invite.headers.get("Max-Breadth")) == (68, "60")
        assert len(invite.headers.values("Via")) == 3
        for proxy in (first, second):  # it stays in the way, and the ACK comes its way
            assert len(sent(net, "ACK", proxy)) >= 1
            assert sent(net, "BYE", proxy)
        assert_nothing_left(net)

    @LOSSES
    @pytest.mark.parametrize("seed", range(1, 4))
    def test_F008_both_proxies_ask_for_credentials(self, loss: float, seed: int) -> None:
        net, alice, bob, first, second = self.two(loss, seed)
        for number, proxy in enumerate((first, second)):
            policy = proxy.agent._policy
            asks = Authenticator(
                DigestServer(f"realm{number}", USERS, SeededRandom(number)), proxy=True
            )

            def decide(incoming: Incoming, asks=asks, then=policy.decide_) -> Decision:  # type: ignore[no-untyped-def, attr-defined]
                found = asks.authenticate(incoming.request, net.now)
                if found.user is None:
                    return Refuse(found.status, found.challenge)
                forward = then(incoming)
                return Forward(forward.groups, drop=(("Proxy-Authorization", found.credentials),))

            policy.decide_ = decide  # type: ignore[attr-defined]
        at(net, bob, IncomingInvite)
        call(alice, first, credentials=Credentials("alice", "wonderland"))
        net.run(30)
        assert alice.only(Answered).response.status == 200
        invite = bob.only(IncomingInvite).invite.request
        assert "Proxy-Authorization" not in invite.headers
        assert len(sent(net, 407, first)) >= 2
        alice.agent.bye(alice.only(Answered).dialog, now=net.now)
        net.run(40)
        assert_nothing_left(net)

    @LOSSES
    def test_F009_where_one_proxy_is_dead_another_is_tried(self, loss: float) -> None:
        net, alice, bob, first, second = self.two(loss, 3)
        del net.phones[first.address]
        at(net, bob, IncomingInvite)
        alice.on(InviteFailed, lambda _: call(alice, second))
        call(alice, first)
        net.run(60)
        assert alice.only(InviteFailed).cause is Cause.TIMEOUT
        alice.agent.bye(alice.only(Answered).dialog, now=net.now)
        net.run(40)
        assert_nothing_left(net)

    @LOSSES
    @pytest.mark.parametrize("seed", range(1, 4))
    def test_F010_a_gateway_between_two_transports_is_in_the_route_twice(
        self, loss: float, seed: int
    ) -> None:
        """As an application level gateway: UDP on this side, TCP on the other (RFC 5658)."""
        net = Net(Path(loss=loss), seed)
        alice, bob = net.phone("192.0.2.1"), net.phone("192.0.2.2")
        policy = Says(lambda _: Forward(((Target(f"sip:phone@{bob.address};transport=tcp"),),)))
        gateway = net.proxy(P1, policy)
        at(net, bob, IncomingInvite)
        call(alice, gateway)
        net.run(20)
        invite = bob.only(IncomingInvite).invite
        assert invite.flow.transport == "tcp"
        routes = [NameAddr.parse(v).sip_uri for v in invite.request.headers.values("Record-Route")]
        assert [uri.transport for uri in routes] == ["tcp", None]
        bob.agent.bye(invite.dialog, now=net.now)
        net.run(20)
        assert alice.only(DialogEnded).by_remote
        [bye] = sent(net, "BYE", gateway)
        assert "Route" not in bye.headers
        assert_nothing_left(net)

    @LOSSES
    @pytest.mark.parametrize("seed", range(1, 6))
    def test_F028_find_me_where_i_am(self, loss: float, seed: int) -> None:
        """Two phones at once; nobody is there; then the mobile, which is answered."""
        net = Net(Path(loss=loss), seed)
        alice, desk, lab, mobile = (net.phone(f"192.0.2.{n}") for n in (1, 2, 3, 4))
        proxy = net.proxy(P1, to((desk, lab), (mobile,)))
        desk.on(IncomingInvite, lambda e: desk.answer(e.invite, 486))
        lab.on(IncomingInvite, lambda e: lab.answer(e.invite, 480))
        at(net, mobile, IncomingInvite)
        call(alice, proxy)
        net.run(40)
        assert alice.only(Answered).response.contacts[0].uri == mobile.uri
        assert desk.only(IncomingInvite).invite.request.headers.get("Max-Breadth") == "30"
        assert mobile.only(IncomingInvite).invite.request.headers.get("Max-Breadth") == "60"
        alice.agent.bye(alice.only(Answered).dialog, now=net.now)
        net.run(40)
        assert mobile.only(DialogEnded).by_remote
        assert_nothing_left(net)

    @LOSSES
    @pytest.mark.parametrize("seed", range(1, 6))
    def test_F028_who_answers_first_has_the_call_and_the_others_stop_ringing(
        self, loss: float, seed: int
    ) -> None:
        net = Net(Path(loss=loss), seed)
        alice, desk, lab = (net.phone(f"192.0.2.{n}") for n in (1, 2, 3))
        proxy = net.proxy(P1, to((desk, lab)))
        for phone in (desk, lab):
            phone.on(IncomingInvite, lambda e, phone=phone: phone.answer(e.invite, 180))
        call(alice, proxy)
        net.run(5)
        ringing = {e.dialog.remote.tag for e in alice.events(Provisional) if e.dialog}
        phones = {phone.only(IncomingInvite).invite.tag for phone in (desk, lab)}
        assert ringing <= phones
        assert ringing == phones or loss  # a 180 is sent once
        lab.answer(lab.only(IncomingInvite).invite)
        net.run(40)
        assert alice.only(Answered).response.contacts[0].uri == lab.uri
        assert desk.only(InviteCancelled).request is not None
        alice.agent.bye(alice.only(Answered).dialog, now=net.now)
        net.run(40)
        assert_nothing_left(net)


class TestForking:
    def ringing(self, net: Net, *hosts: str) -> tuple[Phone, list[Phone], Proxy]:
        alice = net.phone("192.0.2.1")
        phones = [net.phone(host) for host in hosts]
        proxy = net.proxy(P1, to(tuple(phones)))
        for phone in phones:
            phone.on(IncomingInvite, lambda e, phone=phone: phone.answer(e.invite, 180))
        return alice, phones, proxy

    def test_who_gives_up_stops_all_phones(self, net: Net) -> None:
        alice, phones, proxy = self.ringing(net, "192.0.2.2", "192.0.2.3")
        invite = call(alice, proxy)
        net.run(1)
        alice.agent.cancel(invite, now=net.now)
        net.run(1)
        assert alice.only(InviteFailed).cause is Cause.CANCELLED
        for phone in phones:
            phone.only(InviteCancelled)

    def test_a_decline_everywhere_ends_the_search(self, net: Net) -> None:
        alice, (desk, lab), proxy = self.ringing(net, "192.0.2.2", "192.0.2.3")
        proxy.agent._policy = to((desk, lab), (desk,))
        call(alice, proxy)
        net.run(1)
        desk.answer(desk.only(IncomingInvite).invite, 603)
        net.run(1)
        assert alice.only(InviteFailed).status == 603
        lab.only(InviteCancelled)

    @pytest.mark.parametrize(
        ("statuses", "best"),
        [
            ((404, 486), (404, 486)), ((486, 500), (486,)), ((503, 503), (500,)),
            ((503, 404), (404,)), ((302, 600), (600,)), ((302, 404), (302,)),
            ((486, 484), (484,)), ((480, 407), (407,)),
        ],
    )  # fmt: skip
    def test_the_best_refusal_goes_back(
        self, net: Net, statuses: tuple[int, ...], best: tuple[int, ...]
    ) -> None:
        alice, phones, proxy = self.ringing(net, "192.0.2.2", "192.0.2.3")
        call(alice, proxy)
        net.run(1)
        for phone, status in zip(phones, statuses, strict=True):
            phone.answer(phone.only(IncomingInvite).invite, status)
            net.run(1)
        assert alice.only(InviteFailed).status in best

    def test_what_all_of_them_ask_for_is_asked_at_once(self, net: Net) -> None:
        """A UA's 401 and another proxy's 407 make one response, and one more try satisfies both."""
        alice, phones, proxy = self.ringing(net, "192.0.2.2", "192.0.2.3")
        asks = [
            Authenticator(DigestServer(f"realm{n}", USERS, SeededRandom(n)), proxy=n == 1)
            for n in range(2)
        ]
        for phone, asking in zip(phones, asks, strict=True):

            def take(event: IncomingInvite, phone: Phone = phone, asking: Any = asking) -> None:
                found = asking.authenticate(event.invite.request, net.now)
                if found.user is None:
                    phone.answer(event.invite, found.status, headers=found.challenge)
                else:
                    phone.answer(event.invite)

            phone.reactions.clear()
            phone.on(IncomingInvite, take)
        call(alice, proxy, credentials=Credentials("alice", "wonderland"))
        net.run(3)
        alice.only(Answered)
        assert alice.agent.counters.malformed == 0
        assert len(sent(net, "INVITE", alice)) == 2
        alice.agent.bye(alice.only(Answered).dialog, now=net.now)
        net.run(3)

    def test_a_second_answer_reaches_the_caller_too_who_ends_it(self, net: Net) -> None:
        alice, (desk, lab), proxy = self.ringing(net, "192.0.2.2", "192.0.2.3")
        call(alice, proxy)
        net.run(1)
        for phone in (desk, lab):  # at the same moment: no CANCEL comes in time
            phone.answer(phone.only(IncomingInvite).invite)
        net.run(5)
        alice.only(Answered)
        assert len(sent(net, 200, proxy)) >= 2
        states = {p.only(IncomingInvite).invite.dialog.state for p in (desk, lab)}
        assert states == {DialogState.CONFIRMED, DialogState.TERMINATED}
        alice.agent.bye(alice.only(Answered).dialog, now=net.now)
        net.run(3)

    def test_timer_c_ends_what_rings_without_a_word(self, net: Net) -> None:
        alice, [desk], proxy = self.ringing(net, "192.0.2.2")
        proxy.agent.config = ProxyConfig(timer_c=30)
        call(alice, proxy)
        net.run(29)
        assert alice.events(InviteFailed) == []
        net.run(4)
        desk.only(InviteCancelled)
        assert alice.only(InviteFailed).status == 487

    def test_who_is_not_there_is_408_and_so_is_an_invite_without_any_answer(self, net: Net) -> None:
        alice = net.phone("192.0.2.1")
        proxy = net.proxy(P1, Says(lambda _: Forward(((Target("sip:x@192.0.2.99"),),))))
        call(alice, proxy)
        net.run(40)
        assert alice.only(InviteFailed).status == 408

    def test_another_request_without_any_answer_is_not_answered_408(self, net: Net) -> None:
        """RFC 4320: the sender has given up by then."""
        alice = net.phone("192.0.2.1")
        proxy = net.proxy(P1, Says(lambda _: Forward(((Target("sip:x@192.0.2.99"),),))))
        self.message(alice, proxy)
        net.run(50)
        assert alice.only(RequestFailed).cause is Cause.TIMEOUT
        assert net.sent(408) == []

    def test_a_name_that_is_nowhere_is_500(self, net: Net) -> None:
        alice = net.phone("192.0.2.1")
        proxy = net.proxy(P1, Says(lambda _: Forward(((Target("sip:x@nowhere.example"),),))))
        call(alice, proxy)
        net.run(1)
        assert alice.only(InviteFailed).status == 500

    def test_no_more_branches_at_once_than_max_breadth_allows(self, net: Net) -> None:
        alice, phones, proxy = self.ringing(net, "192.0.2.2", "192.0.2.3", "192.0.2.4")
        call(alice, proxy, headers=[("Max-Breadth", "2")])
        net.run(1)
        assert [len(phone.events(IncomingInvite)) for phone in phones] == [1, 1, 0]
        for phone in phones[:2]:
            phone.answer(phone.only(IncomingInvite).invite, 486)
        net.run(1)
        last = phones[2].only(IncomingInvite).invite
        assert last.request.headers.get("Max-Breadth") == "2"
        phones[2].answer(last, 486)
        net.run(1)
        assert alice.only(InviteFailed).status == 486

    def message(self, phone: Phone, proxy: Proxy, **more: Any) -> Any:
        return phone.agent.request(
            "MESSAGE", f"sip:bob@{proxy.address.host}", flow=phone.to(proxy),
            from_="<sip:alice@atlanta.example>", to="<sip:bob@x>", now=phone.net.now, **more,
        )  # type: ignore[arg-type]  # fmt: skip

    def test_other_requests_have_one_answer(self, net: Net) -> None:
        from dataclasses import replace

        from virtual_sip import CONFIG

        config = replace(CONFIG, allow=(*CONFIG.allow, "MESSAGE"))
        alice, bob = net.phone("192.0.2.1"), net.phone("192.0.2.2", config)
        bob.on(RequestReceived, lambda e: e.request.reply(202, now=net.now))
        proxy = net.proxy(P1, to((bob,)))
        self.message(alice, proxy, body=b"hello", content_type="text/plain")
        net.run(1)
        assert alice.only(RequestDone).response.status == 202
        assert bob.only(RequestReceived).request.request.body == b"hello"
