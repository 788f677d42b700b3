"""Header fields (RFC 3261 section 7.3): the ordered multi-map, and the typed values but Via.

Values stay text until somebody asks for more. One name has one meaning in any case and in its
compact form; the spelling that came is the spelling that goes. Parameters of typed values are held
as they were written, so that what is passed on stays what it was.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

from voip.errors import SipError
from voip.sip.grammar import (
    METHODS,
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
from voip.sip.uri import SipUri, for_people

__all__ = ["CSeq", "ContentType", "Headers", "NameAddr", "parse_seconds"]

_T = TypeVar("_T")

_COMPACT: Final = {
    "a": "Accept-Contact",
    "b": "Referred-By",
    "c": "Content-Type",
    "d": "Request-Disposition",
    "e": "Content-Encoding",
    "f": "From",
    "i": "Call-ID",
    "j": "Reject-Contact",
    "k": "Supported",
    "l": "Content-Length",
    "m": "Contact",
    "n": "Identity-Info",
    "o": "Event",
    "r": "Refer-To",
    "s": "Subject",
    "t": "To",
    "u": "Allow-Events",
    "v": "Via",
    "x": "Session-Expires",
    "y": "Identity",
}
"""Compact forms (RFC 3261 section 7.3.3 and the IANA registry of SIP header fields)."""

_USUAL: Final = frozenset(
    (
        "CSeq Max-Forwards Route Record-Route Allow Require Proxy-Require Unsupported User-Agent "
        "Server Expires Min-Expires Authorization Accept Warning Priority WWW-Authenticate "
        "Proxy-Authorization Proxy-Authenticate Authentication-Info Date Timestamp Reason "
        "Retry-After Min-SE Organization Alert-Info Call-Info Accept-Encoding Accept-Language "
        "Content-Disposition Content-Language MIME-Version Error-Info In-Reply-To Reply-To RAck "
        "RSeq Replaces Path Service-Route P-Asserted-Identity P-Preferred-Identity Privacy "
        "Diversion History-Info Subscription-State SIP-ETag SIP-If-Match Info-Package Recv-Info "
        + " ".join(_COMPACT.values())
    ).split()
)
"""The names that nearly always come, and nearly always in this spelling: their own keys."""
_KEYS: Final = {
    **_COMPACT,
    **{short.upper(): name for short, name in _COMPACT.items()},
    **{name.lower(): name for name in _USUAL},
    **{name: name for name in _USUAL},
}

_BLANKS: Final = (" ", "\t")
_FOLD: Final = re.compile(r"\r\n[ \t]+")
_NAME_ADDR: Final = re.compile(
    r'[ \t]*+(?:"(?P<quoted>[^"\\]*+(?:\\.[^"\\]*+)*+)"[ \t]*+|(?P<words>[^<>",;]*+))'
    r"<[ \t]*+(?P<uri>[^<> \t]++)[ \t]*+>(?P<params>.*+)",
    re.DOTALL,
)
_ADDR_SPEC: Final = re.compile(r'[ \t]*+(?P<uri>[^<>",;? \t]++)(?P<params>.*+)', re.DOTALL)
_CSEQ: Final = re.compile(rf"[ \t]*+([0-9]++)[ \t]++({TOKEN})[ \t]*+")
_CONTENT_TYPE: Final = re.compile(
    rf"[ \t]*+({TOKEN})[ \t]*+/[ \t]*+({TOKEN})[ \t]*+(;.*+)?", re.DOTALL
)
_SECONDS: Final = re.compile(r"[ \t]*+([0-9]++)")


_made: Final = tuple.__new__
"""Makes a named tuple from a tuple of all its fields in a third of the time its class takes."""


def _key(name: str) -> str:
    """Return what all spellings of a name have in common; of an unknown one its lower case."""
    key = _KEYS.get(name)
    if key is None:
        key = name.lower()
        return _KEYS.get(key, key)
    return key


class Headers:
    """Header lines in order, as `(name, value)` text; several lines may share a name.

    `add`, `prepend`, `replace` and `set` refuse what would end a line early, so that no value can
    smuggle in another header. Lines are kept as they came, and go as they came.
    """

    __slots__ = ("_first", "_lines", "_more")

    def __init__(self, items: Iterable[tuple[str, str]] = ()) -> None:
        self._lines: list[str] = []
        self._first: dict[str, str] = {}  # by key: the first line of that name
        self._more: dict[str, list[str]] = {}  # by key: the lines after it, if there are any
        if items:
            for name, value in items:
                self.add(name, value)

    @classmethod
    def read(cls, text: str) -> tuple[Headers, str | None]:
        """Read header lines, without the CRLF of the last; return them and the first bad line.

        Folded lines become one (RFC 3261 section 7.3.1).
        """
        if not text:
            return cls(), None
        lines = text.split("\r\n")
        joined = "".join(lines)
        if "\n" in joined or "\r" in joined or len(joined) > MAX_LINE_CHARS:
            broken = [line for line in lines if _is_broken(line)]
            if broken:
                sound = "\r\n".join(line for line in lines if not _is_broken(line))
                return cls.read(sound)[0], broken[0]
        first: dict[str, str] = {}
        more: dict[str, list[str]] = {}
        usual = _USUAL
        bad: list[str] = []
        for line in lines:
            name, colon, _ = line.partition(":")
            if name in usual and colon:
                key = name
            else:
                if line[:1] in _BLANKS and text[0] not in _BLANKS:
                    return cls.read(_FOLD.sub(" ", text))
                name = name.rstrip(" \t")
                if not colon or not is_token(name):
                    bad.append(line)
                    continue
                key = _key(name)
            if key in first:
                more.setdefault(key, []).append(line)
            else:
                first[key] = line
        if bad:
            refused = set(bad)
            lines = [line for line in lines if line not in refused]
        headers = cls.__new__(cls)
        headers._lines, headers._first, headers._more = lines, first, more
        return headers, bad[0] if bad else None

    def get(self, name: str) -> str | None:
        """Return the value of the first line of that name, None when there is none."""
        line = self._first.get(_KEYS.get(name) or _key(name))
        return None if line is None else _value(line)

    def get_all(self, name: str) -> list[str]:
        """Return the values of all lines of that name, one entry a line."""
        return [_value(line) for line in self._all(_KEYS.get(name) or _key(name))]

    def values(self, name: str) -> list[str]:
        """Return all values of that name, comma-separated lists taken apart.

        Not for Date and the four authentication headers, whose commas separate nothing or
        parameters. SipError (400) when a quote or an angle bracket is never closed.
        """
        values: list[str] = []
        for line in self._all(_KEYS.get(name) or _key(name)):
            values += split_list(_value(line))
        return values

    def readable(self, name: str, parse: Callable[[str], _T], limit: int = 64) -> list[_T]:
        """Return the values that `parse` can read, of the first `limit`; others are passed over."""
        found: list[_T] = []
        for line in self._all(_KEYS.get(name) or _key(name))[:limit]:
            with suppress(SipError):
                for value in split_list(_value(line))[:limit]:
                    with suppress(SipError):
                        found.append(parse(value))
        return found[:limit]

    def count(self, name: str) -> int:
        """Return how many lines have that name."""
        return len(self._all(_KEYS.get(name) or _key(name)))

    def repeated(self, names: Iterable[str]) -> str | None:
        """Return the first of these names that more than one line has."""
        if not self._more:
            return None
        return next((name for name in names if _key(name) in self._more), None)

    def pick(self, names: Iterable[str]) -> Headers:
        """Return the lines of these names, spelled so, in a map of their own, in that order."""
        picked = Headers()
        for name in names:
            key = _KEYS.get(name) or _key(name)
            if key in self._first:
                first = picked._first[key] = _named(name, self._first[key])
                picked._lines.append(first)
                if key in self._more:
                    more = picked._more[key] = [_named(name, line) for line in self._more[key]]
                    picked._lines += more
        return picked

    def add(self, name: str, value: str) -> None:
        """Append a line."""
        key = _checked(name, value)
        line = f"{name}: {value}"
        self._lines.append(line)
        if key in self._first:
            self._more.setdefault(key, []).append(line)
        else:
            self._first[key] = line

    def prepend(self, name: str, value: str) -> None:
        """Put a line before all others: a Via, a Record-Route."""
        key = _checked(name, value)
        line = f"{name}: {value}"
        self._lines.insert(0, line)
        if key in self._first:
            self._more.setdefault(key, []).insert(0, self._first[key])
        self._first[key] = line

    def replace(self, name: str, value: str) -> None:
        """Put another value in the place of the first line of that name; others stay."""
        key = _checked(name, value)
        former = self._first.get(key)
        if former is None:
            self.add(name, value)
            return
        line = f"{name}: {value}"
        self._lines[self._lines.index(former)] = line
        self._first[key] = line

    def set(self, name: str, value: str) -> None:
        """Make this the only line of that name, in the place of the first one."""
        key = _key(name)
        if key in self._more:
            gone = set(self._more.pop(key))
            begin = self._lines.index(self._first[key]) + 1
            rest = self._lines[begin:]
            self._lines[begin:] = [line for line in rest if line not in gone]
        self.replace(name, value)

    def remove(self, name: str) -> None:
        """Take away all lines of that name, if there are any."""
        key = _key(name)
        gone = set(self._all(key))
        if gone:
            self._lines = [line for line in self._lines if line not in gone]
            del self._first[key]
            self._more.pop(key, None)

    def copy(self) -> Headers:
        """Return the same lines in a map of their own."""
        twin = Headers()
        twin._lines = list(self._lines)
        twin._first = dict(self._first)
        twin._more = {key: list(lines) for key, lines in self._more.items()}
        return twin

    def to_text(self) -> str:
        """Return the lines as they go out, each with its CRLF."""
        return "\r\n".join([*self._lines, ""])

    def _all(self, key: str) -> tuple[str, ...]:
        first = self._first.get(key)
        if first is None:
            return ()
        return (first, *self._more[key]) if key in self._more else (first,)

    def __contains__(self, name: str) -> bool:
        return _key(name) in self._first

    def __iter__(self) -> Iterator[tuple[str, str]]:
        for line in self._lines:
            name, _, value = line.partition(":")
            yield name.rstrip(" \t"), value.strip(" \t")

    def __len__(self) -> int:
        return len(self._lines)

    def __eq__(self, other: object) -> bool:
        """Equal: the same names, each with the same values in the same order."""
        if not isinstance(other, Headers) or self._first.keys() != other._first.keys():
            return False
        return all(self.get_all(key) == other.get_all(key) for key in self._first)

    def __repr__(self) -> str:
        return f"<Headers: {', '.join(name for name, _ in self)}>"


def _value(line: str) -> str:
    return line.partition(":")[2].strip(" \t")


def _named(name: str, line: str) -> str:
    """Return a line that is of that name, in this spelling of it."""
    return line if line.startswith(name) else f"{name}: {_value(line)}"


def _is_broken(line: str) -> bool:
    return "\n" in line or "\r" in line or len(line) > MAX_LINE_CHARS


def _checked(name: str, value: str) -> str:
    """Return the key of a header line that can be written."""
    key = _KEYS.get(name)
    if key is None:
        if not is_token(name):
            raise SipError(f"not a header name: {name[:80]!r}")
        key = _key(name)
    if "\r" in value or "\n" in value:
        raise SipError(f"the value of {name} has a line break in it")
    return key


class NameAddr(NamedTuple):
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
        if quoted is None:
            display = words.strip(" \t")
        else:
            display = unquote_string(f'"{quoted}"') if "\\" in quoted else quoted
        return _made(cls, (display, uri, parse_params(params) if params else ()))

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
        return self._replace(params=(*kept, ("tag", tag)))


def _parse_addr_spec(text: str) -> NameAddr:
    """Read a bare URI: its `;` begin header parameters, and `?` or `,` are not allowed in it."""
    match = _ADDR_SPEC.fullmatch(text)
    if match is None:
        raise SipError(f"not an address: {for_people(text)!r}", status=400)
    return NameAddr("", match["uri"], parse_params(match["params"]))


class CSeq(NamedTuple):
    """Number and method: the order of requests in a dialog (RFC 3261 section 20.16)."""

    number: int
    method: str

    @classmethod
    def parse(cls, text: str) -> CSeq:
        """Read it; SipError (400) when it is none or beyond 2**31 - 1."""
        number, _, method = text.partition(" ")
        if method in METHODS and len(number) < 10 and number.isascii() and number.isdigit():
            return _made(cls, (int(number), method))
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
