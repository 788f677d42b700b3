"""Hold and resume in virtual time: every race of a change with another and with the end."""

from __future__ import annotations

import pytest
from session_world import GARBAGE, SDP, assert_over, error_of, on_the_wire, sdp

from voip.errors import CallError, CallStateError
from voip.events import CallState, EndedBy
from voip.sip.dialog import DialogState
from voip.sip.events import ReinviteDone, ReinviteReceived


def test_a_hold_that_nobody_waits_for_any_more_comes_about_all_the_same(world):
    call = world.up()
    holding = world.start(call.hold())
    holding.cancel()
    world.settle()
    world.deliver_all()
    reinvite = world.told(ReinviteReceived).invite
    world.they_respond(200, sdp(version=2, direction="recvonly"), reinvite)
    world.deliver_all()
    assert call.state is CallState.HELD
    world.their(
        world.their_agent.reinvite,
        world.our_dialog(),
        body=sdp(version=3, direction="sendonly"),
        content_type=SDP,
    )
    world.deliver_all()
    assert world.told(ReinviteDone).status == 200
    resuming = world.start(call.resume())
    world.deliver_all()
    world.they_respond(200, sdp(version=4), world.told(ReinviteReceived).invite)
    world.deliver_all()
    resuming.result()
    assert call.state is CallState.ACTIVE


def test_a_change_waits_for_one_that_was_given_up(world):
    call = world.up()
    world.start(call.hold()).cancel()
    world.settle()
    resuming = world.start(call.resume())
    world.deliver_all()
    world.they_respond(200, sdp(direction="recvonly"), world.told(ReinviteReceived).invite)
    world.deliver_all()
    assert not resuming.done()
    world.they_respond(200, sdp(), world.told(ReinviteReceived).invite)
    world.deliver_all()
    resuming.result()
    assert call.state is CallState.ACTIVE


@pytest.mark.parametrize("by_us", [True, False])
def test_a_hold_under_way_when_the_call_ends_says_so(world, by_us):
    call = world.up()
    holding = world.start(call.hold())
    waiting = world.start(call.resume())
    if by_us:
        world.start(call.hangup())
    else:
        world.their(world.their_agent.bye, world.our_dialog())
    world.deliver_all()
    world.live(1.0)
    for task in (holding, waiting):
        assert isinstance(error_of(task), CallStateError)
        assert "end" in str(error_of(task)) or "over" in str(error_of(task))
    assert_over(world)


def test_a_bye_in_the_moment_after_a_hold_was_agreed_is_the_last_that_is_told(world):
    call = world.up()
    holding = world.start(call.hold())
    world.deliver_all()
    world.they_respond(
        200, sdp(version=2, direction="inactive"), world.told(ReinviteReceived).invite
    )
    world.driver.held = True
    while 200 in on_the_wire(world):
        world.deliver()
    world.their(world.their_agent.bye, world.our_dialog())
    world.deliver_all()
    world.driver.held = False
    world.driver.release()
    world.settle()
    assert holding.done()
    assert_over(world)


@pytest.mark.parametrize("status", [488, 500, 603])
def test_a_hold_that_is_refused_leaves_the_call_as_it_was(world, status):
    call = world.up()
    holding = world.start(call.hold())
    world.deliver_all()
    world.they_respond(status, invite=world.told(ReinviteReceived).invite)
    world.deliver_all()
    assert error_of(holding).status == status
    assert call.state is CallState.ACTIVE
    again = world.start(call.hold())
    world.deliver_all()
    world.they_respond(200, sdp(direction="recvonly"), world.told(ReinviteReceived).invite)
    world.deliver_all()
    again.result()
    assert call.state is CallState.HELD


@pytest.mark.parametrize("answer", [b"", GARBAGE])
def test_a_hold_whose_answer_cannot_be_used_fails_and_can_be_tried_again(world, answer):
    call = world.up()
    holding = world.start(call.hold())
    world.deliver_all()
    world.they_respond(200, answer, world.told(ReinviteReceived).invite)
    world.deliver_all()
    assert isinstance(error_of(holding), CallError)
    assert call.state is CallState.ACTIVE
    again = world.start(call.hold())
    world.deliver_all()
    world.they_respond(200, sdp(direction="recvonly"), world.told(ReinviteReceived).invite)
    world.deliver_all()
    again.result()


@pytest.mark.parametrize("answer", [b"", GARBAGE])
def test_an_offer_of_ours_that_is_never_answered_does_not_block_the_next_change(world, answer):
    call = world.up()
    dialog = world.our_dialog()
    world.their(world.their_agent.reinvite, dialog, body=b"")
    world.deliver_all()
    world.their(world.their_agent.ack, dialog, body=answer, content_type=SDP if answer else None)
    world.deliver_all()
    world.their(
        world.their_agent.reinvite,
        dialog,
        body=sdp(version=2, direction="sendonly"),
        content_type=SDP,
    )
    world.deliver_all()
    assert world.told(ReinviteDone).status == 200
    assert (call.state, world.names()[-1]) == (CallState.HELD, "HeldByRemote")


@pytest.mark.parametrize("offer", [GARBAGE, sdp(formats="18"), b"\xff\xfe\x00"])
def test_a_reinvite_that_cannot_be_used_is_refused_and_the_call_goes_on(world, offer):
    call = world.up()
    world.their(world.their_agent.reinvite, world.our_dialog(), body=offer, content_type=SDP)
    world.deliver_all()
    assert world.told(ReinviteDone).status in (400, 488)
    assert call.state is CallState.ACTIVE


def test_both_hold_at_once_and_both_get_there(world):
    call = world.up()
    holding = world.start(call.hold())
    world.their(
        world.their_agent.reinvite,
        world.our_dialog(),
        body=lambda: sdp(version=2, direction="sendonly"),
        content_type=SDP,
    )
    world.deliver_all()  # 491 both ways
    assert not holding.done()
    answered: set[int] = set()
    for _ in range(60):
        world.live(0.1)
        for event in world.their_events:
            if isinstance(event, ReinviteReceived) and id(event) not in answered:
                answered.add(id(event))
                world.they_respond(200, sdp(version=3, direction="inactive"), event.invite)
        world.deliver_all()
    holding.result()
    assert world.told(ReinviteDone).status == 200
    assert call.state is CallState.HELD


def test_asking_after_a_silent_peer_leaves_nothing_behind(world):
    call = world.up()
    kept = len(call._session._handles)
    for _ in range(20):
        world.inside(call._session.presence.ask)
        world.deliver_all()
    assert len(call._session._handles) == kept
    assert call.state is CallState.ACTIVE


def test_a_peer_that_does_not_know_the_call_any_more_has_ended_it(world):
    call = world.up()
    world.our_dialog().state = DialogState.TERMINATED
    world.their_agent._core.usages.clear()
    world.inside(call._session.presence.ask)
    world.deliver_all()
    world.live(1.0)
    assert (call.ended.by, call.ended.status) == (EndedBy.REMOTE, 481)
    assert_over(world)
