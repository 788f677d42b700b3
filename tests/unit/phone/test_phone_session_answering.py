"""A call that we answer, in virtual time: every race of ours with the caller."""

from __future__ import annotations

import pytest
from session_world import GARBAGE, SDP, assert_over, error_of, on_the_wire, sdp

from voip.errors import CallError, CallStateError, MediaError, VoipError
from voip.events import CallEnded, CallState, EndedBy
from voip.media.answers import StreamRefused
from voip.media.commands import ConnectStream, OpenStream
from voip.sip.events import Answered, DialogEnded, InviteFailed
from voip.sip.reason import Reason


def test_two_answers_at_once_answer_once(world):
    world.they_call()
    world.deliver_all()
    world.driver.held = True
    first, second = world.start(world.call.answer()), world.start(world.call.answer())
    world.driver.held = False
    world.driver.release()
    world.settle()
    world.deliver_all()
    first.result()
    assert isinstance(error_of(second), CallStateError)
    assert "answered" in str(error_of(second))
    assert world.call.state is CallState.ACTIVE
    assert world.names() == ["Answered"]


@pytest.mark.parametrize("steps", [1, 2])
def test_a_caller_that_gives_up_while_we_answer_leaves_no_stream(world, steps):
    """While `answer` waits for the ports, and for the engine."""
    invite = world.they_call()
    world.deliver_all()
    world.start(world.call.ring()).result()
    world.deliver_all()
    world.driver.held = True
    answering = world.start(world.call.answer())
    for _ in range(steps - 1):
        world.driver.release()
        world.settle()
    world.their(world.their_agent.cancel, invite)
    world.deliver_all()
    world.driver.held = False
    world.driver.release()
    world.settle()
    world.live(40.0)
    assert isinstance(error_of(answering), CallError)
    assert_over(world)
    assert world.call.ended.by is (EndedBy.REMOTE)


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_hanging_up_while_we_answer_ends_the_call(world, steps):
    world.they_call()
    world.deliver_all()
    world.driver.held = True
    answering = world.start(world.call.answer())
    for _ in range(steps):
        world.driver.release()
        world.settle()
    hanging_up = world.start(world.call.hangup())
    world.driver.held = False
    world.driver.release()
    world.settle()
    world.deliver_all()
    world.live(5.0)
    hanging_up.result()
    assert isinstance(error_of(answering), CallError)
    assert_over(world)
    assert "Answered" not in world.names()
    assert world.call.ended.by is EndedBy.LOCAL
    assert world.their_agent.dialogs == []


def test_an_answer_that_was_cancelled_can_be_given_again(world):
    world.they_call()
    world.deliver_all()
    world.driver.held = True
    answering = world.start(world.call.answer())
    answering.cancel()
    world.settle()
    world.driver.held = False
    world.driver.release()
    again = world.start(world.call.answer())
    world.deliver_all()
    again.result()
    assert world.call.state is CallState.ACTIVE
    assert len(world.driver.streams) == 1


def test_the_engine_refusing_a_stream_leaves_the_call_to_be_rejected(world):
    world.they_call()
    world.deliver_all()
    world.driver.refusing = OpenStream
    assert isinstance(error_of(world.start(world.call.answer())), MediaError)
    world.start(world.call.reject(503)).result()
    world.deliver_all()
    assert world.told(InviteFailed).status == 503
    assert_over(world)


def test_a_codec_that_the_engine_cannot_do_refuses_the_call_with_488(world):
    world.they_call()
    world.deliver_all()
    world.driver.refusing = ConnectStream
    error = error_of(world.start(world.call.answer()))
    assert isinstance(error, CallError)
    assert error.status == 488
    world.deliver_all()
    assert world.told(InviteFailed).status == 488
    assert world.call.ended == CallEnded(EndedBy.LOCAL, "refused as told", 488)
    assert_over(world)


def test_an_agreement_that_the_engine_cannot_do_ends_the_call_with_its_reason(world):
    call = world.up()
    stream = call._session.media.stream
    world.inside(lambda: world.manager.on_engine(StreamRefused(stream, "opus cannot be sent")))
    world.deliver_all()
    ended = world.told(DialogEnded)
    assert Reason.of(ended.request.headers) == [
        Reason("SIP", 488, "what was agreed on cannot be done: opus cannot be sent")
    ]
    assert (call.ended.by, call.ended.status) == (EndedBy.FAILURE, 488)
    assert_over(world)


def test_an_answer_without_a_codec_of_ours_is_hung_up_on_with_its_reason(world):
    world.dial()
    world.deliver_all()
    world.they_respond(200, sdp(formats="18"))
    world.deliver_all()
    (reason,) = Reason.of(world.told(DialogEnded).request.headers)
    assert (reason.protocol, reason.cause) == ("SIP", 488)
    assert_over(world)


def test_a_cancel_that_crosses_our_200_does_not_end_the_call(world):
    invite = world.they_call()
    world.deliver_all()
    answering = world.start(world.call.answer())
    world.their(world.their_agent.cancel, invite)
    while "CANCEL" in on_the_wire(world):  # it overtakes
        world.deliver(on_the_wire(world).index("CANCEL"))
    world.deliver_all()  # the caller acknowledges the 200 and hangs up (RFC 3261 section 9.1)
    world.live(5.0)
    answering.cancel()
    assert_over(world)
    assert world.call.ended.by is EndedBy.REMOTE


def test_a_caller_that_hangs_up_instead_of_acknowledging_fails_the_answer(world):
    world.they_call()
    world.deliver_all()
    answering = world.start(world.call.answer())
    while 200 in on_the_wire(world) or 100 in on_the_wire(world):
        world.deliver()
    assert on_the_wire(world) == ["ACK"]
    world.wire.clear()
    world.their(world.their_agent.bye, world.our_dialog())
    world.deliver_all()
    assert "hung up" in str(error_of(answering))
    assert_over(world)


def test_an_ack_that_never_comes_fails_the_answer(world):
    world.they_call()
    world.deliver_all()
    answering = world.start(world.call.answer())
    world.wire.clear()
    world.pass_time(33.0)
    assert "ACK never came" in str(error_of(answering))
    assert world.call.ended == CallEnded(EndedBy.FAILURE, "the ACK never came", 408)
    assert_over(world)


@pytest.mark.parametrize("answer", [b"", GARBAGE, sdp(0)])
def test_an_ack_without_an_answer_to_our_offer_ends_the_call(world, answer):
    world.they_call(b"")
    world.deliver_all()
    answering = world.start(world.call.answer())
    world.deliver_all()
    dialog = world.told(Answered).dialog
    world.their(world.their_agent.ack, dialog, body=answer, content_type=SDP if answer else None)
    world.deliver_all()
    world.live(1.0)
    error = error_of(answering)
    assert isinstance(error, CallError)
    assert error.status == 488
    assert_over(world)
    assert world.told(DialogEnded).by_remote


def test_a_reinvite_that_overtakes_the_ack_is_not_told_before_the_answer(world):
    world.they_call()
    world.deliver_all()
    answering = world.start(world.call.answer())
    while "ACK" not in on_the_wire(world):
        world.deliver()
    acks = list(world.wire)
    world.wire.clear()
    world.their(
        world.their_agent.reinvite,
        world.our_dialog(),
        body=sdp(version=2, direction="sendonly"),
        content_type=SDP,
    )
    world.deliver()
    world.wire = acks + world.wire
    world.deliver_all()
    answering.result()
    assert world.names() == ["Answered", "HeldByRemote"]
    assert world.call.state is CallState.HELD


def test_progress_twice_and_then_an_answer(world):
    world.they_call()
    world.deliver_all()
    for _ in range(2):
        world.start(world.call.progress()).result()
    world.start(world.call.ring()).result()
    assert world.call.state is CallState.EARLY
    answering = world.start(world.call.answer())
    world.deliver_all()
    answering.result()
    assert world.call.state is CallState.ACTIVE


def test_a_reason_that_makes_no_message_is_refused_and_the_call_still_rings(world):
    world.they_call()
    world.deliver_all()
    assert isinstance(
        error_of(world.start(world.call.reject(486, "busy\r\nX-Evil: yes"))), VoipError
    )
    assert isinstance(error_of(world.start(world.call.reject(200))), CallStateError)
    answering = world.start(world.call.answer())
    world.deliver_all()
    answering.result()
