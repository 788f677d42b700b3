"""All phones and proxies whose figures are told together, and the HTTP endpoint that tells them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Final, Protocol

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
from voip.metrics.calls_json import call_json
from voip.metrics.families import FAMILIES, Family
from voip.metrics.histogram import Histogram
from voip.metrics.meter import Meter
from voip.metrics.proxy_meter import MeteredProxy, ProxyMeter
from voip.metrics.signalling import Reading
from voip.net.http import HttpServer, Page
from voip.types import Address

__all__ = ["Metrics"]

DEFAULT_PORT: Final = 9464
"""What OpenTelemetry's exporters for Prometheus listen at."""
PATH: Final = "/metrics"
CALLS_PATH: Final = "/calls"
_CALLS_AT_ONCE: Final = 50
"""After so many others have the event loop."""
_END: Final = b"# EOF\n"


class Source(Protocol):
    """Something whose figures are told: under the label `label`, by its name."""

    @property
    def label(self) -> str: ...

    @property
    def name(self) -> str: ...

    def read(self) -> Iterator[Reading]:
        """Yield every figure as it is now."""
        ...


class Metrics(Collector):
    """The figures of what was made with it: `Softphone(..., metrics=metrics)`, `SipProxy(...)`.

    Each phone is told under a label `phone`, the address of record of its first account, each proxy
    under `proxy`, its address, from its start until it is closed. `serve` answers Prometheus; or
    register this as a collector of a registry of prometheus_client's that something else serves, in
    the event loop of the phones.
    """

    def __init__(self) -> None:
        self._sources: dict[tuple[str, str], Source] = {}
        self._process = (ProcessCollector(registry=None), PlatformCollector(registry=None))

    # ------------------------------------------------------------ what is told of

    def add(self, desk: Desk) -> Meter:
        """Tell of a phone from now on. Called by the phone."""
        meter = Meter(desk)
        self._add(meter)
        return meter

    def add_proxy(self, proxy: MeteredProxy) -> ProxyMeter:
        """Tell of a proxy from now on. Called by the proxy."""
        meter = ProxyMeter(proxy)
        self._add(meter)
        return meter

    def _add(self, source: Source) -> None:
        name, number = source.name, 1
        while (source.label, name) in self._sources:
            number += 1
            name = f"{source.name} {number}"
        self._sources[source.label, name] = source

    def remove(self, source: Source) -> None:
        """Tell of it no more. Called by what was told of."""
        self._sources = {name: one for name, one in self._sources.items() if one is not source}

    # ------------------------------------------------------------ telling

    def describe(self) -> Iterable[Metric]:
        """Return the names of all figures, for a registry."""
        return [_empty(family) for family in FAMILIES.values()]

    def collect(self) -> Iterable[Metric]:
        """Return the figures of all of them as they are now."""
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

    async def calls_page(self, accept: str = "") -> tuple[str, bytes]:
        """Return (content type, text) of what all phones have of calls, as `SCHEMA` has it."""
        phones = []
        for source in tuple(self._sources.values()):
            if isinstance(source, Meter):
                told = []
                for number, call in enumerate(source.calls):
                    if number % _CALLS_AT_ONCE == _CALLS_AT_ONCE - 1:
                        await asyncio.sleep(0)
                    told.append(call_json(call))
                phones.append({"phone": source.name, "calls": told})
        return "application/json", json.dumps({"phones": phones}, allow_nan=False).encode()

    def _families(self) -> Iterator[Metric | None]:
        """Read one after the other (None: it goes on), then yield what was read."""
        found = {name: _empty(family) for name, family in FAMILIES.items()}
        for whose, source in tuple(self._sources.items()):
            if self._sources.get(whose) is source:  # it may have been closed meanwhile
                for reading in source.read():
                    _add(found[reading[0]], whose, reading)
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
        self, host: str = "127.0.0.1", port: int = DEFAULT_PORT, *, calls: bool = False
    ) -> AsyncIterator[Address]:
        """Answer `GET /metrics` at an address (port 0: any that is free) inside the block.

        calls: and `GET /calls`, what every call is and how it sounds, as JSON (`calls_json`): that
        says who speaks with whom.

        Yields the address. There is neither password nor TLS: whoever reaches it reads it. Raises
        `TransportError` where it cannot be had.
        """
        pages: dict[str, Page] = {PATH: self.page}
        if calls:
            pages[CALLS_PATH] = self.calls_page
        server = HttpServer(pages)
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


_KINDS: Final[dict[str, Callable[[str, str], Metric]]] = {
    "counter": CounterMetricFamily,
    "gauge": GaugeMetricFamily,
    "histogram": HistogramMetricFamily,
}


def _empty(family: Family) -> Metric:
    return _KINDS[family.kind](family.name, family.help)


def _add(told: Metric, whose: tuple[str, str], reading: Reading) -> None:
    name, values, figure = reading
    family = FAMILIES[name]
    labels = dict([whose, *zip(family.labels, values, strict=True)])
    if isinstance(figure, Histogram):
        buckets = figure.buckets()
        for bound, count in buckets:
            told.add_sample(f"{name}_bucket", {**labels, "le": bound}, count)
        told.add_sample(f"{name}_count", labels, buckets[-1][1])
        told.add_sample(f"{name}_sum", labels, figure.total)
    else:
        told.add_sample(f"{name}_total" if family.kind == "counter" else name, labels, figure)
