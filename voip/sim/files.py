"""Sound files of phones in a simulated world: served in place, every 200 ms of virtual time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from voip.errors import AudioFileError, VoipError
from voip.media.files import Octets, Served

__all__ = ["SimFiles"]

log = logging.getLogger(__name__)

INTERVAL_S: Final = 0.2
"""A fifth of what a ring holds."""


class SimFiles:
    """`voip.media.files.FileServer` without a thread. While there is nothing to serve it sleeps."""

    def __init__(self) -> None:
        self._served: dict[Served, Callable[[Exception], None] | None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def add(self, served: Served, on_error: Callable[[Exception], None] | None = None) -> None:
        """Serve this too, at once and from then on. After `close` it is not served."""
        if self._closed:
            return
        self._served[served] = on_error
        self._serve(served)
        self._sleep()

    async def remove(self, served: Served, finish: Callable[[], None] | None = None) -> None:
        """Serve it once more and let go of it; `finish` is called last."""
        if served in self._served:
            self._serve(served)
            self._served.pop(served, None)
        if finish is not None:
            finish()

    async def close(self) -> None:
        """Serve everything once more and let go of it."""
        self._closed = True
        for served in list(self._served):
            await self.remove(served)
        if self._timer is not None:
            self._timer.cancel()

    def apart(self) -> SimFiles:
        """Return another, as a thread of its own would be."""
        return SimFiles()

    def open_url(self, url: str) -> Octets:
        """Refuse: there is no web."""
        raise AudioFileError(f"{url} cannot be had in a simulated world", hint="play a file")

    def _sleep(self) -> None:
        if self._timer is None and self._served:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(INTERVAL_S, self._wake)

    def _wake(self) -> None:
        self._timer = None
        for served in list(self._served):
            self._serve(served)
        self._sleep()

    def _serve(self, served: Served) -> None:
        on_error = self._served.get(served)
        try:
            served.service(asyncio.get_running_loop().time())
        except Exception as error:
            self._served.pop(served, None)
            if on_error is None or not isinstance(error, VoipError):  # else somebody is told
                log.exception("serving %s failed", type(served).__name__)
            if on_error is not None:
                on_error(error)
