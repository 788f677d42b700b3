"""What is scraped of a real call on loopback: the engine's thread, its ticks and its sockets."""

from __future__ import annotations

import asyncio
import urllib.request
from dataclasses import fields

import pytest
from loopback_phones import engine_thread
from prometheus_client.parser import text_string_to_metric_families

from voip import Metrics, Softphone
from voip.call import Call
from voip.config import NetworkConfig
from voip.net.line import IoCounters

pytestmark = pytest.mark.realtime

LOOPBACK = NetworkConfig(bind_host="127.0.0.1")
Samples = dict[tuple[str, ...], float]


async def scrape(url: str) -> Samples:
    """Return the samples of a scrape by another thread: by name, then labels as `a=b`, sorted."""

    def get() -> str:
        with urllib.request.urlopen(url, timeout=30) as answer:
            assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            text: str = answer.read().decode()
            return text

    text = await asyncio.to_thread(get)
    return {
        (sample.name, *sorted(f"{name}={value}" for name, value in sample.labels.items())): (
            sample.value
        )
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_a_scrape_over_http_while_a_call_is_up_agrees_with_the_call() -> None:
    metrics = Metrics()
    async with (
        metrics.serve(port=0) as address,
        Softphone("sip:bob@127.0.0.1", register=False, network=LOOPBACK, metrics=metrics) as bob,
        Softphone("sip:alice@127.0.0.1", register=False, network=LOOPBACK, metrics=metrics) as us,
    ):

        @bob.on_incoming
        async def echo(call: Call) -> None:
            await call.answer()
            await call.echo()
            await call.wait_ended()

        assert address.host == "127.0.0.1"
        url = f"http://{address}/metrics"
        phone = "phone=sip:alice@127.0.0.1"
        call = await us.dial(f"sip:bob@127.0.0.1:{bob.port}")
        await asyncio.sleep(2.2)  # until there is a snapshot
        before, scraped, after = call.stats, await scrape(url), await call.measure()
        for way, low, high in (
            ("sent", before.packets_sent, after.packets_sent),
            ("received", before.packets_received, after.packets_received),
        ):
            assert low > 20
            assert low <= scraped["voip_rtp_packets_total", phone, f"way={way}"] <= high
        assert scraped["voip_media_streams", "codec=pcmu", phone] == 1
        assert scraped["voip_calls", "direction=outgoing", phone, "state=active"] == 1

        times = engine_thread(us).times
        assert times is not None
        ticks = scraped["voip_media_ticks_total", phone]
        assert 0 < ticks <= times.ticks
        for name in ("start", "done"):
            buckets = f"voip_media_tick_{name}_delay_seconds_bucket"
            assert scraped[buckets, "le=+Inf", phone] == ticks
            counts = [value for key, value in scraped.items() if key[0] == buckets and phone in key]
            assert counts == sorted(counts)
        kinds = {field.name for field in fields(IoCounters)} | {"kernel_drops"}
        io = {key[1]: value for key, value in scraped.items() if key[0] == IO and phone in key}
        assert io.keys() == {f"kind={kind}" for kind in kinds}

        again = await scrape(url)
        assert again["voip_media_ticks_total", phone] >= ticks
        total = again["voip_media_tick_start_delay_seconds_count", phone]
        assert total == again["voip_media_ticks_total", phone]

        await call.hangup()
        ended = await scrape(url)
        for way in ("sent", "received"):
            packets = getattr(call.stats, f"packets_{way}")
            assert ended["voip_rtp_packets_total", phone, f"way={way}"] == packets
        assert ended["voip_call_mos_sum", phone] == pytest.approx(call.quality.mos)
        assert ended["process_open_fds",] > 3
    assert not list(metrics._sources)


IO = "voip_media_io_anomalies_total"
