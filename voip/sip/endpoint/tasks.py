"""Telling two kinds of cancellation apart."""

from __future__ import annotations

import asyncio

__all__ = ["is_cancelled"]


def is_cancelled() -> bool:
    """Whether it is the running task that has been cancelled, and not only what it awaited."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
