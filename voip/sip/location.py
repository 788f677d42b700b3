"""Where users are: the table that a registrar writes and a proxy reads (RFC 3261 section 10)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Final

from voip.errors import SipError
from voip.sip.flow import Flow
from voip.sip.headers import NameAddr
from voip.sip.uri import SipUri

__all__ = ["Binding", "Location", "by_preference", "preference"]

MAX_ADDRESSES: Final = 10_000
"""Addresses of record with bindings; one more is refused with 503."""


@dataclass(frozen=True, slots=True)
class Binding:
    """A place where a user is.

    `contact` is as it came, without expires; `sip_uri` is None where it is no SIP URI (mailto:,
    tel:): it is told to who asks for bindings, and nothing is ever sent there. `q`: its
    preference, 0 to 1. `path`: Route values a
    request to it needs (RFC 3327). `flow`: the only way that reaches it, where it registered by
    an outbound flow (RFC 5626), a connection, or from behind a NAT; None: go where `uri` says.
    `instance`, `reg_id`: which device and which of its flows. `call_id`, `cseq`: of the REGISTER.
    `series`: which temporary GRUUs name it (RFC 5627), empty where none do.
    """

    contact: NameAddr
    sip_uri: SipUri | None
    expires_at: float
    call_id: str
    cseq: int
    q: float = 1.0
    path: tuple[str, ...] = ()
    flow: Flow | None = None
    instance: str | None = None
    reg_id: int | None = None
    series: str = ""

    @property
    def uri(self) -> SipUri:
        """Where to send requests; SipError (416) where none can be sent."""
        if self.sip_uri is None:
            raise SipError(f"{self.contact.uri} is no SIP URI", status=416)
        return self.sip_uri

    def same_place(self, other: Binding) -> bool:
        """Whether the later of both replaces the other (RFC 3261 10.3, RFC 5626 section 6)."""
        if self.reg_id is not None and other.reg_id is not None:
            return (self.instance, self.reg_id) == (other.instance, other.reg_id)
        if self.sip_uri is None or other.sip_uri is None:
            return self.contact.uri == other.contact.uri
        other_uri = replace(other.sip_uri, scheme=self.sip_uri.scheme)  # RFC 5630, 5.1.1.1
        return self.sip_uri.equivalent(other_uri)


class Location:
    """All bindings, by address. An address is whatever names a user here: the user part.

    Bindings expire by being looked at, those of users nobody asks for when there is no room.
    `changed(address)` is told whenever those of a user are other ones, or last longer.
    """

    def __init__(self, max_addresses: int = MAX_ADDRESSES) -> None:
        self.changed: Callable[[str], None] = lambda address: None
        self._bindings: dict[str, list[Binding]] = {}
        self._by_flow: dict[Flow, dict[str, None]] = {}  # whose bindings are reached by it
        self._max = max_addresses

    def __len__(self) -> int:
        return len(self._bindings)

    def count(self, now: float) -> tuple[int, int]:
        """Return how many users are somewhere, and at how many places."""
        alive = [
            sum(binding.expires_at > now for binding in bindings)
            for bindings in self._bindings.values()
        ]
        return sum(map(bool, alive)), sum(alive)

    def bindings(self, address: str, now: float) -> list[Binding]:
        """Return where a user is now, in the order of registering."""
        known = self._bindings.get(address)
        if known is None:
            return []
        alive = [binding for binding in known if binding.expires_at > now]
        if len(alive) != len(known):
            self._put(address, alive)
        return alive

    def known(self, address: str) -> list[Binding]:
        """Return what is written down of a user, where it may be that nobody has looked lately."""
        return list(self._bindings.get(address, ()))

    def set(self, address: str, bindings: Iterable[Binding], now: float) -> None:
        """Write down where a user is; SipError (503) when the table is full."""
        if address not in self._bindings and len(self._bindings) >= self._max:
            for other in list(self._bindings):
                self.bindings(other, now)
            if len(self._bindings) >= self._max:
                raise SipError(f"{self._max} users are registered already", status=503)
        self._put(address, list(bindings))

    def lose(self, flow: Flow) -> None:
        """Forget what only this way reached: nothing arrives by it (RFC 5626 section 7).

        A closed UDP port ends what is registered as a flow: who keeps one notices. Others who were
        seen behind a NAT may be back at it before they register again.
        """
        for address in tuple(self._by_flow.get(flow, ())):
            bindings = self._bindings[address]
            kept = [
                binding
                for binding in bindings
                if binding.flow != flow or not (flow.reliable or binding.reg_id is not None)
            ]
            if len(kept) != len(bindings):
                self._put(address, kept)

    def _put(self, address: str, bindings: list[Binding]) -> None:
        for flow in _flows(self._bindings.get(address, ())):
            self._by_flow[flow].pop(address)
            if not self._by_flow[flow]:
                del self._by_flow[flow]
        for flow in _flows(bindings):
            self._by_flow.setdefault(flow, {})[address] = None
        if bindings:
            self._bindings[address] = bindings
        else:
            self._bindings.pop(address, None)
        self.changed(address)


def _flows(bindings: Iterable[Binding]) -> set[Flow]:
    return {binding.flow for binding in bindings if binding.flow is not None}


def by_preference(bindings: Iterable[Binding]) -> list[list[Binding]]:
    """Return groups to be tried one after the other, all of a group at once, the best q first.

    Of several contacts of one device the newest stands for all (RFC 5626 section 7). What is no
    SIP URI is left out.
    """
    chosen: dict[object, Binding] = {}
    for binding in bindings:
        if binding.sip_uri is None:
            continue
        place: object = binding if binding.instance is None else binding.instance
        chosen.pop(place, None)  # a newer one of the same device
        chosen[place] = binding
    newest_first = list(chosen.values())[::-1]
    ordered = sorted(newest_first, key=lambda binding: -binding.q)
    return [list(group) for _, group in groupby(ordered, key=lambda binding: binding.q)]


def preference(contact: NameAddr) -> float:
    """Return a contact's q; 1 where it names none, or one nobody can read."""
    text = contact.param("q")
    try:
        return 1.0 if text is None else min(1.0, max(0.0, float(text[:5])))
    except ValueError:
        return 1.0
