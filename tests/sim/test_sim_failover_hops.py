"""Requests within a dialog and a proxy leave a silent next hop for another address of its name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from failover_scene import OFFICE, T1_64, Scene, now

from voip.errors import CallError
from voip.proxy import SipProxy
from voip.sim import Host
from voip.sip.message import Request, make_response, parse_message
from voip.sip.proxy_policy import Target

# ---------------------------------------------------------------- within a dialog


class Twin(asyncio.DatagramProtocol):
    """One of two servers that know the same calls: their Contact is a name that leads to both."""

    SESSION = (
        "v=0\r\no=- 1 1 IN IP4 {0}\r\ns=-\r\nc=IN IP4 {0}\r\nt=0 0\r\nm=audio 40000 RTP/AVP 0\r\n"
    )

    def __init__(self, host: Host, status: int = 200) -> None:
        self.host = host
        self.status = status
        self.got: list[str] = []

    async def listen(self) -> None:
        with self.host.here():
            loop = asyncio.get_running_loop()
            await loop.create_datagram_endpoint(lambda: self, (self.host.address, 5060))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        request = parse_message(data)
        if not isinstance(request, Request):
            return
        self.got.append(request.method)
        if request.method == "ACK":
            return
        body = self.SESSION.format(self.host.address) if request.method == "INVITE" else ""
        answer = make_response(
            request,
            self.status,
            to_tag="twins",
            headers=[("Contact", f"<sip:bob@{OFFICE}>")],
            body=body.encode(),
            content_type="application/sdp" if body else None,
        )
        self._transport.sendto(answer.to_bytes(), addr)  # type: ignore[attr-defined]


@pytest.mark.parametrize("how", ["silence", 503])
def test_F133_requests_within_a_dialog_go_on_to_another_address_of_the_next_hop(
    how: str | int,
) -> None:
    scene = Scene()
    first, second = Twin(scene.first), Twin(scene.second)

    async def main() -> None:
        await first.listen()
        await second.listen()
        async with scene.phone(scene.alice) as alice:
            call = await alice.dial(f"sip:bob@{OFFICE}")
            await asyncio.sleep(0.1)
            assert (first.got, second.got) == (["INVITE", "ACK"], [])
            if how == 503:
                first.status = 503
            else:
                scene.world.cut(scene.alice, scene.first)
            began = now()
            await call.hold()
            assert now() - began < (1.0 if how == 503 else 5.0)
            await call.send_info("test", b"hello", "text/plain")
            await call.hangup()
            assert second.got == ["INVITE", "ACK", "INFO", "BYE"]
            await asyncio.sleep(2 * T1_64)
            assert alice._agent.dialogs == []
            assert (alice._agent.transactions, alice._agent.timers) == (0, 0)

    scene.run(main)


def test_F133_a_late_answer_to_a_reinvite_that_was_left_is_acknowledged() -> None:
    scene = Scene()
    first, second = Twin(scene.first), Twin(scene.second)

    async def main() -> None:
        await first.listen()
        await second.listen()
        async with scene.phone(scene.alice) as alice:
            call = await alice.dial(f"sip:bob@{OFFICE}")
            await asyncio.sleep(0.1)
            # it hears the re-INVITE, and is heard late: its last answers come after the other's
            scene.world.network.cut(scene.first, scene.alice, scene.world.time() + 5.0)
            await call.hold()
            await asyncio.sleep(0.1)
            assert second.got == ["INVITE", "ACK"]
            await asyncio.sleep(5.0)
            assert second.got.count("ACK") >= 2  # the late 2xx of the first goes with the dialog
            await call.hangup()
            await asyncio.sleep(2 * T1_64)
            assert (alice._agent.transactions, alice._agent.timers) == (0, 0)

    scene.run(main)


# ---------------------------------------------------------------- a proxy's next hop


@asynccontextmanager
async def forwarding(host: Host) -> AsyncIterator[None]:
    """Let a proxy send every call on to Bob at the office; nothing may be left in it."""
    with host.here():
        proxy = SipProxy(
            {}, host.address, 5060, services=lambda number: Target(f"sip:bob@{OFFICE}")
        )
        await proxy.__aenter__()
    yield
    assert (proxy.agent.transactions, proxy.agent.timers) == (0, 0)
    await proxy.__aexit__()


def test_F133_a_proxy_leaves_a_silent_next_hop_for_another_address_of_its_name() -> None:
    scene = Scene()
    between = scene.world.host("10.0.0.5")
    scene.world.cut(between, scene.first)

    async def main() -> None:
        bob, calls = await scene.answering(scene.second)
        async with forwarding(between), scene.phone(scene.alice) as alice:
            began = now()
            call = await alice.dial(f"sip:600@{between.address}")
            assert 4.0 < now() - began < 5.0
            await asyncio.sleep(1.0)
            await call.hangup()
            began = now()
            await alice.message(f"sip:600@{between.address}", "hello")
            assert now() - began < 1.0  # the silent one is left alone for a while
            assert len(calls) == 1
            await bob.close()
            scene.world.cut(between, scene.second)
            began = now()
            with pytest.raises(CallError) as caught:
                await alice.dial(f"sip:600@{between.address}", timeout=60)
            assert caught.value.status == 408
            assert now() - began < 4.1 + T1_64
            await asyncio.sleep(2 * T1_64)

    scene.run(main)


def test_F133_a_caller_who_gives_up_ends_what_the_proxy_tries() -> None:
    scene = Scene()
    between = scene.world.host("10.0.0.5")
    scene.world.cut(between, scene.first)

    async def main() -> None:
        bob, calls = await scene.answering(scene.second)
        async with forwarding(between), scene.phone(scene.alice) as alice:
            call = await alice.dial(f"sip:600@{between.address}", wait="started")
            await asyncio.sleep(2.0)
            await call.hangup()
            await asyncio.sleep(10.0)
            assert calls == []
            await asyncio.sleep(2 * T1_64)
        await bob.close()

    scene.run(main)
