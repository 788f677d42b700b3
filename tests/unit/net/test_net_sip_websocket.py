"""SIP over WebSocket on real sockets (F135): client and server, plain and secure."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from callers import until
from certificates import Authority
from sip_station import HOST, Names, Station, message

from voip.config import TlsConfig
from voip.errors import TransportError
from voip.sip.endpoint import connections

pytestmark = pytest.mark.rfc("7118", "5")

OK = b"SIP/2.0 200 OK\r\n\r\n"
Stations = Callable[..., Awaitable[Station]]


@pytest.fixture
async def station(tmp_path: Path) -> AsyncIterator[Stations]:
    authority = Authority(tmp_path)
    certificate = str(authority.issue("pbx.example"))
    async with AsyncExitStack() as stack:

        async def make(*transports: str) -> Station:
            tls = TlsConfig(str(authority.file), certificate if "wss" in transports else None)
            one = Station(Names(), tls=tls, ws_path="/ws")
            stack.push_async_callback(one.transport.close)
            await one.transport.start(HOST, streams=dict.fromkeys(transports, 0))
            return one

        yield make


@pytest.mark.parametrize("transport", ["ws", "wss"])
async def test_F135_messages_go_both_ways_over_one_websocket(
    station: Stations, transport: str
) -> None:
    server, client = await station("ws", "wss"), await station()
    server.agent.answer = lambda data, flow: OK
    flow = await client.transport.flow_to("pbx.example", server.at(transport).port, transport)
    assert (flow.domain, flow.reliable, flow.secure) == ("pbx.example", True, transport == "wss")
    host, port = flow.sent_by  # nobody can connect to us
    assert host.endswith(".invalid") and len(host) > 15 and port is None
    assert flow.local.host == HOST
    client.say(message("sip:a@b", "hello"), flow)
    await until(lambda: client.agent.received)
    assert client.agent.received == [(OK, flow)]
    (data, back) = server.agent.received[0]
    assert data == message("sip:a@b", "hello")
    assert (back.transport, back.local, back.alias) == (transport, server.at(transport), "")
    server.say(message("sip:back"), back)
    await until(lambda: len(client.agent.received) == 2)
    assert await client.transport.flow_to("pbx.example", flow.remote.port, transport) == flow
    assert client.transport._streams is not None and client.transport._streams.count == 1
    await server.transport.close()
    await until(lambda: client.agent.failed)
    assert client.agent.failed[0][1].endswith("closed the WebSocket")


async def test_F135_who_answers_websockets_says_where(station: Stations) -> None:
    server, other = await station("ws"), await station("ws")
    flow = await server.transport.flow_to("pbx.example", other.at("ws").port, "ws")
    assert flow.sent_by == flow.local == server.at("ws")


async def test_F135_F134_a_wrong_certificate_is_refused_for_wss_too(station: Stations) -> None:
    server, client = await station("wss"), await station()
    with pytest.raises(TransportError, match=r"is for pbx\.example, not for other\.example"):
        await client.transport.flow_to("other.example", server.at("wss").port, "wss")


async def test_F135_who_is_no_websocket_server_is_told_of(
    station: Stations, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, client = await station("ws"), await station()
    monkeypatch.setattr(connections, "CONNECT_TIMEOUT_S", 0.2)
    with pytest.raises(TransportError, match=r"the connection to .* was closed"):
        await client.transport.flow_to("pbx.example", server.at("tcp").port, "ws")
    async with await asyncio.start_server(_not_found, HOST, 0) as web:
        port = web.sockets[0].getsockname()[1]
        with pytest.raises(TransportError, match=r"refused the WebSocket \(HTTP 404\)"):
            await client.transport.flow_to("pbx.example", port, "ws")
    async with await asyncio.start_server(_silent, HOST, 0) as deaf:
        port = deaf.sockets[0].getsockname()[1]
        with pytest.raises(TransportError, match=r"no answer from 127\.0\.0\.1"):
            await client.transport.flow_to("pbx.example", port, "ws")
        streams = client.transport._streams
        assert streams is not None
        await until(lambda: streams.count == 0)


async def _not_found(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
    await writer.drain()
    await reader.read()
    writer.close()


async def _silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.close()


async def test_F135_F111_a_websocket_is_pinged_and_answers(station: Stations) -> None:
    server, client = await station("ws"), await station()
    flow = await client.transport.flow_to("pbx.example", server.at("ws").port, "ws")
    client.transport.keep_alive(flow)
    kept = client.transport._keeper._kept[flow.peer]
    assert not kept._answers
    client.transport._ping(flow.peer, b"")
    await until(lambda: kept._answers)
    assert (client.agent.received, server.agent.received) == ([], [])
