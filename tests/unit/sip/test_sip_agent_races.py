"""The races of RFC 5407, and who may do what to whose dialog."""

from __future__ import annotations

import pytest
from virtual_sip import (
    ANSWER,
    OFFER,
    SDP,
    Net,
    Phone,
    Stranger,
    drop_first,
    established,
    request_text,
)

from voip.errors import CallStateError
from voip.sip.dialog import Dialog, DialogState
from voip.sip.events import (
    Acknowledged,
    Answered,
    Cause,
    DialogEnded,
    IncomingInvite,
    InviteCancelled,
    InviteFailed,
    Provisional,
    ReinviteDone,
    ReinviteReceived,
)
from voip.sip.message import Request, Response

pytestmark = pytest.mark.rfc("5407", "3")


def methods(net: Net) -> list[str]:
    return [m.method for _, m, _ in net.wire if isinstance(m, Request)]


def ringing(net: Net, alice: Phone, bob: Phone) -> Dialog:
    """Let Alice call Bob, who rings; return her early dialog."""
    alice.call(bob)
    net.run(0.1)
    bob.answer(bob.only(IncomingInvite).invite, 180)
    net.run(0.1)
    early = alice.only(Provisional).dialog
    assert early is not None
    return early


# 3.1: in the moratorium state (2xx sent, ACK not there yet).


def test_F049_repeated_invite_in_the_moratorium_state(net: Net, alice: Phone, bob: Phone) -> None:
    net.path.delay = (0.4, 0.4)
    net.path.drop = lambda m, _: isinstance(m, Response) and m.status < 200
    alice.call(bob)
    net.run(0.45)
    bob.answer(bob.only(IncomingInvite).invite, 180)
    bob.answer(bob.only(IncomingInvite).invite)  # the INVITE is repeated at 0.5
    net.run(3)
    assert len(net.sent("INVITE")) == 2
    assert len(bob.events(IncomingInvite)) == 1
    alice.only(Answered)
    bob.only(Acknowledged)
    alice.agent.bye(alice.only(Answered).dialog, now=net.now)
    net.run(3)


def test_F050_cancel_in_the_moratorium_state(net: Net, alice: Phone, bob: Phone) -> None:
    invite = alice.call(bob)
    net.run(0.1)
    incoming = bob.only(IncomingInvite).invite
    bob.answer(incoming, 180)
    net.run(0.1)
    bob.answer(incoming)
    alice.agent.cancel(invite, now=net.now)
    net.run(1)
    cancelled = [m for _, m, _ in net.wire if isinstance(m, Response) and m.cseq.method == "CANCEL"]
    assert [m.status for m in cancelled] == [200]
    assert cancelled[0].to.tag == incoming.tag
    assert bob.events(InviteCancelled) == []
    assert methods(net) == ["INVITE", "CANCEL", "ACK", "BYE"]


def test_F051_early_bye_in_the_moratorium_state(net: Net, alice: Phone, bob: Phone) -> None:
    early = ringing(net, alice, bob)
    bob.answer(bob.only(IncomingInvite).invite)
    alice.agent.bye(early, now=net.now)
    net.run(1)
    assert methods(net) == ["INVITE", "BYE", "ACK"]
    assert alice.events(Answered) == []
    assert alice.only(InviteFailed).cause is Cause.CANCELLED
    assert not alice.only(DialogEnded).by_remote
    assert bob.only(DialogEnded).by_remote


def test_F052_reinvite_in_the_moratorium_state_after_an_offer_in_the_invite(
    net: Net, alice: Phone, bob: Phone
) -> None:
    net.path.drop = drop_first("ACK")
    alice.call(bob)
    net.run(0.1)
    bob.answer(bob.only(IncomingInvite).invite)
    net.run(0.1)
    dialog = alice.only(Answered).dialog
    alice.agent.reinvite(dialog, body=OFFER, content_type=SDP, now=net.now)
    net.run(0.05)
    bob.answer(bob.only(ReinviteReceived).invite)
    net.run(2)
    assert alice.only(ReinviteDone).status == 200
    assert [e.request.cseq.number for e in bob.events(Acknowledged)] == [2, 1]
    alice.agent.bye(dialog, now=net.now)
    net.run(1)
    bob.only(DialogEnded)


def test_F053_reinvite_in_the_moratorium_state_after_an_offer_in_the_2xx(
    net: Net, alice: Phone, bob: Phone
) -> None:
    net.path.drop = drop_first("ACK")
    alice.call(bob, body=b"")
    net.run(0.1)
    bob.answer(bob.only(IncomingInvite).invite, body=OFFER)
    net.run(0.1)
    dialog = alice.only(Answered).dialog
    alice.agent.ack(dialog, body=ANSWER, content_type=SDP, now=net.now)
    alice.agent.reinvite(dialog, body=OFFER, content_type=SDP, now=net.now)
    net.run(0.1)
    assert net.sent(491, bob)
    assert bob.events(ReinviteReceived) == []
    net.run(5)  # the ACK has been repeated, and the re-INVITE tried anew after 2.1-4 s
    assert bob.only(Acknowledged).request.body == ANSWER
    bob.answer(bob.only(ReinviteReceived).invite)
    net.run(1)
    assert alice.only(ReinviteDone).status == 200
    alice.agent.bye(dialog, now=net.now)


def test_F054_bye_in_the_moratorium_state(net: Net, alice: Phone, bob: Phone) -> None:
    net.path.drop = drop_first("ACK")
    alice.call(bob)
    net.run(0.1)
    bob.answer(bob.only(IncomingInvite).invite)
    net.run(0.1)
    alice.agent.bye(alice.only(Answered).dialog, now=net.now)
    net.run(5)
    assert bob.only(DialogEnded).by_remote
    assert not alice.only(DialogEnded).by_remote
    assert len(net.sent(200, bob)) == 2  # no 2xx is repeated once the call is over


# 3.2: in the mortal state (BYE sent).


def test_F055_bye_crosses_bye(net: Net, alice: Phone, bob: Phone) -> None:
    ours, theirs = established(net, alice, bob)
    alice.agent.bye(ours, now=net.now)
    bob.agent.bye(theirs, now=net.now)
    net.run(1)
    assert len(net.sent("BYE")) == 2
    assert net.sent(481) == []
    assert len(net.sent(200)) == 2
    alice.only(DialogEnded)
    bob.only(DialogEnded)


def test_F056_reinvite_in_the_mortal_state(net: Net, alice: Phone, bob: Phone) -> None:
    ours, theirs = established(net, alice, bob)
    alice.agent.bye(ours, now=net.now)
    bob.agent.reinvite(theirs, body=OFFER, content_type=SDP, now=net.now)
    net.run(1)
    assert len(net.sent(481, alice)) == 1
    assert alice.events(ReinviteReceived) == []
    assert bob.kinds() == ["ReinviteDone", "DialogEnded"]
    assert net.sent("ACK")


def test_F057_2xx_to_a_reinvite_in_the_mortal_state(net: Net, alice: Phone, bob: Phone) -> None:
    ours, theirs = established(net, alice, bob)
    bob.agent.reinvite(theirs, body=OFFER, content_type=SDP, now=net.now)
    net.run(0.05)
    alice.answer(alice.only(ReinviteReceived).invite)
    bob.agent.bye(theirs, now=net.now)
    net.run(1)
    assert len(net.sent("ACK", bob)) == 1  # the three-way handshake is always completed
    assert bob.kinds() == ["ReinviteDone", "DialogEnded"]
    assert bob.only(ReinviteDone).status == 487
    assert alice.only(DialogEnded).by_remote
    assert ours.state is theirs.state is DialogState.TERMINATED


def test_F058_a_callee_that_hangs_up_at_once_waits_for_the_ack(
    net: Net, alice: Phone, bob: Phone
) -> None:
    alice.call(bob)
    net.run(0.1)
    incoming = bob.only(IncomingInvite).invite
    bob.answer(incoming)
    bob.agent.bye(incoming.dialog, now=net.now)
    assert incoming.dialog.state is DialogState.TERMINATING
    net.run(1)
    assert methods(net) == ["INVITE", "ACK", "BYE"]  # section 15: not before the ACK
    assert alice.only(DialogEnded).by_remote
    assert not bob.only(DialogEnded).by_remote


def test_a_callee_that_hangs_up_and_never_sees_the_ack(net: Net, alice: Phone, bob: Phone) -> None:
    net.path.drop = lambda m, _: isinstance(m, Request) and m.method == "ACK"
    alice.call(bob)
    net.run(0.1)
    incoming = bob.only(IncomingInvite).invite
    bob.answer(incoming)
    bob.agent.bye(incoming.dialog, now=net.now)
    net.run(31)
    assert net.sent("BYE") == []
    net.run(2)
    assert len(net.sent("BYE")) == 1
    assert bob.only(DialogEnded).status == 408
    assert alice.only(DialogEnded).by_remote


def test_a_callee_cannot_hang_up_before_it_answers(net: Net, alice: Phone, bob: Phone) -> None:
    alice.call(bob)
    net.run(0.1)
    incoming = bob.only(IncomingInvite).invite
    bob.answer(incoming, 180)
    with pytest.raises(CallStateError, match="refuse the INVITE"):
        bob.agent.bye(incoming.dialog, now=net.now)
    bob.answer(incoming, 480)


def test_early_bye_ends_a_ringing_call(net: Net, alice: Phone, bob: Phone) -> None:
    early = ringing(net, alice, bob)
    alice.agent.bye(early, now=net.now)
    net.run(1)
    assert bob.only(InviteCancelled).reason == "the call is over"
    assert bob.events(DialogEnded) == []
    assert alice.only(InviteFailed).status == 487
    alice.only(DialogEnded)


# 3.3: crossing re-INVITEs.


def test_F059_crossing_reinvites_are_refused_and_tried_again_one_after_the_other(
    net: Net, alice: Phone, bob: Phone
) -> None:
    ours, theirs = established(net, alice, bob)
    for phone in (alice, bob):
        phone.on(ReinviteReceived, lambda event, phone=phone: phone.answer(event.invite))
    start = net.now
    alice.agent.reinvite(ours, body=OFFER, content_type=SDP, now=net.now)
    bob.agent.reinvite(theirs, body=OFFER, content_type=SDP, now=net.now)
    net.run(10)
    assert len(net.sent(491)) == 2
    assert alice.only(ReinviteDone).status == bob.only(ReinviteDone).status == 200
    [_, again_alice] = net.sent("INVITE", alice)
    [_, again_bob] = net.sent("INVITE", bob)
    assert 2.1 <= again_alice - start <= 4.1  # the owner of the Call-ID waits longer
    assert 0.0 <= again_bob - start <= 2.1
    alice.agent.bye(ours, now=net.now)


def test_glare_that_never_ends_gives_up(net: Net, alice: Phone, bob: Phone) -> None:
    ours, _ = established(net, alice, bob)
    bob.on(ReinviteReceived, lambda event: bob.answer(event.invite, 491))
    begun = net.now
    alice.agent.reinvite(ours, body=OFFER, content_type=SDP, now=net.now)
    net.run(60)
    assert alice.only(ReinviteDone).status == 491
    tries = [at - begun for at in net.sent("INVITE") if at >= begun]
    assert 32 / 4.2 - 1 <= len(tries) <= 32 / 2.1
    assert 32 - 4.2 <= tries[-1] <= 32
    assert ours.state is DialogState.CONFIRMED
    alice.agent.bye(ours, now=net.now)


def test_hanging_up_ends_a_reinvite_that_waits_after_glare(
    net: Net, alice: Phone, bob: Phone
) -> None:
    ours, _ = established(net, alice, bob)
    bob.on(ReinviteReceived, lambda event: bob.answer(event.invite, 491))
    alice.agent.reinvite(ours, body=OFFER, content_type=SDP, now=net.now)
    net.run(1)
    alice.agent.bye(ours, now=net.now)
    net.run(10)
    assert len(net.sent("INVITE")) == 1
    assert alice.kinds() == ["ReinviteDone", "DialogEnded"]


def test_a_500_with_retry_after_is_tried_again_then(net: Net, alice: Phone, bob: Phone) -> None:
    ours, _ = established(net, alice, bob)
    answers = iter([(500, [("Retry-After", "3")]), (200, [])])

    def answer(event: ReinviteReceived) -> None:
        status, headers = next(answers)
        bob.answer(event.invite, status, headers=headers)

    bob.on(ReinviteReceived, answer)
    alice.agent.reinvite(ours, body=OFFER, content_type=SDP, now=net.now)
    net.run(10)
    [first, second] = net.sent("INVITE")
    assert second - first == pytest.approx(3.02, abs=0.01)
    assert alice.only(ReinviteDone).status == 200
    alice.agent.bye(ours, now=net.now)


def test_a_reinvite_waits_for_the_peers_one_to_end(net: Net, alice: Phone, bob: Phone) -> None:
    ours, theirs = established(net, alice, bob)
    bob.agent.reinvite(theirs, body=OFFER, content_type=SDP, now=net.now)
    net.run(0.05)
    alice.agent.reinvite(ours, body=OFFER, content_type=SDP, now=net.now)
    net.run(1)
    assert net.sent("INVITE", alice) == []
    alice.answer(alice.only(ReinviteReceived).invite)
    net.run(0.1)
    assert len(net.sent("INVITE", alice)) == 1
    bob.answer(bob.only(ReinviteReceived).invite)
    net.run(0.1)
    assert alice.only(ReinviteDone).status == bob.only(ReinviteDone).status == 200
    alice.agent.bye(ours, now=net.now)


def test_hanging_up_on_an_unanswered_reinvite_refuses_it(
    net: Net, alice: Phone, bob: Phone
) -> None:
    ours, theirs = established(net, alice, bob)
    bob.agent.reinvite(theirs, body=OFFER, content_type=SDP, now=net.now)
    net.run(0.05)
    received = alice.only(ReinviteReceived).invite
    alice.agent.bye(ours, now=net.now)
    assert alice.agent.dialogs == [ours]
    with pytest.raises(CallStateError):
        alice.answer(received)
    net.run(1)
    assert len(net.sent(487, alice)) == 1
    assert bob.kinds() == ["ReinviteDone", "DialogEnded"]


def test_a_reinvite_while_we_owe_an_answer_gets_491(net: Net, alice: Phone, bob: Phone) -> None:
    alice.call(bob, body=b"")
    net.run(0.1)
    incoming = bob.only(IncomingInvite).invite
    bob.answer(incoming, body=OFFER)
    net.run(0.1)
    dialog = alice.only(Answered).dialog
    # Bob's agent would wait for the ACK itself; another's may not.
    early = incoming.dialog.request(
        "INVITE", random=net.random, headers=[("Contact", bob.contact)], body=OFFER
    )
    alice.agent.receive(early.to_bytes(), alice.to(bob), net.now)
    net.flush()
    assert len(net.sent(491, alice)) == 1
    assert alice.events(ReinviteReceived) == []
    net.run(1)
    alice.agent.ack(dialog, body=ANSWER, content_type=SDP, now=net.now)
    net.run(1)
    alice.agent.bye(dialog, now=net.now)


def test_a_reinvite_before_our_invite_is_answered_gets_491(
    net: Net, alice: Phone, bob: Phone
) -> None:
    alice.call(bob)
    net.run(0.1)
    incoming = bob.only(IncomingInvite).invite
    bob.answer(incoming, 183)
    net.run(0.1)
    early = incoming.dialog.request(
        "INVITE", random=net.random, headers=[("Contact", bob.contact)], body=OFFER
    )
    alice.agent.receive(early.to_bytes(), alice.to(bob), net.now)
    net.flush()
    assert len(net.sent(491, alice)) == 1
    bob.answer(incoming, 486)


# Seen by a stranger's raw messages.


def answered(stranger: Stranger, **more: str) -> str:
    """Let the stranger call and be answered; return our tag."""
    stranger.tell(request_text("INVITE", body="x", **more))
    [event] = stranger.agent.events()
    assert isinstance(event, IncomingInvite)
    stranger.agent.respond(
        event.invite, 200, contact="<sip:phone@192.0.2.1>", body=ANSWER, content_type=SDP,
        now=stranger.now,
    )  # fmt: skip
    stranger.heard()
    return event.invite.tag


def test_a_second_invite_before_the_first_is_answered_gets_500() -> None:
    stranger = Stranger()
    tag = answered(stranger)
    stranger.tell(request_text("ACK", branch="z9hG4bKack", to_tag=tag))
    for number in (2, 3):
        heard = stranger.tell(
            request_text("INVITE", branch=f"z9hG4bK{number}", to_tag=tag, cseq=f"{number} INVITE")
        )
    [refusal] = heard
    assert isinstance(refusal, Response)
    assert refusal.status == 500
    assert 0 <= int(refusal.headers.get("Retry-After") or "-1") <= 10


@pytest.mark.parametrize("number", [0, 1])
def test_a_request_out_of_order_gets_500(number: int) -> None:
    stranger = Stranger()
    tag = answered(stranger)
    [refusal] = stranger.tell(
        request_text("BYE", branch="z9hG4bKbye", to_tag=tag, cseq=f"{number} BYE")
    )
    assert isinstance(refusal, Response)
    assert refusal.status == 500
    assert len(stranger.agent.dialogs) == 1


@pytest.mark.parametrize(
    "forged",
    [
        {"to_tag": "guess"},
        {"from_tag": "guess"},
        {"call_id": "guess@192.0.2.9"},
    ],
)
@pytest.mark.parametrize("method", ["BYE", "INVITE", "OPTIONS", "ACK"])
def test_a_request_without_the_dialogs_marks_changes_nothing(
    forged: dict[str, str], method: str
) -> None:
    stranger = Stranger()
    tag = answered(stranger)
    [dialog] = stranger.agent.dialogs
    before = (dialog.remote_target, dialog.remote_cseq, dialog.state, dialog.flow)
    timers = stranger.agent.timers
    heard = stranger.tell(
        request_text(
            method, branch="z9hG4bKforged", cseq=f"9 {method}", **{"to_tag": tag, **forged}
        )
    )
    assert [m.status for m in heard if isinstance(m, Response)] == [481] * (method != "ACK")
    assert stranger.agent.events() == []
    assert (dialog.remote_target, dialog.remote_cseq, dialog.state, dialog.flow) == before
    assert stranger.agent.timers == timers


def test_a_cancel_with_another_call_id_ends_nothing() -> None:
    stranger = Stranger()
    stranger.tell(request_text("INVITE"))
    stranger.agent.events()
    for forged in ({"call_id": "guess"}, {"from_tag": "guess"}, {"branch": "z9hG4bKguess"}):
        [refusal] = stranger.tell(request_text("CANCEL", **forged))
        assert isinstance(refusal, Response)
        assert refusal.status == 481
    assert stranger.agent.events() == []
    heard = stranger.tell(request_text("CANCEL"))
    assert [m.status for m in heard if isinstance(m, Response)] == [200, 487]
    assert [type(event) for event in stranger.agent.events()] == [InviteCancelled]


def test_a_repeated_bye_gets_its_200_again_after_the_dialog_is_gone() -> None:
    stranger = Stranger()
    tag = answered(stranger)
    for _ in range(2):
        [ok] = stranger.tell(request_text("BYE", branch="z9hG4bKbye", to_tag=tag, cseq="2 BYE"))
        assert isinstance(ok, Response)
        assert ok.status == 200
    [ended] = stranger.agent.events()
    assert isinstance(ended, DialogEnded)
    assert stranger.wait(33) == []
    assert stranger.empty()


def test_an_ack_for_another_invite_acknowledges_nothing() -> None:
    stranger = Stranger()
    tag = answered(stranger)
    stranger.tell(request_text("ACK", branch="z9hG4bKack", to_tag=tag, cseq="2 ACK"))
    assert stranger.agent.events() == []
    stranger.tell(request_text("ACK", branch="z9hG4bKack", to_tag=tag, cseq="1 ACK"))
    [event] = stranger.agent.events()
    assert isinstance(event, Acknowledged)


def test_an_ack_with_the_invites_branch_is_taken_too() -> None:
    """RFC 6026: an old client may reuse the branch, and the Accepted state hands the ACK up."""
    stranger = Stranger()
    tag = answered(stranger)
    stranger.tell(request_text("ACK", to_tag=tag))
    [event] = stranger.agent.events()
    assert isinstance(event, Acknowledged)


def test_a_callee_that_hangs_up_in_an_early_dialog_ends_the_call() -> None:
    """It may not, but does where it never saw our ACK and we never saw its 2xx."""
    stranger = Stranger()
    agent = stranger.agent
    invite = agent.invite(
        "sip:s@192.0.2.9", flow=stranger.flow, from_="<sip:p@192.0.2.1>", to="<sip:s@192.0.2.9>",
        contact="<sip:p@192.0.2.1>", body=OFFER, content_type=SDP, now=0.0,
    )  # fmt: skip
    stranger.heard()
    head = "\r\n".join(f"{n}: {v}" for n, v in invite.request.headers if n in ("Via", "Call-ID"))
    tags = f"From: <sip:p@192.0.2.1>;tag={invite.request.from_.tag}\r\nTo: <sip:s>;tag=t\r\n"
    stranger.tell(f"SIP/2.0 180 Ringing\r\n{head}\r\n{tags}CSeq: 1 INVITE\r\n\r\n")
    [progress] = agent.events()
    assert isinstance(progress, Provisional)
    heard = stranger.tell(
        request_text(
            "BYE", to_tag=invite.request.from_.tag or "", from_tag="t",
            call_id=invite.request.call_id, branch="z9hG4bKbye",
        )
    )  # fmt: skip
    assert [m.status if isinstance(m, Response) else m.method for m in heard] == [200, "CANCEL"]
    assert agent.dialogs == []
    stranger.wait(33)
    [failed] = agent.events()
    assert isinstance(failed, InviteFailed)
    assert failed.cause is Cause.CANCELLED
    stranger.wait(33)
    assert stranger.empty()
