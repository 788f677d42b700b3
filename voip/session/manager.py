"""Hands what the agent and the engine tell to the session it concerns."""

from __future__ import annotations

import logging
from collections.abc import Callable

from voip.events import CallEvent
from voip.media.answers import (
    EngineEvent,
    MediaHeard,
    MediaSilent,
    Refused,
    SsrcChanged,
    StreamEnded,
    StreamLost,
    StreamRefused,
)
from voip.session.info import is_info
from voip.session.session import CallSession
from voip.session.stack import Stack
from voip.sip.events import (
    Acknowledged,
    Answered,
    DialogEnded,
    EarlyDialogEnded,
    IncomingInvite,
    InviteCancelled,
    InviteFailed,
    InviteLeft,
    Notified,
    NotifierEnded,
    PrackReceived,
    Provisional,
    ReferReceived,
    RefreshDue,
    ReinviteDone,
    ReinviteProgress,
    ReinviteReceived,
    RequestDone,
    RequestFailed,
    RequestReceived,
    SipEvent,
    SubscribeReceived,
    SubscriptionEnded,
    SubscriptionForked,
    SubscriptionLost,
    UnsolicitedNotify,
    UpdateDone,
    UpdateReceived,
)
from voip.sip.headers import NameAddr
from voip.sip.server_invite import ServerInvite

__all__ = ["RequestEvent", "SessionManager"]

RequestEvent = (
    RequestDone
    | RequestFailed
    | RequestReceived
    | SubscribeReceived
    | ReferReceived
    | UnsolicitedNotify
)


class SessionManager:
    """All sessions of one phone.

    `on_invite` gets INVITEs that begin a call, `on_request` all that concerns no call;
    `on_media` gets what the engine tells of a stream, by its number.
    """

    def __init__(
        self,
        stack: Stack,
        *,
        on_invite: Callable[[ServerInvite], None],
        on_request: Callable[[RequestEvent], None],
        on_media: Callable[[CallSession, EngineEvent], None],
    ) -> None:
        self._stack = stack
        self._on_invite = on_invite
        self._on_request = on_request
        self._on_media = on_media
        self._by_stream: dict[int, CallSession] = {}

    def __len__(self) -> int:
        return len(self._by_stream)

    @property
    def sessions(self) -> list[CallSession]:
        """The sessions that are not over."""
        return list(self._by_stream.values())

    def create(
        self, *, outgoing: bool, remote: NameAddr, emit: Callable[[CallEvent], None]
    ) -> CallSession:
        """Make a session."""
        session = CallSession(self._stack, outgoing=outgoing, remote=remote, emit=emit)
        self._by_stream[session.media.stream] = session
        return session

    def forget(self, session: CallSession) -> None:
        """Drop a session that is over."""
        self._by_stream.pop(session.media.stream, None)

    def on_sip(self, event: SipEvent) -> None:
        """Take an event of the agent's."""
        sessions = self._stack.sessions
        match event:
            case IncomingInvite(invite):
                self._on_invite(invite)
            case RequestDone() | RequestFailed() if event.handle in self._stack.watchers:
                self._tell_watcher(event.handle, event)
            case RequestDone() | RequestFailed() if event.handle in sessions:
                sessions[event.handle].presence.on_asked(event)
            case RequestReceived(request) if request.dialog in sessions and is_info(request):
                sessions[request.dialog].on_info(request)
            case RequestDone() | RequestFailed() | RequestReceived():
                self._on_request(event)
            case SubscribeReceived() | ReferReceived() | UnsolicitedNotify():
                self._on_request(event)
            case Notified() | SubscriptionForked() | SubscriptionLost() | SubscriptionEnded():
                self._tell_watcher(event.subscription, event)
            case NotifierEnded():
                self._tell_watcher(event.notifier, event)
            case Provisional(client):
                if client in sessions:
                    sessions[client].caller.on_provisional(event)
            case EarlyDialogEnded(client, dialog):
                if client in sessions:
                    sessions[client].caller.on_early_ended(dialog)
            case Answered(client, response, dialog):
                if client in sessions:
                    sessions[client].caller.on_answered(response, dialog)
            case InviteFailed(client):
                if client in sessions:
                    sessions[client].caller.on_failed(event)
            case InviteLeft(client, way, tried):
                if client in sessions:
                    sessions[client].caller.on_left(way, tried)
            case InviteCancelled(server):
                if server in sessions:
                    sessions[server].callee.on_cancelled(event)
            case Acknowledged(dialog, request):
                if dialog in sessions:
                    sessions[dialog].on_acknowledged(request)
            case ReinviteReceived(server, dialog):
                if dialog in sessions:
                    sessions[dialog].on_reinvite(server)
                else:
                    server.respond(481, now=self._stack.signalling.now())
            case ReinviteDone() | UpdateDone():
                if event.dialog in sessions:
                    sessions[event.dialog].on_change_done(event)
            case PrackReceived(server):
                if server in sessions:
                    sessions[server].callee.on_prack(event)
            case UpdateReceived(request, dialog):
                if dialog in sessions:
                    sessions[dialog].on_update(event)
                else:
                    request.reply(481, now=self._stack.signalling.now())
            case RefreshDue(dialog):
                if dialog in sessions:
                    sessions[dialog].on_refresh_due(dialog)
            case ReinviteProgress():
                pass  # its answer counts when the change is made
            case DialogEnded(dialog):
                if dialog in sessions:
                    sessions[dialog].on_dialog_ended(event)

    def _tell_watcher(self, handle: object, event: SipEvent) -> None:
        watcher = self._stack.watchers.get(handle)
        if watcher is not None:
            watcher(event)

    def on_engine(self, event: EngineEvent) -> None:
        """Take an event of the engine's."""
        stream = getattr(event, "stream", None)
        session = self._by_stream.get(stream) if stream is not None else None
        if session is None:
            return
        match event:
            case Refused():
                session.log.warning("the media engine refused a command: %s", event.message)
            case StreamEnded():
                session.log.debug("the other side ends its sound (RTCP BYE) %s", event.reason)
            case SsrcChanged(_, before, ssrc):
                words = "somebody else sends as SSRC %08x; we are %08x from now on"
                session.log.event(logging.INFO, "ssrc_changed", words, before, ssrc)
            case MediaSilent():
                words = "nothing has been heard for %.0f s"
                session.log.event(logging.INFO, "media_silent", words, event.seconds)
                session.presence.on_silent(event)
            case MediaHeard():
                session.presence.on_heard()
            case StreamLost():
                session.lose_media(event.reason)
            case StreamRefused():
                session.lose(f"what was agreed on cannot be done: {event.message}", 488)
            case _:
                self._on_media(session, event)
