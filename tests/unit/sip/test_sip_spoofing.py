"""Requests that nearly belong to a call: without all of its identifiers they change nothing."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from hypotheses import examples
from hypothesis import given
from hypothesis import strategies as st
from virtual_sip import CONFIG, Net, Stranger, established, request_text

from voip.sip.dialog import Dialog, DialogState
from voip.sip.events import IncomingInvite
from voip.sip.flow import Flow
from voip.sip.message import Response
from voip.types import Address

EVENTFUL = replace(
    CONFIG,
    allow=(*CONFIG.allow, "SUBSCRIBE", "NOTIFY", "REFER", "INFO", "MESSAGE"),
    events=("dialog",),
    supported=(*CONFIG.supported, "replaces"),
)
METHODS = ("BYE", "INVITE", "UPDATE", "PRACK", "NOTIFY", "INFO", "REFER", "OPTIONS", "ACK")
HEADERS = {
    "PRACK": "RAck: 1 1 INVITE\r\n",
    "NOTIFY": "Event: dialog\r\nSubscription-State: active\r\n",
    "REFER": "Refer-To: <sip:mallory@192.0.2.66>\r\n",
}
PARTS = ("call_id", "to_tag", "from_tag")
THERE = {"right": "192.0.2.9", "wrong": "192.0.2.66"}


@cache  # to make a strategy costs more than to draw from it
def near_misses(text: str) -> st.SearchStrategy[str]:
    """Texts that differ a little: a letter, the case, the end, the beginning."""
    letters = st.sampled_from("abcxyz019")
    changed = st.tuples(st.integers(0, max(0, len(text) - 1)), letters).map(
        lambda change: text[: change[0]] + change[1] + text[change[0] + 1 :]
    )
    fixed = (text.swapcase(), text[:-1], text[1:], text + "0", "0" + text, text[::-1], "")
    return st.one_of(st.sampled_from(fixed), changed, st.text("abc019", min_size=1)).filter(
        lambda other: other != text
    )


def state_of(dialog: Dialog) -> tuple[Any, ...]:
    return (
        dialog.state,
        dialog.remote_cseq,
        dialog.local_cseq,
        dialog.remote_target,
        dialog.route_set,
        dialog.flow,
        dialog.allowed,
    )


@examples(300)
@given(data=st.data())
def test_near_misses_of_a_calls_identifiers_change_nothing(data: st.DataObject) -> None:
    net = Net()
    caller, callee = net.phone("192.0.2.9", EVENTFUL), net.phone("192.0.2.1", EVENTFUL)
    ours, theirs = established(net, caller, callee)
    right = {
        "call_id": theirs.call_id,
        "to_tag": theirs.local.tag or "",
        "from_tag": theirs.remote.tag or "",
    }
    wrong = data.draw(st.sets(st.sampled_from(PARTS), min_size=1), label="which are wrong")
    names = right | {
        part: data.draw(near_misses(right[part]), label=part) for part in sorted(wrong)
    }
    if not names["call_id"]:
        names["call_id"] = "x"
    method = data.draw(st.sampled_from(METHODS), label="method")
    host = THERE[data.draw(st.sampled_from(sorted(THERE)), label="address")]
    text = request_text(
        method,
        **names,
        cseq=f"{data.draw(st.integers(1, 99), label='CSeq')} {method}",
        more=HEADERS.get(method, ""),
    )
    before, timers = (state_of(ours), state_of(theirs)), callee.agent.timers
    flow = Flow("udp", callee.address, Address(host, 5060))
    callee.agent.receive(text.encode(), flow, net.now)
    heard = [message for message, _ in callee.agent.outgoing()]
    told = callee.agent.events()
    assert (state_of(ours), state_of(theirs)) == before
    # a new call or request outside of calls may have begun: then it has no tag of ours
    if names["to_tag"]:
        assert told == []
        assert all(one.startswith((b"SIP/2.0 481", b"SIP/2.0 400")) for one in heard), heard
    assert all(getattr(event, "dialog", None) is not theirs for event in told)
    assert timers <= callee.agent.timers
    callee.agent.bye(theirs, now=net.now)  # and the call is as good as it was
    net.run(1.0)
    assert ours.state is theirs.state is DialogState.TERMINATED


def ringing(config: Any = EVENTFUL) -> tuple[Stranger, Any]:
    stranger = Stranger(config)
    stranger.tell(request_text("INVITE", body="x", branch="z9hG4bKright"))
    [event] = stranger.agent.events()
    assert isinstance(event, IncomingInvite)
    return stranger, event.invite


@examples(200)
@given(data=st.data())
def test_a_cancel_that_is_not_quite_the_invites_cancels_nothing(data: st.DataObject) -> None:
    stranger, invite = ringing()
    right = {"branch": "z9hG4bKright", "call_id": "call@192.0.2.9", "from_tag": "theirs"}
    wrong = data.draw(st.sets(st.sampled_from(sorted(right)), min_size=1), label="wrong")
    names = right | {p: data.draw(near_misses(right[p]), label=p) for p in sorted(wrong)}
    if not names["call_id"]:
        names["call_id"] = "x"
    host = THERE[data.draw(st.sampled_from(sorted(THERE)), label="address")]
    flow = Flow("udp", Address("192.0.2.1", 5060), Address(host, 5060))
    heard = stranger.tell(request_text("CANCEL", **names), flow)
    assert all(isinstance(one, Response) and one.status in (400, 481) for one in heard)
    assert invite.waiting
    assert stranger.agent.events() == []
    assert [r.status for r in stranger.tell(request_text("CANCEL", **right))] == [200, 487]  # type: ignore[union-attr]


def test_responses_from_nowhere_change_nothing() -> None:
    net = Net()
    caller, callee = net.phone("192.0.2.9"), net.phone("192.0.2.1")
    caller.call(callee)
    net.flush()
    [(_, request, _)] = net.wire
    spoofed = (
        f"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bKguess\r\n"
        f"From: {request.headers.get('From')}\r\nTo: <sip:phone@192.0.2.1>;tag=evil\r\n"
        f"Call-ID: {request.call_id}\r\nCSeq: 1 INVITE\r\n"
        f"Contact: <sip:evil@192.0.2.66>\r\nContent-Length: 0\r\n\r\n"
    )
    flow = Flow("udp", caller.address, Address("192.0.2.66", 5060))
    caller.agent.receive(spoofed.encode(), flow, net.now)
    assert caller.agent.counters.stray_responses == 1
    assert caller.agent.events() == [] and caller.agent.outgoing() == []
    net.run(0.1)
    callee.answer(callee.only(IncomingInvite).invite)
    net.run(1.0)
    assert "Answered" in caller.kinds()


# Where a request came from is what the network says, whatever its Via says.


@pytest.mark.parametrize("port", ["", ":5060", ":7777"])
def test_a_via_that_names_another_source_is_corrected(port: str) -> None:
    stranger = Stranger()
    via = f"SIP/2.0/UDP 192.0.2.9{port};branch=z9hG4bKx;received=10.0.0.1"
    [(response, flow)] = _heard(stranger, request_text("OPTIONS", via=via))
    assert response.via.received == "192.0.2.9"
    assert flow.remote.host == "192.0.2.9"


def _heard(stranger: Stranger, text: str) -> list[tuple[Any, Flow]]:
    stranger.agent.receive(text.encode(), stranger.flow, stranger.now)
    return stranger.heard_with_flows()


# Hops and loops at who is asked last.


@pytest.mark.parametrize("method", ["INVITE", "OPTIONS", "BYE", "MESSAGE"])
def test_who_is_meant_answers_though_no_hop_is_left(method: str) -> None:
    """Max-Forwards limits who forwards (RFC 3261 section 16.3), and nobody else."""
    stranger = Stranger(EVENTFUL)
    text = request_text(method, body="x" if method == "INVITE" else "")
    answers = stranger.tell(text.replace("Max-Forwards: 70", "Max-Forwards: 0"))
    statuses = [one.status for one in answers if isinstance(one, Response)]
    assert 483 not in statuses
    expected = {"OPTIONS": [200], "BYE": [481]}
    assert statuses == expected.get(method, [])
    assert len(stranger.agent.events()) == (method in ("INVITE", "MESSAGE"))


@pytest.mark.parametrize("text", ["-1", "7x", "", "1 2"])
def test_hops_that_are_no_number_are_refused(text: str) -> None:
    stranger = Stranger()
    [answer] = stranger.tell(
        request_text("OPTIONS").replace("Max-Forwards: 70", f"Max-Forwards: {text}")
    )
    assert isinstance(answer, Response)
    assert answer.status == 400


def test_a_request_that_comes_back_by_another_way_is_told_so_and_the_call_goes_on() -> None:
    """Merged (section 8.2.2.2): the same request by two branches, as a fork or a loop makes it."""
    stranger, invite = ringing()
    for number in range(3):
        again = request_text("INVITE", body="x", branch=f"z9hG4bKother{number}")
        [answer] = stranger.tell(again)
        assert isinstance(answer, Response) and answer.status == 482
    assert stranger.agent.events() == []
    assert invite.waiting


def test_a_request_that_spirals_is_another_one_and_may() -> None:
    """With another Request-URI and sequence number it is no loop."""
    stranger, invite = ringing()
    stranger.tell(
        request_text("INVITE", body="x", branch="z9hG4bKb", uri="sip:b@192.0.2.1", cseq="2 INVITE")
    )
    assert len(stranger.agent.events()) == 1
    assert invite.waiting
