"""Which way a call came: Diversion (RFC 5806) and History-Info (RFC 7044).

Both tell of earlier destinations; Diversion names who sent the call on, the newest first,
History-Info every Request-URI there was, in a tree.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from voip.errors import SipError
from voip.sip.grammar import token_or_quoted
from voip.sip.headers import Headers, NameAddr
from voip.sip.identity import NO_PRIVACY, Privacy
from voip.sip.reason import Reason
from voip.sip.uri import SipUri

__all__ = ["Diversion", "HistoryEntry", "diversions", "followed", "history", "retargeted"]

_INDEX: Final = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9}){0,69}")
"""As deep as Max-Forwards lets a request go."""
_COUNT: Final = re.compile(r"[0-9]{1,2}")
MAX_HISTORY: Final = 64
"""Entries of one message that are looked at."""


@dataclass(frozen=True, slots=True)
class Diversion:
    """Somebody who sent a call on. `reason`: user-busy, no-answer, unconditional ... ("unknown").

    `counter`: how many diversions this entry stands for; `limit`: how many more may follow;
    `privacy`: full, name, uri or off; `screen`: whether a network has checked the address.
    """

    address: NameAddr
    reason: str = "unknown"
    counter: int = 1
    limit: int | None = None
    privacy: str | None = None
    screen: bool | None = None

    @classmethod
    def parse(cls, text: str) -> Diversion:
        """Read one value; SipError (400) when it cannot be read."""
        address = NameAddr.parse(text)
        counter, limit = address.param("counter"), address.param("limit")
        for count in (counter, limit):
            if count is not None and not _COUNT.fullmatch(count):
                raise SipError(f"not a Diversion: {text[:80]!r}", status=400)
        screen = address.param("screen")
        return cls(
            address._replace(params=()),
            (address.param("reason") or "unknown").lower(),
            1 if counter is None else int(counter),
            None if limit is None else int(limit),
            address.param("privacy"),
            None if screen is None else screen.lower() == "yes",
        )

    def __str__(self) -> str:
        parts = [
            str(self.address),
            f";reason={token_or_quoted(self.reason)}",
            f";counter={self.counter}",
        ]
        if self.limit is not None:
            parts.append(f";limit={self.limit}")
        if self.privacy is not None:
            parts.append(f";privacy={token_or_quoted(self.privacy)}")
        if self.screen is not None:
            parts.append(f";screen={'yes' if self.screen else 'no'}")
        return "".join(parts)


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """A Request-URI the call had. `index`: its place in the tree, (1, 2) is written 1.2.

    How it came about: `rc` (the same user, another contact), `mp` (another user), `np` (nothing
    changed), each the index it came from. `reasons`: what became of it; `privacy`: whether it is
    to be kept from others.
    """

    address: NameAddr
    index: tuple[int, ...]
    rc: tuple[int, ...] | None = None
    mp: tuple[int, ...] | None = None
    np: tuple[int, ...] | None = None
    reasons: tuple[Reason, ...] = ()
    privacy: Privacy = NO_PRIVACY

    @classmethod
    def parse(cls, text: str) -> HistoryEntry:
        """Read one value; SipError (400) when it cannot be read or has no index."""
        written = NameAddr.parse(text)
        index = _read_index(written.param("index"))
        if index is None:
            raise SipError(f"a history entry without index: {text[:80]!r}", status=400)
        reasons: tuple[Reason, ...] = ()
        privacy = NO_PRIVACY
        address = written._replace(params=())
        try:
            uri = written.sip_uri
        except SipError:  # a tel: URI
            uri = None
        if uri is not None and uri.headers:
            try:
                hidden = Headers(uri.headers)
            except SipError as error:  # escaped in a URI there may be what is no header
                raise SipError(error.message, status=400) from error
            reasons, privacy = tuple(Reason.of(hidden)), Privacy.of(hidden)
            kept = tuple(h for h in uri.headers if h[0].lower() not in ("reason", "privacy"))
            address = address._replace(uri=str(replace(uri, headers=kept)))
        rc, mp, np = (_read_index(written.param(name)) for name in ("rc", "mp", "np"))
        return cls(address, index, rc, mp, np, reasons, privacy)

    def __str__(self) -> str:
        address = self.address
        hidden = [("Privacy", str(self.privacy))] if self.privacy.values else []
        hidden += [("Reason", str(reason)) for reason in self.reasons]
        if hidden:
            uri = SipUri.parse(address.uri)
            address = address._replace(uri=str(replace(uri, headers=(*uri.headers, *hidden))))
        ways = ((name, getattr(self, name)) for name in ("rc", "mp", "np"))
        told = "".join(f";{name}={_written(way)}" for name, way in ways if way is not None)
        return f"{address};index={_written(self.index)}{told}"


def diversions(headers: Headers) -> list[Diversion]:
    """Return who sent the call on, the newest first; what cannot be read is passed over."""
    return headers.readable("Diversion", Diversion.parse, MAX_HISTORY)


def history(headers: Headers) -> list[HistoryEntry]:
    """Return the Request-URIs the call had, in the order they stand; likewise."""
    return headers.readable("History-Info", HistoryEntry.parse, MAX_HISTORY)


def retargeted(
    entries: Sequence[HistoryEntry], uri: str, *, reason: Reason | None = None
) -> list[HistoryEntry]:
    """Return the history of a call that is sent on to `uri`, another user (section 10.3).

    `reason`: what became of the last destination, such as SIP 486.
    """
    if not entries:
        return [HistoryEntry(NameAddr("", uri), (1,))]
    *earlier, last = entries
    if reason is not None:
        last = replace(last, reasons=(*last.reasons, reason))
    index = (*last.index, 1)
    return [*earlier, last, HistoryEntry(NameAddr("", uri), index, mp=last.index)]


def followed(entries: Sequence[HistoryEntry], contact: NameAddr) -> list[HistoryEntry]:
    """Return the history of a call that goes on to the Contact of a 3xx (sections 6.1, 10.4).

    The way there is what the Contact says of it; a 3xx may name the place in its history already.
    """
    if not entries or any(entry.address.uri == contact.uri for entry in entries):
        return list(entries)
    index = (max(entry.index[0] for entry in entries) + 1,)
    rc, mp = (_read_index(contact.param(name)) for name in ("rc", "mp"))
    return [*entries, HistoryEntry(NameAddr("", contact.uri), index, rc=rc, mp=mp)]


def _read_index(text: str | None) -> tuple[int, ...] | None:
    if text is None or not _INDEX.fullmatch(text):
        return None
    return tuple(int(part) for part in text.split("."))


def _written(index: tuple[int, ...]) -> str:
    return ".".join(map(str, index))
