"""Where a proxy sends a request on to after a 3xx, in place of passing it back (RFC 3261 16.7)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Final, TypeAlias

from voip.errors import SipError
from voip.sip.headers import NameAddr
from voip.sip.location import preference
from voip.sip.message import Response
from voip.sip.proxy_policy import Groups, Target
from voip.sip.uri import SipUri

__all__ = ["Recursion", "Redirect"]

MAX_CONTACTS: Final = 16
"""Contacts of one 3xx that are looked at."""
_FOLLOWED: Final = (300, 301, 302)

Redirect: TypeAlias = Callable[[SipUri, float], Groups]
"""Says where a contact leads: groups of targets, none where the request is not sent there."""


class Recursion:
    """The 3xx of one request: `limit` contacts in all, each place once (step 4).

    first: the Request-URI; groups: the targets it has been given already.
    """

    def __init__(self, redirect: Redirect, limit: int, first: str, groups: Groups) -> None:
        self._redirect = redirect
        self._left = limit
        self._tried: list[SipUri] = []
        for uri in (first, *(target.uri for group in groups for target in group)):
            with suppress(SipError):  # tel:
                self._is_new(SipUri.parse(uri))

    def follow(self, response: Response, now: float) -> Groups:
        """Return where the request goes on, best q first; what is followed leaves the 3xx."""
        try:
            contacts = response.contacts[:MAX_CONTACTS] if response.status in _FOLLOWED else []
        except SipError:
            return ()
        contacts.sort(key=lambda contact: -preference(contact))
        followed = [(contact, self._follow(contact, now)) for contact in contacts]
        groups = tuple(group for _, found in followed if found for group in found)
        if groups:
            response.headers.remove("Contact")
            for contact, found in followed:
                if found is None:
                    response.headers.add("Contact", str(contact))
        return groups

    def _follow(self, contact: NameAddr, now: float) -> Groups | None:
        """Return a contact's targets that have not been tried; None leaves it to the caller."""
        try:
            uri = contact.sip_uri
        except SipError:  # tel:, mailto:
            return None
        if self._left < 1:
            return None
        if not self._is_new(uri):
            return ()
        groups = self._redirect(replace(uri, headers=()), now)
        if not groups:
            return None
        self._left -= 1
        return self._new(groups, uri)

    def _new(self, groups: Groups, known: SipUri) -> Groups:
        """Leave out what has been tried otherwise than as the contact itself."""
        found: list[tuple[Target, ...]] = []
        for group in groups:
            uris = [(SipUri.parse(target.uri), target) for target in group]
            new = [target for uri, target in uris if uri.equivalent(known) or self._is_new(uri)]
            if new:
                found.append(tuple(new))
        return tuple(found)

    def _is_new(self, uri: SipUri) -> bool:
        """Whether a place has not been tried; it has been from now on."""
        if any(uri.equivalent(tried) for tried in self._tried):
            return False
        self._tried.append(uri)
        return True
