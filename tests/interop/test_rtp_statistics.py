"""Loss and jitter of real calls over a bad path: by us, by tshark, and by who is called.

The path says what it has dropped; tshark counts from a capture that is not ours; baresip and
Asterisk have counters and reports of their own. Where packets are counted all must agree to the
last one.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from direct import desk
from dissector import Counted, as_protocol, fields, streams, tshark
from lossy_path import LossyPath, lossy_path
from peers.asterisk import Asterisk
from peers.baresip import Baresip
from peers.capture import Capture
from phones import ended, softphone, until
from test_relayed import answered

from voip.call import Call
from voip.media.commands import SendApp, SendXr
from voip.rtp.xr import ReferenceTime, StatisticsSummary, VoipMetrics

StartBaresip = Callable[..., Awaitable[Baresip]]
CALM_S, BAD_S = 0.4, 6.0

pytestmark = pytest.mark.rfc("3550", "6.4")


def counted(capture: Path, port: int) -> Counted:
    """The stream that left a port."""
    (stream,) = [one for one in streams(capture, *as_protocol("rtp", port)) if one.port == port]
    return stream


@pytest.fixture
def wire(artifacts: Path, dissector: None, missing: Callable[[str], NoReturn]) -> Path:
    """Where a capture of loopback goes, by dumpcap."""
    if shutil.which("dumpcap") is None or os.geteuid() != 0:
        missing("a capture of loopback takes dumpcap and root")
    return artifacts / "wire.pcapng"


@contextmanager
def capturing(wire: Path, path: LossyPath) -> Iterator[None]:
    """Capture what crosses a path, to the last packet."""
    capture = Capture(wire, path.ports)
    capture.start()
    try:
        yield
    finally:
        capture.stop(keep=True)


async def bad_path(call: Call, path: LossyPath) -> list[float]:
    """Let packets be lost and late for a while, and none come any more after it.

    The first and the last arrive, so that each that is lost is known to be. Returns our jitter, ms.
    """
    await until(lambda: min(path.to_us.passed, path.to_peer.passed) > 10, "sound both ways")
    await asyncio.sleep(CALM_S)
    path.to_us.loss, path.to_us.jitter_ms = 0.06, 15.0
    path.to_peer.loss, path.to_peer.jitter_ms = 0.10, 8.0
    jitter: list[float] = []
    loop = asyncio.get_running_loop()
    end = loop.time() + BAD_S
    while loop.time() < end:
        await asyncio.sleep(0.05)
        jitter.append((await call.measure()).jitter_ms)
    for way in (path.to_us, path.to_peer):
        way.loss = way.jitter_ms = 0.0
    await asyncio.sleep(CALM_S)
    path.to_us.cut = path.to_peer.cut = True
    await asyncio.sleep(0.2)
    return jitter


async def test_baresip_tshark_and_we_count_the_same(
    baresip: StartBaresip, artifacts: Path, wire: Path
) -> None:
    peer = await baresip(codecs=["PCMU"])
    async with desk(artifacts, codecs=("pcmu",)) as us, lossy_path(peer.port) as path:
        with capturing(wire, path):
            call = await answered(peer, us.phone.dial(path.uri("baresip")))
            local = call._session.media.local_rtp
            assert local is not None
            jitter = await bad_path(call, path)
            driver, stream = us.phone.driver, call._session.media.stream
            summary = StatisticsSummary(1, 0, 9, 1, 0, (0, 4, 2, 1), (60, 64, 61, 1))
            blocks = (VoipMetrics(1, mos_lq=42), ReferenceTime(), summary)
            await driver.apply(SendXr(stream, blocks))
            await driver.apply(SendApp(stream, b"test", b"okay"))

            async def reported() -> bool:
                return (await call.measure()).remote_packets_lost == path.to_peer.dropped

            await until(reported, "baresip to report what it misses", 15)
            sent = (await call.measure()).rtcp_packets_sent

            async def told() -> bool:
                return (await call.measure()).rtcp_packets_sent > sent

            await until(told, "us to report what we miss", 15)
            stats = await call.measure()
            await peer.hangup()
            await ended(call)
            said = dict(
                one.split("=") for one in us.ladder.header("< BYE", "X-RTP-Stat").split(";")
            )
    ours, theirs = (counted(wire, port) for port in (path.rtp_for_us, path.rtp_for_peer))
    assert path.to_us.dropped > 5 and path.to_peer.dropped > 10
    assert (stats.packets_received, stats.packets_lost) == (ours.packets, ours.lost)
    assert (ours.packets, ours.lost) == (path.to_us.passed, path.to_us.dropped)
    assert (theirs.packets, theirs.lost) == (path.to_peer.passed, path.to_peer.dropped)
    # baresip: received, and what of its own was lost, by our report
    assert said["PL"] == f"{theirs.lost},{ours.lost}", said
    assert int(said["PR"]) == theirs.packets
    # jitter: tshark's after every packet, ours every 50 ms
    print(f"{ours}; ours {np.median(jitter):.2f}, at most {max(jitter):.2f}; {said}")
    assert 1.0 < ours.mean_jitter_ms < ours.max_jitter_ms
    assert max(jitter) <= ours.max_jitter_ms * 1.05
    assert np.max(jitter) == pytest.approx(ours.max_jitter_ms, rel=0.25)
    assert np.median(jitter) == pytest.approx(ours.mean_jitter_ms, rel=0.35)
    assert stats.remote_jitter_ms is not None
    assert 0.2 < stats.remote_jitter_ms < 3 * theirs.max_jitter_ms
    require_clean_reports(wire, local.port + 1)


def require_clean_reports(capture: Path, port: int) -> None:
    """All kinds of RTCP packets have left a port, and tshark finds no fault with any."""
    rtcp, left = as_protocol("rtcp", port), f"rtcp && udp.srcport == {port}"
    columns = ("rtcp.pt", "rtcp.length_check", "_ws.malformed")
    rows = fields(capture, *columns, options=(*rtcp, "-Y", left))
    kinds = {int(kind) for row in rows for kind in row[0].split(",")}
    assert kinds >= {200, 202, 203, 204, 207}, kinds
    assert all(row[1:] == ["1", ""] for row in rows), rows
    assert tshark(capture, *rtcp, "-Y", f"{left} && _ws.expert.severity >= warning") == ""


CHANNEL = re.compile(
    r"ulaw +(?P<received>\d+) +(?P<missed>\d+) +\d+ +(?P<jitter>[\d.]+) +"
    r"(?P<sent>\d+) +(?P<lost>\d+) +\d+ +(?P<their_jitter>[\d.]+) +(?P<rtt>[\d.]+)"
)


async def test_asterisk_and_we_count_the_same(asterisk: Asterisk, artifacts: Path) -> None:
    """`pjsip show channelstats`: what it has received and missed, and what we told it we missed."""
    async with (
        softphone(asterisk, "1001", artifacts, codecs=("pcmu",)) as phone,
        lossy_path(asterisk.port) as path,
    ):
        call = await phone.dial(path.uri("601"))
        jitter = await bad_path(call, path)
        row: re.Match[str] | None = None

        async def reported() -> bool:
            nonlocal row
            row = CHANNEL.search(await asyncio.to_thread(asterisk.cli, "pjsip show channelstats"))
            assert row is not None
            stats = await call.measure()
            return (
                stats.remote_packets_lost == int(row["missed"]) == path.to_peer.dropped
                and int(row["lost"]) == path.to_us.dropped
            )

        try:
            await until(reported, "both to report what they miss", 20)
        except TimeoutError as error:
            error.add_note(f"{row}, {path.to_peer}, {path.to_us}, {await call.measure()}")
            raise
        stats = await call.measure()
        assert row is not None
        assert (stats.packets_received, stats.packets_lost) == (
            path.to_us.passed,
            path.to_us.dropped,
        )
        assert int(row["received"]) == path.to_peer.passed
        # of two moments, and it has two ways of its own
        assert stats.remote_jitter_ms is not None
        assert 0.1 < stats.remote_jitter_ms < 15 and 0.1 < 1000 * float(row["jitter"]) < 15
        assert 0.1 < 1000 * float(row["their_jitter"]) < 1.1 * max(jitter)
        assert stats.rtt_ms is not None and stats.rtt_ms < 300 and float(row["rtt"]) < 0.3
        await call.hangup()
    await asterisk.idle()
