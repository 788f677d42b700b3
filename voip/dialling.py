"""Calling somebody: the INVITE on its way, and what is waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Final, Literal, get_args

from voip.call import Call
from voip.desk import Desk
from voip.errors import CallError, ConfigError, MediaError, NoAnswerError, SipError
from voip.line import Line
from voip.session.caller import CallPlan
from voip.sip.headers import NameAddr
from voip.sip.identity import ANONYMOUS
from voip.sip.uri import SipUri
from voip.ways import seek

__all__ = ["Dialling", "Wait"]

Wait = Literal["started", "ringing", "answered"]

_GAVE_UP: Final = 487
"""The status of a call that we gave up."""


class Dialling:
    """Places calls."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def check(self, wait: str) -> None:
        """Raise where no call can be placed."""
        limit = self._desk.max_calls
        if len(self._desk.calls) >= limit:
            raise CallError(f"{limit} calls are under way", hint="end some")
        if wait not in get_args(Wait):
            raise ConfigError(f"dial does not wait for {wait!r}", hint=", ".join(get_args(Wait)))

    async def dial(
        self,
        line: Line,
        uri: SipUri,
        *,
        wait: Wait,
        timeout: float | None,
        headers: Sequence[tuple[str, str]],
        from_: NameAddr | None = None,
        anonymous: bool = False,
        late_offer: bool = False,
        max_redirects: int = 0,
        focus: str | None = None,
    ) -> Call:
        """Call `uri` as `line`, by other ways where nobody answers (RFC 3263 section 4.3).

        Returns the call when it has come as far as `wait` says, or what has taken its place.
        `focus`: the user of the conference of ours that it is called to.
        """
        plan = self._plan(
            line,
            headers,
            from_=from_,
            anonymous=anonymous,
            late_offer=late_offer,
            max_redirects=max_redirects,
            focus=focus,
        )
        loop = asyncio.get_running_loop()
        until = None if timeout is None else loop.time() + timeout
        call = await self._begin(line, uri, plan)
        if wait == "started":
            return call
        left = None if until is None else max(0.0, until - loop.time())
        try:
            return await self._wait(call, wait, left)
        except NoAnswerError as error:
            if error.status == _GAVE_UP:
                error.message = f"no answer in {timeout:g} s"  # in all
            raise

    async def place(
        self,
        line: Line,
        uri: SipUri,
        *,
        headers: Sequence[tuple[str, str]],
        who: NameAddr | None = None,
        focus: str | None = None,
    ) -> Call:
        """Begin to call `uri` as `line`, and as `who`; returns when the INVITE is on its way."""
        anonymous = who is not None and who.uri == ANONYMOUS.uri
        more = [("Privacy", "id")] if anonymous else []
        plan = self._plan(line, [*headers, *more], from_=who, anonymous=anonymous, focus=focus)
        return await self._begin(line, uri, plan)

    def _plan(
        self,
        line: Line,
        headers: Sequence[tuple[str, str]],
        *,
        from_: NameAddr | None = None,
        anonymous: bool = False,
        late_offer: bool = False,
        max_redirects: int = 0,
        focus: str | None = None,
    ) -> CallPlan:
        return CallPlan(
            lambda flow: ANONYMOUS if anonymous else from_ or line.identity(flow),
            partial(line.contact_to, anonymous=anonymous),
            headers=headers,
            credentials=line.account.credentials(),
            late_offer=late_offer,
            redirect=partial(self._desk.flow_to, line) if max_redirects else None,
            max_redirects=max_redirects,
            focus=focus,
            seek=partial(seek, self._desk, line),
            preferred=line.account.identity() if anonymous else None,
        )

    async def _begin(self, line: Line, uri: SipUri, plan: CallPlan) -> Call:
        desk = self._desk
        registrar, flow = await desk.way_to(line, uri)
        if desk.closed:
            raise CallError("the phone was closed", hint="make another one")
        callee = replace(uri, params=_kind_of_user(uri), headers=())
        call = desk.new_call(line, outgoing=True, remote=NameAddr("", str(callee)))
        try:
            plan = replace(plan, route=registrar.route())
            await call._session.caller.call(str(uri), plan, flow=flow)
        except BaseException as error:
            await self._give_up(call, error)
            if isinstance(error, MediaError | SipError):  # no RTP port is free, or no room is left
                raise CallError(error.message, hint=error.hint, status=error.status) from error
            raise
        return call

    async def _wait(self, call: Call, wait: Wait, timeout: float | None) -> Call:
        """Return the call when it has come as far as that, or what has taken its place."""
        try:
            if wait == "answered":
                await call._session.wait_answered(timeout)
            else:
                await call._session.wait_progress(timeout)
        except BaseException as error:
            if isinstance(error, CallError) and call.ended is not None:
                picked_up = await call.successors.settled()  # by somebody else
                if picked_up is not None:
                    return picked_up
            await self._give_up(call, error)
            raise
        return call

    async def _give_up(self, call: Call, error: BaseException) -> None:
        if isinstance(error, asyncio.CancelledError):
            self._desk.spawn(call.hangup())
        elif call.ended is None:
            call._session.fail(str(error))
            await call._session.wait_ended()


def _kind_of_user(uri: SipUri) -> tuple[tuple[str, str | None], ...]:
    """Return the parameter that belongs to a name, not to a way: `user=phone`."""
    return tuple(param for param in uri.params if param[0].lower() == "user")
