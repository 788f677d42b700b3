"""What parties ask a conference of ours for: to take somebody in, to let somebody go (RFC 4579)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from voip.call import Call
from voip.conference import Conference
from voip.conferencing import Conferencing
from voip.desk import Desk, ModerationRequest
from voip.dialling import Dialling
from voip.errors import SipError, VoipError
from voip.roster import entity_of
from voip.session.transfer import Progress
from voip.sip.focus import as_focus
from voip.sip.notifier import Notifier
from voip.sip.refer import ReferTarget, refer_target
from voip.sip.uri import SipUri
from voip.transfers import RING_S, follow, refer_headers, report, status_of

__all__ = ["Moderation", "ModerationRequest"]

Handler = TypeVar("Handler", bound=Callable[..., Any])


class Moderation:
    """Takes every REFER to a conference: sections 5.5 and 5.10 (INVITE), 5.11 (BYE).

    Only parties may ask, and only the application's handler says yes: a call may cost money.
    """

    def __init__(self, desk: Desk, dialling: Dialling, conferencing: Conferencing) -> None:
        self._desk = desk
        self._dialling = dialling
        self._conferencing = conferencing

    def on_moderation(self, handler: Handler) -> Handler:
        """Ask `handler(request)` (a `ModerationRequest`) what parties of conferences may have done.

        It returns whether, and may be a coroutine function. Without a handler nobody is taken in
        and nobody let go for others.
        """
        self._desk.handlers.moderation = handler
        return handler

    def takes(self, notifier: Notifier) -> bool:
        """Whether a REFER is to a conference of ours; then it is taken up, or refused.

        One in the call of a party transfers that call, as long as it does not say BYE.
        """
        try:
            target = refer_target(notifier.request)
        except SipError:
            return False
        conference = self._conferencing.meant(notifier)
        if conference is None or (notifier.dialog is not None and target.method == "INVITE"):
            return False
        self._take(notifier, conference, target)
        return True

    def _take(self, notifier: Notifier, conference: Conference, target: ReferTarget) -> None:
        desk = self._desk
        party = self._conferencing.party(notifier, conference)
        if target.method not in ("INVITE", "BYE"):
            notifier.reject(501, now=desk.now())
        elif desk.closed or party is None or desk.handlers.moderation is None:
            notifier.reject(403, now=desk.now())
        else:
            line = desk.lines.of_call(party.account)
            contact = as_focus(line.contact_for(notifier.request, notifier.flow), conference.user)
            progress = None
            if target.wants_subscription:
                progress = Progress(notifier, desk.now)
                progress.accept(contact)
            else:
                notifier.accept_once(contact=contact, now=desk.now())
            obey = partial(self._obey, conference, party, target, progress)
            desk.spawn(follow(desk, progress, obey))

    async def _obey(
        self, conference: Conference, party: Call, target: ReferTarget, progress: Progress | None
    ) -> int:
        desk, handler = self._desk, self._desk.handlers.moderation
        adds = target.method == "INVITE"
        request = ModerationRequest(
            "add" if adds else "remove",
            str(target.uri),
            party,
            conference,
            target.replaces is not None,
        )
        party.log.info("asks the conference to %s %s", request.action, request.target)
        if handler is None or not await desk.ask(handler, request, False):
            return 603
        try:
            if adds:
                return await self._add(conference, party, target, progress)
            return await self._remove(conference, target.uri)
        except VoipError as error:
            party.log.info("the conference cannot %s %s: %s", request.action, request.target, error)
            return status_of(error)

    async def _add(
        self, conference: Conference, party: Call, target: ReferTarget, progress: Progress | None
    ) -> int:
        desk = self._desk
        self._dialling.check("answered")
        line = desk.lines.of_call(party.account)
        new = await self._dialling.place(
            line, target.uri, headers=refer_headers(target), focus=conference.user
        )
        if progress is not None:
            new.on_event(lambda event: report(desk, progress, event))
        await new.wait_answered(RING_S)
        try:
            await conference.add(new)
        except VoipError:
            with suppress(VoipError):
                await new.hangup()
            raise
        return 200

    async def _remove(self, conference: Conference, uri: SipUri) -> int:
        found = [call for call in conference.parties if _is(call, uri)]
        if not found:
            return 404
        await asyncio.gather(*(call.hangup() for call in found))
        return 200


def _is(call: Call, uri: SipUri) -> bool:
    """Whether a party is meant: by who it is, or by its Contact."""
    dialog = call._session.dialog
    for known in (entity_of(call), "" if dialog is None else dialog.remote_target):
        with suppress(SipError):
            if SipUri.parse(known).equivalent(uri):
                return True
    return False
