"""Who takes part in a conference of ours, as those are told who watch it (RFC 4575)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from typing import Final

from voip.call import Call
from voip.desk import Desk, WatchRequest
from voip.events import CallState
from voip.line import Line
from voip.session.media import Share
from voip.sip.events import NotifierEnded, SipEvent
from voip.sip.focus import as_focus
from voip.sip.headers import NameAddr
from voip.sip.notifier import Notifier
from voip.sip.packages.conference_info import (
    CONTENT_TYPE,
    ConferenceEndpoint,
    ConferenceInfo,
    ConferenceMedia,
    ConferenceUser,
    changes,
)

__all__ = ["Roster", "Users", "described", "entity_of"]

Users = dict[str, ConferenceUser]

INTERVAL_S: Final = 5.0
"""What changes within this of the last NOTIFY is told together after it (section 3.9)."""
MAX_WATCHERS: Final = 256
MAX_OF_PARTY: Final = 8
"""Subscriptions to one conference at a time: of all, and of one party."""


@dataclass(slots=True)
class _Watcher:
    """Who watches, as a party of which call if as one, and what it has been told."""

    entity: str
    call: Call | None
    versions: Iterator[int] = field(default_factory=partial(count, 1))
    told: Users | None = None
    may: bool = False


class Roster:
    """Tells of a conference, whose name in our Contacts is `user`; `who` says who is in it.

    A party may always watch, as long as it takes part; others where `on_watch` says so.
    """

    def __init__(self, desk: Desk, user: str, who: Callable[[], Users]) -> None:
        self._desk = desk
        self._user = user
        self._who = who
        self._watchers: dict[Notifier, _Watcher] = {}
        self._pause: asyncio.TimerHandle | None = None
        self._changed = False

    def subscribe(self, notifier: Notifier, line: Line, call: Call | None) -> None:
        """Take a subscription, of a party with a `call`, or of somebody else; or refuse it."""
        desk = self._desk
        handler = desk.handlers.watch
        if call is None and handler is None:
            notifier.reject(403, now=desk.now())
            return
        if not notifier.accepts(CONTENT_TYPE):
            notifier.reject(406, now=desk.now())
            return
        theirs = sum(watcher.call is call for watcher in self._watchers.values())
        crowded = call is not None and theirs >= MAX_OF_PARTY
        if crowded or len(self._watchers) >= MAX_WATCHERS:
            notifier.reject(503, headers=[("Retry-After", "60")], now=desk.now())
            return
        contact = as_focus(line.contact_for(notifier.request, notifier.flow), self._user)
        watcher = _Watcher(NameAddr.parse(contact).uri, call, may=call is not None)
        self._watchers[notifier] = watcher
        desk.stack.watchers[notifier] = self._on_notifier
        if call is not None:
            notifier.accept(
                contact=contact,
                body=partial(self._document, notifier, watcher),
                content_type=CONTENT_TYPE,
                now=desk.now(),
            )
        else:
            notifier.accept(contact=contact, pending=True, now=desk.now())
            desk.spawn(self._decide(notifier))

    async def _decide(self, notifier: Notifier) -> None:
        desk, handler = self._desk, self._desk.handlers.watch
        request = WatchRequest(notifier.request.from_.uri, str(notifier.event))
        may = handler is not None and await desk.ask(handler, request, False)
        watcher = self._watchers.get(notifier)
        if watcher is None:
            return
        if may:
            watcher.may = True
            self._notify(notifier)
        else:
            notifier.terminate("rejected", now=desk.now())
        desk.flush()

    def _on_notifier(self, event: SipEvent) -> None:
        if isinstance(event, NotifierEnded):
            self._desk.stack.watchers.pop(event.notifier, None)
            self._watchers.pop(event.notifier, None)

    # ------------------------------------------------------------ what is told

    def changed(self) -> None:
        """Tell those who watch who has come, gone, or is heard no more: now, or in a while."""
        self._changed = True
        if self._pause is None:
            self._tell()

    def _tell(self) -> None:
        self._pause = None
        if not self._changed or not self._watchers or self._desk.closed:
            return
        self._changed = False
        users = self._who()
        news = [one for one, watcher in self._watchers.items() if watcher.may]
        news = [one for one in news if self._watchers[one].told != users]
        for notifier in news:
            self._notify(notifier)
        if news:
            self._pause = asyncio.get_running_loop().call_later(INTERVAL_S, self._tell)
            self._desk.flush()

    def _notify(self, notifier: Notifier) -> None:
        body = partial(self._document, notifier, self._watchers[notifier])
        notifier.notify(body, CONTENT_TYPE, now=self._desk.now())

    def _document(self, notifier: Notifier, watcher: _Watcher) -> bytes:
        """Say what has changed since the last time, or all where that is owed (section 3.2)."""
        users, told = self._who(), None if notifier.owes_all else watcher.told
        watcher.told = users
        state = "full" if told is None else "partial"
        return ConferenceInfo(
            watcher.entity,
            next(watcher.versions),
            tuple(users.values()) if told is None else changes(told, users),
            state,
            state,
            len(users),
        ).to_bytes()

    # ------------------------------------------------------------ the end

    def leave(self, call: Call) -> None:
        """Tell a party nothing more, as it takes part no more."""
        self._dismiss([one for one, watcher in self._watchers.items() if watcher.call is call])

    def leave_ended(self) -> None:
        """Tell those nothing more whose calls are over, of whom some have never come in."""
        watchers = [(one, watcher.call) for one, watcher in self._watchers.items()]
        self._dismiss([one for one, call in watchers if call is not None and call.ended])

    def _dismiss(self, notifiers: Sequence[Notifier]) -> None:
        for notifier in notifiers:
            notifier.terminate("rejected", b"", now=self._desk.now())
        if notifiers:
            self._desk.flush()

    def end(self) -> None:
        """Tell all who watch that there is no such conference any more (section 3.3)."""
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        watchers = list(self._watchers.items())
        for notifier, watcher in watchers:
            gone = ConferenceInfo(watcher.entity, next(watcher.versions), state="deleted")
            notifier.terminate(
                "noresource", gone.to_bytes() if watcher.may else b"", now=self._desk.now()
            )
        if watchers:
            self._desk.flush()


def entity_of(call: Call) -> str:
    """Return by what a party is known to the others; who hides is one of its own (5.6)."""
    uri = call.remote
    if ".invalid" in uri.partition(">")[0].lower():
        return f"sip:anonymous-{call.id}@anonymous.invalid"
    return uri


def described(host: NameAddr, shares: Mapping[Call, Share]) -> Users:
    """Say who takes part: whose phone it is, and who has which part."""
    own = ConferenceEndpoint(host.uri, "connected", "focus-owner", media=_audio("sendrecv"))
    users = {host.uri: ConferenceUser(host.uri, host.display or None, endpoints=(own,))}
    for call, share in shares.items():
        entity = entity_of(call)
        known = users.get(entity) or ConferenceUser(entity, call.remote_name or None)
        endpoint = _endpoint(call, share, {one.entity for one in known.endpoints})
        users[entity] = replace(known, endpoints=(*known.endpoints, endpoint))
    return users


def _endpoint(call: Call, share: Share, taken: set[str]) -> ConferenceEndpoint:
    dialog = call._session.dialog
    is_hidden = entity_of(call) != call.remote
    entity = entity_of(call) if dialog is None or is_hidden else dialog.remote_target
    if entity in taken:  # the same phone once more
        entity = f"{entity};call={call.id}"
    if call.state is CallState.HELD:
        status, direction = "on-hold", "inactive"
    elif share.gain == 0:
        status, direction = "muted-via-focus", "recvonly" if share.hears else "inactive"
    else:
        status, direction = "connected", "sendrecv" if share.hears else "sendonly"
    joined = "dialed-out" if call.outgoing else "dialed-in"
    return ConferenceEndpoint(entity, status, joined, media=_audio(direction))


def _audio(direction: str) -> tuple[ConferenceMedia, ...]:
    return (ConferenceMedia("1", "audio", direction),)
