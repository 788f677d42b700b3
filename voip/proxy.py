"""A SIP proxy and registrar on sockets: `voip.sip.proxy` with UDP, TCP and a table of users."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final, Self

from voip.config import TlsConfig
from voip.errors import ConfigError, VoipError
from voip.ip import literal
from voip.net.platform import running_platform
from voip.refusals import RefusedCalls
from voip.sip.authenticator import Authenticator
from voip.sip.digest_server import DigestServer
from voip.sip.edge import EdgePolicy
from voip.sip.endpoint.endpoint import SipEndpoint
from voip.sip.endpoint.trace import SipTrace
from voip.sip.endpoint.ways import WayFigures
from voip.sip.event_server import EventConfig, EventServer
from voip.sip.flow import Flow
from voip.sip.gruu import Gruus
from voip.sip.locating import Where
from voip.sip.location import Location
from voip.sip.packages.message_summary import MessageSummary
from voip.sip.proxy import ProxyAgent, ProxyConfig
from voip.sip.proxy_policy import LocationPolicy, Target
from voip.sip.proxy_way import FlowNeeded
from voip.sip.registrar import Registrar, RegistrarConfig
from voip.sip.uri import SipUri
from voip.types import Address, Random

if TYPE_CHECKING:
    from voip.metrics import Metrics
    from voip.metrics.proxy_meter import ProxyMeter

__all__ = ["SipProxy"]

MAX_SEARCHES: Final = 1000
"""Names looked up and connections opened at once; more requests are answered 500."""


class SipProxy:
    """A proxy for `users` (name to password): `async with SipProxy({"alice": "secret"}) as proxy:`.

    Users register and call each other, with digest; strangers may call users. Calls go through it,
    sound does not. It binds `host` and `port` (0: any free one), UDP and TCP.

    domains: host names whose users are ours, beside the proxy's own address. services: returns
    where a number that is no user's is to be sent. algorithms: of digest, in this order; MD5 alone,
    because some phones give up where they see another. tls: certificates; with one of its own it
    listens at `tls_port` too. stranger_rate: as of `NetworkConfig`, for hosts (IP addresses) that
    are not among `known_hosts` and from where no user has shown a password. max_redirects: places
    that a user's phone (3xx) may send one call on to, by us and wherever that is; 0: the caller is
    told, to go there or not. hides_users: strangers are not told which users there are (480 for
    all who cannot be called); False: 404 for who is none. registrar: how long users are
    registered, and by what way their requests are to come (Service-Route). events: what is told
    of users to whom (presence that they publish, registrations, mail); None: who wants to watch
    asks their phones. edge_of: the URI of the proxy that has the users, such as "sip:home.example";
    this one has none then, stands between it and the phones, and keeps their flows (RFC 5626).
    tcp_alias: as of `NetworkConfig`. metrics, trace: as of `Softphone`.

    A phone with an instance gets GRUUs (RFC 5627) where it asks for them, and is called by them.
    """

    def __init__(
        self,
        users: Mapping[str, str],
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        domains: Collection[str] = (),
        services: Callable[[str], Target | None] | None = None,
        algorithms: tuple[str, ...] = ("MD5",),
        realm: str = "voip",
        tls: TlsConfig | None = None,
        tls_port: int = 0,
        known_hosts: Collection[str] = (),
        stranger_rate: float | None = 20.0,
        max_redirects: int = 0,
        hides_users: bool = True,
        registrar: RegistrarConfig | None = None,
        events: EventConfig | None = None,
        edge_of: str | None = None,
        tcp_alias: bool = False,
        metrics: Metrics | None = None,
        trace: SipTrace | None = None,
        random: Random | None = None,
    ) -> None:
        self.host = host
        self._bind_port = port
        platform = running_platform()
        random = random or platform.random()
        digest = DigestServer(realm, users, random, algorithms=algorithms)
        self.location = Location()
        gruus = Gruus(random)
        registers = Registrar(
            users, self.location, Authenticator(digest, known=self._know), registrar, gruus
        )
        asks = Authenticator(digest, proxy=True, known=self._know)
        if edge_of is not None:
            home = SipUri.parse(edge_of).host
            known_hosts = (*known_hosts, home) if literal(home) else known_hosts
        if edge_of is not None and (users or services is not None or events is not None):
            raise ConfigError(
                "an edge has no users, services or events", hint=f"they are at {edge_of}"
            )
        policy = LocationPolicy(
            users,
            self.location,
            asks,
            registers,
            services,
            gruus=gruus,
            hides_users=hides_users,
            known_hosts=known_hosts,
        )
        config = ProxyConfig(
            domains=frozenset(domains),
            name="voip proxy",
            stranger_rate=stranger_rate,
            known_hosts=tuple(known_hosts),
            max_redirects=max_redirects,
            is_edge=edge_of is not None,
            events=events.packages if events is not None else (),
        )
        edge = None if edge_of is None else EdgePolicy(edge_of, self._is_open)
        self.agent = ProxyAgent(config, edge or policy, random, redirect=policy.redirect)
        self.events: EventServer | None = None
        if events is not None:
            self.events = policy.events = EventServer(self.agent.core, self.location, events)
            self.agent.ended = self.events.ended
        self._transport: SipEndpoint[FlowNeeded] = SipEndpoint(
            self.agent,
            self._find,
            platform.sip_network(),
            tls=tls,
            tcp_alias=tcp_alias,
            trace=trace,
            random=random,
        )
        listens = tls is not None and tls.certificate is not None
        self._streams = {"tls": tls_port} if listens else {}
        self._searches: set[asyncio.Task[None]] = set()
        self.refused = self.agent.core.refusals = RefusedCalls(self.now)
        self._metrics = metrics
        self._meter: ProxyMeter | None = None

    async def __aenter__(self) -> Self:
        await self._transport.start(self.host, self._bind_port, streams=self._streams)
        self.refused.fields["proxy"] = self.address
        if self._metrics is not None:
            self._meter = self._metrics.add_proxy(self)
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._metrics is not None and self._meter is not None:
            self._metrics.remove(self._meter)
        for search in self._searches:
            search.cancel()
        await asyncio.gather(*self._searches, return_exceptions=True)
        if self.events is not None:
            self.events.close(self.now())
            self._transport.flush()
        await self._transport.close()

    @property
    def port(self) -> int:
        """The SIP port, UDP and TCP."""
        return self._transport.addresses[0][1].port

    @property
    def address(self) -> str:
        """`host:port`."""
        return str(Address(self.host, self.port))

    @property
    def tls_port(self) -> int | None:
        """The port for TLS, None where there is none."""
        return dict(self._transport.addresses).get("tls", Address("", 0)).port or None

    def now(self) -> float:
        """Return the time its bindings go by."""
        return self._transport.now()

    def figures(self) -> WayFigures:
        """Return what has been counted of ways and connections."""
        return self._transport.figures()

    @property
    def searches(self) -> int:
        """How many names are looked up and connections opened at this moment."""
        return len(self._searches)

    def set_mail(self, user: str, summary: MessageSummary) -> None:
        """Say what waits in a user's mailbox, to who watches it (RFC 3842)."""
        if self.events is None:
            raise ConfigError("this proxy tells of no events", hint="pass events=EventConfig()")
        self.events.set_mail(user, summary, self.now())
        self._transport.flush()

    def _is_open(self, flow: Flow) -> bool:
        return self._transport.is_open(flow)

    def _know(self, host: str, now: float) -> None:
        self.agent.core.guard.know(host, now)

    def _find(self, needed: FlowNeeded) -> None:
        """Look a way up without holding up what needs none."""
        if len(self._searches) >= MAX_SEARCHES:
            needed.lost("too many ways are looked up already", self._transport.now())
            return
        task: asyncio.Task[Any] = asyncio.get_running_loop().create_task(self._search(needed))
        self._searches.add(task)
        task.add_done_callback(self._searches.discard)

    async def _search(self, needed: FlowNeeded) -> None:
        try:
            where = Where(needed.host, needed.port, needed.transport)
            async with aclosing(self._transport.flows(where, without=needed.without)) as flows:
                flow = await anext(flows)
        except VoipError as error:
            needed.lost(error.message, self._transport.now())
        else:
            if needed.left is not None:
                self._transport.avoid(needed.left)
            needed.found(flow, self._transport.now())
        self._transport.flush()
