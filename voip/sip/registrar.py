"""A registrar without I/O: REGISTER requests in, answers and a location table out.

RFC 3261 section 10.3, with Path (RFC 3327), Service-Route (RFC 3608), GRUUs (RFC 5627) and the
registrar's part of outbound flows (RFC 5626).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from voip.errors import SipError
from voip.sip.authenticator import Authenticator
from voip.sip.flow import Flow
from voip.sip.gruu import Gruus, in_series, registered_aor
from voip.sip.headers import NameAddr, parse_seconds
from voip.sip.location import Binding, Location, preference
from voip.sip.message import Request
from voip.sip.sips import is_sips, top_is_sips
from voip.sip.uri import SipUri, uri_scheme
from voip.sip.via import is_behind_nat

__all__ = ["RegisterRequest", "Registrar", "RegistrarConfig"]

_MAX_REG_ID: Final = 2**31 - 1
_NOT_KEPT: Final = frozenset(("expires", "pub-gruu", "temp-gruu"))
"""Parameters of a Contact that are the registrar's to say."""


class RegisterRequest(Protocol):
    """What a registrar needs of a `ServerRequest`."""

    request: Request
    flow: Flow

    def reply(
        self,
        status: int,
        reason: str | None = None,
        *,
        headers: Iterable[tuple[str, str]] = (),
        now: float,
    ) -> None:
        """Answer."""
        ...


@dataclass(frozen=True, slots=True)
class RegistrarConfig:
    """How long and how often, in seconds.

    A shorter binding than `min_expires_s` is refused with 423, a longer one than `max_expires_s`
    cut; `default_expires_s` is for who asks for nothing. `max_contacts` of one user; one more is
    refused with 403. `service_route`: Route values for what registered users send (RFC 3608).
    `flow_timer_s`: how often a phone shall at least be heard on its flow (RFC 5626 section 4.4);
    None: it may choose.
    """

    min_expires_s: int = 10
    default_expires_s: int = 120
    max_expires_s: int = 3600
    max_contacts: int = 5
    service_route: tuple[str, ...] = ()
    flow_timer_s: int | None = None


class Registrar:
    """Registers `users` in `location`. Who sent a REGISTER is shown by `authenticator`.

    A user is the user part of To, at whatever domain; without an authenticator anybody may
    register anybody. Any URI may be a contact; only SIP's are called. With `gruus` each phone that
    has an instance gets names of its own; whoever has them needs a proxy that asks `gruus` too.
    """

    def __init__(
        self,
        users: Collection[str],
        location: Location,
        authenticator: Authenticator | None,
        config: RegistrarConfig | None = None,
        gruus: Gruus | None = None,
    ) -> None:
        self._users = users
        self._gruus = gruus
        self._location = location
        self._authenticator = authenticator
        self._config = config or RegistrarConfig()

    def register(self, register: RegisterRequest, now: float) -> None:
        """Answer a REGISTER: add, renew, remove or tell bindings, all of what it asks or nothing.

        401 without the right password, 403 for somebody else's address, too many bindings or a
        contact that leads back here, 404 for an address that is not ours, 423 for too short, 439
        for an outbound flow that does not end here, 400 and 500 as section 10.3 says.
        """
        request = register.request
        headers: list[tuple[str, str]] = []
        user: str | None = None
        if self._authenticator is not None:
            found = self._authenticator.authenticate(request, now)
            if found.user is None:
                register.reply(found.status, headers=found.challenge, now=now)
                return
            user = found.user
            headers += self._authenticator.info(found, now)
        try:
            address = self._address(request, user)
            bindings = self._updated(register, address, now)
            told = self._told(request, address, bindings, now)
            self._location.set(address, bindings, now)
        except SipError as error:
            status = error.status or 400
            more = [("Min-Expires", str(self._config.min_expires_s))] if status == 423 else []
            register.reply(status, headers=more, now=now)
            return
        register.reply(200, headers=[*headers, *told], now=now)

    def _address(self, request: Request, user: str | None) -> str:
        address = request.to.sip_uri.user
        if address is None or address not in self._users:
            raise SipError(f"nobody here is called {address}", status=404)
        if user is not None and address != user:
            raise SipError(f"{user} may not register {address}", status=403)
        return address

    def _updated(self, register: RegisterRequest, address: str, now: float) -> list[Binding]:
        """Return the bindings as the request wants them; SipError with the status to refuse it."""
        request, config = register.request, self._config
        bindings = before = self._location.bindings(address, now)
        contacts = request.contacts
        asked = parse_seconds(request.headers.get("Expires"))
        if any(contact.uri == "*" for contact in contacts):
            if len(contacts) != 1 or asked != 0:
                raise SipError("Contact: * removes everything, or nothing", status=400)
            for known in before:
                _check_order(known, request)
            return []
        path = tuple(str(NameAddr.parse(value)) for value in request.headers.values("Path"))
        _check_sips(request, path)
        lasting = 0
        for contact in contacts:
            expires = parse_seconds(contact.param("expires"))
            if expires is None:
                expires = config.default_expires_s if asked is None else asked
            lasting += expires > 0
            if 0 < expires < config.min_expires_s:
                raise SipError(f"{expires} s is too short", status=423)
            until = now + min(expires, config.max_expires_s)
            binding = _binding(contact, until, register, path)
            for known in before:
                if known.same_place(binding):
                    _check_order(known, request)
            others = [known for known in bindings if not known.same_place(binding)]
            if expires:
                _check_no_loop(binding, registered_aor(request))
                if self._gruus is not None:
                    binding, bindings = in_series(binding, bindings, self._gruus)
                    others = [known for known in bindings if not known.same_place(binding)]
                others.append(binding)
            bindings = others
            if len(bindings) > config.max_contacts:
                raise SipError(f"{address} is at {config.max_contacts} places already", status=403)
        if lasting > 1 and any(_reg_id(contact) is not None for contact in contacts):
            raise SipError("one REGISTER is for one flow", status=400)  # RFC 5626 section 6
        return bindings

    def _told(
        self, request: Request, address: str, bindings: list[Binding], now: float
    ) -> list[tuple[str, str]]:
        """Return the headers of a 200: every binding and the seconds it has left, and the ways."""
        supported = _tags(request, "Supported")
        headers: list[tuple[str, str]] = []
        for binding in bindings:
            contact = binding.contact
            if self._gruus is not None and "gruu" in supported:
                granted = self._gruus.granted(request, address, binding)
                contact = contact._replace(params=(*contact.params, *granted))
            left = max(1, round(binding.expires_at - now))
            headers.append(("Contact", f"{contact};expires={left}"))
        if "path" in supported:
            headers += [("Path", value) for value in request.headers.values("Path")]
        headers += [("Service-Route", value) for value in self._config.service_route]
        if "outbound" in supported and any(
            binding.reg_id is not None and binding.call_id == request.call_id
            for binding in bindings
        ):
            headers.append(("Require", "outbound"))
            if self._config.flow_timer_s is not None:
                headers.append(("Flow-Timer", str(self._config.flow_timer_s)))
        return headers


def _binding(
    contact: NameAddr, until: float, register: RegisterRequest, path: tuple[str, ...]
) -> Binding:
    request, flow = register.request, register.flow
    if uri_scheme(contact.uri) not in ("sip", "sips", None):  # may be bound all the same (10.3)
        kept = _kept(contact)
        cseq, q = request.cseq.number, preference(contact)
        return Binding(kept, None, until, request.call_id, cseq, q)
    instance, reg_id = contact.param("+sip.instance"), _reg_id(contact)
    if instance is None or reg_id is None or "outbound" not in _tags(request, "Supported"):
        reg_id = None
    elif not _flow_ends_here(request, path):
        raise SipError("the first hop knows nothing of outbound flows", status=439)
    keep = not path and (reg_id is not None or flow.reliable or is_behind_nat(request))
    return Binding(
        _kept(contact),
        contact.sip_uri,
        until,
        request.call_id,
        request.cseq.number,
        preference(contact),
        path,
        flow if keep else None,
        instance,
        reg_id,
    )


def _flow_ends_here(request: Request, path: tuple[str, ...]) -> bool:
    """Whether the phone's flow ends at us, or at a proxy that keeps it (RFC 5626 section 6)."""
    if len(request.headers.values("Via")) == 1:
        return True
    return bool(path) and NameAddr.parse(path[-1]).sip_uri.param("ob") is not None


def _check_order(binding: Binding, request: Request) -> None:
    """Refuse what was sent before the REGISTER that made this binding (section 10.3, step 7)."""
    if binding.call_id == request.call_id and binding.cseq >= request.cseq.number:
        raise SipError("a later REGISTER has been answered already", status=500)


def _check_sips(request: Request, path: Iterable[str]) -> None:
    """Refuse a sips: contact unless all that leads there is secure (RFC 5630 section 5.2)."""
    contacts = [is_sips(contact.uri) for contact in request.contacts]
    if any(contacts) and not (
        all(contacts) and is_sips(request.uri) and all(top_is_sips([hop]) for hop in path)
    ):
        raise SipError("a sips: contact, and not all the way to it is sips:", status=400)


def _check_no_loop(binding: Binding, aor: SipUri) -> None:
    """Refuse an address, or a GRUU of ours, that is to be its own contact (RFC 5627 5.1)."""
    uri = binding.sip_uri
    if uri is None:
        return
    ours = (uri.host.lower(), uri.port) == (aor.host.lower(), aor.port)
    if uri.equivalent(aor) or (ours and uri.param("gr") is not None):
        raise SipError(f"{aor.user} cannot be reached by {aor.user}", status=403)


def _reg_id(contact: NameAddr) -> int | None:
    number = parse_seconds(contact.param("reg-id"))
    return number if number is not None and 0 < number <= _MAX_REG_ID else None


def _tags(request: Request, name: str) -> set[str]:
    return {tag.lower() for tag in request.headers.values(name)}


def _kept(contact: NameAddr) -> NameAddr:
    kept = tuple(param for param in contact.params if param[0].lower() not in _NOT_KEPT)
    return contact._replace(params=kept)
