"""Answered requests are remembered for 64*T1, and cost the garbage collector nothing."""

from __future__ import annotations

import gc
from dataclasses import replace

import pytest
from virtual_sip import ANSWER, CONFIG, SDP, Stranger, request_text

from voip.sip.completed import Completed
from voip.sip.events import DialogEnded, IncomingInvite
from voip.sip.flow import Flow
from voip.sip.message import Request, Response
from voip.sip.timers import Timers
from voip.types import Address

pytestmark = pytest.mark.rfc("3261", "17.2")

HERE = Flow("udp", Address("192.0.2.1", 5060), Address("192.0.2.9", 5060))


def only(messages: list[Request | Response]) -> Response:
    (message,) = messages
    assert isinstance(message, Response)
    return message


def called(stranger: Stranger) -> IncomingInvite:
    stranger.tell(request_text("INVITE", body="v=0"))
    (event,) = (e for e in stranger.agent.events() if isinstance(e, IncomingInvite))
    return event


def answered(stranger: Stranger) -> str:
    """Answer a call; return our tag. The ACK has come."""
    invite = called(stranger).invite
    stranger.agent.respond(
        invite,
        200,
        contact="<sip:phone@192.0.2.1>",
        body=ANSWER,
        content_type=SDP,
        now=stranger.now,
    )
    tag = only(stranger.heard()).to.tag
    assert tag is not None
    ack = request_text("ACK", branch="z9hG4bKack", to_tag=tag, cseq="1 ACK")
    assert stranger.tell(ack) == []
    return tag


def test_a_bye_that_comes_again_has_the_same_answer_for_as_long_as_it_may() -> None:
    stranger = Stranger()
    bye = request_text("BYE", branch="z9hG4bKbye", to_tag=answered(stranger), cseq="2 BYE")
    first = only(stranger.tell(bye))
    assert first.status == 200
    stranger.wait(31.9)
    assert stranger.agent.events()
    again = only(stranger.tell(bye))
    assert again.to_bytes() == first.to_bytes()
    assert not [e for e in stranger.agent.events() if isinstance(e, DialogEnded)]
    stranger.wait(0.2)
    assert only(stranger.tell(bye)).status == 481


def test_an_invite_that_comes_again_after_its_ack_is_passed_over() -> None:
    stranger = Stranger()
    tag = answered(stranger)
    stranger.wait(20)
    assert stranger.tell(request_text("INVITE", body="v=0")) == []
    assert stranger.tell(request_text("ACK", to_tag=tag)) == []
    assert not [e for e in stranger.agent.events() if isinstance(e, IncomingInvite)]
    assert only(stranger.tell(request_text("CANCEL"))).status == 200  # and ends nothing
    assert len(stranger.agent.dialogs) == 1
    other_way = request_text("INVITE", branch="z9hG4bKother", body="v=0")
    assert only(stranger.tell(other_way)).status == 482
    stranger.wait(12.1)
    assert stranger.agent.transactions == 0


def test_a_refused_invite_is_passed_over_until_timer_i() -> None:
    stranger = Stranger()
    invite = called(stranger).invite
    stranger.agent.respond(invite, 486, now=stranger.now)
    refusal = only(stranger.heard())
    assert only(stranger.tell(request_text("INVITE", body="v=0"))).status == 486  # no ACK yet
    assert refusal.to.tag is not None
    assert stranger.tell(request_text("ACK", to_tag=refusal.to.tag)) == []
    assert stranger.wait(4.9) == []
    assert stranger.tell(request_text("INVITE", body="v=0")) == []
    stranger.wait(0.2)
    assert stranger.empty()


def test_those_that_are_answered_have_a_limit_of_their_own() -> None:
    stranger = Stranger(replace(CONFIG, max_server_transactions=2, max_completed_transactions=3))
    for number in range(3):
        branch, call_id = f"z9hG4bK{number}", f"call{number}"
        stranger.tell(request_text("INVITE", branch=branch, call_id=call_id))
        (event,) = (e for e in stranger.agent.events() if isinstance(e, IncomingInvite))
        stranger.agent.respond(event.invite, 486, now=stranger.now)
        tag = only(stranger.heard()).to.tag or ""
        stranger.tell(request_text("ACK", branch=branch, call_id=call_id, to_tag=tag))
    assert stranger.agent.transactions == 3
    assert only(stranger.tell(request_text("INVITE", call_id="more"))).status == 503
    stranger.wait(5.1)
    assert stranger.tell(request_text("INVITE", call_id="more")) == []


def test_each_ends_at_its_own_time_whatever_the_order_they_came_in() -> None:
    timers = Timers()
    ended: list[tuple[object, object]] = []
    completed = Completed(timers, lambda data, flow: None, lambda *names: ended.append(names))
    for key, until in (("c", 32.0), ("a", 5.0), ("b", 31.0)):
        completed.add((key,), ("origin of", key), b"", HERE, until)
    assert len(timers) == 1
    timers.run(4.9)
    assert len(completed) == 3 and not ended
    timers.run(31.5)
    assert ended == [(("a",), ("origin of", "a")), (("b",), ("origin of", "b"))]
    assert completed.get(("b",)) is None and completed.get(("c",)) is not None
    timers.run(timers.next() or 0.0)
    assert len(completed) == len(timers) == 0


@pytest.mark.parametrize(
    "flow",
    [
        HERE,
        Flow("wss", Address("192.0.2.1", 443), HERE.remote, "pbx.example", "abc.invalid"),
    ],
)
def test_what_is_repeated_goes_the_way_the_answer_went(flow: Flow) -> None:
    sent: list[tuple[bytes, Flow]] = []
    completed = Completed(
        Timers(), lambda data, way: sent.append((data, way)), lambda key, origin: None
    )
    completed.add(("key",), ("origin",), b"SIP/2.0 200 OK", flow, 32.0)
    found = completed.get(("key",))
    assert found is not None and found.origin == ("origin",)
    found.repeated(1.0)
    assert sent == [(b"SIP/2.0 200 OK", flow)]


def test_the_garbage_collector_passes_over_thousands_of_them() -> None:
    completed = Completed(Timers(), lambda data, flow: None, lambda key, origin: None)
    gc.collect()
    before = len(gc.get_objects())
    for number in range(5000):
        key = (f"z9hG4bK{number}", "192.0.2.9", 5060, "BYE")
        origin = (f"{number}@192.0.2.9", "theirs", 2, "BYE")
        completed.add(key, origin, b"SIP/2.0 200 OK", HERE, 32.0 + number)
    gc.collect()
    assert len(completed) == 5000
    assert len(gc.get_objects()) - before < 500  # it lets go of a tuple some time after its parts
