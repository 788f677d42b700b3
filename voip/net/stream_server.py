"""A TCP port in the running event loop, and a task for each of those who connect."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Coroutine
from typing import Any

from voip.errors import ConfigError, TransportError
from voip.types import Address

__all__ = ["StreamServer"]

_Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


class StreamServer:
    """Takes connections for `serve`, a coroutine function, which closes each; at most `limit`.

    One more is closed as it comes. `protocol` is what people call it.
    """

    def __init__(self, protocol: str, serve: _Serve, limit: int) -> None:
        self._protocol, self._serve, self._limit = protocol, serve, limit
        self._server: asyncio.Server | None = None
        self._serving: dict[asyncio.Task[None], None] = {}  # in order: a simulation repeats

    async def start(self, host: str, port: int, *, tls: ssl.SSLContext | None = None) -> Address:
        """Listen, and return where; raises `TransportError` where that cannot be."""
        if not 0 <= port <= 65535:
            raise ConfigError(f"no port {port}", hint="0 to 65535")
        try:
            self._server = await asyncio.start_server(self._connected, host, port, ssl=tls)
        except OSError as error:
            why = error.strerror or error
            raise TransportError(
                f"cannot listen for {self._protocol} at {Address(host, port)}: {why}",
                hint="another port, or 0 for any that is free",
            ) from error
        bound = self._server.sockets[0].getsockname()
        return Address(bound[0], bound[1])

    async def close(self) -> None:
        """Listen no more, and cut who is connected."""
        if self._server is not None:
            self._server.close()
        serving = tuple(self._serving)
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._serving) >= self._limit:
            writer.close()
            return
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._serving[task] = None

        def done(task: asyncio.Task[None]) -> None:
            self._serving.pop(task, None)
            writer.close()  # a task that is cancelled before it has begun did not

        task.add_done_callback(done)
