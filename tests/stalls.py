"""Sound is judged where there was time for it: calls are repeated when the machine stood still.

Both ends of a call run beside other tests here. When nothing at all runs for longer than the jitter
buffers hold, there is a hole, and it is nobody's. A test that fails after such a stall is run
again; one that fails without is not.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Awaitable, Callable
from typing import ParamSpec

P = ParamSpec("P")

STEP_S = 0.010
STALL_S = 0.100
"""Half of what the jitter buffers hold (`phones.JITTER_MS`): two such stalls may meet."""
ATTEMPTS = 3


class Stalls:
    """Measures how long a thread of this process, which only sleeps, was kept from running."""

    def __init__(self) -> None:
        self.longest_s = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="stalls", daemon=True)

    def __enter__(self) -> Stalls:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        before = time.monotonic()
        while not self._over.wait(STEP_S):
            now = time.monotonic()
            self.longest_s = max(self.longest_s, now - before - STEP_S)
            before = now


def repeated_after_stalls(
    test: Callable[P, Awaitable[None]], watch: Callable[[], Stalls] = Stalls
) -> Callable[P, Awaitable[None]]:
    """Run a test up to three times while it fails and the machine stood still meanwhile."""

    @functools.wraps(test)
    async def run(*args: P.args, **kwargs: P.kwargs) -> None:
        for attempt in range(1, ATTEMPTS + 1):
            with watch() as stalls:
                try:
                    await test(*args, **kwargs)
                    return
                except AssertionError as error:
                    failure = error
            said = f"attempt {attempt}: nothing ran for {1000 * stalls.longest_s:.0f} ms"
            failure.add_note(said)
            if stalls.longest_s < STALL_S or attempt == ATTEMPTS:
                raise failure
            print(f"{said}\n{failure}")

    return run
