"""Where other ways are looked for, for a request within a dialog (RFC 3263 section 4.3)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection
from types import SimpleNamespace
from typing import Any

import pytest

from voip.errors import TransportError
from voip.sip.dialog import Dialog
from voip.sip.failover import Sought, Way
from voip.sip.flow import Flow, Peer
from voip.sip.headers import NameAddr
from voip.sip.locating import Where
from voip.types import Address
from voip.ways import look_up_within

pytestmark = pytest.mark.rfc("3263", "4.3")

HERE, THERE, OTHER = (f"192.0.2.{number}" for number in (1, 8, 9))


def flow(transport: str, host: str) -> Flow:
    return Flow(transport, Address(HERE, 5060), Address(host, 5060))


class Desk:
    """A phone's desk, as far as looking for ways goes: the DNS leads to what `found` has."""

    def __init__(self, *found: Flow) -> None:
        self.found = found
        self.asked: list[Where] = []
        self.avoided: list[Flow] = []
        self.flushes = 0
        self.work: list[Any] = []
        self.stack = SimpleNamespace(signalling=self)

    def spawn(self, work: Any) -> None:
        self.work.append(work)

    def now(self) -> float:
        return 7.0

    def flush(self) -> None:
        self.flushes += 1

    def avoid(self, flow: Flow) -> None:
        self.avoided.append(flow)

    async def flows(self, where: Where, *, without: Collection[Peer]) -> AsyncGenerator[Flow]:
        self.asked.append(where)
        found = [one for one in self.found if one.peer not in without]
        if not found:
            raise TransportError("nobody is there")
        for one in found:
            yield one


async def look(
    desk: Desk, left: Flow, target: str, *, failed: bool = False, taken: bool = True
) -> Way | None:
    who = NameAddr.parse("<sip:bob@pbx.example>;tag=1")
    dialog = Dialog("call", who, who, target, (), True, left, "<sip:alice@192.0.2.1>")
    ends: list[Way | None] = []

    def found(way: Way, now: float) -> bool:
        ends.append(way)
        return taken

    tried = frozenset({left.peer})
    sought = Sought(tried, left, failed, 7.0, found, lambda now: ends.append(None))
    look_up_within(desk, dialog, sought)  # type: ignore[arg-type]
    await asyncio.gather(*desk.work)
    assert desk.flushes == 1
    (end,) = ends
    return end


async def test_the_next_hop_is_looked_up_without_what_was_tried() -> None:
    first, second = flow("udp", THERE), flow("udp", OTHER)
    desk = Desk(first, second)
    assert await look(desk, first, "sip:bob@pbx.example") == Way(second)
    assert desk.asked == [Where("pbx.example", None, None, False)]
    assert desk.avoided == [first]


async def test_one_that_answers_meanwhile_is_not_avoided_and_one_that_failed_is() -> None:
    first, second = flow("udp", THERE), flow("udp", OTHER)
    desk = Desk(first, second)
    await look(desk, first, "sip:bob@pbx.example", taken=False)
    assert desk.avoided == []
    await look(desk := Desk(first), first, "sip:bob@pbx.example", failed=True)
    assert desk.avoided == [first]


async def test_without_another_address_there_is_no_other_way() -> None:
    first = flow("udp", THERE)
    assert await look(Desk(first), first, "sip:bob@pbx.example;transport=udp") is None
    assert await look(Desk(first), first, "tel:+4930123") is None


async def test_what_went_by_tls_goes_on_by_tls_only() -> None:
    first, plain, secure = flow("tls", THERE), flow("tcp", OTHER), flow("tls", OTHER)
    desk = Desk(first, plain, secure)
    assert await look(desk, first, "sip:bob@pbx.example") == Way(secure)
    assert desk.asked == [Where("pbx.example", None, "tls", False)]
    assert await look(Desk(first, plain), first, "sip:bob@pbx.example;transport=tcp") is None
    desk = Desk(first, secure)
    assert await look(desk, first, "sips:bob@pbx.example") == Way(secure)
    assert desk.asked == [Where("pbx.example", None, "tls", True)]
