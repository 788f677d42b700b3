"""One thread that moves audio between files and rings, so that no tick waits for a disk."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from voip.errors import VoipError
from voip.media.files import Served
from voip.net.web import WebSound, open_url

__all__ = ["INTERVAL_S", "IoThread"]

log = logging.getLogger(__name__)

INTERVAL_S = 0.05
"""How often everything is served: rings must hold several times as much."""


@dataclass(frozen=True, slots=True)
class _Leaving:
    """What is to be done last for what is let go of, and who is told of it, and what it raised."""

    finish: Callable[[], None] | None
    tell: Callable[[Exception | None], None]


class IoThread:
    """Serves what is added to it about every 50 ms.

    The thread runs while there is anything to serve. One that raises is logged, told by
    `on_error` (in the I/O thread) and served no more; the others go on.
    """

    def __init__(self, interval_s: float = INTERVAL_S, name: str = "voip-files") -> None:
        self._interval_s = interval_s
        self._name = name
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._served: dict[Served, Callable[[Exception], None] | None] = {}
        self._leaving: dict[Served, list[_Leaving]] = {}
        self._thread: threading.Thread | None = None
        self._closed = False

    def add(self, served: Served, on_error: Callable[[Exception], None] | None = None) -> None:
        """Serve this too, at once and from then on. After `close` it is not served."""
        with self._lock:
            if self._closed:
                return
            self._served[served] = on_error
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
        self._wake.set()

    async def remove(self, served: Served, finish: Callable[[], None] | None = None) -> None:
        """Serve it once more, then let go of it; when this returns it is the caller's alone.

        `finish` is called last, in the thread, for it may have to wait for a disk; what it raises
        is raised here.
        """
        loop = asyncio.get_running_loop()
        gone: asyncio.Future[None] = loop.create_future()

        def tell(error: Exception | None) -> None:
            if gone.done():
                return
            if error is None:
                gone.set_result(None)
            else:
                gone.set_exception(error)

        with self._lock:
            is_served = served in self._served
            if is_served:
                leaving = _Leaving(finish, lambda error: _in_loop(loop, lambda: tell(error)))
                self._leaving.setdefault(served, []).append(leaving)
        if is_served:
            self._wake.set()
            await gone
        elif finish is not None:  # it has failed before, and has little left to do
            finish()

    async def close(self) -> None:
        """Serve everything once more and end the thread."""
        with self._lock:
            self._closed = True
            everything = list(self._served)
            thread = self._thread
        for served in everything:
            await self.remove(served)
        self._wake.set()
        if thread is not None:
            thread.join()  # it has nothing left to do

    def apart(self) -> IoThread:
        """Return a thread of its own, for what may be kept waiting by a network."""
        return IoThread(self._interval_s, name="voip-web")

    def open_url(self, url: str) -> WebSound:
        """Open what a URL names: blocks, so in a thread that is `apart`."""
        return open_url(url)

    def _run(self) -> None:
        while True:
            self._wake.wait(self._interval_s)
            self._wake.clear()
            with self._lock:
                everything = list(self._served.items())
                leaving, self._leaving = self._leaving, {}
            now = time.monotonic()
            for served, on_error in everything:
                if not _serve(served, on_error, now):
                    self._forget(served)
            for served, listeners in leaving.items():
                self._forget(served)
                for listener in listeners:
                    listener.tell(_finished(listener.finish))
            with self._lock:
                if not self._served and not self._leaving:
                    self._thread = None
                    return

    def _forget(self, served: Served) -> None:
        with self._lock:
            self._served.pop(served, None)


def _serve(served: Served, on_error: Callable[[Exception], None] | None, now: float) -> bool:
    try:
        served.service(now)
    except Exception as error:
        if on_error is None or not isinstance(error, VoipError):  # else somebody is told
            log.exception("serving %s failed", type(served).__name__)
        if on_error is not None:
            try:
                on_error(error)
            except Exception:
                log.exception("telling %s of it failed", type(served).__name__)
        return False
    return True


def _finished(finish: Callable[[], None] | None) -> Exception | None:
    """Do the last thing; return what it raises."""
    try:
        if finish is not None:
            finish()
    except Exception as error:
        return error
    return None


def _in_loop(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
    try:
        loop.call_soon_threadsafe(callback)
    except RuntimeError:
        log.debug("the event loop was closed before a file was let go")
