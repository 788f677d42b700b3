"""Prometheus itself scrapes phones, and promtool judges what they tell."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NoReturn

import pytest
from peers.installed import Installed
from peers.prometheus import Prometheus, check_metrics

from voip import CallError, Metrics, Softphone
from voip.call import Call
from voip.config import NetworkConfig
from voip.harness.pbx import EmbeddedPbx
from voip.media.answers import StreamStats

LOOPBACK = NetworkConfig(bind_host="127.0.0.1")
ALICE, BOB = "sip:alice@127.0.0.1", "sip:bob@127.0.0.1"
ALICES = f'voip_sip_dialogs{{phone="{ALICE}"}}'


@pytest.fixture
def programs(peers: Installed, missing: Callable[[str], NoReturn]) -> tuple[Path, Path]:
    """Prometheus and promtool."""
    return peers.prometheus or missing("Prometheus is not installed (make peers)")


@pytest.fixture
async def town() -> AsyncIterator[tuple[Metrics, Softphone, str]]:
    """Alice's phone, whom to call, and what tells of both phones; Bob's echoes, or is busy."""

    async def reception(call: Call) -> None:
        if call.header("X-Wish") == "busy":
            await call.reject(486)
            return
        await call.answer()
        await call.echo()
        await call.wait_ended()

    metrics = Metrics()
    async with AsyncExitStack() as opened:
        phones = [
            await opened.enter_async_context(
                Softphone(uri, register=False, network=LOOPBACK, metrics=metrics)
            )
            for uri in (ALICE, BOB)
        ]
        phones[1].on_incoming(reception)
        yield metrics, phones[0], f"sip:bob@127.0.0.1:{phones[1].port}"


async def test_promtool_finds_nothing_wrong_with_what_is_told(
    programs: tuple[Path, Path], town: tuple[Metrics, Softphone, str]
) -> None:
    metrics, alice, bob = town
    _, promtool = programs
    assert check_metrics(promtool, metrics.render()[1]) == (0, "")
    call = await alice.dial(bob)
    await call.send_dtmf("1")
    await call.measure()
    up = metrics.render()[1]
    await call.hangup()
    over = metrics.render()[1]
    assert up.count(b"\n") > 400
    for text in (up, over):
        assert check_metrics(promtool, text) == (0, "")
    status, complaint = check_metrics(promtool, up.replace(b"voip_calls{", b"voip calls{"))
    assert status != 0
    assert complaint


async def test_promtool_finds_nothing_wrong_with_what_a_pbx_and_its_proxy_tell(
    programs: tuple[Path, Path], tmp_path: Path
) -> None:
    """Prometheus keeps the proxy's figures and the phones' apart, under one name each."""
    metrics = Metrics()
    async with AsyncExitStack() as opened:
        pbx = await opened.enter_async_context(EmbeddedPbx(proxy=True, metrics=metrics))
        address = await opened.enter_async_context(metrics.serve(port=0))
        phone = Softphone(
            pbx.uri("1001"), password=pbx.password("1001"), network=LOOPBACK, metrics=metrics
        )
        await opened.enter_async_context(phone)
        call = await phone.dial("600")
        with pytest.raises(CallError):
            await phone.dial("1002")
        status, complaint = check_metrics(programs[1], metrics.render()[1])
        assert (status, complaint) == (0, "")
        prometheus = await opened.enter_async_context(
            Prometheus(programs, tmp_path / "prometheus", str(address))
        )
        us = f'proxy="{pbx.address}"'
        await prometheus.until(f"sum(voip_proxy_users{{{us}}})", 1)
        refused = await prometheus.query(f"voip_calls_refused_total{{{us}}} > 0", by="reason")
        assert refused == {"challenged": 2, "unavailable": 1}
        by_proxy = await prometheus.query("count by (proxy) (voip_sip_requests_total)", by="proxy")
        assert by_proxy.keys() == {"", pbx.address}
        by_phone = await prometheus.query("count by (phone) (voip_calls)", by="phone")
        assert by_phone.keys() == {"phone", pbx.uri("1001")}
        await call.hangup()


async def test_prometheus_has_the_figures_of_the_calls(
    programs: tuple[Path, Path], town: tuple[Metrics, Softphone, str], tmp_path: Path
) -> None:
    metrics, alice, bob = town
    async with (
        metrics.serve(port=0) as address,
        Prometheus(programs, tmp_path / "prometheus", str(address)) as prometheus,
    ):
        await prometheus.until("up", 1)
        call = await alice.dial(bob)
        await prometheus.until('sum(voip_calls{state="active"})', 2)
        await prometheus.until('sum(voip_media_streams{codec="pcmu"})', 2)
        await call.hangup()
        for _ in range(2):
            with pytest.raises(CallError):
                await alice.dial(bob, headers={"X-Wish": "busy"})
        await prometheus.until("sum(voip_calls)", 0)
        compared = 0
        for name, value in figures(call.stats).items():
            await prometheus.until(f"sum({name} and on(phone) {ALICES})", value)
            compared += 1
        assert compared == 9
        ended = f'voip_calls_ended_total{{phone="{ALICE}"}}'
        outcomes = await prometheus.query(ended, by="outcome")
        assert outcomes == {"answered": 1, "busy": 2}
        quantile = await prometheus.query(
            f'histogram_quantile(0.5, voip_call_mos_bucket{{phone="{ALICE}"}})'
        )
        assert call.quality.mos is not None
        assert quantile[""] == pytest.approx(call.quality.mos, abs=0.3)
        await alice.close()
        await prometheus.until("count(count by (phone) (voip_calls))", 1)


def figures(stats: StreamStats) -> dict[str, float]:
    return {
        'voip_rtp_packets_total{way="sent"}': stats.packets_sent,
        'voip_rtp_packets_total{way="received"}': stats.packets_received,
        'voip_rtp_bytes_total{way="sent"}': stats.bytes_sent,
        'voip_rtp_bytes_total{way="received"}': stats.bytes_received,
        "voip_rtp_packets_lost_total": stats.packets_lost,
        "voip_rtp_packets_late_total": stats.packets_late,
        "voip_rtp_packets_from_strangers_total": stats.packets_from_strangers,
        "voip_media_played_seconds_total": stats.played_ms / 1000,
        "voip_media_concealed_seconds_total": stats.concealed_ms / 1000,
    }
