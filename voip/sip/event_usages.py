"""The subscriptions of one agent, ours and the peers', and where they are found (RFC 5057).

A dialog made by an INVITE may be shared by subscriptions, and goes on for them when the call is
over; a dialog made by a subscription ends with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from voip.sip.event_headers import EventType

if TYPE_CHECKING:
    from voip.sip.dialog import Dialog, DialogId
    from voip.sip.notifier import Notifier
    from voip.sip.subscription import Subscription

__all__ = ["EventUsages"]


class EventUsages:
    """All subscriptions of one agent that are not over. `len()` counts them."""

    def __init__(self) -> None:
        self._ours: dict[tuple[str, str], list[Subscription]] = {}  # by Call-ID and our tag
        self._theirs: dict[DialogId, list[Notifier]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._ours.values())) + sum(map(len, self._theirs.values()))

    def add_ours(self, key: tuple[str, str], subscription: Subscription) -> None:
        """Remember one of ours by the Call-ID and the tag it was asked for with."""
        self._ours.setdefault(key, []).append(subscription)

    def remove_ours(self, key: tuple[str, str], subscription: Subscription) -> None:
        """Forget one of ours."""
        found = self._ours.get(key, [])
        if subscription in found:
            found.remove(subscription)
        if not found:
            self._ours.pop(key, None)

    def add_theirs(self, dialog: Dialog, notifier: Notifier) -> None:
        """Remember one of the peer's."""
        self._theirs.setdefault(dialog.id, []).append(notifier)

    def remove_theirs(self, dialog: Dialog, notifier: Notifier) -> None:
        """Forget one of the peer's."""
        found = self._theirs.get(dialog.id, [])
        if notifier in found:
            found.remove(notifier)
        if not found:
            self._theirs.pop(dialog.id, None)

    def ours(self, call_id: str, tag: str) -> list[Subscription]:
        """Return those of ours that were asked for with this Call-ID and tag, all forks of them."""
        return list(self._ours.get((call_id, tag), ()))

    def theirs(self, dialog_id: DialogId) -> list[Notifier]:
        """Return the peer's in a dialog."""
        return list(self._theirs.get(dialog_id, ()))

    def notifier(self, dialog_id: DialogId, event: EventType) -> Notifier | None:
        """Return the peer's subscription to an event in a dialog."""
        found = self._theirs.get(dialog_id, ())
        return next((one for one in found if one.matches(event)), None)

    def dialog(self, dialog_id: DialogId) -> Dialog | None:
        """Return the dialog of that name if a subscription uses it."""
        for notifier in self._theirs.get(dialog_id, ()):
            return notifier.dialog
        for subscription in self._ours.get(dialog_id[:2], ()):
            if subscription.dialog is not None and subscription.dialog.id == dialog_id:
                return subscription.dialog
        return None

    def dialogs(self) -> list[Dialog]:
        """Return the dialogs that subscriptions use, each once."""
        used = [one.dialog for many in self._ours.values() for one in many]
        used += [one.dialog for many in self._theirs.values() for one in many]
        return list(dict.fromkeys(dialog for dialog in used if dialog is not None))
