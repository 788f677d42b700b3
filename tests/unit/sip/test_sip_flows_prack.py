"""Reliable provisional responses: who numbers, repeats and acknowledges what (RFC 3262)."""

from __future__ import annotations

from typing import Any

import pytest
from flow_stage import Stage, stage
from virtual_sip import ANSWER, CONFIG, OFFER, SDP, Stranger, replace, request_text, response_text

from voip.errors import CallStateError, SipError
from voip.sip.dialog import Dialog
from voip.sip.digest import Credentials
from voip.sip.events import (
    Acknowledged,
    Answered,
    Cause,
    IncomingInvite,
    InviteCancelled,
    InviteFailed,
    PrackReceived,
    Provisional,
    ReinviteDone,
    ReinviteProgress,
    ReinviteReceived,
    RequestDone,
    RequestFailed,
)
from voip.sip.message import Request, Response
from voip.sip.reliable import RAck
from voip.sip.server_invite import ServerInvite

pytestmark = pytest.mark.rfc("3262", "3-5")

__all__ = ["stage"]

OTHER = b"v=0\r\no=- 3 1 IN IP4 192.0.2.1\r\n"


def incoming(stage: Stage) -> Any:
    return stage.bob.only(IncomingInvite).invite


def call(stage: Stage, **more: Any) -> Any:
    invite = stage.alice.call(stage.bob, **more)
    stage.step()
    return invite


def progress(stage: Stage) -> Provisional:
    """What Alice was told of, but for a 100."""
    [event] = [e for e in stage.alice.events(Provisional) if e.dialog is not None]
    return event


def describe(stage: Stage, status: int = 183, body: bytes = ANSWER, **more: Any) -> None:
    stage.bob.answer(incoming(stage), status, body=body, content_type=SDP, **more)
    stage.step()


# F085: the mechanism.


def test_F085_a_reliable_183_is_acknowledged_before_the_answer(stage: Stage) -> None:
    call(stage)
    describe(stage)
    stage.bob.answer(incoming(stage), body=b"", content_type=None)
    stage.step()
    early = progress(stage)
    assert early.reliable
    assert not early.prack_owed
    stage.alice.only(Answered)
    stage.bob.only(Acknowledged)
    assert stage.sent() == [
        "INVITE", "183 INVITE", "PRACK", "200 PRACK", "200 INVITE", "ACK",
    ]  # fmt: skip
    session_progress, prack = stage.only("183 INVITE"), stage.only("PRACK")
    assert session_progress.headers.values("Require") == ["100rel"]
    number = int(session_progress.headers.get("RSeq"))
    assert 1 <= number <= 2**31 - 1
    assert prack.headers.get("RAck") == f"{number} 1 INVITE"
    assert prack.to.tag == session_progress.to.tag
    assert not prack.body


def test_F085_nothing_is_kept_of_reliable_responses_when_the_transaction_is_over(
    stage: Stage,
) -> None:
    call(stage)
    describe(stage)
    stage.bob.answer(incoming(stage), body=b"", content_type=None)
    stage.step()
    stage.bob.only(Acknowledged)
    stage.net.run(40)
    assert stage.bob.agent._core.reliable == {}


def test_F085_without_a_word_from_the_caller_nothing_is_reliable(stage: Stage) -> None:
    net = stage.net
    plain = net.phone("192.0.2.3", replace(CONFIG, supported=()))
    plain.call(stage.bob)
    stage.step()
    with pytest.raises(CallStateError, match="does not know"):
        stage.bob.answer(incoming(stage), 183, reliable=True)
    describe(stage)
    stage.bob.answer(incoming(stage))
    stage.step()
    assert not any(event.reliable for event in plain.events(Provisional))
    assert "RSeq" not in stage.only("183 INVITE").headers
    assert "PRACK" not in stage.sent()
    plain.only(Answered)


def test_F085_a_caller_may_demand_that_ringing_is_reliable(stage: Stage) -> None:
    demanding = stage.net.phone("192.0.2.3", replace(CONFIG, required=("100rel",)))
    demanding.call(stage.bob)
    stage.step()
    stage.bob.answer(incoming(stage), 180)
    stage.step()
    stage.bob.answer(incoming(stage), 182)
    stage.step()
    numbers = [int(m.headers.get("RSeq") or 0) for m in stage.messages("180 INVITE")]
    numbers += [int(m.headers.get("RSeq") or 0) for m in stage.messages("182 INVITE")]
    assert [number - numbers[0] for number in numbers] == [0, 1]
    assert [e.reliable for e in demanding.events(Provisional) if e.dialog] == [True, True]
    assert len(stage.messages("PRACK")) == 2
    stage.bob.answer(incoming(stage))
    stage.step()
    demanding.only(Answered)


def test_F085_a_phone_that_demands_it_refuses_who_does_not_know_it_with_421() -> None:
    stranger = Stranger(replace(CONFIG, required=("100rel",)))
    [refusal] = stranger.tell(request_text("INVITE", body="x"))
    assert isinstance(refusal, Response)
    assert (refusal.status, refusal.headers.get("Require")) == (421, "100rel")
    assert stranger.empty()


def test_F085_a_phone_that_does_not_know_it_refuses_who_demands_it_with_420() -> None:
    stranger = Stranger(replace(CONFIG, supported=()))
    [refusal] = stranger.tell(request_text("INVITE", body="x", more="Require: 100rel\r\n"))
    assert isinstance(refusal, Response)
    assert (refusal.status, refusal.headers.get("Unsupported")) == (420, "100rel")
    assert stranger.empty()


def test_F085_a_response_is_repeated_at_t1_doubled_and_the_call_refused_after_64_t1(
    stage: Stage,
) -> None:
    call(stage)
    stage.net.path.loss = 0
    stage.net.path.drop = lambda message, _: (
        isinstance(message, Request) and message.method == "PRACK"
    )
    start = stage.net.now
    describe(stage)
    stage.net.run(40)
    times = [round(at - start, 3) for at in stage.net.sent(183)]
    assert times == [0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5]
    assert stage.bob.only(InviteCancelled).status == 504
    failed = stage.alice.only(InviteFailed)
    assert (failed.status, failed.cause) == (504, Cause.RESPONSE)


def test_F085_a_200_waits_for_the_prack_of_a_response_with_a_description(stage: Stage) -> None:
    call(stage)
    stage.bob.answer(incoming(stage), 183, body=ANSWER, content_type=SDP)
    stage.bob.answer(incoming(stage), body=b"", content_type=None)
    assert incoming(stage).accepting
    with pytest.raises(CallStateError):
        stage.bob.answer(incoming(stage))
    stage.step()
    stage.step()
    sent = stage.sent()
    assert sent.index("PRACK") < sent.index("200 INVITE")
    assert not incoming(stage).accepting
    stage.alice.only(Answered)


def test_F085_a_200_does_not_wait_for_a_response_without_a_description(stage: Stage) -> None:
    call(stage)
    stage.bob.answer(incoming(stage), 180, reliable=True)
    stage.bob.answer(incoming(stage))
    assert not incoming(stage).accepting
    stage.step()
    stage.alice.only(Answered)
    stage.bob.only(Acknowledged)


def test_F085_a_call_that_waits_for_a_prack_can_still_be_refused_or_cancelled(
    stage: Stage,
) -> None:
    invite = call(stage)
    stage.bob.answer(incoming(stage), 183, body=ANSWER, content_type=SDP)
    stage.bob.answer(incoming(stage), body=b"", content_type=None)
    stage.bob.answer(incoming(stage), 486)
    stage.step()
    assert stage.alice.only(InviteFailed).status == 486
    assert "200 INVITE" not in stage.sent()
    again = stage.alice.call(stage.bob)
    stage.step()
    second = stage.bob.events(IncomingInvite)[-1].invite
    assert again is not invite
    stage.bob.answer(second, 180, reliable=True)
    stage.step()
    stage.alice.agent.cancel(again, now=stage.net.now)
    stage.step()
    assert stage.bob.only(InviteCancelled).status == 487


def test_F085_a_prack_that_comes_after_the_refusal_has_its_200() -> None:
    stranger = Stranger()
    stranger.tell(request_text("INVITE", body="x", more="Supported: 100rel\r\n"))
    [event] = [e for e in stranger.agent.events() if isinstance(e, IncomingInvite)]
    stranger.agent.respond(
        event.invite, 183, contact="<sip:p@192.0.2.1>", body=ANSWER, content_type=SDP, now=0
    )
    [early] = stranger.heard()
    stranger.agent.respond(event.invite, 486, now=0)
    stranger.heard()
    ack = f"RAck: {early.headers.get('RSeq')} 1 INVITE\r\n"
    prack = request_text(
        "PRACK", branch="z9hG4bKp", to_tag=early.to.tag or "", cseq="2 PRACK", more=ack
    )
    assert [m.status for m in stranger.tell(prack) if isinstance(m, Response)] == [200]
    other = prack.replace("z9hG4bKp", "z9hG4bKq").replace("2 PRACK", "3 PRACK")
    assert [m.status for m in stranger.tell(other) if isinstance(m, Response)] == [481]
    stranger.wait(70)
    assert stranger.empty()


@pytest.mark.parametrize(
    ("rack", "status"),
    [
        ("{rseq} 1 INVITE", 200),
        ("{more} 1 INVITE", 481),
        ("{rseq} 2 INVITE", 481),
        ("{rseq} 1 UPDATE", 481),
        ("1", 400),
        ("x y z", 400),
        ("99999999999 1 INVITE", 400),
        ("", 400),
    ],
)
def test_F085_only_the_prack_that_matches_is_accepted(rack: str, status: int) -> None:
    stranger = Stranger()
    stranger.tell(request_text("INVITE", body="x", more="Require: 100rel\r\n"))
    [event] = [e for e in stranger.agent.events() if isinstance(e, IncomingInvite)]
    stranger.agent.ring(event.invite, contact="<sip:p@192.0.2.1>", now=0)
    [early] = stranger.heard()
    number = int(early.headers.get("RSeq") or 0)
    ack = f"RAck: {rack.format(rseq=number, more=number + 1)}\r\n"
    prack = request_text(
        "PRACK", branch="z9hG4bKp", to_tag=early.to.tag or "", cseq="2 PRACK", more=ack
    )
    assert [m.status for m in stranger.tell(prack) if isinstance(m, Response)] == [status]
    repeated = any(isinstance(m, Response) and m.status == 180 for m in stranger.wait(2))
    assert repeated == (status != 200)
    stranger.agent.respond(event.invite, 486, now=stranger.now)
    stranger.wait(80)
    assert stranger.empty()


def test_F085_responses_out_of_order_are_not_acknowledged() -> None:
    stranger = Stranger()
    invite = stranger.called()

    def ring(number: str, tag: str = "a") -> list[str]:
        text = response_text(invite, 180, f"Require: 100rel\r\n{number}", tag=tag)
        return [m.headers.get("RAck") or "" for m in stranger.tell(text)]

    assert ring("RSeq: 10\r\n") == ["10 1 INVITE"]
    assert ring("RSeq: 10\r\n") == []  # a repetition
    assert ring("RSeq: 12\r\n") == []  # one is missing
    assert ring("RSeq: 9\r\n") == []
    assert ring("RSeq: 11\r\n") == ["11 1 INVITE"]
    assert ring("RSeq: 7\r\n", tag="b") == ["7 1 INVITE"]  # each fork counts for itself
    assert ring("RSeq: 12\r\n") == ["12 1 INVITE"]
    told = [e for e in stranger.agent.events() if isinstance(e, Provisional)]
    assert [e.reliable for e in told] == [True] * 4
    # What has no number that can be read is taken for an ordinary one.
    assert ring("RSeq: x\r\n", tag="c") == []
    assert [e.reliable for e in stranger.agent.events() if isinstance(e, Provisional)] == [False]


def test_F085_a_prack_answers_a_challenge_with_our_credentials() -> None:
    stranger = Stranger()
    invite = stranger.called(credentials=Credentials("alice", "secret"))
    [prack] = stranger.tell(response_text(invite, 180, "Require: 100rel\r\nRSeq: 1\r\n"))
    assert isinstance(prack, Request)
    challenge = 'Proxy-Authenticate: Digest realm="r", nonce="n", qop="auth"\r\n'
    [again] = stranger.tell(response_text(prack, 407, challenge))
    assert isinstance(again, Request)
    assert (again.method, again.cseq.number) == ("PRACK", prack.cseq.number + 1)
    assert again.headers.get("RAck") == prack.headers.get("RAck") == "1 1 INVITE"
    assert 'username="alice"' in (again.headers.get("Proxy-Authorization") or "")


def test_F085_a_prack_that_was_refused_is_sent_anew_when_the_response_is_repeated() -> None:
    stranger = Stranger()
    invite = stranger.called()
    ringing = response_text(invite, 180, "Require: 100rel\r\nRSeq: 1\r\n")
    [first] = stranger.tell(ringing)
    assert isinstance(first, Request)
    assert stranger.tell(ringing) == []
    stranger.tell(response_text(first, 500))  # it came out of order
    [second] = stranger.tell(ringing)
    assert isinstance(second, Request)
    assert second.cseq.number > first.cseq.number
    stranger.tell(response_text(second, 200))
    assert stranger.tell(ringing) == []


def test_F085_a_call_that_rings_long_says_so_by_numbered_responses(stage: Stage) -> None:
    call(stage)
    stage.bob.answer(incoming(stage), 180, reliable=True)
    stage.net.run(400)
    numbers = sorted({int(m.headers.get("RSeq") or 0) for m in stage.messages("180 INVITE")})
    assert [number - numbers[0] for number in numbers] == [0, 1, 2]
    stage.bob.answer(incoming(stage))
    stage.step()
    stage.alice.only(Answered)


def test_F085_responses_wait_for_the_prack_of_the_one_before(stage: Stage) -> None:
    call(stage)
    for status in (180, 182, 183):
        stage.bob.answer(incoming(stage), status, reliable=True)
    stage.step()
    stage.step()
    told = [e.response.status for e in stage.alice.events(Provisional) if e.dialog]
    assert told == [180, 182, 183]
    with pytest.raises(CallStateError, match="wait for a PRACK"):
        for _ in range(20):
            stage.bob.answer(incoming(stage), 182, reliable=True)
    stage.bob.answer(incoming(stage), 486)
    stage.step()


# F089-F091: where offers and answers may stand (RFC 6337 table 1).


def test_F089_offer_in_the_invite_answer_in_a_reliable_183(stage: Stage) -> None:
    call(stage)
    describe(stage)
    assert progress(stage).response.body == ANSWER
    assert incoming(stage).described
    stage.bob.answer(incoming(stage), body=b"", content_type=None)
    stage.step()
    assert stage.alice.only(Answered).response.body == b""
    assert not stage.bob.only(Acknowledged).request.body
    assert not stage.only("ACK").body


def test_F090_offer_in_a_reliable_183_answer_in_the_prack(stage: Stage) -> None:
    call(stage, body=b"")
    with pytest.raises(SipError, match="has to bring one"):
        stage.bob.answer(incoming(stage), 180, reliable=True)
    describe(stage, body=OFFER)
    early = progress(stage)
    assert early.prack_owed
    assert early.response.body == OFFER
    stage.alice.agent.prack(early.dialog, body=ANSWER, content_type=SDP, now=stage.net.now)
    stage.step()
    received = stage.bob.only(PrackReceived)
    assert (received.request.body, received.reply) == (ANSWER, None)
    stage.bob.answer(incoming(stage), body=b"", content_type=None)
    stage.step()
    stage.alice.only(Answered)  # there is nothing left to be answered: the ACK goes by itself
    assert not stage.bob.only(Acknowledged).request.body
    with pytest.raises(CallStateError, match="no PRACK is owed"):
        stage.alice.agent.prack(early.dialog, now=stage.net.now)


def test_F091_offer_in_a_prack_answer_in_its_200(stage: Stage) -> None:
    call(stage, prack_by_hand=True)
    describe(stage)
    early = progress(stage)
    assert early.prack_owed
    stage.alice.agent.prack(early.dialog, body=OTHER, content_type=SDP, now=stage.net.now)
    stage.step()
    offered = stage.bob.only(PrackReceived)
    assert offered.request.body == OTHER
    stage.bob.answer(incoming(stage), body=b"", content_type=None)
    assert incoming(stage).accepting  # the offer of the PRACK comes first
    assert offered.reply is not None
    stage.bob.agent.reply(offered.reply, 200, body=ANSWER, content_type=SDP, now=stage.net.now)
    stage.step()
    stage.step()
    assert stage.alice.only(RequestDone).response.body == ANSWER
    stage.alice.only(Answered)
    assert stage.sent() == [
        "INVITE", "183 INVITE", "PRACK", "200 PRACK", "200 INVITE", "ACK",
    ]  # fmt: skip


def test_F091_an_offer_in_a_prack_that_is_refused_is_acknowledged_without(stage: Stage) -> None:
    call(stage, prack_by_hand=True)
    describe(stage)
    early = progress(stage)
    stage.alice.agent.prack(early.dialog, body=OTHER, content_type=SDP, now=stage.net.now)
    stage.step()
    offered = stage.bob.only(PrackReceived)
    assert offered.reply is not None
    stage.bob.agent.reply(offered.reply, 488, now=stage.net.now)
    stage.step()
    refused = stage.alice.events(RequestDone)
    assert [e.response.status for e in refused] == [488]
    assert stage.alice.events(RequestFailed) == []
    stage.alice.agent.prack(early.dialog, now=stage.net.now)
    stage.step()
    stage.bob.answer(incoming(stage), body=b"", content_type=None)
    stage.step()
    stage.alice.only(Answered)


def reinvited(stage: Stage, body: bytes = b"") -> tuple[Dialog, ServerInvite]:
    """Bring a call up and let Alice change it; return her dialog and what Bob has to answer."""
    call(stage)
    stage.bob.answer(incoming(stage))
    stage.step()
    dialog = stage.alice.only(Answered).dialog
    stage.alice.agent.reinvite(
        dialog, body=body, content_type=SDP if body else None, now=stage.net.now
    )
    stage.step()
    return dialog, stage.bob.only(ReinviteReceived).invite


def test_F089_a_reinvite_may_be_answered_by_a_reliable_183(stage: Stage) -> None:
    _, change = reinvited(stage, OTHER)
    stage.bob.answer(change, 183, body=ANSWER, content_type=SDP)
    stage.step()
    assert not stage.alice.only(ReinviteProgress).prack_owed
    stage.bob.answer(change, body=b"", content_type=None)
    stage.step()
    done = stage.alice.only(ReinviteDone)
    assert (done.status, done.body) == (200, ANSWER)


def test_F095_a_reinvite_that_fails_after_a_reliable_answer_has_no_effect(stage: Stage) -> None:
    dialog, change = reinvited(stage, OTHER)
    stage.bob.answer(change, 183, body=ANSWER, content_type=SDP)
    stage.step()
    stage.bob.answer(change, 488)
    stage.step()
    done = stage.alice.only(ReinviteDone)
    assert (done.status, done.body) == (488, b"")
    assert dialog in stage.alice.agent.dialogs


def test_F090_a_reinvite_without_offer_may_be_answered_by_a_reliable_offer(stage: Stage) -> None:
    dialog, change = reinvited(stage)
    stage.bob.answer(change, 183, body=OFFER, content_type=SDP)
    stage.step()
    assert stage.alice.only(ReinviteProgress).prack_owed
    stage.alice.agent.prack(dialog, body=ANSWER, content_type=SDP, now=stage.net.now)
    stage.step()
    assert stage.bob.only(PrackReceived).request.body == ANSWER
    stage.bob.answer(change, body=b"", content_type=None)
    stage.step()
    assert stage.alice.only(ReinviteDone).body == OFFER


def test_a_rack_reads_and_writes_itself() -> None:
    assert str(RAck.parse("007 01\tINVITE ")) == "7 1 INVITE"
