"""NATs by tables of behaviour: what each type maps, whom it lets in, and for how long."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from voip.sim import Host, Nat, NatType, Path, World
from voip.types import Address

FULL, ADDRESS, PORT, SYMMETRIC = NatType


@dataclass
class Port(asyncio.DatagramProtocol):
    """A UDP port: what it has sent is said by `to`, what came is in `taken`."""

    taken: list[tuple[bytes, Address]] = field(default_factory=list)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.taken.append((data, Address(*addr[:2])))

    async def to(self, address: Address, data: bytes = b"x") -> None:
        """Send, and wait until it may have arrived."""
        self.transport.sendto(data, address)  # type: ignore[attr-defined]
        await asyncio.sleep(0.5)

    def last(self) -> Address | None:
        """Return where the last datagram came from, and forget all."""
        source = self.taken[-1][1] if self.taken else None
        self.taken.clear()
        return source


async def port(host: Host, number: int) -> Port:
    with host.here():
        loop = asyncio.get_running_loop()
        _, opened = await loop.create_datagram_endpoint(Port, (host.address, number))
    return opened


@dataclass
class Scene:
    """A host behind a NAT, and two servers with two ports each."""

    world: World
    nat: Nat
    inside: Port
    a1: Port
    a2: Port
    b1: Port


A1, A2, B1 = Address("9.0.0.1", 1000), Address("9.0.0.1", 2000), Address("9.0.0.2", 1000)


async def scene(world: World, nat: Nat, inner: Host) -> Scene:
    a, b = world.host(A1.host), world.host(B1.host)
    return Scene(
        world,
        nat,
        await port(inner, 5060),
        await port(a, A1.port),
        await port(a, A2.port),
        await port(b, B1.port),
    )


def behind(kind: NatType, **settings: float) -> tuple[World, Nat, Host]:
    world = World(3, path=Path(delay_s=0.05))
    nat = world.nat("9.9.9.9", kind, **settings)  # type: ignore[arg-type]
    return world, nat, world.host("192.168.1.2", behind=nat)


@pytest.mark.parametrize(
    ("kind", "one_port_for_all", "other_port_gets_in", "other_host_gets_in"),
    [
        (FULL, True, True, True),
        (ADDRESS, True, True, False),
        (PORT, True, False, False),
        (SYMMETRIC, False, False, False),
    ],
)
def test_each_type_maps_and_filters_as_its_name_says(
    kind: NatType, one_port_for_all: bool, other_port_gets_in: bool, other_host_gets_in: bool
) -> None:
    world, nat, inner = behind(kind)

    async def main() -> None:
        s = await scene(world, nat, inner)
        await s.inside.to(A1)
        outer = s.a1.last()
        assert outer is not None
        assert outer.host == nat.address
        assert outer.port != 5060
        for sender, gets_in in (
            (s.a1, True),
            (s.a2, other_port_gets_in),
            (s.b1, other_host_gets_in),
        ):
            await sender.to(outer)
            assert (s.inside.last() is not None) == gets_in
        await s.inside.to(B1)
        assert (s.b1.last() == outer) == one_port_for_all
        await s.inside.to(A1)
        assert s.a1.last() == outer  # the mapping is still the same

    world.run(main())


@pytest.mark.parametrize("kind", list(NatType))
def test_a_binding_lives_as_long_as_something_goes_out_and_no_longer(kind: NatType) -> None:
    world, nat, inner = behind(kind, udp_timeout_s=60)

    async def main() -> None:
        s = await scene(world, nat, inner)
        await s.inside.to(A1)
        outer = s.a1.last()
        assert outer is not None
        await asyncio.sleep(50)
        await s.a1.to(outer)  # what comes in keeps nothing alive
        assert s.inside.last() == A1
        await asyncio.sleep(20)
        await s.a1.to(outer)
        assert s.inside.last() is None
        await s.inside.to(A1)
        renewed = s.a1.last()
        assert renewed not in (None, outer)
        for _ in range(3):
            await asyncio.sleep(50)
            await s.inside.to(A1)
            assert s.a1.last() == renewed

    world.run(main())


def test_leave_to_come_in_ends_for_each_peer_by_itself() -> None:
    world, nat, inner = behind(PORT, udp_timeout_s=60)

    async def main() -> None:
        s = await scene(world, nat, inner)
        await s.inside.to(A1)
        outer = s.a1.last()
        assert outer is not None
        await asyncio.sleep(40)
        await s.inside.to(B1)
        await asyncio.sleep(40)
        await s.a1.to(outer)
        assert s.inside.last() is None
        await s.b1.to(outer)
        assert s.inside.last() == B1

    world.run(main())


def test_nobody_gets_in_where_nobody_went_out() -> None:
    world, nat, inner = behind(FULL)

    async def main() -> None:
        s = await scene(world, nat, inner)
        for number in (1024, 5060, 40000, 65535):
            await s.a1.to(Address(nat.address, number))
        await s.a1.to(Address(inner.address, 5060))
        assert s.inside.last() is None

    world.run(main())


@pytest.mark.parametrize("hairpin", [False, True])
def test_hosts_behind_one_nat_see_each_other_and_by_its_address_only_if_it_hairpins(
    hairpin: bool,
) -> None:
    world, nat, one = behind(FULL, hairpin=hairpin)
    two = world.host("192.168.1.3", behind=nat)

    async def main() -> None:
        s = await scene(world, nat, one)
        neighbour = await port(two, 5060)
        await s.inside.to(Address(two.address, 5060))
        assert neighbour.last() == Address(one.address, 5060)
        await s.inside.to(A1)
        outer = s.a1.last()
        assert outer is not None
        await neighbour.to(outer)
        assert (s.inside.last() is not None) == hairpin

    world.run(main())


def test_behind_two_nats_both_let_out_and_both_filter() -> None:
    world = World(1)
    carrier = world.nat("9.9.9.9", FULL)
    home = world.nat("100.64.0.7", PORT, behind=carrier)
    inner = world.host("192.168.1.2", behind=home)

    async def main() -> None:
        s = await scene(world, carrier, inner)
        await s.inside.to(A1)
        outer = s.a1.last()
        assert outer is not None
        assert outer.host == "9.9.9.9"
        await s.a1.to(outer)
        assert s.inside.last() == A1
        await s.b1.to(outer)  # the carrier lets it in, the one at home does not
        assert s.inside.last() is None

    world.run(main())


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        (FULL, SYMMETRIC, True),
        (ADDRESS, SYMMETRIC, True),
        (PORT, PORT, True),
        (PORT, SYMMETRIC, False),
        (SYMMETRIC, SYMMETRIC, False),
    ],
)
def test_two_behind_nats_meet_unless_a_port_cannot_be_foreseen(
    one: NatType, other: NatType, meet: bool
) -> None:
    world = World(1, path=Path(delay_s=0.05))
    nats = [world.nat("9.9.9.1", one), world.nat("9.9.9.2", other)]
    hosts = [world.host("192.168.1.2", behind=nat) for nat in nats]  # the same address twice

    async def main() -> None:
        server = await port(world.host(A1.host), A1.port)
        peers = [await port(host, 5060) for host in hosts]
        seen = []
        for peer in peers:
            await peer.to(A1)
            seen.append(server.last())
        known = dict(zip(range(2), reversed(seen), strict=True))
        heard = {0: 0, 1: 0}
        for _ in range(4):
            for number, peer in enumerate(peers):
                if peer.taken:  # who is heard is answered where it comes from
                    heard[number] += 1
                    known[number] = peer.last()
                target = known[number]
                assert target is not None
                await peer.to(target)
        assert [count > 1 for count in heard.values()] == [meet, meet]

    world.run(main())


def test_a_nat_that_was_switched_off_and_on_has_forgotten_everything() -> None:
    world, nat, inner = behind(FULL)

    async def main() -> None:
        s = await scene(world, nat, inner)
        await s.inside.to(A1)
        outer = s.a1.last()
        assert outer is not None
        nat.restart()
        await s.a1.to(outer)
        assert s.inside.last() is None
        await s.inside.to(A1)
        assert s.a1.last() not in (None, outer)

    world.run(main())
