"""Header fields (RFC 3261 section 7.3): the ordered multi-map, and the typed values.

Values stay text until somebody asks for more. One name has one meaning in any case and in its
compact form; the spelling that came is the spelling that goes. Parameters of typed values are held
as they were written, so that what is passed on stays what it was.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from voip.errors import SipError
from voip.sip.grammar import (
    TOKEN,
    Params,
    find_param,
    format_params,
    is_token,
    parse_params,
    quote_string,
    split_list,
    unquote_string,
)
from voip.sip.limits import MAX_CSEQ, MAX_LINE_CHARS, MAX_SECONDS
from voip.sip.uri import SipUri, for_people, format_host, parse_host_port

__all__ = ["CSeq", "ContentType", "Headers", "NameAddr", "Via", "parse_seconds"]

_T = TypeVar("_T")

_COMPACT: Final = {
    "a": "accept-contact",
    "b": "referred-by",
    "c": "content-type",
    "d": "request-disposition",
    "e": "content-encoding",
    "f": "from",
    "i": "call-id",
    "j": "reject-contact",
    "k": "supported",
    "l": "content-length",
    "m": "contact",
    "n": "identity-info",
    "o": "event",
    "r": "refer-to",
    "s": "subject",
    "t": "to",
    "u": "allow-events",
    "v": "via",
    "x": "session-expires",
    "y": "identity",
}
"""Compact forms (RFC 3261 section 7.3.3 and the IANA registry of SIP header fields)."""

_USUAL: Final = (
    "Via From To Call-ID CSeq Contact Max-Forwards Content-Type Content-Length Route Record-Route "
    "Allow Supported Require User-Agent Server Expires Min-Expires Authorization Accept Warning "
    "WWW-Authenticate Proxy-Authorization Proxy-Authenticate Date Reason Event Retry-After "
    "Session-Expires Min-SE Subject Organization P-Asserted-Identity Privacy Refer-To"
)
_KEYS: Final = {
    **_COMPACT,
    **{short.upper(): long for short, long in _COMPACT.items()},
    **{name: name.lower() for name in _USUAL.split()},
}
"""The spellings that nearly always come, so that one look-up folds them."""

_BLANKS: Final = (" ", "\t")
_FOLD: Final = re.compile(r"\r\n[ \t]+")
_NAME_ADDR: Final = re.compile(
    r'[ \t]*+(?:"(?P<quoted>(?:[^"\\]|\\.)*+)"[ \t]*+|(?P<words>[^<>",;]*+))'
    r"<[ \t]*+(?P<uri>[^<> \t]++)[ \t]*+>(?P<params>.*)",
    re.DOTALL,
)
_ADDR_SPEC: Final = re.compile(r'[ \t]*+(?P<uri>[^<>",;? \t]++)(?P<params>.*)', re.DOTALL)
_VIA: Final = re.compile(
    r"[ \t]*+(?P<name>[^/ \t]++)[ \t]*+/[ \t]*+(?P<version>[^/ \t]++)[ \t]*+/"
    rf"[ \t]*+(?P<transport>{TOKEN})[ \t]++"
    r"(?P<host>\[[^\]]*+\]|[^\[\]:;, \t]++)[ \t]*+(?::[ \t]*+(?P<port>[0-9]++)[ \t]*+)?"
    r"(?P<params>;.*)?",
    re.DOTALL,
)
_CSEQ: Final = re.compile(rf"[ \t]*+([0-9]++)[ \t]++({TOKEN})[ \t]*+")
_CONTENT_TYPE: Final = re.compile(
    rf"[ \t]*+({TOKEN})[ \t]*+/[ \t]*+({TOKEN})[ \t]*+(;.*)?", re.DOTALL
)
_SECONDS: Final = re.compile(r"[ \t]*+([0-9]++)")


def _key(name: str) -> str:
    key = _KEYS.get(name)
    if key is None:
        key = name.lower()
        return _COMPACT.get(key, key)
    return key


class Headers:
    """Header lines in order, as `(name, value)` text; several lines may share a name.

    `add`, `prepend` and `set` refuse what would end a line early, so that no value can smuggle
    in another header.
    """

    __slots__ = ("_index", "_items")

    def __init__(self, items: Iterable[tuple[str, str]] = ()) -> None:
        self._items: list[tuple[str, str]] = []
        self._index: dict[str, list[str]] = {}
        for name, value in items:
            self.add(name, value)

    @classmethod
    def read(cls, text: str) -> tuple[Headers, str | None]:
        """Read header lines, without the CRLF of the last; return them and the first bad line.

        Folded lines become one (RFC 3261 section 7.3.1), blanks around values fall off.
        """
        headers = cls()
        if not text:
            return headers, None
        lines = text.split("\r\n")
        if _has_broken_line(lines):
            broken = [line for line in lines if _is_broken(line)]
            sound = "\r\n".join(line for line in lines if not _is_broken(line))
            return cls.read(sound)[0], broken[0]
        items, index = headers._items, headers._index
        bad: str | None = None
        usual = _KEYS.get
        for line in lines:
            name, colon, value = line.partition(":")
            key = usual(name)
            if key is None:
                if line[:1] in _BLANKS and text[0] not in _BLANKS:
                    return cls.read(_FOLD.sub(" ", text))
                name = name.rstrip(" \t")
                if not colon or not is_token(name):
                    bad = line if bad is None else bad
                    continue
                key = _key(name)
            value = value.strip(" \t")
            items.append((name, value))
            if key in index:
                index[key].append(value)
            else:
                index[key] = [value]
        return headers, bad

    def get(self, name: str) -> str | None:
        """Return the value of the first line of that name, None when there is none."""
        values = self._index.get(_KEYS.get(name) or _key(name))
        return values[0] if values else None

    def get_all(self, name: str) -> list[str]:
        """Return the values of all lines of that name, one entry a line."""
        return list(self._index.get(_key(name), ()))

    def values(self, name: str) -> list[str]:
        """Return all values of that name, comma-separated lists taken apart.

        Not for Date and the four authentication headers, whose commas separate nothing or
        parameters. SipError (400) when a quote or an angle bracket is never closed.
        """
        values: list[str] = []
        for line in self._index.get(_key(name), ()):
            values += split_list(line)
        return values

    def readable(self, name: str, parse: Callable[[str], _T], limit: int = 64) -> list[_T]:
        """Return the values that `parse` can read, of the first `limit`; others are passed over."""
        found: list[_T] = []
        for line in self._index.get(_key(name), ())[:limit]:
            with suppress(SipError):
                for value in split_list(line)[:limit]:
                    with suppress(SipError):
                        found.append(parse(value))
        return found[:limit]

    def add(self, name: str, value: str) -> None:
        """Append a line."""
        _check(name, value)
        self._items.append((name, value))
        self._index.setdefault(_key(name), []).append(value)

    def prepend(self, name: str, value: str) -> None:
        """Put a line before all others: a Via, a Record-Route."""
        _check(name, value)
        self._items.insert(0, (name, value))
        self._index.setdefault(_key(name), []).insert(0, value)

    def set(self, name: str, value: str) -> None:
        """Make this the only line of that name, in the place of the first one."""
        _check(name, value)
        key = _key(name)
        if key not in self._index:
            self.add(name, value)
            return
        first = next(i for i, (other, _) in enumerate(self._items) if _key(other) == key)
        self._items[first] = (name, value)
        rest = [item for item in self._items[first + 1 :] if _key(item[0]) != key]
        self._items[first + 1 :] = rest
        self._index[key] = [value]

    def remove(self, name: str) -> None:
        """Take away all lines of that name, if there are any."""
        key = _key(name)
        if self._index.pop(key, None) is not None:
            self._items = [item for item in self._items if _key(item[0]) != key]

    def copy(self) -> Headers:
        """Return the same lines in a map of their own."""
        twin = Headers()
        twin._items = list(self._items)
        twin._index = {key: list(values) for key, values in self._index.items()}
        return twin

    def __contains__(self, name: str) -> bool:
        return _key(name) in self._index

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __eq__(self, other: object) -> bool:
        """Equal: the same names, each with the same values in the same order."""
        return isinstance(other, Headers) and self._index == other._index

    def __repr__(self) -> str:
        return f"<Headers: {', '.join(name for name, _ in self._items)}>"


def _has_broken_line(lines: list[str]) -> bool:
    """Whether a line is too long, or has a CR or LF in it that does not end it."""
    text = "".join(lines)
    if "\n" not in text and "\r" not in text and len(text) <= MAX_LINE_CHARS:
        return False
    return any(_is_broken(line) for line in lines)


def _is_broken(line: str) -> bool:
    return "\n" in line or "\r" in line or len(line) > MAX_LINE_CHARS


def _check(name: str, value: str) -> None:
    if not is_token(name):
        raise SipError(f"not a header name: {name[:80]!r}")
    if "\r" in value or "\n" in value:
        raise SipError(f"the value of {name} has a line break in it")


@dataclass(frozen=True, slots=True)
class NameAddr:
    """Somebody's address: From, To, Contact, Route, Refer-To ... (RFC 3261 section 20.10).

    `uri` is the text of any scheme; `display` what a person reads, "" when there is nothing.
    """

    display: str
    uri: str
    params: Params = ()

    @classmethod
    def parse(cls, text: str) -> NameAddr:
        """Read `"Name" <uri>;params` or `uri;params`; SipError (400) otherwise."""
        match = _NAME_ADDR.fullmatch(text)
        if match is None:
            return _parse_addr_spec(text)
        quoted, words, uri, params = match.groups()
        display = unquote_string(f'"{quoted}"') if quoted is not None else words.strip(" \t")
        return cls(display, uri, parse_params(params) if params else ())

    def __str__(self) -> str:
        shown = f"{quote_string(self.display)} " if self.display else ""
        return f"{shown}<{self.uri}>{format_params(self.params)}"

    def param(self, name: str) -> str | None:
        """Return a parameter's value unquoted: "" without one, None when it is not there."""
        return find_param(self.params, name)

    @property
    def tag(self) -> str | None:
        """The tag that makes a dialog identifier of a From or To; None when there is none."""
        return find_param(self.params, "tag") or None

    @property
    def sip_uri(self) -> SipUri:
        """The URI taken apart; SipError (416 or 400) when it is no SIP URI."""
        return SipUri.parse(self.uri)

    def with_tag(self, tag: str) -> NameAddr:
        """Return a copy whose only tag is this one."""
        kept = tuple(param for param in self.params if param[0].lower() != "tag")
        return replace(self, params=(*kept, ("tag", tag)))


def _parse_addr_spec(text: str) -> NameAddr:
    """Read a bare URI: its `;` begin header parameters, and `?` or `,` are not allowed in it."""
    match = _ADDR_SPEC.fullmatch(text)
    if match is None:
        raise SipError(f"not an address: {for_people(text)!r}", status=400)
    return NameAddr("", match["uri"], parse_params(match["params"]))


@dataclass(frozen=True, slots=True)
class Via:
    """One hop of a request's way (RFC 3261 section 20.42).

    `transport` in upper case; `protocol` is another than SIP/2.0 only in what `check` refuses.
    """

    transport: str
    host: str
    port: int | None = None
    params: Params = ()
    protocol: str = "SIP/2.0"

    @classmethod
    def parse(cls, text: str) -> Via:
        """Read a single Via value; SipError (400) otherwise."""
        match = _VIA.fullmatch(text)
        if match is None:
            raise SipError(f"not a Via: {text[:80]!r}", status=400)
        name, version, transport, host, port, params = match.groups()
        hop = (*parse_host_port(host, port), parse_params(params) if params else ())
        if version == "2.0" and name == "SIP":
            return cls(transport.upper(), *hop)
        return cls(transport.upper(), *hop, f"{name.upper()}/{version}")

    def __str__(self) -> str:
        sent_by = format_host(self.host, self.port)
        return f"{self.protocol}/{self.transport} {sent_by}{format_params(self.params)}"

    def param(self, name: str) -> str | None:
        """Return a parameter's value unquoted: "" without one, None when it is not there."""
        return find_param(self.params, name)

    @property
    def branch(self) -> str | None:
        """The transaction's name; RFC 3261's begin with z9hG4bK."""
        return find_param(self.params, "branch")

    @property
    def received(self) -> str | None:
        """Where the request came from by its source address, if that is not `host`."""
        return find_param(self.params, "received")

    @property
    def rport(self) -> int | None:
        """The source port a server has filled in (RFC 3581); None while it is only asked for."""
        value = find_param(self.params, "rport")
        if not value or len(value) > 5 or not (value.isascii() and value.isdigit()):
            return None
        return int(value)

    @property
    def wants_rport(self) -> bool:
        """Whether `rport` is there, filled in or not."""
        return find_param(self.params, "rport") is not None

    def with_params(self, **params: str | None) -> Via:
        """Return a copy with these parameters set, each in its old place if it had one."""
        left = dict(params)
        kept = tuple(
            (name, left.pop(name.lower())) if name.lower() in left else (name, value)
            for name, value in self.params
        )
        return replace(self, params=(*kept, *left.items()))


@dataclass(frozen=True, slots=True)
class CSeq:
    """Number and method: the order of requests in a dialog (RFC 3261 section 20.16)."""

    number: int
    method: str

    @classmethod
    def parse(cls, text: str) -> CSeq:
        """Read it; SipError (400) when it is none or beyond 2**31 - 1."""
        match = _CSEQ.fullmatch(text)
        if match is None:
            raise SipError(f"not a CSeq: {text[:80]!r}", status=400)
        digits = match[1].lstrip("0")
        if len(digits) > 10 or int(digits or "0") > MAX_CSEQ:
            raise SipError(f"the CSeq number is too large: {digits[:40]}", status=400)
        return cls(int(digits or "0"), match[2])

    def __str__(self) -> str:
        return f"{self.number} {self.method}"


@dataclass(frozen=True, slots=True)
class ContentType:
    """What a body is: `media_type` in lower case ("application/sdp") and its parameters."""

    media_type: str
    params: Params = ()

    @classmethod
    def parse(cls, text: str) -> ContentType:
        """Read it; SipError (400) otherwise."""
        match = _CONTENT_TYPE.fullmatch(text)
        if match is None:
            raise SipError(f"not a content type: {text[:80]!r}", status=400)
        return cls(f"{match[1]}/{match[2]}".lower(), parse_params(match[3] or ""))

    def __str__(self) -> str:
        return f"{self.media_type}{format_params(self.params)}"

    def param(self, name: str) -> str | None:
        """Return a parameter's value unquoted: "" without one, None when it is not there."""
        return find_param(self.params, name)


def parse_seconds(text: str | None) -> int | None:
    """Read delta-seconds (Expires, Min-Expires, Retry-After, Contact's expires).

    What follows the number is left alone, a number beyond 2**32 - 1 counts as that (RFC 3261
    section 20.19); None when there is no number.
    """
    match = _SECONDS.match(text) if text else None
    if match is None:
        return None
    digits = match[1].lstrip("0")
    return MAX_SECONDS if len(digits) > 10 else min(int(digits or "0"), MAX_SECONDS)
