"""UPDATE, before and after the answer, and what happens when changes cross (RFC 3311)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flow_stage import Stage, both_ways, stage
from virtual_sip import ANSWER, OFFER, SDP, Phone, Stranger, drop_first, request_text

from voip.errors import CallStateError
from voip.sip.dialog import Dialog
from voip.sip.events import (
    Acknowledged,
    Answered,
    DialogEnded,
    IncomingInvite,
    Provisional,
    ReinviteDone,
    ReinviteReceived,
    UpdateDone,
    UpdateReceived,
)
from voip.sip.message import Request, Response
from voip.sip.update import UpdateState

pytestmark = pytest.mark.rfc("3311", "5")

__all__ = ["stage"]

NEW = b"v=0\r\no=- 3 2 IN IP4 192.0.2.1\r\n"


def incoming(stage: Stage) -> Any:
    return stage.bob.only(IncomingInvite).invite


def early(stage: Stage) -> tuple[Dialog, Dialog]:
    """Bring a call to where offer and answer have met, before the answer."""
    stage.alice.call(stage.bob)
    stage.step()
    stage.bob.answer(incoming(stage), 183, body=ANSWER, content_type=SDP)
    stage.step()
    [event] = [e for e in stage.alice.events(Provisional) if e.dialog is not None]
    assert event.dialog is not None
    return event.dialog, incoming(stage).dialog


def confirmed(stage: Stage) -> tuple[Dialog, Dialog]:
    stage.alice.call(stage.bob)
    stage.step()
    stage.bob.answer(incoming(stage))
    stage.step()
    return stage.alice.only(Answered).dialog, stage.bob.only(Acknowledged).dialog


def update(stage: Stage, phone: Phone, dialog: Dialog, body: bytes = NEW) -> Any:
    kind = SDP if body else None
    return phone.agent.update(dialog, body=body, content_type=kind, now=stage.net.now)


def reply(stage: Stage, phone: Phone, status: int = 200, **more: Any) -> None:
    request = phone.events(UpdateReceived)[-1].request
    if status == 200:
        more = {"body": ANSWER, "content_type": SDP, **more}
    phone.agent.reply(request, status, now=stage.net.now, **more)
    stage.step()


@both_ways
def test_F086_an_update_before_the_answer(stage: Stage, by_caller: bool) -> None:
    ours, theirs = early(stage)
    asking, asked = (stage.alice, stage.bob) if by_caller else (stage.bob, stage.alice)
    handle = update(stage, asking, ours if by_caller else theirs)
    assert handle.state is UpdateState.SENT
    stage.step()
    assert asked.only(UpdateReceived).request.request.body == NEW
    reply(stage, asked)
    done = asking.only(UpdateDone)
    assert (done.status, done.response and done.response.body) == (200, ANSWER)
    stage.bob.answer(incoming(stage), body=b"", content_type=None)
    stage.step()
    stage.alice.only(Answered)
    assert stage.sent()[:5] == ["INVITE", "183 INVITE", "PRACK", "200 PRACK", "UPDATE"]
    assert stage.only("UPDATE").headers.get("Contact") == asking.contact
    assert stage.only("200 UPDATE").headers.get("Contact") == asked.contact


@both_ways
def test_F086_an_update_after_the_answer(stage: Stage, by_caller: bool) -> None:
    ours, theirs = confirmed(stage)
    asking, asked = (stage.alice, stage.bob) if by_caller else (stage.bob, stage.alice)
    update(stage, asking, ours if by_caller else theirs)
    stage.step()
    reply(stage, asked)
    assert asking.only(UpdateDone).status == 200


@both_ways
def test_F086_an_update_without_offer_refreshes_target_and_session(
    stage: Stage, by_caller: bool
) -> None:
    ours, theirs = confirmed(stage)
    asking, asked = (stage.alice, stage.bob) if by_caller else (stage.bob, stage.alice)
    mine, other = (ours, theirs) if by_caller else (theirs, ours)
    mine.contact = f"<sip:moved@{asking.address}>"
    update(stage, asking, mine, b"")
    stage.step()
    assert asking.only(UpdateDone).status == 200
    assert asked.events(UpdateReceived) == []
    assert other.remote_target == f"sip:moved@{asking.address}"
    assert not stage.only("UPDATE").headers.get("Content-Type")


def test_F086_an_offer_before_the_first_one_is_answered_for_sure_is_refused(stage: Stage) -> None:
    stage.alice.call(stage.bob)
    stage.step()
    stage.net.path.loss = 0
    stage.bob.answer(incoming(stage), 183, body=ANSWER, content_type=SDP, reliable=False)
    stage.net.run(0.1)
    [event] = [e for e in stage.alice.events(Provisional) if e.dialog is not None]
    assert event.dialog is not None
    with pytest.raises(CallStateError, match="reliable provisional"):
        update(stage, stage.alice, event.dialog)
    with pytest.raises(CallStateError, match="reliable provisional"):
        update(stage, stage.bob, incoming(stage).dialog)
    update(stage, stage.bob, incoming(stage).dialog, b"")  # no offer, no harm
    stage.net.run(0.1)
    assert stage.bob.only(UpdateDone).status == 200
    stage.bob.answer(incoming(stage))
    stage.step()


def test_F086_a_refused_update_leaves_the_call_as_it_was(stage: Stage) -> None:
    ours, _ = confirmed(stage)
    update(stage, stage.alice, ours)
    stage.step()
    reply(stage, stage.bob, 488)
    assert stage.alice.only(UpdateDone).status == 488
    assert ours in stage.alice.agent.dialogs
    assert stage.alice.events(DialogEnded) == []


def test_F086_an_update_to_a_peer_that_has_forgotten_the_call_ends_it(stage: Stage) -> None:
    ours, _ = confirmed(stage)
    stage.net.path.loss = 0
    update(stage, stage.alice, ours)
    stage.net.run(0.1)
    reply(stage, stage.bob, 481)
    assert stage.alice.only(UpdateDone).status == 481
    assert stage.alice.only(DialogEnded).status == 481


def test_F086_an_update_nobody_answers_ends_the_call(stage: Stage) -> None:
    ours, _ = confirmed(stage)
    stage.net.path.drop = lambda message, _: (
        isinstance(message, Request) and message.method == "UPDATE"
    )
    update(stage, stage.alice, ours)
    stage.net.run(60)
    assert stage.alice.only(UpdateDone).status == 408
    assert stage.alice.only(DialogEnded).status == 408


def test_F086_one_update_at_a_time(stage: Stage) -> None:
    ours, _ = confirmed(stage)
    stage.net.path.loss = 0
    update(stage, stage.alice, ours)
    with pytest.raises(CallStateError, match="under way"):
        update(stage, stage.alice, ours)
    stage.net.run(0.1)
    reply(stage, stage.bob)


def test_F086_hanging_up_ends_an_update(stage: Stage) -> None:
    ours, _ = confirmed(stage)
    stage.net.path.loss = 0
    update(stage, stage.alice, ours)
    stage.alice.agent.bye(ours, now=stage.net.now)
    stage.net.run(1)
    assert stage.alice.only(UpdateDone).status == 487


def test_F092_offer_in_an_update_answer_in_its_200(stage: Stage) -> None:
    ours, _ = confirmed(stage)
    stage.alice.agent.update(ours, body=lambda: NEW, content_type=SDP, now=stage.net.now)
    stage.step()
    reply(stage, stage.bob)
    assert (stage.only("UPDATE").body, stage.only("200 UPDATE").body) == (NEW, ANSWER)


# Glare.


def test_F093_two_updates_that_cross_are_both_refused_and_tried_again(stage: Stage) -> None:
    ours, theirs = confirmed(stage)
    stage.net.path.loss = 0
    for phone in (stage.alice, stage.bob):
        phone.on(UpdateReceived, lambda event, phone=phone: phone.agent.reply(
            event.request, 200, body=ANSWER, content_type=SDP, now=stage.net.now
        ))  # fmt: skip
    update(stage, stage.alice, ours)
    update(stage, stage.bob, theirs)
    stage.net.run(0.1)
    assert stage.sent().count("491 UPDATE") == 2
    stage.net.run(10)
    assert stage.alice.only(UpdateDone).status == 200
    assert stage.bob.only(UpdateDone).status == 200
    first, again = (m for m in stage.messages("UPDATE") if m.from_.tag == ours.local.tag)
    assert again.cseq.number == first.cseq.number + 1
    [waited] = [
        at for at, m, flow in stage.net.wire
        if flow.local == stage.alice.address and isinstance(m, Request) and m is not first
        and m.method == "UPDATE" and m.cseq == again.cseq
    ]  # fmt: skip
    crossed = stage.net.sent("UPDATE", stage.alice)[0]
    assert 2.1 <= waited - crossed - 0.02 <= 4.01  # who owns the Call-ID waits longer


def test_F060_an_update_and_a_reinvite_that_cross(stage: Stage) -> None:
    ours, theirs = confirmed(stage)
    stage.net.path.loss = 0
    stage.bob.on(ReinviteReceived, lambda event: stage.bob.answer(event.invite))
    stage.alice.on(UpdateReceived, lambda event: stage.alice.agent.reply(
        event.request, 200, body=ANSWER, content_type=SDP, now=stage.net.now
    ))  # fmt: skip
    stage.alice.agent.reinvite(ours, body=OFFER, content_type=SDP, now=stage.net.now)
    update(stage, stage.bob, theirs)
    stage.net.run(0.1)
    assert "491 UPDATE" in stage.sent()
    assert "491 INVITE" in stage.sent()
    stage.net.run(12)
    assert stage.alice.only(ReinviteDone).status == 200
    assert stage.bob.only(UpdateDone).status == 200


def test_F093_an_update_waits_for_an_offer_that_is_open(stage: Stage) -> None:
    ours, theirs = confirmed(stage)
    stage.net.path.loss = 0
    stage.bob.agent.reinvite(theirs, body=OFFER, content_type=SDP, now=stage.net.now)
    stage.net.run(0.1)
    handle = update(stage, stage.alice, ours)
    assert handle.state is UpdateState.WAITING
    stage.alice.answer(stage.alice.only(ReinviteReceived).invite)
    stage.net.run(0.1)
    assert handle.state is UpdateState.SENT
    reply(stage, stage.bob)
    assert stage.alice.only(UpdateDone).status == 200


def test_F093_a_second_update_before_the_first_is_answered_gets_500() -> None:
    change = in_a_call()
    assert change("UPDATE", 3, body="x") == []
    [refusal] = change("UPDATE", 4, body="x")
    assert isinstance(refusal, Response)
    assert refusal.status == 500
    assert 0 <= int(refusal.headers.get("Retry-After") or -1) <= 10
    # A re-INVITE does not get in between either.
    [refusal] = change("INVITE", 5, body="x")
    assert isinstance(refusal, Response)
    assert (refusal.status, "Retry-After" in refusal.headers) == (500, True)


def test_F093_an_update_with_an_offer_during_their_own_reinvite_gets_500() -> None:
    change = in_a_call()
    assert change("INVITE", 3, body="x") == []
    [refusal] = change("UPDATE", 4, body="x")
    assert isinstance(refusal, Response)
    assert (refusal.status, "Retry-After" in refusal.headers) == (500, True)
    [fine] = change("UPDATE", 5)
    assert isinstance(fine, Response)
    assert fine.status == 200


def in_a_call() -> Callable[..., list[Request | Response]]:
    """Return how a stranger asks for changes of a call with us."""
    stranger = Stranger()
    stranger.tell(request_text("INVITE", body="x"))
    [event] = stranger.agent.events()
    assert isinstance(event, IncomingInvite)
    stranger.agent.respond(
        event.invite, 200, contact="<sip:p@192.0.2.1>", body=OFFER, content_type=SDP, now=0.0
    )
    stranger.heard()
    tag = event.invite.tag
    stranger.tell(request_text("ACK", to_tag=tag, branch="z9hG4bKack", cseq="1 ACK"))

    def change(method: str, number: int, body: str = "") -> list[Request | Response]:
        branch = f"z9hG4bK{number}"
        text = request_text(method, to_tag=tag, cseq=f"{number} {method}", branch=branch, body=body)
        return stranger.tell(text)

    return change


def test_F093_a_500_with_retry_after_is_tried_again_then(stage: Stage) -> None:
    ours, _ = confirmed(stage)
    stage.net.path.loss = 0
    update(stage, stage.alice, ours)
    stage.net.run(0.1)
    reply(stage, stage.bob, 500, headers=[("Retry-After", "3")])
    stage.net.run(3.1)
    reply(stage, stage.bob)
    assert stage.alice.only(UpdateDone).status == 200
    assert len(stage.messages("UPDATE")) == 2


def test_F086_a_lost_update_is_repeated(stage: Stage) -> None:
    ours, _ = confirmed(stage)
    stage.net.path.drop = drop_first("UPDATE")
    update(stage, stage.alice, ours, b"")
    stage.net.run(16)
    assert stage.alice.only(UpdateDone).status == 200


@pytest.mark.rfc("3261", "12.2.2")
def test_F086_an_update_that_a_later_request_overtook_is_sent_under_a_new_number(
    stage: Stage,
) -> None:
    ours, _ = confirmed(stage)
    stage.net.path.loss = 0
    stage.net.path.drop = drop_first("UPDATE")
    update(stage, stage.alice, ours, b"")
    stage.net.run(0.1)
    stage.alice.agent.dialog_request(ours, "OPTIONS", now=stage.net.now)
    stage.net.run(2)
    assert stage.messages("500 UPDATE")
    assert len(stage.messages("UPDATE")) == 2
    assert stage.alice.only(UpdateDone).status == 200


@pytest.mark.rfc("3261", "12.2.2")
def test_F060_a_reinvite_that_a_later_request_overtook_is_sent_under_a_new_number(
    stage: Stage,
) -> None:
    ours, _ = confirmed(stage)
    stage.net.path.loss = 0
    stage.bob.on(ReinviteReceived, lambda event: stage.bob.answer(event.invite))
    stage.net.path.drop = drop_first("INVITE")
    stage.alice.agent.reinvite(ours, body=OFFER, content_type=SDP, now=stage.net.now)
    stage.net.run(0.1)
    stage.alice.agent.dialog_request(ours, "OPTIONS", now=stage.net.now)
    stage.net.run(0.7)  # at once, as any other request
    assert stage.messages("500 INVITE")
    assert stage.alice.only(ReinviteDone).status == 200


# Who refuses what with which status: RFC 6337 section 4.3.


def test_F093_a_reinvite_waits_for_our_update_to_be_answered(stage: Stage) -> None:
    ours, _ = confirmed(stage)
    stage.net.path.loss = 0
    stage.bob.on(ReinviteReceived, lambda event: stage.bob.answer(event.invite))
    update(stage, stage.alice, ours)
    change = stage.alice.agent.reinvite(ours, body=OFFER, content_type=SDP, now=stage.net.now)
    stage.net.run(0.2)
    assert "INVITE" not in stage.sent(stage.alice)[2:]
    reply(stage, stage.bob)
    stage.net.run(0.2)
    assert stage.alice.only(ReinviteDone).handle is change


def test_F093_an_update_waits_for_the_prack_to_be_answered(stage: Stage) -> None:
    """One sent before could overtake it, and the PRACK would come out of order."""
    stage.alice.call(stage.bob)
    stage.net.run(16 if stage.loss else 0.1)
    stage.net.path.loss = 0
    stage.bob.answer(incoming(stage), 183, body=ANSWER, content_type=SDP)
    stage.net.run(0.015)  # the 183 has come, the PRACK is under way
    [event] = [e for e in stage.alice.events(Provisional) if e.dialog is not None]
    assert event.dialog is not None
    handle = update(stage, stage.alice, event.dialog)
    assert handle.state is UpdateState.WAITING
    stage.net.run(0.1)
    reply(stage, stage.bob)
    assert stage.alice.only(UpdateDone).status == 200
    stage.bob.answer(incoming(stage), body=b"", content_type=None)
    stage.step()


def test_F093_an_update_while_our_200_has_an_offer_gets_500() -> None:
    """IsU: the ACK with the answer has not come."""
    stranger = Stranger()
    stranger.tell(request_text("INVITE"))
    [event] = stranger.agent.events()
    assert isinstance(event, IncomingInvite)
    stranger.agent.respond(
        event.invite, 200, contact="<sip:p@192.0.2.1>", body=OFFER, content_type=SDP, now=0.0
    )
    [ok] = stranger.heard()
    text = request_text(
        "UPDATE", to_tag=ok.to.tag or "", cseq="2 UPDATE", branch="z9hG4bKu", body="x"
    )
    [refusal] = stranger.tell(text)
    assert isinstance(refusal, Response)
    assert (refusal.status, "Retry-After" in refusal.headers) == (500, True)


def test_F093_an_update_while_we_owe_a_prack_gets_491(stage: Stage) -> None:
    """IcU: figure 18."""
    stage.net.path.loss = 0
    stage.alice.call(stage.bob, body=b"")
    stage.net.run(0.1)
    stage.bob.answer(incoming(stage), 183, body=OFFER, content_type=SDP)
    stage.net.run(0.1)
    [event] = [e for e in stage.alice.events(Provisional) if e.dialog is not None]
    assert event.dialog is not None
    assert event.prack_owed
    theirs = incoming(stage).dialog
    request = theirs.request(
        "UPDATE", random=stage.net.random, headers=[("Contact", theirs.contact)], body=NEW,
        content_type=SDP,
    )  # fmt: skip
    stage.alice.agent.receive(request.to_bytes(), stage.alice.to(stage.bob), stage.net.now)
    stage.net.flush()
    assert "491 UPDATE" in stage.sent(stage.alice)
    stage.alice.agent.prack(event.dialog, body=ANSWER, content_type=SDP, now=stage.net.now)
    stage.net.run(0.1)
    stage.bob.answer(incoming(stage), body=b"", content_type=None)
    stage.net.run(0.2)
    stage.alice.only(Answered)
