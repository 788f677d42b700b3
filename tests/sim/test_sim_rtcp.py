"""RTCP of phones: agreed on by SDP, carried by one port or two."""

from __future__ import annotations

import asyncio

import pytest
from sound_scene import two_phones

from voip.call import Call
from voip.config import MediaConfig
from voip.sim import NatType, Path, World


@pytest.mark.rfc("5761", "5.1")
@pytest.mark.parametrize("mux", [True, False])
def test_two_phones_report_to_each_other_by_one_port_or_two(mux: bool) -> None:
    world = World(3, path=Path(delay_s=0.02))
    media = MediaConfig(rtcp_mux=mux, rtcp_rsize=mux)
    seen: set[int] = set()

    def tap(_protocol: str, _at: float, source: object, destination: object, packet: bytes) -> None:
        if packet[0] >> 6 == 2 and packet[1] in (200, 201):
            seen.add(destination.port % 2)  # type: ignore[attr-defined]

    world.network.taps.append(tap)

    async def talk(call: Call) -> None:
        await asyncio.sleep(14)
        stats = await call.measure()
        assert stats.rtt_ms == pytest.approx(40, abs=3)
        assert stats.rtcp_packets_sent >= 2 and stats.rtcp_packets_received >= 2
        assert stats.packets_discarded == 0

    two_phones(talk, calling=media, answering=media, world=world)
    assert seen == ({0} if mux else {1})


@pytest.mark.rfc("6263", "7")
@pytest.mark.parametrize(
    ("keepalive_s", "heard"), [(15.0, 500), pytest.param(None, 0, marks=pytest.mark.long)]
)
def test_who_is_held_behind_a_nat_is_reached_as_long_as_the_way_is_kept_open(
    keepalive_s: float | None, heard: int
) -> None:
    world = World(3, path=Path(delay_s=0.02))
    nat = world.nat("9.9.9.9", NatType.PORT_RESTRICTED, udp_timeout_s=30.0)
    outside, inside = world.host("9.0.0.1"), world.host("192.168.1.2", behind=nat)

    async def hold(call: Call) -> None:
        await call.answer()
        await asyncio.sleep(2)
        await call.hold()
        await call.wait_ended()

    async def talk(call: Call) -> None:
        await asyncio.sleep(90)
        before = (await call.measure()).packets_received
        assert before > 30 * 45, "it was heard at first"
        await asyncio.sleep(10)
        after = (await call.measure()).packets_received
        assert after - before == pytest.approx(heard, abs=3)

    two_phones(
        talk,
        calling=MediaConfig(keepalive_s=keepalive_s),
        answering=MediaConfig(),
        answer=hold,
        world=world,
        hosts=(inside, outside),
        transport="tcp",
    )
