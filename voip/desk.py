"""What the parts of one phone share, and what they ask of it."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from voip.account import Account
from voip.answering import Answering
from voip.call import Call
from voip.errors import CallError, ConfigError, TransportError
from voip.events import CallbackFailed, MessageReceived, PhoneEvent
from voip.registrars import Registrars
from voip.registration import Registrar
from voip.session.session import CallSession
from voip.session.stack import Stack
from voip.sip.client_invite import ClientInvite
from voip.sip.client_request import ClientRequest
from voip.sip.flow import Flow
from voip.sip.headers import NameAddr
from voip.sip.message import Request
from voip.sip.uri import SipUri

__all__ = [
    "Authorize",
    "Desk",
    "Handlers",
    "IncomingHandler",
    "TransferHandler",
    "TransferRequest",
    "WatchRequest",
    "Way",
    "Ways",
]

log = logging.getLogger(__name__)

IncomingHandler = Callable[[Call], Awaitable[None] | None]
Way = tuple[Registrar, Flow]
"""Where a request goes, and the registration that belongs to."""
Authorize = Callable[[Request, float], list[tuple[str, str]] | None]


@dataclass(frozen=True, slots=True)
class TransferRequest:
    """Somebody asks us to call `target` (a URI).

    `call`: the call it is asked in, None outside of any. `referred_by`: who it says it is.
    `attended`: the target speaks with them already, and is to go on with us (Replaces).
    """

    target: str
    call: Call | None
    referred_by: str | None = None
    attended: bool = False


@dataclass(frozen=True, slots=True)
class WatchRequest:
    """Somebody wants to watch this phone's calls. `watcher` is who it says it is, a URI."""

    watcher: str
    event: str


TransferHandler = Callable[[TransferRequest], Awaitable[bool] | bool]
WatchHandler = Callable[[WatchRequest], Awaitable[bool] | bool]


@dataclass(slots=True)
class Handlers:
    """What the application wants to be asked and told; None: it does not."""

    incoming: IncomingHandler | None = None
    transfer: TransferHandler | None = None
    message: Callable[[MessageReceived], object] | None = None
    watch: WatchHandler | None = None


class NewCall(Protocol):
    """Makes a call that the phone knows of."""

    def __call__(self, *, outgoing: bool, remote: NameAddr) -> Call: ...


class ContactOf(Protocol):
    """Names us towards a flow's other end; by sips: with `secure`, or without a name."""

    def __call__(self, flow: Flow, *, secure: bool = False, anonymous: bool = False) -> str: ...


class Ways:
    """The ways to one place, taken one after the other (RFC 3263 section 4.3)."""

    def __init__(self, found: AsyncGenerator[Way], failover_s: float | None) -> None:
        self._found = found
        self._failover_s = failover_s
        self._looking: asyncio.Task[Way | None] | None = None

    async def next(self) -> Way | None:
        """Return the next one, connected where it is a connection; None where there is none."""
        looking, self._looking = self._looking, None
        return await (self._find() if looking is None else looking)

    async def lead_around(self, request: ClientInvite | ClientRequest) -> bool:
        """Wait until `request` has had its time; whether nobody answers it and there is a next way.

        Without one there is nothing better to do than to go on waiting.
        """
        if self._failover_s is None:
            return False
        await asyncio.sleep(self._failover_s)
        if request.heard:
            return False
        if self._looking is None:  # it goes on, whoever waits no longer for it
            self._looking = asyncio.get_running_loop().create_task(self._find())
        return await asyncio.shield(self._looking) is not None and not request.heard

    async def aclose(self) -> None:
        """Look for no more."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        await self._found.aclose()

    async def _find(self) -> Way | None:
        return await anext(self._found, None)


@dataclass(slots=True)
class Desk:
    """One phone, as its parts see it.

    `contact(flow)` is our Contact towards a flow's other end; `identity(flow)` who we are in From.
    """

    account: Account
    handlers: Handlers
    calls: dict[CallSession, Call]
    contact: ContactOf
    identity: Callable[[Flow], NameAddr]
    new_call: NewCall
    spawn: Callable[[Coroutine[Any, Any, None]], None]
    tell: Callable[[PhoneEvent], None]
    answering: Answering = field(default_factory=Answering)
    opened: bool = False
    closed: bool = False
    max_calls: int = 10_000
    stack: Stack = field(init=False)
    registrars: Registrars = field(init=False)

    def check_open(self) -> None:
        """Raise where the phone is not switched on (yet, or any more)."""
        if not self.opened:
            raise ConfigError(
                "the phone was not started", hint="async with Softphone(...) as phone:"
            )
        if self.closed:
            raise CallError("the phone was closed", hint="make another one")

    def now(self) -> float:
        """Return the time to pass to the agent."""
        return self.stack.signalling.now()

    def flush(self) -> None:
        """Send what the agent wants sent."""
        self.stack.signalling.flush()

    @asynccontextmanager
    async def ways_to(self, uri: SipUri) -> AsyncGenerator[Ways]:
        """Hand out the ways to `uri` for as long as it takes to reach somebody."""
        async with aclosing(Ways(self.ways(uri), self.stack.agent.config.failover_s)) as ways:
            yield ways

    async def ways(self, uri: SipUri) -> AsyncGenerator[Way]:
        """Yield the ways to `uri`, the best first, each with the registration it belongs to.

        Raises `TransportError` for none.
        """
        failure: TransportError | None = None
        is_there = False
        for line in self.registrars.by_preference():
            where = line.where(uri)
            try:
                async with aclosing(self.stack.signalling.flows(where, prefer=line.peer)) as flows:
                    async for flow in flows:
                        is_there = True
                        yield line, flow
            except TransportError as error:
                failure = failure or error
        if failure is not None and not is_there:
            raise failure

    async def way_to(self, uri: SipUri) -> Way:
        """Return the best of the `ways` to `uri`."""
        async with aclosing(self.ways(uri)) as ways:
            async for way in ways:
                if not self.closed:
                    return way
        raise TransportError("the phone was closed", hint="make another one")

    async def flow_to(self, uri: SipUri) -> Flow:
        """Return the best way to `uri`; raises `TransportError` for none."""
        return (await self.way_to(uri))[1]

    def call_of(self, dialog: object) -> Call | None:
        """Return the call of a dialog, early ones too."""
        session = self.stack.sessions.get(dialog)
        return None if session is None else self.calls.get(session)

    def failed(self, handler: Callable[..., Any], error: BaseException) -> None:
        """Say that a handler of the application raised."""
        name = getattr(handler, "__qualname__", repr(handler))
        log.error("%s failed", name, exc_info=error)
        self.tell(CallbackFailed(name, error))

    async def ask(self, handler: Callable[[Any], Any], about: Any, default: Any) -> Any:
        """Return what a handler says, or a coroutine function; `default` where it raises."""
        try:
            answer = handler(about)
            return await answer if inspect.isawaitable(answer) else answer
        except Exception as error:
            self.failed(handler, error)
            return default
