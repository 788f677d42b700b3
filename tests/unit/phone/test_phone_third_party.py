"""Third party call control (RFC 3725): our phones are the parties, our agent the controller."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from bare_agents import BareAgent
from callers import until
from phone_scene import SOUND_PORT, Network, Phone, flow, quiet

from voip.call import Call
from voip.events import CallState
from voip.sdp.description import Connection, SessionDescription
from voip.sdp.parser import parse
from voip.sip.events import Answered
from voip.types import Address

NO_MEDIA = b"v=0\r\no=controller 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\n"
BLACK_HOLE = (
    b"v=0\r\no=controller 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\n"
    b"m=audio 9000 RTP/AVP 0 8 101\r\na=rtpmap:101 telephone-event/8000\r\n"
)


class Origins:
    """What the controller has told each party: its own o= line, counted (RFC 3725 section 4.4)."""

    def __init__(self) -> None:
        self._last: dict[Phone, SessionDescription] = {}

    def say(self, party: Phone, body: bytes, *, black_hole: bool = False) -> bytes:
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


def party(
    net: Network, name: str, before: Callable[[Call], Awaitable[None]] | None = None
) -> Phone:
    """Somebody who answers every call, when they have done something before."""
    phone = net.phone(name)

    @phone.on_incoming
    async def taken(call: Call) -> None:
        if before is not None:
            await before(call)
        await call.answer()
        await call.wait_ended()

    return phone


def sound_of(phone: Phone) -> Address:
    return Address(phone.host.address, SOUND_PORT)


async def talk(a: Phone, b: Phone) -> None:
    """Each sends its sound to the other, and nobody to the controller."""
    await until(lambda: a.calls[-1].state is b.calls[-1].state is CallState.ACTIVE)
    await until(lambda: a.sound.sends_to is not None and b.sound.sends_to is not None)
    assert a.sound.sends_to == sound_of(b)
    assert b.sound.sends_to == sound_of(a)


async def hang_up(controller: BareAgent, *dialogs: Any, parties: tuple[Phone, ...]) -> None:
    await controller.hang_up(*dialogs)
    await quiet(*parties)
    agent = controller.server.agent
    assert (agent.transactions, len(agent.dialogs), agent.timers) == (0, 0, 0)


@flow
async def test_F078_flow_I_passes_offer_and_answer_on(net: Network) -> None:
    controller = await BareAgent.of(net)
    async with party(net, "a") as a, party(net, "b") as b:
        first = await controller.call(a)
        second = await controller.call(b, first.response.body)
        controller.act("ack", first.dialog, body=second.response.body)
        await talk(a, b)
        await hang_up(controller, first.dialog, second.dialog, parties=(a, b))


@flow
async def test_F079_flow_II_begins_with_a_black_hole(net: Network) -> None:
    controller, origins = await BareAgent.of(net), Origins()
    async with party(net, "a") as a, party(net, "b") as b:
        first = await controller.call(a, origins.say(a, BLACK_HOLE))
        here = f"c=IN IP4 {a.host.address}".encode()
        assert here in first.response.body  # not 0.0.0.0 back
        assert a.sound.sends_to is None
        second = await controller.call(b, first.response.body)
        done = await controller.change(first.dialog, origins.say(a, second.response.body))
        # The same description as at first, or the two would have to be called for ever.
        before, after = parse(first.response.body), parse(done.response.body)
        assert after.media[0].port == before.media[0].port
        assert after.connection == before.connection
        await talk(a, b)
        await hang_up(controller, first.dialog, second.dialog, parties=(a, b))


async def flow_III_or_IV(
    controller: BareAgent, a: Phone, b: Phone, first: Answered, origins: Origins
) -> Any:
    """Let B offer, A answer, and B hear that in the ACK."""
    second = await controller.call(b)
    done = await controller.change(first.dialog, origins.say(a, second.response.body))
    controller.act("ack", second.dialog, body=origins.say(b, done.response.body))
    return second.dialog


@flow
async def test_F080_flow_III_answers_with_a_black_hole_first(net: Network) -> None:
    controller, origins = await BareAgent.of(net), Origins()
    async with party(net, "a") as a, party(net, "b") as b:
        first = await controller.call(a)
        nowhere = origins.say(a, first.response.body, black_hole=True)
        controller.act("ack", first.dialog, body=nowhere)
        await until(lambda: a.calls[-1].state in (CallState.ACTIVE, CallState.HELD))
        assert a.sound.sends_to is None
        second = await flow_III_or_IV(controller, a, b, first, origins)
        await talk(a, b)
        await hang_up(controller, first.dialog, second, parties=(a, b))


@flow
async def test_F081_flow_IV_begins_without_media(net: Network) -> None:
    controller, origins = await BareAgent.of(net), Origins()
    async with party(net, "a") as a, party(net, "b") as b:
        first = await controller.call(a, origins.say(a, NO_MEDIA))
        assert parse(first.response.body).media == ()
        second = await flow_III_or_IV(controller, a, b, first, origins)
        await talk(a, b)
        await hang_up(controller, first.dialog, second, parties=(a, b))


@flow
async def test_F082_click_to_dial(net: Network) -> None:
    """The customer's phone is called, then the agent's, which rings for a while."""

    async def ring(call: Call) -> None:
        await call.ring()
        await asyncio.sleep(6.0)

    controller, origins = await BareAgent.of(net), Origins()
    async with party(net, "customer") as customer, party(net, "agent", ring) as agent:
        first = await controller.call(customer, origins.say(customer, NO_MEDIA))
        second = await flow_III_or_IV(controller, customer, agent, first, origins)
        await talk(customer, agent)
        await hang_up(controller, first.dialog, second, parties=(customer, agent))


@flow
async def test_F083_an_announcement_in_the_middle_of_a_call(net: Network) -> None:
    controller, origins = await BareAgent.of(net), Origins()
    user, called, server = party(net, "user"), party(net, "called"), party(net, "server")
    async with user, called, server:
        first = await controller.call(user)
        second = await controller.call(called, first.response.body)
        controller.act("ack", first.dialog, body=second.response.body)
        await talk(user, called)
        for phone, known in ((user, second), (called, first)):
            origins._last[phone] = parse(known.response.body)
        # 1-3: the called party is put aside.
        aside = origins.say(called, first.response.body, black_hole=True)
        await controller.change(second.dialog, aside)
        await until(lambda: called.sound.sends_to is None)
        # 4-10: the user hears the server.
        offer = (await controller.change(first.dialog)).response.body
        third = await controller.call(server, offer)
        controller.act("ack", first.dialog, body=origins.say(user, third.response.body))
        await until(lambda: user.sound.sends_to == sound_of(server))
        assert server.sound.sends_to == sound_of(user)
        # 11-19: the server goes, and the two are connected again.
        await controller.hang_up(third.dialog)
        offer = (await controller.change(second.dialog)).response.body
        answer = await controller.change(first.dialog, origins.say(user, offer))
        controller.act("ack", second.dialog, body=origins.say(called, answer.response.body))
        await talk(user, called)
        await hang_up(controller, first.dialog, second.dialog, parties=(user, called, server))
