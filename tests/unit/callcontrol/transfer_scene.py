"""Calls for transfers between phones of hosts of their own."""

from __future__ import annotations

import asyncio

from callers import answering
from phone_scene import Network, losing, uri

from voip.call import Call
from voip.phone import Softphone
from voip.sip.message import Request


async def up(caller: Softphone, callee: Softphone, calls: asyncio.Queue[Call]) -> tuple[Call, Call]:
    """A call that is up, as both sides have it."""
    call = await caller.dial(uri(callee))
    return call, await calls.get()


async def consultation(
    net: Network, alice: Softphone, bob: Softphone, carol: Softphone
) -> tuple[Call, Call, Call, Call]:
    """Alice holds Bob and speaks with Carol: both calls, from both sides."""
    to_bob, to_carol = answering(bob), answering(carol)
    first, bobs = await up(alice, bob, to_bob)
    await first.hold()
    second, carols = await up(alice, carol, to_carol)
    return first, bobs, second, carols


def losing_acks(net: Network, phone: Softphone, seconds: float) -> None:
    """Let no ACK of a phone arrive for a while."""
    until = net.world.elapsed + seconds
    losing(
        phone,
        lambda message: (
            isinstance(message, Request) and message.method == "ACK" and net.world.elapsed < until
        ),
    )
