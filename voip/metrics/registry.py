"""All phones whose figures are told together, and the HTTP endpoint that tells them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Final

from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from voip.desk import Desk
from voip.metrics.families import FAMILIES, Family
from voip.metrics.histogram import Histogram
from voip.metrics.meter import Meter, Reading
from voip.net.http import HttpServer
from voip.types import Address

__all__ = ["Metrics"]

DEFAULT_PORT: Final = 9464
"""What OpenTelemetry's exporters for Prometheus listen at."""
PATH: Final = "/metrics"
_END: Final = b"# EOF\n"


class Metrics(Collector):
    """The figures of the phones that were made with it: `Softphone(..., metrics=metrics)`.

    Each phone is told under a label `phone`, the address of record of its first account, from its
    start until it is closed. `serve` answers Prometheus; or register this as a collector of a
    registry of prometheus_client's that something else serves, in the event loop of the phones.
    """

    def __init__(self) -> None:
        self._meters: dict[str, Meter] = {}
        self._process = (ProcessCollector(registry=None), PlatformCollector(registry=None))

    # ------------------------------------------------------------ phones

    def add(self, desk: Desk) -> Meter:
        """Tell of a phone from now on. Called by the phone."""
        meter = Meter(desk)
        name, number = meter.name, 1
        while name in self._meters:
            number += 1
            name = f"{meter.name} {number}"
        self._meters[name] = meter
        return meter

    def remove(self, meter: Meter) -> None:
        """Tell of it no more. Called by the phone."""
        self._meters = {name: one for name, one in self._meters.items() if one is not meter}

    # ------------------------------------------------------------ telling

    def describe(self) -> Iterable[Metric]:
        """Return the names of all figures, for a registry."""
        return [_empty(family) for family in FAMILIES.values()]

    def collect(self) -> Iterable[Metric]:
        """Return the figures of all phones as they are now."""
        return filter(None, self._families())

    def render(self, accept: str = "") -> tuple[str, bytes]:
        """Return all figures, and those of the process, as (content type, text).

        `accept`: an HTTP Accept header: OpenMetrics where it asks for that.
        """
        encode, content_type = choose_encoder(accept)
        return content_type, _whole(self._pieces(encode))

    async def page(self, accept: str = "") -> tuple[str, bytes]:
        """Return what `render` does, and let others have the event loop between two pieces."""
        encode, content_type = choose_encoder(accept)
        pieces = []
        for piece in self._pieces(encode):
            pieces.append(piece)
            await asyncio.sleep(0)
        return content_type, _whole(pieces)

    def _families(self) -> Iterator[Metric | None]:
        """Read one phone after the other (None: it goes on), then yield what was read."""
        found = {name: _empty(family) for name, family in FAMILIES.items()}
        for phone, meter in tuple(self._meters.items()):
            if self._meters.get(phone) is meter:  # it may have been closed meanwhile
                for reading in meter.read():
                    _add(found[reading[0]], phone, reading)
                yield None
        info = GaugeMetricFamily("voip_info", "What tells these figures.", labels=["version"])
        info.add_metric([version("voip-softphone")], 1)
        yield info
        yield from (family for family in found.values() if family.samples)

    def _pieces(self, encode: Callable[[Collector], bytes]) -> Iterator[bytes]:
        for family in self._families():
            yield b"" if family is None else encode(_Only([family]))
        for collector in self._process:
            yield encode(collector)

    @asynccontextmanager
    async def serve(
        self, host: str = "127.0.0.1", port: int = DEFAULT_PORT
    ) -> AsyncIterator[Address]:
        """Answer `GET /metrics` at an address (port 0: any that is free) inside the block.

        Yields the address. There is neither password nor TLS: whoever reaches it reads it. Raises
        `TransportError` where it cannot be had.
        """
        server = HttpServer({PATH: self.page})
        try:
            yield await server.start(host, port)
        finally:
            await server.close()


class _Only(Collector):
    """Some families, to be encoded."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        """Return them."""
        return self._families


def _whole(pieces: Iterable[bytes]) -> bytes:
    """Join what was encoded piece by piece; OpenMetrics has an end."""
    found = list(pieces)
    end = _END if found and found[-1].endswith(_END) else b""
    return b"".join(piece.removesuffix(_END) for piece in found) + end


def _empty(family: Family) -> Metric:
    labels = ["phone", *family.labels]
    if family.kind == "counter":
        return CounterMetricFamily(family.name, family.help, labels=labels)
    if family.kind == "gauge":
        return GaugeMetricFamily(family.name, family.help, labels=labels)
    return HistogramMetricFamily(family.name, family.help, labels=labels)


def _add(family: Metric, phone: str, reading: Reading) -> None:
    _, values, figure = reading
    labels = [phone, *values]
    if isinstance(figure, Histogram) and isinstance(family, HistogramMetricFamily):
        family.add_metric(labels, figure.buckets(), figure.total)
    elif isinstance(family, CounterMetricFamily | GaugeMetricFamily):
        family.add_metric(labels, float(figure))  # type: ignore[arg-type]
