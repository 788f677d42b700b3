"""Several of our calls and a controller in one virtual time, on a network that loses datagrams.

A `Party` is a whole signalling stack of ours with sessions on it; the media engine only keeps
count. A `Controller` is a bare agent of the public API that connects others (RFC 3725).
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

from session_world import CountingDriver, VirtualLoop

from voip.call import Call
from voip.config import MediaConfig
from voip.errors import CallError
from voip.events import CallEvent
from voip.media.rings import RingArena
from voip.session.caller import CallPlan
from voip.session.manager import SessionManager
from voip.session.stack import Stack
from voip.sip.agent import SipAgent
from voip.sip.config import AgentConfig
from voip.sip.flow import Flow
from voip.sip.headers import NameAddr
from voip.sip.message import Request, Response, parse_message
from voip.sip.server_invite import ServerInvite
from voip.types import Address, SeededRandom

E = TypeVar("E")
SDP = "application/sdp"
CONFIG = AgentConfig(user_agent="party", session_expires=1800)


class Town:
    """The network, its time, and who is on it. Nothing happens but in `run`."""

    def __init__(self, loss: float = 0.0, seed: int = 1) -> None:
        self.loss = loss
        self.random = SeededRandom(seed)
        self.loop = VirtualLoop()
        asyncio.set_event_loop(self.loop)
        self.people: dict[Address, Party | Controller] = {}
        self.wire: list[Request | Response] = []
        self._flying: list[tuple[float, int, bytes, Flow]] = []
        self._count = 0

    def now(self) -> float:
        return self.loop.clock

    def take(self, outgoing: list[tuple[bytes, Flow]]) -> None:
        """Carry what somebody sends, or lose it."""
        for data, flow in outgoing:
            self.wire.append(parse_message(data))
            if self.random.uniform(0, 1) >= self.loss:
                self._count += 1
                heapq.heappush(self._flying, (self.now() + 0.01, self._count, data, flow))

    def run(self, seconds: float) -> None:
        end = self.now() + seconds
        self._settle()
        while (due := self._next()) is not None and due <= end:
            self.loop.clock = max(self.now(), due)
            while self._flying and self._flying[0][0] <= self.now():
                _, _, data, flow = heapq.heappop(self._flying)
                person = self.people.get(flow.remote)
                if person is not None:
                    back = Flow(flow.transport, flow.remote, flow.local)
                    self.inside(lambda p=person, d=data, b=back: p.receive(d, b))
            for person in self.people.values():
                timer = person.agent.next_timer()
                if timer is not None and timer <= self.now():
                    self.inside(lambda p=person: p.wake())
            self._settle()
        self.loop.clock = end
        self._settle()

    def until(self, done: Callable[[], bool], seconds: float = 90.0) -> None:
        """Let time go by until something is the case."""
        end = self.now() + seconds
        while not done():
            assert self.now() < end, "it never came about\n" + "\n".join(map(repr, self.wire[-40:]))
            self.run(0.05)

    def inside(self, act: Callable[[], E]) -> E:
        async def go() -> E:
            return act()

        return self.loop.run_until_complete(go())

    def _next(self) -> float | None:
        times = [self._flying[0][0]] if self._flying else []
        times += [t for p in self.people.values() if (t := p.agent.next_timer()) is not None]
        times += [h.when() for h in self.loop._scheduled if not h.cancelled()]
        return min(times, default=None)

    def _settle(self) -> None:
        async def idle() -> None:
            for _ in range(20):
                await asyncio.sleep(0)

        self.loop.run_until_complete(idle())

    def close(self) -> None:
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self._settle()
        self.loop.close()
        asyncio.set_event_loop(None)
        assert not self.loop.complaints, self.loop.complaints


class Party:
    """Somebody of ours who answers every call at once, or dials."""

    def __init__(self, town: Town, host: str, port: int, config: AgentConfig = CONFIG) -> None:
        self.town = town
        self.address = Address(host, 5060)
        self.port = port
        self.before: Callable[[Call], Awaitable[None]] | None = None
        """What it does before it answers a call."""
        self.agent = SipAgent(config, SeededRandom(port))
        self.driver = CountingDriver(town.loop)
        self.driver.host, self.driver.port = host, port
        self.calls: list[Call] = []
        self.events: list[CallEvent] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._flushing = False
        stack = Stack(
            self.agent, self, self.driver, RingArena(), None, MediaConfig(),  # type: ignore[arg-type]
            SeededRandom(port + 1), lambda peer: host,
        )  # fmt: skip
        self.manager = SessionManager(
            stack, on_invite=self._invited, on_request=lambda event: None,
            on_media=lambda session, event: None,
        )  # fmt: skip
        town.people[self.address] = self

    @property
    def uri(self) -> str:
        return f"sip:{self.address}"

    @property
    def contact(self) -> str:
        return f"<{self.uri}>"

    @property
    def call(self) -> Call:
        return self.calls[-1]

    @property
    def sends_to(self) -> tuple[str, int] | None:
        """Where its sound goes."""
        for command in self.driver.connected.values():
            if command.send and command.rtp is not None:
                return command.rtp.host, command.rtp.port
        return None

    def spawn(self, work: Any) -> None:
        task = self.town.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _make(self, outgoing: bool, remote: NameAddr) -> Call:
        call = Call(f"{self.port}", self.spawn, lambda failed: None)

        def emit(event: CallEvent) -> None:
            self.events.append(event)
            call._emit(event)

        call._bind(self.manager.create(outgoing=outgoing, remote=remote, emit=emit))
        self.calls.append(call)
        return call

    def _invited(self, invite: ServerInvite) -> None:
        call = self._make(False, invite.request.from_)
        call._session.incoming(invite, self.contact)
        self.spawn(self._answer(call))

    async def _answer(self, call: Call) -> None:
        with suppress(CallError):  # the caller may hang up before it acknowledges
            if self.before is not None:
                await self.before(call)
            await call.answer()

    def dial(self, other: Party, **more: Any) -> Call:
        """Begin to call somebody."""
        call = self._make(True, NameAddr("", other.uri))
        plan = CallPlan(
            lambda flow: NameAddr.parse(self.contact), lambda flow: self.contact, **more
        )
        flow = Flow("udp", self.address, other.address)
        self.spawn(call._session.caller.call(other.uri, plan, flow=flow))
        return call

    def do(self, work: Awaitable[E]) -> E:
        """Let something happen, and return when it has."""
        task = asyncio.ensure_future(work, loop=self.town.loop)
        self.town.until(task.done)
        return task.result()

    # What a session asks for.

    def now(self) -> float:
        return self.town.now()

    def flush(self) -> None:
        if self._flushing:
            return
        self._flushing = True
        while (out := self.agent.outgoing()) or (events := self.agent.events()):
            self.town.take(out)
            for event in () if out else events:
                self.manager.on_sip(event)
        self._flushing = False

    def receive(self, data: bytes, flow: Flow) -> None:
        self.agent.receive(data, flow, self.now())
        self.flush()

    def wake(self) -> None:
        self.agent.handle_timer(self.now())
        self.flush()


class Controller:
    """A bare agent. `seen` is what it was told; `on` says what it does about it."""

    def __init__(self, town: Town, host: str) -> None:
        self.town = town
        self.address = Address(host, 5060)
        self.agent = SipAgent(AgentConfig(user_agent="controller"), SeededRandom(99))
        self.seen: list[Any] = []
        town.people[self.address] = self

    def invite(self, party: Party, body: bytes = b"") -> Any:
        invite = self.agent.invite(
            party.uri, flow=Flow("udp", self.address, party.address),
            from_=f"<sip:controller@{self.address}>", to=f"<{party.uri}>",
            contact=f"<sip:controller@{self.address}>", body=body,
            content_type=SDP if body else None, now=self.town.now(),
        )  # fmt: skip
        self.flush()
        return invite

    def act(self, method: str, *arguments: Any, body: bytes = b"", **more: Any) -> Any:
        """Let the agent do something that may have a description."""
        if body:
            more |= {"body": body, "content_type": SDP}
        result = getattr(self.agent, method)(*arguments, now=self.town.now(), **more)
        self.flush()
        return result

    def wait(self, kind: type[E], **attributes: Any) -> E:
        """Let time go by until an event of a kind, with these attributes, has come."""

        def found() -> list[E]:
            return [
                event for event in self.seen
                if isinstance(event, kind)
                and all(getattr(event, name) is value for name, value in attributes.items())
            ]  # fmt: skip

        self.town.until(lambda: bool(found()))
        return found()[-1]

    def flush(self) -> None:
        while (out := self.agent.outgoing()) or (events := self.agent.events()):
            self.town.take(out)
            if not out:
                self.seen += events

    def receive(self, data: bytes, flow: Flow) -> None:
        self.agent.receive(data, flow, self.town.now())
        self.flush()

    def wake(self) -> None:
        self.agent.handle_timer(self.town.now())
        self.flush()
