"""Phones that answer whoever calls them, and what a call came to; for every kind of test."""

from __future__ import annotations

import asyncio

from voip import Softphone
from voip.call import Call
from voip.errors import CallError
from voip.events import CallState

__all__ = ["answering", "status_of", "until"]


def answering(phone: Softphone, after: float = 0.0) -> asyncio.Queue[Call]:
    """Let a phone answer every call, ringing so long before, and stay in it; return its calls."""
    calls: asyncio.Queue[Call] = asyncio.Queue()

    @phone.on_incoming
    async def taken(call: Call) -> None:
        if after:
            await call.ring()
            await asyncio.sleep(after)
        await call.answer()
        calls.put_nowait(call)
        await call.wait_ended()

    return calls


async def status_of(caller: Softphone, target: str) -> int | None:
    """Call, hang up, and return how it was answered."""
    try:
        call = await caller.dial(target)
    except CallError as error:
        return error.status
    await call.hangup()
    return 200


async def until(call: Call, state: CallState) -> None:
    """Wait for a state of a call, in virtual time."""
    async with asyncio.timeout(60):
        while call.state is not state:
            await asyncio.sleep(0.05)
