"""SipEndpoint with a scripted agent: sockets, flows, timers, failures, and nothing left behind."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, closing
from pathlib import Path

import pytest
from callers import until
from sip_station import HOST, Station, message

from voip.errors import TransportError
from voip.sip.endpoint import connection, connections
from voip.sip.endpoint.trace import SipTraceRecord
from voip.sip.flow import Flow
from voip.types import Address

Stations = Callable[..., Awaitable[Station]]


@pytest.fixture
async def station() -> AsyncIterator[Stations]:
    async with AsyncExitStack() as stack:

        async def make(host: str | None = HOST, port: int = 0, **options: object) -> Station:
            one = Station(**options)
            await one.transport.start(host, port)
            stack.push_async_callback(one.transport.close)
            return one

        yield make


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def _nobody(kind: socket.SocketKind) -> int:
    with socket.socket(socket.AF_INET, kind) as one:
        one.bind((HOST, 0))
        port: int = one.getsockname()[1]
        return port


# ---------------------------------------------------------------- messages


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_a_message_and_its_answer_use_one_flow(station: Stations, transport: str) -> None:
    caller, callee = await station(), await station()
    callee.agent.answer = lambda data, flow: b"SIP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n"
    flow = await caller.transport.flow_to(HOST, callee.at(transport).port, transport)
    assert flow.local == caller.at(transport) and flow.remote == callee.at(transport)
    caller.say(message("sip:a@b", "hello"), flow)
    await until(lambda: caller.agent.received)
    assert callee.agent.received[0][0] == message("sip:a@b", "hello")
    assert callee.agent.received[0][1].local == callee.at(transport)
    assert caller.agent.received == [(b"SIP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n", flow)]
    assert callee.events == ["received 1"]


async def test_udp_and_tcp_have_the_same_port(station: Stations) -> None:
    one = await station()
    assert one.at("udp") == one.at("tcp")
    fixed = _nobody(socket.SOCK_STREAM)
    assert (await station(port=fixed)).at("udp").port == fixed


async def test_a_wildcard_is_never_advertised(station: Stations) -> None:
    one, other = await station(None), await station(None)
    assert other.at("tcp").port == other.at("udp").port
    for host in (HOST, "::1", "localhost"):
        for transport in ("udp", "tcp"):
            flow = await one.transport.flow_to(host, other.at(transport).port, transport)
            assert flow.local.host == flow.remote.host
            assert flow.local.port == one.at(transport).port
            before = len(other.agent.received)
            one.say(message("sip:x"), flow)
            await until(lambda: len(other.agent.received) > before)  # noqa: B023
            assert other.agent.received[-1][1].local.host == flow.remote.host


async def test_a_public_address_is_for_peers_elsewhere(
    station: Stations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voip.net.sip_network.local_address_toward", lambda peer: "10.0.0.5")
    one = await station("0.0.0.0", public_address="198.51.100.7")
    assert (await one.transport.flow_to("192.0.2.1", 5060)).local.host == "198.51.100.7"
    assert (await one.transport.flow_to(HOST, 5060)).local.host != "198.51.100.7"


async def test_actions_inside_deliver_are_carried_out_after_it(station: Stations) -> None:
    caller, callee = await station(), await station()
    inside = 0

    def deliver(event: str) -> None:
        nonlocal inside
        inside += 1
        assert inside == 1, "called from inside itself"
        callee.events.append(event)
        if event == "received 1":
            callee.agent.happened.append("second")
            callee.say(b"SIP/2.0 180 Ringing\r\n\r\n", callee.agent.received[0][1])
        inside -= 1

    callee.transport._deliver = deliver
    flow = await caller.transport.flow_to(*callee.at("udp"))
    caller.say(b"INVITE", flow)
    await until(lambda: caller.agent.received)
    assert callee.events == ["received 1", "second"]


async def test_a_handler_that_raises_is_logged_and_the_next_event_comes(
    station: Stations, caplog: pytest.LogCaptureFixture
) -> None:
    one = await station()
    heard = []

    def deliver(event: str) -> None:
        heard.append(event)
        raise ValueError("clumsy")

    one.transport._deliver = deliver
    one.agent.happened += ["first", "second"]
    with caplog.at_level(logging.ERROR):
        one.transport.flush()
    assert heard == ["first", "second"] and "clumsy" in caplog.text


async def test_keep_alives_never_reach_the_agent(station: Stations) -> None:
    one = await station()
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as peer:
        for data in (b"\r\n\r\n", b"\0\0\0\0", b"", b"\r\n", b"OPTIONS"):
            peer.sendto(data, one.at("udp"))
    await until(lambda: one.agent.received)
    assert [data for data, _ in one.agent.received] == [b"OPTIONS"]

    reader, writer = await asyncio.open_connection(*one.at("tcp"))
    writer.write(b"\r\n\r\n" + message("sip:x") + b"\r\n\r\n")
    assert await reader.readexactly(4) == b"\r\n\r\n"  # two pongs
    await until(lambda: len(one.agent.received) == 2)
    writer.close()
    await writer.wait_closed()


# ---------------------------------------------------------------- timers


async def test_timers_are_the_agents(station: Stations) -> None:
    one = await station()
    now = one.transport.now()
    one.agent.due = now + 3600
    one.transport.flush()
    one.agent.due = now + 0.01
    one.transport.flush()
    await until(lambda: one.agent.timers)
    assert len(one.agent.timers) == 1
    await until(lambda: one.events == ["timer"])
    one.agent.due = now + 3600
    one.transport.flush()
    one.agent.due = None
    one.transport.flush()
    assert one.transport._timer is None


# ---------------------------------------------------------------- failures


@pytest.mark.parametrize("host", [HOST, "::1"])
async def test_nobody_at_a_udp_port_fails_the_flow_within_a_second(
    station: Stations, host: str
) -> None:
    one = await station(host)
    flow = await one.transport.flow_to(host, _nobody(socket.SOCK_DGRAM))
    one.say(b"INVITE", flow)
    async with asyncio.timeout(1):
        await until(lambda: one.agent.failed)
    assert one.agent.failed == [(flow, f"nobody listens at {flow.remote}")]
    await until(lambda: one.events)


async def test_nobody_at_a_tcp_port_is_said_at_once(station: Stations) -> None:
    one = await station()
    port = _nobody(socket.SOCK_STREAM)
    with pytest.raises(TransportError, match=f"nobody listens at {HOST}:{port}"):
        async with asyncio.timeout(1):
            await one.transport.flow_to(HOST, port, "tcp")
    flow = Flow("tcp", one.at("tcp"), Address(HOST, port))
    one.say(message("sip:x"), flow)  # as the agent would, to a route it was given
    async with asyncio.timeout(1):
        await until(lambda: one.agent.failed)
    assert one.agent.failed == [(flow, f"nobody listens at {HOST}:{port}")]


async def test_no_answer_to_a_connection_is_said(
    station: Stations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "CONNECT_TIMEOUT_S", 0.0)
    one = await station()
    with pytest.raises(TransportError, match="no answer from"):
        await one.transport.flow_to(HOST, _nobody(socket.SOCK_STREAM), "tcp")


async def test_what_cannot_be_reached_from_here_is_said(station: Stations) -> None:
    one = await station()
    for host, port, transport, words in (
        ("192.0.2.1", 5060, "udp", "bound to 127.0.0.1, which cannot reach 192.0.2.1:5060"),
        ("::1", 5060, "udp", "no address that 127.0.0.1 can reach"),
        ("no such name", 5060, "udp", "has no address"),
        (HOST, 5060, "sctp", "no SIP transport sctp"),
    ):
        with pytest.raises(TransportError, match=words):
            await one.transport.flow_to(host, port, transport)
    flow = Flow("udp", one.at("udp"), Address("::1", 5060))
    one.say(b"x", flow)
    assert one.agent.failed == [(flow, "there is no udp towards [::1]:5060")]


async def test_what_cannot_be_bound_is_said_and_leaves_nothing_open(station: Stations) -> None:
    one = await station()
    before = _open_files()
    port = one.at("udp").port
    for host, wanted, transports, words in (
        (HOST, port, ("udp",), f"{HOST}:{port} is in use"),
        (HOST, port, ("tcp",), f"{HOST}:{port} is in use"),
        ("192.0.2.1", 0, ("udp", "tcp"), "192.0.2.1 is not an address of this machine"),
        ("pbx.example", 0, ("udp",), "not an IP address"),
        (HOST, 0, ("sctp",), "no SIP transport sctp"),
        (HOST, 0, (), "no SIP transport"),
    ):
        other = Station()
        with pytest.raises(TransportError, match=words):
            await other.transport.start(host, wanted, transports)
        await other.transport.close()
        with pytest.raises(TransportError, match="not open"):
            await other.transport.flow_to(HOST, 5060)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind((HOST, 0))
        other = Station()
        with pytest.raises(TransportError, match="in use"):
            await other.transport.start(HOST, taken.getsockname()[1])
    assert _open_files() == before


# ---------------------------------------------------------------- connections


async def test_one_connection_per_remote_serves_both_directions(station: Stations) -> None:
    caller, callee = await station(), await station()
    remote = callee.at("tcp")
    flows = await asyncio.gather(*(caller.transport.flow_to(*remote, "tcp") for _ in range(5)))
    assert len(set(flows)) == 1
    for number in range(3):
        caller.say(message(f"sip:{number}"), flows[0])
    await until(lambda: len(callee.agent.received) == 3)
    back = callee.agent.received[0][1]
    assert {flow for _, flow in callee.agent.received} == {back}
    callee.say(message("sip:back"), back)
    await until(lambda: caller.agent.received)
    assert caller.transport._streams is not None and caller.transport._streams.count == 1
    assert callee.transport._streams is not None and callee.transport._streams.count == 1


async def test_messages_wait_in_order_for_the_connection_that_is_opened_for_them(
    station: Stations,
) -> None:
    caller, callee = await station(), await station()
    flow = Flow("tcp", caller.at("tcp"), callee.at("tcp"))
    messages = [message(f"sip:{number}") for number in range(connections.MAX_WAITING_MESSAGES)]
    for one in messages:
        caller.say(one, flow)
    assert caller.agent.failed == []
    caller.say(message("sip:one-too-many"), flow)
    assert "too many messages" in caller.agent.failed[0][1]
    await until(lambda: len(callee.agent.received) == len(messages))
    assert [data for data, _ in callee.agent.received] == messages


async def test_a_lost_connection_fails_its_flow(station: Stations) -> None:
    one = await station()
    accepted: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
    server = await asyncio.start_server(lambda _r, w: accepted.put_nowait(w), HOST, 0)
    flow = await one.transport.flow_to(*server.sockets[0].getsockname(), "tcp")
    writer = await accepted.get()
    writer.close()
    await until(lambda: one.agent.failed)
    assert one.agent.failed[0][0] == flow
    assert f"the connection to {flow.remote} was closed" in one.agent.failed[0][1]
    await writer.wait_closed()
    server.close()
    await server.wait_closed()


async def test_a_message_in_pieces_is_one_and_garbage_ends_the_connection(
    station: Stations,
) -> None:
    one = await station()
    reader, writer = await asyncio.open_connection(*one.at("tcp"))
    whole = message("sip:x", "body")
    for piece in (whole[:5], whole[5:40], whole[40:] + whole[:10], whole[10:]):
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0)
    await until(lambda: len(one.agent.received) == 2)
    assert [data for data, _ in one.agent.received] == [whole, whole]
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
    assert one.transport._streams is not None
    assert one.transport._streams.counters.unreadable == 1
    await until(lambda: one.agent.failed)
    assert "sent what is not SIP" in one.agent.failed[0][1]


async def test_silent_and_half_spoken_peers_are_sent_away(
    station: Stations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "PATIENCE_S", 0.02)
    one = await station()
    silent = await asyncio.open_connection(*one.at("tcp"))
    half = await asyncio.open_connection(*one.at("tcp"))
    half[1].write(message("sip:x") + b"INVITE sip:")
    good = await asyncio.open_connection(*one.at("tcp"))
    good[1].write(message("sip:x"))
    assert await silent[0].read() == b"" and await half[0].read() == b""
    good[1].write(message("sip:y"))
    await until(lambda: len(one.agent.received) == 3)
    assert one.transport._streams is not None
    assert one.transport._streams.counters.silent == 2 and one.transport._streams.count == 1
    for _, writer in (silent, half, good):
        writer.close()
        await writer.wait_closed()


async def test_connections_are_bounded(station: Stations, monkeypatch: pytest.MonkeyPatch) -> None:
    one = await station()
    assert one.transport._streams is not None
    monkeypatch.setattr(one.transport._streams, "_max", 2)
    opened = [await asyncio.open_connection(*one.at("tcp")) for _ in range(3)]
    assert await opened[2][0].read() == b""
    assert one.transport._streams.count == 2 and one.transport._streams.counters.refused == 1
    for _, writer in opened:
        writer.close()
        await writer.wait_closed()


async def test_a_peer_that_does_not_read_is_cut(station: Stations) -> None:
    one = await station()
    with closing(socket.create_server((HOST, 0))) as server:
        flow = await one.transport.flow_to(*server.getsockname(), "tcp")
        accepted, _ = await asyncio.get_running_loop().run_in_executor(None, server.accept)
        big = message("sip:x", "z" * 60_000)
        for _ in range(1000):
            if one.agent.failed:
                break
            one.say(big, flow)
            await asyncio.sleep(0)
        accepted.close()
    assert one.agent.failed and "does not read" in one.agent.failed[0][1]
    await asyncio.get_running_loop().shutdown_default_executor()


# ---------------------------------------------------------------- what others see, and the end


async def test_the_trace_masks_credentials_and_the_tap_does_not(station: Stations) -> None:
    traced: list[SipTraceRecord] = []
    tapped: list[tuple[bool, Flow, bytes]] = []
    one = await station(
        trace=traced.append, tap=lambda sent, flow, data: tapped.append((sent, flow, data))
    )
    other = await station()
    other.agent.answer = lambda data, flow: b"SIP/2.0 200 OK\r\n\r\n"
    flow = await one.transport.flow_to(*other.at("udp"))
    secret = (
        b'REGISTER sip:x SIP/2.0\r\nAuthorization: Digest username="a", response="5ec4e7"\r\n\r\n'
    )
    one.say(secret, flow)
    await until(lambda: one.agent.received)
    assert [(record.sent, record.flow) for record in traced] == [(True, flow), (False, flow)]
    assert b"5ec4e7" not in traced[0].data and b'username="a"' in traced[0].data
    assert traced[0].wall_s > 1e9
    assert tapped == [(True, flow, secret), (False, flow, b"SIP/2.0 200 OK\r\n\r\n")]


async def test_closing_leaves_no_socket_task_thread_or_timer() -> None:
    files, threads, tasks = _open_files(), threading.active_count(), len(asyncio.all_tasks())
    one, other = Station(), Station()
    await one.transport.start(None)
    await other.transport.start(HOST)
    flow = await one.transport.flow_to("localhost", other.at("tcp").port, "tcp")
    if flow.remote.host == HOST:
        one.say(message("sip:x"), flow)
        await until(lambda: other.agent.received)
    one.agent.due = one.transport.now() + 3600
    one.say(message("sip:x"), Flow("tcp", one.at("tcp"), other.at("tcp")))  # still being opened
    one.say(b"last words", await one.transport.flow_to(*other.at("udp")))
    await one.transport.close()
    await until(lambda: b"last words" in [data for data, _ in other.agent.received])
    await other.transport.close()
    one.say(b"too late", flow)
    for thread in threading.enumerate():
        if thread.name.startswith("voip-resolver"):
            thread.join(5)
    assert (_open_files(), threading.active_count(), len(asyncio.all_tasks())) == (
        files, threads, tasks,
    )  # fmt: skip
    await one.transport.close()
