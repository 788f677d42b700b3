"""What runs an engine, as the control plane sees it: a thread in `net`, virtual time in `sim`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from voip.media.commands import Command, EngineEvent, Opened, StreamStats
from voip.media.stats import StatsSnapshot

__all__ = ["EngineDriver", "TickingEngine"]


class TickingEngine(Protocol):
    """What a driver needs of an engine. `submit` may be called from any thread."""

    @property
    def snapshot(self) -> StatsSnapshot | None:
        """The figures of all streams, once a second anew."""
        ...

    def tick(self, now: float, wall: float) -> bool:
        """Apply commands, run every row that is due; True when there are events to fetch."""
        ...

    def next_due(self) -> float | None:
        """Return the monotonic time of the next step; None: no stream is open."""
        ...

    def submit(self, command: Command) -> int:
        """Queue a command and return its token; raises `MediaError` when the queue is full."""
        ...

    def events(self) -> list[EngineEvent]:
        """Return what happened since the last call."""
        ...


class EngineDriver(Protocol):
    """Runs one engine and carries commands to it and events from it, in one asyncio loop.

    Everything but the ticks happens in the loop: callbacks are called there, in the order in
    which they were registered, and one that raises is logged and disturbs nobody.
    """

    def start(self) -> None:
        """Begin to tick. Called in the running loop."""
        ...

    async def close(self) -> None:
        """Stop ticking and release every stream; commands still waiting raise `MediaError`."""
        ...

    async def apply(self, command: Command) -> Opened | StreamStats | None:
        """Queue a command and return its result once a tick has applied it.

        Raises `MediaError` with the engine's words when it was refused. A caller that is
        cancelled has still queued its command.
        """
        ...

    def post(self, command: Command) -> None:
        """Queue a command and do not wait for it; a refusal is logged."""
        ...

    def stats(self, stream: int) -> StreamStats | None:
        """Return figures of a stream at most a second old, None where there are none yet."""
        ...

    def subscribe(self, callback: Callable[[EngineEvent], None]) -> Callable[[], None]:
        """Call back for every event that answers no command; return how to stop that."""
        ...

    def on_tick(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back once after each tick (for readers of rings); return how to stop that."""
        ...
