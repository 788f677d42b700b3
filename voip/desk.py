"""What the parts of one phone share, and what they ask of it."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from voip.answering import Answering
from voip.call import Call
from voip.errors import CallError, ConfigError, TransportError
from voip.events import CallbackFailed, MessageReceived, PhoneEvent
from voip.line import Line
from voip.lines import Lines
from voip.refusals import RefusedCalls
from voip.registration import Registrar
from voip.session.session import CallSession
from voip.session.stack import Stack
from voip.sip.flow import Flow
from voip.sip.headers import NameAddr
from voip.sip.message import Request
from voip.sip.uri import SipUri

__all__ = [
    "Authorize",
    "Desk",
    "Handlers",
    "IncomingHandler",
    "JoinRequest",
    "ModerationRequest",
    "TransferHandler",
    "TransferRequest",
    "WatchRequest",
]

log = logging.getLogger(__name__)

IncomingHandler = Callable[[Call], Awaitable[None] | None]
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


@dataclass(frozen=True, slots=True)
class JoinRequest:
    """`new`, which is not answered, wants to take part in the call or conference of `parties`.

    is_own: it is proven to be of the user whose calls these are.
    """

    new: Call
    parties: tuple[Call, ...]
    is_own: bool = False


@dataclass(frozen=True, slots=True)
class ModerationRequest:
    """A party asks a conference of ours to take somebody in, or to let somebody go.

    `action`: "add" or "remove"; `target`: whom, a URI; `by`: the party that asks; `conference`: the
    `Conference`. `attended`: the target is to leave a call that it has for this (Replaces).
    """

    action: Literal["add", "remove"]
    target: str
    by: Call
    conference: Any
    attended: bool = False


JoinHandler = Callable[[JoinRequest], Awaitable[bool] | bool]
ModerationHandler = Callable[[ModerationRequest], Awaitable[bool] | bool]
TransferHandler = Callable[[TransferRequest], Awaitable[bool] | bool]
WatchHandler = Callable[[WatchRequest], Awaitable[bool] | bool]


@dataclass(slots=True)
class Handlers:
    """What the application wants to be asked and told; None: it does not."""

    incoming: IncomingHandler | None = None
    transfer: TransferHandler | None = None
    message: Callable[[MessageReceived], object] | None = None
    watch: WatchHandler | None = None
    join: JoinHandler | None = None
    moderation: ModerationHandler | None = None


class NewCall(Protocol):
    """Makes a call that the phone knows of."""

    def __call__(self, line: Line, *, outgoing: bool, remote: NameAddr) -> Call: ...


@dataclass(slots=True)
class Desk:
    """One phone, as its parts see it."""

    lines: Lines
    handlers: Handlers
    calls: dict[CallSession, Call]
    new_call: NewCall
    spawn: Callable[[Coroutine[Any, Any, None]], None]
    tell: Callable[[PhoneEvent], None]
    untell: Callable[[PhoneEvent], None]
    answering: Answering = field(default_factory=Answering)
    opened: bool = False
    closed: bool = False
    max_calls: int = 10_000
    stack: Stack = field(init=False)
    refused: RefusedCalls = field(init=False)

    def __post_init__(self) -> None:
        self.refused = RefusedCalls(self.now)

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

    async def way_to(self, line: Line, uri: SipUri) -> tuple[Registrar, Flow]:
        """Return the best of a line's ways to `uri`; raises `TransportError` for none."""
        async with aclosing(line.ways(uri)) as ways:
            async for way in ways:
                if not self.closed and not line.over:
                    return way
        if line.over and not self.closed:
            raise TransportError(f"the account {line.aor} was removed")
        raise TransportError("the phone was closed", hint="make another one")

    async def flow_to(self, line: Line, uri: SipUri) -> Flow:
        """Return the best of a line's ways to `uri`; raises `TransportError` for none."""
        return (await self.way_to(line, uri))[1]

    def call_of(self, dialog: object) -> Call | None:
        """Return the call of a dialog, early ones too."""
        session = self.stack.sessions.get(dialog)
        return None if session is None else self.calls.get(session)

    async def hang_up(self) -> None:
        """End every call as the other sides expect it."""
        hangups = [call.hangup() for call in self.calls.values()]
        await asyncio.gather(*hangups, return_exceptions=True)

    async def end_calls(self) -> None:
        """End what is left of calls when nobody was waited for."""
        calls = list(self.calls.values())
        for call in calls:
            call._session.fail("the phone was closed")
        await asyncio.gather(*(call.wait_ended() for call in calls), return_exceptions=True)

    def failed(
        self, handler: Callable[..., Any], error: BaseException, call: Call | None = None
    ) -> None:
        """Say that a handler of the application raised, about `call` if about any."""
        name = getattr(handler, "__qualname__", repr(handler))
        (log if call is None else call.log).error("%s failed", name, exc_info=error)
        self.tell(CallbackFailed(name, error))

    async def ask(self, handler: Callable[[Any], Any], about: Any, default: Any) -> Any:
        """Return what a handler says, or a coroutine function; `default` where it raises."""
        try:
            answer = handler(about)
            return await answer if inspect.isawaitable(answer) else answer
        except Exception as error:
            self.failed(handler, error)
            return default
