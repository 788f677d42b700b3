"""Alice and Bob: two softphones on loopback, or on one host of a simulated world."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeAlias

import numpy as np

from voip.call import Call
from voip.config import NetworkConfig
from voip.net.driver import ThreadDriver
from voip.net.workers import Workers
from voip.phone import Softphone
from voip.sim import World

HERE = NetworkConfig(bind_host="127.0.0.1")


def phone(**settings: object) -> Softphone:
    return Softphone(network=HERE, **settings)  # type: ignore[arg-type]


def engine_thread(of: Softphone) -> ThreadDriver:
    """Return what runs the phone's engine while it has few calls."""
    driver = of._driver
    assert isinstance(driver, Workers)
    (thread,) = driver.drivers
    assert isinstance(thread, ThreadDriver)
    return thread


def uri(of: Softphone, user: str = "bob") -> str:
    return f"sip:{user}@127.0.0.1:{of.port}"


Pair: TypeAlias = tuple[Softphone, Softphone, asyncio.Queue[Call]]


@asynccontextmanager
async def two_phones(**settings: object) -> AsyncIterator[Pair]:
    """Alice, Bob, and the calls that come to Bob; he answers what he takes from the queue."""
    calls: asyncio.Queue[Call] = asyncio.Queue()
    done = asyncio.Event()
    async with phone(**settings) as alice, phone(**settings) as bob:

        @bob.on_incoming
        async def taken(call: Call) -> None:
            await calls.put(call)
            await done.wait()

        yield alice, bob, calls
        done.set()


def virtually(story: Callable[[Pair, Path], Awaitable[None]]) -> Callable[[Path], None]:
    """Let a test run on a host of a simulated world, where nothing waits, with two phones there."""

    async def main(path: Path) -> None:
        async with two_phones() as pair:
            await story(pair, path)

    def test(tmp_path: Path) -> None:
        world = World()
        world.run(main(tmp_path), on=world.host("192.0.2.1"))

    return test


async def up(pair: Pair) -> tuple[Call, Call]:
    alice, bob, calls = pair
    dialling = asyncio.create_task(alice.dial(uri(bob)))
    theirs = await calls.get()
    await theirs.answer()
    return await dialling, theirs


def tone(seconds: float, hz: float = 440.0) -> np.ndarray:
    t = np.arange(int(8000 * seconds)) / 8000
    return (8000 * np.sin(2 * np.pi * hz * t)).astype(np.int16)
