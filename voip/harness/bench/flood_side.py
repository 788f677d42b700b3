"""The three processes of a flood: the phone, who has calls with it, and who floods it."""

from __future__ import annotations

import asyncio
import gc
import socket
import struct
import sys
import time
from contextlib import suppress
from typing import Any, Final

import numpy as np

from voip.call import Call
from voip.config import NetworkConfig
from voip.errors import TransportError
from voip.harness.bench.sip_speed import rss_bytes
from voip.phone import Softphone
from voip.sip.endpoint.trace import SipTraceRecord
from voip.sip.message import Response, parse_message

__all__ = ["FloodPeerRole", "FloodRole", "FloodedRole"]

Message = dict[str, Any]

HOST: Final = "127.0.0.1"
FLOODER: Final = "127.0.0.66"
"""Where a flood from one address comes from; one from many from 127.0.100.1 on."""
OPTIONS_STEP_S: Final = 0.1
OPTIONS_WAIT_S: Final = 10.0
RING_S: Final = 5.0
_BURST: Final = 50
"""Requests sent without looking at the clock."""
_RATE_HZ: Final = 8000
_IP_PKTINFO: Final = 8
_PKTINFO: Final = struct.Struct("=i4s4s")  # struct in_pktinfo, ip(7): index, source, address


async def _received_and_lost(calls: list[Call]) -> tuple[int, int]:
    stats = [await call.measure() for call in calls]
    received = sum(one.packets_received for one in stats)
    return received, sum(max(0, one.packets_lost) for one in stats)


class FloodedRole:
    """A phone that echoes whoever calls it, and is told of its peer by nobody."""

    def __init__(self) -> None:
        self._phone = Softphone(network=NetworkConfig(bind_host=HOST))
        self._phone.on_incoming(self._serve)

    async def _serve(self, call: Call) -> None:
        if call.remote != PEER_URI:
            await call.ring()  # a stranger's: nobody is at home
            with suppress(TimeoutError):
                async with asyncio.timeout(RING_S):
                    await call.wait_ended()
            return
        await call.answer()
        await call.echo()
        await call.wait_ended()

    async def __call__(self, request: Message) -> Message:
        """Do what is asked."""
        match request["do"]:
            case "open":
                await self._phone.start()
                return {"port": self._phone.port}
            case "mark":
                calls = [call for call in self._phone.calls if call.remote == PEER_URI]
                received, lost = await _received_and_lost(calls)
                resident = rss_bytes()
                if request.get("at_rest"):
                    gc.collect()  # else what Python has ready of freed tuples counts as in use
                return {
                    "rss_bytes": resident,
                    "blocks": sys.getallocatedblocks(),
                    "calls": len(calls),
                    "received": received,
                    "lost": lost,
                    "flooded": self._phone._agent.counters.flooded,
                    "transactions": self._phone._agent.transactions,
                }
            case "close":
                await self._phone.close()
            case other:
                return {"error": f"not now: {other}"}
        return {}


PEER_URI: Final = "sip:peer@127.0.0.1"


class FloodPeerRole:
    """Has calls with the phone, and asks in them again and again whether it is there."""

    def __init__(self) -> None:
        self._phone = Softphone(
            PEER_URI, register=False, network=NetworkConfig(bind_host=HOST), trace=self._on_message
        )
        self._calls: list[Call] = []
        self._tasks: list[asyncio.Task[Any]] = []
        self._asked: dict[tuple[str, int], float] = {}
        self._count = 0
        self._slowest_s = 0.0

    async def __call__(self, request: Message) -> Message:
        """Do what is asked."""
        match request["do"]:
            case "call":
                await self._call(request["port"], request["calls"])
            case "finish":
                return await self._finish()
            case other:
                return {"error": f"not now: {other}"}
        return {}

    async def _call(self, port: int, count: int) -> None:
        time_s = np.arange(_RATE_HZ) / _RATE_HZ
        tone = (8000 * np.sin(2 * np.pi * 440 * time_s)).astype(np.int16)
        loop = asyncio.get_running_loop()
        await self._phone.start()
        for _ in range(count):
            call = await self._phone.dial(f"sip:echo@{HOST}:{port}")
            self._tasks.append(loop.create_task(call.play(tone, loop=True)))
            self._calls.append(call)
        self._tasks.append(loop.create_task(self._ask()))

    async def _ask(self) -> None:
        agent, transport = self._phone._agent, self._phone._transport
        while True:
            for call in self._calls:
                dialog = call._session.dialog
                if dialog is None or any(call_id == dialog.call_id for call_id, _ in self._asked):
                    continue  # one after the other: a later one would overtake (12.2.2)
                now = transport.now()
                handle = agent.dialog_request(dialog, "OPTIONS", now=now)
                sent = handle.request
                self._asked[sent.call_id, sent.cseq.number] = now
                self._count += 1
                transport.flush()
            await asyncio.sleep(OPTIONS_STEP_S)

    def _on_message(self, record: SipTraceRecord) -> None:
        if record.sent or b"OPTIONS" not in record.data:
            return
        answer = parse_message(record.data)
        if isinstance(answer, Response) and answer.status == 200:
            asked = self._asked.pop((answer.call_id, answer.cseq.number), None)
            if asked is not None:
                self._slowest_s = max(self._slowest_s, self._phone._transport.now() - asked)

    async def _finish(self) -> Message:
        self._tasks.pop().cancel()  # no more questions
        until = time.monotonic() + OPTIONS_WAIT_S
        while self._asked and time.monotonic() < until:
            await asyncio.sleep(OPTIONS_STEP_S)
        received, lost = await _received_and_lost(self._calls)
        calls = len(self._phone.calls)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._phone.close()
        return {
            "calls": calls,
            "received": received,
            "lost": lost,
            "options": self._count,
            "unanswered": len(self._asked),
            "options_ms_max": 1000 * self._slowest_s,
        }


class FloodRole:
    """Sends requests that nobody has asked for, from whatever loopback address it is told."""

    def __init__(self) -> None:
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._serial = 0

    async def __call__(self, request: Message) -> Message:
        """Do what is asked."""
        match request["do"]:
            case "open":
                try:
                    self._sock.bind(("0.0.0.0", 0))
                except OSError as error:
                    raise TransportError(f"the flood has no socket: {error.strerror}") from error
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
                self._to = (HOST, int(request["port"]))
            case "run":
                return self._run(
                    request["method"], request["sources"], request["rate"], request["seconds"]
                )
            case other:
                return {"error": f"not now: {other}"}
        return {}

    def _run(self, method: str, sources: int, rate: int, seconds: float) -> Message:
        hosts = [FLOODER] if sources == 1 else [_source(number) for number in range(sources)]
        ancillary = [
            [(socket.IPPROTO_IP, _IP_PKTINFO, _PKTINFO.pack(0, socket.inet_aton(host), bytes(4)))]
            for host in hosts
        ]
        port = self._sock.getsockname()[1]
        begun, sent, tried = time.perf_counter(), 0, 0
        while tried < rate * seconds:
            due = begun + tried / rate
            time.sleep(max(0.0, due - time.perf_counter()))
            for _ in range(_BURST):
                tried += 1
                self._serial += 1
                which = self._serial % sources
                data = _request(method, self._serial, hosts[which], port, self._to)
                try:
                    self._sock.sendmsg([data], ancillary[which], 0, self._to)
                except OSError:  # no room, or an ICMP error of an earlier one
                    continue
                sent += 1
        return {"sent": sent, "wall_s": time.perf_counter() - begun}


def _source(number: int) -> str:
    return f"127.0.{100 + number // 250}.{1 + number % 250}"


_SDP: Final = (
    "v=0\r\no=- 1 1 IN IP4 127.0.0.66\r\ns=-\r\nc=IN IP4 127.0.0.66\r\nt=0 0\r\n"
    "m=audio 40000 RTP/AVP 0\r\n"
)


def _request(method: str, serial: int, host: str, port: int, to: tuple[str, int]) -> bytes:
    body = _SDP if method == "INVITE" else ""
    kind = "Content-Type: application/sdp\r\n" if body else ""
    return (
        f"{method} sip:user{serial % 9999}@{to[0]}:{to[1]} SIP/2.0\r\n"
        f"Via: SIP/2.0/UDP {host}:{port};branch=z9hG4bKf{serial}\r\n"
        "Max-Forwards: 70\r\n"
        f"From: <sip:flood{serial % 977}@{host}>;tag=f{serial}\r\n"
        f"To: <sip:user{serial % 9999}@{to[0]}>\r\n"
        f"Call-ID: flood-{serial}@{host}\r\nCSeq: 1 {method}\r\n"
        f"Contact: <sip:flood@{host}:{port}>\r\n{kind}Content-Length: {len(body)}\r\n\r\n{body}"
    ).encode()
