"""Phones that answer whoever calls them, what came of it, and waiting; for every kind of test."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from voip import Softphone
from voip.call import Call
from voip.errors import CallError
from voip.events import Transferred

__all__ = ["answering", "echo", "status_of", "told", "transferred", "until"]


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


async def echo(call: Call) -> None:
    """Answer, and send back what is heard."""
    await call.answer()
    await call.echo()
    await call.wait_ended()


async def status_of(caller: Softphone, target: str) -> int | None:
    """Call, hang up, and return how it was answered."""
    try:
        call = await caller.dial(target)
    except CallError as error:
        return error.status
    await call.hangup()
    return 200


async def until(true: Callable[[], object], seconds: float = 60.0) -> None:
    """Let time go by until something is the case; raises `TimeoutError` where it never is."""
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.01)


def told(call: Call, kind: type) -> list:
    """The events of a kind that a call has told of."""
    return [event for event in call._events if isinstance(event, kind)]


async def transferred(call: Call) -> Call:
    """The call that a transferee has made in the place of `call`."""
    await until(lambda: told(call, Transferred), 120)
    return told(call, Transferred)[0].call
