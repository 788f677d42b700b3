"""The figures of one proxy, read where they are kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Protocol

from voip.metrics.signalling import Reading, signalling
from voip.refusals import RefusedCalls
from voip.sip.endpoint.ways import WayFigures
from voip.sip.location import Location
from voip.sip.proxy import ProxyAgent

__all__ = ["MeteredProxy", "ProxyMeter"]


class MeteredProxy(Protocol):
    """What is read of a proxy (`voip.proxy.SipProxy`)."""

    agent: ProxyAgent
    location: Location
    refused: RefusedCalls

    @property
    def address(self) -> str:
        """`host:port`."""
        ...

    @property
    def searches(self) -> int:
        """How many names are looked up and connections opened at this moment."""
        ...

    def figures(self) -> WayFigures:
        """Return what has been counted of ways and connections."""
        ...

    def now(self) -> float:
        """Return the time its bindings go by."""
        ...


class ProxyMeter:
    """Reads one proxy, from its start to its end, in its event loop."""

    label: Final = "proxy"

    def __init__(self, proxy: MeteredProxy) -> None:
        self.name = proxy.address
        self._proxy = proxy

    def read(self) -> Iterator[Reading]:
        """Yield every figure as it is now."""
        proxy = self._proxy
        yield from signalling(proxy.agent.core, proxy.figures(), proxy.refused.counts)
        users, bindings = proxy.location.count(proxy.now())
        yield "voip_proxy_users", (), users
        yield "voip_proxy_bindings", (), bindings
        yield "voip_proxy_searches", (), proxy.searches
