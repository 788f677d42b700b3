"""sips: URIs: what is called so goes by TLS, comes by TLS, and is answered so (RFC 5630)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from proxy_stage import P1, USERS, Desk, Says
from virtual_sip import CONFIG, Stranger, request_text, response_text

from voip.session.redirect import Redirects
from voip.sip.events import (
    Answered,
    InviteFailed,
    Provisional,
    ReinviteReceived,
    RequestReceived,
    UpdateReceived,
)
from voip.sip.flow import Flow
from voip.sip.gruu import Gruus
from voip.sip.headers import NameAddr
from voip.sip.location import Binding, Location
from voip.sip.message import Request, Response, make_response, parse_message
from voip.sip.proxy import ProxyAgent, ProxyConfig
from voip.sip.proxy_policy import Forward, LocationPolicy, Target
from voip.sip.registrar import Registrar
from voip.types import Address, SeededRandom

pytestmark = pytest.mark.rfc("5630", "5")

HERE, THERE = Address("192.0.2.1", 5061), Address("192.0.2.9", 5061)
TLS = Flow("tls", HERE, THERE)
UDP = Flow("udp", Address("192.0.2.1", 5060), Address("192.0.2.9", 5060))
INSECURE = [UDP, Flow("tcp", HERE, THERE), Flow("ws", HERE, THERE)]
US = "sips:phone@192.0.2.1"
PLAIN, SECURE = "Contact: <sip:stranger@192.0.2.9>", "Contact: <sips:stranger@192.0.2.9>"
WARNING = '380 voip "SIPS Not Allowed"'


def called(contact: str = SECURE, method: str = "INVITE", uri: str = US, **more: str) -> str:
    return request_text(method, uri=uri, **more).replace(PLAIN, contact)


# ---------------------------------------------------------------- who is called


@pytest.mark.parametrize("flow", INSECURE, ids=lambda flow: flow.transport)
@pytest.mark.parametrize("method", ["INVITE", "OPTIONS", "BYE"])
def test_what_asks_for_tls_and_comes_without_is_not_taken(flow: Flow, method: str) -> None:
    peer = Stranger()
    (answer,) = peer.tell(called(method=method), flow)
    assert isinstance(answer, Response)
    assert (answer.status, answer.headers.get("Warning")) == (480, WARNING)
    assert peer.agent.events() == []
    assert peer.empty()
    assert peer.tell(called(method="ACK"), flow) == []


@pytest.mark.parametrize("flow", [TLS, Flow("wss", HERE, THERE)], ids=lambda flow: flow.transport)
def test_what_comes_by_tls_is_taken(flow: Flow) -> None:
    peer = Stranger()
    peer.tell(called(), flow)
    (event,) = peer.agent.events()
    peer.agent.respond(event.invite, 180, contact="<sips:us@192.0.2.1>", now=0)
    assert event.invite.dialog.secure
    peer.agent.respond(event.invite, 480, now=0)


def test_a_contact_that_names_tls_in_the_old_way_is_let_pass() -> None:
    """As Asterisk's does, which calls who has registered by sips: so."""
    peer = Stranger()
    peer.tell(called("Contact: <sip:asterisk@192.0.2.9:5061;transport=TLS>"), TLS)
    (event,) = peer.agent.events()
    peer.agent.respond(event.invite, 200, contact=f"<{US}>", body=b"v=0", now=0)
    dialog = event.invite.dialog
    peer.tell(called(method="ACK", to_tag=dialog.local.tag, branch="z9hG4bKa", cseq="1 ACK"), TLS)
    peer.heard()
    peer.agent.bye(dialog, now=0)
    ((bye, flow),) = peer.heard_with_flows()
    assert isinstance(bye, Request)
    assert (bye.uri, flow) == ("sip:asterisk@192.0.2.9:5061;transport=TLS", TLS)


def test_a_contact_that_is_not_sips_where_sips_was_called_is_refused() -> None:
    peer = Stranger()
    (answer,) = peer.tell(called(PLAIN), TLS)
    assert isinstance(answer, Response)
    assert (answer.status, answer.reason) == (
        400,
        "a Contact that is not sips: though sips: was called",
    )
    assert peer.agent.events() == []


@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
@pytest.mark.parametrize("uri", [US, "sip:phone@192.0.2.1;transport=tls"])
def test_a_call_that_began_so_cannot_be_moved_to_where_it_is_not(method: str, uri: str) -> None:
    """Whatever the Request-URI says: the dialog is what was begun."""
    peer = Stranger()
    peer.tell(called(), TLS)
    (event,) = peer.agent.events()
    peer.agent.respond(event.invite, 200, contact=f"<{US}>", body=b"v=0", now=0)
    dialog, tag = event.invite.dialog, event.invite.dialog.local.tag
    peer.tell(called(method="ACK", to_tag=tag, branch="z9hG4bKa", cseq="1 ACK"), TLS)
    peer.agent.events()
    more = {"to_tag": tag, "cseq": f"2 {method}", "branch": "z9hG4bK2", "body": "v=0"}
    text = called("Contact: <sip:x@192.0.2.66>", method, uri, **more)
    if method == "UPDATE":
        text = text.replace("Content-Type", "Contact: <sip:x@192.0.2.66>\r\nContent-Type")
    (answer, *_) = peer.tell(text, TLS)
    assert isinstance(answer, Response)
    assert answer.status == 400
    assert peer.agent.events() == []
    assert dialog.remote_target == "sips:stranger@192.0.2.9"
    peer.tell(text.replace("sip:x@192.0.2.66", "sips:x@192.0.2.66").replace("z9hG4bK2", "z9hG4bK3")
              .replace(f"2 {method}", f"3 {method}"), TLS)  # fmt: skip
    (change,) = peer.agent.events()
    assert isinstance(change, ReinviteReceived | UpdateReceived)


def test_a_contact_of_a_request_that_begins_no_dialog_is_not_judged() -> None:
    peer = Stranger(replace(CONFIG, allow=(*CONFIG.allow, "MESSAGE")))
    text = called(method="MESSAGE").replace("Content-Length", f"{PLAIN}\r\nContent-Length")
    peer.tell(text, TLS)
    assert [type(event) for event in peer.agent.events()] == [RequestReceived]


# ---------------------------------------------------------------- who calls


def calling(**more: str) -> tuple[Stranger, Request]:
    peer = Stranger()
    peer.agent.invite(
        "sips:stranger@192.0.2.9", flow=TLS, from_="<sips:phone@192.0.2.1>",
        to="<sips:stranger@192.0.2.9>", contact="<sips:phone@192.0.2.1>", body=b"v=0", now=0,
        **more,
    )  # type: ignore[arg-type]  # fmt: skip
    (invite,) = peer.heard()
    assert isinstance(invite, Request)
    return peer, invite


def test_an_answer_that_leads_where_nothing_is_secure_ends_the_call() -> None:
    peer, invite = calling()
    ack, bye = peer.tell(response_text(invite, 200), TLS)
    assert isinstance(ack, Request)
    assert isinstance(bye, Request)
    assert (ack.method, ack.uri) == ("ACK", "sips:stranger@192.0.2.9")
    assert (bye.method, bye.uri) == ("BYE", "sips:stranger@192.0.2.9")
    (failed,) = peer.agent.events()
    assert isinstance(failed, InviteFailed)
    assert failed.status == 502
    assert "a Contact that is not sips:" in failed.reason


def test_an_answer_that_is_sips_too_does_not() -> None:
    peer, invite = calling()
    peer.tell(response_text(invite, 180).replace(PLAIN, SECURE), TLS)
    peer.tell(response_text(invite, 200).replace(PLAIN, SECURE), TLS)
    assert [type(event) for event in peer.agent.events()] == [Provisional, Answered]


@pytest.mark.rfc("5630", "5.1.1")
def test_the_route_of_what_calls_sips_is_sips_and_cancel_has_the_same() -> None:
    route = ["<sip:192.0.2.50:5061;lr>", "Home <sips:home.example;lr>;x=y"]
    expected = ["<sips:192.0.2.50:5061;lr>", "Home <sips:home.example;lr>;x=y"]
    peer, invite = calling(route=route)  # type: ignore[arg-type]
    assert invite.headers.values("Route") == expected
    peer.tell(response_text(invite, 180).replace(PLAIN, SECURE), TLS)
    (event,) = peer.agent.events()
    peer.agent.cancel(event.invite, now=0)
    (cancel,) = peer.heard()
    assert isinstance(cancel, Request)
    assert (cancel.method, cancel.headers.values("Route")) == ("CANCEL", expected)
    refusal = make_response(invite, 487, to_tag="a")
    (ack,) = peer.tell(refusal.to_bytes(), TLS)
    assert ack.headers.values("Route") == expected


def test_the_route_of_what_calls_sip_stays_as_it_is() -> None:
    peer = Stranger()
    assert peer.called(route=["<sip:192.0.2.50;lr>"]).headers.values("Route") == [
        "<sip:192.0.2.50;lr>"
    ]


def test_in_a_dialog_that_began_so_the_route_is_sips_whatever_was_recorded() -> None:
    peer, invite = calling()
    more = "Record-Route: <sip:192.0.2.50;lr>\r\n"
    (ack,) = peer.tell(response_text(invite, 200, more).replace(PLAIN, SECURE), TLS)
    assert ack.headers.values("Route") == ["<sips:192.0.2.50;lr>"]


@pytest.mark.rfc("3261", "8.1.3.4")
def test_a_redirection_leads_to_nothing_less() -> None:
    def asked(first: str) -> list[str]:
        redirects = Redirects(first, 5)
        moved = make_response(parse_message(called().encode()), 302)  # type: ignore[arg-type]
        moved.headers.add("Contact", "<sip:a@192.0.2.7>;q=0.9, <sips:b@192.0.2.7>;q=0.1")
        redirects.learn(moved)
        found = [redirects.next(), redirects.next()]
        return [contact.uri for contact in found if contact is not None]

    assert asked("sips:x@192.0.2.9") == ["sips:b@192.0.2.7"]
    assert asked("sip:x@192.0.2.9") == ["sip:a@192.0.2.7", "sips:b@192.0.2.7"]


# ---------------------------------------------------------------- who is between


def location(*contacts: str, flow: Flow | None = None) -> Location:
    there = Location()
    bindings = [
        Binding(contact, contact.sip_uri, 1e9, "c", 1, flow=flow)
        for contact in (NameAddr.parse(text) for text in contacts)
    ]
    there.set("bob", bindings, 0.0)
    return there


def desk(*contacts: str, flow: Flow | None = None) -> Desk:
    policy = LocationPolicy(USERS, location(*contacts, flow=flow), None)
    return Desk(policy, ProxyConfig(domains=frozenset(["here.example"])))


def invite(uri: str, method: str = "INVITE") -> str:
    return request_text(method, uri=uri)


@pytest.mark.rfc("5630", "5.3")
class TestProxy:
    @pytest.mark.parametrize("flow", INSECURE, ids=lambda flow: flow.transport)
    def test_what_came_without_tls_goes_no_further(self, flow: Flow) -> None:
        one = desk("<sips:bob@192.0.2.2>")
        (answer,) = one.tell(invite("sips:bob@here.example"), flow)
        assert isinstance(answer, Response)
        assert (answer.status, answer.headers.get("Warning")) == (480, WARNING)
        assert one.agent.events() == []

    def test_who_has_registered_by_sip_is_not_called_by_sips(self) -> None:
        one = desk("<sip:bob@192.0.2.2>")
        (answer,) = one.tell(invite("sips:bob@here.example"), TLS)
        assert isinstance(answer, Response)
        assert (answer.status, answer.headers.get("Warning")) == (480, WARNING)

    def test_of_several_places_only_the_secure_ones_are_called(self) -> None:
        one = desk("<sip:bob@192.0.2.2>", "<sips:bob@192.0.2.3>")
        one.tell(invite("sips:bob@here.example"), TLS)
        assert [(n.host, n.transport) for n in one.agent.events()] == [("192.0.2.3", "tls")]

    def test_who_has_registered_by_sips_is_called_by_sip_over_tls(self) -> None:
        one = desk("<sips:bob@192.0.2.2:5071>")
        one.tell(invite("sip:bob@here.example"))
        (needed,) = one.agent.events()
        assert (needed.host, needed.port, needed.transport) == ("192.0.2.2", 5071, "tls")
        needed.found(Flow("tls", Address(P1, 5061), Address("192.0.2.2", 5071)), 0.0)
        ((data, _),) = one.agent.outgoing()
        out = parse_message(data)
        assert isinstance(out, Request)
        assert out.uri == "sip:bob@192.0.2.2:5071"
        routes = [NameAddr.parse(v).sip_uri.scheme for v in out.headers.values("Record-Route")]
        assert routes == ["sip", "sip"]

    def test_and_by_nothing_but_tls(self) -> None:
        one = desk("<sips:bob@192.0.2.2>", flow=UDP)
        answers = one.tell(invite("sip:bob@here.example"))
        assert [a.status for a in answers if isinstance(a, Response)] == [100, 500]
        by_tls = desk("<sips:bob@192.0.2.2>", flow=TLS)
        _, out = by_tls.tell(invite("sip:bob@here.example"))
        assert isinstance(out, Request)
        assert out.uri == "sip:bob@192.0.2.2"

    def test_the_next_proxy_is_reached_by_tls_too(self) -> None:
        target = Target("sips:bob@b.example", ("<sip:192.0.2.60;lr>",))
        one = Desk(Says(lambda _: Forward(((target,),))))
        one.tell(invite("sips:bob@b.example"), TLS)
        (needed,) = one.agent.events()
        assert (needed.host, needed.transport) == ("192.0.2.60", "tls")

    @pytest.mark.rfc("3261", "16.6")
    def test_a_secure_route_ahead_makes_the_record_route_secure_on_that_side(self) -> None:
        target = Target("sip:bob@b.example", ("<sips:192.0.2.60;lr>",))
        one = Desk(Says(lambda _: Forward(((target,),))))
        one.tell(invite("sip:bob@b.example"))
        (needed,) = one.agent.events()
        assert needed.transport == "tls"
        needed.found(Flow("tls", Address(P1, 5061), Address("192.0.2.60", 5061)), 0.0)
        ((data, _),) = one.agent.outgoing()
        values = parse_message(data).headers.values("Record-Route")
        assert [NameAddr.parse(v).sip_uri.scheme for v in values] == ["sips", "sip"]

    @pytest.mark.parametrize(
        ("called", "contact", "follows"),
        [
            ("sips:bob@x.example", "sip:b@192.0.2.7", False),
            ("sips:bob@x.example", "sips:b@192.0.2.7", True),
            ("sip:bob@x.example", "sip:b@192.0.2.7", True),
            ("sip:bob@x.example", "sips:b@192.0.2.7", False),
        ],
    )
    def test_a_redirection_to_another_scheme_is_the_callers_to_follow(
        self, called: str, contact: str, follows: bool
    ) -> None:
        by = Flow("tls", Address(P1, 5061), Address("192.0.2.2", 5061))
        agent = ProxyAgent(
            ProxyConfig(max_redirects=3),
            Says(lambda _: Forward(((Target(called, flow=by),),))),
            SeededRandom(1),
            redirect=lambda uri, ours, now: ((Target(str(uri), flow=by),),),
        )
        agent.receive(invite(called).encode(), Flow("tls", Address(P1, 5061), THERE), 0.0)
        out = [parse_message(data) for data, _ in agent.outgoing()]
        forwarded = next(one for one in out if isinstance(one, Request))
        moved = make_response(forwarded, 302, to_tag="t")
        moved.headers.add("Contact", f"<{contact}>")
        agent.receive(moved.to_bytes(), by, 0.0)
        later = [parse_message(data) for data, _ in agent.outgoing()]
        uris = [one.uri for one in later if isinstance(one, Request) and one.method == "INVITE"]
        statuses = [one.status for one in later if isinstance(one, Response)]
        assert (uris, statuses) == (([contact], []) if follows else ([], [302]))


# ---------------------------------------------------------------- who registers


class Register:
    """A REGISTER, and what came of it."""

    def __init__(self, contact: str, uri: str, *path: str, cseq: int = 1) -> None:
        text = request_text("REGISTER", uri=uri, cseq=f"{cseq} REGISTER")
        request = parse_message(text.replace("To: <sip:phone@", "To: <sip:bob@").encode())
        assert isinstance(request, Request)
        request.headers.add("Contact", contact)
        request.headers.add("Supported", "path, gruu")
        for value in path:
            request.headers.add("Path", value)
        self.request, self.flow = request, TLS
        self.status = 0
        self.headers: list[tuple[str, str]] = []

    def reply(self, status: int, reason: str | None = None, *, headers=(), now: float) -> None:  # type: ignore[no-untyped-def]
        self.status, self.headers = status, list(headers)


@pytest.mark.rfc("5630", "5.2")
@pytest.mark.parametrize(
    ("contact", "uri", "path", "status"),
    [
        ("<sips:bob@192.0.2.2>", "sips:here.example", (), 200),
        ("<sips:bob@192.0.2.2>", "sips:here.example", ("<sips:edge.example;lr>",), 200),
        ("<sips:bob@192.0.2.2>", "sip:here.example", (), 400),
        ("<sips:bob@192.0.2.2>", "sips:here.example", ("<sip:edge.example;lr>",), 400),
        ("<sips:bob@192.0.2.2>, <sip:bob@192.0.2.3>", "sips:here.example", (), 400),
        ("<sip:bob@192.0.2.2>", "sips:here.example", ("<sip:edge.example;lr>",), 200),
    ],
)
def test_what_is_registered_by_sips_is_secure_all_the_way(
    contact: str, uri: str, path: tuple[str, ...], status: int
) -> None:
    register = Register(contact, uri, *path)
    Registrar(USERS, Location(), None).register(register, 0.0)
    assert register.status == status


@pytest.mark.rfc("5630", "5.1.1.1")
def test_a_contact_by_sip_and_by_sips_is_one_place() -> None:
    registrar = Registrar(USERS, there := Location(), None)
    registrar.register(Register("<sip:bob@192.0.2.2>", "sips:here.example"), 0.0)
    registrar.register(Register("<sips:bob@192.0.2.2>", "sips:here.example", cseq=2), 0.0)
    assert [str(one.uri) for one in there.bindings("bob", 0.0)] == ["sips:bob@192.0.2.2"]


@pytest.mark.rfc("5630", "5.2.1")
@pytest.mark.parametrize("scheme", ["sip", "sips"])
def test_a_gruu_has_the_scheme_of_its_contact(scheme: str) -> None:
    registrar = Registrar(USERS, Location(), None, gruus=Gruus(SeededRandom(1)))
    contact = f'<{scheme}:bob@192.0.2.2>;+sip.instance="<urn:uuid:1>"'
    registrar.register(register := Register(contact, "sips:here.example"), 0.0)
    (told,) = [NameAddr.parse(value) for name, value in register.headers if name == "Contact"]
    assert (told.param("pub-gruu") or "").startswith(f"{scheme}:bob@")
    assert (told.param("temp-gruu") or "").startswith(f"{scheme}:tgruu.")
