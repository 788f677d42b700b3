"""UdpEndpoint and routes, on loopback."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from voip.errors import TransportError
from voip.ip import from_socket, literal
from voip.net import route
from voip.net.address import to_socket
from voip.net.route import Resolver, local_address_toward
from voip.net.sip_udp import MAX_DATAGRAM_BYTES, READS_PER_WAKEUP, UdpEndpoint
from voip.types import Address

HOST = "127.0.0.1"


class Listener:
    """An endpoint, what it received and what it was told."""

    def __init__(self, host: str = HOST) -> None:
        self.received: asyncio.Queue[tuple[bytes, Address]] = asyncio.Queue()
        self.unreachable: asyncio.Queue[tuple[Address, str]] = asyncio.Queue()
        self.endpoint = UdpEndpoint(
            asyncio.get_running_loop(),
            host,
            0,
            received=lambda data, peer: self.received.put_nowait((data, peer)),
            unreachable=lambda peer, message: self.unreachable.put_nowait((peer, message)),
        )

    @property
    def local(self) -> Address:
        return self.endpoint.local


@pytest.fixture
async def one() -> AsyncIterator[Listener]:
    listener = Listener()
    yield listener
    listener.endpoint.close()


@pytest.fixture
async def other() -> AsyncIterator[Listener]:
    listener = Listener()
    yield listener
    listener.endpoint.close()


def _nobody(host: str = HOST) -> Address:
    """An address at which nobody listens: it was just given back."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind((host, 0))
        return from_socket(s.getsockname())


async def test_messages_go_both_ways_with_their_addresses(one: Listener, other: Listener) -> None:
    one.endpoint.send(b"ping", other.local)
    assert await other.received.get() == (b"ping", one.local)
    other.endpoint.send(b"x" * 40_000, one.local)  # many fragments on a real network
    assert await one.received.get() == (b"x" * 40_000, other.local)


@pytest.mark.parametrize("host", [HOST, "::1"])
async def test_nobody_listening_is_told_at_once_and_by_address(host: str) -> None:
    caller = Listener(host)
    dead = _nobody(host)
    caller.endpoint.send(b"INVITE", dead)
    async with asyncio.timeout(1):
        assert await caller.unreachable.get() == (dead, f"nobody listens at {dead}")
    caller.endpoint.close()


async def test_an_error_for_one_peer_neither_stops_nor_blames_another(
    one: Listener, other: Listener
) -> None:
    dead = [_nobody() for _ in range(3)]
    for number in range(30):
        one.endpoint.send(b"x", dead[number % 3])
        one.endpoint.send(number.to_bytes(1), other.local)
    got = [(await other.received.get())[0][0] for _ in range(30)]
    assert got == list(range(30))
    blamed = set()
    async with asyncio.timeout(1):
        while blamed != set(dead):
            blamed.add((await one.unreachable.get())[0])
    assert other.local not in blamed
    assert one.endpoint.counters.not_sent == 0
    assert one.endpoint.counters.refused == 30


async def test_the_socket_falls_silent_after_its_errors_are_read(one: Listener) -> None:
    """A queue of errors that nobody reads would wake the loop for ever."""
    one.endpoint.send(b"x", _nobody())
    await one.unreachable.get()
    wakeups = 0
    really = one.endpoint._readable

    def counted() -> None:
        nonlocal wakeups
        wakeups += 1
        really()

    loop = asyncio.get_running_loop()
    loop.add_reader(one.endpoint._sock.fileno(), counted)
    for _ in range(50):
        await asyncio.sleep(0)
    assert wakeups == 0


async def test_what_cannot_be_sent_is_told_and_never_raised(one: Listener) -> None:
    one.endpoint.send(b"x" * (MAX_DATAGRAM_BYTES + 1), _nobody())
    assert "too long for UDP" in (await one.unreachable.get())[1]
    one.endpoint.send(b"x", Address("255.255.255.255", 5060))
    assert "forbidden" in (await one.unreachable.get())[1]
    one.endpoint.send(b"x", Address("192.0.2.1", 5060))  # bound to loopback: no way there
    assert "192.0.2.1" in (await one.unreachable.get())[1]
    assert one.endpoint.counters.sent == 0


async def test_a_flood_lets_the_loop_have_its_turn(one: Listener, other: Listener) -> None:
    sent = 3 * READS_PER_WAKEUP
    for _ in range(sent):
        one.endpoint.send(b"x", other.local)
    most = 0
    before = 0
    async with asyncio.timeout(5):
        while other.endpoint.counters.received < sent:
            await asyncio.sleep(0)
            most = max(most, other.endpoint.counters.received - before)
            before = other.endpoint.counters.received
    assert 0 < most <= READS_PER_WAKEUP


async def test_a_callback_may_close_the_endpoint() -> None:
    closed = asyncio.get_running_loop().create_future()

    def received(_data: bytes, _peer: Address) -> None:
        endpoint.close()
        closed.set_result(True)

    endpoint = UdpEndpoint(
        asyncio.get_running_loop(), HOST, 0, received=received, unreachable=lambda *_: None
    )
    for _ in range(3):
        endpoint.send(b"x", endpoint.local)
    assert await closed
    endpoint.close()


async def test_a_port_in_use_raises_and_leaves_nothing_open(one: Listener) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(OSError, match="in use"):
        UdpEndpoint(
            asyncio.get_running_loop(),
            HOST,
            one.local.port,
            received=lambda *_: None,
            unreachable=lambda *_: None,
        )
    assert len(list(Path("/proc/self/fd").iterdir())) == before


# ---------------------------------------------------------------- routes and names


def test_the_address_towards_a_peer_is_the_kernels() -> None:
    assert local_address_toward(HOST) == HOST
    assert local_address_toward("127.0.0.7") == HOST
    assert local_address_toward("::1") == "::1"


def test_no_route_is_said_and_loopback_never_given_for_a_peer_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Kernel:
        answer: tuple[str, int] | OSError

        def __init__(self, *_: object) -> None: ...

        def __enter__(self) -> Kernel:
            return self

        def __exit__(self, *_: object) -> None: ...

        def connect(self, _peer: object) -> None:
            if isinstance(self.answer, OSError):
                raise self.answer

        def bind(self, address: tuple[str, int]) -> None:
            if address[0] != "10.1.2.3":
                raise OSError(99, "Cannot assign requested address")

        def getsockname(self) -> object:
            return self.answer

    monkeypatch.setattr(route.socket, "socket", Kernel)
    Kernel.answer = ("10.1.2.3", 40000)
    assert local_address_toward("192.0.2.1") == "10.1.2.3"
    Kernel.answer = OSError(101, "Network is unreachable")
    with pytest.raises(TransportError, match=r"no route to 192\.0\.2\.1"):
        local_address_toward("192.0.2.1")
    for useless in ("0.0.0.0", HOST):
        Kernel.answer = (useless, 40000)
        with pytest.raises(TransportError, match="no route"):
            local_address_toward("192.0.2.1")
    Kernel.answer = (HOST, 40000)
    assert local_address_toward("10.1.2.3") == HOST  # an address of ours


async def test_names_are_resolved_in_a_thread_that_does_not_outlive_us() -> None:
    threads = threading.active_count()
    resolver = Resolver()
    assert HOST in await resolver.addresses("localhost")
    with pytest.raises(TransportError, match="'no such name' has no address"):
        await resolver.addresses("no such name")
    with pytest.raises(TransportError, match="has no address"):
        await resolver.addresses("x" * 300)
    resolver.close()
    for thread in threading.enumerate():
        if thread.name.startswith("voip-resolver"):
            thread.join(5)
    assert threading.active_count() == threads


def test_literals_are_spelled_as_the_kernel_does() -> None:
    assert literal("[2001:DB8::0:1]") == "2001:db8::1"
    assert literal("::ffff:192.0.2.1") == "::ffff:192.0.2.1"
    assert literal("10.0.0.1") == "10.0.0.1"
    assert literal("pbx.example") is None
    assert to_socket(socket.AF_INET6, "fe80::1%lo", 5060)[3] == socket.if_nametoindex("lo")
    assert from_socket(("fe80::1", 5060, 0, 1)) == Address("fe80::1%1", 5060)
    with pytest.raises(TransportError, match="no network interface"):
        to_socket(socket.AF_INET6, "fe80::1%nowhere0", 5060)
