"""Reg: which contacts an address of record is registered with (RFC 3680), and GRUUs (RFC 5628)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from voip.errors import SipError
from voip.sip.packages.versions import Versions
from voip.sip.packages.xml import (
    Element,
    attribute,
    children,
    number,
    parse_xml,
    text_of,
    write_xml,
)

__all__ = ["CONTENT_TYPE", "RegContact", "RegInfo", "RegTable", "WatchedRegistration"]

CONTENT_TYPE: Final = "application/reginfo+xml"
MAX_BINDINGS: Final = 1_024
"""Contacts that a table remembers; partial documents could go on for ever."""
_NS: Final = "urn:ietf:params:xml:ns:reginfo"
_PUB_GRUU: Final = "{urn:ietf:params:xml:ns:gruuinfo}pub-gruu"


@dataclass(frozen=True, slots=True)
class RegContact:
    """A contact. `state`: active or terminated; `event`: why (registered, expired ...).

    `pub_gruu`: a URI that reaches the phone that is there, where it has one.
    """

    id: str
    uri: str
    state: str
    event: str
    expires_s: int | None = None
    pub_gruu: str | None = None


@dataclass(frozen=True, slots=True)
class WatchedRegistration:
    """An address of record. `state`: init, active or terminated."""

    id: str
    aor: str
    state: str
    contacts: tuple[RegContact, ...] = ()


@dataclass(frozen=True, slots=True)
class RegInfo:
    """A document: everything if `full`, else what changed."""

    version: int
    full: bool
    registrations: tuple[WatchedRegistration, ...] = ()

    @classmethod
    def parse(cls, body: bytes) -> RegInfo:
        """Read a document; SipError (400) where it is none."""
        root = parse_xml(body, f"{{{_NS}}}reginfo")
        version = number(attribute(root, "version"))
        if version is None:
            raise SipError("a reginfo without a version number", status=400)
        found = tuple(_registration(element) for element in children(root, "registration"))
        return cls(version, attribute(root, "state") == "full", found)

    def to_bytes(self) -> bytes:
        """Write the document."""
        state = "full" if self.full else "partial"
        root = Element("reginfo", {"version": str(self.version), "state": state})
        for one in self.registrations:
            shown = Element("registration", {"aor": one.aor, "id": one.id, "state": one.state})
            shown.extend(_written(contact) for contact in one.contacts)
            root.append(shown)
        return write_xml(root, _NS)


class RegTable:
    """What the documents of one subscription come to (section 5.1): at most `MAX_BINDINGS`."""

    def __init__(self) -> None:
        self._versions = Versions()
        self._contacts: dict[str, dict[str, RegContact]] = {}

    def contacts(self, aor: str) -> list[RegContact]:
        """Return the contacts an address of record is registered with."""
        return list(self._contacts.get(aor, {}).values())

    def take(self, info: RegInfo) -> bool:
        """Take a document; False where one has been missed: refresh the subscription then.

        An old one is passed over.
        """
        if self._versions.is_old(info.version, info.full):
            return True
        complete = self._versions.follow(info.version, info.full)
        if info.full:
            self._contacts.clear()
        room = MAX_BINDINGS - sum(map(len, self._contacts.values()))
        for registration in info.registrations:
            known = self._contacts.pop(registration.aor, {})
            room += len(known)
            if registration.state != "active":
                continue
            for contact in registration.contacts:
                if contact.state == "terminated":
                    known.pop(contact.id, None)
                elif contact.id in known or len(known) < room:
                    known[contact.id] = contact
            if known:
                self._contacts[registration.aor] = known
                room -= len(known)
        return complete


def _registration(element: Element) -> WatchedRegistration:
    return WatchedRegistration(
        attribute(element, "id"),
        attribute(element, "aor"),
        attribute(element, "state"),
        tuple(_contact(contact) for contact in children(element, "contact")),
    )


def _contact(element: Element) -> RegContact:
    uri = text_of(element, "uri")
    if uri is None:
        raise SipError("a contact without a URI", status=400)
    gruu = element.find(_PUB_GRUU)
    return RegContact(
        attribute(element, "id"),
        uri,
        attribute(element, "state"),
        attribute(element, "event"),
        number(element.get("expires")),
        None if gruu is None else gruu.get("uri"),
    )


def _written(contact: RegContact) -> Element:
    element = Element("contact", {"id": contact.id, "state": contact.state, "event": contact.event})
    if contact.expires_s is not None:
        element.set("expires", str(contact.expires_s))
    uri = Element("uri")
    uri.text = contact.uri
    element.append(uri)
    if contact.pub_gruu is not None:
        element.append(Element(_PUB_GRUU, {"uri": contact.pub_gruu}))
    return element
