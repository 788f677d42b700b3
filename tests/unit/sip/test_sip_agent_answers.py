"""What the agent answers strangers by itself, where the answers go, and what they may cost."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypotheses import examples
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from virtual_sip import CONFIG, OFFER, SDP, Stranger, request_text, response_text

from voip.sip.agent import SipAgent
from voip.sip.client_invite import ClientInvite
from voip.sip.events import (
    Answered,
    Cause,
    DialogEnded,
    IncomingInvite,
    InviteFailed,
    RequestDone,
    RequestFailed,
    RequestReceived,
)
from voip.sip.flow import Flow
from voip.sip.message import Request, Response, make_response, parse_message
from voip.types import Address, SeededRandom

pytestmark = pytest.mark.rfc("3261", "8.2")

ACCEPT = ["application/sdp", "multipart/mixed", "multipart/alternative"]


def only(heard: list[Request | Response]) -> Response:
    [response] = heard
    assert isinstance(response, Response)
    return response


def statuses(heard: list[Request | Response]) -> list[int]:
    return [message.status for message in heard if isinstance(message, Response)]


# Answers.


def test_options_is_answered_with_what_we_can_do() -> None:
    stranger = Stranger()
    ok = only(stranger.tell(request_text("OPTIONS")))
    assert ok.status == 200
    assert ok.headers.values("Allow") == list(CONFIG.allow)
    assert ok.headers.values("Accept") == ACCEPT
    assert ok.headers.values("Accept-Encoding") == ["identity"]
    assert ok.headers.values("Accept-Language") == ["en"]
    assert ok.headers.values("Supported") == list(CONFIG.supported)
    assert ok.headers.get("Server") == "test"
    assert ok.to.tag
    assert stranger.empty()


def test_a_compressed_offer_is_refused_with_what_can_be_read() -> None:
    more = "Content-Encoding: gzip\r\n"
    stranger = Stranger()
    refusal = only(stranger.tell(request_text("INVITE", more=more, body="x")))
    assert refusal.status == 415
    assert refusal.headers.values("Accept") == ACCEPT
    assert refusal.headers.values("Accept-Encoding") == ["identity"]


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (request_text("PUBLISH"), 405),
        (request_text("SUBSCRIBE"), 405),
        (request_text("MESSAGE"), 405),
        (request_text("BREAKFAST"), 405),
        (request_text("break-fast!"), 501),
        (request_text("BYE"), 481),
        (request_text("CANCEL"), 481),
        (request_text("UPDATE"), 481),
        (request_text("PRACK", more="RAck: 1 1 INVITE\r\n"), 481),
        (request_text("BYE", to_tag="gone"), 481),
        (request_text("INVITE", to_tag="gone"), 481),
        (request_text("OPTIONS", to_tag="gone"), 481),
        (request_text("OPTIONS", uri="tel:7042"), 400),
        (request_text("OPTIONS", uri="http://example.com"), 416),
        (request_text("OPTIONS", uri="sip:a b@c"), 400),
        (request_text("OPTIONS", cseq="1 INVITE"), 400),
        (request_text("OPTIONS", cseq="4294967296 OPTIONS"), 400),
        (request_text("OPTIONS", more="Require: teleport\r\n"), 420),
        (request_text("INVITE", more="Require: precondition\r\n"), 420),
        (request_text("INVITE", body="<x/>").replace("application/sdp", "text/xml"), 415),
        (request_text("INVITE", body="x", more="Content-Encoding: gzip\r\n"), 415),
        (request_text("UPDATE", body="<x/>").replace("application/sdp", "text/xml"), 415),
        (request_text("INVITE", more="Accept: text/plain, text/*;q=0.5\r\n"), 406),
        (request_text("INVITE", more="Accept:\r\n"), 406),
        (request_text("INVITE", more='Accept: text/plain;x=", y\r\n'), 400),
        (request_text("INVITE", more="Record-Route: <sip:\r\n"), 400),
        (request_text("INVITE", more="Record-Route: <tel:1>\r\n"), 416),
        (request_text("OPTIONS").replace("From", "X-From"), 400),
        (request_text("OPTIONS").replace("Call-ID", "X-Call-ID"), 400),
        (request_text("OPTIONS").replace("SIP/2.0\r\nVia", "SIP/3.0\r\nVia"), 505),
        (request_text("OPTIONS", more="Expires: 1\r\nExpires: 2\r\n"), 400),
    ],
)
def test_what_cannot_be_done_is_refused_and_leaves_nothing(text: str, status: int) -> None:
    stranger = Stranger()
    refusal = only(stranger.tell(text))
    assert refusal.status == status
    assert stranger.agent.events() == []
    assert stranger.empty()
    if status in (405, 501):
        assert refusal.headers.values("Allow") == list(CONFIG.allow)
    if status == 415:
        assert refusal.headers.values("Accept") == ACCEPT


def test_an_unsupported_extension_is_named() -> None:
    stranger = Stranger(replace(CONFIG, supported=("timer",)))
    refusal = only(stranger.tell(request_text("INVITE", more="Require: timer, 100rel, x\r\n")))
    assert refusal.headers.get("Unsupported") == "100rel, x"


@pytest.mark.parametrize(
    "more", ["", "Content-Disposition: render; handling=optional\r\nContent-Type: text/xml\r\n"]
)
def test_an_invite_with_a_body_we_may_pass_over_is_taken(more: str) -> None:
    stranger = Stranger()
    text = request_text("INVITE", body="" if not more else "<x/>", more=more)
    text = text.replace("Content-Type: application/sdp\r\n", "")
    assert stranger.tell(text) == []
    [event] = stranger.agent.events()
    assert isinstance(event, IncomingInvite)


@pytest.mark.parametrize(
    "text",
    [
        request_text("ACK"),
        request_text("ACK", to_tag="gone"),
        request_text("ACK", more="Require: 100rel\r\n"),
        request_text("ACK").replace("From", "X-From"),
        request_text("OPTIONS").replace("Via", "X-Via"),
        "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKx\r\n\r\n",
        "SIP/2.0 200 OK\r\n\r\n",
        "\r\n\r\n",
        "",
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "\x00" * 200,
    ],
)
def test_what_may_not_be_answered_is_dropped_and_counted(text: str) -> None:
    stranger = Stranger()
    assert stranger.tell(text) == []
    assert stranger.agent.events() == []
    assert stranger.empty()
    counters = stranger.agent.counters
    assert counters.malformed + counters.stray_acks + counters.stray_responses == 1


def test_a_stray_response_is_dropped_and_counted() -> None:
    stranger = Stranger()
    request = parse_message(request_text("INVITE").encode())
    assert isinstance(request, Request)
    assert stranger.tell(make_response(request, 200, to_tag="x").to_bytes()) == []
    assert stranger.agent.counters.stray_responses == 1


def test_a_repeated_refusal_has_the_same_tag_and_another_request_another_one() -> None:
    stranger = Stranger()
    tags = [only(stranger.tell(request_text("UPDATE"))).to.tag for _ in range(2)]
    other = only(stranger.tell(request_text("UPDATE", branch="z9hG4bKother"))).to.tag
    assert tags[0] == tags[1] != other
    elsewhere = Stranger()
    elsewhere.agent = SipAgent(CONFIG, SeededRandom(8))
    assert only(elsewhere.tell(request_text("UPDATE"))).to.tag != tags[0]


def test_a_request_that_came_two_ways_is_merged() -> None:
    """Section 8.2.2.2: forked to us twice, the second one is a loop."""
    stranger = Stranger()
    assert stranger.tell(request_text("INVITE", branch="z9hG4bKone")) == []
    assert only(stranger.tell(request_text("INVITE", branch="z9hG4bKtwo"))).status == 482
    assert len(stranger.agent.events()) == 1
    again = request_text("INVITE", branch="z9hG4bKthree", cseq="2 INVITE")
    assert stranger.tell(again) == []
    assert len(stranger.agent.events()) == 1


def test_methods_of_the_users_are_handed_up() -> None:
    stranger = Stranger(replace(CONFIG, allow=(*CONFIG.allow, "MESSAGE")))
    assert stranger.tell(request_text("MESSAGE", body="hello")) == []
    [event] = stranger.agent.events()
    assert isinstance(event, RequestReceived)
    stranger.agent.reply(event.request, 202, now=0.0)
    assert statuses(stranger.heard()) == [202]
    assert statuses(stranger.tell(request_text("MESSAGE", body="hello"))) == [202]


# Where answers go (section 18.2, RFC 3581).


@pytest.mark.parametrize(
    ("via", "source", "goes_to", "received"),
    [
        # From where it says: to the port it names, or 5060.
        ("192.0.2.9:5070", ("192.0.2.9", 5070), ("192.0.2.9", 5070), None),
        ("192.0.2.9", ("192.0.2.9", 49000), ("192.0.2.9", 5060), None),
        # From elsewhere: to the source address, at the port it names.
        ("10.1.1.1:5070", ("192.0.2.9", 49000), ("192.0.2.9", 5070), "192.0.2.9"),
        ("phone.example.com", ("192.0.2.9", 49000), ("192.0.2.9", 5060), "192.0.2.9"),
        # rport: to the source address and port, RFC 3581's example among them.
        ("10.1.1.1:4540;rport", ("192.0.2.1", 9988), ("192.0.2.1", 9988), "192.0.2.1"),
        ("192.0.2.9;rport", ("192.0.2.9", 5060), ("192.0.2.9", 5060), "192.0.2.9"),
        ("192.0.2.9;rport=1", ("192.0.2.9", 6000), ("192.0.2.9", 6000), "192.0.2.9"),
        # What the sender claims does not count, and nobody is sent elsewhere.
        ("192.0.2.9;maddr=198.51.100.7", ("192.0.2.9", 5060), ("192.0.2.9", 5060), None),
        ("10.1.1.1;received=198.51.100.7", ("192.0.2.9", 1), ("192.0.2.9", 5060), "192.0.2.9"),
        ("[2001:db8::9]:5070", ("2001:db8::9", 5070), ("2001:db8::9", 5070), None),
    ],
)
def test_responses_go_back_where_the_request_came_from(
    via: str, source: tuple[str, int], goes_to: tuple[str, int], received: str | None
) -> None:
    stranger = Stranger()
    flow = Flow("udp", Address("192.0.2.1", 5060), Address(*source))
    text = request_text("OPTIONS", via=f"SIP/2.0/UDP {via};branch=z9hG4bKabc")
    stranger.agent.receive(text.encode(), flow, 0.0)
    [(response, way)] = stranger.heard_with_flows()
    assert way == Flow("udp", flow.local, Address(*goes_to))
    assert response.via.received == received
    if ";rport" in via:
        assert response.via.rport == source[1]


def test_over_a_connection_responses_go_back_through_it() -> None:
    stranger = Stranger()
    flow = Flow("tcp", Address("192.0.2.1", 5060), Address("192.0.2.9", 49152))
    stranger.agent.receive(request_text("OPTIONS").encode(), flow, 0.0)
    [(_, way)] = stranger.heard_with_flows()
    assert way == flow


def test_all_vias_come_back_in_order_whatever_their_form() -> None:
    stranger = Stranger()
    text = request_text("OPTIONS", via="SIP/2.0/UDP 10.1.1.1;branch=z9hG4bKa, SIP/2.0/UDP two")
    text = text.replace("Max-Forwards", "v: SIP/2.0/TCP three;branch=z9hG4bKc\r\nMax-Forwards")
    response = only(stranger.tell(text))
    assert [value.split(";")[0] for value in response.headers.values("Via")] == [
        "SIP/2.0/UDP 10.1.1.1",
        "SIP/2.0/UDP two",
        "SIP/2.0/TCP three",
    ]


# Limits.


def test_beyond_the_limit_of_transactions_strangers_get_503() -> None:
    stranger = Stranger(replace(CONFIG, max_server_transactions=3))
    for number in range(3):
        text = request_text("INVITE", branch=f"z9hG4bK{number}", call_id=f"call{number}")
        assert stranger.tell(text) == []
    refusal = only(stranger.tell(request_text("INVITE", call_id="more")))
    assert refusal.status == 503
    assert refusal.headers.get("Retry-After")
    assert stranger.agent.counters.overload == 1
    assert stranger.agent.transactions == 3
    # What needs no memory is still answered, and what is there still goes on.
    assert only(stranger.tell(request_text("OPTIONS", call_id="more"))).status == 200
    cancel = request_text("CANCEL", branch="z9hG4bK1", call_id="call1")
    assert statuses(stranger.tell(cancel)) == [200, 487]


def test_a_call_can_be_hung_up_in_the_middle_of_a_flood() -> None:
    stranger = Stranger(replace(CONFIG, max_server_transactions=1))
    stranger.tell(request_text("INVITE", body="x"))
    [event] = stranger.agent.events()
    assert isinstance(event, IncomingInvite)
    stranger.agent.respond(
        event.invite, 200, contact="<sip:p@192.0.2.1>", body=OFFER, content_type=SDP, now=0.0
    )
    stranger.heard()
    assert only(stranger.tell(request_text("INVITE", branch="z9hG4bKx", call_id="y"))).status == 503
    bye = request_text("BYE", branch="z9hG4bKbye", to_tag=event.invite.tag, cseq="2 BYE")
    assert only(stranger.tell(bye)).status == 200
    assert stranger.agent.dialogs == []


@pytest.mark.parametrize("rings", [True, False], ids=["early", "unanswered"])
def test_beyond_the_limit_of_dialogs_callers_get_503(rings: bool) -> None:
    stranger = Stranger(replace(CONFIG, max_dialogs=2))
    for number in range(2):
        stranger.tell(request_text("INVITE", branch=f"z9hG4bK{number}", call_id=f"c{number}"))
    invites = [e.invite for e in stranger.agent.events() if isinstance(e, IncomingInvite)]
    if rings:
        stranger.agent.ring(invites[0], contact="<sip:p@192.0.2.1>", now=0.0)
        stranger.heard()
    other = request_text("INVITE", branch="z9hG4bKx", call_id="other")
    assert only(stranger.tell(other)).status == 503
    stranger.agent.respond(invites[0], 486, now=0.0)
    stranger.heard()
    assert stranger.tell(other) == []  # there is room again
    [event] = stranger.agent.events()
    assert isinstance(event, IncomingInvite)
    for invite in (invites[1], event.invite):
        stranger.agent.respond(invite, 486, now=0.0)
    stranger.wait(40)
    assert stranger.empty()


def test_refused_requests_leave_no_trace() -> None:
    stranger = Stranger()
    for number in range(200):
        for method in ("OPTIONS", "UPDATE", "BYE", "CANCEL", "FOO"):
            text = request_text(method, branch=f"z9hG4bK{number}", call_id=f"c{number}")
            assert len(stranger.tell(text)) == 1
    assert stranger.empty()
    assert stranger.agent.events() == []


def calling(stranger: Stranger) -> ClientInvite:
    invite = stranger.agent.invite(
        "sip:s@192.0.2.9", flow=stranger.flow, from_="<sip:p@192.0.2.1>", to="<sip:s@192.0.2.9>",
        contact="<sip:p@192.0.2.1>", body=OFFER, content_type=SDP, now=0.0,
    )  # fmt: skip
    stranger.heard()
    return invite


@pytest.mark.parametrize(
    ("status", "name", "value"),
    [
        (180, "Contact", '"'),
        (183, "Record-Route", "<nonsense>"),
        (200, "From", "<"),
        (200, "To", ""),
        (486, "CSeq", "1"),
        (486, "Call-ID", " "),
        (200, "Via", "SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKother"),
    ],
)
def test_a_response_with_rubbish_in_it_is_dropped(status: int, name: str, value: str) -> None:
    stranger = Stranger()
    invite = calling(stranger)
    response = make_response(invite.request, status, to_tag="t")
    response.headers.set(name, value)
    assert stranger.tell(response.to_bytes()) == []
    assert (stranger.agent.dialogs, stranger.agent.events()) == ([], [])
    good = make_response(
        invite.request, 200, to_tag="t", headers=[("Contact", "<sip:s@192.0.2.9>")]
    )
    assert [m.method for m in stranger.tell(good.to_bytes()) if isinstance(m, Request)] == ["ACK"]
    assert [type(event) for event in stranger.agent.events()] == [Answered]


@pytest.mark.parametrize("name", ["Contact", "Record-Route"])
def test_an_answer_that_leads_nowhere_ends_the_call(name: str) -> None:
    """The callee is told so, as it was called: it would wait for an ACK for 32 s."""
    stranger = Stranger()
    invite = calling(stranger)
    response = make_response(invite.request, 200, to_tag="t", headers=[(name, "<sip:a b>")])
    ack, bye = stranger.tell(response.to_bytes())
    assert isinstance(ack, Request)
    assert isinstance(bye, Request)
    assert (ack.method, bye.method) == ("ACK", "BYE")
    assert ack.uri == bye.uri == invite.request.uri
    assert ack.to.tag == bye.to.tag == "t"
    assert ack.cseq.number == invite.request.cseq.number
    (again,) = stranger.tell(response.to_bytes())
    assert again.to_bytes() == ack.to_bytes()
    stranger.tell(response_text(bye, 200, tag="t"))
    [failed] = stranger.agent.events()
    assert isinstance(failed, InviteFailed)
    assert (failed.status, failed.cause) == (502, Cause.RESPONSE)
    stranger.wait(33)
    assert stranger.empty()


@examples(100, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_no_bytes_make_the_agent_raise_or_remember(data: st.DataObject) -> None:
    """Messages of all kinds, damaged in any place, and whatever is no message at all."""
    stranger = Stranger(replace(CONFIG, allow=(*CONFIG.allow, "INFO")))
    stranger.tell(request_text("INVITE", body="x"))
    [event] = stranger.agent.events()
    assert isinstance(event, IncomingInvite)
    stranger.agent.respond(
        event.invite, 200, contact="<sip:p@192.0.2.1>", body=OFFER, content_type=SDP, now=0.0
    )
    handle = stranger.agent.request(
        "OPTIONS", "sip:192.0.2.9", flow=stranger.flow, from_="<sip:p@192.0.2.1>",
        to="<sip:192.0.2.9>", now=0.0,
    )  # fmt: skip
    for _ in range(4):
        method = data.draw(
            st.sampled_from(["INVITE", "ACK", "BYE", "INFO", "CANCEL", "PRACK", "UPDATE"])
        )
        text = request_text(method, to_tag=event.invite.tag, cseq=f"2 {method}", branch="z9hG4bKz")
        if data.draw(st.booleans()):
            text = make_response(handle.request, 200, to_tag="x").to_bytes().decode()
        raw = bytearray(text.encode())
        for _ in range(data.draw(st.integers(0, 3))):
            at = data.draw(st.integers(0, len(raw) - 1))
            raw[at : at + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=6))
            raw = raw or bytearray(b"\0")
        stranger.tell(bytes(raw))
    events = stranger.agent.events()
    for other in events:
        if isinstance(other, IncomingInvite):  # its To has lost the tag: a call of its own
            stranger.agent.respond(other.invite, 480, now=0.0)
    for _ in range(3):
        stranger.wait(65)
    assert stranger.empty()
    events += stranger.agent.events()
    assert len([e for e in events if isinstance(e, RequestDone | RequestFailed)]) == 1
    assert len([e for e in events if isinstance(e, DialogEnded)]) == 1
