"""Presence: whether somebody can be reached, as PIDF says it (RFC 3856, RFC 3863)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Final

from voip.sip.packages.xml import Element, attribute, children, parse_xml, text_of, write_xml

__all__ = ["CONTENT_TYPE", "Presence", "PresenceTuple", "compose"]

CONTENT_TYPE: Final = "application/pidf+xml"
_NS: Final = "urn:ietf:params:xml:ns:pidf"


@dataclass(frozen=True, slots=True)
class PresenceTuple:
    """One way to reach somebody. `open`: whether it is one now; None: nothing is said."""

    id: str
    open: bool | None
    contact: str | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Presence:
    """What is known of `entity`, a URI (`pres:` or `sip:`)."""

    entity: str
    tuples: tuple[PresenceTuple, ...] = ()
    note: str | None = None

    @classmethod
    def parse(cls, body: bytes) -> Presence:
        """Read a document; SipError (400) where it is none."""
        root = parse_xml(body, f"{{{_NS}}}presence")
        return cls(
            attribute(root, "entity"),
            tuple(_tuple(element) for element in children(root, "tuple")),
            text_of(root, "note"),
        )

    @property
    def open(self) -> bool:
        """Whether there is any way."""
        return any(one.open for one in self.tuples)

    def to_bytes(self) -> bytes:
        """Write the document."""
        root = Element("presence", {"entity": self.entity})
        for one in self.tuples:
            element = _child(root, "tuple", None, id=one.id)
            status = _child(element, "status", None)
            if one.open is not None:
                _child(status, "basic", "open" if one.open else "closed")
            if one.contact is not None:
                _child(element, "contact", one.contact)
            if one.note is not None:
                _child(element, "note", one.note)
        if self.note is not None:
            _child(root, "note", self.note)
        return write_xml(root, _NS)


def compose(entity: str, documents: Iterable[bytes]) -> bytes:
    """Return what several documents on one entity come to: all their tuples, notes and the rest.

    What is in them that we do not know is kept. An `id` that two have used gets another one. Where
    nobody publishes anything, nobody can be reached.
    """
    tuples: list[Element] = []
    notes: list[Element] = []
    others: list[Element] = []
    used: set[str] = set()
    numbers = count(2)
    for body in documents:
        root = parse_xml(body, f"{{{_NS}}}presence")
        for element in root:
            kind = element.tag.removeprefix(f"{{{_NS}}}")
            {"tuple": tuples, "note": notes}.get(kind, others).append(element)
        for element in root:
            _rename(element, used, numbers)
        for element in root.iter():
            element.tag = element.tag.removeprefix(f"{{{_NS}}}")
            element.tail = None
    if not tuples:
        nobody = _child(Element("presence"), "tuple", None, id="nobody")
        _child(_child(nobody, "status", None), "basic", "closed")
        tuples.append(nobody)
    composed = Element("presence", {"entity": entity})
    composed.extend([*tuples, *notes, *others])
    return write_xml(composed, _NS)


def _rename(element: Element, used: set[str], numbers: Iterator[int]) -> None:
    """Give an element with an id another one if that is taken."""
    free = name = element.get("id")
    if free is None:
        return
    while free in used:
        free = f"{name}-{next(numbers)}"
    used.add(free)
    element.set("id", free)


def _tuple(element: Element) -> PresenceTuple:
    basic = text_of(next(children(element, "status"), None), "basic")
    return PresenceTuple(
        attribute(element, "id"),
        {"open": True, "closed": False}.get((basic or "").lower()),
        text_of(element, "contact"),
        text_of(element, "note"),
    )


def _child(parent: Element, name: str, text: str | None, **attributes: str) -> Element:
    element = Element(name, attributes)
    element.text = text
    parent.append(element)
    return element
