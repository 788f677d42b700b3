"""Nothing may raise into the loop of a test, and no exception may be left that nobody took."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from hostile_wire import Scene, bothered
from loopback_phones import Pair, two_phones
from session_world import World


@pytest.fixture(autouse=True)
async def nothing_raises_into_the_loop() -> AsyncIterator[None]:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, told: complaints.append(told))
    yield
    gc.collect()
    await asyncio.sleep(0)
    assert not complaints, complaints


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.close()


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    async with two_phones() as pair:
        yield pair


@pytest.fixture
async def scene(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> AsyncIterator[Scene]:
    monkeypatch.setattr("voip.session.session.GOODBYE_S", 0.2)
    caplog.set_level(logging.INFO)
    async with bothered() as scene:
        yield scene
    faults = [record for record in caplog.records if record.exc_info or record.levelno > 30]
    assert faults == [], [record.getMessage() for record in faults]
