"""Softphones of hosts of their own in a simulated world, and servers that are none."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field, replace
from inspect import Signature, signature
from itertools import count
from typing import Any

import pytest
from callers import until

from voip import Softphone
from voip.call import Call
from voip.config import NetworkConfig
from voip.errors import CallError, VoipError
from voip.events import CallState
from voip.harness.soak.census import left_in_phone
from voip.media.answers import Opened, StreamStats
from voip.media.commands import CloseStream, Command, ConnectStream, OpenStream
from voip.media.elsewhere import MediaElsewhere
from voip.media.rings import RingArena
from voip.platform import MediaPlane, Platform
from voip.sim import Host, Path, World
from voip.sip.agent import SipAgent
from voip.sip.config import AgentConfig
from voip.sip.endpoint.endpoint import SipEndpoint
from voip.sip.endpoint.trace import SipTraceRecord
from voip.sip.message import Request, Response, parse_message
from voip.types import Address, Random

PORT, SOUND_PORT = 5060, 40000
LONGEST_S = 3 * 3600.0

Message = Request | Response


class Sound(MediaElsewhere):
    """Nobody's sound: which streams are open, and how they were connected last."""

    def __init__(self, address: Address) -> None:
        super().__init__(address)
        self.streams: dict[int, ConnectStream | None] = {}

    @property
    def sends_to(self) -> Address | None:
        """Where it goes."""
        return next((it.rtp for it in self.streams.values() if it is not None and it.send), None)

    async def apply(self, command: Command) -> Opened | StreamStats | None:
        self._note(command)
        return await super().apply(command)

    def post(self, command: Command) -> None:
        self._note(command)

    def _note(self, command: Command) -> None:
        match command:
            case OpenStream():
                self.streams[command.stream] = None
            case ConnectStream():
                self.streams[command.stream] = command
            case CloseStream():
                self.streams.pop(command.stream, None)


class Phone(Softphone):
    """A phone that is switched on at its own host, wherever the test that does it may run."""

    host: Host
    sound: Sound

    async def start(self) -> None:
        with self.host.here():
            await super().start()

    def _media_plane(self, platform: Platform, random: Random) -> MediaPlane:
        self.sound = Sound(Address(self.host.address, SOUND_PORT))
        return MediaPlane(self.sound, RingArena(), count(1))


class Network:
    """Where phones meet. `loss`: of every datagram; `wire`: what was sent, and when."""

    def __init__(self, loss: float, seed: int) -> None:
        self.loss = loss
        self.world = World(seed, path=Path(delay_s=0.005, jitter_s=0.015, loss=loss))
        self.wire: list[tuple[float, Message, Address]] = []
        self._hosts: dict[str, Host] = {}

    def phone(self, name: str, **settings: Any) -> Phone:
        """Make a phone of its own host; enter it to switch it on."""
        host = self._host()
        phone = Phone(
            f"sip:{name}@{host.address}", register=False, trace=self._trace,
            network=NetworkConfig(bind_host=host.address, bind_port=PORT),
            **settings,
        )  # fmt: skip
        phone.host = host
        return phone

    async def server(
        self, name: str, config: AgentConfig, react: Callable[[Any, Server], None]
    ) -> Server:
        """Switch on an agent of its own host that is no phone: a voice mail, a compositor."""
        host = self._host()
        random = host.platform.random()
        server = Server(f"sip:{name}@{host.address}", SipAgent(config, random))
        server.transport = SipEndpoint(
            server.agent, lambda event: react(event, server), host.platform.sip_network(),
            random=random, trace=self._trace,
        )  # fmt: skip
        await server.transport.start(host.address, PORT)
        return server

    def silence(self, address: str) -> None:
        """Let nothing get to an address any more, nor from it; it may be nobody's so far."""
        gone = self._hosts.get(address) or self.world.host(address)
        for host in self._hosts.values():
            if host is not gone:
                self.world.cut(host, gone)

    def host_of(self, server: Server) -> Host:
        """Where a server is."""
        return self._hosts[server.uri.rpartition("@")[2]]

    def requests(self, method: str, to: Softphone | None = None) -> list[Request]:
        """What was sent of a method, repetitions left out."""
        found: dict[tuple[str, str], Request] = {}
        for _, message, remote in self.wire:
            there = to is None or remote.host == to.network.bind_host
            if isinstance(message, Request) and message.method == method and there:
                found.setdefault((message.via.branch or "", message.call_id), message)
        return list(found.values())

    def trace(self) -> str:
        return "\n".join(
            f"{at:8.3f} -> {remote.host} {message.summary()}" for at, message, remote in self.wire
        )

    def _host(self) -> Host:
        host = self.world.host(f"192.0.2.{len(self._hosts) + 1}")
        self._hosts[host.address] = host
        return host

    def _trace(self, record: SipTraceRecord) -> None:
        if record.sent:
            with suppress(VoipError):  # a keep-alive
                message = parse_message(record.data)
                self.wire.append((self.world.elapsed, message, record.flow.remote))


@dataclass
class Server:
    """An agent that is no phone; `notes` is its memory."""

    uri: str
    agent: SipAgent
    notes: list[Any] = field(default_factory=list)
    transport: Any = None

    @property
    def contact(self) -> str:
        return f"<{self.uri}>"

    def now(self) -> float:
        return asyncio.get_running_loop().time()


def without(method: str, *phones: Phone) -> None:
    """Take a method or an extension from phones that are not switched on yet."""
    for phone in phones:
        config = phone._config
        phone._config = replace(
            config,
            allow=tuple(name for name in config.allow if name != method),
            supported=tuple(name for name in config.supported if name != method),
        )


def losing(sender: Softphone | Server, lost: Callable[[Message], bool]) -> None:
    """Let some of what a phone or a server sends get lost, on purpose."""
    agent = sender.agent if isinstance(sender, Server) else sender._agent
    outgoing = agent.outgoing
    agent.outgoing = lambda: [sent for sent in outgoing() if not lost(parse_message(sent[0]))]


Test = Callable[..., Coroutine[Any, Any, None]]

SEEDS = {"no loss": (0.0, (1,)), "20 % loss": (0.2, (2, 3, 4, 5, 6))}
"""With others a last word comes later than a test waits for it: it is repeated, and may be lost."""


def flow(test: Test) -> Callable[..., None]:
    """Run a test in virtual time without loss, and with 20 % of it under several seeds.

    It is given a network, and whatever else it is parametrized with.
    """

    @pytest.mark.parametrize("loss", SEEDS)
    def run(loss: str, **more: Any) -> None:
        probability, seeds = SEEDS[loss]
        for seed in seeds:
            in_virtual_time(lambda net: test(net, **more), probability, seed)

    loss, _ = signature(run).parameters.values()
    _, *more = signature(test).parameters.values()
    run.__signature__ = Signature([loss, *more])
    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


def in_virtual_time(
    test: Callable[[Network], Awaitable[None]], loss: float = 0.0, seed: int = 1
) -> None:
    """Run one coroutine function on a network of its own."""
    network = Network(loss, seed)
    complaints: list[dict[str, Any]] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, told: complaints.append(told))
        await test(network)

    try:
        network.world.run(main(), limit_s=LONGEST_S)
    except BaseException:
        print(f"seed {seed}, loss {loss}\n{network.trace()}")
        raise
    gc.collect()
    assert not complaints, complaints


def uri(phone: Softphone) -> str:
    return phone.account.uri


async def quiet(*phones: Phone, seconds: float = 100.0) -> None:
    """Let time pass until every transaction has ended; then nothing may be left."""
    await asyncio.sleep(seconds)
    for phone in phones:
        left = {**left_in_phone(phone), "streams": phone.sound.streams}
        assert left == {"streams": {}}, f"{uri(phone)}: {left}"


def said(net: Network, what: str) -> list[Request | Response]:
    """Messages by method, or by status and method, repetitions left out."""
    found = {
        m.to_bytes(): m
        for _, m, _ in net.wire
        if (m.method if isinstance(m, Request) else f"{m.status} {m.cseq.method}") == what
    }
    return list(found.values())


def taking(phone: Phone, before: Callable[[Call], Awaitable[None]] | None = None) -> list[Call]:
    """Let a phone answer every call, when it has done something before; return its calls."""
    calls: list[Call] = []

    @phone.on_incoming
    async def taken(call: Call) -> None:
        calls.append(call)
        with suppress(CallError):  # the caller may hang up before it acknowledges
            if before is not None:
                await before(call)
            await call.answer()
            await call.wait_ended()

    return calls


async def dial(caller: Phone, callee: Phone, **more: Any) -> Call:
    """Begin to call somebody."""
    return await caller.dial(uri(callee), wait="started", **more)


async def up(alice: Phone, bob: Phone, **more: Any) -> tuple[Call, Call]:
    calls = taking(bob)
    mine = await dial(alice, bob, **more)
    await until(lambda: bool(calls) and mine._session.is_up and calls[0]._session.is_up)
    assert alice.sound.sends_to == Address(bob.host.address, SOUND_PORT)
    assert bob.sound.sends_to == Address(alice.host.address, SOUND_PORT)
    return mine, calls[0]


async def hang_up(call: Call, *phones: Phone) -> None:
    await call.hangup()
    await quiet(*phones)
    assert call.state is CallState.ENDED
