"""Offers, answers, forks and redirections as a call meets them: real SIP, an engine that counts."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from session_world import CONTACTS, GARBAGE, OURS, SDP, THEIRS, World, sdp

from voip.errors import CallError, CallStateError, ConfigError
from voip.events import CallState, EndedBy
from voip.sip.events import (
    Acknowledged,
    Answered,
    IncomingInvite,
    InviteFailed,
    PrackReceived,
    Provisional,
    ReinviteDone,
    ReinviteReceived,
    RequestDone,
    UpdateDone,
    UpdateReceived,
)
from voip.sip.flow import Flow
from voip.sip.message import Request, Response, make_response, parse_message
from voip.types import Address


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.close()


def error_of(task: asyncio.Task[Any]) -> Any:
    assert task.done(), "it never came back"
    error = task.exception()
    assert error is not None
    return error


def ports(world: World) -> list[int]:
    """Where the sound goes."""
    return [c.rtp.port if c.rtp else 0 for c in world.driver.connected.values()]


def carried(world: World) -> list[str]:
    """What was delivered, by method or by status and method."""
    return [
        m.method if isinstance(m, Request) else f"{m.status} {m.cseq.method}"
        for m in world.carried
        if not (isinstance(m, Response) and m.status == 100)
    ]


def last(world: World, what: str) -> Request | Response:
    return [m for m, name in zip(_all(world), carried(world), strict=True) if name == what][-1]


def _all(world: World) -> list[Request | Response]:
    return [m for m in world.carried if not (isinstance(m, Response) and m.status == 100)]


def version(message: Request | Response) -> int:
    """The version in the o= line."""
    [line] = [x for x in message.body.decode().splitlines() if x.startswith("o=")]
    return int(line.split()[2])


def dialled(world: World, **more: Any) -> asyncio.Task[None]:
    world.dial(**more)
    waiting = world.start(world.call.wait_answered(30))
    world.deliver_all()
    return waiting


# ------------------------------------------------------------ offer and answer (RFC 6337, 2.2)


def test_F087_offer_in_the_invite_answer_in_the_200(world):
    waiting = dialled(world)
    world.they_respond(200, sdp(40000))
    world.deliver_all()
    waiting.result()
    assert carried(world) == ["INVITE", "200 INVITE", "ACK"]
    assert last(world, "INVITE").body
    assert not last(world, "ACK").body
    assert ports(world) == [40000]


def test_F087_the_callee_answers_the_offer_of_the_invite(world):
    world.they_call(sdp(41000))
    world.deliver_all()
    answering = world.start(world.call.answer())
    world.deliver_all()
    answering.result()
    assert last(world, "200 INVITE").body
    assert ports(world) == [41000]


def test_F088_offer_in_the_200_answer_in_the_ack(world):
    waiting = dialled(world, late_offer=True)
    assert not last(world, "INVITE").body
    world.they_respond(200, sdp(40000))
    world.deliver_all()
    waiting.result()
    assert b"m=audio" in last(world, "ACK").body
    assert b"m=audio" in world.told(Acknowledged).request.body
    assert ports(world) == [40000]


def test_F088_an_offer_in_a_200_that_cannot_be_used_ends_the_call(world):
    waiting = dialled(world, late_offer=True)
    world.they_respond(200, sdp(formats="18"))
    world.deliver_all()
    world.live(2.0)
    assert error_of(waiting).status == 488
    assert carried(world)[-3:] == ["ACK", "BYE", "200 BYE"]


def test_F088_the_callee_offers_in_its_200(world):
    world.they_call(b"")
    world.deliver_all()
    answering = world.start(world.call.answer())
    world.deliver()  # the 200
    assert b"m=audio" in last(world, "200 INVITE").body
    world.their(
        world.their_agent.ack, world.told(Answered).dialog, body=sdp(43000), content_type=SDP
    )
    world.deliver_all()
    answering.result()
    assert ports(world) == [43000]


def test_F089_answer_in_a_reliable_183(world):
    waiting = dialled(world)
    world.they_respond(183, sdp(40000))
    world.deliver_all()
    assert (world.call.state, ports(world)) == (CallState.EARLY, [40000])
    world.they_respond(200, sdp(49999))  # not asked any more: the answer has been given
    world.deliver_all()
    waiting.result()
    assert ports(world) == [40000]
    assert carried(world) == ["INVITE", "183 INVITE", "PRACK", "200 PRACK", "200 INVITE", "ACK"]


def test_F089_the_callee_answers_in_a_reliable_183(world):
    world.they_call(sdp(41000))
    world.deliver_all()
    world.start(world.call.progress()).result()
    answering = world.start(world.call.answer())  # it waits for the PRACK
    assert carried(world) == ["INVITE"]
    world.deliver()
    assert carried(world) == ["INVITE", "183 INVITE"]
    assert world.call.state is CallState.EARLY
    world.deliver_all()
    answering.result()
    assert world.told(Provisional).reliable
    assert not last(world, "200 INVITE").body
    assert ports(world) == [41000]


def test_F089_hanging_up_while_the_200_waits_for_the_prack_refuses_the_call(world):
    world.they_call(sdp(41000))
    world.deliver_all()
    world.start(world.call.progress()).result()
    answering = world.start(world.call.answer())
    hanging_up = world.start(world.call.hangup())
    world.deliver_all()
    hanging_up.result()
    assert isinstance(error_of(answering), CallError)
    assert world.told(InviteFailed).status == 603
    assert world.call.ended.by is EndedBy.LOCAL
    assert world.stack.sessions == {}


def test_F085_a_caller_that_never_acknowledges_our_ringing_is_refused_with_504(world):
    world.they_call(sdp(41000))
    world.deliver_all()
    world.start(world.call.progress()).result()
    answering = world.start(world.call.answer())
    world.wire.clear()  # the caller is gone
    for _ in range(50):
        world.pass_time(1.0)
        world.wire.clear()
    assert error_of(answering).status == 504
    assert (world.call.ended.by, world.call.ended.status) == (EndedBy.FAILURE, 504)
    assert world.stack.sessions == {}


def test_F090_offer_in_a_reliable_183_answer_in_the_prack(world):
    waiting = dialled(world, late_offer=True)
    world.they_respond(183, sdp(40000))
    world.deliver_all()
    assert b"m=audio" in world.told(PrackReceived).request.body
    assert (world.call.state, ports(world)) == (CallState.EARLY, [40000])
    world.they_respond(200)
    world.deliver_all()
    waiting.result()
    assert not last(world, "ACK").body


def test_F090_an_offer_in_a_reliable_183_that_cannot_be_used_ends_the_call(world):
    waiting = dialled(world, late_offer=True)
    world.they_respond(183, sdp(formats="18"))
    world.deliver_all()
    assert error_of(waiting).status == 488
    assert "CANCEL" in carried(world)


def test_F090_the_callee_offers_in_a_reliable_183(world):
    world.they_call(b"", prack_by_hand=True)
    world.deliver_all()
    world.start(world.call.progress()).result()
    world.deliver()
    early = world.told(Provisional)
    assert early.prack_owed
    assert b"m=audio" in early.response.body
    assert not world.call._session.early_media
    world.their(world.their_agent.prack, early.dialog, body=sdp(43000), content_type=SDP)
    world.deliver_all()
    assert (world.call.state, ports(world)) == (CallState.EARLY, [43000])
    answering = world.start(world.call.answer())
    world.deliver_all()
    answering.result()
    assert not last(world, "200 INVITE").body


@pytest.mark.parametrize("answer", [GARBAGE, sdp(0), sdp(formats="18")])
def test_F090_an_answer_in_a_prack_that_cannot_be_used_refuses_the_call(world, answer):
    world.they_call(b"")
    world.deliver_all()
    world.start(world.call.progress()).result()
    world.deliver()
    early = world.told(Provisional)
    world.their(world.their_agent.prack, early.dialog, body=answer, content_type=SDP)
    world.deliver_all()
    assert world.told(InviteFailed).status in (400, 488)
    assert world.call.state is CallState.ENDED


def test_F090_ringing_that_is_demanded_reliable_brings_the_offer(world):
    world.they_call(b"", headers=[("Require", "100rel")])
    world.deliver_all()
    world.start(world.call.ring()).result()
    world.deliver()
    early = world.told(Provisional)
    assert (early.response.status, early.prack_owed) == (180, True)
    world.their(world.their_agent.prack, early.dialog, body=sdp(43000), content_type=SDP)
    world.deliver_all()
    answering = world.start(world.call.answer())
    world.deliver_all()
    answering.result()
    assert ports(world) == [43000]


def test_F090_without_reliable_responses_there_is_no_early_offer(world):
    world.their_agent._core.config = type(world.their_agent.config)(supported=())
    world.their_agent._core._supported = ("Supported", "")
    world.they_call(b"")
    world.deliver_all()
    assert isinstance(error_of(world.start(world.call.progress())), CallStateError)


def test_F091_an_offer_in_a_prack_is_answered_in_its_200(world):
    world.they_call(sdp(41000), prack_by_hand=True)
    world.deliver_all()
    world.start(world.call.progress()).result()
    world.deliver()
    early = world.told(Provisional)
    assert early.prack_owed
    offer = sdp(45000, version=2)
    world.their(world.their_agent.prack, early.dialog, body=offer, content_type=SDP)
    world.deliver_all()
    assert b"m=audio" in world.told(RequestDone).response.body
    assert ports(world) == [45000]
    answering = world.start(world.call.answer())
    world.deliver_all()
    answering.result()
    assert ports(world) == [45000]


def test_F091_an_offer_in_a_prack_that_cannot_be_used_ends_the_invite(world):
    world.they_call(sdp(41000), prack_by_hand=True)
    world.deliver_all()
    world.start(world.call.progress()).result()
    world.deliver()
    early = world.told(Provisional)
    offer = sdp(45000, version=2, formats="18")
    world.their(world.their_agent.prack, early.dialog, body=offer, content_type=SDP)
    world.deliver_all()
    assert world.told(RequestDone).response.status == 200
    assert world.told(InviteFailed).status == 488
    assert world.call.state is CallState.ENDED


@pytest.mark.parametrize("outgoing", [True, False], ids=["our call", "their call"])
def test_F092_offer_in_an_update_answer_in_its_200(world, outgoing):
    world.up(outgoing=outgoing)
    dialog = world.our_dialog()
    offer = sdp(46000, version=2)
    world.their(world.their_agent.update, dialog, body=offer, content_type=SDP)
    world.deliver_all()
    done = world.told(UpdateDone)
    assert (done.status, b"m=audio" in done.response.body) == (200, True)
    assert ports(world) == [46000]


def test_F092_an_update_that_cannot_be_used_is_refused_and_the_call_goes_on(world):
    call = world.up()
    before = ports(world)
    offer = sdp(46000, version=2, formats="18")
    world.their(world.their_agent.update, world.our_dialog(), body=offer, content_type=SDP)
    world.deliver_all()
    done = world.told(UpdateDone)
    assert (done.status, "Warning" in done.response.headers) == (488, True)
    assert (call.state, ports(world)) == (CallState.ACTIVE, before)


def test_F086_the_callee_moves_its_early_sound_by_update(world):
    waiting = dialled(world)
    world.they_respond(183, sdp(40000))
    world.deliver_all()
    dialog = world.their_agent.dialogs[0]
    offer = sdp(47000, version=2)
    world.their(world.their_agent.update, dialog, body=offer, content_type=SDP)
    world.deliver_all()
    assert world.told(UpdateDone).status == 200
    assert ports(world) == [47000]
    world.they_respond(200)
    world.deliver_all()
    waiting.result()
    assert ports(world) == [47000]


@pytest.mark.parametrize("outgoing", [True, False], ids=["our call", "their call"])
def test_F086_hold_before_the_answer_goes_by_update(world, outgoing):
    if outgoing:
        world.dial()
        world.deliver_all()
        world.they_respond(183, sdp(40000))
    else:
        world.they_call(sdp(40000))
        world.deliver_all()
        world.start(world.call.progress()).result()
    world.deliver_all()
    holding = world.start(world.call.hold())
    world.deliver_all()
    asked = world.told(UpdateReceived)
    assert b"a=sendonly" in asked.request.request.body
    world.their(
        world.their_agent.reply, asked.request, 200,
        body=sdp(40000, version=2, direction="recvonly"), content_type=SDP,
    )  # fmt: skip
    world.deliver_all()
    holding.result()
    if outgoing:
        world.they_respond(200)
    else:
        world.start(world.call.answer())
    world.deliver_all()
    assert world.call.state is CallState.HELD


def test_F086_hold_before_anything_is_agreed_is_refused(world):
    world.dial()
    world.deliver_all()
    world.they_respond(183, sdp(40000), reliable=False)
    world.deliver_all()
    error = error_of(world.start(world.call.hold()))
    assert isinstance(error, CallStateError)


# ---------------------------------------------------------------- glare, hold, recovery


def test_F093_a_hold_that_crosses_an_update_is_tried_again(world):
    call = world.up()
    world.their(
        world.their_agent.update, world.our_dialog(), body=sdp(46000, version=2), content_type=SDP
    )
    holding = world.start(call.hold())
    world.deliver_all()
    assert "491 UPDATE" in carried(world)
    assert "491 INVITE" in carried(world)
    world.live(5.0)
    for _ in range(3):
        changes = [e for e in world.their_events if isinstance(e, ReinviteReceived)]
        if changes:
            answer = sdp(46000, version=3, direction="recvonly")
            world.they_respond(200, answer, changes[-1].invite)
            break
        world.live(2.0)
    world.live(5.0)
    holding.result()
    assert world.told(UpdateDone).status == 200
    assert call.state is CallState.HELD


HOLDS = {
    "sendonly": sdp(40000, version=2, direction="sendonly"),
    "inactive": sdp(40000, version=2, direction="inactive"),
    "c=0.0.0.0": sdp(40000, version=2).replace(b"c=IN IP4 192.0.2.2", b"c=IN IP4 0.0.0.0"),
}


@pytest.mark.parametrize("how", HOLDS)
@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
def test_F094_the_peer_holds_and_resumes(world, how, method):
    call = world.up()

    def change(body: bytes) -> bytes:
        act = world.their_agent.reinvite if method == "INVITE" else world.their_agent.update
        world.their(act, world.our_dialog(), body=body, content_type=SDP)
        world.deliver_all()
        done = world.told(ReinviteDone if method == "INVITE" else UpdateDone)
        assert done.status == 200
        assert done.response is not None
        return done.response.body

    held = change(HOLDS[how])
    expected = {"sendonly": b"a=recvonly", "inactive": b"a=inactive", "c=0.0.0.0": b"m=audio"}
    assert expected[how] in held
    assert call.state is CallState.HELD
    [connected] = world.driver.connected.values()
    assert not connected.send
    assert connected.receive == (how != "inactive")
    change(sdp(40000, version=3))
    assert call.state is CallState.ACTIVE
    assert world.names() == ["Answered", "HeldByRemote", "ResumedByRemote"]
    assert ports(world) == [40000]


def test_F094_we_hold_and_resume(world):
    call = world.up()
    for act, theirs, state in (
        (call.hold, "recvonly", CallState.HELD),
        (call.resume, "sendrecv", CallState.ACTIVE),
    ):
        changing = world.start(act())
        world.deliver_all()
        invite = world.told(ReinviteReceived).invite
        world.they_respond(200, sdp(40000, version=2, direction=theirs), invite)
        world.deliver_all()
        changing.result()
        assert call.state is state


@pytest.mark.parametrize("status", [488, 500, 603])
def test_F095_a_change_that_fails_leaves_the_session_as_it_was(world, status):
    """Direction, stream and version: what was offered is not counted as agreed, nor said again."""
    call = world.up()
    first = version(last(world, "INVITE"))
    agreed, connected = call._session.media.agreed, dict(world.driver.connected)
    holding = world.start(call.hold())
    world.deliver_all()
    refused = version(last(world, "INVITE"))
    world.they_respond(status, invite=world.told(ReinviteReceived).invite)
    world.deliver_all()
    assert error_of(holding).status == status
    assert call._session.media.agreed == agreed
    assert world.driver.connected == connected
    assert call.state is CallState.ACTIVE
    # What the peer asks for next is answered by the old session, under a number of its own.
    world.their(world.their_agent.reinvite, world.our_dialog(), body=sdp(40000), content_type=SDP)
    world.deliver_all()
    answer = last(world, "200 INVITE")
    assert b"a=sendonly" not in answer.body
    assert [refused, version(answer)] == [first + 1, first + 2]


def test_F095_a_change_that_fails_after_a_reliable_answer_leaves_the_session_as_it_was(world):
    call = world.up()
    before = ports(world)
    holding = world.start(call.hold())
    world.deliver_all()
    invite = world.told(ReinviteReceived).invite
    world.they_respond(183, sdp(48000, version=2, direction="recvonly"), invite)
    world.deliver_all()
    assert "PRACK" in carried(world)
    world.they_respond(488, invite=invite)
    world.deliver_all()
    assert error_of(holding).status == 488
    assert (call.state, ports(world)) == (CallState.ACTIVE, before)


def test_F089_a_change_that_is_answered_reliably_is_made_with_the_200(world):
    call = world.up()
    holding = world.start(call.hold())
    world.deliver_all()
    invite = world.told(ReinviteReceived).invite
    world.they_respond(183, sdp(48000, version=2, direction="recvonly"), invite)
    world.deliver_all()
    world.they_respond(200, invite=invite)
    world.deliver_all()
    holding.result()
    assert (call.state, ports(world)) == (CallState.HELD, [48000])


# ---------------------------------------------------------------- session timer


def test_F096_a_session_is_refreshed_by_a_reinvite_that_says_the_same(world):
    """The peer knows no UPDATE; the version of the offer stays, for nothing has changed."""
    from dataclasses import replace

    ours, theirs = world.our_agent._core, world.their_agent._core
    ours.config = replace(ours.config, session_expires=1800)
    allow = tuple(m for m in theirs.config.allow if m != "UPDATE")
    theirs.config = replace(theirs.config, allow=allow)
    theirs._allow = ("Allow", ", ".join(allow))
    call = world.up()
    first = version(last(world, "INVITE"))
    for number in range(3):
        world.live(905.0)
        invite = world.told(ReinviteReceived).invite
        world.they_respond(200, sdp(40000), invite)
        world.deliver_all()
        assert len([e for e in world.their_events if isinstance(e, ReinviteReceived)]) == number + 1
        assert version(invite.request) == first
    assert call.state is CallState.ACTIVE
    assert world.names() == ["Answered"]
    call_over = world.start(call.hangup())
    world.deliver_all()
    call_over.result()


def test_F096_a_session_that_the_peer_forgets_to_refresh_ends(world):
    from dataclasses import replace

    ours = world.our_agent._core
    ours.config = replace(ours.config, session_expires=1800, refresher="them")
    call = world.up()
    world.their_agent._core.usages[world.our_dialog().id].timer.stop()
    world.live(1800.0)
    assert (call.ended.by, call.ended.status) == (EndedBy.FAILURE, 408)
    assert "refreshed" in call.ended.reason


# ---------------------------------------------------------------- forking


def respond_as(world: World, tag: str, status: int, body: bytes = b"", **headers: str) -> None:
    """Answer our INVITE as one of several callees behind a proxy."""
    invite = world.call._session.invite_request
    lines = [("Contact", CONTACTS[THEIRS]), *headers.items()]
    response = make_response(
        invite, status, to_tag=tag, headers=lines, body=body, content_type=SDP if body else None
    )
    world.arrive(response.to_bytes(), Flow("udp", THEIRS, OURS))


RELIABLE = {"Require": "100rel", "RSeq": "1"}


def test_early_sound_follows_the_callee_that_described_itself_last(world):
    dialled(world)
    respond_as(world, "a", 183, sdp(40000), **RELIABLE)
    respond_as(world, "b", 183, sdp(42000, formats="8"), **RELIABLE)
    assert (ports(world), world.call.codec) == ([42000], "pcma")
    respond_as(world, "a", 183, sdp(40002), Require="100rel", RSeq="2")  # its answer is given
    assert ports(world) == [42000]


def test_the_callee_that_answers_wins_with_what_it_agreed_to_itself(world):
    waiting = dialled(world)
    respond_as(world, "a", 183, sdp(40000, formats="0"), **RELIABLE)
    respond_as(world, "b", 183, sdp(42000, formats="8"), **RELIABLE)
    respond_as(world, "a", 200)
    waiting.result()
    assert (ports(world), world.call.codec) == ([40000], "pcmu")
    # b answers too: it is acknowledged and hung up, and changes nothing.
    world.wire.clear()
    respond_as(world, "b", 200, sdp(42000))
    methods = [parse_message(data).method for data, _ in world.wire]
    assert methods == ["ACK", "BYE"]
    assert ports(world) == [40000]


def test_F118_a_199_ends_one_early_dialog_and_the_sound_of_another_is_heard(world):
    waiting = dialled(world)
    respond_as(world, "a", 183, sdp(40000), **RELIABLE)
    respond_as(world, "b", 183, sdp(42000), **RELIABLE)
    assert len(world.our_agent.dialogs) == 2
    respond_as(world, "b", 199)
    assert len(world.our_agent.dialogs) == 1
    assert ports(world) == [40000]
    respond_as(world, "z", 199)  # nobody has heard of that one
    assert not waiting.done()
    respond_as(world, "a", 199)
    assert ports(world) == [0]
    assert world.our_agent.dialogs == []
    assert not waiting.done()  # somebody else may still ring
    respond_as(world, "c", 200, sdp(44000))
    waiting.result()
    assert ports(world) == [44000]


def test_F118_we_say_that_we_know_199(world):
    dialled(world)
    assert "199" in last(world, "INVITE").headers.values("Supported")


def test_F119_ringing_is_ours_to_sound_until_the_callee_sounds(world):
    dialled(world)
    assert not world.call.rings_here
    world.they_respond(180)
    world.deliver_all()
    assert world.call.rings_here
    world.they_respond(183, sdp(40000))
    world.deliver_all()
    assert world.call.rings_here  # described, and silent so far
    from voip.media.commands import StreamStats

    stream = world.call._session.media.stream
    world.call._session.media._measured = StreamStats(stream, packets_received=1)
    assert not world.call.rings_here
    world.they_respond(200)
    world.deliver_all()
    assert not world.call.rings_here


def test_F119_a_callee_that_sounds_without_ringing_asks_for_no_tone(world):
    dialled(world)
    world.they_respond(183, sdp(40000))
    world.deliver_all()
    assert not world.call.rings_here


# ---------------------------------------------------------------- redirection


async def _same_way(uri: object) -> Flow:
    return Flow("udp", OURS, THEIRS)


def moved(world: World, *contacts: str, status: int = 302) -> None:
    """They send us on."""
    invites = [e.invite for e in world.their_events if isinstance(e, IncomingInvite)]
    world.their(world.their_agent.respond, invites[-1], status, contact=", ".join(contacts))
    world.deliver_all()


def targets(world: World) -> list[str]:
    return [m.uri for m in world.carried if isinstance(m, Request) and m.method == "INVITE"]


def test_a_302_is_followed_by_a_call_to_its_contact(world):
    waiting = dialled(world, redirect=_same_way)
    moved(world, "<sip:elsewhere@192.0.2.2>")
    first, second = (m for m in world.carried if isinstance(m, Request) and m.method == "INVITE")
    assert second.uri == "sip:elsewhere@192.0.2.2"
    assert (second.call_id, second.from_.tag) == (first.call_id, first.from_.tag)
    assert second.cseq.number == first.cseq.number + 1
    assert second.to.tag is None
    assert b"m=audio" in second.body
    invites = [e.invite for e in world.their_events if isinstance(e, IncomingInvite)]
    world.they_respond(200, sdp(), invites[-1])
    world.deliver_all()
    waiting.result()
    assert world.names() == ["Redirected", "Answered"]


def test_contacts_are_called_by_q_until_one_takes_the_call(world):
    waiting = dialled(world, redirect=_same_way)
    moved(
        world,
        "<sip:second@192.0.2.2>;q=0.5",
        "<tel:+15550100>",
        "<sip:first@192.0.2.2>",
        "<sip:third@192.0.2.2>;q=0.1",
        "<sip:last@192.0.2.2>;q=x",
    )
    for status in (486, 404):
        invites = [e.invite for e in world.their_events if isinstance(e, IncomingInvite)]
        world.they_respond(status, invite=invites[-1])
        world.deliver_all()
    users = [uri.partition("@")[0].removeprefix("sip:") for uri in targets(world)]
    assert users == ["them", "first", "second", "third"]
    invites = [e.invite for e in world.their_events if isinstance(e, IncomingInvite)]
    world.they_respond(600, invite=invites[-1])  # nobody anywhere
    world.deliver_all()
    assert error_of(waiting).status == 600
    assert len(targets(world)) == 4


def test_a_circle_of_redirections_is_left(world):
    waiting = dialled(world, redirect=_same_way)
    moved(world, "<sip:a@192.0.2.2>")
    moved(world, f"<sip:them@{THEIRS}>")
    assert error_of(waiting).status == 302
    assert len(targets(world)) == 2


def test_redirections_have_a_limit(world):
    waiting = dialled(world, redirect=_same_way, max_redirects=3)
    for number in range(10):
        if waiting.done():
            break
        moved(world, f"<sip:a{number}@192.0.2.2>")
    assert error_of(waiting).status == 302
    assert len(targets(world)) == 4


def test_a_redirection_that_is_not_followed_is_a_refusal(world):
    waiting = dialled(world)
    moved(world, "<sip:elsewhere@192.0.2.2>")
    assert error_of(waiting).status == 302
    assert len(targets(world)) == 1


@pytest.mark.parametrize("status", [305, 380])
def test_only_300_301_and_302_are_followed(world, status):
    waiting = dialled(world, redirect=_same_way)
    moved(world, "<sip:elsewhere@192.0.2.2>", status=status)
    assert error_of(waiting).status == status


def test_a_place_that_cannot_be_reached_leaves_the_refusal(world):
    async def nowhere(uri: object) -> Flow:
        raise ConfigError("no way there")

    waiting = dialled(world, redirect=nowhere)
    moved(world, "<sip:a@192.0.2.2>", "<sip:b@192.0.2.2>")
    assert error_of(waiting).status == 302
    assert world.call.state is CallState.ENDED


def test_hanging_up_while_the_way_is_sought_ends_the_call(world):
    async def slowly(uri: object) -> Flow:
        await asyncio.sleep(100)
        return Flow("udp", OURS, Address("192.0.2.3", 5060))

    waiting = dialled(world, redirect=slowly)
    moved(world, "<sip:a@192.0.2.2>")
    hanging_up = world.start(world.call.hangup())
    world.live(10.0)
    hanging_up.result()
    assert isinstance(error_of(waiting), CallError)
    assert len(targets(world)) == 1


def test_F011_redirected_with_the_description_in_the_ack(world):
    """RFC 3665 section 3.6: sent on by a 302; the offer is the callee's, the answer in the ACK."""
    waiting = dialled(world, redirect=_same_way, late_offer=True)
    moved(world, "<sip:elsewhere@192.0.2.2>")
    invites = [e.invite for e in world.their_events if isinstance(e, IncomingInvite)]
    world.they_respond(180, invite=invites[-1])
    world.they_respond(200, sdp(44000), invites[-1])
    world.deliver_all()
    waiting.result()
    assert carried(world) == [
        "INVITE", "302 INVITE", "ACK", "INVITE", "180 INVITE", "200 INVITE", "ACK",
    ]  # fmt: skip
    assert b"m=audio" in last(world, "ACK").body
    assert ports(world) == [44000]
