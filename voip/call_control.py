"""Calling, and services made of calls, events and transfers (RFC 5359).

Pick-up, park, redial, click-to-dial.
"""

from __future__ import annotations

import asyncio
from typing import Final, Literal

from voip.account import Account
from voip.arguments import HeaderLines, caller_address, header_lines, headers_of_uri
from voip.call import Call
from voip.config import CallConfig
from voip.desk import Desk
from voip.dialling import Dialling, Wait
from voip.errors import CallError, CallStateError, ConfigError, NoAnswerError
from voip.referring import ask_to_call
from voip.sip.packages.dialog_info import WatchedDialog
from voip.sip.replaces import place_of
from voip.sip.uri import SipUri, uri_scheme
from voip.watching import Watching

__all__ = ["CallControl"]

_BUSY: Final = (486, 600)


class CallControl:
    """Calls for `Softphone`, and does what takes more than one call.

    account: whom to do it as; the phone's first where none is named.
    """

    def __init__(
        self, desk: Desk, dialling: Dialling, watching: Watching, calling: CallConfig
    ) -> None:
        self._desk = desk
        self._dialling = dialling
        self._watching = watching
        self._calling = calling

    async def dial(
        self,
        target: str,
        *,
        wait: Wait = "answered",
        timeout: float | None = 30.0,
        headers: HeaderLines | None = None,
        from_: str | None = None,
        redirect: bool = True,
        late_offer: bool = False,
        anonymous: bool = False,
        account: Account | str | None = None,
    ) -> Call:
        """Call `target`: a SIP or tel: URI, `user@host`, or a number at the account's domain.

        `account`: which of several to call as: its name, its password, its proxy; None: the first.
        Returns when the call is answered, or as `wait` says. Raises `CallError` (with the SIP
        status where there is one) when it comes to nothing, `NoAnswerError` after `timeout` s.
        `headers`: added to the INVITE, behind those of the URI that take a call over, or say what
        it is about (RFC 3261 section 19.1.5). `from_`: the URI to call as, for those who speak for
        others, as a PBX does. `anonymous`: the callee is not told who calls, a proxy of ours and
        our own domain are (RFC 3323, RFC 3325). `redirect`: whether to call whom the callee sends
        us on to (3xx, told as `Redirected`), up to `CallConfig.max_redirects`. `late_offer`: the
        callee says first what it can do.
        """
        self._desk.check_open()
        self._dialling.check(wait)
        line = self._desk.lines.of(account)
        if (
            not line.named
            and "@" not in target
            and (":" not in target or uri_scheme(target) == "tel")
        ):
            raise ConfigError(f"{target!r} is at no domain", hint="sip:user@host")
        uri = line.account.dial_uri(target)
        more = [*headers_of_uri(uri), *header_lines(headers or ())]
        if anonymous:
            more.append(("Privacy", "id"))
        return await self._dialling.dial(
            line,
            uri,
            wait=wait,
            timeout=timeout,
            headers=more,
            from_=None if from_ is None else caller_address(from_),
            anonymous=anonymous,
            late_offer=late_offer,
            max_redirects=self._calling.max_redirects if redirect else 0,
        )

    async def pick_up(
        self,
        watched: WatchedDialog,
        *,
        timeout: float | None = 30.0,
        account: Account | str | None = None,
    ) -> Call:
        """Take a call that rings, or is parked, at somebody we watch (`Watch.dialogs`)."""
        self._desk.check_open()
        if watched.remote is None:
            raise CallError("the watched call does not say who the other side is")
        replaces = watched.replaces_at_peer(early_only=watched.state != "confirmed")
        return await self._dialling.dial(
            self._desk.lines.of(account),
            SipUri.parse(watched.remote),
            wait="answered",
            timeout=timeout,
            headers=[("Replaces", str(replaces)), ("Require", "replaces")],
        )

    async def refer(
        self,
        whom: str | Call,
        target: str,
        *,
        method: Literal["INVITE", "BYE"] = "INVITE",
        timeout: float = 60.0,
        account: Account | str | None = None,
    ) -> None:
        """Ask `whom` to call `target`: click-to-dial.

        `whom`, as a call of ours to a conference elsewhere: that is to take `target` in, or let it
        go (`method` BYE), RFC 4579 sections 5.5 and 5.11. Returns when it says that it has; raises
        `CallError` where it does not.
        """
        self._desk.check_open()
        lines = self._desk.lines
        if isinstance(whom, Call) and account is None:
            line = lines.of_call(whom.account)
        else:
            line = lines.of(account)
        uri = line.account.dial_uri(target)
        if method != "INVITE":
            uri = uri.with_params(method=method)
        await ask_to_call(self._desk, line, whom, uri, timeout=timeout)

    async def park(self, call: Call, orbit: str, *, timeout: float = 30.0) -> None:
        """Leave a call to `orbit`, which keeps the other side until somebody picks it up.

        RFC 5359 section 2.15: it is asked to take our place in the call.
        """
        dialog = call._session.dialog
        if dialog is None or not call._session.is_up:
            raise CallStateError(f"the call is {call.state.value}", hint="park a call that is up")
        line = self._desk.lines.of_call(call.account)
        self._desk.check_open()
        await ask_to_call(self._desk, line, orbit, place_of(dialog), timeout=timeout)
        await call._session.leave()

    async def dial_when_free(
        self, target: str, *, timeout: float = 3600.0, account: Account | str | None = None
    ) -> Call:
        """Call somebody, and while that one is busy wait until it is not (`on_watch` there)."""
        self._desk.check_open()
        line = self._desk.lines.of(account)
        uri = line.account.dial_uri(target)
        try:
            async with asyncio.timeout(timeout):
                while True:
                    try:
                        return await self._dialling.dial(
                            line, uri, wait="answered", timeout=None, headers=()
                        )
                    except CallError as error:
                        if error.status not in _BUSY:
                            raise
                    await self._until_free(target, account)
        except TimeoutError:
            raise NoAnswerError(f"{target} was busy for {timeout:g} s", status=486) from None

    async def _until_free(self, target: str, account: Account | str | None) -> None:
        async with await self._watching.watch(target, "dialog", account=account) as watch:
            async for notification in watch.notifications():
                if notification.value is not None and not watch.dialogs:
                    return
        raise CallError(f"nobody says when {target} is free", status=480)
