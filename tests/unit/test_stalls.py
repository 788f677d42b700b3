"""When a test may be repeated, and when not."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import pytest
from stalls import STALL_S, Stalls, repeated_after_stalls


class Measured(Stalls):
    """A machine that stood still for as long as it is told."""

    def __init__(self, longest_s: float) -> None:
        super().__init__()
        self._said_s = longest_s

    def _watch(self) -> None:
        self.longest_s = self._said_s


def failing(times: int, longest_s: float) -> tuple[list[int], Callable[[int], Awaitable[None]]]:
    """A test that fails so many times, and the list of its runs."""
    runs: list[int] = []

    async def test(number: int) -> None:
        runs.append(number)
        assert len(runs) > times, "a hole in the sound"

    return runs, repeated_after_stalls(test, lambda: Measured(longest_s))


@pytest.mark.parametrize(("times", "runs"), [(0, 1), (1, 2), (2, 3)])
async def test_a_failure_after_a_stall_is_repeated(times: int, runs: int) -> None:
    ran, test = failing(times, STALL_S)
    await test(7)
    assert ran == [7] * runs


@pytest.mark.parametrize(("longest_s", "runs"), [(STALL_S, 3), (STALL_S / 2, 1)])
async def test_a_failure_without_a_stall_or_again_and_again_is_a_failure(
    longest_s: float, runs: int
) -> None:
    ran, test = failing(9, longest_s)
    with pytest.raises(AssertionError, match="a hole in the sound"):
        await test(7)
    assert ran == [7] * runs


def test_a_stall_is_what_keeps_other_threads_from_running() -> None:
    with Stalls() as stalls:
        time.sleep(0.05)
        sum(range(10_000_000))  # one call, 0.1 s and more, that lets no other thread run
        time.sleep(0.05)
    assert stalls.longest_s > 0.03
