"""Calls on real sockets, with a real engine: files, threads, tasks and rows are exactly back."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
import weakref
from itertools import count
from pathlib import Path

import pytest
from callers import echo
from loopback_phones import engine_thread, phone, tone, uri

from voip import Softphone
from voip.call import Call
from voip.errors import CallError
from voip.events import CallState
from voip.harness.soak.census import left_in_phone

ROUNDS, AT_ONCE = 5, 8
SOUND_S = 0.1

pytestmark = pytest.mark.realtime


def in_use() -> tuple[int, int, int]:
    """How many files, looking included, threads and tasks this process has."""
    files = len(list(Path("/proc/self/fd").iterdir()))
    return files, threading.active_count(), len(asyncio.all_tasks())


def held(phone: Softphone) -> dict[str, int]:
    """What a phone's media hold: rows, sockets, rings, files, listeners to ticks."""
    driver = engine_thread(phone)
    return {
        "streams": driver._engine.streams,  # type: ignore[attr-defined]
        "commands waiting": len(driver._listeners._waiting),
        "tick listeners": len(driver._listeners._ticks),
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
    before = in_use()

    async with phone() as alice, phone() as bob:

        @bob.on_incoming
        async def answer(call: Call) -> None:
            alive.add(call)
            await call.answer()
            await call.echo()
            await call.wait_ended()

        async def call(number: int) -> None:
            call = await alice.dial(uri(bob))
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
            seen.append(in_use())
            assert list(alive) == []
        assert len(set(seen)) == 1, seen
        left = {**left_in_phone(alice), **left_in_phone(bob)}
        # both sides' transactions wait for what may come again (RFC 3261 section 17), and no more
        assert set(left) <= {"transactions", "timers"}, left
    gc.collect()
    assert in_use() == before
    assert len(list(tmp_path.iterdir())) == ROUNDS * AT_ONCE


async def test_closing_in_the_middle_of_calls_leaves_nothing_open() -> None:
    gc.collect()
    before = in_use()
    async with phone() as bob:
        bob.on_incoming(echo)
        alice = phone()
        await alice.start()
        dialled = [alice.dial(uri(bob)) for _ in range(AT_ONCE)]
        calls = await asyncio.gather(*dialled)
        readers = [asyncio.ensure_future(call.audio().read(60)) for call in calls]
        await asyncio.sleep(0)
        await alice.close()
        assert {call.state for call in calls} == {CallState.ENDED}
        assert len(await asyncio.gather(*readers)) == AT_ONCE
        await until_nothing_is_left(bob)
    gc.collect()
    assert in_use() == before


async def test_nothing_is_left_when_a_phone_closes(tmp_path: Path):
    numbers = count()

    async def round_of_calls() -> None:
        async with phone(pcap=tmp_path / "x.pcap") as alice, phone() as bob:

            @bob.on_incoming
            async def taken(call: Call) -> None:
                await call.answer()
                async with call.record(tmp_path / f"{next(numbers)}.wav"):
                    await call.wait_ended()

            calls = await asyncio.gather(*(alice.dial(uri(bob)) for _ in range(10)))
            await asyncio.gather(*(call.play(tone(0.1)) for call in calls))
            for call in calls[:5]:
                await call.hangup()
            engines = [engine_thread(one)._engine for one in (alice, bob)]
            arenas = [alice._stack.arena, bob._stack.arena]
            agents = [alice._agent, bob._agent]
            stacks = [alice._stack, bob._stack]
        assert [engine.streams for engine in engines] == [0, 0]
        assert [len(arena) for arena in arenas] == [0, 0]
        assert [len(stack.sessions) for stack in stacks] == [0, 0]
        assert [agent.dialogs for agent in agents] == [[], []]

    await round_of_calls()  # what is loaded lazily is loaded
    gc.collect()
    before = in_use()
    for _ in range(3):
        await round_of_calls()
    gc.collect()
    assert in_use() == before


async def test_closing_in_the_middle_of_everything_leaves_nothing(tmp_path: Path):
    gc.collect()
    before = in_use()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
        deaf.bind(("127.0.0.1", 0))
        alice, bob = phone(), phone()
        await alice.start()
        await bob.start()

        @bob.on_incoming
        async def taken(call: Call) -> None:
            await call.ring()
            await asyncio.Event().wait()

        waiting = [
            asyncio.create_task(alice.dial(f"sip:x@127.0.0.1:{deaf.getsockname()[1]}")),
            asyncio.create_task(alice.dial(uri(bob))),
        ]
        await asyncio.sleep(0.1)
        await asyncio.gather(alice.close(), bob.close())
        ended = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(error, CallError) for error in ended), ended
    gc.collect()
    assert in_use() == before
