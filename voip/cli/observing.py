"""What --metrics is turned into."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from voip.cli.options import host_port
from voip.cli.run import warn
from voip.errors import ConfigError

if TYPE_CHECKING:
    from voip.metrics import Metrics

__all__ = ["Metered"]


class Metered:
    """Where Prometheus is answered: HOST:PORT, or a port of loopback; None: nowhere.

    `metrics`: what phones are to be made with.
    """

    def __init__(self, where: str | None) -> None:
        self.metrics: Metrics | None = None
        if where is None:
            return
        from voip.metrics import Metrics

        host, port = host_port(f":{where}" if where.isdigit() else where, "--metrics")
        if port is None:
            raise ConfigError(f"--metrics {where} names no port", hint="such as 127.0.0.1:9464")
        self.metrics = Metrics()
        self._address = host or "127.0.0.1", port

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Answer inside the block, and say where."""
        if self.metrics is None:
            yield
            return
        async with self.metrics.serve(*self._address) as address:
            warn(f"metrics at http://{address}/metrics")
            yield
