"""Callbacks that an application wants called with what happens, in order and never at once."""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from voip.events import CallbackFailed, CallEvent, ConferenceEvent
from voip.logs.lines import CallLog

__all__ = ["Callback", "Callbacks", "Spawn"]

Callback = Callable[[Any], object]
"""A function or coroutine function; what it returns is not looked at."""
Told = CallEvent | ConferenceEvent
Spawn = Callable[[Coroutine[Any, Any, None]], None]


class Callbacks:
    """The callbacks of one call or conference. One that raises is logged and told to `failed`."""

    def __init__(
        self, spawn: Spawn, failed: Callable[[CallbackFailed], None], log: CallLog
    ) -> None:
        self._spawn = spawn
        self._log = log
        self._failed = failed
        self._callbacks: list[tuple[type | None, Callback]] = []
        self._untold: deque[Told] = deque()
        self._telling = False

    def add(self, kind: type | None, callback: Callback) -> None:
        """Call back with the events of a kind (None: with all) from now on."""
        self._callbacks.append((kind, callback))

    def drop(self, callback: Callback) -> None:
        """Call back no more; an event that is being told may still be told to it."""
        self._callbacks = [one for one in self._callbacks if one[1] is not callback]

    def end(self, failed: Callable[[CallbackFailed], None]) -> None:
        """The call is over: who fails from now on is told to `failed`, and the call let go of."""
        self._failed = failed

    def tell(self, event: Told) -> None:
        """Tell of an event; what happens meanwhile is told after it."""
        self._untold.append(event)
        if self._telling:
            return
        self._telling = True
        try:
            while self._untold:
                self._tell(self._untold.popleft())
        finally:
            self._telling = False

    def _tell(self, event: Told) -> None:
        for kind, callback in tuple(self._callbacks):
            if kind is None or isinstance(event, kind):
                with self._log.current():
                    self._call_back(callback, event)

    def _call_back(self, callback: Callback, event: Told) -> None:
        try:
            result = callback(event)
        except Exception as error:
            self._report(callback, event, error)
            return
        if inspect.isawaitable(result):
            self._spawn(self._await(callback, event, result))

    async def _await(self, callback: Callback, event: Told, result: Awaitable[None]) -> None:
        try:
            await result
        except Exception as error:
            self._report(callback, event, error)

    def _report(self, callback: Callback, event: Told, error: Exception) -> None:
        name = getattr(callback, "__qualname__", repr(callback))
        self._log.error("callback %s failed on %s", name, type(event).__name__, exc_info=error)
        if not isinstance(event, CallbackFailed):
            self._failed(CallbackFailed(name, error))
