"""Keep-alives over real sockets: pings, pongs, STUN, and flows that die in silence."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, closing

import pytest
from callers import until
from sip_station import HOST, Station, message

from voip.nat.stun import BINDING, Kind, StunMessage
from voip.sip import keepalive
from voip.sip.flow import Flow

pytestmark = pytest.mark.rfc("5626", "4.4")

Stations = Callable[..., Awaitable[Station]]


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("MIN_S", 0.02), ("PONG_S", 0.1), ("_RTO_S", 0.002)):
        monkeypatch.setattr(keepalive, name, value)


@pytest.fixture
async def station() -> AsyncIterator[Stations]:
    async with AsyncExitStack() as stack:

        async def make() -> Station:
            lost: list[Flow] = []
            one = Station(lost=lost.append)
            one.lost = lost  # type: ignore[attr-defined]
            stack.push_async_callback(one.transport.close)
            await one.transport.start(HOST)
            return one

        yield make


@pytest.mark.parametrize("transport", ["tcp", "udp"])
async def test_F111_a_flow_that_is_answered_lives(station: Stations, transport: str) -> None:
    one, other = await station(), await station()
    flow = await one.transport.flow_to(*other.at(transport), transport)
    one.transport.keep_alive(flow, answers=True, flow_timer_s=0)
    kept = one.transport._keeper._kept[flow.peer]
    answered = []
    rest = kept._rest
    kept._rest = lambda now: (answered.append(now), rest(now))[1]  # type: ignore[method-assign]
    await until(lambda: len(answered) >= 5)
    assert (one.lost, one.agent.failed, kept.failed) == ([], [], None)  # type: ignore[attr-defined]
    assert other.agent.received == []
    one.transport.let_go(flow)
    assert len(one.transport._keeper) == len(one.transport._keeper._timers) == 0


async def test_F111_a_connection_whose_peer_is_silent_is_cut_and_told(station: Stations) -> None:
    one = await station()
    with closing(socket.create_server((HOST, 0))) as deaf:
        flow = await one.transport.flow_to(*deaf.getsockname(), "tcp")
        one.transport.keep_alive(flow, answers=True, flow_timer_s=0)
        await until(lambda: one.lost)  # type: ignore[attr-defined]
        assert one.lost == [flow]  # type: ignore[attr-defined]
        assert "does not answer keep-alives" in one.agent.failed[0][1]
        accepted, _ = deaf.accept()
        with closing(accepted):
            accepted.settimeout(5)
            assert accepted.recv(100) == b"\r\n\r\n"
            assert accepted.recv(100) == b""
    assert len(one.transport._keeper) == 0


@pytest.mark.parametrize("idle", [False, True], ids=["", "nothing but pings was sent for long"])
async def test_F111_a_udp_flow_whose_peer_is_silent_is_dead_and_told(
    station: Stations, idle: bool
) -> None:
    one = await station()
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as deaf:
        deaf.bind((HOST, 0))
        deaf.settimeout(5)
        flow = await one.transport.flow_to(*deaf.getsockname())
        one.transport.keep_alive(flow, answers=True, flow_timer_s=0)
        if idle:
            one.transport._ways.forget_idle(one.transport.now() + 3600)
        await until(lambda: one.lost)  # type: ignore[attr-defined]
        assert one.lost == [flow]  # type: ignore[attr-defined]
        pings = [deaf.recv(100) for _ in range(7)]
    assert len(set(pings)) == 1
    request = StunMessage.parse(pings[0])
    assert request is not None and (request.kind, request.method) == (Kind.REQUEST, BINDING)


async def test_F111_without_a_promise_silence_means_nothing(station: Stations) -> None:
    one = await station()
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as deaf:
        deaf.bind((HOST, 0))
        deaf.setblocking(False)
        loop = asyncio.get_running_loop()
        flow = await one.transport.flow_to(*deaf.getsockname())
        one.transport.keep_alive(flow, flow_timer_s=0)
        async with asyncio.timeout(5):
            assert [await loop.sock_recv(deaf, 100) for _ in range(5)] == [b"\r\n\r\n"] * 5
    assert one.agent.failed == []


async def test_F111_we_answer_stun_at_the_sip_port_and_nothing_else_of_it(
    station: Stations,
) -> None:
    one = await station()
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as peer:
        peer.bind((HOST, 0))
        peer.settimeout(5)
        nothing = [
            b"\0\1\0\0garbage",
            b"\1",
            StunMessage(Kind.INDICATION, BINDING, bytes(12)).to_bytes(),
            StunMessage(Kind.SUCCESS, BINDING, bytes(12)).to_bytes(),
            StunMessage(Kind.REQUEST, 0x003, bytes(12)).to_bytes(),
        ]
        for data in nothing:
            peer.sendto(data, one.at("udp"))
        peer.sendto(StunMessage(Kind.REQUEST, BINDING, b"twelve bytes").to_bytes(), one.at("udp"))
        loop = asyncio.get_running_loop()
        answer = StunMessage.parse(await loop.run_in_executor(None, peer.recv, 1000))
        assert answer is not None
        assert (answer.kind, answer.transaction_id) == (Kind.SUCCESS, b"twelve bytes")
        assert answer.mapped_address == peer.getsockname()
        peer.sendto(message("sip:x"), one.at("udp"))
        await until(lambda: one.agent.received)
    assert [data for data, _ in one.agent.received] == [message("sip:x")]
    await loop.shutdown_default_executor()
