"""A session that changes: glare, hold, recovery, session timer; real SIP, a counted engine."""

from __future__ import annotations

import pytest
from session_world import (
    SDP,
    carried,
    error_of,
    last,
    ports,
    sdp,
    version,
)

from voip.events import CallState, EndedBy
from voip.sip.events import (
    ReinviteDone,
    ReinviteReceived,
    UpdateDone,
)

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
