"""Calls on real sockets, with a real engine: files, threads, tasks and rows are exactly back."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from pathlib import Path

import pytest

from voip import Softphone
from voip.call import Call
from voip.config import NetworkConfig
from voip.events import CallState
from voip.harness.soak.census import left_in_phone
from voip.net.driver import ThreadDriver

HOST = "127.0.0.1"
ROUNDS, AT_ONCE = 5, 8
SOUND_S = 0.1

pytestmark = pytest.mark.realtime


def open_files() -> int:
    """How much this process has open, looking included."""
    return len(list(Path("/proc/self/fd").iterdir()))


def held(phone: Softphone) -> dict[str, int]:
    """What a phone's media hold: rows, sockets, rings, files, listeners to ticks."""
    driver = phone.driver
    assert isinstance(driver, ThreadDriver)
    return {
        "streams": driver._engine.streams,  # type: ignore[attr-defined]
        "commands waiting": len(driver._waiting),
        "tick listeners": len(driver._tick_listeners),
        "rings": len(phone._stack.arena),
        "tasks": len(phone._tasks),
        "calls": len(phone.calls),
    }


async def until_nothing_is_left(phone: Softphone) -> None:
    """Wait for what goes on by itself after a call: the last figures, and its files."""
    async with asyncio.timeout(5):
        while any(held(phone).values()):
            await asyncio.sleep(0.01)


async def test_forty_calls_with_sound_leave_files_threads_tasks_and_rows_as_they_were(
    tmp_path: Path,
) -> None:
    alive: weakref.WeakSet[Call] = weakref.WeakSet()
    gc.collect()
    before = open_files(), threading.active_count(), len(asyncio.all_tasks())

    def phone(name: str) -> Softphone:
        network = NetworkConfig(bind_host=HOST)
        return Softphone(f"sip:{name}@{HOST}", register=False, network=network)

    async with phone("alice") as alice, phone("bob") as bob:

        @bob.on_incoming
        async def answer(call: Call) -> None:
            alive.add(call)
            await call.answer()
            await call.echo()
            await call.wait_ended()

        async def call(number: int) -> None:
            call = await alice.dial(f"sip:bob@{HOST}:{bob.port}")
            alive.add(call)
            async with call, call.record(tmp_path / f"{number}.wav"):
                assert (await call.audio().read(SOUND_S)).size

        seen: list[tuple[int, int, int]] = []
        for first in range(0, ROUNDS * AT_ONCE, AT_ONCE):
            async with asyncio.TaskGroup() as group:
                for number in range(first, first + AT_ONCE):
                    group.create_task(call(number))
            for one in (alice, bob):
                await until_nothing_is_left(one)
            gc.collect()
            seen.append((open_files(), threading.active_count(), len(asyncio.all_tasks())))
            assert list(alive) == []
        assert len(set(seen)) == 1, seen
        left = {**left_in_phone(alice), **left_in_phone(bob)}
        # both sides' transactions wait for what may come again (RFC 3261 section 17), and no more
        assert set(left) <= {"transactions", "timers"}, left
    gc.collect()
    assert (open_files(), threading.active_count(), len(asyncio.all_tasks())) == before
    assert len(list(tmp_path.iterdir())) == ROUNDS * AT_ONCE


async def test_closing_in_the_middle_of_calls_leaves_nothing_open() -> None:
    gc.collect()
    before = open_files(), threading.active_count(), len(asyncio.all_tasks())
    network = NetworkConfig(bind_host=HOST)
    async with Softphone(f"sip:bob@{HOST}", register=False, network=network) as bob:

        @bob.on_incoming
        async def answer(call: Call) -> None:
            await call.answer()
            await call.echo()
            await call.wait_ended()

        alice = Softphone(f"sip:alice@{HOST}", register=False, network=network)
        await alice.start()
        dialled = [alice.dial(f"sip:bob@{HOST}:{bob.port}") for _ in range(AT_ONCE)]
        calls = await asyncio.gather(*dialled)
        readers = [asyncio.ensure_future(call.audio().read(60)) for call in calls]
        await asyncio.sleep(0)
        await alice.close()
        assert {call.state for call in calls} == {CallState.ENDED}
        assert len(await asyncio.gather(*readers)) == AT_ONCE
        await until_nothing_is_left(bob)
    gc.collect()
    assert (open_files(), threading.active_count(), len(asyncio.all_tasks())) == before
