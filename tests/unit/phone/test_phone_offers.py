"""Offers and answers as a call meets them, wherever they may stand (RFC 6337, RFC 3262)."""

from __future__ import annotations

import pytest
from session_world import (
    GARBAGE,
    SDP,
    carried,
    dialled,
    error_of,
    last,
    ports,
    sdp,
)

from voip.errors import CallError, CallStateError
from voip.events import CallState, EndedBy
from voip.sip.events import (
    Acknowledged,
    Answered,
    InviteFailed,
    PrackReceived,
    Provisional,
    RequestDone,
    UpdateDone,
    UpdateReceived,
)

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


@pytest.mark.parametrize("answer", [b"", GARBAGE, sdp(0), sdp(formats="18")])
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


def test_F090_an_answer_that_cannot_be_used_ends_a_call_whose_200_waited_for_it(world):
    world.they_call(b"", prack_by_hand=True)
    world.deliver_all()
    world.start(world.call.progress()).result()
    world.deliver()
    answering = world.start(world.call.answer())
    early = world.told(Provisional)
    world.their(world.their_agent.prack, early.dialog, body=sdp(formats="18"), content_type=SDP)
    world.deliver_all()
    assert error_of(answering).status == 488
    assert carried(world)[-2:] == ["BYE", "200 BYE"]


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


def test_F091_an_offer_in_a_prack_that_comes_too_late_to_end_the_invite_is_refused(world):
    """The call is answered, and that waits for the PRACK: it goes on with what was agreed."""
    world.they_call(sdp(41000), prack_by_hand=True)
    world.deliver_all()
    world.start(world.call.progress()).result()
    world.deliver()
    answering = world.start(world.call.answer())
    early = world.told(Provisional)
    offer = sdp(45000, version=2, formats="18")
    world.their(world.their_agent.prack, early.dialog, body=offer, content_type=SDP)
    world.deliver_all()
    refused = world.told(RequestDone).response
    assert (refused.status, "Warning" in refused.headers) == (488, True)
    assert not answering.done()
    world.their(world.their_agent.prack, early.dialog)
    world.deliver_all()
    answering.result()
    assert (world.call.state, ports(world)) == (CallState.ACTIVE, [41000])


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
