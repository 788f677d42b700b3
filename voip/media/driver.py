"""What runs an engine, as the control plane sees it: a thread in `net`, virtual time in `sim`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from voip.media.answers import Answer, EngineEvent, StreamStats
from voip.media.commands import Command
from voip.media.stats import StatsSnapshot

__all__ = ["EngineDriver", "EngineFigures", "TickFigures", "TickingEngine"]


@dataclass(frozen=True, slots=True)
class TickFigures:
    """Ticks since the start; `late` and `failed` as `voip.net.driver.TickTimes` counts them.

    lateness_s: float64 (ticks, 2), when the latest of them began and were done after they were due.
    """

    count: int
    late: int
    failed: int
    lateness_s: npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class EngineFigures:
    """What an engine and what runs it have counted; nothing is counted for who asks.

    snapshot: the figures of all streams, others' too where phones share the engine. ticks: None
    where they are not of a clock. io: what went wrong with packets since the start, by kind.
    streams: how many are open.
    """

    snapshot: StatsSnapshot | None = None
    ticks: TickFigures | None = None
    io: Mapping[str, int] = field(default_factory=dict)
    streams: int = 0


class TickingEngine(Protocol):
    """What a driver needs of an engine. `submit` may be called from any thread."""

    @property
    def snapshot(self) -> StatsSnapshot | None:
        """The figures of all streams, once a second anew."""
        ...

    @property
    def streams(self) -> int:
        """Streams that are open."""
        ...

    @property
    def pending(self) -> bool:
        """Whether a command waits for a tick."""
        ...

    def tick(self, now: float, wall: float) -> bool:
        """Apply commands, run every row that is due; True when there are events to fetch."""
        ...

    def next_due(self) -> float | None:
        """Return when to tick next, monotonic; None: no stream is open.

        Before the next step only packets are to be looked for.
        """
        ...

    def next_step(self) -> float | None:
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

    async def apply(self, command: Command) -> Answer:
        """Queue a command and return its result once a tick has applied it.

        Raises `MediaError` with the engine's words when it was refused. A caller that is
        cancelled has still queued its command.
        """
        ...

    def post(self, command: Command) -> None:
        """Queue a command and do not wait for it; who has subscribed is told of a refusal."""
        ...

    def stats(self, stream: int) -> StreamStats | None:
        """Return figures of a stream at most a second old, None where there are none yet."""
        ...

    def figures(self, since_tick: int = 0) -> EngineFigures:
        """Return what has been counted; the lateness of ticks from number `since_tick` on."""
        ...

    def subscribe(self, callback: Callable[[EngineEvent], None]) -> Callable[[], None]:
        """Call back for every event that nobody waits for; return how to stop that."""
        ...

    def on_tick(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back once after each tick (for readers of rings); return how to stop that."""
        ...
