"""Softphones in virtual time: real signalling between them, media engines that only keep count.

Everything that touches the world is replaced where `voip.phone` finds it, and nothing else.
"""

from __future__ import annotations

import asyncio
import gc
import selectors
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest

import voip.phone
from voip.config import MediaConfig
from voip.errors import TransportError
from voip.media.commands import (
    CloseStream,
    Command,
    ConnectStream,
    Opened,
    OpenStream,
    ReadStats,
    StreamStats,
)
from voip.media.rings import RingArena
from voip.net.clock import SystemClock
from voip.net.sip_network import KernelNetwork
from voip.phone import Softphone
from voip.platform import MediaPlane
from voip.sip.agent import SipAgent
from voip.sip.config import AgentConfig
from voip.sip.flow import Flow
from voip.sip.locating import Where
from voip.sip.message import Request, Response, parse_message
from voip.types import Address, SeededRandom

PORT = 5060


class Jump(selectors.SelectSelector):
    """Waits by moving the clock."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise AssertionError("everybody waits, and nothing will happen")
        self.loop.clock += max(0.0, timeout)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose clock jumps to what is next."""

    def __init__(self) -> None:
        self.clock = 0.0
        self.complaints: list[dict[str, Any]] = []
        selector = Jump()
        selector.loop = self
        super().__init__(selector)
        self.set_exception_handler(lambda _, told: self.complaints.append(told))

    def time(self) -> float:
        return self.clock

    def voip_platform(self) -> Ground:
        return Ground()


class Media:
    """An engine's driver as far as a session can tell."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.streams: set[int] = set()
        self.connected: dict[int, ConnectStream] = {}

    def start(self) -> None: ...

    async def close(self) -> None: ...

    async def apply(self, command: Command) -> Any:
        await asyncio.sleep(0)
        return self._do(command)

    def post(self, command: Command) -> None:
        self._do(command)

    def stats(self, stream: int) -> None:
        return None

    def subscribe(self, callback: Callable[..., None]) -> Callable[[], None]:
        return lambda: None

    def on_tick(self, callback: Callable[[], None]) -> Callable[[], None]:
        return lambda: None

    def _do(self, command: Command) -> Any:
        number = command.stream
        match command:
            case OpenStream():
                self.streams.add(number)
                port = 10000 + 2 * number
                host = command.host
                return Opened(Address(host, port), Address(host, port + 1))
            case ConnectStream():
                self.connected[number] = command
            case CloseStream():
                self.streams.discard(number)
                return StreamStats(number)
            case ReadStats():
                return StreamStats(number)
            case _:
                pass
        return None


class Files:
    def add(self, *_: Any) -> None: ...

    async def remove(self, served: Any) -> None: ...

    async def close(self) -> None: ...


class Ground:
    """What these phones stand on (`voip.platform.Platform`); SIP has a `Transport` of its own."""

    clock = SystemClock()

    def random(self) -> SeededRandom:
        return SeededRandom(0)

    def sip_network(self, dns_servers: Sequence[str] = ()) -> KernelNetwork:
        return KernelNetwork()

    def media(self, *_: Any) -> MediaPlane:
        return MediaPlane(Media(), RingArena(), count(1))

    def files(self) -> Files:
        return Files()


class Transport:
    """Carries one agent's messages over the network; what `SipEndpoint` is on real sockets."""

    network: Network

    def __init__(self, agent: Any, deliver: Callable[[Any], None], *_: Any, **__: Any) -> None:
        self.agent = agent
        self._deliver = deliver
        self._timer: asyncio.TimerHandle | None = None
        self._flushing = False
        self.address = Address("0.0.0.0", PORT)

    async def start(self, host: str | None, port: int, **_: Any) -> None:
        self.address = Address(host or "", PORT)
        self.network.hosts[self.address.host] = self

    async def close(self) -> None:
        self.network.hosts.pop(self.address.host, None)
        if self._timer is not None:
            self._timer.cancel()

    @property
    def addresses(self) -> list[tuple[str, Address]]:
        return [("udp", self.address)]

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    async def flows(self, where: Where, **_: Any) -> AsyncGenerator[Flow]:
        if where.host not in self.network.hosts and where.host not in self.network.gone:
            raise TransportError(f"no host {where.host}")
        yield Flow("udp", self.address, Address(where.host, where.port or PORT))

    async def flow_to(self, host: str, port: int) -> Flow:
        return Flow("udp", self.address, Address(host, port))

    def avoid(self, flow: Flow, seconds: float = 30.0) -> None: ...

    def keep_alive(self, flow: Flow, **_: Any) -> None: ...

    def let_go(self, flow: Flow) -> None: ...

    def receive(self, data: bytes, flow: Flow) -> None:
        self.agent.receive(data, flow, self.now())
        self.flush()

    def flush(self) -> None:
        if self._flushing:
            return
        self._flushing = True
        try:
            while True:
                outgoing, events = self.agent.outgoing(), self.agent.events()
                for data, flow in outgoing:
                    self.network.carry(data, flow)
                for event in events:
                    self._deliver(event)
                if not outgoing and not events:
                    break
        finally:
            self._flushing = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self.agent.next_timer()
        if due is not None:
            self._timer = asyncio.get_running_loop().call_at(due, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self.agent.handle_timer(self.now())
        self.flush()


@dataclass
class Network:
    """Where phones meet. `loss`: of every datagram; `drop`: of single ones, on purpose."""

    loss: float = 0.0
    seed: int = 1
    drop: Callable[[Request | Response, Flow], bool] | None = None
    hosts: dict[str, Transport] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    wire: list[tuple[float, Request | Response, Flow]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = SeededRandom(self.seed)
        self._names = 0

    def carry(self, data: bytes, flow: Flow) -> None:
        loop = asyncio.get_running_loop()
        message = parse_message(data)
        self.wire.append((loop.time(), message, flow))
        if self.drop is not None and self.drop(message, flow):
            return
        if self.random.uniform(0, 1) < self.loss:
            return
        back = Flow("udp", flow.remote, flow.local)
        loop.call_later(self.random.uniform(0.005, 0.02), self._arrive, data, back)

    def _arrive(self, data: bytes, flow: Flow) -> None:
        if flow.local.host in self.hosts:
            self.hosts[flow.local.host].receive(data, flow)

    def phone(self, name: str, **settings: Any) -> Softphone:
        """Make a phone of its own host; enter it to switch it on."""
        self._names += 1
        host = f"192.0.2.{self._names}"
        network = voip.phone.NetworkConfig(bind_host=host)
        return Softphone(
            f"sip:{name}@{host}", register=False, network=network, media=MediaConfig(),
            random=SeededRandom(self.seed * 100 + self._names), **settings,
        )  # fmt: skip

    async def server(
        self, name: str, config: AgentConfig, react: Callable[[Any, Server], None]
    ) -> Server:
        """Switch on an agent of its own host that is no phone: a voice mail, a compositor."""
        self._names += 1
        server = Server(f"sip:{name}@192.0.2.{self._names}", react)
        agent = SipAgent(config, SeededRandom(self.seed * 100 + self._names))
        transport = type("ServerTransport", (Transport,), {"network": self})
        server.transport = transport(agent, lambda event: react(event, server))
        await server.transport.start(f"192.0.2.{self._names}", PORT)
        return server

    def requests(self, method: str, to: Softphone | None = None) -> list[Request]:
        """What was sent of a method, repetitions left out."""
        found: dict[tuple[str, str], Request] = {}
        for _, message, flow in self.wire:
            there = to is None or flow.remote.host == to.network.bind_host
            if isinstance(message, Request) and message.method == method and there:
                found.setdefault((message.via.branch or "", message.call_id), message)
        return list(found.values())

    def trace(self) -> str:
        return "\n".join(
            f"{now:8.3f} {flow.local.host} -> {flow.remote.host} {message.summary()}"
            for now, message, flow in self.wire
        )


@dataclass
class Server:
    """An agent and what it does about what it is told; `notes` is its memory."""

    uri: str
    react: Callable[[Any, Server], None]
    notes: list[Any] = field(default_factory=list)
    transport: Any = None

    @property
    def contact(self) -> str:
        return f"<{self.uri}>"

    @property
    def agent(self) -> SipAgent:
        agent: SipAgent = self.transport.agent
        return agent

    def now(self) -> float:
        return asyncio.get_running_loop().time()


def patched(monkeypatch: pytest.MonkeyPatch, network: Network) -> None:
    """Let `voip.phone` find this network instead of the loop's; media are the loop's."""
    transport = type("NetworkTransport", (Transport,), {"network": network})
    monkeypatch.setattr(voip.phone, "SipEndpoint", transport)


Test = Callable[..., Coroutine[Any, Any, None]]

SEEDS = {"no loss": (0.0, (1,)), "20 % loss": (0.2, (1, 2, 3, 4, 5))}


def flow(test: Test) -> Any:
    """Run a test in virtual time without loss, and with 20 % of it under several seeds."""

    @pytest.mark.parametrize("loss", SEEDS)
    def run(monkeypatch: pytest.MonkeyPatch, loss: str) -> None:
        probability, seeds = SEEDS[loss]
        for seed in seeds:
            in_virtual_time(monkeypatch, test, probability, seed)

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


def in_virtual_time(
    monkeypatch: pytest.MonkeyPatch,
    test: Callable[[Network], Awaitable[None]],
    loss: float = 0.0,
    seed: int = 1,
) -> None:
    """Run one coroutine function on a network of its own."""
    network = Network(loss, seed)
    patched(monkeypatch, network)
    loop = VirtualLoop()
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(asyncio.wait_for(test(network), 3600))
    except BaseException:
        print(f"seed {seed}, loss {loss}\n{network.trace()}")
        raise
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
            loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
        gc.collect()
        loop.close()
        asyncio.set_event_loop(None)
    assert not loop.complaints, loop.complaints


def uri(phone: Softphone) -> str:
    return phone.account.uri


async def quiet(*phones: Softphone, seconds: float = 100.0) -> None:
    """Let time pass until every transaction has ended; then nothing may be left."""
    await asyncio.sleep(seconds)
    for phone in phones:
        agent = phone._agent
        left = (agent.transactions, len(agent.dialogs), agent.timers, len(agent.subscriptions))
        assert left == (0, 0, 0, 0), f"{phone.account.uri}: {left}"
        assert phone.calls == []
        assert phone._stack.sessions == {}
        assert phone._stack.watchers == {}
        assert phone._driver.streams == set()
