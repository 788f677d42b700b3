"""How a phone is reached: flows, paths, routes and names of its own, with loss and without.

RFC 3327, 3608, 5626 and 5627, through proxies in a simulated world, under several seeds.
"""

from __future__ import annotations

import asyncio

import pytest
from flow_scene import SERVER, Scene, in_all_weathers

from voip import Softphone
from voip.call import Call
from voip.config import NetworkConfig
from voip.errors import CallError
from voip.events import CallState
from voip.proxy import SipProxy
from voip.sim import NatType, Path
from voip.sip.flow import Flow
from voip.sip.message import Request, Response
from voip.sip.proxy_policy import Decision, Forward, Incoming, Target
from voip.sip.registrar import RegistrarConfig
from voip.sip.server_request import ServerRequest

EDGE = "10.0.0.8"
INSTANCE = "f81d4fae-7dec-11d0-a765-00a0c91e6bf6"
OTHER = "00000000-0000-4000-8000-000a95a0e128"


class Onward:
    """The policy of a proxy that serves nobody: everything goes where its URI says.

    `path`: what it adds to a REGISTER. `seen`: methods of the requests that begin something.
    """

    def __init__(self, path: str = "") -> None:
        self.seen: list[str] = []
        self._path = (("Path", path),) if path else ()

    def decide(self, incoming: Incoming, now: float) -> Decision:
        request = incoming.request
        if not incoming.in_dialog:
            self.seen.append(request.method)
        add = self._path if request.method == "REGISTER" else ()
        return Forward(((Target(request.uri),),), add=add)

    def serve(self, request: ServerRequest, now: float) -> None:
        raise AssertionError("nothing is served here")

    def lose(self, flow: Flow) -> None:
        """Nobody is known by a flow."""


class Edge:
    """Such a proxy on a host of its own; nothing is lost between it and the other proxy."""

    def __init__(self, scene: Scene, path: str = "") -> None:
        self.policy = Onward(path)
        self.host = scene.world.host(EDGE)
        scene.world.link(self.host, scene.server, Path(delay_s=0.02))
        self._scene = scene

    async def start(self) -> None:
        with self.host.here():
            self.proxy = SipProxy({}, EDGE, 5060, stranger_rate=None)
            self.proxy.agent._policy = self.policy
            await self.proxy.__aenter__()

    async def stop(self) -> None:
        assert (self.proxy.agent.transactions, self.proxy.agent.timers) == (0, 0)
        await self.proxy.__aexit__()


def registers(scene: Scene) -> list[Request]:
    return [one for one in scene.seen if isinstance(one, Request) and one.method == "REGISTER"]


async def reached(scene: Scene, bob: Softphone, calls: asyncio.Queue[Call]) -> None:
    """Bob calls Alice, who answers, and hangs up."""
    call, taken = await scene.up(bob, "alice", calls)
    await call.hangup()
    await taken.wait_ended()


# ---------------------------------------------------------------- outbound (RFC 5626)


@in_all_weathers
@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_F111_a_phone_behind_a_nat_is_reached_by_its_flow_and_forms_it_again(
    transport: str, loss: float, seed: int
) -> None:
    """An hour by keep-alives alone, then a cut of ten minutes: the flow has its reg-id again.

    A stream loses no bytes: by TCP a fifth of its segments come late, and it is broken besides.
    """
    scene = Scene(loss, seed)
    world = scene.world
    home = world.host("192.168.0.2", behind=world.nat("198.51.100.7"))

    async def main() -> None:
        network = NetworkConfig(bind_host="192.168.0.2", bind_port=5060, transport=transport)
        more = {"network": network, "outbound": True, "instance": INSTANCE, "expires_s": 3600}
        alice, calls = await scene.answering("alice", home, **more)
        bob, _ = await scene.answering()
        (binding,) = scene.proxy.location.bindings("alice", scene.proxy.now())
        assert (binding.reg_id, binding.flow and binding.flow.transport) == (1, transport)
        await asyncio.sleep(3000)
        await reached(scene, bob, calls)
        world.cut(home, scene.server, 600)
        if transport == "tcp":
            world.reset(home)
        await asyncio.sleep(600)
        assert not alice.registered  # the keep-alives have told, long before the hour was over
        async with asyncio.timeout(1800):
            while not alice.registered:
                await asyncio.sleep(1)
        await asyncio.sleep(60)
        await reached(scene, bob, calls)
        flows = scene.proxy.location.bindings("alice", scene.proxy.now())
        assert [(one.reg_id, one.instance) for one in flows] == [(1, f"<urn:uuid:{INSTANCE}>")]
        mine = [one for one in registers(scene) if one.to.sip_uri.user == "alice"]
        assert all(";reg-id=1" in (one.headers.get("Contact") or "") for one in mine)
        await scene.settled(alice, bob)
        await alice.close()
        await bob.close()

    scene.run(main)


# ---------------------------------------------------------------- rport (RFC 3581)


@in_all_weathers
@pytest.mark.parametrize("kind", [NatType.FULL_CONE, NatType.SYMMETRIC])
def test_F110_answers_find_a_phone_behind_a_nat_by_rport(
    kind: NatType, loss: float, seed: int
) -> None:
    """The proxy writes down where a request came from, and answers there: the phone learns it."""
    scene = Scene(loss, seed)
    outside = "198.51.100.7"
    home = scene.world.host("192.168.0.2", behind=scene.world.nat(outside, kind))

    async def main() -> None:
        network = NetworkConfig(bind_host="192.168.0.2", bind_port=5060)
        alice, calls = await scene.answering("alice", home, network=network)
        bob, to_bob = await scene.answering()
        answers = [one for one in scene.arrived["192.168.0.2"] if isinstance(one, Response)]
        assert answers
        for one in answers:
            assert (one.via.host, one.via.received) == ("192.168.0.2", outside)
            assert one.via.rport not in (None, 5060)
        await asyncio.sleep(1800)  # the NAT would have forgotten it long ago
        call, taken = await scene.up(alice, "bob", to_bob)
        own = [value for value in taken.headers.values("Via") if "192.168.0.2" in value]
        assert len(own) == 1
        assert f"received={outside}" in own[0]
        await taken.hangup()
        await call.wait_ended()
        await reached(scene, bob, calls)
        await scene.settled(alice, bob)
        await alice.close()
        await bob.close()

    scene.run(main)


# ---------------------------------------------------------------- GRUU (RFC 5627)


@in_all_weathers
def test_F112_a_name_of_its_own_reaches_one_phone_of_two_and_stands_for_it_in_calls(
    loss: float, seed: int
) -> None:
    scene = Scene(loss, seed)
    host = scene.world.host("10.0.0.6")

    async def main() -> None:
        more = {"outbound": True}
        desk, at_desk = await scene.answering("alice", instance=INSTANCE, **more)
        other, at_other = await scene.answering("alice", host, instance=OTHER, **more)
        bob, to_bob = await scene.answering()
        assert desk.gruu == f"sip:alice@{SERVER};gr=urn:uuid:{INSTANCE}"
        assert other.gruu == f"sip:alice@{SERVER};gr=urn:uuid:{OTHER}"
        call, taken = await scene.up(bob, desk.gruu, at_desk)
        dialog = call._session.dialog
        assert dialog is not None
        assert dialog.remote_target == desk.gruu
        await call.hold()  # what is sent in the call goes to that name
        assert taken.state is CallState.HELD
        await call.hangup()
        await taken.wait_ended()
        assert at_other.empty()
        mine, theirs = await scene.up(other, "bob", to_bob)
        dialog = theirs._session.dialog
        assert dialog is not None
        assert dialog.remote_target == other.gruu
        await theirs.hangup()
        await mine.wait_ended()
        await scene.settled(desk, other, bob)
        for phone in (desk, other, bob):
            await phone.close()

    scene.run(main)


def hidden_names(scene: Scene, instance: str) -> list[str]:
    """The temporary names that a phone has been given, the newest last."""
    granted = [
        contact.param("temp-gruu") or ""
        for one in scene.seen
        if isinstance(one, Response) and one.cseq.method == "REGISTER" and one.status == 200
        for contact in one.contacts
        if contact.param("+sip.instance") == f"<urn:uuid:{instance}>"
    ]
    return list(dict.fromkeys(granted))


@in_all_weathers
def test_F112_a_temporary_name_holds_as_long_as_the_phone_is_registered(
    loss: float, seed: int
) -> None:
    """Two hours of refreshes later the first one reaches it still; when it is closed, none does."""
    scene = Scene(loss, seed)

    async def main() -> None:
        alice, calls = await scene.answering("alice", outbound=True, instance=INSTANCE)
        bob, _ = await scene.answering()
        (first, *_) = hidden_names(scene, INSTANCE)
        assert "alice" not in first
        await asyncio.sleep(7200)
        names = hidden_names(scene, INSTANCE)
        assert len(names) > 10
        for name in (first, names[-1]):
            call, taken = await scene.up(bob, name, calls)
            await call.hangup()
            await taken.wait_ended()
        await scene.settled(alice, bob)
        await alice.close()
        await asyncio.sleep(40)
        with pytest.raises(CallError) as refused:
            await bob.dial(first, timeout=80)
        assert refused.value.status in ((404, 408) if loss else (404,))
        await bob.close()

    scene.run(main)


@in_all_weathers
def test_F112_calls_follow_a_phone_that_has_moved(loss: float, seed: int) -> None:
    """Its address changes in a call; what is sent to its name finds it where it is now."""
    scene = Scene(loss, seed)
    home = scene.world.host("192.168.0.2", behind=scene.world.nat("198.51.100.7"))

    async def main() -> None:
        network = NetworkConfig(bind_host="192.168.0.2", bind_port=5060, transport="tcp")
        more = {"network": network, "outbound": True, "instance": INSTANCE}
        alice, calls = await scene.answering("alice", home, **more)
        bob, _ = await scene.answering()
        call, taken = await scene.up(bob, "alice", calls)
        before = scene.proxy.location.bindings("alice", scene.proxy.now())
        scene.world.reset(home)  # the connection that the call came by is gone
        async with asyncio.timeout(900):
            while True:
                await asyncio.sleep(1)
                after = scene.proxy.location.bindings("alice", scene.proxy.now())
                if after and after[-1].flow != before[-1].flow and alice.registered:
                    break
        await call.hold()
        assert taken.state is CallState.HELD
        await call.hangup()
        await taken.wait_ended()
        await scene.settled(alice, bob)
        await alice.close()
        await bob.close()

    scene.run(main)


# ---------------------------------------------------------------- Path and Service-Route


@in_all_weathers
def test_F113_a_phone_is_called_by_the_proxy_it_registered_by(loss: float, seed: int) -> None:
    """The registrar writes the Path down, tells it, and the home proxy goes by it."""
    scene = Scene(loss, seed)
    path = f"<sip:{EDGE};lr>"

    async def main() -> None:
        edge = Edge(scene, path)
        await edge.start()
        alice, calls = await scene.answering("alice", proxy=f"sip:{EDGE}")
        bob, _ = await scene.answering()
        scene.world.cut(scene.alice, scene.server)  # there is no other way
        (binding,) = scene.proxy.location.bindings("alice", scene.proxy.now())
        assert (binding.path, binding.flow) == ((path,), None)
        assert "REGISTER" in edge.policy.seen
        assert "INVITE" not in edge.policy.seen
        await reached(scene, bob, calls)
        assert "INVITE" in edge.policy.seen
        await asyncio.sleep(3600)  # it registers again and again by that way
        await reached(scene, bob, calls)
        await scene.settled(alice, bob)
        await alice.close()
        await bob.close()
        await asyncio.sleep(40)
        assert scene.contacts("alice") == []
        await edge.stop()

    scene.run(main)


@in_all_weathers
def test_F114_calls_go_by_the_service_route_until_it_is_gone(loss: float, seed: int) -> None:
    scene = Scene(loss, seed, registrar=RegistrarConfig(service_route=(f"<sip:{EDGE};lr>",)))

    async def main() -> None:
        edge = Edge(scene)
        await edge.start()
        bob, to_bob = await scene.answering()
        alice, _ = await scene.answering("alice")
        for calls in (1, 2):
            call, taken = await scene.up(alice, "bob", to_bob)
            assert edge.policy.seen.count("INVITE") >= calls
            ways = [value for value in taken.headers.values("Via") if f" {EDGE}" in value]
            assert len(ways) == 1
            await call.hangup()
            await taken.wait_ended()
            await asyncio.sleep(600)  # registered again, it holds
        scene.proxy.agent._policy._registrar._config = RegistrarConfig()
        await alice.register()
        before = len(edge.policy.seen)
        call, taken = await scene.up(alice, "bob", to_bob)
        assert len(edge.policy.seen) == before
        await call.hangup()
        await taken.wait_ended()
        await scene.settled(alice, bob)
        await alice.close()
        await bob.close()
        await asyncio.sleep(40)
        await edge.stop()

    scene.run(main)
