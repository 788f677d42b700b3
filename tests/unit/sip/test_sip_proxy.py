"""A proxy of ours between agents of ours, in virtual time: RFC 3261 section 16, RFC 5393."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from virtual_sip import (
    OFFER,
    SDP,
    Net,
    Path,
    Phone,
    Proxy,
    assert_nothing_left,
    request_text,
)

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
from voip.sip.flow import Flow
from voip.sip.headers import NameAddr
from voip.sip.location import Binding, Location
from voip.sip.message import Request, Response, parse_message
from voip.sip.proxy import ProxyAgent, ProxyConfig
from voip.sip.proxy_policy import Decision, Forward, Incoming, LocationPolicy, Refuse, Target
from voip.sip.registrar import Registrar
from voip.sip.server_request import ServerRequest
from voip.sip.uri import SipUri
from voip.types import Address, SeededRandom

pytestmark = [pytest.mark.rfc("3261", "16"), pytest.mark.rfc("5393", "4")]

USERS = {"alice": "wonderland", "bob": "builder", "carol": "singer"}
P1, P2 = "192.0.2.11", "192.0.2.12"


@dataclass
class Says:
    """A policy that says what a test wants; what is in a dialog goes on."""

    decide_: Callable[[Incoming], Decision]
    seen: list[Incoming] = field(default_factory=list)

    def decide(self, incoming: Incoming, now: float) -> Decision:
        self.seen.append(incoming)
        if incoming.in_dialog:
            return Forward(((Target(incoming.request.uri),),))
        return self.decide_(incoming)

    def serve(self, request: ServerRequest, now: float) -> None:
        request.reply(200, now=now)

    def lose(self, flow: Flow) -> None:
        pass


def to(*groups: tuple[Phone | Proxy, ...]) -> Says:
    """Forward to these, one group after the other."""

    def uri(who: Phone | Proxy) -> str:
        return f"sip:phone@{who.address}"

    return Says(lambda _: Forward(tuple(tuple(Target(uri(w)) for w in group) for group in groups)))


def call(phone: Phone, proxy: Proxy, user: str = "bob", **more: Any) -> Any:
    return phone.agent.invite(
        f"sip:{user}@{proxy.address.host}", flow=phone.to(proxy),
        from_="<sip:alice@atlanta.example>", to=f"<sip:{user}@{proxy.address.host}>",
        contact=phone.contact, body=OFFER, content_type=SDP, now=phone.net.now, **more,
    )  # type: ignore[arg-type]  # fmt: skip


def at(net: Net, phone: Phone, kind: type[Any]) -> None:
    phone.on(kind, lambda event: phone.answer(event.invite))


def sent(net: Net, what: str | int, by: Phone | Proxy) -> list[Any]:
    """Messages of a method or status that somebody sent, repetitions left out."""
    found: dict[bytes, Any] = {}
    for _, message, flow in net.wire:
        kind = message.method if isinstance(message, Request) else message.status
        if kind == what and flow.local == by.address:
            found.setdefault(message.to_bytes(), message)
    return list(found.values())


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


class Desk:
    """Speaks raw messages to one proxy."""

    def __init__(self, policy: Says | LocationPolicy, config: ProxyConfig | None = None) -> None:
        self.agent = ProxyAgent(config or ProxyConfig(), policy, SeededRandom(1))
        self.flow = Flow("udp", Address(P1, 5060), Address("192.0.2.9", 5060))

    def tell(self, text: str | bytes, flow: Flow | None = None) -> list[Request | Response]:
        data = text.encode() if isinstance(text, str) else text
        self.agent.receive(data, flow or self.flow, 0.0)
        return [parse_message(out) for out, _ in self.agent.outgoing()]

    def settle(self) -> None:
        """Let time go by until nothing is waited for; no name is found."""
        now = 0.0
        while (due := self.agent.next_timer()) is not None or now == 0.0:
            now = due or 1.0
            for needed in self.agent.events():
                needed.lost("nowhere", now)
            self.agent.handle_timer(now)
            self.agent.outgoing()

    def status(self, text: str) -> int:
        [message] = self.tell(text)
        assert isinstance(message, Response)
        return message.status


ONWARD = Says(lambda i: Forward(((Target("sip:bob@192.0.2.2"),),)))


class TestValidation:
    @pytest.mark.parametrize(
        ("text", "status"),
        [
            (request_text("OPTIONS").replace("Max-Forwards: 70", "Max-Forwards: 0"), 483),
            (request_text("OPTIONS", more="Proxy-Require: privacy, foo\r\n"), 420),
            (request_text("OPTIONS", uri="http://example.com"), 416),
            (request_text("OPTIONS", more="Max-Breadth: 0\r\n"), 440),
            (request_text("OPTIONS", more="Route: <tel:1>\r\n"), 416),
            (request_text("OPTIONS", cseq="1 INVITE"), 400),
            (request_text("CANCEL"), 481),
        ],
    )
    def test_what_is_not_forwarded_is_answered(self, text: str, status: int) -> None:
        desk = Desk(ONWARD)
        assert desk.status(text) == status
        assert (desk.agent.transactions, desk.agent.timers) == (0, 0)

    def test_an_extension_nobody_knows_is_named(self) -> None:
        [answer] = Desk(ONWARD).tell(request_text("OPTIONS", more="Proxy-Require: a, b\r\n"))
        assert answer.headers.get("Unsupported") == "a, b"

    def test_unknown_methods_headers_and_bodies_go_through_untouched(self) -> None:
        text = request_text("FROB", more="X-Odd:  a ;b\r\nFoo: é\r\n", body="\x00\x01")
        [out] = Desk(ONWARD).tell(text)
        assert isinstance(out, Request)
        assert (out.method, out.body) == ("FROB", b"\x00\x01")
        assert (out.headers.get("X-Odd"), out.headers.get("Foo")) == ("a ;b", "é")

    def test_an_invite_is_told_at_once_that_it_is_under_way(self) -> None:
        first, second = Desk(ONWARD).tell(request_text("INVITE"))
        assert isinstance(first, Response)
        assert isinstance(second, Request)
        assert (first.status, second.method) == (100, "INVITE")

    def test_a_repeated_request_is_forwarded_once(self) -> None:
        desk = Desk(ONWARD)
        assert len(desk.tell(request_text("INVITE"))) == 2
        [again] = desk.tell(request_text("INVITE"))
        assert isinstance(again, Response)

    def test_a_response_nobody_waits_for_goes_nowhere(self) -> None:
        """RFC 6026 section 7.3: it would make a relay of us."""
        desk = Desk(ONWARD)
        response = (
            f"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP {P1};branch=z9hG4bKx\r\n"
            "Via: SIP/2.0/UDP 192.0.2.77;branch=z9hG4bKy\r\nFrom: <sip:a>;tag=1\r\n"
            "To: <sip:b>;tag=2\r\nCall-ID: 1\r\nCSeq: 1 INVITE\r\n\r\n"
        )
        assert desk.tell(response) == []
        assert desk.agent.counters.stray_responses == 1

    @pytest.mark.parametrize(
        "data", [b"", b"\x00" * 100, b"SIP/2.0", b"INVITE sip:x SIP/2.0\r\n\r\n"]
    )
    def test_garbage_harms_nothing(self, data: bytes) -> None:
        desk = Desk(ONWARD)
        desk.tell(data)
        assert desk.agent.counters.malformed == 1

    @given(
        st.sampled_from(["INVITE", "ACK", "CANCEL", "BYE", "REGISTER"]),
        st.lists(
            st.sampled_from(["Route", "Record-Route", "Via", "Max-Breadth", "Contact", "CSeq"]),
            max_size=3,
        ),
        st.text(st.characters(exclude_characters="\r\n", codec="utf-8"), max_size=40)
        | st.sampled_from([f"<sip:{P1};lr;d=1>", f"<sip:a@{P1};lr>", "<sip:x>", "9" * 40, ","]),
        st.sampled_from(
            ["sip:bob@here", "tel:+1", f"sip:{P1};lr;d=1", "sip:[::1]", "sip:a@b:99999"]
        ),
    )
    def test_whatever_stands_in_a_request_raises_nothing(
        self, method: str, names: list[str], value: str, uri: str
    ) -> None:
        location = Location()
        registrar = Registrar(USERS, location, None)
        more = "".join(f"{name}: {value}\r\n" for name in names)
        text = request_text(method, uri=uri, more=more)
        for policy in (ONWARD, LocationPolicy(USERS, location, None, registrar)):
            desk = Desk(policy)
            desk.tell(text)
            desk.settle()
            assert (desk.agent.transactions, desk.agent.timers) == (0, 0)


class TestRoutes:
    def test_a_request_goes_where_its_route_says(self) -> None:
        desk = Desk(Says(lambda i: Forward(((Target(i.request.uri),),))))
        route = f"Route: <sip:{P1};lr>, <sip:192.0.2.33;lr>\r\n"
        _, out = desk.tell(request_text("INVITE", uri="sip:bob@192.0.2.2", more=route))
        assert isinstance(out, Request)
        assert out.headers.values("Route") == ["<sip:192.0.2.33;lr>"]
        assert out.uri == "sip:bob@192.0.2.2"

    def test_a_strict_router_ahead_gets_what_it_wants(self) -> None:
        desk = Desk(Says(lambda i: Forward(((Target(i.request.uri),),))))
        route = "Route: <sip:192.0.2.33>, <sip:192.0.2.34;lr>\r\n"
        _, out = desk.tell(request_text("INVITE", uri="sip:bob@192.0.2.2", more=route))
        assert isinstance(out, Request)
        assert out.uri == "sip:192.0.2.33"
        assert out.headers.values("Route") == ["<sip:192.0.2.34;lr>", "<sip:bob@192.0.2.2>"]

    def test_what_a_strict_router_has_done_is_undone(self, net: Net) -> None:
        desk = Desk(ONWARD)
        _, out = desk.tell(request_text("INVITE"))
        mine = NameAddr.parse(out.headers.get("Record-Route") or "").uri
        text = request_text("BYE", uri=mine, to_tag="x", branch="z9hG4bK2", cseq="2 BYE",
                            more="Route: <sip:192.0.2.33;lr>, <sip:bob@192.0.2.2>\r\n")  # fmt: skip
        [bye] = desk.tell(text)
        assert isinstance(bye, Request)
        assert bye.uri == "sip:bob@192.0.2.2"
        assert bye.headers.values("Route") == ["<sip:192.0.2.33;lr>"]

    def test_nobody_makes_a_relay_of_a_proxy_by_its_name(self) -> None:
        """A dialog's request passes only where the dialog began."""
        policy = Says(lambda i: Refuse(403))
        desk = Desk(policy)
        for user in ("", "mfrgg@"):
            for param in ("", ";d=00"):
                more = f"Route: <sip:{user}{P1};lr{param}>\r\n"
                text = request_text("BYE", uri="sip:x@192.0.2.2", to_tag="x", more=more)
                assert desk.status(text) == 403
                assert desk.tell(text.replace("BYE", "ACK")) == []
        assert not any(incoming.in_dialog for incoming in policy.seen)

    def test_a_caller_behind_a_nat_is_reached_by_the_way_it_came(self, net: Net) -> None:
        desk = Desk(ONWARD)
        public = Flow("udp", Address(P1, 5060), Address("198.51.100.1", 40000))
        via = "SIP/2.0/UDP 10.0.0.1:5060;rport;branch=z9hG4bKnat"
        text = request_text("INVITE", via=via)
        _, out = desk.tell(text, public)
        routes = [NameAddr.parse(value).sip_uri for value in out.headers.values("Record-Route")]
        assert [uri.user is None for uri in routes] == [True, False]
        ahead, back = (f"Route: {value}\r\n" for value in out.headers.get_all("Record-Route"))
        for uri, came_by, more, goes_to in (
            ("sip:stranger@10.0.0.1", self.callee(), ahead + back, public.remote),
            ("sip:bob@192.0.2.2", public, back + ahead, Address("192.0.2.2", 5060)),
        ):
            text = request_text(
                "INFO", uri=uri, to_tag="x", branch=f"z9hG4bK{goes_to.host}", more=more
            )
            desk.agent.receive(text.encode(), came_by, 0.0)
            [(_, flow)] = desk.agent.outgoing()
            assert flow.remote == goes_to

    def callee(self) -> Flow:
        return Flow("udp", Address(P1, 5060), Address("192.0.2.2", 5060))

    @pytest.mark.parametrize("uri", [f"sip:bob@{P1}", "sip:x@192.0.2.77"])
    def test_a_stranger_has_nothing_sent_anywhere_by_a_route_of_its_own(self, uri: str) -> None:
        location = Location()
        binding = Binding(NameAddr.parse("<sip:b@x>"), SipUri.parse("sip:b@x"), 1e9, "c", 1)
        location.set("bob", [binding], 0.0)
        desk = Desk(LocationPolicy(USERS, location, None))
        more = f"Route: <sip:{P1};lr>, <sip:192.0.2.66;lr>\r\n"
        text = request_text("INVITE", uri=uri, more=more)
        assert desk.status(text) == 403
        assert desk.tell(text.replace("INVITE", "ACK")) == []

    def test_what_asks_for_tls_goes_by_nothing_else(self) -> None:
        desk = Desk(Says(lambda _: Forward(((Target("sips:bob@192.0.2.2"),),))))
        desk.tell(request_text("INVITE", uri="sips:bob@here.example"))
        [needed] = desk.agent.events()
        assert (needed.host, needed.transport) == ("192.0.2.2", "tls")
        needed.found(Flow("tls", Address(P1, 5061), Address("192.0.2.2", 5061)), 0.0)
        [(data, flow)] = desk.agent.outgoing()
        out = parse_message(data)
        routes = [NameAddr.parse(v).sip_uri for v in out.headers.values("Record-Route")]
        assert flow.secure
        assert [(uri.scheme, uri.transport, uri.port) for uri in routes] == [
            ("sips", None, 5061),
            ("sips", None, 5060),
        ]
        desk = Desk(Says(lambda _: Forward(((Target("sips:bob@x", flow=desk.flow),),))))
        answers = desk.tell(request_text("INVITE"))
        assert [a.status for a in answers if isinstance(a, Response)] == [100, 500]


class TestLoops:
    def test_a_request_that_comes_back_as_it_was_has_looped(self) -> None:
        desk = Desk(Says(lambda i: Forward(((Target(f"sip:bob@{P1}"),),))))
        _, out = desk.tell(request_text("INVITE", uri=f"sip:bob@{P1}"))
        [answer] = desk.tell(out.to_bytes(), Flow("udp", Address(P1, 5060), Address(P1, 5060)))
        assert isinstance(answer, Response)
        assert answer.status == 482

    def test_a_request_that_comes_back_for_somebody_else_spirals_and_may(self) -> None:
        desk = Desk(Says(lambda i: Forward(((Target(f"sip:carol@{P1}"),),))))
        _, out = desk.tell(request_text("INVITE", uri=f"sip:bob@{P1}"))
        answers = desk.tell(out.to_bytes(), Flow("udp", Address(P1, 5060), Address(P1, 5060)))
        assert [type(answer) for answer in answers] == [Response, Request]
        again = answers[1].to_bytes()  # for carol, as it was when it came: now it is a loop
        [answer] = desk.tell(again, Flow("udp", Address(P1, 5060), Address(P1, 5060)))
        assert isinstance(answer, Response)
        assert answer.status == 482

    def test_two_proxies_that_send_a_call_to_each_other_end_it(self, net: Net) -> None:
        alice = net.phone("192.0.2.1")
        first = net.proxy(P1, Says(lambda i: Forward(((Target(f"sip:bob@{P2}"),),))))
        net.proxy(P2, Says(lambda i: Forward(((Target(f"sip:bob@{P1}"),),))))
        call(alice, first)
        net.run(5)
        assert alice.only(InviteFailed).status == 482
        assert len(net.sent("INVITE")) < 10


class TestPolicy:
    def world(self, net: Net) -> tuple[Phone, Phone, Proxy, Location]:
        location = Location()
        digest = DigestServer("here", USERS, SeededRandom(3))
        policy = LocationPolicy(
            USERS,
            location,
            Authenticator(digest, proxy=True),
            Registrar(USERS, location, Authenticator(digest)),
        )
        proxy = net.proxy(P1, policy, ProxyConfig(domains=frozenset({"here.example"})))
        return net.phone("192.0.2.1"), net.phone("192.0.2.2"), proxy, location

    def register(self, net: Net, phone: Phone, proxy: Proxy, user: str) -> None:
        phone.agent.request(
            "REGISTER", "sip:here.example", flow=phone.to(proxy),
            from_=f"<sip:{user}@here.example>", to=f"<sip:{user}@here.example>",
            headers=[("Contact", phone.contact)],
            credentials=Credentials(user, USERS[user]), now=net.now,
        )  # type: ignore[arg-type]  # fmt: skip
        net.run(1)
        assert phone.only(RequestDone).response.status == 200
        phone.seen.clear()

    def dial(self, phone: Phone, proxy: Proxy, uri: str, sender: str, **more: Any) -> Any:
        return phone.agent.invite(
            uri, flow=phone.to(proxy), from_=f"<{sender}>", to=f"<{uri}>", contact=phone.contact,
            body=OFFER, content_type=SDP, now=phone.net.now, **more,
        )  # type: ignore[arg-type]  # fmt: skip

    def test_a_user_calls_another(self, net: Net) -> None:
        alice, bob, proxy, _ = self.world(net)
        self.register(net, bob, proxy, "bob")
        at(net, bob, IncomingInvite)
        self.dial(
            alice, proxy, "sip:bob@here.example", "sip:alice@here.example",
            credentials=Credentials("alice", "wonderland"),
            headers=[("P-Asserted-Identity", "<sip:president@example.com>")],
        )  # fmt: skip
        net.run(2)
        alice.only(Answered)
        request = bob.only(IncomingInvite).invite.request
        assert request.uri == bob.uri
        assert "Proxy-Authorization" not in request.headers
        # F129: what was claimed is gone, what the proxy knows is said
        assert request.headers.get_all("P-Asserted-Identity") == ["<sip:alice@here.example>"]
        alice.agent.bye(alice.only(Answered).dialog, now=net.now)
        net.run(2)

    @pytest.mark.parametrize(
        ("uri", "sender", "user", "status"),
        [
            ("sip:nobody@here.example", "sip:stranger@there.example", None, 480),
            ("sip:carol@here.example", "sip:stranger@there.example", None, 480),
            ("sip:x@192.0.2.77", "sip:stranger@there.example", None, 403),
            ("sip:x@192.0.2.77", "sip:alice@there.example", None, 403),
            ("sip:carol@here.example", "sip:alice@here.example", None, 407),
            ("sip:carol@here.example", "sip:alice@here.example", "bob", 403),
        ],
    )
    def test_who_may_not_call_whom(
        self, net: Net, uri: str, sender: str, user: str | None, status: int
    ) -> None:
        alice, _, proxy, _ = self.world(net)
        credentials = None if user is None else Credentials(user, USERS[user])
        self.dial(alice, proxy, uri, sender, credentials=credentials)
        net.run(1)
        assert alice.only(InviteFailed).status == status

    def test_a_number_that_is_no_user_is_not_found(self) -> None:
        desk = Desk(LocationPolicy(USERS, Location(), None))
        assert desk.status(request_text("INVITE", uri="tel:+441632960123")) == 404

    def test_strangers_may_call_users(self, net: Net) -> None:
        alice, bob, proxy, location = self.world(net)
        uri = SipUri.parse(bob.uri)
        location.set("bob", [Binding(NameAddr("", bob.uri), uri, 1e9, "c", 1)], 0.0)
        at(net, bob, IncomingInvite)
        self.dial(alice, proxy, "sip:bob@here.example", "sip:stranger@there.example")
        net.run(2)
        assert "P-Asserted-Identity" not in bob.only(IncomingInvite).invite.request.headers
        alice.agent.bye(alice.only(Answered).dialog, now=net.now)
        net.run(2)

    def test_F129_a_caller_who_asks_for_privacy_is_not_named(self, net: Net) -> None:
        alice, bob, proxy, _ = self.world(net)
        self.register(net, bob, proxy, "bob")
        self.dial(
            alice, proxy, "sip:bob@here.example", "sip:alice@here.example",
            credentials=Credentials("alice", "wonderland"), headers=[("Privacy", "id")],
        )  # fmt: skip
        net.run(1)
        invite = bob.only(IncomingInvite).invite
        assert "P-Asserted-Identity" not in invite.request.headers
        bob.answer(invite, 486)
        net.run(1)

    def test_F111_a_phone_that_came_by_a_connection_is_called_by_it(self, net: Net) -> None:
        alice, bob, proxy, location = self.world(net)
        flow = Flow("tcp", proxy.address, bob.address)
        contact = "<sip:bob@10.1.1.1;transport=tcp>"
        binding = Binding(
            NameAddr.parse(contact), SipUri.parse("sip:bob@10.1.1.1"), 1e9, "c", 1, flow=flow
        )
        location.set("bob", [binding], 0.0)
        at(net, bob, IncomingInvite)
        self.dial(alice, proxy, "sip:bob@here.example", "sip:stranger@there.example")
        net.run(1)
        assert bob.only(IncomingInvite).invite.flow.transport == "tcp"
        dialog = alice.only(Answered).dialog
        dialog.remote_target = "sip:bob@10.1.1.1"  # what nobody can reach
        alice.agent.bye(dialog, now=net.now)
        net.run(1)
        assert bob.only(DialogEnded).by_remote
        proxy.agent.flow_failed(flow, "closed", net.now)
        assert location.bindings("bob", net.now) == []
