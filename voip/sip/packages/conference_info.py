"""Conference: who takes part in a conference, and how (RFC 4575)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from voip.errors import SipError
from voip.sip.packages.xml import (
    Element,
    attribute,
    children,
    number,
    parse_xml,
    text_of,
    write_xml,
)

__all__ = [
    "CONTENT_TYPE",
    "ConferenceEndpoint",
    "ConferenceInfo",
    "ConferenceMedia",
    "ConferenceTable",
    "ConferenceUser",
    "changes",
]

CONTENT_TYPE: Final = "application/conference-info+xml"
MAX_USERS: Final = 1_024
MAX_OF_USER: Final = 32
"""Users that a table remembers, and endpoints, and streams of each; partial documents could go on
for ever."""
_NS: Final = "urn:ietf:params:xml:ns:conference-info"
STATES: Final = ("full", "partial", "deleted")


@dataclass(frozen=True, slots=True)
class ConferenceMedia:
    """A stream. `status`: its direction as the participant sees it (sendrecv, recvonly ...)."""

    id: str
    type: str | None = None
    status: str | None = None


@dataclass(frozen=True, slots=True)
class ConferenceEndpoint:
    """A device of a user. `entity`: mostly its Contact.

    `status`: connected, on-hold, muted-via-focus, alerting ...; `joined`: dialed-in, dialed-out or
    focus-owner; `left`: departed, booted, failed or busy. None: nothing is said of it.
    """

    entity: str
    status: str | None = None
    joined: str | None = None
    left: str | None = None
    media: tuple[ConferenceMedia, ...] = ()
    state: str = "full"


@dataclass(frozen=True, slots=True)
class ConferenceUser:
    """Somebody who takes part. `entity` is a URI, `name` what people call them."""

    entity: str
    name: str | None = None
    roles: tuple[str, ...] = ()
    endpoints: tuple[ConferenceEndpoint, ...] = ()
    state: str = "full"


@dataclass(frozen=True, slots=True)
class ConferenceInfo:
    """A document of the conference `entity`, a URI.

    `state` of a document, its users, a user and an endpoint: "full" says all of it, "partial" what
    has changed, "deleted" that it is gone. `users` None: nothing is said of them.
    """

    entity: str
    version: int
    users: tuple[ConferenceUser, ...] | None = None
    state: str = "full"
    users_state: str = "full"
    user_count: int | None = None
    subject: str | None = None

    @classmethod
    def parse(cls, body: bytes) -> ConferenceInfo:
        """Read a document; SipError (400) where it is none."""
        root = parse_xml(body, f"{{{_NS}}}conference-info")
        state = _state(root)
        version = number(attribute(root, "version"))
        if version is None:
            raise SipError("a conference-info without a version number", status=400)
        users = next(children(root, "users"), None)
        counted = text_of(next(children(root, "conference-state"), None), "user-count")
        return cls(
            attribute(root, "entity"),
            version,
            None if users is None else tuple(_user(one) for one in children(users, "user")),
            state,
            "full" if users is None else _state(users),
            number(counted),
            text_of(next(children(root, "conference-description"), None), "subject"),
        )

    def to_bytes(self) -> bytes:
        """Write the document."""
        root = Element(
            "conference-info",
            {"entity": self.entity, "state": self.state, "version": str(self.version)},
        )
        if self.state == "full" or self.subject is not None:
            root.append(self._description())
        if self.user_count is not None:
            state = _child(root, "conference-state")
            _child(state, "user-count").text = str(self.user_count)
        if self.users is not None:
            users = _child(root, "users", state=self.users_state)
            for user in self.users:
                _write_user(users, user)
        return write_xml(root, _NS)

    def _description(self) -> Element:
        """Say what can be called to take part (section 5.3)."""
        description = Element("conference-description")
        if self.subject is not None:
            _child(description, "subject").text = self.subject
        entry = _child(_child(description, "conf-uris"), "entry")
        _child(entry, "uri").text = self.entity
        _child(entry, "purpose").text = "participation"
        return description


class ConferenceTable:
    """What the documents of one subscription come to (section 4.6)."""

    def __init__(self) -> None:
        self.over = False
        """Whether the conference has ceased to exist."""
        self._version: int | None = None
        self._users: dict[str, ConferenceUser] = {}

    @property
    def users(self) -> list[ConferenceUser]:
        """Those who take part."""
        return list(self._users.values())

    def begin_anew(self) -> None:
        """Count versions afresh, as a subscription does that is asked for again."""
        self._version = None

    def take(self, info: ConferenceInfo) -> bool:
        """Take a document; False where one has been missed: refresh the subscription then.

        An old one is passed over.
        """
        before = self._version
        if before is not None and info.version <= before:
            return True
        self.over = info.state == "deleted"
        if info.state == "partial" and (before is None or info.version > before + 1):
            return False
        self._version = info.version
        if info.state != "partial" or (info.users is not None and info.users_state != "partial"):
            self._users.clear()
        if info.state != "deleted" and info.users is not None and info.users_state != "deleted":
            _merge_users(self._users, info.users)
        return True


def changes(
    before: Mapping[str, ConferenceUser], now: Mapping[str, ConferenceUser]
) -> tuple[ConferenceUser, ...]:
    """Return what a partial document says of users, by their entities: who is gone, and is new."""
    gone = (ConferenceUser(entity, state="deleted") for entity in before if entity not in now)
    new = (user for entity, user in now.items() if before.get(entity) != user)
    return (*gone, *new)


def _merge_users(rows: dict[str, ConferenceUser], told: Iterable[ConferenceUser]) -> None:
    """Bring the table to what is told of users (4.6, steps 1 to 3)."""
    for user in told:
        known = rows.get(user.entity)
        if user.state == "deleted":
            rows.pop(user.entity, None)
        elif known is not None or len(rows) < MAX_USERS:
            before = known if known is not None and user.state == "partial" else None
            endpoints = {one.entity: one for one in before.endpoints} if before else {}
            _merge_endpoints(endpoints, user.endpoints)
            rows[user.entity] = replace(
                user,
                name=user.name or (before.name if before else None),
                roles=user.roles or (before.roles if before else ()),
                endpoints=tuple(endpoints.values()),
                state="full",
            )


def _merge_endpoints(
    rows: dict[str, ConferenceEndpoint], told: Iterable[ConferenceEndpoint]
) -> None:
    for endpoint in told:
        known = rows.get(endpoint.entity)
        if endpoint.state == "deleted":
            rows.pop(endpoint.entity, None)
        elif known is None or endpoint.state == "full":
            if known is not None or len(rows) < MAX_OF_USER:
                rows[endpoint.entity] = replace(endpoint, state="full")
        else:
            media = {one.id: one for one in (*known.media, *endpoint.media)}
            rows[endpoint.entity] = replace(
                endpoint,
                status=endpoint.status or known.status,
                joined=endpoint.joined or known.joined,
                left=endpoint.left or known.left,
                media=tuple(media.values())[:MAX_OF_USER],
                state="full",
            )


def _state(element: Element) -> str:
    state = str(element.get("state", "full"))
    if state not in STATES:
        raise SipError(f"an element in no state: {state[:40]!r}", status=400)
    return state


def _user(element: Element) -> ConferenceUser:
    roles = next(children(element, "roles"), None)
    return ConferenceUser(
        attribute(element, "entity"),
        text_of(element, "display-text"),
        tuple((entry.text or "").strip() for entry in children(roles, "entry")),
        tuple(_endpoint(endpoint) for endpoint in children(element, "endpoint")),
        _state(element),
    )


def _endpoint(element: Element) -> ConferenceEndpoint:
    return ConferenceEndpoint(
        attribute(element, "entity"),
        text_of(element, "status"),
        text_of(element, "joining-method"),
        text_of(element, "disconnection-method"),
        tuple(
            ConferenceMedia(attribute(one, "id"), text_of(one, "type"), text_of(one, "status"))
            for one in children(element, "media")
        ),
        _state(element),
    )


def _write_user(parent: Element, user: ConferenceUser) -> None:
    element = _child(parent, "user", entity=user.entity, state=user.state)
    _say(element, (("display-text", user.name),))
    if user.roles:
        roles = _child(element, "roles")
        _say(roles, (("entry", role) for role in user.roles))
    for endpoint in user.endpoints:
        shown = _child(element, "endpoint", entity=endpoint.entity, state=endpoint.state)
        _say(
            shown,
            (
                ("status", endpoint.status),
                ("joining-method", endpoint.joined),
                ("disconnection-method", endpoint.left),
            ),
        )
        for media in endpoint.media:
            stream = _child(shown, "media", id=media.id)
            _say(stream, (("type", media.type), ("status", media.status)))


def _say(parent: Element, said: Iterable[tuple[str, str | None]]) -> None:
    for name, text in said:
        if text is not None:
            _child(parent, name).text = text


def _child(parent: Element, name: str, **attributes: str) -> Element:
    element = Element(name, attributes)
    parent.append(element)
    return element
