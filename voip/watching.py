"""Watching others, and being watched: subscriptions as applications see them (RFC 6665)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any, Final, TypeVar

from voip.account import Account
from voip.call import Call
from voip.desk import Desk, WatchRequest
from voip.errors import ConfigError, SipError, SubscriptionError
from voip.events import MessageWaiting
from voip.line import Line
from voip.referring import dialog_of
from voip.session.event_log import EventLog
from voip.session.watched import watched
from voip.sip.event_headers import EventType, SubscriptionState
from voip.sip.events import (
    Notified,
    NotifierEnded,
    SipEvent,
    SubscriptionEnded,
    SubscriptionLost,
)
from voip.sip.message import Request
from voip.sip.notifier import Notifier
from voip.sip.packages import conference_info, dialog_info, message_summary, presence, reg
from voip.sip.subscription import Subscription
from voip.sip.uri import SipUri
from voip.target_dialog import target_dialog
from voip.ways import seek

__all__ = ["Notification", "Watch", "WatchRequest", "Watching"]

log = logging.getLogger(__name__)

Handler = TypeVar("Handler", bound=Callable[..., Any])

CLOSE_S: Final = 4.0
"""How long giving a subscription up waits for its last word."""
MAX_WATCHERS: Final = 256
"""Others that may watch this phone at a time."""

_READERS: Final[dict[str, tuple[str, Callable[[bytes], Any]]]] = {
    "message-summary": (message_summary.CONTENT_TYPE, message_summary.MessageSummary.parse),
    "presence": (presence.CONTENT_TYPE, presence.Presence.parse),
    "dialog": (dialog_info.CONTENT_TYPE, dialog_info.DialogInfo.parse),
    "reg": (reg.CONTENT_TYPE, reg.RegInfo.parse),
    "conference": (conference_info.CONTENT_TYPE, conference_info.ConferenceInfo.parse),
}


@dataclass(frozen=True, slots=True)
class Notification:
    """One NOTIFY, and what it says.

    `value`: that, as its package has it (`MessageSummary`, `Presence`, `DialogInfo`, `RegInfo`,
    `ConferenceInfo`); None where it says nothing, or nothing that can be read.
    """

    state: str
    value: Any
    body: bytes
    content_type: str | None


class Watch:
    """Something watched: `async with await phone.watch(...) as watch:`; made by `Softphone`.

    It is kept until it is closed: refreshed, and asked for anew where it was lost. `dialogs` and
    `users` come to what a "dialog" or "conference" watch has been told of so far.
    """

    def __init__(
        self, desk: Desk, line: Line, subscription: Subscription, ended: Callable[[Watch], object]
    ) -> None:
        self._desk = desk
        self._line = line
        self._tell_ended = ended
        self._subscription = subscription
        self._log: EventLog[Notification] = EventLog()
        self._confirmed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ended = asyncio.Event()
        self._closed = False
        self._dialogs = dialog_info.DialogTable()
        self._contacts = reg.RegTable()
        self._conference = conference_info.ConferenceTable()
        desk.stack.watchers[subscription] = self._on_event

    @property
    def event(self) -> str:
        """What is watched."""
        return str(self._subscription.wanted.event)

    @property
    def state(self) -> str:
        """How the subscription stands: notify-wait, pending, active, waiting, terminated.

        Terminated, too, once it has been closed, though its last word has not come.
        """
        return "terminated" if self._closed else self._subscription.status.value

    @property
    def dialogs(self) -> list[dialog_info.WatchedDialog]:
        """The calls that the watched one is in."""
        return self._dialogs.dialogs

    @property
    def users(self) -> list[conference_info.ConferenceUser]:
        """Those who take part in the conference that is watched."""
        return self._conference.users

    @property
    def line(self) -> Line:
        """As whom it watches."""
        return self._line

    @property
    def latest(self) -> Notification | None:
        """The last thing told."""
        told = list(self._log)
        return told[-1] if told else None

    async def notifications(self) -> AsyncIterator[Notification]:
        """Yield what was told from the beginning, and what is, until it is over."""
        async for notification in self._log.follow():
            yield notification

    async def close(self) -> None:
        """Give it up; returns when the other side has agreed, or after a moment.

        Nothing is told after that: what still comes is answered, and heard by nobody.
        """
        self._subscription.unsubscribe(self._desk.now())
        self._desk.flush()
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await self._ended.wait()
        self._closed = True
        self._log.end()

    async def __aenter__(self) -> Watch:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def confirmed(self) -> None:
        """Return when the first NOTIFY has come; raises `SubscriptionError` where none will."""
        await asyncio.shield(self._confirmed)

    def _on_event(self, event: SipEvent) -> None:
        match event:
            case Notified() if self._closed:
                pass
            case Notified(_, request, state):
                self._take(request, state)
                self._settle(None)
            case SubscriptionLost(_, reason, status, retry_in_s):
                log.info("%s is not told of: %s; again in %.0f s", self.event, reason, retry_in_s)
                self._conference.begin_anew()
                self._settle(SubscriptionError(self._why(reason, status), status=status))
            case SubscriptionEnded(_, reason, status):
                self._desk.stack.watchers.pop(self._subscription, None)
                self._settle(SubscriptionError(self._why(reason, status), status=status))
                self._log.end()
                self._ended.set()
                self._tell_ended(self)
            case _:
                pass

    def _why(self, reason: str, status: int | None) -> str:
        uri = self._subscription.wanted.uri
        code = "" if status is None else f" ({status})"
        return f"{uri} does not tell of {self.event}: {reason}{code}"

    def _settle(self, error: SubscriptionError | None) -> None:
        if self._confirmed.done():
            return
        if error is None:
            self._confirmed.set_result(None)
        else:
            self._confirmed.set_exception(error)
            self._confirmed.exception()  # nobody may wait for it

    def _take(self, request: Request, state: SubscriptionState) -> None:
        value = _read(self._subscription.event.package, request)
        complete = True
        if isinstance(value, dialog_info.DialogInfo):
            complete = self._dialogs.take(value)
        elif isinstance(value, reg.RegInfo):
            complete = self._contacts.take(value)
        elif isinstance(value, conference_info.ConferenceInfo):
            complete = self._conference.take(value)
        elif isinstance(value, message_summary.MessageSummary):
            self._desk.tell(_waiting(value, self._line))
        self._log.add(Notification(state.value, value, request.body, request.content_type))
        if state.terminated:
            return
        if self._conference.over:  # RFC 4575 section 4.6
            self._subscription.unsubscribe(self._desk.now())
            self._desk.flush()
        elif not complete:
            self._subscription.refresh(self._desk.now())
            self._desk.flush()


@dataclass(slots=True)
class _Watcher:
    """Who watches the calls of one of our accounts, and the versions of what it is told."""

    line: Line
    versions: Iterator[int] = field(default_factory=count)
    told: bytes = b""


class Watching:
    """All that a phone watches, and who watches it."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._watchers: dict[Notifier, _Watcher] = {}
        self._watches: dict[Watch, None] = {}  # in order: a simulation repeats

    async def watch(
        self,
        target: str | Call | None,
        event: str,
        *,
        expires_s: int = 3600,
        accept: Sequence[str] = (),
        account: Account | str | None = None,
    ) -> Watch:
        """Be told of an event: message-summary, presence, dialog, reg, conference or another.

        target: whose, None for the account itself; a call: what its other side has in its Contact,
        a conference. account: who watches, None for the first, or for whose call it is.
        Returns when the first word has come; raises `SubscriptionError` where none does. Kept until
        it is closed; `expires_s` 0 asks once.
        """
        desk = self._desk
        if isinstance(target, Call) and account is None:
            line = desk.lines.of_call(target.account)
        else:
            line = desk.lines.of(account)
        desk.check_open()
        try:
            package = EventType.parse(event).package
        except SipError as error:
            raise ConfigError(error.message, hint="such as 'message-summary'") from None
        if not accept:
            known = _READERS.get(package)
            if known is None:
                raise ConfigError(
                    f"nothing is known of {package!r}", hint="pass accept=('media/type',)"
                )
            accept = (known[0],)
        headers = []
        if isinstance(target, Call):
            dialog = dialog_of(target)
            uri = SipUri.parse(dialog.remote_target)
            headers.append(target_dialog(dialog))
        else:
            uri = line.account.aor if target is None else line.account.dial_uri(target)
        registrar, flow = await desk.way_to(line, uri)
        subscription = desk.stack.agent.subscriptions.subscribe(
            uri,
            event,
            flow=flow,
            from_=line.identity(flow),
            to=f"<{uri}>",
            contact=line.contact_to(uri, flow),
            accept=accept,
            expires_s=expires_s,
            keep=expires_s > 0,
            route=registrar.route(),
            headers=headers,
            credentials=line.account.credentials(),
            seek=seek(desk, line, uri, partial(line.contact_to, uri)),
            now=desk.now(),
        )
        watch = Watch(desk, line, subscription, lambda one: self._watches.pop(one, None))
        self._watches[watch] = None
        desk.flush()
        try:
            await watch.confirmed()
        except BaseException:
            subscription.unsubscribe(desk.now())
            desk.flush()
            raise
        return watch

    async def close(self, line: Line) -> None:
        """Give up what is watched as `line`."""
        await asyncio.gather(*(one.close() for one in self._watches if one.line is line))

    def on_unsolicited(self, request: Request) -> None:
        """Take a NOTIFY nobody asked for: mail waits."""
        value = _read("message-summary", request)
        if value is not None:
            self._desk.tell(_waiting(value, self._desk.lines.called(request)))

    # ------------------------------------------------------------ being watched

    def on_watch(self, handler: Handler) -> Handler:
        """Ask `handler(request)` (a `WatchRequest`) who may watch our calls: nobody without it."""
        self._desk.handlers.watch = handler
        return handler

    def on_subscribe(self, notifier: Notifier) -> None:
        """Somebody wants to watch our calls: only whom the application lets (403)."""
        desk = self._desk
        handler = desk.handlers.watch
        if handler is None:
            notifier.reject(403, now=desk.now())
            return
        self._watchers = {one: it for one, it in self._watchers.items() if not one.is_over}
        if len(self._watchers) >= MAX_WATCHERS:
            notifier.reject(503, headers=[("Retry-After", "60")], now=desk.now())
            return
        # nobody may be kept waiting (section 4.2.1.1): pending until the application has said
        line = desk.lines.called(notifier.request, notifier.flow)
        notifier.accept(
            contact=line.contact_for(notifier.request, notifier.flow), pending=True, now=desk.now()
        )
        desk.stack.watchers[notifier] = self._on_notifier
        request = WatchRequest(notifier.request.from_.uri, str(notifier.event))
        desk.spawn(self._decide(notifier, line, request))

    async def _decide(self, notifier: Notifier, line: Line, request: WatchRequest) -> None:
        desk, handler = self._desk, self._desk.handlers.watch
        allowed = handler is not None and await desk.ask(handler, request, False)
        if not allowed:
            notifier.terminate("rejected", now=desk.now())
        elif not notifier.is_over:
            self._watchers[notifier] = _Watcher(line, told=self._document(line, 0))
            self._notify(notifier)
        desk.flush()

    def _on_notifier(self, event: SipEvent) -> None:
        if isinstance(event, NotifierEnded):
            self._desk.stack.watchers.pop(event.notifier, None)
            self._watchers.pop(event.notifier, None)

    def calls_changed(self) -> None:
        """Tell those who watch, if a call of ours has come, gone or been answered."""
        lines = {watcher.line: b"" for watcher in self._watchers.values()}
        for line in lines:
            lines[line] = self._document(line, 0)
        changed = False
        for notifier, watcher in tuple(self._watchers.items()):
            if watcher.told != lines[watcher.line]:
                watcher.told = lines[watcher.line]
                self._notify(notifier)
                changed = True
        if changed:
            self._desk.flush()

    def end(self) -> None:
        """Say goodbye to those who watch."""
        self._say_goodbye(tuple(self._watchers), "deactivated")

    def forget(self, line: Line) -> None:
        """Tell those who watch the calls of `line` that there is nothing to be watched."""
        theirs = [one for one, watcher in self._watchers.items() if watcher.line is line]
        self._say_goodbye(theirs, "noresource")

    def _say_goodbye(self, notifiers: Sequence[Notifier], reason: str) -> None:
        for notifier in notifiers:
            notifier.terminate(reason, now=self._desk.now())
        self._desk.flush()

    def _notify(self, notifier: Notifier) -> None:
        line, versions = self._watchers[notifier].line, self._watchers[notifier].versions
        notifier.notify(
            lambda: self._document(line, next(versions)),
            dialog_info.CONTENT_TYPE,
            now=self._desk.now(),
        )

    def _document(self, line: Line, version: int) -> bytes:
        """Say which calls an account is in."""
        lines = self._desk.lines
        calls = [one for one in self._desk.calls.values() if lines.of_call(one.account) is line]
        dialogs = [watched(call._session, call.id) for call in calls]
        found = tuple(dialog for dialog in dialogs if dialog is not None)
        return dialog_info.DialogInfo(str(line.account.aor), version, True, found).to_bytes()


def _read(package: str, request: Request) -> Any:
    known = _READERS.get(package)
    if known is None or not request.body or request.content_type != known[0]:
        return None
    try:
        return known[1](request.body)
    except SipError as error:
        log.warning("a NOTIFY of %s that cannot be read: %s", package, error)
        return None


def _waiting(summary: message_summary.MessageSummary, line: Line) -> MessageWaiting:
    voice = summary.of()
    return MessageWaiting(summary.waiting, voice.new, voice.old, summary.account, line.aor)
