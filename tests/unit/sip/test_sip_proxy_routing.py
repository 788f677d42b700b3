"""What a proxy refuses, where it sends on, and how it ends loops: RFC 3261 section 16, RFC 5393."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy_stage import ONWARD, P1, P2, USERS, Desk, Says, call
from virtual_sip import Net, request_text

from voip.sip.events import InviteFailed
from voip.sip.flow import Flow
from voip.sip.headers import NameAddr
from voip.sip.location import Binding, Location
from voip.sip.message import Request, Response, parse_message
from voip.sip.proxy_policy import Forward, LocationPolicy, Refuse, Target
from voip.sip.registrar import Registrar
from voip.sip.uri import SipUri
from voip.types import Address

pytestmark = [pytest.mark.rfc("3261", "16"), pytest.mark.rfc("5393", "4")]


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
        by_tls = Flow("tls", Address(P1, 5061), Address("192.0.2.9", 40000))
        desk.tell(request_text("INVITE", uri="sips:bob@here.example"), by_tls)
        [needed] = desk.agent.events()
        assert (needed.host, needed.transport) == ("192.0.2.2", "tls")
        needed.found(Flow("tls", Address(P1, 5061), Address("192.0.2.2", 5061)), 0.0)
        [(data, flow)] = desk.agent.outgoing()
        out = parse_message(data)
        routes = [NameAddr.parse(v).sip_uri for v in out.headers.values("Record-Route")]
        assert flow.secure
        assert [(uri.scheme, uri.transport, uri.port) for uri in routes] == [
            ("sips", None, 5061),
            ("sips", None, 5061),
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
