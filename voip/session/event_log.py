"""What happened, in order, for any number of listeners who may come late or be slow."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Generic, TypeVar

__all__ = ["MAX_EVENTS", "EventLog"]

MAX_EVENTS = 1024
"""Events remembered for those who begin to listen late; the oldest fall out."""

Event = TypeVar("Event")


class EventLog(Generic[Event]):
    """Events are numbered from 0 on. After `end` nothing is added, and listeners stop."""

    def __init__(self, limit: int = MAX_EVENTS) -> None:
        self.ended = False
        self._events: deque[Event | None] = deque(maxlen=limit)  # None: forgotten
        self._count = 0
        self._news = asyncio.Event()

    def __iter__(self) -> Iterator[Event]:
        """Iterate over what is remembered."""
        return iter([event for event in self._events if event is not None])

    def __len__(self) -> int:
        """How many there have been, those that have fallen out too: the next one's number."""
        return self._count

    def add(self, event: Event) -> None:
        """Note an event and wake the listeners; after the end nothing happens."""
        if self.ended:
            return
        self._events.append(event)
        self._count += 1
        self._wake()

    def forget(self, event: Event) -> None:
        """Remember it no longer: latecomers do not hear of it, and what it names can go."""
        with suppress(ValueError):
            self._events[self._events.index(event)] = None

    def end(self) -> None:
        """Say that nothing more will come."""
        self.ended = True
        self._wake()

    async def next(self, number: int) -> tuple[Event, int] | None:
        """Wait for event `number` (or the oldest remembered); return it and the next one's number.

        None: the end has come before.
        """
        while True:
            number = max(number, self._count - len(self._events))
            if number < self._count:
                event, number = self._events[number - self._count], number + 1
                if event is not None:
                    return event, number
                continue
            if self.ended:
                return None
            await self._news.wait()

    async def follow(self, number: int = 0) -> AsyncIterator[Event]:
        """Yield event `number` (or the oldest remembered) and all after it, until the end."""
        while (found := await self.next(number)) is not None:
            event, number = found
            yield event

    def _wake(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()
