"""What a server tells of its users: presence, registrations, mail (RFC 3856, 3680, 3842).

A notifier for those who watch, and a compositor for what users publish. It lives in the agent of a
proxy, which knows by then who asks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import blake2s
from itertools import count
from typing import Final

from voip.sip.compositor import Compositor, CompositorConfig, Package
from voip.sip.core import Core
from voip.sip.flow import Flow
from voip.sip.gruu import public_gruu
from voip.sip.location import Binding, Location
from voip.sip.notifier import Notifier
from voip.sip.packages import message_summary, presence, reg
from voip.sip.server_request import ServerRequest
from voip.sip.timers import Timer
from voip.sip.uri import SipUri

__all__ = ["PACKAGES", "EventConfig", "EventServer", "owners_and_presence"]

PACKAGES: Final = ("presence", "reg", "message-summary")
_TYPES: Final = {
    "presence": presence.CONTENT_TYPE,
    "reg": reg.CONTENT_TYPE,
    "message-summary": message_summary.CONTENT_TYPE,
}


def owners_and_presence(watcher: str, user: str, package: str) -> bool:
    """Let users watch each other's presence, and all of their own."""
    return watcher == user or package == "presence"


@dataclass(frozen=True, slots=True)
class EventConfig:
    """What is told, and to whom.

    packages: which of `PACKAGES`. may_watch: whether a user (the first) may watch another's (the
    second) package; who has not shown a password is nobody's watcher. `max_of_watcher`:
    subscriptions of one user; one more is refused with 503.
    """

    packages: tuple[str, ...] = PACKAGES
    may_watch: Callable[[str, str, str], bool] = owners_and_presence
    publications: CompositorConfig = field(default_factory=CompositorConfig)
    max_of_watcher: int = 256


@dataclass(slots=True)
class _Watcher:
    """Who watches what of whom. `aor`: as the watcher has called it."""

    name: str
    package: str
    user: str
    aor: SipUri
    versions: count[int] = field(default_factory=count)


class EventServer:
    """Serves the events of one server's users, whose bindings are in `location`."""

    def __init__(self, core: Core, location: Location, config: EventConfig) -> None:
        self.config = config
        self._core = core
        self._location = location
        location.changed = self._registered
        self._compositor = Compositor(
            {"presence": Package(presence.CONTENT_TYPE, presence.Presence.parse)},
            core.timers,
            core.random,
            self._changed,
            self.config.publications,
        )
        self._mail: dict[str, message_summary.MessageSummary] = {}
        self._watchers: dict[Notifier, _Watcher] = {}
        self._of_user: dict[tuple[str, str], dict[Notifier, None]] = {}
        self._of_watcher: Counter[str] = Counter()
        self._wakes: dict[str, Timer] = {}  # by user whose registration is watched

    @property
    def publications(self) -> int:
        """How many documents are published."""
        return len(self._compositor)

    @property
    def watchers(self) -> int:
        """How many subscriptions there are."""
        return len(self._watchers)

    # What users publish and the application says.

    def publish(self, publish: ServerRequest, user: str, now: float) -> None:
        """Answer a PUBLISH of a user's own state."""
        self._compositor.publish(publish, user, now)

    def set_mail(self, user: str, summary: message_summary.MessageSummary, now: float) -> None:
        """Say what waits in a user's mailbox."""
        self._mail[user] = summary
        self._changed("message-summary", user, now)

    # Who watches.

    def subscribe(self, notifier: Notifier, now: float, *, watcher: str, user: str) -> None:
        """Accept a subscription of `watcher` to an event of `user`, or refuse it."""
        package = notifier.event.package
        if not self.config.may_watch(watcher, user, package):
            notifier.reject(403, now=now)
        elif not notifier.accepts(_TYPES[package]):
            notifier.reject(406, now=now)
        elif self._of_watcher[watcher] >= self.config.max_of_watcher:
            notifier.reject(503, headers=[("Retry-After", "60")], now=now)
        else:
            uri = SipUri.parse(notifier.request.uri)
            aor = SipUri(uri.scheme, user, None, uri.host, uri.port)
            it = _Watcher(watcher, package, user, aor)
            self._watchers[notifier] = it
            self._of_user.setdefault((package, user), {})[notifier] = None
            self._of_watcher[watcher] += 1
            if package == "reg":
                self._await_expiry(user, now)
            notifier.accept(
                contact=_own_contact(notifier.flow),
                body=partial(self._document, it),
                content_type=_TYPES[package],
                now=now,
            )

    def ended(self, notifier: Notifier) -> None:
        """Forget a subscription that is over."""
        it = self._watchers.pop(notifier, None)
        if it is None:
            return
        key = it.package, it.user
        self._of_user[key].pop(notifier, None)
        if not self._of_user[key]:
            del self._of_user[key]
            if it.package == "reg":
                self._wake(it.user, None)
        self._of_watcher[it.name] -= 1
        if not self._of_watcher[it.name]:
            del self._of_watcher[it.name]

    def close(self, now: float) -> None:
        """Say goodbye to who watches; who still wants to may ask again at once (RFC 6665 4.1.3)."""
        for notifier in list(self._watchers):
            notifier.terminate("deactivated", now=now)

    # Within.

    def _changed(self, package: str, user: str, now: float) -> None:
        for notifier in list(self._of_user.get((package, user), ())):
            notifier.notify(partial(self._document, self._watchers[notifier]), now=now)

    def _registered(self, user: str) -> None:
        """Tell of bindings that have changed as soon as there is a time to tell it at."""
        if ("reg", user) in self._of_user:
            self._wake(user, 0.0)

    def _await_expiry(self, user: str, now: float) -> None:
        """Be there when the next binding of a user who is watched expires."""
        there = self._location.bindings(user, now)
        self._wake(user, min((binding.expires_at for binding in there), default=None))

    def _wake(self, user: str, at: float | None) -> None:
        timer = self._wakes.pop(user, None)
        if timer is not None:
            timer.cancel()
        if at is not None:
            self._wakes[user] = self._core.timers.start(at, partial(self._on_wake, user))

    def _on_wake(self, user: str, now: float) -> None:
        self._await_expiry(user, now)
        self._changed("reg", user, now)

    def _document(self, it: _Watcher) -> bytes:
        """Say how something stands."""
        match it.package:
            case "presence":
                published = self._compositor.documents("presence", it.user)
                return presence.compose(str(it.aor), published)
            case "reg":
                return self._reg_info(it).to_bytes()
        summary = self._mail.get(it.user, message_summary.MessageSummary(waiting=False))
        return replace(summary, account=summary.account or str(it.aor)).to_bytes()

    def _reg_info(self, it: _Watcher) -> reg.RegInfo:
        """Say where a user is registered, with the names of the phones (RFC 5628)."""
        contacts = tuple(_contact_of(binding, it.aor) for binding in self._location.known(it.user))
        state = "active" if contacts else "init"
        registration = reg.WatchedRegistration("r1", str(it.aor), state, contacts)
        return reg.RegInfo(next(it.versions), True, (registration,))


def _contact_of(binding: Binding, aor: SipUri) -> reg.RegContact:
    name = blake2s(str(binding.contact.uri).encode("utf-8", "replace"), digest_size=6)
    if binding.reg_id is not None:
        name.update(f"{binding.instance};{binding.reg_id}".encode("utf-8", "replace"))
    gruu = None if binding.instance is None else str(public_gruu(aor, binding.instance))
    return reg.RegContact(
        name.hexdigest(), binding.contact.uri, "active", "registered", pub_gruu=gruu
    )


def _own_contact(flow: Flow) -> str:
    """Return where later requests of a subscription are to come: to the server, and to nobody."""
    uri = SipUri("sip", None, None, flow.local.host, flow.local.port)
    if flow.transport != "udp":
        uri = uri.with_params(transport=flow.transport)
    return f"<{uri}>"
