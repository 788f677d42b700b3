"""Requests that concern no call of ours: whose they are."""

from __future__ import annotations

from collections.abc import Mapping

from voip.arguments import METHODS, RequestHandler
from voip.conferencing import Conferencing
from voip.desk import Desk
from voip.messages import Messages
from voip.moderation import Moderation
from voip.publishing import Publishing
from voip.session.manager import RequestEvent
from voip.sip.events import (
    ReferReceived,
    RequestReceived,
    SubscribeReceived,
    UnsolicitedNotify,
)
from voip.sip.server_request import ServerRequest
from voip.transfers import Transfers
from voip.watching import Watching

__all__ = ["Inbox"]


class Inbox:
    """Hands requests, and answers to ours, to the part of the phone they are for."""

    def __init__(
        self,
        desk: Desk,
        handlers: Mapping[str, RequestHandler],
        *,
        messages: Messages,
        watching: Watching,
        publishing: Publishing,
        transfers: Transfers,
        conferencing: Conferencing,
        moderation: Moderation,
    ) -> None:
        self._desk = desk
        self._handlers = handlers
        self._messages = messages
        self._watching = watching
        self._publishing = publishing
        self._transfers = transfers
        self._conferencing = conferencing
        self._moderation = moderation

    def take(self, event: RequestEvent) -> None:
        """Take what concerns no call."""
        match event:
            case ReferReceived(notifier):
                if not self._moderation.takes(notifier):
                    self._transfers.on_refer(notifier)
            case SubscribeReceived(notifier) if notifier.event.package == "conference":
                self._conferencing.on_subscribe(notifier)
            case SubscribeReceived(notifier):
                self._watching.on_subscribe(notifier)
            case UnsolicitedNotify(notify):
                self._notified(notify)
            case RequestReceived(request):
                self._requested(request)
            case _:
                _ = self._publishing.on_event(event) or self._desk.lines.on_event(event)

    def _notified(self, notify: ServerRequest) -> None:
        """Believe that mail waits where our registrar says so, or who is trusted; else 481."""
        desk, host = self._desk, notify.flow.remote.host
        is_believed = host in desk.lines.hosts() or host in desk.stack.trusted
        notify.reply(200 if is_believed else 481, now=desk.now())
        if is_believed:
            self._watching.on_unsolicited(notify.request)

    def _requested(self, request: ServerRequest) -> None:
        method, desk = request.request.method, self._desk
        handler = self._handlers.get(method)
        if handler is None:
            if method == "MESSAGE":
                self._messages.on_message(request)
            else:  # INFO means nothing outside of a call
                request.reply(481 if method in METHODS else 405, now=desk.now())
            return
        try:
            handler(request)
        except Exception as error:
            desk.failed(handler, error)
            if not request.replied:
                request.reply(500, now=desk.now())
