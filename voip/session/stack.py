"""What all sessions of one phone share, and what they ask of the outside.

`session` knows neither sockets nor threads: a phone puts `net` behind these interfaces, a
simulation `sim`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Protocol

from voip.config import CallConfig, MediaConfig
from voip.media.driver import EngineDriver
from voip.media.files import FileServer
from voip.media.rings import RingArena
from voip.sdp.capability import AudioCapability
from voip.session.formats import capabilities
from voip.sip.agent import SipAgent
from voip.sip.endpoint.ways import WayFigures
from voip.sip.events import SipEvent
from voip.sip.flow import Flow, Peer
from voip.sip.locating import Where
from voip.types import Random

if TYPE_CHECKING:
    from voip.session.session import CallSession

__all__ = ["Signalling", "Stack"]


class Signalling(Protocol):
    """Carries the agent's messages; every action on the agent is followed by `flush`."""

    def now(self) -> float:
        """Return the time to pass to the agent."""
        ...

    def flush(self) -> None:
        """Send what the agent wants sent, and deliver its events."""
        ...

    def flows(
        self, where: Where, *, prefer: Peer | None = None, without: Collection[Peer] = ()
    ) -> AsyncGenerator[Flow]:
        """Yield the flows that lead there, best first; raises `TransportError` for none."""
        ...

    def avoid(self, flow: Flow, seconds: float = 30.0) -> None:
        """Prefer other ways to this one for a while."""
        ...

    def keep_alive(
        self, flow: Flow, *, answers: bool = False, flow_timer_s: int | None = None
    ) -> None:
        """Keep a flow alive, and notice when it is dead (RFC 5626 section 4.4)."""
        ...

    def let_go(self, flow: Flow) -> None:
        """Keep it alive no longer."""
        ...

    def figures(self) -> WayFigures:
        """Return what has been counted of ways and connections."""
        ...


@dataclass(slots=True)
class Stack:
    """The agent, the engine's driver and what goes with them, shared by the calls of one phone.

    `local_host(peer)` returns the address of ours that the kernel would use towards an IP literal.
    `trusted`: hosts (IP literals) whose word on who calls is taken. `streams`: numbers that no
    stream of the engine has yet.
    `sessions` finds the session of an INVITE or a dialog; the sessions keep it themselves.
    `call_changed` is called when a call comes to another state.
    `watchers` finds who is told of a subscription, ours or a peer's, in the same way.
    `asked`: what those wait for who have sent a request outside of calls. `capabilities`: the
    codecs that calls offer. `wall`: the time of day, seconds since 1970.
    """

    agent: SipAgent
    signalling: Signalling
    driver: EngineDriver
    arena: RingArena
    files: FileServer
    media: MediaConfig
    random: Random
    local_host: Callable[[str], str]
    trusted: Collection[str] = ()
    calling: CallConfig = field(default_factory=CallConfig)
    streams: Iterator[int] = field(default_factory=lambda: count(1))
    sessions: dict[object, CallSession] = field(default_factory=dict)
    call_changed: Callable[[], None] = lambda: None
    watchers: dict[object, Callable[[SipEvent], None]] = field(default_factory=dict)
    asked: set[asyncio.Future[SipEvent]] = field(default_factory=set)
    wall: Callable[[], float] = lambda: 0.0
    capabilities: tuple[AudioCapability, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.capabilities = capabilities(self.media.codecs, self.media.ptime_ms, dtx=self.media.dtx)
