"""Reading session descriptions, from anybody.

sdp-transform knows the grammar of a field and is asked one line at a time. Given a whole
description it keeps the last of two c= lines, forgets the order of attributes, drops what it
does not know and m= lines with a count of ports, splits at every Unicode line separator, takes
digits of any script, and turns texts that look like numbers into numbers. So the lines are
ours: their limits, their sections, the m= line and every text; numbers and shape of the other
fields come from the library.

What a description is made of must be right (v=, o=, c=, t=, m=: SdpError, status 400). An
attribute that cannot be understood is no reason to refuse a call: it is kept, untouched.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Final, TypeVar

import sdp_transform

from voip.errors import SdpError
from voip.sdp.description import (
    Attribute,
    Connection,
    Direction,
    MediaDescription,
    Origin,
    RtcpAddress,
    SessionDescription,
    Timing,
)
from voip.sdp.format import MAX_NAME_LENGTH, MAX_PAYLOAD_TYPE, STATIC_FORMATS, RtpFormat

__all__ = ["MAX_BYTES", "MAX_LINES", "MAX_LINE_LENGTH", "MAX_MEDIA", "parse"]

MAX_BYTES = 65_536
"""Octets of a description."""

MAX_LINES = 1_000
"""Lines of a description."""

MAX_LINE_LENGTH = 4_096
"""Characters of a line. Below 4,300, from where Python reads no integers."""

MAX_MEDIA = 64
"""m= lines of a description."""

MAX_PORT = 65_535
MAX_CHANNELS = 255
MAX_CLOCK_RATE = 10_000_000
MAX_PACKET_TIME_MS = 10_000
"""Beyond these a number is not taken for a port, a payload type ..."""

_SESSION_LINES = frozenset("vosiuepcbtrzka")
_MEDIA_LINES = frozenset("micbka")

_LINE = re.compile(r"[a-z]=")
_NOT_PLAIN = re.compile(r"[^\t\x20-\x7e]")
_MEDIA = re.compile(r"([!-~]+) +(\d{1,5})(?:/(\d{1,5}))? +([!-~]+)((?: +[!-~]+)+) *", re.ASCII)
_PAYLOAD_TYPE = re.compile(r"0|[1-9][0-9]{0,2}")

_Value = TypeVar("_Value")
_USUAL_LENGTH: Final = 80
_REMEMBERED: Final = 128


def parse(data: bytes | str) -> SessionDescription:
    """Read a session description. Raises SdpError (status 400) and nothing else.

    Lines may end with CRLF, LF or CR; empty ones are skipped. Text that is not UTF-8 survives
    reading and writing as it is. A missing s= or t= is forgiven.
    """
    session_lines, *media_lines = _sections(_lines(data))
    section = _section(session_lines, _SESSION_LINES, "vosct")
    if section.first.get("v", "").strip() != "0" or not session_lines[0].startswith("v="):
        raise _bad("it does not begin with v=0")
    if "o" not in section.first:
        raise _bad("it has no o= line")
    return SessionDescription(
        origin=_origin(section.first["o"]),
        name=section.first.get("s", "-"),
        connection=_connection_of(section),
        timing=_timing(section.first.get("t", "0 0")),
        media=tuple(_media(_section(lines, _MEDIA_LINES, "mc")) for lines in media_lines),
        direction=_take(section.attributes, _SESSION_ATTRIBUTES).get(_direction),
        attributes=tuple(section.attributes),
        lines=tuple(section.lines),
    )


# ---------------------------------------------------------------- lines


def _bad(what: str) -> SdpError:
    return SdpError(
        f"the session description cannot be read: {what}",
        hint="the peer sent it; a capture shows it whole",
        status=400,
    )


def _lines(data: bytes | str) -> list[str]:
    """Split into lines within the limits, each a letter and "="."""
    if isinstance(data, str):
        text = data
        try:
            size = len(data.encode("utf-8", "surrogateescape"))
        except UnicodeEncodeError as error:
            raise _bad("it is not text") from error
    else:
        text, size = "", len(data)
    if size > MAX_BYTES:
        raise _bad(f"{size} octets, more than {MAX_BYTES}")
    if not isinstance(data, str):
        text = data.decode("utf-8", "surrogateescape")
    if "\0" in text:
        raise _bad("it holds a NUL")
    lines = [line for line in re.split(r"\r\n|\n|\r", text) if line]
    if not lines:
        raise _bad("it is empty")
    if len(lines) > MAX_LINES:
        raise _bad(f"{len(lines)} lines, more than {MAX_LINES}")
    for number, line in enumerate(lines, 1):
        if len(line) > MAX_LINE_LENGTH:
            raise _bad(f"line {number} has {len(line)} characters, more than {MAX_LINE_LENGTH}")
        if _LINE.match(line) is None:
            raise _bad(f"line {number} does not begin with a letter and '='")
    return lines


def _sections(lines: list[str]) -> list[list[str]]:
    """Return the session's lines, then those of each m= line."""
    sections: list[list[str]] = [[]]
    for line in lines:
        if line.startswith("m="):
            sections.append([])
        sections[-1].append(line)
    if len(sections) - 1 > MAX_MEDIA:
        raise _bad(f"{len(sections) - 1} m= lines, more than {MAX_MEDIA}")
    if not sections[0]:
        raise _bad("it does not begin with v=0")
    return sections


@dataclass(slots=True)
class _Section:
    """A section taken apart: the first line of each letter asked for, attributes, the rest."""

    first: dict[str, str] = field(default_factory=dict)
    attributes: list[Attribute] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)


def _section(lines: Iterable[str], allowed: frozenset[str], single: str) -> _Section:
    section = _Section()
    for line in lines:
        letter, content = line[0], line[2:]
        if letter not in allowed:
            raise _bad(f"a {letter}= line has no place there")
        if letter == "a":
            name, colon, value = content.partition(":")
            section.attributes.append(Attribute(name, value if colon else None))
        elif letter in single and letter not in section.first:
            section.first[letter] = content
        elif letter in "vos":
            raise _bad(f"two {letter}= lines")
        else:
            section.lines.append(line)
    return section


# ---------------------------------------------------------------- fields


def _grammar(line: str) -> dict[str, Any]:
    """Return what sdp-transform makes of one line; it sees printable ASCII only."""
    try:
        understood: dict[str, Any] = sdp_transform.parse(_NOT_PLAIN.sub("?", line))
    except Exception as error:  # a stranger's line must not choose what is raised
        raise _bad(f"a {line[:2]} line") from error
    return understood


def _number(value: object, low: int, high: int) -> int | None:
    """Return a whole number within bounds, None for all else the library may have made."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and low <= value <= high else None


def _words(content: str) -> list[str]:
    """Split at spaces, however many."""
    return [word for word in content.split(" ") if word]


def _origin(content: str) -> Origin:
    words = _words(content)
    understood = _grammar(f"o={' '.join(words)}").get("origin", {})
    session_id, version = understood.get("sessionId"), understood.get("sessionVersion")
    family = understood.get("ipVer")
    if not isinstance(session_id, int) or not isinstance(version, int) or family not in (4, 6):
        raise _bad("its o= line is not 'user id version IN IP4|IP6 address'")
    return Origin(words[0], session_id, version, Connection(words[5], family))


def _remembered(read: Callable[[str], _Value]) -> Callable[[str], _Value]:
    """Keep what the last texts were read as: one call after the other says the same.

    What is long is read each time, so that strangers cannot fill the memory. What `read` raises is
    not kept.
    """
    usual = lru_cache(maxsize=_REMEMBERED)(read)

    def reading(text: str) -> _Value:
        return usual(text) if len(text) <= _USUAL_LENGTH else read(text)

    return reading


@_remembered
def _connection(content: str) -> Connection:
    words = _words(content)
    understood = _grammar(f"c={' '.join(words)}").get("connection", {})
    if understood.get("version") in (4, 6):
        connection = Connection(words[2], understood["version"])
        if connection.valid:
            return connection
    raise _bad("a c= line is not 'IN IP4|IP6 address'")


def _connection_of(section: _Section) -> Connection | None:
    content = section.first.get("c")
    return None if content is None else _connection(content)


@_remembered
def _timing(content: str) -> Timing:
    understood = _grammar(f"t={' '.join(_words(content))}").get("timing", {})
    start, stop = understood.get("start"), understood.get("stop")
    if not isinstance(start, int) or not isinstance(stop, int):
        raise _bad("its t= line is not two numbers")
    return Timing(start, stop)


# ---------------------------------------------------------------- attributes


_Reader = Callable[[Attribute], Any]
"""Returns what an attribute says, None where it cannot be understood."""


def _take(attributes: list[Attribute], readers: dict[str, _Reader]) -> dict[_Reader, Any]:
    """Remove the first attribute that each reader understands, and return what they read."""
    found: dict[_Reader, Any] = {}
    kept = []
    for attribute in attributes:
        read = readers.get(attribute.name.strip())
        value = read(attribute) if read is not None and read not in found else None
        if read is None or value is None:
            kept.append(attribute)
        else:
            found[read] = value
    attributes[:] = kept
    return found


def _direction(attribute: Attribute) -> Direction | None:
    return Direction(attribute.name.strip()) if attribute.value is None else None


@_remembered
def _packet_time(text: str) -> int | None:
    """Read a=ptime or a=maxptime in whole milliseconds: fractions (2.5) are not taken up."""
    understood = _grammar(f"a={text}").get(text.partition(":")[0])
    return _number(understood, 1, MAX_PACKET_TIME_MS)


def _ptime(attribute: Attribute) -> int | None:
    return _packet_time(str(attribute)) if attribute.name == "ptime" else None


def _maxptime(attribute: Attribute) -> int | None:
    return _packet_time(str(attribute)) if attribute.name == "maxptime" else None


def _rtcp(attribute: Attribute) -> RtcpAddress | None:
    """Read a=rtcp:port [IN IP4|IP6 address] (RFC 3605, section 2.1)."""
    if attribute.name != "rtcp":
        return None
    words = _words(attribute.value or "")
    understood = _grammar(f"a=rtcp:{' '.join(words)}").get("rtcp", {})
    port = _number(understood.get("port"), 1, MAX_PORT)
    if port is None:
        return None
    if len(words) == 1:
        return RtcpAddress(port)
    if "address" not in understood:
        return None
    connection = Connection(words[3], understood["ipVer"])
    usable = connection.family in (4, 6) and connection.valid and not connection.multicast
    return RtcpAddress(port, connection) if usable else None


_SESSION_ATTRIBUTES: Final[dict[str, _Reader]] = dict.fromkeys(
    (direction.value for direction in Direction), _direction
)
_MEDIA_ATTRIBUTES: Final[dict[str, _Reader]] = {
    **_SESSION_ATTRIBUTES,
    "ptime": _ptime,
    "maxptime": _maxptime,
    "rtcp": _rtcp,
}


@_remembered
def _rtpmap(text: str) -> RtpFormat | None:
    """Read what stands behind a=rtpmap:."""
    for understood in _grammar(f"a=rtpmap:{text}").get("rtp", ()):
        number = _number(understood["payload"], 0, MAX_PAYLOAD_TYPE)
        rate = _number(understood.get("rate"), 1, MAX_CLOCK_RATE)
        channels = _number(understood.get("encoding", 1), 1, MAX_CHANNELS)
        name = text.partition(" ")[2].partition("/")[0].strip().lower()
        if not 0 < len(name) <= MAX_NAME_LENGTH:
            return None
        if number is not None and rate is not None and channels is not None:
            return RtpFormat(number, name, rate, channels)
    return None


def _fmtp(attribute: Attribute) -> tuple[int, str] | None:
    """Read the payload type; the text behind it is nobody's grammar and is kept as it is."""
    if attribute.name != "fmtp":
        return None
    number, _, text = (attribute.value or "").strip().partition(" ")
    text = text.strip()
    return (int(number), text) if text and _payload_type(number) else None


def _payload_type(word: str) -> bool:
    return _PAYLOAD_TYPE.fullmatch(word) is not None and int(word) <= MAX_PAYLOAD_TYPE


def _take_encodings(
    attributes: list[Attribute], formats: tuple[str, ...], *, static: bool
) -> tuple[RtpFormat, ...]:
    """Remove the a=rtpmap and a=fmtp lines that speak of `formats`, and return what they say.

    The first line about a payload type counts. `static`: numbers of RFC 3551 need no a=rtpmap.
    """
    numbers = dict.fromkeys(int(word) for word in formats if _payload_type(word))
    named: dict[int, RtpFormat] = {}
    parameters: dict[int, str] = {}
    kept = []
    for attribute in attributes:
        encoding = _rtpmap(attribute.value or "") if attribute.name == "rtpmap" else None
        if encoding and encoding.payload_type in numbers and encoding.payload_type not in named:
            named[encoding.payload_type] = encoding
        else:
            kept.append(attribute)
    if static:
        for number in numbers.keys() & STATIC_FORMATS.keys() - named.keys():
            named[number] = RtpFormat(number, *STATIC_FORMATS[number])
    attributes.clear()
    for attribute in kept:
        fmtp = _fmtp(attribute)
        if fmtp and fmtp[0] in named and fmtp[0] not in parameters:
            parameters[fmtp[0]] = fmtp[1]
        else:
            attributes.append(attribute)
    return tuple(
        replace(named[number], fmtp=parameters[number]) if number in parameters else named[number]
        for number in numbers
        if number in named
    )


# ---------------------------------------------------------------- media


def _media(section: _Section) -> MediaDescription:
    match = _MEDIA.fullmatch(section.first["m"])
    if match is None or int(match[2]) > MAX_PORT:
        raise _bad("an m= line is not 'media port protocol format ...'")
    kind, port, count, protocol, words = match.groups()
    formats = tuple(words.split())
    attributes = section.attributes
    static = kind.lower() == "audio" and "RTP/" in protocol.upper()
    encodings = _take_encodings(attributes, formats, static=static)
    taken = _take(attributes, _MEDIA_ATTRIBUTES)
    return MediaDescription(
        kind=kind,
        port=int(port),
        protocol=protocol,
        formats=formats,
        port_count=int(count or 1),
        encodings=encodings,
        ptime_ms=taken.get(_ptime),
        maxptime_ms=taken.get(_maxptime),
        direction=taken.get(_direction),
        connection=_connection_of(section),
        rtcp=taken.get(_rtcp),
        attributes=tuple(attributes),
        lines=tuple(section.lines),
    )
