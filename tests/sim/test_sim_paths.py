"""What paths do to packets, held against the model: how much is lost, in which runs, and when."""

from __future__ import annotations

import asyncio
import math
from itertools import groupby, pairwise

import numpy as np
import pytest

from voip.errors import ConfigError
from voip.sim import GilbertElliott, Host, Path, World
from voip.sim.path import Link
from voip.types import Address

PACKETS = 200_000


def carry(
    path: Path, packets: int = PACKETS, at_once: int = 1000, every_s: float = 0.02, seed: int = 1
) -> tuple[Link, np.ndarray, np.ndarray]:
    """Send packets of 172 bytes over a path; return it, which arrived first, and their delays."""
    link = Link(path, np.random.default_rng(seed))
    arrived, delays = np.zeros(packets, bool), np.zeros(packets)
    for number, first in enumerate(range(0, packets, at_once)):
        now = 1000 + number * every_s
        count = min(at_once, packets - first)
        waves = link.carry(now, np.full(count, 172, np.int32))
        if waves:
            arrived[first + waves[0].which] = True
            delays[first + waves[0].which] = waves[0].arrival - now
    assert link.counts.sent == packets
    assert link.counts.lost == packets - arrived.sum()
    return link, arrived, delays


def runs(lost: np.ndarray) -> np.ndarray:
    """Lengths of runs of lost packets."""
    return np.array([len(list(run)) for is_lost, run in groupby(lost.tolist()) if is_lost])


# ---------------------------------------------------------------- loss


@pytest.mark.parametrize("at_once", [7, 1000])
@pytest.mark.parametrize(("loss", "burst"), [(0.03, 4.0), (0.1, 2.0), (0.01, 20.0), (0.2, 1.25)])
def test_bursts_are_as_many_and_as_long_as_the_model_says(
    loss: float, burst: float, at_once: int
) -> None:
    model = GilbertElliott.of(loss, burst)
    assert model.mean_loss == pytest.approx(loss)
    assert model.mean_bad_packets == burst
    _, arrived, _ = carry(Path(burst=model), at_once=at_once)
    # the state remembers: packets count for (2-p-r)/(p+r) times less than independent ones
    memory = (2 - model.p - model.r) / (model.p + model.r)
    spread = math.sqrt(loss * (1 - loss) * memory / PACKETS)
    assert np.mean(~arrived) == pytest.approx(loss, abs=4 * spread)
    lengths = runs(~arrived)
    assert lengths.size > 50
    spread = math.sqrt(1 - model.r) / model.r / math.sqrt(lengths.size)
    assert lengths.mean() == pytest.approx(burst, abs=4 * spread)
    ones = np.mean(lengths == 1)  # the lengths are geometric: a first packet is the last with r
    assert ones == pytest.approx(model.r, abs=4 * math.sqrt(model.r / lengths.size))


def test_both_states_lose_what_they_are_told_to() -> None:
    model = GilbertElliott(p=0.02, r=0.1, loss_bad=0.5, loss_good=0.01)
    assert model.mean_loss == pytest.approx((0.1 * 0.01 + 0.02 * 0.5) / 0.12)
    _, arrived, _ = carry(Path(burst=model))
    assert np.mean(~arrived) == pytest.approx(model.mean_loss, rel=0.05)


def test_without_bursts_each_packet_is_lost_by_itself() -> None:
    _, arrived, _ = carry(Path(loss=0.05))
    lost = ~arrived
    assert np.mean(lost) == pytest.approx(0.05, abs=4 * math.sqrt(0.05 * 0.95 / PACKETS))
    after_a_loss = lost[1:][lost[:-1]]
    assert after_a_loss.size > 5000
    assert after_a_loss.mean() == pytest.approx(0.05, abs=4 * math.sqrt(0.05 / after_a_loss.size))


def test_bursts_do_not_depend_on_how_many_packets_are_sent_at_once() -> None:
    path = Path(burst=GilbertElliott.of(0.05, 5))
    _, one_by_one, _ = carry(path, packets=20_000, at_once=1)
    _, in_arrays, _ = carry(path, packets=20_000, at_once=333)
    assert np.array_equal(one_by_one, in_arrays)


@pytest.mark.parametrize(
    "make",
    [
        lambda: GilbertElliott.of(1.0, 4),
        lambda: GilbertElliott.of(0.9, 2),
        lambda: GilbertElliott.of(0.1, 0.5),
        lambda: GilbertElliott(0.1, 0.0),
        lambda: GilbertElliott(0.1, 0.1, loss_bad=1.5),
        lambda: Path(loss=-0.1),
        lambda: Path(delay_s=-1),
        lambda: Path(jitter_s=float("inf")),
        lambda: Path(bandwidth_bps=0),
    ],
)
def test_what_no_path_can_do_is_refused(make) -> None:
    with pytest.raises(ConfigError):
        make()


# ---------------------------------------------------------------- delay, order, copies


def test_delay_is_drawn_evenly_between_its_bounds() -> None:
    _, _, delays = carry(Path(delay_s=0.05, jitter_s=0.04))
    assert delays.min() >= 0.05
    assert delays.max() < 0.09
    assert delays.mean() == pytest.approx(0.07, abs=0.001)
    shares, _ = np.histogram(delays, 8, (0.05, 0.09))
    assert shares / PACKETS == pytest.approx(np.full(8, 1 / 8), rel=0.05)


def test_some_are_held_back_and_some_come_twice() -> None:
    link, arrived, delays = carry(
        Path(delay_s=0.01, reorder=0.02, reorder_s=0.1, duplicate=0.03, loss=0.1)
    )
    came = int(arrived.sum())
    held = int((delays > 0.1).sum())
    assert held / came == pytest.approx(0.02, rel=0.1)
    assert link.counts.held_back == pytest.approx(held, rel=0.1)  # copies may be held back too
    assert link.counts.duplicated / came == pytest.approx(0.03, rel=0.1)


def test_a_bottleneck_delays_until_its_queue_is_full_and_then_drops_the_tail() -> None:
    # 200 bytes with their headers every 20 ms: 80 kbit/s into 64
    path = Path(bandwidth_bps=64_000, queue_bytes=8000, delay_s=0.01)
    link, arrived, delays = carry(path, packets=5000, at_once=1)
    assert delays[0] == pytest.approx(0.01 + 200 * 8 / 64_000)
    assert np.all(arrived[:200])  # the queue fills slowly
    assert np.mean(arrived[1000:]) == pytest.approx(64 / 80, abs=0.01)
    full = delays[1000:][arrived[1000:]]
    assert full.max() <= 0.01 + (8000 + 200) * 8 / 64_000 + 1e-9
    assert full.min() >= 0.01 + (8000 - 400) * 8 / 64_000
    assert link.counts.lost > 500


def test_a_bottleneck_that_is_wide_enough_costs_only_its_own_time() -> None:
    _, arrived, delays = carry(Path(bandwidth_bps=80_001), packets=5000, at_once=1)
    assert arrived.all()
    assert delays == pytest.approx(np.full(5000, 200 * 8 / 80_001))


# ---------------------------------------------------------------- as programs see it


class Receiver(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.taken: list[tuple[float, bytes]] = []

    def datagram_received(self, data: bytes, addr: object) -> None:
        self.taken.append((asyncio.get_running_loop().time(), data))


async def between(
    sender: Host, receiver: Host, count: int, every_s: float = 0.02
) -> list[tuple[float, bytes]]:
    """Send numbered datagrams; return what came, with the time it took."""
    loop = asyncio.get_running_loop()
    with receiver.here():
        port, inbox = await loop.create_datagram_endpoint(Receiver, (receiver.address, 4000))
    with sender.here():
        transport, _ = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, remote_addr=(receiver.address, 4000)
        )
    began = loop.time()
    for number in range(count):
        transport.sendto(str(number).encode())
        await asyncio.sleep(every_s)
    await asyncio.sleep(1)
    transport.close()
    port.close()
    return [(at - began - every_s * int(data), data) for at, data in inbox.taken]


def two_hosts(path: Path, seed: int = 1) -> tuple[World, Host, Host]:
    world = World(seed, path=path)
    return world, world.host("10.0.0.1"), world.host("10.0.0.2")


def test_each_direction_has_its_own_behaviour() -> None:
    world, one, other = two_hosts(Path())
    world.link(one, other, Path(delay_s=0.2), back=Path(loss=1.0))

    async def main() -> None:
        there, back = await between(one, other, 50), await between(other, one, 50)
        assert [delay for delay, _ in there] == pytest.approx([0.2] * 50)
        assert back == []

    world.run(main())


def test_order_is_kept_unless_packets_are_held_back() -> None:
    for reorder in (0.0, 0.2):
        world, one, other = two_hosts(Path(jitter_s=0.1, reorder=reorder))
        came = world.run(between(one, other, 1000))
        numbers = [int(data) for _, data in came]
        assert len(numbers) == 1000
        overtaken = sum(b < a for a, b in pairwise(numbers))
        assert (overtaken > 50) if reorder else (overtaken == 0)


def test_of_packets_that_have_arrived_no_order_is_remembered() -> None:
    """Thousands of ports send to thousands: only those under way are of any use."""
    world, one, _ = two_hosts(Path(delay_s=0.05, jitter_s=0.1))
    ports = [Address("10.0.0.1", 20_000 + n) for n in range(2000)]
    most = 0

    async def main() -> None:
        nonlocal most
        for n, port in enumerate(ports):
            for _ in range(2):
                world.network.send(one, port, Address("10.0.0.2", 4000 + n), b"x")
            most = max(most, len(world.network._latest))
            await asyncio.sleep(0.01)  # 15 of them are under way

    world.run(main())
    assert 10 < most < 50


def test_what_happened_is_counted_for_each_sender() -> None:
    world, one, other = two_hosts(Path(loss=0.2, duplicate=0.1))
    came = world.run(between(one, other, 1000))
    (counts,) = [
        counts
        for counts in (world.network.counts_of(address) for address in world.network.senders())
        if counts.sent == 1000
    ]
    assert 150 < counts.lost < 250
    assert len({data for _, data in came}) == 1000 - counts.lost
    assert len(came) == 1000 - counts.lost + counts.duplicated


def test_counts_can_be_begun_anew() -> None:
    """A world that goes on for long has as many senders as there ever were ports."""
    world, one, other = two_hosts(Path(loss=0.2))
    network = world.network

    async def main() -> None:
        await between(one, other, 1000)
        assert sum(network.counts_of(address).sent for address in network.senders()) == 1000
        network.forget_counts()
        assert network.senders() == []
        came = await between(one, other, 100)
        (address,) = network.senders()
        counts = network.counts_of(address)
        assert (counts.sent, counts.lost) == (100, 100 - len(came))

    world.run(main())


def test_a_cut_lets_nothing_through_until_it_ends_or_is_ended() -> None:
    world, one, other = two_hosts(Path())

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(1, world.cut, one, other, 2)
        loop.call_later(5, world.cut, one, other)
        loop.call_later(7, world.restore, one, other)
        came = {int(data) for _, data in await between(one, other, 100, every_s=0.1)}
        assert came == {*range(10), *range(30, 50), *range(70, 100)}

    world.run(main())


def test_another_seed_is_another_fate_and_the_same_seed_the_same() -> None:
    def fate(seed: int) -> list[tuple[float, bytes]]:
        world, one, other = two_hosts(Path(loss=0.3, jitter_s=0.1), seed)
        return world.run(between(one, other, 200))

    assert fate(1) == fate(1) != fate(2)


def test_another_host_changes_nothing_between_the_others() -> None:
    def fate(*, third: bool) -> list[tuple[float, bytes]]:
        world = World(1, path=Path(loss=0.3, jitter_s=0.1))
        if third:
            world.host("10.0.0.3")
        one, other = world.host("10.0.0.1"), world.host("10.0.0.2")
        return world.run(between(one, other, 200))

    assert fate(third=True) == fate(third=False)
