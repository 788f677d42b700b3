"""Calls between two agents, in virtual time. Every test ends with nothing left behind."""

from __future__ import annotations

from dataclasses import replace

import pytest
from virtual_sip import (
    ANSWER,
    CONFIG,
    OFFER,
    SDP,
    Net,
    Phone,
    established,
)

from voip.errors import CallStateError, SipError
from voip.sip.dialog import DialogState
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
from voip.sip.message import Request

pytestmark = pytest.mark.rfc("3261", "13")


# The plain call.


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize("ends", ["caller", "callee"])
def test_a_call_is_made_answered_and_ended(
    net: Net, alice: Phone, bob: Phone, transport: str, ends: str
) -> None:
    invite = alice.call(bob, transport)
    net.run(0.1)
    incoming = bob.only(IncomingInvite).invite
    assert incoming.request.body == OFFER
    bob.agent.ring(incoming, contact=bob.contact, now=net.now)
    net.run(3)
    ringing = alice.only(Provisional)
    assert (ringing.invite, ringing.response.status) == (invite, 180)
    assert ringing.dialog is not None
    assert ringing.dialog.state is DialogState.EARLY
    bob.answer(incoming)
    net.run(1)
    answered = alice.only(Answered)
    assert answered.invite is invite
    assert answered.dialog is ringing.dialog
    assert answered.response.body == ANSWER
    theirs = bob.only(Acknowledged).dialog
    assert answered.dialog.state is theirs.state is DialogState.CONFIRMED
    net.run(1000)
    sooner, later = (alice, bob) if ends == "caller" else (bob, alice)
    sooner.agent.bye(answered.dialog if ends == "caller" else theirs, now=net.now)
    net.run(1)
    mine, other = sooner.only(DialogEnded), later.only(DialogEnded)
    assert (mine.by_remote, mine.status, mine.reason) == (False, 200, "hung up")
    assert other.by_remote
    methods = [m.method for _, m, _ in net.wire if isinstance(m, Request)]
    assert methods == ["INVITE", "ACK", "BYE"]


def test_the_callers_request_has_all_that_section_8_1_1_asks_for(
    net: Net, alice: Phone, bob: Phone
) -> None:
    alice.call(bob, headers=[("Subject", "lunch")])
    net.run(0.1)
    invite = net.wire[0][1]
    assert isinstance(invite, Request)
    assert (invite.via.host, invite.via.port) == ("192.0.2.1", 5060)
    assert invite.via.wants_rport
    assert (invite.via.branch or "").startswith("z9hG4bK")
    names = [name for name, _ in invite.headers]
    for name in ("Via", "Max-Forwards", "From", "To", "Call-ID", "CSeq", "Contact", "User-Agent"):
        assert names.count(name) == 1, name
    assert invite.from_.tag
    assert invite.to.tag is None
    assert invite.headers.get("Subject") == "lunch"
    assert "BYE" in invite.headers.values("Allow")
    bob.answer(bob.only(IncomingInvite).invite, 486)


def test_a_request_without_rport_support_over_tcp(net: Net, alice: Phone, bob: Phone) -> None:
    alice.call(bob, "tcp")
    net.run(0.1)
    invite = net.wire[0][1]
    assert not invite.via.wants_rport
    assert invite.via.transport == "TCP"
    bob.answer(bob.only(IncomingInvite).invite, 486)


def test_over_tcp_only_the_2xx_is_ever_repeated(net: Net, alice: Phone, bob: Phone) -> None:
    net.path.delay = (3.0, 3.0)
    alice.call(bob, "tcp")
    net.run(3.1)
    bob.answer(bob.only(IncomingInvite).invite)
    net.run(10)
    assert len(net.sent("INVITE")) == 1
    assert len(net.sent(200)) > 1  # 13.3.1.4: whatever the transport
    net.path.delay = (0.01, 0.01)
    alice.agent.bye(alice.only(Answered).dialog, now=net.now)
    net.run(10)
    assert len(net.sent("BYE")) == 1


def test_an_offer_in_the_2xx_is_answered_by_the_users_ack(
    net: Net, alice: Phone, bob: Phone
) -> None:
    alice.call(bob, body=b"")
    net.run(0.1)
    bob.answer(bob.only(IncomingInvite).invite, body=OFFER)
    net.run(0.7)  # the 2xx is repeated meanwhile, and there is nothing to acknowledge it with
    answered = alice.only(Answered)
    assert net.sent("ACK") == []
    alice.agent.ack(answered.dialog, body=ANSWER, content_type=SDP, now=net.now)
    net.run(1)
    acknowledged = bob.only(Acknowledged)
    assert acknowledged.request.body == ANSWER
    with pytest.raises(CallStateError, match="no ACK is owed"):
        alice.agent.ack(answered.dialog, body=ANSWER, now=net.now)
    bob.agent.bye(acknowledged.dialog, now=net.now)


def test_hanging_up_instead_of_answering_an_offer_completes_the_handshake(
    net: Net, alice: Phone, bob: Phone
) -> None:
    alice.call(bob, body=b"")
    net.run(0.1)
    bob.answer(bob.only(IncomingInvite).invite, body=OFFER)
    net.run(0.1)
    alice.agent.bye(alice.only(Answered).dialog, now=net.now)
    net.run(1)
    assert [m.method for _, m, _ in net.wire if isinstance(m, Request)] == ["INVITE", "ACK", "BYE"]
    assert bob.only(Acknowledged).request.body == b""
    assert bob.only(DialogEnded).by_remote


def test_an_agent_may_call_itself(net: Net, alice: Phone) -> None:
    alice.call(alice)
    net.run(0.1)
    alice.answer(alice.only(IncomingInvite).invite)
    net.run(0.1)
    ours, theirs = alice.only(Answered).dialog, alice.only(Acknowledged).dialog
    assert ours.id[1:] == tuple(reversed(theirs.id[1:]))
    alice.agent.bye(ours, now=net.now)
    net.run(0.1)
    assert {event.by_remote for event in alice.events(DialogEnded)} == {True, False}


def test_a_call_over_ipv6(net: Net) -> None:
    alice, bob = net.phone("2001:db8::1"), net.phone("2001:db8::2")
    alice.call(bob)
    net.run(0.1)
    assert (net.wire[0][1].headers.get("Via") or "").startswith("SIP/2.0/UDP [2001:db8::1]:5060;")
    bob.answer(bob.only(IncomingInvite).invite)
    net.run(0.1)
    bob.agent.bye(bob.only(Acknowledged).dialog, now=net.now)
    net.run(0.1)
    assert alice.only(DialogEnded).by_remote


# Refused, cancelled, unanswered.


@pytest.mark.parametrize("status", [302, 404, 486, 503, 603])
def test_a_refusal_reaches_the_caller_with_its_status(
    net: Net, alice: Phone, bob: Phone, status: int
) -> None:
    invite = alice.call(bob)
    net.run(0.1)
    bob.answer(bob.only(IncomingInvite).invite, status)
    net.run(1)
    failed = alice.only(InviteFailed)
    assert (failed.invite, failed.status, failed.cause) == (invite, status, Cause.RESPONSE)
    assert failed.response is not None
    assert len(net.sent("ACK")) == 1
    with pytest.raises(CallStateError):
        bob.answer(bob.only(IncomingInvite).invite)


def test_nobody_answering_ends_an_invite_by_timer_b(net: Net, alice: Phone, bob: Phone) -> None:
    net.lose(bob)
    alice.call(bob)
    net.run(40)
    failed = alice.only(InviteFailed)
    assert (failed.status, failed.cause, failed.response) == (408, Cause.TIMEOUT, None)
    assert net.sent("INVITE") == [0.0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5]


def test_a_closed_port_ends_an_invite_at_once(net: Net, alice: Phone, bob: Phone) -> None:
    net.lose(bob)
    alice.call(bob)
    net.run(0.1)
    alice.agent.flow_failed(alice.to(bob), "nobody listens at 192.0.2.2:5060", net.now)
    net.run(0.1)
    failed = alice.only(InviteFailed)
    assert (failed.status, failed.cause) == (503, Cause.TRANSPORT)
    assert failed.reason == "nobody listens at 192.0.2.2:5060"


def test_a_lost_connection_ends_a_ringing_call_of_ours(net: Net, alice: Phone, bob: Phone) -> None:
    alice.call(bob, "tcp")
    net.run(0.1)
    bob.answer(bob.only(IncomingInvite).invite, 180)
    net.run(1)
    alice.agent.flow_failed(alice.to(bob, "tcp"), "connection lost", net.now)
    net.run(1)
    assert alice.only(InviteFailed).cause is Cause.TRANSPORT
    bob.answer(bob.only(IncomingInvite).invite, 480)


def test_cancel_after_a_provisional_response(net: Net, alice: Phone, bob: Phone) -> None:
    invite = alice.call(bob)
    net.run(0.1)
    bob.answer(bob.only(IncomingInvite).invite, 180)
    net.run(1)
    alice.agent.cancel(invite, now=net.now)
    net.run(1)
    failed = alice.only(InviteFailed)
    assert (failed.status, failed.cause) == (487, Cause.CANCELLED)
    assert bob.only(InviteCancelled).invite is bob.only(IncomingInvite).invite
    cancel = next(m for _, m, _ in net.wire if isinstance(m, Request) and m.method == "CANCEL")
    first = net.wire[0][1]
    assert isinstance(first, Request)
    assert cancel.via == first.via  # section 9.1
    assert (cancel.uri, cancel.call_id) == (first.uri, first.call_id)
    assert str(cancel.cseq) == "1 CANCEL"
    with pytest.raises(CallStateError, match="already"):
        bob.answer(bob.only(IncomingInvite).invite)


def test_cancel_before_any_response_waits_for_a_provisional_one(
    net: Net, alice: Phone, bob: Phone
) -> None:
    invite = alice.call(bob)
    alice.agent.cancel(invite, now=net.now)
    net.run(0.15)
    assert net.sent("CANCEL") == []
    net.run(1)  # 100 after 200 ms
    assert len(net.sent("CANCEL")) == 1
    assert alice.only(InviteFailed).cause is Cause.CANCELLED
    assert alice.events(Provisional) == []
    bob.only(InviteCancelled)


def test_cancel_needs_no_cancel_when_the_callee_refuses_first(
    net: Net, alice: Phone, bob: Phone
) -> None:
    invite = alice.call(bob)
    bob.on(IncomingInvite, lambda event: bob.answer(event.invite, 486))
    alice.agent.cancel(invite, now=net.now)
    net.run(1)
    assert net.sent("CANCEL") == []
    assert alice.only(InviteFailed).cause is Cause.CANCELLED


def test_cancel_crossing_the_2xx_is_acknowledged_and_hung_up(
    net: Net, alice: Phone, bob: Phone
) -> None:
    invite = alice.call(bob)
    net.run(0.1)
    bob.answer(bob.only(IncomingInvite).invite, 180)
    net.run(1)
    bob.answer(bob.only(IncomingInvite).invite)
    alice.agent.cancel(invite, now=net.now)
    net.run(1)
    assert alice.only(InviteFailed).cause is Cause.CANCELLED
    assert alice.events(Answered) == []
    assert alice.events(DialogEnded) == []
    methods = [m.method for _, m, _ in net.wire if isinstance(m, Request)]
    assert methods == ["INVITE", "CANCEL", "ACK", "BYE"]
    assert net.sent(487) == []
    assert bob.only(DialogEnded).by_remote


def test_cancel_of_a_callee_that_died_ends_64_t1_later(net: Net, alice: Phone, bob: Phone) -> None:
    invite = alice.call(bob)
    net.run(0.1)
    bob.answer(bob.only(IncomingInvite).invite, 180)
    net.run(1)
    net.lose(bob)
    alice.agent.cancel(invite, now=net.now)
    net.run(31.9)
    assert alice.events(InviteFailed) == []
    net.run(0.2)
    assert alice.only(InviteFailed).cause is Cause.CANCELLED


def test_cancel_over_a_dead_network_ends_by_timer_b(net: Net, alice: Phone, bob: Phone) -> None:
    net.lose(bob)
    invite = alice.call(bob)
    net.run(1)
    alice.agent.cancel(invite, now=net.now)
    net.run(32)
    assert net.sent("CANCEL") == []
    assert alice.only(InviteFailed).cause is Cause.CANCELLED


def test_cancel_after_the_end_does_nothing(net: Net, alice: Phone, bob: Phone) -> None:
    invite = alice.call(bob)
    net.run(0.1)
    bob.answer(bob.only(IncomingInvite).invite, 486)
    net.run(1)
    alice.agent.cancel(invite, now=net.now)
    net.run(1)
    assert net.sent("CANCEL") == []
    alice.only(InviteFailed)


def test_a_callee_that_falls_silent_while_ringing_is_cancelled_by_timer_c(
    net: Net, alice: Phone, bob: Phone
) -> None:
    alice.call(bob)
    net.run(0.1)
    bob.answer(bob.only(IncomingInvite).invite, 180)
    net.run(1)
    net.lose(bob)
    net.run(300)
    failed = alice.only(InviteFailed)
    assert (failed.status, failed.cause) == (408, Cause.TIMEOUT)
    [first, *_] = net.sent("CANCEL")
    assert first == pytest.approx(0.11 + CONFIG.silence_limit, abs=0.1)


def test_a_phone_that_rings_long_says_so_every_minute(net: Net, alice: Phone, bob: Phone) -> None:
    alice.call(bob)
    net.run(0.1)
    bob.answer(bob.only(IncomingInvite).invite, 180)
    net.run(1000)
    assert len(net.sent(180)) == 17
    assert alice.events(InviteFailed) == []
    bob.answer(bob.only(IncomingInvite).invite)
    net.run(100)
    assert len(net.sent(180)) == 17
    alice.agent.bye(alice.only(Answered).dialog, now=net.now)


def test_an_invite_that_expires_is_refused_with_487(net: Net, alice: Phone, bob: Phone) -> None:
    alice.call(bob, headers=[("Expires", "20")])
    net.run(0.1)
    bob.answer(bob.only(IncomingInvite).invite, 180)
    net.run(30)
    assert bob.only(InviteCancelled).reason == "the INVITE has expired"
    assert alice.only(InviteFailed).status == 487


def test_an_answer_in_time_stops_the_expiry(net: Net, alice: Phone, bob: Phone) -> None:
    alice.call(bob, headers=[("Expires", "20")])
    net.run(0.1)
    bob.answer(bob.only(IncomingInvite).invite)
    net.run(60)
    assert bob.events(InviteCancelled) == []
    assert alice.events(DialogEnded) == []
    alice.agent.bye(alice.only(Answered).dialog, now=net.now)


# Losses.


def test_a_lost_ack_is_repeated_for_each_2xx(net: Net, alice: Phone, bob: Phone) -> None:
    lost = iter([True, True, False, False])
    net.path.drop = lambda m, _: isinstance(m, Request) and m.method == "ACK" and next(lost)
    alice.call(bob)
    net.run(0.1)
    bob.answer(bob.only(IncomingInvite).invite)
    net.run(5)
    acks = [m for _, m, _ in net.wire if isinstance(m, Request) and m.method == "ACK"]
    assert len(acks) == 3
    assert len({ack.to_bytes() for ack in acks}) == 1
    alice.only(Answered)
    bob.only(Acknowledged)
    alice.agent.bye(alice.only(Answered).dialog, now=net.now)


def test_a_2xx_is_repeated_at_t1_up_to_t2(net: Net, alice: Phone, bob: Phone) -> None:
    net.path.drop = lambda m, _: isinstance(m, Request) and m.method == "ACK"
    alice.call(bob)
    net.run(0.1)
    bob.answer(bob.only(IncomingInvite).invite)
    net.run(16)
    times = [round(now - 0.1, 2) for now in net.sent(200)]
    assert times == [0.0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5]
    net.path.drop = None
    net.run(10)
    alice.agent.bye(alice.only(Answered).dialog, now=net.now)


def test_an_ack_that_never_comes_ends_the_dialog_with_bye(
    net: Net, alice: Phone, bob: Phone
) -> None:
    net.path.drop = lambda m, _: isinstance(m, Request) and m.method == "ACK"
    alice.call(bob)
    net.run(0.1)
    bob.answer(bob.only(IncomingInvite).invite)
    net.run(40)
    ended = bob.only(DialogEnded)
    assert (ended.by_remote, ended.reason, ended.status) == (False, "the ACK never came", 408)
    assert alice.only(DialogEnded).by_remote
    assert bob.events(Acknowledged) == []


def test_a_bye_nobody_answers_ends_the_dialog_by_timer_f(
    net: Net, alice: Phone, bob: Phone
) -> None:
    ours, _ = established(net, alice, bob)
    net.lose(bob)
    alice.agent.bye(ours, now=net.now)
    assert ours.state is DialogState.TERMINATING
    net.run(33)
    ended = alice.only(DialogEnded)
    assert (ended.by_remote, ended.status) == (False, 408)


def test_a_bye_to_a_closed_port_ends_the_dialog_at_once(net: Net, alice: Phone, bob: Phone) -> None:
    ours, _ = established(net, alice, bob)
    net.lose(bob)
    alice.agent.bye(ours, now=net.now)
    alice.agent.flow_failed(alice.to(bob), "nobody listens", net.now)
    net.run(0.1)
    ended = alice.only(DialogEnded)
    assert (ended.status, ended.reason) == (503, "nobody listens")


def test_hanging_up_twice_sends_one_bye(net: Net, alice: Phone, bob: Phone) -> None:
    ours, _ = established(net, alice, bob)
    alice.agent.bye(ours, now=net.now)
    alice.agent.bye(ours, now=net.now)
    net.run(1)
    alice.agent.bye(ours, now=net.now)
    net.run(1)
    assert len(net.sent("BYE")) == 1
    alice.only(DialogEnded)


def test_after_the_end_a_dialog_refuses_everything_else(net: Net, alice: Phone, bob: Phone) -> None:
    ours, _ = established(net, alice, bob)
    alice.agent.bye(ours, now=net.now)
    with pytest.raises(CallStateError):
        alice.agent.reinvite(ours, body=OFFER, content_type=SDP, now=net.now)
    with pytest.raises(CallStateError):
        alice.agent.dialog_request(ours, "INFO", now=net.now)
    net.run(1)
    with pytest.raises(CallStateError, match="the call is over"):
        alice.agent.dialog_request(ours, "INFO", now=net.now)


# Outside of dialogs.


def test_a_request_outside_of_a_dialog_is_done_or_fails(net: Net) -> None:
    registrar = net.phone("192.0.2.5", replace(CONFIG, allow=(*CONFIG.allow, "REGISTER")))
    alice = net.phone("192.0.2.1")
    handle = alice.agent.request(
        "REGISTER",
        "sip:192.0.2.5",
        flow=alice.to(registrar),
        from_="<sip:alice@192.0.2.5>",
        to="<sip:alice@192.0.2.5>",
        call_id="always-the-same",
        cseq=7,
        headers=[("Contact", alice.contact), ("Expires", "60")],
        now=net.now,
    )
    net.run(0.1)
    received = registrar.only(RequestReceived).request
    assert received.dialog is None
    assert (received.request.call_id, received.request.cseq.number) == ("always-the-same", 7)
    registrar.agent.reply(
        received, 200, headers=[("Contact", f"{alice.contact};expires=60")], now=net.now
    )
    net.run(0.1)
    done = alice.only(RequestDone)
    assert done.handle is handle
    assert done.response.contacts[0].param("expires") == "60"
    assert done.response.to.tag


def test_a_reply_that_comes_too_late_is_counted(net: Net) -> None:
    registrar = net.phone("192.0.2.5", replace(CONFIG, allow=(*CONFIG.allow, "MESSAGE")))
    alice = net.phone("192.0.2.1")
    alice.agent.request(
        "MESSAGE", "sip:192.0.2.5", flow=alice.to(registrar),
        from_="<sip:a@192.0.2.1>", to="<sip:b@192.0.2.5>", now=net.now,
    )  # fmt: skip
    net.run(33)
    assert alice.only(RequestFailed).status == 408
    registrar.agent.reply(registrar.only(RequestReceived).request, 200, now=net.now)
    net.run(1)
    assert net.sent(200) == []
    assert registrar.agent.counters.late_replies == 1


def test_what_makes_no_message_is_refused_at_the_call(net: Net, alice: Phone, bob: Phone) -> None:
    with pytest.raises(SipError, match="SIP URI"):
        alice.agent.request(
            "OPTIONS", "tel:+1555", flow=alice.to(bob), from_=alice.uri, to=bob.uri, now=0.0
        )
    with pytest.raises(SipError, match="line break"):
        alice.call(bob, headers=[("X", "a\r\nInjected: b")])
    alice.call(bob)
    net.run(0.1)
    incoming = bob.only(IncomingInvite).invite
    with pytest.raises(SipError, match="needs a Contact"):
        bob.agent.respond(incoming, 200, body=ANSWER, content_type=SDP, now=net.now)
    with pytest.raises(SipError, match="line break"):
        bob.answer(incoming, 180, headers=[("X", "a\r\nInjected: b")])
    bob.answer(incoming)
    net.run(0.1)
    dialog = alice.only(Answered).dialog
    with pytest.raises(SipError, match="line break"):
        alice.agent.bye(dialog, headers=[("Reason", "x\r\ny")], now=net.now)
    with pytest.raises(SipError, match="line break"):
        alice.agent.reinvite(dialog, headers=[("X", "x\r\ny")], now=net.now)
    alice.agent.bye(dialog, headers=[("Reason", "Q.850;cause=16")], now=net.now)
    net.run(0.1)
    alice.only(DialogEnded)


def test_limits_on_our_own_requests_and_dialogs(net: Net, bob: Phone) -> None:
    small = net.phone("192.0.2.8", replace(CONFIG, max_client_transactions=2, max_dialogs=1))
    small.call(bob)
    with pytest.raises(SipError, match="1 calls are up or begun"):
        small.call(bob)  # nobody has answered the first yet
    net.run(0.1)
    bob.answer(bob.only(IncomingInvite).invite, 180)
    net.run(0.1)
    with pytest.raises(SipError, match="1 calls are up or begun"):
        small.call(bob)

    def options() -> None:
        small.agent.request(
            "OPTIONS", bob.uri, flow=small.to(bob), from_=small.uri, to=bob.uri, now=net.now
        )

    options()
    with pytest.raises(SipError, match="2 requests are waiting"):
        options()
    bob.answer(bob.only(IncomingInvite).invite, 486)
