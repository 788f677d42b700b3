"""Third party call control (RFC 3725): our calls are the parties, our agent the controller."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from town import Controller, Party, Town

from voip.call import Call
from voip.events import CallState
from voip.sdp.description import Connection, SessionDescription
from voip.sdp.parser import parse
from voip.sip.events import Answered, DialogEnded, ReinviteDone

NO_MEDIA = b"v=0\r\no=controller 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\n"
BLACK_HOLE = (
    b"v=0\r\no=controller 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\n"
    b"m=audio 9000 RTP/AVP 0 8 101\r\na=rtpmap:101 telephone-event/8000\r\n"
)


@pytest.fixture(params=[0.0, 0.2], ids=["0% loss", "20% loss"])
def town(request: pytest.FixtureRequest) -> Iterator[Town]:
    town = Town(request.param, seed=5)
    yield town
    town.close()


@pytest.fixture
def parties(town: Town) -> tuple[Controller, Party, Party]:
    a, b = Party(town, "192.0.2.1", 10000), Party(town, "192.0.2.2", 20000)
    return Controller(town, "192.0.2.9"), a, b


class Origins:
    """What the controller has told each party: its own o= line, counted (RFC 3725 section 4.4)."""

    def __init__(self) -> None:
        self._last: dict[Party, SessionDescription] = {}

    def say(self, party: Party, body: bytes, *, black_hole: bool = False) -> bytes:
        """Return a description of somebody else's as one of ours to this party."""
        description = parse(body)
        origin = parse(NO_MEDIA).origin
        if party in self._last:
            last = self._last[party].origin
            origin = replace(last, version=last.version + 1)
        description = replace(description, origin=origin)
        if black_hole:
            nowhere = Connection.of("0.0.0.0")
            media = tuple(replace(m, connection=None) for m in description.media)
            description = replace(description, connection=nowhere, media=media)
        self._last[party] = description
        return description.to_bytes()


def talk(town: Town, a: Party, b: Party) -> None:
    """Each sends its sound to the other, and nobody to the controller."""
    town.until(lambda: a.sends_to is not None and b.sends_to is not None)
    assert a.sends_to == ("192.0.2.2", 20000)
    assert b.sends_to == ("192.0.2.1", 10000)
    assert a.call.state is b.call.state is CallState.ACTIVE


def hang_up(controller: Controller, *dialogs: Any) -> None:
    for dialog in dialogs:
        controller.act("bye", dialog)
    for dialog in dialogs:
        controller.wait(DialogEnded, dialog=dialog)
    controller.town.run(70)
    for person in controller.town.people.values():
        left = (person.agent.transactions, len(person.agent.dialogs), person.agent.timers)
        assert left == (0, 0, 0), person.address


def test_F078_flow_I_passes_offer_and_answer_on(town: Town, parties: Any) -> None:
    controller, a, b = parties
    first = controller.wait(Answered, invite=controller.invite(a))
    second = controller.wait(Answered, invite=controller.invite(b, first.response.body))
    controller.act("ack", first.dialog, body=second.response.body)
    talk(town, a, b)
    hang_up(controller, first.dialog, second.dialog)


def test_F079_flow_II_begins_with_a_black_hole(town: Town, parties: Any) -> None:
    controller, a, b = parties
    origins = Origins()
    offer = origins.say(a, BLACK_HOLE)
    first = controller.wait(Answered, invite=controller.invite(a, offer))
    assert b"c=IN IP4 192.0.2.1" in first.response.body  # not 0.0.0.0 back
    assert a.sends_to is None
    second = controller.wait(Answered, invite=controller.invite(b, first.response.body))
    change = controller.act("reinvite", first.dialog, body=origins.say(a, second.response.body))
    done = controller.wait(ReinviteDone, handle=change)
    assert done.status == 200
    # The same description as at first, or the two would have to be called for ever.
    before, after = parse(first.response.body), parse(done.response.body)
    assert after.media[0].port == before.media[0].port
    assert after.connection == before.connection
    talk(town, a, b)
    hang_up(controller, first.dialog, second.dialog)


def flow_III_or_IV(
    controller: Controller, a: Party, b: Party, first: Answered, origins: Origins
) -> Any:
    """Let B offer, A answer, and B hear that in the ACK."""
    second = controller.wait(Answered, invite=controller.invite(b))
    offer = origins.say(a, second.response.body)
    done = controller.wait(
        ReinviteDone, handle=controller.act("reinvite", first.dialog, body=offer)
    )
    assert done.status == 200
    controller.act("ack", second.dialog, body=origins.say(b, done.response.body))
    return second.dialog


def test_F080_flow_III_answers_with_a_black_hole_first(town: Town, parties: Any) -> None:
    controller, a, b = parties
    origins = Origins()
    first = controller.wait(Answered, invite=controller.invite(a))
    nowhere = origins.say(a, first.response.body, black_hole=True)
    controller.act("ack", first.dialog, body=nowhere)
    town.until(lambda: a.call.state in (CallState.ACTIVE, CallState.HELD))
    assert a.sends_to is None
    second = flow_III_or_IV(controller, a, b, first, origins)
    talk(town, a, b)
    hang_up(controller, first.dialog, second)


def test_F081_flow_IV_begins_without_media(town: Town, parties: Any) -> None:
    controller, a, b = parties
    origins = Origins()
    invite = controller.invite(a, origins.say(a, NO_MEDIA))
    first = controller.wait(Answered, invite=invite)
    assert parse(first.response.body).media == ()
    second = flow_III_or_IV(controller, a, b, first, origins)
    talk(town, a, b)
    hang_up(controller, first.dialog, second)


def test_F082_click_to_dial(town: Town, parties: Any) -> None:
    """The customer's phone is called, then the agent's, which rings for a while."""
    controller, customer, agent = parties

    async def ring(call: Call) -> None:
        await call.ring()
        await asyncio.sleep(6.0)

    agent.before = ring
    origins = Origins()
    invite = controller.invite(customer, origins.say(customer, NO_MEDIA))
    first = controller.wait(Answered, invite=invite)
    second = flow_III_or_IV(controller, customer, agent, first, origins)
    talk(town, customer, agent)
    hang_up(controller, first.dialog, second)


def test_F083_an_announcement_in_the_middle_of_a_call(town: Town, parties: Any) -> None:
    controller, user, called = parties
    server = Party(town, "192.0.2.3", 30000)
    first = controller.wait(Answered, invite=controller.invite(user))
    second = controller.wait(Answered, invite=controller.invite(called, first.response.body))
    controller.act("ack", first.dialog, body=second.response.body)
    talk(town, user, called)
    origins = Origins()
    for party, known in ((user, second), (called, first)):
        origins._last[party] = parse(known.response.body)
    # 1-3: the called party is put aside.
    aside = origins.say(called, first.response.body, black_hole=True)
    handle = controller.act("reinvite", second.dialog, body=aside)
    assert controller.wait(ReinviteDone, handle=handle).status == 200
    town.until(lambda: called.sends_to is None)
    # 4-10: the user hears the server.
    handle = controller.act("reinvite", first.dialog)
    offer = controller.wait(ReinviteDone, handle=handle).response.body
    third = controller.wait(Answered, invite=controller.invite(server, offer))
    controller.act("ack", first.dialog, body=origins.say(user, third.response.body))
    town.until(lambda: user.sends_to == ("192.0.2.3", 30000))
    assert server.sends_to == ("192.0.2.1", 10000)
    # 11-19: the server goes, and the two are connected again.
    controller.act("bye", third.dialog)
    controller.wait(DialogEnded, dialog=third.dialog)
    handle = controller.act("reinvite", second.dialog)
    offer = controller.wait(ReinviteDone, handle=handle).response.body
    handle = controller.act("reinvite", first.dialog, body=origins.say(user, offer))
    answer = controller.wait(ReinviteDone, handle=handle)
    assert answer.status == 200
    controller.act("ack", second.dialog, body=origins.say(called, answer.response.body))
    talk(town, user, called)
    hang_up(controller, first.dialog, second.dialog)
