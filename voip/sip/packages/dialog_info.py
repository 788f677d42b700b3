"""Dialog: which calls somebody is in (RFC 4235), for lamps, park and pick-up."""

from __future__ import annotations

from collections.abc import Iterable
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
from voip.sip.replaces import Replaces

__all__ = ["CONTENT_TYPE", "DialogInfo", "DialogTable", "WatchedDialog"]

CONTENT_TYPE: Final = "application/dialog-info+xml"
MAX_DIALOGS: Final = 1_024
"""Dialogs that a table remembers; partial documents could go on for ever."""
_NS: Final = "urn:ietf:params:xml:ns:dialog-info"
STATES: Final = ("trying", "proceeding", "early", "confirmed", "terminated")


@dataclass(frozen=True, slots=True)
class WatchedDialog:
    """A dialog as the one who is watched knows it: `local` is that one, `remote` its peer.

    `state`: trying, proceeding, early, confirmed or terminated; `event`: why, where that is said.
    `direction`: initiator or recipient. `target` is the local Contact.
    """

    id: str
    state: str
    call_id: str | None = None
    local_tag: str | None = None
    remote_tag: str | None = None
    direction: str | None = None
    local: str | None = None
    remote: str | None = None
    target: str | None = None
    event: str | None = None

    def replaces(self, *, early_only: bool = False) -> Replaces:
        """Return what takes the place of the peer in this dialog; SipError where it is not named.

        Whoever is watched is called with it, and finds the dialog by its own tag.
        """
        if self.call_id is None or self.local_tag is None or self.remote_tag is None:
            raise SipError("the watched dialog is not named")
        return Replaces(self.call_id, self.local_tag, self.remote_tag, early_only)

    def replaces_at_peer(self, *, early_only: bool = False) -> Replaces:
        """Return what takes the watched one's place at its peer: the one to call for a pick-up."""
        named = self.replaces(early_only=early_only)
        return Replaces(named.call_id, named.from_tag, named.to_tag, early_only)


@dataclass(frozen=True, slots=True)
class DialogInfo:
    """A document: all dialogs of `entity` if `full`, else those that changed."""

    entity: str
    version: int
    full: bool = True
    dialogs: tuple[WatchedDialog, ...] = ()

    @classmethod
    def parse(cls, body: bytes) -> DialogInfo:
        """Read a document; SipError (400) where it is none."""
        root = parse_xml(body, f"{{{_NS}}}dialog-info")
        version = number(attribute(root, "version"))
        if version is None:
            raise SipError("a dialog-info without a version number", status=400)
        return cls(
            attribute(root, "entity"),
            version,
            # the RFC's own examples call it notify-state
            (root.get("notify-state") or attribute(root, "state")) == "full",
            tuple(_dialog(element) for element in children(root, "dialog")),
        )

    def to_bytes(self) -> bytes:
        """Write the document."""
        state = "full" if self.full else "partial"
        root = Element(
            "dialog-info",
            {"version": str(self.version), "state": state, "entity": self.entity},
        )
        root.extend(_written(dialog) for dialog in self.dialogs)
        return write_xml(root, _NS)


class DialogTable:
    """What the documents of one subscription come to (section 4.3): at most `MAX_DIALOGS`."""

    def __init__(self) -> None:
        self._versions = Versions()
        self._dialogs: dict[str, WatchedDialog] = {}

    @property
    def dialogs(self) -> list[WatchedDialog]:
        """The dialogs that are not over."""
        return list(self._dialogs.values())

    def take(self, info: DialogInfo) -> bool:
        """Take a document; False where one has been missed: refresh the subscription then.

        An old one is passed over.
        """
        if self._versions.is_old(info.version, info.full):
            return True
        complete = self._versions.follow(info.version, info.full)
        if info.full:
            self._dialogs.clear()
        for dialog in info.dialogs:
            if dialog.state == "terminated":
                self._dialogs.pop(dialog.id, None)
            elif dialog.id in self._dialogs or len(self._dialogs) < MAX_DIALOGS:
                self._dialogs[dialog.id] = dialog
        return complete


def _dialog(element: Element) -> WatchedDialog:
    state = next(children(element, "state"), None)
    local = next(children(element, "local"), None)
    target = next(children(local, "target"), None)
    name = "" if state is None else (state.text or "").strip()
    if name not in STATES:
        raise SipError(f"a dialog in no state: {name[:40]!r}", status=400)
    return WatchedDialog(
        attribute(element, "id"),
        name,
        element.get("call-id"),
        element.get("local-tag"),
        element.get("remote-tag"),
        element.get("direction"),
        text_of(local, "identity"),
        text_of(next(children(element, "remote"), None), "identity"),
        None if target is None else target.get("uri"),
        None if state is None else state.get("event"),
    )


def _written(dialog: WatchedDialog) -> Element:
    named = (
        ("id", dialog.id),
        ("call-id", dialog.call_id),
        ("local-tag", dialog.local_tag),
        ("remote-tag", dialog.remote_tag),
        ("direction", dialog.direction),
    )
    element = _element("dialog", _given(named))
    state = _element("state", _given((("event", dialog.event),)))
    state.text = dialog.state
    element.append(state)
    for name, identity, target in (
        ("local", dialog.local, dialog.target),
        ("remote", dialog.remote, None),
    ):
        party = _element(name)
        if identity is not None:
            shown = _element("identity")
            shown.text = identity
            party.append(shown)
        if target is not None:
            party.append(_element("target", {"uri": target}))
        if len(party):
            element.append(party)
    return element


def _given(pairs: Iterable[tuple[str, str | None]]) -> dict[str, str]:
    return {name: value for name, value in pairs if value is not None}


def _element(name: str, attributes: dict[str, str] | None = None) -> Element:
    return Element(name, attributes or {})
