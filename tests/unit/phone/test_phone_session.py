"""One call in virtual time: every race between what we want and what the network brings."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from session_world import CONTACTS, GARBAGE, OURS, SDP, THEIRS, World, sdp

from voip.errors import CallError, CallStateError, ConfigError, MediaError, NoAnswerError, VoipError
from voip.events import CallbackFailed, CallEnded, CallState, DtmfReceived, EndedBy
from voip.media.commands import ConnectStream, OpenStream, StreamRefused
from voip.session.states import TRANSITIONS, allowed
from voip.sip.dialog import DialogState
from voip.sip.events import (
    Answered,
    DialogEnded,
    IncomingInvite,
    InviteFailed,
    ReinviteDone,
    ReinviteReceived,
)
from voip.sip.flow import Flow
from voip.sip.message import Request, Response, make_response, parse_message
from voip.sip.reason import Reason


def error_of(task: asyncio.Task[Any]) -> BaseException:
    assert task.done(), "it never came back"
    error = task.exception()
    assert error is not None
    return error


def on_the_wire(world: World) -> list[str | int]:
    messages = [parse_message(data) for data, _ in world.wire]
    return [m.method if isinstance(m, Request) else m.status for m in messages]


def respond_as(world: World, tag: str, status: int, body: bytes = b"", **headers: str) -> None:
    """Answer our INVITE as one of several callees behind a proxy."""
    invite = world.call._session.invite_request
    response = make_response(
        invite,
        status,
        to_tag=tag,
        headers=[("Contact", CONTACTS[THEIRS]), *headers.items()],
        body=body,
        content_type=None if headers.get("Content-Type") else (SDP if body else None),
    )
    world.arrive(response.to_bytes(), Flow("udp", THEIRS, OURS))


def assert_over(world: World) -> None:
    """The call has ended once, and nothing of it is left."""
    assert world.call.state is CallState.ENDED
    assert world.names().count("CallEnded") == 1
    assert world.names()[-1] == "CallEnded"
    assert [type(event).__name__ for event in world.call._events] == world.names()
    assert world.driver.streams == set()
    assert world.stack.sessions == {}
    assert len(world.manager) <= 1  # who made it forgets it


# ---------------------------------------------------------------- the table


def test_a_call_moves_forward_and_its_end_is_for_ever():
    assert TRANSITIONS[CallState.ENDED] == frozenset()
    order = list(CallState)
    for before, after in [(b, a) for b in order for a in order if allowed(b, a)]:
        back_and_forth = {before, after} == {CallState.ACTIVE, CallState.HELD}
        assert back_and_forth or order.index(before) < order.index(after)
    assert all(allowed(state, CallState.ENDED) for state in order[:-1])


def test_a_step_that_is_not_in_the_table_is_an_error_and_changes_nothing(world):
    call = world.up()
    with pytest.raises(CallStateError, match="cannot go from active to ringing"):
        call._session.move(CallState.RINGING)
    assert call.state is CallState.ACTIVE


# ---------------------------------------------------------------- answering


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


# ---------------------------------------------------------------- calling


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


# ---------------------------------------------------------------- hold and resume


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


# ---------------------------------------------------------------- ending


def test_hanging_up_together_ends_once(world):
    call = world.up()
    hanging_up = [world.start(call.hangup()) for _ in range(3)]
    world.their(world.their_agent.bye, world.our_dialog())
    world.deliver_all()
    world.live(5.0)
    for task in hanging_up:
        task.result()
    assert_over(world)


def test_a_peer_that_does_not_answer_our_bye_is_waited_for_a_little(world):
    call = world.up(outgoing=False)
    hanging_up = world.start(call.hangup())
    world.wire.clear()
    world.pass_time(3.9)
    assert not hanging_up.done()
    world.pass_time(0.2)
    hanging_up.result()
    assert_over(world)


@pytest.mark.parametrize("outgoing", [True, False])
def test_nothing_can_be_done_with_a_call_that_is_over(world, outgoing):
    call = world.up(outgoing=outgoing)
    world.their(world.their_agent.bye, world.our_dialog())
    world.deliver_all()
    for work in (
        call.hold, call.resume, call.ring, call.progress, call.answer, call.reject, call.mute,
        call.unmute, call.echo, lambda: call.send_dtmf("1"), lambda: call.play("x.wav"),
        lambda: call.record("x.wav").start(), lambda: call.audio().__aenter__(),
    ):  # fmt: skip
        assert isinstance(error_of(world.start(work())), CallError), work
    for work in (call.hangup, call.measure, call.wait_ended, lambda: call.collect(1)):
        world.start(work()).result()
    assert world.start(call.audio().read(1.0)).result().size == 0
    assert_over(world)


# ---------------------------------------------------------------- events and callbacks


def test_events_are_told_in_order_even_where_a_callback_fails(world):
    seen: list[str] = []
    world.dial()

    @world.call.on_event
    def broken(event: object) -> None:
        if not isinstance(event, CallbackFailed):
            raise ValueError("oops")

    world.call.on_event(lambda event: seen.append(type(event).__name__))
    world.deliver_all()
    world.they_respond(180)
    world.deliver_all()
    assert seen == ["Ringing", "CallbackFailed"]


def test_a_callback_may_take_its_time_after_the_call(world):
    call = world.up()
    done: list[str] = []

    @call.on_ended
    async def write_it_down(event: CallEnded) -> None:
        await call.wait_ended()
        await call.hangup()
        await asyncio.sleep(2.0)
        done.append(event.reason)

    world.their(world.their_agent.bye, world.our_dialog())
    world.deliver_all()
    world.pass_time(3.0)
    assert done == ["hung up by the other side"]


def test_a_callback_that_fails_on_the_end_is_told_to_the_phone(world):
    call = world.up()

    @call.on_ended
    def broken(event: CallEnded) -> None:
        raise ValueError("oops")

    @call.on_ended
    async def broken_later(event: CallEnded) -> None:
        raise ValueError("oops again")

    world.their(world.their_agent.bye, world.our_dialog())
    world.deliver_all()
    assert [str(event.error) for event in world.reports] == ["oops", "oops again"]
    assert_over(world)


def test_who_listens_late_or_again_hears_all_and_stops_at_the_end(world):
    call = world.up()

    async def heard() -> list[str]:
        return [type(event).__name__ async for event in call.events()]

    early = world.start(heard())
    world.their(world.their_agent.bye, world.our_dialog())
    world.deliver_all()
    assert early.result() == world.start(heard()).result() == ["Answered", "CallEnded"]


def test_a_listener_that_is_too_slow_loses_the_oldest_and_never_the_end(world):
    call = world.up()

    async def heard() -> list[Any]:
        return [event async for event in call.events()]

    for number in range(3000):
        call._emit(DtmfReceived(str(number % 10), 100.0))
    world.their(world.their_agent.bye, world.our_dialog())
    world.deliver_all()
    events = world.start(heard()).result()
    assert len(events) == 1024
    assert isinstance(events[-1], CallEnded)


def test_digits_end_with_the_call_and_are_not_lost(world):
    call = world.up()
    collecting = world.start(call.collect(4))
    for digit in "12":
        call._emit(DtmfReceived(digit, 100.0))
    world.settle()
    assert not collecting.done()
    world.their(world.their_agent.bye, world.our_dialog())
    world.deliver_all()
    assert collecting.result() == "12"


def test_sending_digits_ends_with_the_call(world):
    call = world.up()
    sending = world.start(call.send_dtmf("123"))
    world.their(world.their_agent.bye, world.our_dialog())
    world.deliver_all()
    assert isinstance(error_of(sending), CallStateError)


def test_the_last_digit_at_the_last_moment_is_taken_as_any_other(world):
    call = world.up()
    collecting = world.start(call.collect(2, timeout=1.0))

    def press() -> None:
        for digit in "1#4":
            call._emit(DtmfReceived(digit, 100.0))

    world.loop.call_at(1.0, press)
    world.pass_time(1.5)
    assert collecting.result() == "1"
    assert world.start(call.collect(1)).result() == "4"


@pytest.mark.parametrize("count", [0, -1])
def test_a_number_of_digits_that_makes_no_sense_is_refused(world, count):
    assert isinstance(error_of(world.start(world.up().collect(count))), ConfigError)


def test_responses_to_nothing_change_nothing(world):
    call = world.up()
    invite = call._session.invite_request
    for tag, status in (("z", 180), ("z", 486), ("y", 199)):
        response: Response = make_response(invite, status, to_tag=tag)
        world.arrive(response.to_bytes(), Flow("udp", THEIRS, OURS))
    assert call.state is CallState.ACTIVE
    assert world.names() == ["Answered"]
    assert world.told(IncomingInvite)
