"""A call that we place, in virtual time: every race of ours with the callees."""

from __future__ import annotations

import pytest
from session_world import GARBAGE, OURS, THEIRS, assert_over, error_of, on_the_wire, respond_as, sdp

from voip.errors import CallError, NoAnswerError
from voip.events import CallEnded, CallState, EndedBy
from voip.sip.events import DialogEnded, IncomingInvite
from voip.sip.flow import Flow


def test_giving_up_while_the_engine_opens_the_stream_leaves_none(world):
    world.driver.held = True
    dialling = world.dial()
    hanging_up = world.start(world.call.hangup())
    world.driver.held = False
    world.driver.release()
    world.settle()
    hanging_up.result()
    assert isinstance(error_of(dialling), CallError)
    assert_over(world)
    assert world.wire == []


def test_a_dialling_task_that_is_cancelled_while_the_engine_opens_leaves_no_stream(world):
    world.driver.held = True
    dialling = world.dial()
    dialling.cancel()
    world.settle()
    world.start(world.call.hangup())
    world.driver.held = False
    world.driver.release()
    world.settle()
    assert_over(world)


def test_a_call_given_up_before_a_word_is_cancelled_when_the_callee_rings(world):
    world.dial()
    hanging_up = world.start(world.call.hangup())
    assert not hanging_up.done()
    world.deliver()
    world.they_respond(180)
    world.deliver_all()
    hanging_up.result()
    assert world.call.ended == CallEnded(EndedBy.LOCAL, "Request Terminated", 487)
    assert_over(world)


def test_a_call_given_up_that_nobody_heard_of_is_over_soon(world):
    world.dial()
    hanging_up = world.start(world.call.hangup())
    world.wire.clear()
    world.pass_time(0.6)
    hanging_up.result()
    assert world.call.ended == CallEnded(EndedBy.LOCAL, "given up", 487)
    assert_over(world)


GOES_ON = (
    lambda world: world.deliver(),  # the INVITE
    lambda world: world.they_respond(180),
    lambda world: world.deliver_all(),
    lambda world: world.they_respond(200, sdp()),
    lambda world: world.deliver(),
    lambda world: world.deliver_all(),  # the ACK
)


@pytest.mark.parametrize("lost", [None, 0, 1, 2, 3])
@pytest.mark.parametrize("moment", range(len(GOES_ON) + 1))
def test_a_call_whose_caller_is_cancelled_ends_on_both_sides(world, moment, lost):
    """At each moment of it, and whichever message is lost then: as `Softphone.dial` does it."""
    world.dial()
    waiting = world.start(world.call.wait_answered())
    for go_on in GOES_ON[:moment]:
        go_on(world)
    waiting.cancel()
    world.start(world.call.hangup())
    if lost is not None:
        for _ in range(lost):
            if world.wire:
                world.deliver()
        del world.wire[:1]
    world.live(70.0)

    assert_over(world)
    invites = [told.invite for told in world.their_events if isinstance(told, IncomingInvite)]
    assert len(invites) == 1
    assert not invites[0].waiting
    assert world.their_agent.dialogs == world.our_agent.dialogs == []


def test_nobody_answering_in_time_gives_the_call_up(world):
    world.dial()
    waiting = world.start(world.call.wait_answered(1.0))
    world.deliver_all()
    world.they_respond(180)
    world.deliver_all()
    world.live(2.0)
    assert isinstance(error_of(waiting), NoAnswerError)
    assert_over(world)


def test_a_200_that_crosses_our_cancel_is_hung_up(world):
    world.dial()
    world.deliver_all()
    world.they_respond(180)
    world.deliver_all()
    hanging_up = world.start(world.call.hangup())
    world.they_respond(200, sdp())
    world.wire.reverse()  # the 200 first
    world.deliver_all()
    world.live(5.0)
    hanging_up.result()
    assert "Answered" not in world.names()
    assert world.their_agent.dialogs == []
    assert_over(world)


def test_ringing_without_and_with_sound_and_a_183_after_it(world):
    world.dial()
    progress = world.start(world.call._session.wait_progress(30))
    world.deliver_all()
    world.they_respond(183)
    world.deliver_all()
    assert (world.names(), world.call.state) == ([], CallState.CALLING)
    world.they_respond(180)
    world.deliver_all()
    progress.result()
    assert (world.names(), world.call.state) == (["Ringing"], CallState.RINGING)
    world.they_respond(180, sdp())
    world.deliver_all()
    assert (world.names(), world.call.state) == (["Ringing", "EarlyMedia"], CallState.EARLY)
    world.they_respond(200, sdp())
    world.deliver_all()
    assert world.names() == ["Ringing", "EarlyMedia", "Answered"]


def test_ringing_is_told_after_early_sound_too(world):
    world.dial()
    world.deliver_all()
    world.they_respond(183, sdp())
    world.deliver_all()
    world.they_respond(180)
    world.deliver_all()
    assert world.names() == ["EarlyMedia", "Ringing"]
    assert world.call.state is CallState.EARLY


@pytest.mark.parametrize("early", [GARBAGE, sdp(0), sdp(formats="18")])
def test_early_sound_that_cannot_be_used_does_not_spoil_a_good_answer(world, early):
    world.dial()
    waiting = world.start(world.call.wait_answered(30))
    world.deliver_all()
    world.they_respond(183, early)
    world.deliver_all()
    assert world.names() == []
    world.they_respond(200, sdp(41000))
    world.deliver_all()
    waiting.result()
    assert world.call.state is CallState.ACTIVE
    assert [c.rtp.port for c in world.driver.connected.values()] == [41000]


def test_a_183_and_a_200_with_other_descriptions_follow_the_last(world):
    world.dial()
    world.deliver_all()
    world.they_respond(183, sdp(40000, formats="0"), reliable=False)
    world.deliver_all()
    assert world.call.codec == "pcmu"
    world.they_respond(200, sdp(42000, formats="8"))
    world.deliver_all()
    assert world.call.codec == "pcma"
    assert [c.rtp.port for c in world.driver.connected.values()] == [42000]


def test_the_callee_that_answers_is_heard_whoever_was_heard_before(world):
    world.dial()
    world.deliver_all()
    respond_as(world, "a", 183, sdp(40000))
    respond_as(world, "b", 183, sdp(42000))
    assert [c.rtp.port for c in world.driver.connected.values()] == [42000]
    respond_as(world, "a", 200)  # it said in its 183 where it is
    assert world.call.state is CallState.ACTIVE
    assert [c.rtp.port for c in world.driver.connected.values()] == [40000]
    respond_as(world, "b", 200, sdp(42000))
    assert on_the_wire(world)[-2:] == ["ACK", "BYE"]
    assert [c.rtp.port for c in world.driver.connected.values()] == [40000]


def test_another_callee_that_answers_without_a_description_cannot_be_heard(world):
    world.dial()
    waiting = world.start(world.call.wait_answered(30))
    world.deliver_all()
    respond_as(world, "a", 183, sdp(40000))
    respond_as(world, "b", 183, sdp(42000))
    respond_as(world, "c", 200)
    assert error_of(waiting).status == 488
    assert "BYE" in on_the_wire(world)
    assert_over(world)


def test_a_lone_callee_that_changes_its_tag_is_heard(world):
    world.dial()
    world.deliver_all()
    respond_as(world, "a", 183, sdp(40000))
    respond_as(world, "b", 200)
    assert world.call.state is CallState.ACTIVE


@pytest.mark.parametrize("body", [b"", GARBAGE, sdp(0), sdp(formats="18")])
def test_an_answer_that_cannot_be_used_is_hung_up_at_once(world, body):
    world.dial()
    waiting = world.start(world.call.wait_answered(30))
    world.deliver_all()
    world.they_respond(200, body)
    world.deliver_all()
    error = error_of(waiting)
    assert (type(error), error.status) == (CallError, 488)
    assert world.told(DialogEnded).by_remote
    assert_over(world)


def test_an_answer_whose_content_type_nobody_can_read_is_tried(world):
    world.dial()
    world.deliver_all()
    respond_as(world, "a", 200, sdp(), **{"Content-Type": "application"})
    assert world.call.state is CallState.ACTIVE


def test_a_callee_that_hangs_up_while_it_rings_ended_the_call(world):
    world.dial()
    waiting = world.start(world.call.wait_answered(30))
    world.deliver_all()
    respond_as(world, "a", 180)
    invite = world.call._session.invite_request
    bye = (
        f"BYE sip:us@{OURS} SIP/2.0\r\nVia: SIP/2.0/UDP {THEIRS};branch=z9hG4bKx\r\n"
        f"Max-Forwards: 70\r\nFrom: <sip:them@{THEIRS}>;tag=a\r\nTo: {invite.headers.get('From')}"
        f"\r\nCall-ID: {invite.call_id}\r\nCSeq: 1 BYE\r\nContent-Length: 0\r\n\r\n"
    )
    world.arrive(bye.encode(), Flow("udp", THEIRS, OURS))
    assert "CANCEL" in on_the_wire(world)
    respond_as(world, "a", 487)
    assert isinstance(error_of(waiting), CallError)
    assert world.call.ended.by is EndedBy.REMOTE
    assert_over(world)


def test_a_call_that_cannot_be_sent_is_a_failure_of_ours(world):
    world.dial()
    world.inside(lambda: world.call._session.fail("the cable is cut"))
    world.settle()
    assert world.call.ended == CallEnded(EndedBy.FAILURE, "the cable is cut")
    assert_over(world)
