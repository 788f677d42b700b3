"""One call in virtual time: its states, how it ends, and what is told of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from session_world import OURS, THEIRS, assert_over, error_of

from voip.errors import CallError, CallStateError, ConfigError
from voip.events import CallbackFailed, CallEnded, CallState, DtmfReceived
from voip.session.states import TRANSITIONS, allowed
from voip.sip.events import IncomingInvite
from voip.sip.flow import Flow
from voip.sip.message import Response, make_response

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
