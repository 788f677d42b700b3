"""Reports to and from baresip, by two ports and by one: each side knows how it is heard."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from dissector import as_protocol, fields
from peers.baresip import Baresip
from phones import until

from voip import MediaConfig, NetworkConfig, Softphone

HOST = "127.0.0.1"

pytestmark = [pytest.mark.matrix, pytest.mark.rfc("5761", "5.1")]


def reports(capture: Path, ports: tuple[int, ...], protocol: str) -> list[list[str]]:
    """What tshark calls RTCP: source port, packet types."""
    options = *as_protocol(protocol, *ports), "-Y", "rtcp"
    return fields(capture, "udp.srcport", "rtcp.pt", "_ws.malformed", options=options)


@pytest.mark.usefixtures("dissector")
@pytest.mark.parametrize("mux", [False, True], ids=["two ports", "one port"])
async def test_both_sides_report(
    baresip: Callable[..., Awaitable[Baresip]], artifacts: Path, mux: bool
) -> None:
    peer = await baresip(rtcp_mux=mux)
    async with Softphone(
        network=NetworkConfig(bind_host=HOST, trusted=(HOST,)),
        media=MediaConfig(rtcp_mux=mux),
        pcap=artifacts / "call.pcap",
    ) as phone:
        async with asyncio.TaskGroup() as group:
            dialling = group.create_task(phone.dial(f"{peer.uri};transport=udp"))
            await peer.incoming()
            await peer.accept()
        call = dialling.result()

        async def known() -> bool:
            stats = await call.measure()
            return stats.rtt_ms is not None and stats.remote_jitter_ms is not None

        await until(known, "baresip to have had a report of ours, and told so", timeout=20)
        stats = await call.measure()
        assert stats.rtt_ms is not None and stats.rtt_ms < 250
        assert stats.remote_packets_lost == stats.packets_lost == 0
        assert stats.rtcp_packets_sent >= 1 and stats.rtcp_packets_received >= 1
        local = call._session.media.local_rtp
        agreed = call._session.media.agreed
        assert local is not None and agreed is not None and agreed.rtcp_mux is mux
        remote = agreed.remote_rtp
        assert remote is not None
        await call.hangup()
    one = (local.port, remote.port)
    two = (local.port + 1, remote.port + 1)
    found = reports(artifacts / "call.pcap", one if mux else two, "rtp" if mux else "rtcp")
    assert {int(row[0]) for row in found} == set(one if mux else two)
    assert len(found) >= 3 and all(row[2] == "" for row in found)
    ours = [row[1] for row in found if int(row[0]) in (local.port, local.port + 1)]
    assert any("203" in kinds.split(",") for kinds in ours), "goodbye"
