"""What a peer reports, kept until a test asks for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

News = TypeVar("News")


class Inbox(Generic[News]):
    """Events of a peer in order; each is taken once. `seen` keeps them all."""

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._unread: list[News] = []
        self._arrived = asyncio.Condition()
        self._ended = False
        self.seen: list[News] = []

    async def put(self, event: News) -> None:
        """Add an event."""
        async with self._arrived:
            self.seen.append(event)
            self._unread.append(event)
            self._arrived.notify_all()

    async def end(self) -> None:
        """Nothing more will come: whoever waits is told so."""
        async with self._arrived:
            self._ended = True
            self._arrived.notify_all()

    async def take(self, wanted: Callable[[News], bool], what: str, timeout: float) -> News:
        """Wait for the first unread event that is wanted; raises TimeoutError with what came."""

        def find() -> News | None:
            return next((event for event in self._unread if wanted(event)), None)

        async with self._arrived:
            try:
                async with asyncio.timeout(timeout):
                    await self._arrived.wait_for(lambda: self._ended or find() is not None)
            except TimeoutError:
                pass
            event = find()
            if event is None:
                how = "ended" if self._ended else f"said none in {timeout:g} s"
                came = "\n  ".join(str(event) for event in self.seen) or "nothing"
                raise TimeoutError(f"{self._owner} {how}, waiting for {what}; it said:\n  {came}")
            self._unread.remove(event)
            return event

    def drop(self, old: Callable[[News], bool]) -> None:
        """Forget unread events: they are no news any more."""
        self._unread = [event for event in self._unread if not old(event)]
