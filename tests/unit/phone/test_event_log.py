"""What happened: told in order, to those who come late too, and forgotten where that is asked."""

from __future__ import annotations

import asyncio

from voip.session.event_log import EventLog


async def heard(log: EventLog[str], number: int = 0) -> list[str]:
    return [event async for event in log.follow(number)]


async def test_what_is_forgotten_is_not_told_and_all_else_keeps_its_number() -> None:
    log: EventLog[str] = EventLog(limit=4)
    early = asyncio.create_task(heard(log))
    for event in "abcde":
        log.add(event)
        await asyncio.sleep(0)
    log.forget("c")
    log.forget("a")  # which has fallen out already
    assert list(log) == ["b", "d", "e"]
    assert (len(log), await log.next(2), await log.next(3)) == (5, ("d", 4), ("d", 4))
    late = asyncio.create_task(heard(log, 1))
    await asyncio.sleep(0)
    log.add("f")
    log.end()
    assert await early == ["a", "b", "c", "d", "e", "f"]
    assert await late == ["b", "d", "e", "f"]


async def test_who_waits_for_what_is_forgotten_waits_for_the_next() -> None:
    log: EventLog[str] = EventLog()
    log.add("a")
    log.forget("a")
    waiting = asyncio.create_task(log.next(0))
    await asyncio.sleep(0)
    assert not waiting.done()
    log.add("b")
    assert await waiting == ("b", 2)
