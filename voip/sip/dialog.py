"""A dialog: what two agents remember of each other between requests (RFC 3261 section 12)."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from typing import Final, TypeAlias

from voip.errors import SipError
from voip.ip import address_of, literal
from voip.sip.compose import new_request
from voip.sip.digest import CredentialSource
from voip.sip.flow import Flow
from voip.sip.focus import is_focus
from voip.sip.grammar import split_list
from voip.sip.headers import NameAddr
from voip.sip.locating import transport_of
from voip.sip.message import Request, Response
from voip.sip.sips import check_contact_scheme, is_sips, secured
from voip.sip.uri import SipUri
from voip.sip.via import DEFAULT_PORT, default_port, is_behind_nat, new_via
from voip.types import Address, Random

__all__ = ["Dialog", "DialogId", "DialogState"]

_PRIVATE: Final = tuple(
    ipaddress.ip_network(network)
    for network in (
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "169.254.0.0/16",
        "fc00::/7",
        "fe80::/10",
        "127.0.0.0/8",
        "::1/128",
    )
)

DialogId: TypeAlias = tuple[str, str, str]
"""Call-ID, local tag, remote tag ("" where an RFC 2543 peer sets none)."""


class DialogState(Enum):
    """A dialog's life. TERMINATING: the BYE is on its way (RFC 5407 calls it mortal)."""

    EARLY = "early"
    CONFIRMED = "confirmed"
    TERMINATING = "terminating"
    TERMINATED = "terminated"


@dataclass(slots=True, eq=False)
class Dialog:
    """One dialog of ours; the agent keeps it up to date.

    `local` and `remote` are From and To of our requests, tags included; `contact` is our Contact.
    `remote_target` is where the peer wants requests (any URI), `route_set` the proxies between, as
    Route values. `flow` is the way our requests take: chosen anew from `next_hop` whenever that
    changes, by the rule of `_way_to`; whoever resolves names or opens connections may set it at
    any time. While it `seeks_way` that has to be done before anything is sent: see `dialog_way`.
    `credentials` answer the challenges of later requests, BYE among them.
    """

    call_id: str
    local: NameAddr
    remote: NameAddr
    remote_target: str
    route_set: tuple[str, ...]
    is_caller: bool
    flow: Flow
    contact: str
    state: DialogState = DialogState.EARLY
    local_cseq: int = 0
    remote_cseq: int | None = None
    credentials: CredentialSource | None = field(default=None, repr=False)
    stay_on_flow: bool = False
    """The peer is behind a NAT: only the flow it came by reaches it."""
    allowed: frozenset[str] = frozenset()
    """The methods the peer answers, as far as it has said so (Allow)."""
    remote_is_focus: bool = False
    """The peer's Contact is a conference (RFC 4579)."""
    secure: bool = False
    """It was begun by TLS and for a sips: URI: the peer is to be reached by sips: as well."""
    seeks_way: bool = False
    """The next hop is reached otherwise than the dialog was begun: a connection is to be opened."""
    waiting: list[Callable[[float], None]] = field(default_factory=list, repr=False)
    """What is sent as soon as the way is found."""
    _begun_by: Flow = field(init=False, repr=False)
    _by_peer: bool = field(default=False, init=False, repr=False)
    """It was begun by a request of the peer's."""
    _hop: str = field(default="", init=False, repr=False)

    def __post_init__(self) -> None:
        self._begun_by = self.flow

    @classmethod
    def as_caller(cls, invite: Request, response: Response, flow: Flow, contact: str) -> Dialog:
        """Begin a dialog from a 101-299 to our INVITE (section 12.1.2).

        Without a Contact, which it should have, the callee is who was called, and is reached as it
        was then: a call that was answered is worth more than that. SipError when its Contact or
        Record-Route cannot be read.
        """
        dialog = cls.unreadable(invite, response, flow, contact)
        dialog.learn_route(response)
        return dialog

    @classmethod
    def unreadable(cls, invite: Request, response: Response, flow: Flow, contact: str) -> Dialog:
        """Begin one to end it: the callee is reached by the way that our INVITE has gone."""
        return cls(
            call_id=invite.call_id,
            local=invite.from_,
            remote=response.to,
            remote_target=invite.uri,
            route_set=tuple(invite.headers.values("Route")),
            is_caller=True,
            flow=flow,
            contact=contact,
            local_cseq=invite.cseq.number,
            secure=flow.secure and is_sips(invite.uri),
        )

    @classmethod
    def as_callee(cls, invite: Request, local_tag: str, flow: Flow, contact: str) -> Dialog:
        """Begin a dialog from an INVITE that came by `flow` (section 12.1.1).

        SipError (400) when its Contact or Record-Route cannot be read.
        """
        dialog = cls(
            call_id=invite.call_id,
            local=invite.to.with_tag(local_tag),
            remote=invite.from_,
            remote_target=invite.from_.uri,
            route_set=_route_set(invite),
            is_caller=False,
            flow=flow,
            contact=contact,
            remote_cseq=invite.cseq.number,
            secure=flow.secure and is_sips(invite.uri),
        )
        dialog._by_peer = True
        dialog.stay_on_flow = not dialog.route_set and is_behind_nat(invite)
        dialog.refresh_target(invite)
        return dialog

    @property
    def id(self) -> DialogId:
        """What a request of the peer's finds it by."""
        return self.call_id, self.local.tag or "", self.remote.tag or ""

    @property
    def next_hop(self) -> SipUri | None:
        """Where our requests go first: the first proxy, else the peer; None when no SIP URI."""
        try:
            if self.route_set:
                return NameAddr.parse(self.route_set[0]).sip_uri
            return SipUri.parse(self.remote_target)
        except SipError:
            return None

    def learn_route(self, response: Response) -> None:
        """Take route set and target from a response of the callee's (section 13.2.2.4).

        A provisional response's are provisional: the 2xx may bring others.
        """
        self._take(response, tuple(reversed(_route_set(response))))

    def refresh_target(self, message: Request | Response, flow: Flow | None = None) -> None:
        """Take the peer's new Contact, if it gives one (section 12.2); SipError if unreadable.

        `flow`: how a request came. A peer that only its flow reaches is reached by this one from
        now on: its NAT has given it another port, or it has opened another connection.
        """
        self._take(message, self.route_set)
        begun = self._begun_by
        if flow is None or not self._by_peer or self.route_set or flow.secure < begun.secure:
            return
        if self.stay_on_flow or (begun.reliable and flow.reliable):
            self._begun_by = self.flow = flow

    def _take(self, message: Request | Response, route_set: tuple[str, ...]) -> None:
        contacts = message.contacts
        check_contact_scheme(message, secure=self.secure)
        if "Allow" in message.headers:
            self.allowed = _methods(", ".join(message.headers.get_all("Allow")))
        if contacts:
            self.remote_is_focus = is_focus(contacts[0])
        if contacts:
            self.remote_target = contacts[0].uri
        self.route_set = route_set
        hop = route_set[0] if route_set else contacts[0].uri if contacts else self._hop
        if hop != self._hop:
            self._hop = hop
            self.flow = self._way_to(self.next_hop)

    @property
    def straight(self) -> Flow | None:
        """The flow to a next hop that is an address, by the transport it names; else None."""
        hop = self.next_hop
        bare = None if hop is None else literal(hop.host)
        if hop is None or bare is None:
            return None
        transport = transport_of(hop) or "udp"
        there = Address(bare, hop.port or default_port(transport))
        domain = "" if transport in ("udp", "tcp") else bare
        return Flow(transport, self._begun_by.local, there, domain)

    @property
    def is_elsewhere(self) -> bool:
        """Whether the next hop is an address that can be meant, and not the end of our flow."""
        straight = self.straight
        if straight is None or not _makes_sense(straight.remote, self.flow):
            return False
        return (straight.transport, straight.remote) != (self.flow.transport, self.flow.remote)

    def next_cseq(self) -> int:
        """Count our requests."""
        self.local_cseq += 1
        return self.local_cseq

    def in_order(self, cseq: int) -> bool:
        """Take the number of a request of the peer's; False when its time is over (12.2.2)."""
        if self.remote_cseq is not None and cseq <= self.remote_cseq:
            return False
        self.remote_cseq = cseq
        return True

    def request(
        self,
        method: str,
        *,
        random: Random,
        cseq: int | None = None,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        content_type: str | None = None,
    ) -> Request:
        """Return a request within the dialog, to be sent by `flow` (section 12.2.1.1)."""
        uri, route = self._target_and_route()
        return new_request(
            method,
            uri,
            via=new_via(self.flow, random),
            from_=self.local,
            to=self.remote,
            call_id=self.call_id,
            cseq=self.next_cseq() if cseq is None else cseq,
            route=route,
            headers=headers,
            body=body,
            content_type=content_type,
        )

    def _target_and_route(self) -> tuple[str, tuple[str, ...]]:
        first = self.next_hop if self.route_set else None
        if first is None or first.is_loose_router:
            return self.remote_target, tuple(secured(self.remote_target, self.route_set))
        # A strict router (RFC 2543) wants itself in the Request-URI and the target at the end.
        strict = SipUri(
            first.scheme,
            first.user,
            first.password,
            first.host,
            first.port,
            first.without_params("method").params,
        )
        return str(strict), (*self.route_set[1:], f"<{self.remote_target}>")

    def _way_to(self, next_hop: SipUri | None) -> Flow:
        """Choose the flow: straight to a numeric next hop that can be meant, else as it was begun.

        A next hop that names another transport than UDP is to be looked for (RFC 3263 section
        4.1). Stay with a connection (it is open), with a name, with a peer behind a NAT, and where
        an address makes no sense from here: unspecified, multicast, of the other IP version, local
        (loopback, private) while the peer is not, or our own (a name that we have given).
        """
        flow = self._begun_by
        self.seeks_way = False
        if self.stay_on_flow or flow.reliable or next_hop is None:
            return flow
        wanted = transport_of(next_hop)
        if wanted in (None, "udp") and next_hop.host == flow.remote.host:  # as it nearly always is
            there = Address(next_hop.host, next_hop.port or DEFAULT_PORT)
            return flow if there == flow.local else flow.to(there)
        straight = self.straight
        if straight is not None and not _makes_sense(straight.remote, flow):
            return flow
        if wanted not in (None, "udp"):
            self.seeks_way = True
            return flow
        return flow if straight is None else flow.to(straight.remote)


@lru_cache(maxsize=64)
def _methods(allow: str) -> frozenset[str]:
    """Return what an Allow names; telephones of one make all say the same."""
    return frozenset(split_list(allow))


def _route_set(message: Request | Response) -> tuple[str, ...]:
    """Return the Record-Route values in order; SipError when one cannot be read."""
    values = message.headers.values("Record-Route")
    for value in values:
        _ = NameAddr.parse(value).sip_uri
    return tuple(values)


def _makes_sense(there: Address, flow: Flow) -> bool:
    """Whether an address that was named by the other end of `flow` can be meant: see `_way_to`."""
    try:
        target, here = address_of(there.host), address_of(flow.remote.host)
    except ValueError:
        return False
    return not (
        target.version != here.version
        or target.is_unspecified
        or target.is_multicast
        or target.is_loopback > here.is_loopback
        or _is_private(target) > _is_private(here)
        or there == flow.local
    )


def _is_private(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether an address means something in one network only (RFC 1918, 3927, 4193, 4291)."""
    return any(address in network for network in _PRIVATE)
