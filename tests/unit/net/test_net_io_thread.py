"""IoThread: files are served, and one that fails harms nobody."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable

import pytest

from voip.net.io_thread import IoThread


class Counted:
    def __init__(self, fail: bool = False) -> None:
        self.served = 0
        self.threads: set[str] = set()
        self.fail = fail

    def service(self, now: float) -> None:
        assert now > 0
        self.served += 1
        self.threads.add(threading.current_thread().name)
        if self.fail:
            raise OSError("disk full")


async def _until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


async def test_everything_is_served_again_and_again_in_one_thread() -> None:
    files = IoThread(interval_s=0.002, name="files")
    one, other = Counted(), Counted()
    files.add(one)
    files.add(other)
    await _until(lambda: one.served >= 3 and other.served >= 3)
    assert one.threads == other.threads == {"files"}
    await files.close()


async def test_one_that_raises_is_told_and_dropped_and_the_others_go_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    files = IoThread(interval_s=0.002)
    bad, good = Counted(fail=True), Counted()
    told: list[Exception] = []
    with caplog.at_level(logging.ERROR):
        files.add(bad, told.append)
        files.add(good)
        await _until(lambda: good.served >= 5)
    assert bad.served == 1
    assert [str(error) for error in told] == ["disk full"]
    assert "disk full" in caplog.text
    await files.remove(bad)  # nothing to wait for
    await files.close()


async def test_what_is_removed_is_served_once_more_and_then_never() -> None:
    files = IoThread(interval_s=30.0)
    one, other = Counted(), Counted()
    files.add(one)
    files.add(other)
    await _until(lambda: one.served and other.served)
    before = one.served
    await files.remove(one)
    after = one.served
    assert after > before
    await files.remove(other)
    assert one.served == after
    await files.close()


async def test_the_thread_lives_while_there_is_something_to_serve() -> None:
    threads = threading.active_count()
    files = IoThread(interval_s=0.002)
    assert threading.active_count() == threads
    for _ in range(3):
        one = Counted()
        files.add(one)
        await _until(lambda one=one: one.served)
        await files.remove(one)
        await _until(lambda: threading.active_count() == threads)
    last = Counted()
    files.add(last)
    await files.close()
    assert last.served >= 1
    assert threading.active_count() == threads
    files.add(last)
    assert threading.active_count() == threads
    await files.close()


async def test_two_may_wait_for_the_same_removal() -> None:
    files = IoThread(interval_s=30.0)
    one = Counted()
    files.add(one)
    await asyncio.gather(files.remove(one), files.remove(one), files.close())
    assert one.served >= 1


async def test_the_last_thing_is_done_in_the_thread_and_what_it_raises_is_told() -> None:
    """It may wait for a disk: the loop goes on meanwhile."""
    files = IoThread(interval_s=0.002, name="files")
    slow, broken, failed = Counted(), Counted(), Counted(fail=True)
    for one in (slow, broken, failed):
        files.add(one)
    went_on = threading.Event()
    where: list[str] = []

    def wait() -> None:
        assert went_on.wait(5)
        where.append(threading.current_thread().name)

    def fail() -> None:
        raise OSError("disk full")

    leaving = asyncio.ensure_future(files.remove(slow, wait))
    await asyncio.sleep(0.02)
    assert not leaving.done()
    went_on.set()
    await leaving
    assert where == ["files"]
    with pytest.raises(OSError, match="disk full"):
        await files.remove(broken, fail)
    await _until(lambda: failed.served)
    await files.remove(failed, lambda: where.append("here"))
    assert where == ["files", "here"]
    await files.close()
