"""What is scraped of phones that call each other, as the parser of prometheus_client reads it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest
from prometheus_client.parser import text_string_to_metric_families

from voip import Metrics, Softphone
from voip.call import Call
from voip.config import NetworkConfig
from voip.media.answers import StreamStats
from voip.sim import Host, Path, World
from voip.types import Address

ALICE, BOB = "sip:alice@10.0.0.1", "sip:bob@10.0.0.2"
MONITOR = "10.0.0.8"
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Scraped:
    """What the parser of prometheus_client's reads in a scrape."""

    def __init__(self, text: str) -> None:
        self.families = {family.name: family for family in text_string_to_metric_families(text)}
        self.samples: Samples = {}
        for family in self.families.values():
            for sample in family.samples:
                key = sample.name, frozenset(sample.labels.items())
                assert key not in self.samples, f"{key} twice"
                self.samples[key] = sample.value

    def __call__(self, name: str, phone: str, **labels: str) -> float:
        return self.samples[name, frozenset({"phone": phone, **labels}.items())]

    def nonzero(self, name: str, phone: str) -> dict[tuple[str, ...], float]:
        """The figures of a name that are not 0, by their labels' values in the order of names."""
        found = {}
        for (given, labels), value in self.samples.items():
            if given == name and ("phone", phone) in labels and value:
                rest = sorted(item for item in labels if item[0] != "phone")
                found[tuple(text for _, text in rest)] = value
        return found

    def phones(self) -> set[str]:
        return {dict(labels).get("phone", "-") for _, labels in self.samples} - {"-"}


async def get(
    address: Address, target: str = "/metrics", method: str = "GET", *headers: str
) -> tuple[str, str, str]:
    """Return (status line, headers, body) of one request over one connection."""
    reader, writer = await asyncio.open_connection(address.host, address.port)
    lines = [f"{method} {target} HTTP/1.1", "Host: monitor", "Connection: close", *headers, "", ""]
    writer.write("\r\n".join(lines).encode())
    answer = (await reader.read()).decode()
    writer.close()
    head, _, body = answer.partition("\r\n\r\n")
    status, _, fields = head.partition("\r\n")
    return status, fields, body


async def scrape(address: Address) -> Scraped:
    status, fields, body = await get(address)
    assert status == "HTTP/1.1 200 ", status
    assert "text/plain; version=0.0.4" in fields.replace("content-type", "Content-Type"), fields
    return Scraped(body)


@dataclass(frozen=True, slots=True)
class Up:
    """A call that is up, and the endpoint that tells of both phones."""

    metrics: Metrics
    address: Address
    phone: Softphone
    mine: Call
    theirs: Call
    monitor: Host

    async def scrape(self) -> Scraped:
        return await self.monitor.run(scrape(self.address))


def a_call(path: Path, during: Callable[[Up], Awaitable[None]]) -> None:
    """Alice calls Bob, whose phone echoes; both are told by one endpoint at Alice's."""
    world = World(3, path=path)
    alice, bob, monitor = world.host("10.0.0.1"), world.host("10.0.0.2"), world.host(MONITOR)
    world.link(alice, monitor, Path())  # at once: what is scraped and what calls say is of one time

    async def main() -> None:
        metrics = Metrics()
        taken: asyncio.Queue[Call] = asyncio.Queue()

        async def echo(call: Call) -> None:
            await call.answer()
            await call.echo()
            taken.put_nowait(call)
            await call.wait_ended()

        async with AsyncExitStack() as opened:
            address = await opened.enter_async_context(metrics.serve("10.0.0.1", 9464))
            with bob.here():
                network = NetworkConfig(bind_port=5060)
                phone = Softphone(BOB, register=False, network=network, metrics=metrics)
                phone.on_incoming(echo)
                await opened.enter_async_context(phone)
            phone = Softphone(ALICE, register=False, metrics=metrics)
            await opened.enter_async_context(phone)
            mine = await phone.dial(BOB)
            await during(Up(metrics, address, phone, mine, await taken.get(), monitor))

    world.run(alice.run(main()))


def compared(scraped: Scraped, phone: str, stats: StreamStats) -> int:
    """Compare the sums of a phone that has had one call with that call's figures; return how many
    were compared."""
    expected = {
        "voip_rtp_packets_lost_total": stats.packets_lost,
        "voip_rtp_packets_late_total": stats.packets_late,
        "voip_rtp_packets_duplicate_total": stats.packets_duplicate,
        "voip_rtp_packets_reordered_total": stats.packets_reordered,
        "voip_rtp_packets_discarded_total": stats.packets_discarded,
        "voip_rtp_packets_from_strangers_total": stats.packets_from_strangers,
        "voip_rtp_packets_forged_total": stats.packets_forged,
        "voip_rtp_packets_replayed_total": stats.packets_replayed,
        "voip_rtp_packets_withheld_total": stats.packets_withheld,
        "voip_rtp_frames_dropped_total": stats.dropped_frames,
        "voip_rtp_buffer_overruns_total": stats.buffer_overrun_count,
        "voip_media_played_seconds_total": stats.played_ms / 1000,
        "voip_media_concealed_seconds_total": stats.concealed_ms / 1000,
        "voip_media_accelerated_seconds_total": stats.accelerated_ms / 1000,
        "voip_media_expanded_seconds_total": stats.expanded_ms / 1000,
        "voip_media_source_underrun_seconds_total": stats.source_underrun_ms / 1000,
        "voip_media_noise_played_seconds_total": stats.noise_played_ms / 1000,
        "voip_media_silence_unsent_seconds_total": stats.silence_unsent_ms / 1000,
    }
    found = {name: scraped(name, phone) for name in expected}
    assert found == pytest.approx(expected), f"{found} is told, {expected} is so"
    for way, packets, octets in (
        ("sent", stats.packets_sent, stats.bytes_sent),
        ("received", stats.packets_received, stats.bytes_received),
    ):
        told = [scraped(f"voip_rtp_{what}_total", phone, way=way) for what in ("packets", "bytes")]
        assert told == [packets, octets], (way, told, packets, octets)
    return len(expected) + 4
