"""What goes on beside a phone: handlers of calls, and work that nobody waits for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

__all__ = ["Tasks"]

log = logging.getLogger(__name__)

HANDLERS_S = 1.0
"""How long closing waits for handlers of calls to end by themselves, and when cancelled again."""


class Tasks:
    """The tasks of one phone; one that fails is logged."""

    def __init__(self) -> None:
        self._tasks: dict[asyncio.Task[None], None] = {}  # in order: a simulation repeats

    def __len__(self) -> int:
        return len(self._tasks)

    def __contains__(self, task: object) -> bool:
        return task in self._tasks

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Let it run in the running loop."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[task] = None
        task.add_done_callback(self._done)

    async def wait(self) -> None:
        """Return when all but the running one have ended, or have had time for it."""
        if tasks := self._others():
            await asyncio.wait(tasks, timeout=HANDLERS_S)

    async def cancel(self) -> None:
        """Cancel all but the running one."""
        tasks = self._others()
        for task in tasks:
            task.cancel()
        if tasks:
            _, stubborn = await asyncio.wait(tasks, timeout=HANDLERS_S)
            for task in stubborn:
                log.error("%s goes on though it was cancelled", task.get_coro())

    def _others(self) -> list[asyncio.Task[None]]:
        current = asyncio.current_task()
        return [task for task in self._tasks if task is not current]

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled() and task.exception() is not None:
            log.error("%s failed", task.get_coro(), exc_info=task.exception())
