"""Between two ticks a driver sleeps, or waits for packets that are to go on at once."""

from __future__ import annotations

import time
from collections.abc import Callable

from voip.media.driver import TickingEngine

__all__ = ["sleep_until_due"]


def sleep_until_due(engine: TickingEngine, wait: Callable[[float], None] | None) -> float | None:
    """Sleep until a tick is due and return its deadline; None, at once: no stream is open.

    `wait` returns when a packet has come, or after so many seconds. Where packets are to be looked
    for before the next step, a tick is due when one has come, and not before it was due anyway: so
    that there are no more ticks of many packets than of none, and hardly any where none come.
    """
    due, step = engine.next_due(), engine.next_step()
    if due is None or step is None:
        return due
    remaining = due - time.monotonic()
    if remaining > 0:
        time.sleep(remaining)
    if wait is None or due >= step:
        return due
    remaining = step - time.monotonic()
    if remaining > 0:
        wait(remaining)
    return min(step, time.monotonic())
