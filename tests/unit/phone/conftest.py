"""Nothing may raise into the loop of a test, and no exception may be left that nobody took."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
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
