"""Calls that are forked and redirected: real SIP, an engine that counts."""

from __future__ import annotations

import asyncio

import pytest
from session_world import (
    OURS,
    THEIRS,
    World,
    carried,
    dialled,
    error_of,
    last,
    ports,
    respond_as,
    sdp,
)

from voip.errors import CallError, ConfigError
from voip.events import CallState
from voip.sip.events import IncomingInvite
from voip.sip.flow import Flow
from voip.sip.message import Request, parse_message
from voip.types import Address

# ---------------------------------------------------------------- forking


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
    from voip.media.answers import StreamStats

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


def retold(world: World, *headers: tuple[str, str], contact: str = "<sip:a@192.0.2.2>") -> Request:
    """They send us on and say why; return our next INVITE."""
    invites = [e.invite for e in world.their_events if isinstance(e, IncomingInvite)]
    world.their(world.their_agent.respond, invites[-1], 302, contact=contact, headers=headers)
    world.deliver_all()
    return [m for m in world.carried if isinstance(m, Request) and m.method == "INVITE"][-1]


def test_F130_who_sent_the_call_on_is_named_to_whom_it_goes(world):
    dialled(world, redirect=_same_way, headers=[("Subject", "lunch"), ("Diversion", "<sip:x@y>")])
    bob = "<sip:bob@biloxi.example>;reason=user-busy;counter=1"
    came = "<sip:bob@biloxi.example?Reason=SIP%3Bcause%3D486>;index=1"
    second = retold(world, ("Diversion", bob), ("History-Info", came),
                    contact="<sip:a@192.0.2.2>;mp=1, <sip:b@192.0.2.2>;q=0.1;rc=1")  # fmt: skip
    assert second.headers.get_all("Diversion") == [bob, "<sip:x@y>;reason=unknown;counter=1"]
    assert second.headers.get_all("History-Info") == [came, "<sip:a@192.0.2.2>;index=2;mp=1"]
    assert second.headers.get("Subject") == "lunch"
    world.they_respond(486, b"", [e.invite for e in world.their_events
                                  if isinstance(e, IncomingInvite)][-1])  # fmt: skip
    world.deliver_all()
    third = [m for m in world.carried if isinstance(m, Request) and m.method == "INVITE"][-1]
    assert third.uri == "sip:b@192.0.2.2"
    assert third.headers.get_all("Diversion") == second.headers.get_all("Diversion")
    assert third.headers.get_all("History-Info")[1:] == [
        "<sip:a@192.0.2.2>;index=2;mp=1", "<sip:b@192.0.2.2>;index=3;rc=1",
    ]  # fmt: skip


def test_F130_a_302_that_tells_nothing_or_nonsense_adds_nothing(world):
    dialled(world, redirect=_same_way)
    second = retold(world, ("Diversion", "<sip:bob@y"), ("History-Info", "<sip:bob@y>"))
    assert second.headers.get("Diversion") is None
    assert second.headers.get("History-Info") is None


def test_F130_a_place_that_is_in_the_history_already_stands_there_once(world):
    dialled(world, redirect=_same_way)
    way = ["<sip:bob@biloxi.example>;index=1", "<sip:a@192.0.2.2>;index=1.1;mp=1"]
    second = retold(world, *(("History-Info", entry) for entry in way))
    assert second.headers.get_all("History-Info") == way


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
