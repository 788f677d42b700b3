"""Who may use the embedded PBX, and where its users are (RFC 3261 sections 10.3 and 22.4).

No I/O: requests and time come in, replies leave by the request itself. Bindings expire by being
looked at; there are at most MAX_CONTACTS for each user, and users are given once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from voip.errors import SipError
from voip.sip.digest_server import DigestServer, Verdict
from voip.sip.headers import NameAddr, parse_seconds
from voip.sip.message import Request
from voip.sip.server_request import ServerRequest
from voip.sip.uri import SipUri
from voip.types import Random

__all__ = [
    "DEFAULT_EXPIRES_S",
    "MAX_CONTACTS",
    "MAX_EXPIRES_S",
    "MIN_EXPIRES_S",
    "PbxRegistrar",
]

MIN_EXPIRES_S: Final = 10
"""A shorter binding is refused with 423."""
DEFAULT_EXPIRES_S: Final = 120
"""Granted to who asks for nothing."""
MAX_EXPIRES_S: Final = 3600
"""Granted to who asks for more."""
MAX_CONTACTS: Final = 5
"""Bindings of one user; one more is refused with 403."""
MAX_CREDENTIALS: Final = 4
"""Authorization lines of one request that are looked at."""


@dataclass(frozen=True, slots=True)
class _Binding:
    """Where a user is. `call_id`, `cseq`: of the REGISTER that said so."""

    contact: NameAddr  # without expires
    uri: SipUri
    expires_at: float
    call_id: str
    cseq: int


class PbxRegistrar:
    """Registrar and location table for `users` (name to password), with digest.

    MD5 is asked for unless `algorithms` says otherwise, because there are phones (baresip 1.0) that
    give up where SHA-256 is offered at all, even beside MD5.
    """

    def __init__(
        self,
        users: Mapping[str, str],
        random: Random,
        *,
        algorithms: tuple[str, ...] = ("MD5",),
        realm: str = "voip",
    ) -> None:
        self._digest = DigestServer(realm, users, random, algorithms=algorithms)
        self._bindings: dict[str, list[_Binding]] = {user: [] for user in users}

    @property
    def users(self) -> frozenset[str]:
        """Everybody who has an account."""
        return frozenset(self._bindings)

    def authorize(self, request: Request, now: float) -> list[tuple[str, str]] | None:
        """Return None where the sender of an INVITE is who From says, else the headers of a 401."""
        user, challenge = self._authenticate(request, now)
        try:
            claimed = request.from_.sip_uri.user
        except SipError:  # a tel: URI, perhaps: nobody of ours
            claimed = None
        return None if user is not None and user == claimed else challenge

    def contacts(self, user: str, now: float) -> list[str]:
        """Return the URIs under which `user` can be reached, the newest first."""
        return [str(binding.uri) for binding in reversed(self._alive(user, now))]

    def register(self, request: ServerRequest, now: float) -> None:
        """Answer a REGISTER: add, renew, remove or tell bindings, all of what it asks or nothing.

        401 without the right password, 403 for somebody else's address or too many bindings, 404
        for an address that is not ours, 423 for too short, 400 and 500 as section 10.3 says.
        """
        user, challenge = self._authenticate(request.request, now)
        if user is None:
            request.reply(401, headers=challenge, now=now)
            return
        try:
            address = request.request.to.sip_uri.user
            if address not in self._bindings:
                raise SipError(f"nobody here is called {address}", status=404)
            if address != user:
                raise SipError(f"{user} may not register {address}", status=403)
            self._bindings[user] = self._updated(request.request, user, now)
        except SipError as error:
            status = error.status or 400
            too_brief = [("Min-Expires", str(MIN_EXPIRES_S))] if status == 423 else []
            request.reply(status, headers=too_brief, now=now)
            return
        request.reply(200, headers=self._told(user, now), now=now)

    def _authenticate(
        self, request: Request, now: float
    ) -> tuple[str | None, list[tuple[str, str]]]:
        """Return (who sent this, what else to ask for): a name, or headers of a 401."""
        stale = False
        for value in request.headers.get_all("Authorization")[:MAX_CREDENTIALS]:
            judgement = self._digest.verify(request.method, value, now)
            if judgement.verdict is Verdict.ACCEPTED:
                return judgement.username, []
            stale |= judgement.verdict in (Verdict.STALE, Verdict.REPLAYED)
        values = self._digest.challenge(now, stale=stale)
        return None, [("WWW-Authenticate", value) for value in values]

    def _updated(self, request: Request, user: str, now: float) -> list[_Binding]:
        """Return the bindings as `request` wants them; SipError with the status that refuses it."""
        bindings = before = self._alive(user, now)
        contacts = request.contacts
        asked = parse_seconds(request.headers.get("Expires"))
        if any(contact.uri == "*" for contact in contacts):
            if len(contacts) != 1 or asked != 0:
                raise SipError("Contact: * removes everything, or nothing", status=400)
            for binding in before:
                _check_order(binding, request)
            return []
        for contact in contacts:
            uri = contact.sip_uri
            expires = parse_seconds(contact.param("expires"))
            if expires is None:
                expires = DEFAULT_EXPIRES_S if asked is None else asked
            if 0 < expires < MIN_EXPIRES_S:
                raise SipError(f"{expires} s is too short", status=423)
            for binding in before:
                if binding.uri.equivalent(uri):
                    _check_order(binding, request)
            bindings = [item for item in bindings if not item.uri.equivalent(uri)]
            if expires:
                bindings.append(
                    _Binding(
                        _without_expires(contact),
                        uri,
                        now + min(expires, MAX_EXPIRES_S),
                        request.call_id,
                        request.cseq.number,
                    )
                )
            if len(bindings) > MAX_CONTACTS:
                raise SipError(f"{user} is at {MAX_CONTACTS} places already", status=403)
        return bindings

    def _told(self, user: str, now: float) -> list[tuple[str, str]]:
        """Return the Contact headers of a 200: every binding and the seconds it has left."""
        return [
            ("Contact", f"{binding.contact};expires={max(1, round(binding.expires_at - now))}")
            for binding in self._alive(user, now)
        ]

    def _alive(self, user: str, now: float) -> list[_Binding]:
        kept = [item for item in self._bindings.get(user, ()) if item.expires_at > now]
        if user in self._bindings:
            self._bindings[user] = kept
        return kept


def _check_order(binding: _Binding, request: Request) -> None:
    """Refuse what was sent before the REGISTER that made this binding (section 10.3, step 7)."""
    if binding.call_id == request.call_id and binding.cseq >= request.cseq.number:
        raise SipError("a later REGISTER has been answered already", status=500)


def _without_expires(contact: NameAddr) -> NameAddr:
    kept = tuple(param for param in contact.params if param[0].lower() != "expires")
    return contact._replace(params=kept)
