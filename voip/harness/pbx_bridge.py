"""A call of one user of the embedded PBX to another: find a phone, connect both, part them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from voip.call import Call
from voip.errors import CallError, CallStateError, MediaError, VoipError
from voip.events import CallState, DtmfReceived, EarlyMedia, Ringing

__all__ = ["RING_S", "connect"]

RING_S: Final = 30.0
"""How long a user's phones ring."""
_TOLD: Final = (486, 600, 603)
"""Refusals the caller hears of as they are; all others are 480."""

_SHORTEST_MS: Final = 40
"""The shortest digit every receiver has to hear (ITU-T Q.24)."""

Dial = Callable[[str], Awaitable[Call]]
"""Begin to call a contact and return the call at once."""


async def connect(call: Call, contacts: Sequence[str], dial: Dial) -> None:
    """Ring all `contacts` for `call`, connect it to the first that answers, until either hangs up.

    The caller is refused with 486, 600 or 603 where a phone said so, else with 480; when the
    caller gives up, so do we.
    """
    gone = asyncio.ensure_future(call.wait_ended())
    try:
        leg, status = await _hunt(call, contacts, dial, gone)
        if leg is None:
            with suppress(CallStateError):  # the caller has given up
                await call.reject(status)
            return
        try:
            await _talk(call, leg, gone)
        finally:
            await asyncio.gather(leg.hangup(), call.hangup())
    finally:
        await _drop(gone)


async def _hunt(
    call: Call, contacts: Sequence[str], dial: Dial, gone: asyncio.Future[Any]
) -> tuple[Call | None, int]:
    """Return the call that was answered first, or None and why there is none."""
    trials = {asyncio.ensure_future(_try(call, contact, dial)) for contact in contacts}
    status = 480
    try:
        waiting = set(trials)
        while waiting and not gone.done():
            await asyncio.wait({*waiting, gone}, return_when=asyncio.FIRST_COMPLETED)
            for trial in [trial for trial in waiting if trial.done()]:
                waiting.discard(trial)
                error = trial.exception()
                if error is None:
                    trials.discard(trial)
                    return trial.result(), 200
                if isinstance(error, VoipError) and error.status in _TOLD:
                    status = error.status or status
        return None, status
    finally:
        await _drop(*trials)
        for trial in trials:  # answered, and too late
            if not trial.cancelled() and trial.exception() is None:
                await trial.result().hangup()


async def _try(call: Call, contact: str, dial: Dial) -> Call:
    """Ring one phone; return its call once it is answered. Cancelled, it stops ringing."""
    leg = await dial(contact)

    async def ring(event: object) -> None:
        if isinstance(event, Ringing | EarlyMedia) and call.state is CallState.NEW:
            with suppress(CallStateError):
                await call.ring()

    leg.on_event(ring)
    try:
        await leg.wait_answered(RING_S)
    except BaseException:
        await leg.hangup()
        raise
    return leg


async def _talk(call: Call, leg: Call, gone: asyncio.Future[Any]) -> None:
    """Answer the caller and let both talk, digits included, until either hangs up."""
    parted = asyncio.ensure_future(leg.wait_ended())
    passing: list[asyncio.Future[None]] = []
    try:
        await call.answer()
        await call.bridge(leg)
        passing.append(asyncio.ensure_future(_pass_digits(call, leg)))
        passing.append(asyncio.ensure_future(_pass_digits(leg, call)))
        await asyncio.wait({gone, parted}, return_when=asyncio.FIRST_COMPLETED)
    except CallError:  # one of them hung up meanwhile
        return
    finally:
        await _drop(parted, *passing)


async def _pass_digits(source: Call, target: Call) -> None:
    """Press on `target` what is pressed on `source`: a bridge carries sound alone."""
    async for event in source.events():  # from the beginning: some were quick
        if isinstance(event, DtmfReceived):
            with suppress(CallError, MediaError):  # it is over, or takes no telephone-event
                duration_ms = max(_SHORTEST_MS, round(event.duration_ms))
                await target.send_dtmf(event.digit, duration_ms=duration_ms)


async def _drop(*tasks: asyncio.Future[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
