"""What the thread that serves files and the event loop tell each other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from copy import copy
from typing import Any

__all__ = ["FileJob", "in_loop", "to_the_end"]


class FileJob:
    """What the thread that serves files tells the event loop about one of them."""

    def __init__(
        self,
        failed: Callable[[Exception], None] | None = None,
        over: asyncio.Event | None = None,
    ) -> None:
        self.over = over or asyncio.Event()
        self.error: Exception | None = None
        self._loop = asyncio.get_running_loop()
        self._ready = asyncio.Event()
        self._failed = failed

    def ready(self) -> None:
        """The file is open. Called in the other thread."""
        in_loop(self._loop, self._ready.set)

    def broke(self, error: Exception) -> None:
        """The file cannot be read or written (any more). Called in the other thread."""
        self.error = _without_frames(error)
        in_loop(self._loop, lambda: self._fail(error))

    async def wait_ready(self) -> None:
        """Return when the file is open; raises what kept it from that."""
        await self._ready.wait()
        self.check()

    def check(self) -> None:
        """Raise what went wrong, if anything did."""
        if self.error is not None:
            # the error itself would be given a traceback, and keep it
            raise copy(self.error) from self.error.__cause__

    def end(self) -> None:
        """Call `failed` no more, after what has gone wrong by now is told, and let go of it."""
        in_loop(self._loop, self._forget)

    def _forget(self) -> None:
        self._failed = None

    def _fail(self, error: Exception) -> None:
        self.over.set()
        if self._ready.is_set() and self._failed is not None:
            self._failed(error)
        self._ready.set()


def _without_frames(error: Exception) -> Exception:
    """Take the tracebacks from an error and its causes: their frames hold what the job is for."""
    one: BaseException | None = error
    while one is not None:
        one.__traceback__ = None
        one = one.__cause__ or one.__context__
    return error


async def to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """Await `work`, also when cancelled meanwhile: letting go must not stop half-way."""
    doing = asyncio.ensure_future(work)
    try:
        await asyncio.shield(doing)
    except asyncio.CancelledError:
        if not doing.done():
            await asyncio.wait({doing})
        raise


def in_loop(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
    """Call back in an event loop, from any thread."""
    with suppress(RuntimeError):  # the loop has been closed: nobody waits any more
        loop.call_soon_threadsafe(callback)
