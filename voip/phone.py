"""A headless softphone: its accounts, one SIP endpoint, one media engine, any number of calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from itertools import count
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from voip.account import Account
from voip.accounts import Accounts
from voip.answering import Answering
from voip.arguments import (
    RequestHandler,
    agent_config,
    instance_urn,
)
from voip.call import Call
from voip.call_control import CallControl
from voip.capture import Capture
from voip.conferencing import Conferencing
from voip.config import CallConfig, MediaConfig, NetworkConfig
from voip.desk import Authorize, Desk, Handlers
from voip.dialling import Dialling, Wait
from voip.errors import ConfigError
from voip.events import CallEnded, CallEvent, PhoneEvent
from voip.inbox import Inbox
from voip.incoming import IncomingCalls
from voip.journal import tell_of_registration
from voip.line import Line
from voip.lines import ANONYMOUS_URI, Lines
from voip.media.answers import EngineEvent
from voip.media.driver import EngineDriver
from voip.media.elsewhere import MediaElsewhere
from voip.media.rings import RingArena
from voip.messages import Messages
from voip.moderation import Moderation
from voip.net.platform import running_platform
from voip.parts import PartMethod
from voip.platform import MediaPlane, Platform
from voip.publishing import Publishing
from voip.quality_reports import QualityReports
from voip.referring import refer_beside
from voip.session.ask import wait_no_longer
from voip.session.event_log import EventLog
from voip.session.formats import check_codecs
from voip.session.manager import SessionManager
from voip.session.session import CallSession
from voip.session.stack import Stack
from voip.sip.agent import SipAgent
from voip.sip.digest import CredentialsLookup
from voip.sip.endpoint.endpoint import SipEndpoint
from voip.sip.endpoint.trace import SipTrace
from voip.sip.events import SipEvent
from voip.sip.headers import NameAddr
from voip.strangers import Strangers
from voip.tasks import Tasks
from voip.transfers import Transfers
from voip.types import Address, Random
from voip.watching import Watching
from voip.ways import look_up_within

if TYPE_CHECKING:
    from voip.metrics import Metrics
    from voip.metrics.meter import Meter

__all__ = ["Authorize", "Softphone", "Wait"]


class Softphone:
    """A phone: `async with Softphone("sip:alice@pbx.example", password="...") as phone:`.

    Registers on entering and keeps registered, unless `register` is False or there is no account;
    on leaving it hangs up, unregisters and closes everything. One event loop, any number of calls.
    accounts: several, instead of `uri` and what belongs to it; each is registered on its own, and
    entering raises only where all are refused; `add_account` and `remove_account` change them while
    the phone is open. Whatever takes `account` takes one of them, or its
    address of record, and means the first without. `call.account` is whom a call came for.

    credentials: instead of a password, a function of (realm, server) that returns
    `Credentials(username, password)`, or None where there are none. auth_user, expires_s: see
    `Account`. proxy: where every request goes first; several are registered by at the same time.
    outbound: register the flow and this phone (`instance`, a UUID, is best kept from one start to
    the next) and not an address (RFC 5626, 5627). network, media, calling: see `voip.config`.
    pcap: a file to write SIP and RTP to, without root. trace: called with every SIP message,
    credentials masked. requests: handlers for further SIP methods by name. info_packages: those
    that are taken in calls (RFC 6086). quality_collector: whom to send a report of each call to
    (RFC 6035). answering: what is done with calls before anybody is asked; it may be set anew at
    any time. metrics: what tells Prometheus of this phone while it is open. authorize: looks at an
    INVITE and returns the headers of a 401 that answers it, or None to let it through.
    """

    unregister_on_close = True
    """Whether closing lets the registrar forget us; a one-shot registration stays."""

    conference = PartMethod(Conferencing, Conferencing.conference)
    join = PartMethod(Conferencing, Conferencing.join)
    on_join = PartMethod(Conferencing, Conferencing.on_join)
    on_moderation = PartMethod(Moderation, Moderation.on_moderation)
    on_incoming = PartMethod(IncomingCalls, IncomingCalls.on_incoming)
    on_transfer = PartMethod(Transfers, Transfers.on_transfer)
    dial = PartMethod(CallControl, CallControl.dial)
    pick_up = PartMethod(CallControl, CallControl.pick_up)
    park = PartMethod(CallControl, CallControl.park)
    refer = PartMethod(CallControl, CallControl.refer)
    dial_when_free = PartMethod(CallControl, CallControl.dial_when_free)
    watch = PartMethod(Watching, Watching.watch)
    on_watch = PartMethod(Watching, Watching.on_watch)
    message = PartMethod(Messages, Messages.send)
    on_message = PartMethod(Messages, Messages.on_received)
    options = PartMethod(Messages, Messages.options)
    publish = PartMethod(Publishing, Publishing.publish)
    add_account = PartMethod(Accounts, Accounts.add)
    remove_account = PartMethod(Accounts, Accounts.remove)
    register = PartMethod(Accounts, Accounts.register)
    unregister = PartMethod(Accounts, Accounts.unregister)
    registration = PartMethod(Accounts, Accounts.registration)

    def __init__(
        self,
        uri: str | None = None,
        *,
        accounts: Sequence[Account] = (),
        password: str | None = None,
        credentials: CredentialsLookup | None = None,
        auth_user: str | None = None,
        display_name: str = "",
        proxy: str | Sequence[str] | None = None,
        register: bool | None = None,
        expires_s: int = 300,
        network: NetworkConfig | None = None,
        media: MediaConfig | None = None,
        calling: CallConfig | None = None,
        pcap: str | PathLike[str] | None = None,
        trace: SipTrace | None = None,
        requests: Mapping[str, RequestHandler] | None = None,
        info_packages: Sequence[str] = (),
        quality_collector: str | None = None,
        answering: Answering | None = None,
        authorize: Authorize | None = None,
        metrics: Metrics | None = None,
        outbound: bool = False,
        instance: str | None = None,
        random: Random | None = None,
        user_agent: str = "voip",
    ) -> None:
        self.network = network or NetworkConfig()
        self.media = media or MediaConfig()
        check_codecs(self.media)
        self.calling = calling or CallConfig()
        own = Account(
            ANONYMOUS_URI if uri is None else uri,
            password,
            auth_user,
            display_name,
            proxy or None,
            expires_s,
            self.network.transport,
            credentials,
        )
        self._lines = lines = Lines(own, accounts, named=uri is not None, register=register)
        self._random = random
        self._outbound = outbound
        self._instance = None if instance is None else instance_urn(instance)
        self._trace = trace
        self._metrics = metrics
        self._meter: Meter | None = None
        self._pcap_path = pcap
        self._requests = dict(requests or {})
        self._config = agent_config(
            user_agent,
            self._requests,
            self.calling,
            self.network,
            info_packages,
            mixes=self.media.elsewhere is None,
        )
        self._calls: dict[CallSession, Call] = {}
        self._tasks = Tasks()
        self._events: EventLog[PhoneEvent] = EventLog()
        self._open = False
        self._closed = False
        self._gone = asyncio.Event()
        self._desk = desk = Desk(
            lines,
            Handlers(),
            self._calls,
            self._new_call,
            self._tasks.spawn,
            self._tell,
            self._events.forget,
            answering or Answering(),
        )
        self._dialling = dialling = Dialling(desk)
        strangers = Strangers(lines, self.calling, self.network)
        self._conferencing = conferencing = Conferencing(desk, dialling)
        self._moderation = moderation = Moderation(desk, dialling, conferencing)
        self._incoming = IncomingCalls(desk, authorize, strangers, conferencing)
        self._transfers = Transfers(desk, dialling)
        self._messages = messages = Messages(desk)
        self._watching = watching = Watching(desk)
        self._publishing = publishing = Publishing(desk)
        self._reports = QualityReports(messages, quality_collector) if quality_collector else None
        control = CallControl(desk, dialling, watching, self.calling)
        keeping = Accounts(desk, watching, publishing)
        parts = (
            self._incoming, self._transfers, messages, watching, control, publishing, keeping,
            conferencing, moderation,
        )  # fmt: skip
        self._parts: Mapping[type, Any] = {type(part): part for part in parts}

    # ------------------------------------------------------------ opening and closing

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Bind, start the engine and register.

        Raises `TransportError` where a port cannot be had, `ConfigError` where the capture cannot
        be written, `RegistrationError` where the registrar refuses; nothing is left open then.
        """
        if self._open or self._closed:
            raise ConfigError("a Softphone is started once", hint="make another one")
        platform = running_platform()
        if self._random is None:
            self._random = platform.random()
        random = self._random
        path = self._pcap_path
        self._capture = None if path is None else Capture(Path(path), platform.clock)
        plane = self._media_plane(platform, random)
        self._driver = plane.driver
        self._files = platform.files()
        self._sip_network = platform.sip_network(
            self.network.dns_servers, dscp=self.network.dscp_sip
        )
        self._agent = SipAgent(self._config, random)
        self._agent.set_screen(self._incoming.screen)
        self._agent.set_refusals(self._desk.refused)
        self._transport: SipEndpoint[SipEvent] = SipEndpoint(
            self._agent,
            lambda event: self._sessions.on_sip(event),
            self._sip_network,
            public_address=self.network.public_address,
            tls=self.network.tls,
            ws_path=self.network.ws_path,
            tcp_alias=self.network.tcp_alias,
            trace=self._trace,
            tap=self._capture.on_sip if self._capture is not None else None,
            lost=self._lines.on_lost,
            random=random,
        )
        self._stack = Stack(
            self._agent,
            self._transport,
            self._driver,
            plane.arena,
            self._files,
            self.media,
            random,
            self._local_host,
            self.network.trusted,
            self.calling,
            plane.streams,
            wall=platform.clock.wall,
        )
        self._sessions = SessionManager(
            self._stack,
            on_invite=self._incoming.invited,
            on_request=lambda event: self._inbox.take(event),
            on_media=self._on_media,
        )
        urn = self._instance or instance_urn(random.token(32))
        self._lines.begin(
            self._stack,
            self._tell,
            transport=self.network.transport,
            instance=urn,
            outbound=self._outbound,
        )
        self._desk.stack = self._stack
        self._agent.set_look_up(partial(look_up_within, self._desk))
        self._stack.call_changed = self._calls_changed
        self._inbox = Inbox(
            self._desk,
            self._requests,
            messages=self._messages,
            watching=self._watching,
            publishing=self._publishing,
            transfers=self._transfers,
            conferencing=self._conferencing,
            moderation=self._moderation,
        )
        self._open = self._desk.opened = True
        if self._metrics is not None:
            self._meter = self._metrics.add(self._desk)
        try:
            self._driver.start()
            self._driver.subscribe(self._sessions.on_engine)
            await self._transport.start(
                self.network.bind_host or None,
                self.network.bind_port,
                streams=self.network.streams(),
            )
            if self._capture is not None:
                self._files.add(self._capture)
            await self._lines.open()
        except BaseException:
            await self.close()
            raise

    def _media_plane(self, platform: Platform, random: Random) -> MediaPlane:
        if self.media.elsewhere is not None:
            return MediaPlane(MediaElsewhere(self.media.elsewhere), RingArena(), count(1))
        tap = None if self._capture is None else self._capture.on_media
        dscp = self.network.dscp_rtp
        return platform.media(random, self.network.rtp_ports, tap, self.media, dscp=dscp)

    async def close(self) -> None:
        """Hang up, unregister, and close everything; closing twice does nothing.

        Waits a few seconds at most, for peers, for the registrar and for handlers of calls;
        when it is cancelled it waits for nobody, and closes everything all the same.
        """
        if not self._open:
            return
        if self._closed:
            if asyncio.current_task() not in self._tasks:  # it may be one of those waited for
                await self._gone.wait()
            return
        self._closed = self._desk.closed = True
        try:
            await self._say_goodbye()
        finally:
            await self._shut_down()

    async def _say_goodbye(self) -> None:
        """Hang up and unregister as others expect it, and let handlers end by themselves."""
        self._conferencing.end()
        await self._desk.hang_up()
        self._watching.end()
        await self._publishing.close()
        if self.unregister_on_close:
            await self._lines.stop()
        await self._tasks.wait()  # handlers whose calls are over close their files

    async def _shut_down(self) -> None:
        """Close everything, each part whatever becomes of the others."""
        async with AsyncExitStack() as closing:
            closing.callback(self._gone.set)
            closing.callback(self._events.end)
            if self._metrics is not None and self._meter is not None:
                closing.callback(self._metrics.remove, self._meter)
            if self._capture is not None:
                closing.callback(self._capture.close)
            closing.push_async_callback(self._files.close)
            closing.push_async_callback(self._driver.close)
            closing.push_async_callback(self._transport.close)
            closing.push_async_callback(self._tasks.cancel)
            closing.push_async_callback(self._desk.end_calls)
            closing.push_async_callback(self._lines.close)
            closing.callback(wait_no_longer, self._stack)

    # ------------------------------------------------------------ what it is

    @property
    def addresses(self) -> list[tuple[str, Address]]:
        """What is bound: (transport, address)."""
        self._check_started()
        return self._transport.addresses

    @property
    def port(self) -> int:
        """The SIP port."""
        return self.addresses[0][1].port

    @property
    def account(self) -> Account:
        """The account, the first of several; nobody's for a phone without one."""
        return self._lines.first.account

    @property
    def accounts(self) -> list[Account]:
        """All accounts, none for a phone without one."""
        return self._lines.accounts

    @property
    def registered(self) -> bool:
        """Whether the registrar knows us now; all of them, for several accounts."""
        return self._open and not self._closed and self._lines.registered

    @property
    def gruu(self) -> str | None:
        """A URI that reaches this very phone from everywhere, where the registrar gives one."""
        return self.registration().gruu if self._open and not self._closed else None

    @property
    def calls(self) -> list[Call]:
        """The calls that are not over."""
        return list(self._calls.values())

    @property
    def driver(self) -> EngineDriver:
        """What runs the engine. `ConfigError` where there is none."""
        self._check_started()
        if isinstance(self._driver, MediaElsewhere):
            raise ConfigError("this phone has no media engine", hint="MediaConfig(elsewhere=None)")
        return self._driver

    @property
    def answering(self) -> Answering:
        """What is done with calls before anybody is asked."""
        return self._desk.answering

    @answering.setter
    def answering(self, rules: Answering) -> None:
        self._desk.answering = rules

    async def events(self) -> AsyncIterator[PhoneEvent]:
        """Yield what happened to the registrations, from the beginning, until the phone closes.

        `aor` of an event says to which. Of a long life the last 1024 events are remembered.
        """
        async for event in self._events.follow():
            yield event

    def _check_started(self) -> None:
        if not self._open:
            self._desk.check_open()

    # ------------------------------------------------------------ calls

    def know(self, host: str) -> None:
        """Let `host` (an IP address) begin as many requests as it likes for an hour.

        For those who have shown who they are, to `authorize` or otherwise. Whom we register at or
        call is known by answering.
        """
        self._check_started()
        self._agent.guard.know(host, self._transport.now())

    def _new_call(self, line: Line, *, outgoing: bool, remote: NameAddr) -> Call:
        who, call_id = line.account, self._stack.random.token(16)
        account = who if line.named else None
        call = Call(call_id, self._tasks.spawn, self._tell, who.dial_uri, account)
        session = self._sessions.create(
            outgoing=outgoing, remote=remote, emit=lambda event: self._call_event(call, event)
        )
        call._bind(session, partial(refer_beside, self._desk, line, required=True))
        self._calls[session] = call
        return call

    def _call_event(self, call: Call, event: CallEvent) -> None:
        call._emit(event)
        if isinstance(event, CallEnded):
            if self._meter is not None:
                self._meter.tally.call_ended(call)
            if self._reports is not None:
                self._tasks.spawn(self._reports.publish(call, self._sip_network.wall()))
            self._calls.pop(call._session, None)
            self._sessions.forget(call._session)
            self._tasks.spawn(call._close())

    def _calls_changed(self) -> None:
        self._watching.calls_changed()
        self._conferencing.calls_changed()

    def _local_host(self, peer: str) -> str:
        """Where a stream towards `peer` is bound."""
        bound = self.network.bind_host
        return (
            bound
            if bound not in ("", "0.0.0.0", "::")
            else self._sip_network.local_address_toward(peer)
        )

    # ------------------------------------------------------------ news

    def _on_media(self, session: CallSession, event: EngineEvent) -> None:
        call = self._calls.get(session)
        if call is not None:
            call._on_media(event)

    def _tell(self, event: PhoneEvent) -> None:
        if self._meter is not None:
            self._meter.tally.told(event)
        tell_of_registration(event)
        self._events.add(event)
