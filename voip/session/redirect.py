"""Where a call goes on after a 3xx (RFC 3261 section 8.1.3.4)."""

from __future__ import annotations

from voip.errors import SipError
from voip.sip.headers import NameAddr
from voip.sip.message import Response
from voip.sip.uri import SipUri

__all__ = ["MAX_CONTACTS", "Redirects"]

MAX_CONTACTS = 16
"""Contacts of one 3xx that are looked at."""
_FOLLOWED = (300, 301, 302)


class Redirects:
    """Whom to call next: the contacts of a 3xx by q, each once, `limit` in all."""

    def __init__(self, first: str, limit: int) -> None:
        self._left = limit
        self._tried = [SipUri.parse(first)]
        self._secure = self._tried[0].scheme == "sips"
        self._next: list[NameAddr] = []

    def learn(self, response: Response) -> None:
        """Take the contacts of a 3xx; they come before those of earlier ones."""
        if response.status not in _FOLLOWED:
            return
        found: list[tuple[float, NameAddr]] = []
        try:
            contacts = response.contacts[:MAX_CONTACTS]
        except SipError:
            return
        for contact in contacts:
            try:
                uri = contact.sip_uri
            except SipError:
                continue  # tel:, mailto:, or nothing that can be read
            if uri.scheme == "sips" or not self._secure:  # never less than was asked for
                found.append((_q(contact), contact))
        found.sort(key=lambda entry: -entry[0])
        self._next = [contact for _, contact in found] + self._next

    def next(self) -> NameAddr | None:
        """Return the next one, None when there is none, or there have been enough."""
        while self._next and self._left > 0:
            contact = self._next.pop(0)
            uri = contact.sip_uri
            if not any(uri.equivalent(tried) for tried in self._tried):
                self._left -= 1
                self._tried.append(uri)
                return contact
        return None


def _q(contact: NameAddr) -> float:
    try:
        q = float(contact.param("q") or 1.0)
    except ValueError:
        return 0.0
    return q if 0.0 <= q <= 1.0 else 0.0
