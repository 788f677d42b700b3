"""Our proxy as an edge in front of our proxy as a home: flows kept, paths sealed (RFC 5626)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from flow_scene import SERVER, Scene, in_all_weathers

from voip.call import Call
from voip.config import NetworkConfig
from voip.errors import CallError, ConfigError
from voip.events import CallState
from voip.proxy import SipProxy
from voip.sim import Path
from voip.sip.endpoint.trace import SipTraceRecord
from voip.sip.event_server import EventConfig
from voip.sip.headers import NameAddr
from voip.sip.message import Request, parse_message
from voip.sip.packages.presence import CONTENT_TYPE, Presence, PresenceTuple
from voip.watching import Watch

EDGES = ("10.0.0.7", "10.0.0.8")
HOME, OUTSIDE = "192.168.0.2", "198.51.100.7"
INSTANCE = "f81d4fae-7dec-11d0-a765-00a0c91e6bf6"


class Town:
    """Alice behind a NAT, who reaches the two edges alone; Bob is at home with the users' proxy."""

    def __init__(self, loss: float, seed: int, transport: str = "udp") -> None:
        self.scene = scene = Scene(loss, seed, events=EventConfig())
        self.loss = loss
        world = scene.world
        self.alice = world.host(HOME, behind=world.nat(OUTSIDE))
        self.hosts = [world.host(edge) for edge in EDGES]
        for host in self.hosts:
            world.link(host, scene.server, Path(delay_s=0.02))
        world.cut(self.alice, scene.server)
        self.edges: list[SipProxy] = []
        self.failed: list[str] = []  # edges that have said 430
        own = NetworkConfig(bind_host=HOME, bind_port=5060, transport=transport)
        self.options: dict[str, Any] = {
            "network": own,
            "outbound": True,
            "instance": INSTANCE,
            "proxy": [f"sip:{edge}" for edge in EDGES],
        }

    def run(self, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async def whole() -> None:
            for host in self.hosts:
                with host.here():
                    edge = SipProxy(
                        {}, host.address, 5060, edge_of=f"sip:{SERVER}", trace=self._trace
                    )
                    self.edges.append(await edge.__aenter__())
            await main()
            await asyncio.sleep(40)
            for edge in self.edges:
                assert (edge.agent.transactions, edge.agent.timers) == (0, 0)
                await edge.__aexit__()

        self.scene.run(whole)

    def _trace(self, record: SipTraceRecord) -> None:
        if record.sent and record.data.startswith(b"SIP/2.0 430"):
            self.failed.append(record.flow.local.host)

    async def registered(self) -> None:
        """Wait until both flows of Alice's are there."""
        async with asyncio.timeout(600):
            while len(self.bindings()) < 2:
                await asyncio.sleep(1)

    async def loses_newest(self) -> str:
        """Have Alice's newest flow break, and return its edge; it still is the newest."""
        newest = self._newest()
        self.scene.world.cut(self.alice, self.hosts[EDGES.index(newest)])
        self.scene.world.reset(self.alice)
        async with asyncio.timeout(1800):  # the other one is formed again
            while self._newest() == newest:
                await asyncio.sleep(1)
        # as if that had been before
        self.scene.proxy.location.set("alice", self.bindings()[::-1], self.scene.proxy.now())
        return newest

    def _newest(self) -> str:
        return NameAddr.parse(self.bindings()[-1].path[0]).sip_uri.host

    def bindings(self) -> list[Any]:
        return self.scene.proxy.location.bindings("alice", self.scene.proxy.now())


@in_all_weathers
@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_F111_F113_a_phone_is_reached_by_the_flows_that_its_edges_keep(
    transport: str, loss: float, seed: int
) -> None:
    """Called by its address and by its name, and calling, from behind the NAT, hours later."""
    town = Town(loss, seed, transport)
    scene = town.scene

    async def main() -> None:
        alice, calls = await scene.answering("alice", town.alice, **town.options)
        bob, to_bob = await scene.answering()
        await town.registered()
        for one in town.bindings():
            (path,) = (NameAddr.parse(value).sip_uri for value in one.path)
            assert one.flow is None
            assert path.host in EDGES
            assert path.param("ob") is not None
        assert {one.reg_id for one in town.bindings()} == {1, 2}
        await asyncio.sleep(7200)
        for name in ("alice", alice.gruu):
            call, taken = await scene.up(bob, name, calls)
            await call.hold()  # to the name of the phone, by the edge
            assert taken.state is CallState.HELD
            await taken.hangup()
            await call.wait_ended()
        call, taken = await scene.up(alice, "bob", to_bob)
        await taken.hold()
        assert call.state is CallState.HELD
        await taken.hangup()
        await call.wait_ended()
        await scene.settled(alice, bob)
        await alice.close()
        await bob.close()

    town.run(main)


@in_all_weathers
def test_F111_where_one_flow_has_failed_the_other_is_tried(loss: float, seed: int) -> None:
    """The edge says 430 as soon as the connection that its Path names is gone (section 5.3.1).

    The home proxy goes by the other edge (section 7), and tells the caller of neither.
    """
    town = Town(loss, seed, "tcp")
    scene = town.scene

    async def main() -> None:
        alice, calls = await scene.answering("alice", town.alice, **town.options)
        bob, _ = await scene.answering()
        await town.registered()
        newest = await town.loses_newest()
        for name in ("alice", alice.gruu):
            call, taken = await scene.up(bob, name, calls)
            await call.hangup()
            await taken.wait_ended()
        assert set(town.failed) == {newest}
        await scene.settled(bob)
        await alice.close()
        await bob.close()

    town.run(main)


@in_all_weathers
def test_F111_another_phone_of_hers_is_not_waited_for(loss: float, seed: int) -> None:
    """It rings beside the flow that has failed, and beside the next one until that is answered."""
    town = Town(loss, seed, "tcp")
    scene = town.scene
    rung: list[Call] = []

    async def ring(call: Call) -> None:
        rung.append(call)
        await call.ring()
        await call.wait_ended()

    async def main() -> None:
        alice, calls = await scene.answering("alice", town.alice, **town.options)
        bob, _ = await scene.answering()
        await town.registered()
        newest = await town.loses_newest()
        second = await scene.taking("alice", ring, scene.carol, outbound=True)
        call, taken = await scene.up(bob, "alice", calls)
        await call.hangup()
        await taken.wait_ended()
        assert set(town.failed) == {newest}
        await scene.settled(bob, second)
        assert rung
        assert all(one.ended is not None for one in rung)
        for phone in (second, alice, bob):
            await phone.close()

    town.run(main)


@in_all_weathers
def test_F111_where_every_flow_has_failed_the_phone_is_not_there(loss: float, seed: int) -> None:
    town = Town(loss, seed, "tcp")
    scene = town.scene

    async def main() -> None:
        alice, _ = await scene.answering("alice", town.alice, **town.options)
        bob, _ = await scene.answering()
        await town.registered()
        for host in town.hosts:
            scene.world.cut(town.alice, host)
        scene.world.reset(town.alice)
        await asyncio.sleep(1)
        with pytest.raises(CallError) as failed:
            await bob.dial("alice", timeout=80)
        assert failed.value.status == 480
        assert set(town.failed) == set(EDGES)
        await scene.settled(bob)
        await alice.close()
        await bob.close()

    town.run(main)


@in_all_weathers
@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_F103_F105_presence_passes_the_edge_both_ways(
    transport: str, loss: float, seed: int
) -> None:
    """Alice publishes and watches from behind the NAT; her watch is refreshed by the edge."""
    town = Town(loss, seed, transport)
    scene = town.scene

    def document(user: str, reachable: bool) -> bytes:
        return Presence(f"sip:{user}@{SERVER}", (PresenceTuple("t", reachable),)).to_bytes()

    async def until(watch: Watch, reachable: bool) -> None:
        async with asyncio.timeout(300):
            while watch.latest.value.open is not reachable:
                await asyncio.sleep(0.1)

    async def main() -> None:
        alice, _ = await scene.answering("alice", town.alice, **town.options)
        bob, _ = await scene.answering()
        await town.registered()
        hers, his = await alice.watch("bob", "presence"), await bob.watch("alice", "presence")
        state = await alice.publish("presence", document("alice", True), CONTENT_TYPE)
        await until(his, True)
        await asyncio.sleep(4000)
        async with await bob.publish("presence", document("bob", True), CONTENT_TYPE):
            await until(hers, True)
        await until(hers, False)
        assert (hers.state, his.state) == ("active", "active")
        await state.close()
        await until(his, False)
        for watch in (hers, his):
            await watch.close()
        await scene.settled(alice, bob)
        await alice.close()
        await bob.close()

    town.run(main)


def _invite(route: str) -> bytes:
    return (
        f"INVITE sip:alice@{HOME}:5060 SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.2:5070;branch=z9hG4bKx"
        f"\r\nMax-Forwards: 70\r\nRoute: <{route}>\r\nFrom: <sip:m@evil.example>;tag=1\r\n"
        f"To: <sip:alice@{SERVER}>\r\nCall-ID: {abs(hash(route))}\r\nCSeq: 1 INVITE\r\n"
        "Contact: <sip:m@10.0.0.2:5070>\r\nContent-Length: 0\r\n\r\n"
    ).encode()


def test_F113_a_path_that_was_changed_leads_nowhere() -> None:
    """Nor does the flow of a Record-Route stand for one of a Path: it is for its call alone."""
    town = Town(0.0, 1)
    scene = town.scene
    answers: list[int] = []

    async def main() -> None:
        alice, calls = await scene.answering("alice", town.alice, **town.options)
        bob, _ = await scene.answering()
        await town.registered()
        call, taken = await scene.up(bob, "alice", calls)
        dialog = call._session.dialog
        assert dialog is not None
        (recorded,) = (
            uri.user
            for uri in (NameAddr.parse(value).sip_uri for value in dialog.route_set)
            if uri.host in EDGES and uri.user
        )
        (path,) = town.bindings()[-1].path
        uri = NameAddr.parse(path).sip_uri
        assert uri.user is not None
        changed = ("b" if uri.user[20] == "a" else "a").join((uri.user[:20], uri.user[21:]))

        class Answers(asyncio.DatagramProtocol):
            def datagram_received(self, data: bytes, addr: object) -> None:
                message = parse_message(data)
                if not isinstance(message, Request) and message.status >= 200:
                    answers.append(message.status)

        with scene.bob.here():
            loop = asyncio.get_running_loop()
            socket, _ = await loop.create_datagram_endpoint(Answers, local_addr=("10.0.0.2", 5070))
            for user in (changed, recorded):
                socket.sendto(_invite(f"sip:{user}@{uri.host};lr;ob"), (uri.host, 5060))
            await asyncio.sleep(1)
            socket.close()
        assert answers == [403, 403]
        await taken.hangup()
        await call.wait_ended()
        await scene.settled(alice, bob)
        await alice.close()
        await bob.close()

    town.run(main)


def test_an_edge_has_no_users() -> None:
    with pytest.raises(ConfigError, match="edge"):
        SipProxy({"alice": "wonderland"}, edge_of=f"sip:{SERVER}")
