"""Dialogs of calls between two agents: forks, changes, requests within. Nothing is left behind."""

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

from voip.errors import CallStateError
from voip.sip.dialog import DialogState
from voip.sip.events import (
    Acknowledged,
    Answered,
    Cause,
    DialogEnded,
    IncomingInvite,
    InviteCancelled,
    Provisional,
    ReinviteDone,
    ReinviteReceived,
    RequestDone,
    RequestFailed,
    RequestReceived,
)
from voip.sip.message import Request, Response

pytestmark = pytest.mark.rfc("3261", "13")


# Forks.


@pytest.fixture
def fork(net: Net, alice: Phone, bob: Phone) -> Phone:
    """A second callee: what goes to Bob reaches it too, as behind a forking proxy."""
    carol = net.phone("192.0.2.3")
    carry = net._carry

    def forked(data: bytes, flow) -> None:  # type: ignore[no-untyped-def]
        carry(data, flow)
        if flow.remote == bob.address and b"tag=" not in data.split(b"To:")[1].split(b"\r\n")[0]:
            carry(data, flow.to(carol.address))

    net._carry = forked  # type: ignore[method-assign]
    return carol


def test_a_fork_makes_an_early_dialog_of_its_own(
    net: Net, alice: Phone, bob: Phone, fork: Phone
) -> None:
    invite = alice.call(bob)
    net.run(0.1)
    for phone in (bob, fork):
        phone.answer(phone.only(IncomingInvite).invite, 183)
    net.run(0.1)
    early = [event.dialog for event in alice.events(Provisional)]
    assert len(early) == 2
    assert early == invite.dialogs == alice.agent.dialogs
    bob.answer(bob.only(IncomingInvite).invite)
    fork.answer(fork.only(IncomingInvite).invite, 487)
    net.run(40)
    answered = alice.only(Answered).dialog
    assert answered is early[0]
    assert early[1].state is DialogState.TERMINATED
    assert alice.agent.dialogs == [answered]
    alice.agent.bye(answered, now=net.now)


def test_a_second_2xx_is_acknowledged_and_hung_up(
    net: Net, alice: Phone, bob: Phone, fork: Phone
) -> None:
    alice.call(bob)
    net.run(0.1)
    for phone in (bob, fork):
        phone.answer(phone.only(IncomingInvite).invite)
    net.run(2)
    answered = alice.only(Answered)
    fork.only(Acknowledged)
    assert fork.only(DialogEnded).by_remote
    bob.only(Acknowledged)
    assert bob.events(DialogEnded) == []
    assert alice.agent.dialogs == [answered.dialog]
    alice.agent.bye(answered.dialog, now=net.now)


def test_forks_beyond_the_limit_are_dropped(net: Net, alice: Phone, bob: Phone) -> None:
    few = net.phone("192.0.2.4", replace(CONFIG, max_forks=3))
    few.call(bob)
    net.run(0.1)
    ringing = None
    bob.answer(bob.only(IncomingInvite).invite, 180)
    net.run(0.1)
    ringing = next(data for _, m, _ in net.wire if (data := m) and _status(m) == 180)
    for number in range(10):
        text = ringing.to_bytes().replace(b";tag=" + _tag(ringing), b";tag=%d" % number)
        few.agent.receive(text, few.to(bob), net.now)
    assert len(few.agent.dialogs) == 3
    bob.answer(bob.only(IncomingInvite).invite, 486)


def _status(message: Request | Response) -> int | None:
    return message.status if isinstance(message, Response) else None


def _tag(message: Request | Response) -> bytes:
    return (message.to.tag or "").encode()


# Changing a session.


@pytest.mark.parametrize("by", ["caller", "callee"])
def test_a_reinvite_holds_and_resumes(net: Net, alice: Phone, bob: Phone, by: str) -> None:
    ours, theirs = established(net, alice, bob)
    holder, held, dialog = (alice, bob, ours) if by == "caller" else (bob, alice, theirs)
    for round_ in (1, 2):
        handle = holder.agent.reinvite(dialog, body=OFFER, content_type=SDP, now=net.now)
        net.run(0.1)
        received = held.events(ReinviteReceived)[-1]
        assert received.invite.is_reinvite
        assert received.invite.request.body == OFFER
        held.answer(received.invite)
        net.run(1)
        done = holder.events(ReinviteDone)[-1]
        assert (done.handle, done.dialog, done.status) == (handle, dialog, 200)
        assert done.response is not None
        assert done.response.body == ANSWER
        assert len(held.events(Acknowledged)) == round_
    holder.agent.bye(dialog, now=net.now)
    net.run(1)
    assert alice.only(DialogEnded)
    assert bob.only(DialogEnded)


def test_a_refused_reinvite_leaves_the_call_as_it_was(net: Net, alice: Phone, bob: Phone) -> None:
    ours, _ = established(net, alice, bob)
    alice.agent.reinvite(ours, body=OFFER, content_type=SDP, now=net.now)
    net.run(0.1)
    bob.answer(bob.only(ReinviteReceived).invite, 488)
    net.run(1)
    done = alice.only(ReinviteDone)
    assert (done.status, done.reason) == (488, "Not Acceptable Here")
    assert ours.state is DialogState.CONFIRMED
    assert alice.events(DialogEnded) == bob.events(DialogEnded) == []
    alice.agent.bye(ours, now=net.now)


def test_a_reinvite_without_offer_is_answered_by_the_users_ack(
    net: Net, alice: Phone, bob: Phone
) -> None:
    ours, _ = established(net, alice, bob)
    alice.agent.reinvite(ours, now=net.now)
    net.run(0.1)
    bob.answer(bob.only(ReinviteReceived).invite, body=OFFER)
    net.run(0.1)
    assert alice.only(ReinviteDone).status == 200
    alice.agent.ack(ours, body=ANSWER, content_type=SDP, now=net.now)
    net.run(1)
    assert bob.only(Acknowledged).request.body == ANSWER
    alice.agent.bye(ours, now=net.now)


def test_only_one_reinvite_at_a_time(net: Net, alice: Phone, bob: Phone) -> None:
    ours, _ = established(net, alice, bob)
    alice.agent.reinvite(ours, body=OFFER, content_type=SDP, now=net.now)
    with pytest.raises(CallStateError, match="under way"):
        alice.agent.reinvite(ours, body=OFFER, content_type=SDP, now=net.now)
    net.run(0.1)
    bob.answer(bob.only(ReinviteReceived).invite)
    net.run(0.1)
    alice.agent.bye(ours, now=net.now)


def test_a_reinvite_moves_the_peers_target(net: Net, alice: Phone, bob: Phone) -> None:
    ours, theirs = established(net, alice, bob)
    moved = net.phone("192.0.2.77")
    ours.contact = moved.contact
    alice.agent.reinvite(ours, body=OFFER, content_type=SDP, now=net.now)
    net.run(0.1)
    assert theirs.flow.remote == alice.address
    bob.answer(bob.only(ReinviteReceived).invite)
    net.run(0.1)
    assert theirs.remote_target == moved.uri
    assert theirs.flow.remote == moved.address
    alice.agent.bye(ours, now=net.now)


def test_a_reinvite_nobody_answers_ends_the_call(net: Net, alice: Phone, bob: Phone) -> None:
    ours, _ = established(net, alice, bob)
    net.lose(bob)
    alice.agent.reinvite(ours, body=OFFER, content_type=SDP, now=net.now)
    net.run(33)
    assert alice.only(ReinviteDone).status == 408
    assert alice.only(DialogEnded).status == 408
    assert len(net.sent("BYE")) > 0  # for the case that only the INVITE gets lost
    net.run(33)


def test_a_reinvite_to_a_peer_that_has_forgotten_the_call_ends_it(
    net: Net, alice: Phone, bob: Phone
) -> None:
    ours, _ = established(net, alice, bob)
    net.phones[bob.address] = Phone(net, bob.address, CONFIG)
    alice.agent.reinvite(ours, body=OFFER, content_type=SDP, now=net.now)
    net.run(1)
    assert alice.only(ReinviteDone).status == 481
    ended = alice.only(DialogEnded)
    assert (ended.by_remote, ended.status) == (True, 481)
    assert len(net.sent("BYE", alice)) == 1  # for those between (section 12.2.1.2)
    assert len(alice.events(DialogEnded)) == 1


def test_a_reinvite_left_unanswered_is_cancelled_by_timer_c(net: Net, bob: Phone) -> None:
    alice = net.phone("192.0.2.1", replace(CONFIG, silence_limit=5.0))
    ours, _ = established(net, alice, bob)
    alice.agent.reinvite(ours, body=OFFER, content_type=SDP, now=net.now)
    net.run(10)
    assert bob.only(InviteCancelled).invite is bob.only(ReinviteReceived).invite
    assert alice.only(ReinviteDone).status == 408
    assert bob.only(DialogEnded).by_remote


# Other requests in a dialog.


def test_a_request_in_a_dialog_is_replied_to(net: Net) -> None:
    config = replace(CONFIG, allow=(*CONFIG.allow, "INFO"))
    alice, bob = net.phone("192.0.2.1", config), net.phone("192.0.2.2", config)
    ours, theirs = established(net, alice, bob)
    handle = alice.agent.dialog_request(
        ours, "INFO", body=b"Signal=5", content_type="application/dtmf-relay", now=net.now
    )
    net.run(0.1)
    received = bob.only(RequestReceived).request
    assert received.dialog is theirs
    assert received.request.body == b"Signal=5"
    bob.agent.reply(received, 200, now=net.now)
    net.run(0.1)
    done = alice.only(RequestDone)
    assert (done.handle, done.response.status) == (handle, 200)
    with pytest.raises(CallStateError, match="reply once"):
        bob.agent.reply(received, 200, now=net.now)
    alice.agent.bye(ours, now=net.now)


def test_options_in_a_dialog_is_answered_by_the_agent(net: Net, alice: Phone, bob: Phone) -> None:
    ours, _ = established(net, alice, bob)
    alice.agent.dialog_request(ours, "OPTIONS", now=net.now)
    net.run(0.1)
    assert alice.only(RequestDone).response.status == 200
    alice.agent.bye(ours, now=net.now)


def test_a_request_a_peer_does_not_answer_ends_the_call(net: Net, alice: Phone, bob: Phone) -> None:
    ours, _ = established(net, alice, bob)
    net.lose(bob)
    alice.agent.dialog_request(ours, "OPTIONS", now=net.now)
    net.run(33)
    assert alice.only(RequestFailed).cause is Cause.TIMEOUT
    assert alice.only(DialogEnded).status == 408
    net.run(33)


def test_requests_waiting_for_a_reply_are_limited(net: Net) -> None:
    config = replace(CONFIG, allow=(*CONFIG.allow, "INFO"), max_dialog_requests=3)
    alice, bob = net.phone("192.0.2.1", config), net.phone("192.0.2.2", config)
    ours, _ = established(net, alice, bob)
    for _ in range(5):
        alice.agent.dialog_request(ours, "INFO", now=net.now)
    net.run(0.1)
    assert len(bob.events(RequestReceived)) == 3
    assert [e.response.status for e in alice.events(RequestDone)] == [503, 503]
    for event in bob.events(RequestReceived):
        bob.agent.reply(event.request, 200, now=net.now)
    net.run(0.1)
    assert len(alice.events(RequestDone)) == 5
    alice.agent.bye(ours, now=net.now)
