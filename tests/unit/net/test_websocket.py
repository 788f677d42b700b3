"""Our WebSockets and agents against those of another library (`websockets`)."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import websockets
from certificates import Authority
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from voip import Softphone
from voip.agents import AgentReport, WebSocket, WebSocketServer, connect_agent, talk
from voip.call import Call
from voip.codecs.g711 import ULAW_DECODE
from voip.config import NetworkConfig
from voip.errors import TransportError
from voip.net.websocket import MAX_MESSAGE_BYTES, connect_websocket

LOOPBACK = "127.0.0.1"
MESSAGES = ("", "text ü", b"", b"\x00\xff" * 300, "x" * 200_000, b"y" * 1_000_000)


async def echo(socket: WebSocket) -> None:
    while (message := await socket.receive()) is not None:
        await socket.send(message)


async def test_their_client_and_our_server() -> None:
    server = WebSocketServer(echo)
    where = await server.start(LOOPBACK, 0)
    async with connect(f"ws://{where.host}:{where.port}/a", compression=None) as theirs:
        for message in MESSAGES:
            await theirs.send(message)
            assert await theirs.recv() == message
        await theirs.send(["in ", "three ", "fragments"])
        assert await theirs.recv() == "in three fragments"
        await (await theirs.ping())
    async with connect(f"ws://{where.host}:{where.port}/", max_size=None) as theirs:
        await theirs.send(b"z" * (MAX_MESSAGE_BYTES + 1))
        with pytest.raises(websockets.ConnectionClosed) as closed:
            await theirs.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009
    await server.close()


async def test_our_client_and_their_server() -> None:
    async def handler(theirs: ServerConnection) -> None:
        assert theirs.request is not None
        await theirs.send(f"{theirs.request.path} {theirs.request.headers['X-Key']}")
        async for message in theirs:
            await theirs.send(message)
            await (await theirs.ping())

    async with serve(handler, LOOPBACK, 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        ours = await connect_websocket(f"ws://{LOOPBACK}:{port}/p?q=1", headers={"X-Key": "k"})
        assert await ours.receive() == "/p?q=1 k"
        for message in MESSAGES:
            await ours.send(message)
            assert await ours.receive() == message
        await ours.close()
        assert await ours.receive() is None
        with pytest.raises(TransportError):
            await ours.send("too late")


async def test_over_tls_the_server_must_be_who_the_url_says(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    ours = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ours.load_cert_chain(authority.issue(LOOPBACK))
    trusting = ssl.create_default_context(cafile=str(authority.file))
    server = WebSocketServer(echo)
    where = await server.start(LOOPBACK, 0, tls=ours)
    url = f"wss://{where.host}:{where.port}/"
    async with connect(url, ssl=trusting) as theirs:
        await theirs.send("by theirs")
        assert await theirs.recv() == "by theirs"
    socket = await connect_websocket(url, tls=trusting)
    await socket.send("by ours")
    assert await socket.receive() == "by ours"
    await socket.close()
    with pytest.raises(TransportError, match="certificate"):
        await connect_websocket(url)
    with pytest.raises(TransportError):
        await connect_websocket(f"wss://localhost:{where.port}/", tls=trusting)
    await server.close()


async def test_a_server_that_refuses_is_told_of() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(refuse, LOOPBACK, 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(TransportError, match="WebSocket"):
        await connect_websocket(f"ws://{LOOPBACK}:{port}/")
    server.close()


@pytest.mark.realtime
@pytest.mark.parametrize("way", ["we connect", "the agent connects"])
async def test_an_agent_of_another_library_hears_and_is_heard(way: str) -> None:
    """The agent sends back what it hears, and marks it."""
    said: list[dict[str, Any]] = []
    reports: list[AgentReport] = []

    async def agent(theirs: Any) -> None:
        async for message in theirs:
            event = json.loads(message)
            said.append(event)
            if event["event"] == "media":
                await theirs.send(json.dumps({"event": "media", "media": event["media"]}))
                if event["media"]["chunk"] == "10":
                    await theirs.send(json.dumps({"event": "mark", "mark": {"name": "ten"}}))

    async def answer(call: Call) -> None:
        await call.answer()
        if way == "we connect":
            async with serve(agent, LOOPBACK, 0) as server:
                port = next(iter(server.sockets)).getsockname()[1]
                reports.append(await connect_agent(call, f"ws://{LOOPBACK}:{port}/"))
            return

        async def take(socket: WebSocket) -> None:
            reports.append(await talk(call, socket))

        ours = WebSocketServer(take)
        where = await ours.start(LOOPBACK, 0)
        async with connect(f"ws://{where.host}:{where.port}/") as theirs:
            await agent(theirs)
        await ours.close()

    network = NetworkConfig(bind_host=LOOPBACK)
    async with (
        Softphone(None, register=False, network=network) as pbx,
        Softphone(None, register=False, network=network) as phone,
    ):
        pbx.on_incoming(answer)
        call = await phone.dial(f"sip:agent@{LOOPBACK}:{pbx.port}")
        tone = (8000 * np.sin(2 * np.pi * 440 * np.arange(12_000) / 8000)).astype(np.int16)
        async with call.audio() as reader:
            playing = asyncio.ensure_future(call.play(tone))
            heard = await reader.read(1.5)
            await playing
        await call.hangup()
        for _ in range(100):
            if reports:
                break
            await asyncio.sleep(0.02)
    spectrum = np.abs(np.fft.rfft(heard[-4000:]))
    assert int(spectrum.argmax()) * 2 == 440
    octets = b"".join(
        base64.b64decode(one["media"]["payload"]) for one in said if one["event"] == "media"
    )
    assert np.abs(ULAW_DECODE[np.frombuffer(octets, np.uint8)]).max() > 6000
    assert [one["mark"]["name"] for one in said if one["event"] == "mark"] == ["ten"]
    assert said[-1]["event"] == "stop"
    assert [report.ended_by for report in reports] == ["call"]
