"""Who waits for an engine: for the result of a command, for an event, for a tick. In the loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import TypeVar

from voip.errors import MediaError
from voip.media.answers import Answer, Applied, EngineEvent, Refused

__all__ = ["Listeners", "Result", "not_running"]

log = logging.getLogger(__name__)

Result = Answer

_Listener = TypeVar("_Listener", bound=Callable[..., None])


def not_running() -> MediaError:
    """Return what is raised where there is no engine to do anything."""
    return MediaError("the media engine is not running", hint="start the driver first")


class Listeners:
    """Those who wait for one engine. Who raises is logged and disturbs nobody."""

    def __init__(self) -> None:
        self._waiting: dict[int, asyncio.Future[Result]] = {}
        self._events: list[Callable[[EngineEvent], None]] = []
        self._ticks: list[Callable[[], None]] = []

    @property
    def want_ticks(self) -> bool:
        """Whether anybody wants to be told of every tick."""
        return bool(self._ticks)

    def subscribe(self, callback: Callable[[EngineEvent], None]) -> Callable[[], None]:
        """Call back with every event but what answers commands; refusals of posted ones too."""
        return _add(self._events, callback)

    def on_tick(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back once per tick."""
        return _add(self._ticks, callback)

    async def answer_to(self, token: int) -> Result:
        """Wait for the result of a command, or raise the `MediaError` that it was refused with."""
        answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting[token] = answer
        try:
            return await answer
        finally:
            self._waiting.pop(token, None)

    def deliver(self, events: Iterable[EngineEvent]) -> None:
        """Hand events to whom they concern, in order."""
        for event in events:
            if isinstance(event, Applied | Refused):
                self._answer(event)
            else:
                self.tell(event)

    def tell(self, event: EngineEvent) -> None:
        """Hand an event to all who have subscribed."""
        for listener in tuple(self._events):
            _call(listener, event)

    def ticked(self) -> None:
        """Tell those who want to know of every tick."""
        for waker in tuple(self._ticks):
            _call(waker)

    def refuse_waiting(self, message: str) -> None:
        """Let all fail who wait for a result."""
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(MediaError(message))

    def _answer(self, event: Applied | Refused) -> None:
        answer = self._waiting.get(event.token)
        if answer is None:  # posted, or its caller was cancelled
            if isinstance(event, Refused):
                self.tell(event)
        elif answer.done():
            return
        elif isinstance(event, Applied):
            answer.set_result(event.result)
        else:
            answer.set_exception(MediaError(event.message, hint=event.hint))


def _add(listeners: list[_Listener], listener: _Listener) -> Callable[[], None]:
    """Register a listener; return what removes it, and does no harm when called again."""
    listeners.append(listener)

    def remove() -> None:
        if listener in listeners:
            listeners.remove(listener)

    return remove


def _call(listener: Callable[..., None], *arguments: object) -> None:
    try:
        listener(*arguments)
    except Exception:
        log.exception("a listener to the media engine failed")
