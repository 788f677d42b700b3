"""Conferences a phone holds, and calls that want to become part of others (RFC 3911)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from voip.account import Account
from voip.call import Call
from voip.conference import Conference
from voip.conference_settings import Settings
from voip.desk import Desk, JoinRequest
from voip.dialling import Dialling
from voip.entry_tones import Announce
from voip.errors import CallError, MediaError, SipError, VoipError
from voip.events import Joined
from voip.sip.focus import user_of
from voip.sip.join import Join
from voip.sip.notifier import Notifier
from voip.sip.packages.dialog_info import WatchedDialog
from voip.sip.server_invite import ServerInvite
from voip.target_dialog import named_call

__all__ = ["Conferencing", "JoinRequest"]

Handler = TypeVar("Handler", bound=Callable[..., Any])


@dataclass(slots=True)
class _Begun:
    """A conference that a call becomes as soon as one of those who want to join it has done so."""

    conference: Conference
    waiting: int = 0
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class Conferencing:
    """Holds conferences, joins calls of others, and takes those in that want to join ours."""

    def __init__(self, desk: Desk, dialling: Dialling) -> None:
        self._desk = desk
        self._dialling = dialling
        self._conferences: dict[str, Conference] = {}  # those that are open, by name
        self._begun: dict[Call, _Begun] = {}

    # ------------------------------------------------------------ ours

    async def conference(
        self,
        *calls: Call,
        rate: int | None = None,
        loudest: int | None = None,
        announce: Announce | None = None,
    ) -> Conference:
        """Hold a conference, at first of `calls`, which are up; calls on hold are taken off it.

        `async with await phone.conference(one, other) as conference:` ends all its calls at the
        end of the block. Raises `CallStateError` where one of them cannot take part; then all go
        on by themselves.

        rate: samples a second of what is played, read and recorded; None: the highest of the
        parties'. loudest: so many are heard at a time, those who speak loudest; None: all.
        announce: what all hear when somebody comes or goes, as `announce(event, rate)` returns it
        (`voip.entry_tones.entry_tones`).
        """
        settings = Settings(rate, loudest, announce)
        self._desk.check_open()
        conference = Conference(self._desk, self._dialling, self._conferences, settings)
        await conference.open()
        try:
            for call in calls:
                await conference.add(call)
        except BaseException:
            await conference.dissolve()
            raise
        return conference

    async def join(
        self,
        watched: WatchedDialog,
        *,
        target: str | None = None,
        timeout: float | None = 30.0,
        account: Account | str | None = None,
    ) -> Call:
        """Become part of a call of somebody whom we watch (`Watch.dialogs`), as its third.

        That one is asked, and mixes us in; `target`: where it is called, else who it says it is.
        Raises as `Softphone.dial`: 403 where it does not let us, 420 where it cannot.
        """
        self._desk.check_open()
        whom = target or watched.local
        if whom is None:
            raise CallError("the watched call does not say whose it is", hint="target=")
        named = watched.replaces()
        join = Join(named.call_id, named.to_tag, named.from_tag)
        line = self._desk.lines.of(account)
        return await self._dialling.dial(
            line,
            line.account.dial_uri(whom),
            wait="answered",
            timeout=timeout,
            headers=[("Join", str(join)), ("Require", "join")],
        )

    # ------------------------------------------------------------ theirs

    def on_join(self, handler: Handler) -> Handler:
        """Ask `handler(request)` (a `JoinRequest`) who may become part of our calls.

        It returns whether, and may be a coroutine function. Without a handler only those may who
        are proven to be the user whose call it is, by a host of `NetworkConfig.trusted`.
        """
        self._desk.handlers.join = handler
        return handler

    def called(self, invite: ServerInvite) -> Conference | None:
        """Return the conference whose URI a call came to."""
        return self._named(user_of(invite.request.uri))

    def meant(self, notifier: Notifier) -> Conference | None:
        """Return the conference that a SUBSCRIBE or REFER is to: by its name, or by a call's.

        A GRUU of ours names no conference, but the call may be named that is in it (RFC 4538).
        """
        call = self._call(notifier)
        by_call = None if call is None else self._named(call._session.focus)
        return by_call or self._named(user_of(notifier.request.uri))

    def party(self, notifier: Notifier, conference: Conference) -> Call | None:
        """Return the party that a SUBSCRIBE or REFER comes from, None where it is nobody's.

        It knows its call's dialog; or it comes from where that call does, says that it is who
        called, and knows the conference's name, which nobody can guess. It may be on its way in.
        """
        call = self._call(notifier)
        if call is not None and call._session.focus == conference.user:
            return call
        who, host = notifier.request.from_.uri, notifier.flow.remote.host
        for call in conference.parties:
            dialog = call._session.dialog
            if dialog is not None and dialog.flow.remote.host == host and call.remote == who:
                return call
        return None

    def _call(self, notifier: Notifier) -> Call | None:
        found = self._desk.call_of(notifier.dialog)
        return found or named_call(self._desk, notifier.request)

    def _named(self, user: str | None) -> Conference | None:
        return None if user is None else self._conferences.get(user)

    def on_subscribe(self, notifier: Notifier) -> None:
        """Somebody wants to watch a conference: a party may, of others `on_watch` is asked."""
        conference = self.meant(notifier)
        if conference is None:
            notifier.reject(404, now=self._desk.now())
            return
        line = self._desk.lines.called(notifier.request, notifier.flow)
        conference.roster.subscribe(notifier, line, self.party(notifier, conference))

    def calls_changed(self) -> None:
        """Take it that calls have come to other states, parties or not."""
        for conference in tuple(self._conferences.values()):
            conference.calls_changed()

    def end(self) -> None:
        """Say goodbye to those who watch our conferences."""
        for conference in tuple(self._conferences.values()):
            conference.roster.end()

    async def admit(self, new: Call, wanted: Call | Conference) -> None:
        """Let a call that came in take part in `wanted`, if it may (RFC 3911 section 4)."""
        try:
            if not await self._may(new, wanted):
                await new.reject(403)
                return
            await new._session.callee.prepare()  # before anybody hears of it
            await self._take_in(new, wanted)
        except VoipError as error:
            new.log.info("it could not join a call: %s", error)
            with suppress(CallError):
                await _refuse(new, error)

    async def _may(self, new: Call, wanted: Call | Conference) -> bool:
        parties = [wanted] if isinstance(wanted, Call) else wanted.parties
        request = JoinRequest(new, tuple(parties), _is_own(new, parties))
        handler = self._desk.handlers.join
        if handler is None:
            return request.is_own
        return bool(await self._desk.ask(handler, request, False))

    async def _take_in(self, new: Call, wanted: Call | Conference) -> None:
        if isinstance(wanted, Call) and wanted.conference is None:
            async with self._begun_for(wanted) as (conference, turn):
                await self._ring(new, conference)
                async with turn:
                    if wanted.conference is None:
                        await wanted._session.wait_answered(None)
                        await conference.add(wanted)
                await self._let_in(new, conference)
        else:
            conference = wanted if isinstance(wanted, Conference) else wanted.conference
            await self._ring(new, conference)
            await self._let_in(new, conference)

    @asynccontextmanager
    async def _begun_for(self, call: Call) -> AsyncGenerator[tuple[Conference, asyncio.Lock]]:
        """Hand out the conference that a call is to become, to all who want to join it by now.

        Where none of them comes to it in the end, the call goes on as it was.
        """
        conference = Conference(self._desk, self._dialling, self._conferences, Settings())
        begun = self._begun.setdefault(call, _Begun(conference))
        begun.waiting += 1
        try:
            async with begun.turn:
                if not begun.conference.is_open:
                    await begun.conference.open()
            yield begun.conference, begun.turn
        finally:
            begun.waiting -= 1
            if not begun.waiting:
                del self._begun[call]
                if set(begun.conference.parties) <= {call}:
                    await begun.conference.dissolve()

    async def _ring(self, new: Call, conference: Conference) -> None:
        """Ring as the conference (RFC 5359 section 2.11, F6)."""
        new._session.focus = conference.user
        await new.ring()

    async def _let_in(self, new: Call, conference: Conference) -> None:
        await new.answer()
        await conference.add(new)
        for call in conference.parties:
            if call is not new:
                call._emit(Joined(new))


def _is_own(new: Call, parties: list[Call]) -> bool:
    """Whether it is proven that the user calls whose calls these are (RFC 3911 section 4)."""
    identity = new.identity
    accounts = {call.account for call in parties}
    account = accounts.pop() if len(accounts) == 1 else None
    if identity is None or not identity.proven or account is None:
        return False
    try:
        caller = identity.best.sip_uri
    except SipError:
        return False
    return (caller.user, caller.host.lower()) == (account.user, account.aor.host.lower())


async def _refuse(new: Call, error: VoipError) -> None:
    if new.ended is not None or new._session.is_up:
        await new.hangup()
        return
    status = 488 if isinstance(error, MediaError) else error.status
    await new.reject(status if status is not None and 400 <= status <= 699 else 480)
