"""What a flood has a phone remember is gone a minute later, and the next flood adds nothing to it.

How much the process keeps for itself is the interpreter's to say (`voip bench sip --flood`); here
it is counted what is alive.
"""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from contextlib import suppress

import pytest
from flow_scene import Scene

from voip import Softphone
from voip.call import Call
from voip.config import MediaConfig, NetworkConfig
from voip.types import Address

SOURCES = 300
REQUESTS = 8
"""Of each source."""
PACE_S = 0.002
"""Between two requests: for 5 s, 500 a second come in."""
REST_S = 90.0
"""A call rings for 5 s, its 480 is sent again for 32 s, and an error may come for as long."""
LITTLE = 60_000
"""Bytes, 25 for each request: the test keeps lines of the log, the world counts packets."""
HALF_OPEN = 40
"""Calls that strangers may have begun and not acknowledged, as of `stranger_rate`."""

SDP = (
    "v=0\r\no=- 1 1 IN IP4 10.1.0.1\r\ns=-\r\nc=IN IP4 10.1.0.1\r\nt=0 0\r\nm=audio 4 RTP/AVP 0\r\n"
)


def request(method: str, serial: int, host: str) -> bytes:
    body = SDP if method == "INVITE" else ""
    kind = "Content-Type: application/sdp\r\n" if body else ""
    return (
        f"{method} sip:user{serial}@10.0.0.2 SIP/2.0\r\n"
        f"Via: SIP/2.0/UDP {host}:5060;branch=z9hG4bKf{serial}\r\n"
        f"Max-Forwards: 70\r\nFrom: <sip:flood{serial}@{host}>;tag=f{serial}\r\n"
        f"To: <sip:user{serial}@10.0.0.2>\r\nCall-ID: flood-{serial}\r\nCSeq: 1 {method}\r\n"
        f"Contact: <sip:flood@{host}:5060>\r\n{kind}Content-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


async def ring(call: Call) -> None:
    await call.ring()
    with suppress(TimeoutError):
        async with asyncio.timeout(5):
            await call.wait_ended()


def remembered(phone: Softphone) -> dict[str, int]:
    core, transport = phone._agent._core, phone._transport
    return {
        "calls": len(phone.calls),
        "transactions": phone._agent.transactions,
        "their origins": len(core.transactions._initial),
        "timers": phone._agent.timers,
        "buckets": len(core.guard._buckets),
        "ways": len(transport._ways),
    }


def alive_bytes(scene: Scene) -> int:
    scene.world._loop.drop_done_tasks()
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


@pytest.mark.long
@pytest.mark.parametrize("method", ["REGISTER", "INVITE"])
def test_nothing_of_a_flood_is_left(method: str) -> None:
    scene = Scene(0.0)
    addresses = [f"10.1.{number >> 8}.{number & 255}" for number in range(SOURCES)]
    strangers = scene.world.host(*addresses)
    seen: list[tuple[dict[str, int], int]] = []
    most: dict[str, int] = {}

    async def main() -> None:
        network = NetworkConfig(bind_host="10.0.0.2", bind_port=5060)
        media = MediaConfig(elsewhere=Address("10.0.0.2", 40000))
        with scene.bob.here():
            phone = Softphone(network=network, media=media)
            phone.on_incoming(ring)
            await phone.start()
        loop = asyncio.get_running_loop()
        with strangers.here():
            sockets = [
                (await loop.create_datagram_endpoint(asyncio.DatagramProtocol, (host, 5060)))[0]
                for host in addresses
            ]
        serial = 0
        for _ in range(2):
            for _ in range(REQUESTS * SOURCES):
                serial += 1
                which = serial % SOURCES
                data = request(method, serial, addresses[which])
                sockets[which].sendto(data, ("10.0.0.2", 5060))
                await asyncio.sleep(PACE_S)
            most.update(remembered(phone))
            await asyncio.sleep(REST_S)
            seen.append((remembered(phone), alive_bytes(scene)))
        await phone.close()

    tracemalloc.start()
    try:
        scene.run(main)
    finally:
        tracemalloc.stop()
    assert most["ways"] > SOURCES // 2  # it has answered many of them
    assert most["calls"] == (HALF_OPEN if method == "INVITE" else 0)
    assert [left for left, _ in seen] == [dict.fromkeys(most, 0)] * 2
    first, second = (alive for _, alive in seen)
    assert abs(second - first) < LITTLE
