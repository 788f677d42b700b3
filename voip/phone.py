"""A headless softphone: one account, one SIP endpoint, one media engine, any number of calls."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from os import PathLike
from pathlib import Path
from time import monotonic, time
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from voip.account import Account
from voip.call import Call
from voip.config import MediaConfig, NetworkConfig
from voip.errors import CallError, ConfigError, VoipError
from voip.events import (
    CallbackFailed,
    CallEnded,
    PhoneEvent,
    Registered,
    RegistrationFailed,
    Unregistered,
)
from voip.media.commands import EngineEvent
from voip.media.engine import Engine
from voip.net.driver import ThreadDriver
from voip.net.io_thread import IoThread
from voip.net.packets import UdpPacketIO
from voip.net.ports import PortRange
from voip.net.route import local_address_toward
from voip.net.sip_transport import SipTrace, SipTransport
from voip.pcap import PcapWriter
from voip.registration import Registrar
from voip.session.manager import RequestEvent, SessionManager
from voip.session.session import CallSession
from voip.session.stack import Stack
from voip.sip.agent import SipAgent
from voip.sip.config import AgentConfig
from voip.sip.events import RequestReceived, SipEvent
from voip.sip.flow import Flow
from voip.sip.headers import NameAddr
from voip.sip.message import Request
from voip.sip.server_invite import ServerInvite
from voip.sip.server_request import ServerRequest
from voip.sip.uri import SipUri, format_host
from voip.types import Address, Random, SecureRandom

__all__ = ["Authorize", "Softphone", "Wait"]

log = logging.getLogger(__name__)

Wait = Literal["started", "ringing", "answered"]
IncomingHandler = Callable[[Call], Awaitable[None] | None]
RequestHandler = Callable[[ServerRequest], None]
Authorize = Callable[[Request, float], list[tuple[str, str]] | None]
_Handler = TypeVar("_Handler", bound=IncomingHandler)

MAX_CALLS = 5000
HANDLERS_S = 1.0
"""How long closing waits for handlers of calls to end by themselves."""


class Softphone:
    """A phone: `async with Softphone("sip:alice@pbx.example", password="...") as phone:`.

    Registers on entering and keeps registered, unless `register` is False or there is no account;
    on leaving it hangs up, unregisters and closes everything. One event loop, any number of calls.

    auth_user, proxy, expires_s: see `Account`. network, media: see `voip.config`. pcap: a file to
    write SIP and RTP to, without root. trace: called with every SIP message, credentials masked.
    requests: handlers for further SIP methods by name. authorize: looks at an INVITE and returns
    the headers of a 401 that answers it, or None to let it through.
    """

    def __init__(
        self,
        uri: str | None = None,
        *,
        password: str | None = None,
        auth_user: str | None = None,
        display_name: str = "",
        proxy: str | None = None,
        register: bool | None = None,
        expires_s: int = 300,
        network: NetworkConfig | None = None,
        media: MediaConfig | None = None,
        pcap: str | PathLike[str] | None = None,
        trace: SipTrace | None = None,
        requests: Mapping[str, RequestHandler] | None = None,
        authorize: Authorize | None = None,
        random: Random | None = None,
        user_agent: str = "voip",
    ) -> None:
        self.network = network or NetworkConfig()
        self.media = media or MediaConfig()
        self.account = Account(
            uri or "sip:anonymous@anonymous.invalid",
            password,
            auth_user,
            display_name,
            proxy,
            expires_s,
            self.network.transport,
        )
        self._register = (uri is not None) if register is None else register
        if self._register and uri is None:
            raise ConfigError("nothing to register", hint='Softphone("sip:alice@pbx.example")')
        self._named = uri is not None
        self._random = random or SecureRandom()
        self._trace = trace
        self._pcap_path = pcap
        self._requests = dict(requests or {})
        self._authorize = authorize
        self._config = AgentConfig(
            user_agent=user_agent, allow=(*AgentConfig().allow, *self._requests)
        )
        self._on_incoming: IncomingHandler | None = None
        self._calls: dict[CallSession, Call] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._events: list[PhoneEvent] = []
        self._news = asyncio.Event()
        self._open = False
        self._closed = False
        self.unregister_on_close = True
        """Whether closing lets the registrar forget us; a one-shot registration stays."""

    # ------------------------------------------------------------ opening and closing

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def start(self) -> None:
        """Bind, start the engine and register.

        Raises `TransportError` where a port cannot be had, `ConfigError` where the capture cannot
        be written, `RegistrationError` where the registrar refuses; nothing is left open then.
        """
        if self._open or self._closed:
            raise ConfigError("a Softphone is started once", hint="make another one")
        self._capture = None if self._pcap_path is None else _Capture(Path(self._pcap_path))
        io = UdpPacketIO(self._random, ports=PortRange(*self.network.rtp_ports))
        if self._capture is not None:
            io.tap = self._tap_media
        engine = Engine(io, random=self._random)
        self._driver = ThreadDriver(engine, release=io.close_all)
        self._files = IoThread()
        self._agent = SipAgent(self._config, self._random)
        self._transport: SipTransport[SipEvent] = SipTransport(
            self._agent,
            self._on_sip,
            public_address=self.network.public_address,
            trace=self._trace,
            tap=self._tap_sip if self._capture is not None else None,
        )
        self._stack = Stack(
            self._agent,
            self._transport,
            self._driver,
            engine.arena,
            self._files,
            self.media,
            self._random,
            self._local_host,
        )
        self._sessions = SessionManager(
            self._stack,
            on_invite=self._invited,
            on_request=self._on_request,
            on_media=self._on_media,
        )
        self._registrar = Registrar(self.account, self._stack, self._contact, self._tell)
        self._open = True
        try:
            self._driver.start()
            self._driver.subscribe(self._sessions.on_engine)
            await self._transport.start(self.network.bind_host or None, self.network.bind_port)
            if self._capture is not None:
                self._files.add(self._capture)
            if self._register:
                await self._registrar.start()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Hang up, unregister, and close everything; closing twice does nothing."""
        if not self._open or self._closed:
            return
        self._closed = True
        calls = list(self._calls.values())
        if calls:
            await asyncio.gather(*(call.hangup() for call in calls), return_exceptions=True)
        if self.unregister_on_close:
            await self._registrar.stop()
        self._registrar.drop()
        current = asyncio.current_task()
        tasks = [task for task in self._tasks if task is not current]
        if tasks:  # handlers whose calls are over close their files
            await asyncio.wait(tasks, timeout=HANDLERS_S)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._transport.close()
        await self._driver.close()
        await self._files.close()
        if self._capture is not None:
            self._capture.close()
        self._news.set()

    # ------------------------------------------------------------ what it is

    @property
    def addresses(self) -> list[tuple[str, Address]]:
        """What is bound: (transport, address)."""
        return self._transport.addresses

    @property
    def port(self) -> int:
        """The SIP port."""
        return self._transport.addresses[0][1].port

    @property
    def registered(self) -> bool:
        """Whether the registrar knows us now."""
        return self._registrar.registered

    @property
    def calls(self) -> list[Call]:
        """The calls that are not over."""
        return list(self._calls.values())

    @property
    def driver(self) -> ThreadDriver:
        """What runs the engine: for its timing figures."""
        return self._driver

    async def events(self) -> AsyncIterator[PhoneEvent]:
        """Yield what happened to the registration, from the beginning, until the phone closes."""
        index = 0
        while True:
            while index < len(self._events):
                yield self._events[index]
                index += 1
            if self._closed:
                return
            await self._news.wait()

    # ------------------------------------------------------------ registration

    async def register(self) -> Registered:
        """Register now, whatever was before; returns what was granted."""
        return await self._registrar.start()

    async def unregister(self) -> None:
        """Let the registrar forget us."""
        await self._registrar.stop()

    # ------------------------------------------------------------ calls

    async def dial(
        self,
        target: str,
        *,
        wait: Wait = "answered",
        timeout: float | None = 30.0,
        headers: Mapping[str, str] | None = None,
        from_: str | None = None,
    ) -> Call:
        """Call `target`: a SIP URI, `user@host`, or a number at the account's domain.

        Returns when the call is answered, or as `wait` says. Raises `CallError` (with the SIP
        status where there is one) when it comes to nothing, `NoAnswerError` after `timeout` s.
        `from_`: the URI to call as, for those who speak for others, as a PBX does.
        """
        if not self._open or self._closed:
            raise CallError("the phone is not open", hint="async with Softphone(...) as phone:")
        if len(self._calls) >= MAX_CALLS:
            raise CallError(f"{MAX_CALLS} calls are under way", hint="end some")
        if not self._named and "@" not in target and ":" not in target:
            raise ConfigError(f"{target!r} is at no domain", hint="sip:user@host")
        uri = self.account.dial_uri(target)
        hop = self.account.target(uri)
        flow = await self._transport.flow_to(hop.host, hop.port, hop.transport)
        call = self._new_call(outgoing=True, remote=NameAddr("", str(uri.without_params())))
        session = call._session
        try:
            await session.call(
                str(uri),
                flow=flow,
                from_=self._identity(flow) if from_ is None else NameAddr.parse(from_),
                contact=self._contact(flow),
                route=self.account.route(),
                headers=list((headers or {}).items()),
                credentials=self.account.credentials(),
            )
            if wait == "answered":
                await session.wait_answered(timeout)
            elif wait == "ringing":
                await session.wait_progress(timeout)
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError):
                self._spawn(call.hangup())
            elif not isinstance(error, CallError):
                session.fail(str(error))
            raise
        return call

    def on_incoming(self, handler: _Handler) -> _Handler:
        """Call `handler(call)` for every call that comes in; usable as a decorator.

        It may be a coroutine function. A call it leaves unanswered when it returns is refused
        with 480; an exception is logged, told as `CallbackFailed`, and refused with 500.
        """
        self._on_incoming = handler
        return handler

    def _new_call(self, *, outgoing: bool, remote: NameAddr) -> Call:
        call = Call(self._random.token(16), self._spawn, self._tell)
        session = self._sessions.create(
            outgoing=outgoing, remote=remote, emit=lambda event: self._call_event(call, event)
        )
        call._bind(session)
        self._calls[session] = call
        return call

    def _call_event(self, call: Call, event: Any) -> None:
        call._emit(event)
        if isinstance(event, CallEnded):
            self._calls.pop(call._session, None)
            self._sessions.forget(call._session)
            self._spawn(call._close())

    def _invited(self, invite: ServerInvite) -> None:
        now = self._transport.now()
        if self._authorize is not None:
            challenge = self._authorize(invite.request, now)
            if challenge is not None:
                invite.respond(401, headers=challenge, now=now)
                return
        if self._on_incoming is None or self._closed or len(self._calls) >= MAX_CALLS:
            invite.respond(480 if self._on_incoming is None else 503, now=now)
            return
        call = self._new_call(outgoing=False, remote=invite.request.from_)
        call._session.incoming(invite, self._contact(invite.flow))
        self._spawn(self._handle(self._on_incoming, call))

    async def _handle(self, handler: IncomingHandler, call: Call) -> None:
        status = 480
        try:
            result = handler(call)
            if inspect.isawaitable(result):
                await result
        except asyncio.CancelledError:
            raise
        except Exception as error:
            if call.ended is None or not isinstance(error, CallError):
                name = getattr(handler, "__qualname__", repr(handler))
                log.error("the handler of incoming calls failed", exc_info=error)
                self._tell(CallbackFailed(name, error))
            status = 500
        if call.ended is None and not call._session.is_up:
            try:
                await call.reject(status)
            except VoipError as error:
                log.debug("refusing an unanswered call: %s", error)
        elif call.ended is None and status == 500:
            await call.hangup()

    # ------------------------------------------------------------ addresses

    def _identity(self, flow: Flow) -> NameAddr:
        if self._named:
            return self.account.identity()
        return NameAddr("", f"sip:anonymous@{format_host(flow.local.host)}")

    def _contact(self, flow: Flow) -> str:
        user = self.account.user if self._named else None
        uri = SipUri("sip", user, None, flow.local.host, flow.local.port)
        if flow.transport != "udp":
            uri = uri.with_params(transport=flow.transport)
        return f"<{uri}>"

    def _local_host(self, peer: str) -> str:
        """Where a stream towards `peer` is bound."""
        bound = self.network.bind_host
        return bound if bound not in ("", "0.0.0.0", "::") else local_address_toward(peer)

    # ------------------------------------------------------------ news

    def _on_sip(self, event: SipEvent) -> None:
        self._sessions.on_sip(event)

    def _on_request(self, event: RequestEvent) -> None:
        if isinstance(event, RequestReceived):
            handler = self._requests.get(event.request.request.method)
            if handler is None:
                event.request.reply(405, now=self._transport.now())
            else:
                handler(event.request)
            return
        self._registrar.on_event(event)

    def _on_media(self, session: CallSession, event: EngineEvent) -> None:
        call = self._calls.get(session)
        if call is not None:
            call._on_media(event)

    def _tell(self, event: PhoneEvent) -> None:
        if isinstance(event, RegistrationFailed):
            log.warning("registration failed: %s", event.reason)
        if len(self._events) < 1000 or isinstance(event, Unregistered):
            self._events.append(event)
        news, self._news = self._news, asyncio.Event()
        news.set()

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # ------------------------------------------------------------ capture

    def _tap_sip(self, sent: bool, flow: Flow, data: bytes) -> None:
        if self._capture is None:
            return
        ends = (flow.local, flow.remote) if sent else (flow.remote, flow.local)
        pcap = self._capture.pcap
        write = pcap.udp if flow.transport == "udp" else pcap.tcp
        write(time(), *ends, data)

    def _tap_media(
        self, sent: bool, row: int, local: Address, remote: Address, packet: memoryview, at: float
    ) -> None:
        if self._capture is not None:
            ends = (local, remote) if sent else (remote, local)
            self._capture.pcap.udp(time() - (monotonic() - at), *ends, packet)


class _Capture:
    """A capture file, written by the thread that serves files.

    A disk that is full ends the capture, which is logged once, and not the calls.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._broken = False
        try:
            self.pcap = PcapWriter(path)
        except OSError as error:
            raise ConfigError(f"cannot write {path}: {error.strerror}") from error

    def service(self, now: float) -> None:
        """Write what was captured."""
        if not self._broken:
            self._try(self.pcap.flush)

    def close(self) -> None:
        """Write the rest and close the file."""
        self._try(self.pcap.close)

    def _try(self, write: Callable[[], None]) -> None:
        try:
            write()
        except OSError as error:
            if not self._broken:
                log.error("the capture %s is incomplete: %s", self._path, error.strerror)
            self._broken = True
