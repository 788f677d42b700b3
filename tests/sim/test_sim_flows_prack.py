"""Reliable provisional responses (RFC 3262), offers in PRACK and changes that fail (RFC 6337).

Between phones of ours, and an agent of ours that does what phones do not.
"""

from __future__ import annotations

import asyncio

from bare_agents import BareAgent
from callers import until
from phone_scene import Network, dial, flow, hang_up, quiet, said, taking

from voip.call import Call
from voip.config import CallConfig
from voip.events import CallState, Ringing
from voip.sip.events import Answered, Provisional, RequestDone
from voip.sip.message import Response
from voip.types import Address


def offer(version: int, port: int, formats: str = "0", *lines: str) -> bytes:
    head = ("v=0", f"o=agent 1 {version} IN IP4 192.0.2.1", "s=-", "c=IN IP4 192.0.2.1", "t=0 0")
    audio = f"m=audio {port} RTP/AVP {formats}"
    return "".join(f"{line}\r\n" for line in (*head, audio, *lines)).encode()


@flow
async def test_F085_ringing_that_is_acknowledged_is_always_heard(net: Network) -> None:
    """The 180 is repeated until the PRACK has come, and the call is answered after that."""
    alice = net.phone("alice", calling=CallConfig(reliable="required"))
    async with alice, net.phone("bob") as bob:

        async def ring(call: Call) -> None:
            await asyncio.sleep(3)  # a 100 has come, the INVITE is not repeated any more
            await call.ring()
            await asyncio.sleep(40)

        calls = taking(bob, ring)
        mine = await dial(alice, bob)
        await until(lambda: mine.state is CallState.RINGING)
        assert Ringing() in mine._events
        await until(lambda: mine._session.is_up and calls[0]._session.is_up)
        [rang] = said(net, "180 INVITE")
        [prack] = said(net, "PRACK")
        assert prack.headers.get("RAck") == f"{rang.headers.get('RSeq')} 1 INVITE"
        assert len(said(net, "200 PRACK")) == 1
        if not net.loss:
            assert sum(isinstance(m, Response) and m.status == 180 for _, m, _ in net.wire) == 1
        await hang_up(mine, alice, bob)


@flow
async def test_F091_an_offer_in_a_prack_is_answered_in_its_200(net: Network) -> None:
    agent = await BareAgent.of(net)
    async with net.phone("bob") as bob:

        async def early(call: Call) -> None:
            await call.progress()
            await until(lambda: bob.sound.sends_to == Address("192.0.2.1", 49172))

        calls = taking(bob, early)
        invite = await agent.begin(bob, offer(1, 49170), prack_by_hand=True)
        heard = await agent.wait(Provisional, invite=invite, prack_owed=True)
        prack = agent.act("prack", heard.dialog, body=offer(2, 49172))
        done = await agent.wait(RequestDone, handle=prack)
        assert done.response.status == 200
        assert b"m=audio 40000 RTP/AVP 0" in done.response.body
        answered = await agent.wait(Answered, invite=invite)
        assert not answered.response.body  # everything has been agreed on
        await until(lambda: calls[0].state is CallState.ACTIVE)
        assert bob.sound.sends_to == Address("192.0.2.1", 49172)
        await agent.hang_up(answered.dialog)
        await quiet(bob)


@flow
async def test_F095_a_change_that_cannot_be_had_leaves_the_session_as_it_was(net: Network) -> None:
    agent = await BareAgent.of(net)
    async with net.phone("bob") as bob:
        calls = taking(bob)
        dialog = (await agent.call(bob, offer(1, 49170))).dialog
        await until(lambda: bool(calls) and calls[0]._session.is_up)
        nobody_knows = offer(2, 49172, "97", "a=rtpmap:97 nobody-knows/8000")
        await agent.change(dialog, nobody_knows, status=488)
        assert calls[0].state is CallState.ACTIVE
        assert bob.sound.sends_to == Address("192.0.2.1", 49170)
        done = await agent.change(dialog, offer(3, 49174))
        assert b"m=audio 40000 RTP/AVP 0" in done.body
        await until(lambda: bob.sound.sends_to == Address("192.0.2.1", 49174))
        await agent.hang_up(dialog)
        await quiet(bob)
