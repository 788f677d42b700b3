"""Letting the parties of a conference go on elsewhere, without us (RFC 5359 section 2.10)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from voip.call import Call
from voip.desk import Desk
from voip.errors import CallError, VoipError
from voip.referring import ask_to_call, dialog_of
from voip.session.transfer import in_our_place
from voip.sip.uri import SipUri

__all__ = ["connect", "send_all"]


async def connect(calls: Sequence[Call], timeout: float) -> None:
    """Have one of two call the other in our place, whichever of them does it."""
    one, other = calls
    try:
        await one.transfer(other, timeout=timeout)
    except CallError:
        if not (one._session.is_up and other._session.is_up):
            raise
        await other.transfer(one, timeout=timeout)


async def send_all(desk: Desk, calls: Sequence[Call], target: str | Call, timeout: float) -> None:
    """Move all at once; raises the first failure when it is known of each."""
    outcomes = await asyncio.gather(
        *(_send(desk, call, target, timeout) for call in calls), return_exceptions=True
    )
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome


async def _send(desk: Desk, call: Call, target: str | Call, timeout: float) -> None:
    if isinstance(target, str):
        await call.transfer(target, timeout=timeout)
        return
    try:
        await call.transfer(dialog_of(target).remote_target, timeout=timeout)
    except CallError as error:
        if not (call._session.is_up and target._session.is_up):
            raise
        call.log.info("%s does not go by itself: %s", call.remote, error)
        try:
            await _have_called(desk, call, target, timeout)
        except VoipError:
            raise error from None


async def _have_called(desk: Desk, call: Call, target: Call, timeout: float) -> None:
    """Have the conference `target` is with call a party in our place (RFC 4579 5.10)."""
    line = desk.lines.of_call(target.account)

    async def ask(address: SipUri) -> None:
        await ask_to_call(desk, line, target, address, timeout=timeout)

    sessions = (call._session, target._session)
    await in_our_place(dialog_of(call), ask, lambda: all(one.is_up for one in sessions))
    await call._session.leave()
