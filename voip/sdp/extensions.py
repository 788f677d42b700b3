"""RTP header extensions in session descriptions (RFC 8285, sections 5 to 8): a=extmap.

Each extension that may be in packets has an identifier, which is the same for both sides, and
never means another one as long as the session lasts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

from voip.errors import ConfigError
from voip.sdp.description import Attribute, Direction, MediaDescription, SessionDescription

__all__ = [
    "ALLOW_MIXED",
    "EXTMAP",
    "MAX_EXTMAPS",
    "AgreedExtension",
    "Extensions",
    "Extmap",
    "HeaderExtension",
    "agreed_extensions",
]

EXTMAP: Final = "extmap"
ALLOW_MIXED: Final = "extmap-allow-mixed"
"""Whoever says so takes elements with headers of one and of two octets in one stream (6)."""
MAX_EXTMAPS: Final = 64
"""Lines that are read of a description; Chrome has a dozen."""
MAX_NUMBER: Final = 255
_ONE_BYTE: Final = range(1, 15)
"""Identifiers that elements with one-byte headers can have: ours are such."""
_EXTENDED: Final = range(4096, 4352)
"""Those of offers whose answer is to choose another one (7)."""
_ENTRY = re.compile(
    r"([0-9]{1,5})(?:/(sendrecv|sendonly|recvonly|inactive))? +(\S+)(?: +(\S.*?))? *", re.ASCII
)


@dataclass(frozen=True, slots=True)
class HeaderExtension:
    """An extension that we know: its URI, and which way it may go, as we see it.

    attributes: what may stand behind the URI; an offer of ours has the first, an answer whichever
    was offered. offered: whether an offer of ours has it unasked; else only who offers it is
    answered with it.
    """

    uri: str
    direction: Direction = Direction.SENDRECV
    attributes: tuple[str, ...] = ("",)
    offered: bool = True

    def __post_init__(self) -> None:
        if not self.uri or any(character.isspace() for character in self.uri):
            raise ConfigError(f"{self.uri!r} is no URI of a header extension")


@dataclass(frozen=True, slots=True)
class Extmap:
    """An a=extmap line; direction None: that of the stream."""

    number: int
    uri: str
    direction: Direction | None = None
    attributes: str = ""

    def __str__(self) -> str:
        way = "" if self.direction is None else f"/{self.direction.value}"
        behind = f" {self.attributes}" if self.attributes else ""
        return f"{self.number}{way} {self.uri}{behind}"

    @classmethod
    def read(cls, value: str | None) -> Extmap | None:
        """Return what stands behind `a=extmap:`, None where that is no mapping."""
        found = _ENTRY.fullmatch(value or "")
        if found is None:
            return None
        number, way, uri, attributes = found.groups()
        return cls(int(number), uri, Direction(way) if way else None, attributes or "")


@dataclass(frozen=True, slots=True)
class AgreedExtension:
    """An extension that both sides know, and whether we may send it, and may be sent it."""

    number: int
    uri: str
    attributes: str = ""
    send: bool = False
    receive: bool = False


class Extensions:
    """What one side does of these, and the identifiers that have been given in a session."""

    def __init__(self, known: Iterable[HeaderExtension] = ()) -> None:
        self._known = tuple(known)
        self._numbers: dict[int, str] = {}  # what each stands for, whoever has said so

    def copy(self) -> Extensions:
        """Return one whose identifiers may be tried out without consequence."""
        other = Extensions(self._known)
        other._numbers = self._numbers.copy()
        return other

    def offer(
        self, agreed: Sequence[AgreedExtension], direction: Direction
    ) -> tuple[Attribute, ...]:
        """Return the lines of an offer of a stream that goes `direction`; `agreed` stays in it."""
        before = {one.uri: one for one in agreed}
        lines = []
        for ours in self._known:
            if not (ours.offered or ours.uri in before):
                continue
            known = before.get(ours.uri)
            number = known.number if known else self._number(ours.uri)
            if number is not None:
                attributes = known.attributes if known else ours.attributes[0]
                lines.append(_line(number, ours.uri, ours.direction, direction, attributes))
        return tuple(lines)

    def answer(
        self, offer: SessionDescription, theirs: MediaDescription, direction: Direction
    ) -> tuple[Attribute, ...]:
        """Return the lines that answer those of an offer; our stream goes `direction`."""
        named = _extmaps(offer, theirs)
        for one in named:
            if one.number <= MAX_NUMBER:
                self._numbers[one.number] = one.uri
        known = {ours.uri: ours for ours in self._known}
        lines = []
        for one in named:
            ours = known.get(one.uri)
            if ours is None or one.attributes.lower() not in ours.attributes:
                continue
            del known[one.uri]  # of several, the first
            number = one.number if one.number <= MAX_NUMBER else self._number(one.uri)
            if number is None:
                continue
            asked = (one.direction or offer.direction_of(theirs)).mirrored
            lines.append(_line(number, one.uri, ours.direction & asked, direction, one.attributes))
        if lines and _has(offer, theirs, ALLOW_MIXED):
            lines.append(Attribute(ALLOW_MIXED))
        return tuple(lines)

    def _number(self, uri: str) -> int | None:
        """Return an identifier for an extension: that which it has had, or a free one."""
        had = (number for number, meaning in self._numbers.items() if meaning == uri)
        free = (number for number in _ONE_BYTE if number not in self._numbers)
        number = next(chain(had, free), None)
        if number is not None:
            self._numbers[number] = uri
        return number


def agreed_extensions(
    ours: MediaDescription, session: SessionDescription, theirs: MediaDescription
) -> tuple[AgreedExtension, ...]:
    """Return what our m-line and the peer's, of its `session`, both name."""
    named = {(one.number, one.uri): one for one in _extmaps(session, theirs)}
    stream, other_way = ours.direction or Direction.SENDRECV, session.direction_of(theirs).mirrored
    found = []
    for line in ours.attributes:
        one = Extmap.read(line.value) if line.name == EXTMAP else None
        peer = named.get((one.number, one.uri)) if one else None
        if one is None or peer is None:
            continue
        way = (one.direction or stream) & stream & other_way
        if peer.direction is not None:
            way &= peer.direction.mirrored
        found.append(AgreedExtension(one.number, one.uri, one.attributes, way.sends, way.receives))
    return tuple(found)


def _line(
    number: int, uri: str, wanted: Direction, stream: Direction, attributes: str
) -> Attribute:
    """Return the line of an extension: none may go where its stream does not (7)."""
    way = wanted & stream
    return Attribute(EXTMAP, str(Extmap(number, uri, None if way is stream else way, attributes)))


def _extmaps(session: SessionDescription, media: MediaDescription) -> list[Extmap]:
    """Return the usable mappings that hold for an m-line: its own, or the session's.

    Of one identifier the first; one in the extended range may stand for several.
    """
    lines = [one.value for one in media.attributes if one.name == EXTMAP]
    lines = lines or [one.value for one in session.attributes if one.name == EXTMAP]
    found: dict[object, Extmap] = {}
    for line in lines[:MAX_EXTMAPS]:
        one = Extmap.read(line)
        if one is not None and 1 <= one.number <= MAX_NUMBER:
            found.setdefault(one.number, one)
        elif one is not None and one.number in _EXTENDED:
            found.setdefault((one.number, one.uri), one)
    return list(found.values())


def _has(session: SessionDescription, media: MediaDescription, name: str) -> bool:
    return any(one.name == name for one in (*media.attributes, *session.attributes))
