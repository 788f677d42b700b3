"""The virtual-time loop: ordinary asyncio programs run in it, without waiting and to the bit."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
import time
from collections.abc import AsyncIterator

import pytest

from voip.errors import SimulationError
from voip.sim import Path, World

HOUR = 3600.0


def test_an_hour_passes_without_waiting() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await asyncio.sleep(HOUR)
        return loop.time() - began

    world = World()
    began = time.process_time()
    assert world.run(main()) == HOUR
    assert world.elapsed == HOUR
    assert time.process_time() - began < HOUR / 60  # no clock is waited for


def test_timers_of_one_instant_are_due_in_the_order_in_which_they_were_set() -> None:
    order: list[int] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + 1
        handles = [loop.call_at(due, order.append, number) for number in range(1000)]
        for handle in handles[1::3]:
            handle.cancel()
        assert handles[0].when() == due
        await asyncio.sleep(2)

    World().run(main())
    assert order == [number for number in range(1000) if number % 3 != 1]


def test_many_cancelled_timers_take_no_room_and_disturb_no_other() -> None:
    async def main() -> list[int]:
        loop, fired = asyncio.get_running_loop(), list[int]()
        for number in range(5000):
            handle = loop.call_later(HOUR, fired.append, number)
            if number % 50:
                handle.cancel()
        await asyncio.sleep(2 * HOUR)
        assert len(loop._scheduled) < 200  # type: ignore[attr-defined]
        return fired

    assert World().run(main()) == list(range(0, 5000, 50))


def test_whoever_waits_for_what_nobody_does_is_told_where() -> None:
    async def waits_for_ever() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        await asyncio.create_task(waits_for_ever(), name="the one that waits")

    with pytest.raises(
        SimulationError, match=r"at 0 s everybody waits.*the one that waits at .*py"
    ):
        World().run(main())


def test_a_program_that_does_not_end_is_given_up_when_the_world_is_old_enough() -> None:
    async def main() -> None:
        while True:
            await asyncio.sleep(60)

    world = World()
    with pytest.raises(SimulationError, match=r"has not ended.*main at"):
        world.run(main(), limit_s=HOUR)
    assert world.elapsed == pytest.approx(HOUR, abs=60)


def test_what_is_left_behind_is_cancelled_and_cleaned_up_after() -> None:
    log: list[str] = []

    async def left_behind() -> None:
        try:
            await asyncio.sleep(HOUR)
        finally:
            await asyncio.sleep(1)
            log.append("cleaned up")

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            log.append("closed")

    async def main() -> str:
        asyncio.get_running_loop().create_task(left_behind())
        generator = numbers()
        await anext(generator)
        await asyncio.sleep(0)
        return "done"

    assert World().run(main()) == "done"
    assert sorted(log) == ["cleaned up", "closed"]


def test_a_world_runs_once() -> None:
    async def main() -> None: ...

    world = World()
    world.run(main())
    with pytest.raises(SimulationError, match="once"):
        world.run(main())


def test_time_outs_locks_and_queues_are_asyncio_s_own() -> None:
    async def main() -> list[object]:
        queue: asyncio.Queue[int] = asyncio.Queue(1)
        seen: list[object] = []

        async def producer() -> None:
            for number in range(3):
                await queue.put(number)
                await asyncio.sleep(10)

        async with asyncio.TaskGroup() as group:
            group.create_task(producer())
            for _ in range(3):
                seen.append(await queue.get())
        try:
            async with asyncio.timeout(5):
                await queue.get()
        except TimeoutError:
            seen.append("timed out")
        return seen

    world = World()
    assert world.run(main()) == [0, 1, 2, "timed out"]
    assert world.elapsed == 35


def test_threads_and_executors_run_in_place_and_take_no_time() -> None:
    def work(number: int) -> tuple[int, threading.Thread]:
        if number < 0:
            raise ValueError("negative")
        return number + 1, threading.current_thread()

    async def main() -> None:
        assert await asyncio.to_thread(work, 1) == (2, threading.main_thread())
        loop = asyncio.get_running_loop()
        assert (await loop.run_in_executor(None, work, 2))[0] == 3
        with pytest.raises(ValueError, match="negative"):
            await asyncio.to_thread(work, -1)

    world = World()
    world.run(main())
    assert world.elapsed == 0


def test_sets_of_tasks_and_futures_have_an_order_that_repeats() -> None:
    async def main() -> list[str]:
        loop = asyncio.get_running_loop()
        tasks = {asyncio.create_task(asyncio.sleep(1), name=str(n)) for n in range(50)}
        assert len({loop.create_future() for _ in range(50)}) == 50
        done, _ = await asyncio.wait(tasks)
        return [task.get_name() for task in done]

    first = World().run(main())
    assert first == World().run(main())
    assert sorted(first, key=int) == [str(n) for n in range(50)]


def test_a_task_that_only_waits_is_not_collected_as_garbage() -> None:
    ended: list[bool] = []

    async def waits_for_ever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async def main() -> None:
        asyncio.get_running_loop().create_task(waits_for_ever())
        await asyncio.sleep(1)
        gc.collect()
        await asyncio.sleep(1)
        assert not ended

    World().run(main())
    assert ended == [True]  # cancelled at the end


# ---------------------------------------------------------------- hosts


def test_tasks_and_callbacks_run_on_the_host_that_started_them() -> None:
    world = World()
    one, two = world.host("10.0.0.1", drift_ppm=100), world.host("10.0.0.2", drift_ppm=-100)
    told: list[float] = []

    async def main() -> None:
        began = asyncio.get_running_loop().time()

        async def on_host() -> float:
            loop = asyncio.get_running_loop()
            loop.call_later(10, lambda: told.append(loop.time() - began))
            await asyncio.create_task(asyncio.sleep(1000))
            return loop.time() - began

        ticks = await asyncio.gather(one.run(on_host()), two.run(on_host()), on_host())
        assert ticks == pytest.approx([1000, 1000, 1000])
        assert asyncio.get_running_loop().time() - began == pytest.approx(1000.1, abs=1e-4)
        with one.here():
            assert asyncio.get_running_loop().time() - began == pytest.approx(1000.2, abs=1e-4)

    world.run(main())
    assert told == pytest.approx([10, 10, 10])
    assert world.elapsed == pytest.approx(1000 / (1 - 100e-6))


def test_a_clock_of_100_ppm_is_180_ms_ahead_after_half_an_hour() -> None:
    world = World(start=1e9)
    fast = world.host("10.0.0.1", drift_ppm=100)

    async def main() -> None:
        await asyncio.sleep(1800)
        assert fast.platform.clock.wall() - 1e9 - 1800 == pytest.approx(0.18, abs=1e-4)
        with fast.here():
            ahead = asyncio.get_running_loop().time() - world.time()
        assert ahead == pytest.approx(0.18, abs=1e-6)

    world.run(main())


def test_code_on_no_host_has_no_network_and_is_told_what_to_do() -> None:
    async def main() -> None:
        await asyncio.open_connection("10.0.0.1", 80)

    with pytest.raises(SimulationError, match=r"no host.*host.run"):
        World().run(main())


# ---------------------------------------------------------------- names and UDP


class Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.transport.sendto(data.upper(), addr)  # type: ignore[attr-defined]


class Inbox(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.taken: asyncio.Queue[tuple[bytes, tuple[object, ...]]] = asyncio.Queue()
        self.errors: asyncio.Queue[Exception] = asyncio.Queue()

    def datagram_received(self, data: bytes, addr: tuple[object, ...]) -> None:
        self.taken.put_nowait((data, addr))

    def error_received(self, exc: Exception) -> None:
        self.errors.put_nowait(exc)


@pytest.mark.parametrize("version", [4, 6])
def test_datagrams_take_as_long_as_the_path_says(version: int) -> None:
    world = World(path=Path(delay_s=0.25))
    names = {4: ("10.0.0.1", "10.0.0.2"), 6: ("2001:db8::1", "2001:db8::2")}[version]
    client, server = (world.host(name) for name in names)
    world.dns.add("echo.example", names[1])

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with server.here():
            wildcard = {4: "0.0.0.0", 6: "::"}[version]
            await loop.create_datagram_endpoint(Echo, (wildcard, 7))
        with client.here():
            transport, inbox = await loop.create_datagram_endpoint(
                Inbox, remote_addr=("echo.example", 7)
            )
            family = {4: socket.AF_INET, 6: socket.AF_INET6}[version]
            assert transport.get_extra_info("socket").family == family
        transport.sendto(b"hello")
        data, source = await inbox.taken.get()
        assert (data, source[:2]) == (b"HELLO", (names[1], 7))
        assert world.elapsed == 0.5

    world.run(main())


def test_a_port_where_nobody_listens_refuses_and_one_port_is_bound_once() -> None:
    world = World(path=Path(delay_s=0.25))
    client, server = world.host("10.0.0.1"), world.host("10.0.0.2")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with client.here():
            transport, inbox = await loop.create_datagram_endpoint(
                Inbox, remote_addr=(server.address, 9)
            )
            transport.sendto(b"hello")
            assert isinstance(await inbox.errors.get(), ConnectionRefusedError)
            assert world.elapsed == 0.5
            await loop.create_datagram_endpoint(Inbox, ("0.0.0.0", 5000))
            with pytest.raises(OSError, match="in use"):
                await loop.create_datagram_endpoint(Inbox, (client.address, 5000))
            with pytest.raises(OSError, match="not an address"):
                await loop.create_datagram_endpoint(Inbox, (server.address, 5000))

    world.run(main())


def test_loopback_is_each_host_s_own() -> None:
    world = World(path=Path(loss=1.0))
    one, two = world.host("10.0.0.1"), world.host("10.0.0.2")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with one.here():
            await loop.create_datagram_endpoint(Echo, ("127.0.0.1", 7))
            transport, inbox = await loop.create_datagram_endpoint(
                Inbox, remote_addr=("localhost", 7)
            )
            transport.sendto(b"here")
            assert (await inbox.taken.get())[0] == b"HERE"
        with two.here():
            transport, inbox = await loop.create_datagram_endpoint(
                Inbox, remote_addr=("127.0.0.1", 7)
            )
            transport.sendto(b"there")
            assert isinstance(await inbox.errors.get(), ConnectionRefusedError)

    world.run(main())


def test_a_name_that_nobody_knows_is_not_found() -> None:
    world = World()
    host = world.host("10.0.0.1")

    async def main() -> None:
        with pytest.raises(socket.gaierror):
            await asyncio.open_connection("nowhere.example", 80)

    world.run(main(), on=host)
