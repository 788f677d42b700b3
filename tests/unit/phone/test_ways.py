"""One way after the other, and the next one while a request waits (RFC 3263 section 4.3)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

import pytest

from voip.ways import Ways

pytestmark = pytest.mark.rfc("3263", "4.3")


@dataclass
class Request:
    """What `Ways` sees of one."""

    heard: bool = False


class Search:
    """Two ways, of which the second takes as long as its connection."""

    def __init__(self) -> None:
        self.connected = asyncio.Event()
        self.ended = False

    async def found(self) -> AsyncGenerator[Any]:
        try:
            yield "first"
            await self.connected.wait()
            yield "second"
        finally:
            self.ended = True


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_the_next_way_is_found_for_a_request_that_nobody_answers() -> None:
    search, request = Search(), Request()
    ways = Ways(search.found(), 0.0)
    assert await ways.next() == "first"
    leading = asyncio.ensure_future(ways.lead_around(request))  # type: ignore[arg-type]
    await turns()
    search.connected.set()
    assert await leading is True
    assert await ways.next() == "second"
    assert await ways.next() is None


async def test_who_answers_while_the_next_one_is_connected_is_stayed_with() -> None:
    search, request = Search(), Request()
    ways = Ways(search.found(), 0.0)
    await ways.next()
    leading = asyncio.ensure_future(ways.lead_around(request))  # type: ignore[arg-type]
    await turns()
    request.heard = True
    search.connected.set()
    assert await leading is False
    assert await ways.next() == "second"  # and is there when the answer is 503


async def test_a_refusal_while_the_next_one_is_connected_loses_no_way() -> None:
    search, request = Search(), Request()
    ways = Ways(search.found(), 0.0)
    await ways.next()
    leading = asyncio.ensure_future(ways.lead_around(request))  # type: ignore[arg-type]
    await turns()
    leading.cancel()
    following = asyncio.ensure_future(ways.next())
    await turns()
    search.connected.set()
    assert await following == "second"


async def test_nothing_is_looked_for_any_more_once_it_is_over() -> None:
    search, request = Search(), Request()
    ways = Ways(search.found(), 0.0)
    await ways.next()
    leading = asyncio.ensure_future(ways.lead_around(request))  # type: ignore[arg-type]
    await turns()
    leading.cancel()
    await ways.aclose()
    assert search.ended
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize(("heard", "failover_s"), [(True, 0.0), (False, None)])
async def test_nobody_is_left_who_has_answered_or_where_it_is_not_wanted(
    heard: bool, failover_s: float | None
) -> None:
    search = Search()
    ways = Ways(search.found(), failover_s)
    await ways.next()
    assert await ways.lead_around(Request(heard)) is False  # type: ignore[arg-type]
    await ways.aclose()
