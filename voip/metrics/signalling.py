"""The figures of what speaks SIP, a phone or a proxy, read where they are kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict

from voip.metrics.histogram import Histogram
from voip.sip.core import Core
from voip.sip.endpoint.ways import WayFigures

__all__ = ["Reading", "signalling"]

Reading = tuple[str, tuple[str, ...], float | Histogram]
"""A name of `FAMILIES`, the values of its labels, and the figure."""


def signalling(core: Core, ways: WayFigures, refused: Mapping[str, int]) -> Iterator[Reading]:
    """Yield messages, transactions, what was refused, and connections."""
    for reason, count in refused.items():
        yield "voip_calls_refused", (reason,), count
    traffic = core.traffic
    for way, counts in (("received", traffic.received), ("sent", traffic.sent)):
        for method, count in counts.requests.items():
            yield "voip_sip_requests", (way, method), count
        for digit, count in counts.responses.items():
            yield "voip_sip_responses", (way, f"{digit}xx"), count
    yield "voip_sip_retransmissions", (), core.transactions.repeated
    for side, alive in zip(("client", "server"), core.transactions.sides, strict=True):
        yield "voip_sip_transactions", (side,), alive
    yield "voip_sip_subscriptions", (), len(core.subscriptions)
    for kind, count in asdict(core.counters).items():
        yield "voip_sip_anomalies", (kind,), count
    yield "voip_sip_guard_sources", (), len(core.guard)
    yield "voip_sip_failovers", (), ways.avoided
    yield "voip_sip_connections", (), ways.connections
    for kind, count in ways.troubles.items():
        yield "voip_sip_connection_anomalies", (kind,), count
