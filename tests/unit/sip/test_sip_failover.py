"""One way after the other, and the next one while a request waits (RFC 3263 section 4.3)."""

from __future__ import annotations

import pytest

from voip.sip.failover import Failover, Sought, Way
from voip.sip.flow import Flow
from voip.sip.timers import Timers
from voip.types import Address

pytestmark = pytest.mark.rfc("3263", "4.3")

HERE = Address("192.0.2.1", 5060)
PATIENCE_S = 4.0


def flow(number: int) -> Flow:
    return Flow("udp", HERE, Address(f"192.0.2.{number}", 5060))


class Request:
    """A request that goes by flow 8 at first, and whoever looks for other ways."""

    def __init__(self, patience_s: float | None = PATIENCE_S, *, alone: bool = False) -> None:
        self.timers = Timers()
        self.searches: list[Sought] = []
        self.went: list[Flow] = []
        self.outcomes: list[str] = []
        seek = None if alone else self.searches.append
        self.failover: Failover[str] = Failover(seek, self.timers, patience_s)
        self.go(Way(flow(8)), 0.0)

    def go(self, way: Way, now: float) -> None:
        self.went.append(way.flow)
        self.failover.begin(way.flow, self.go, now)

    def fail(self, outcome: str, now: float) -> None:
        self.failover.fail(outcome, lambda said, _: self.outcomes.append(said), now)

    def found(self, number: int, now: float) -> bool:
        return self.searches[-1].found(Way(flow(number)), now)


def test_who_is_silent_is_left_for_another_and_only_then_is_one_looked_for() -> None:
    request = Request()
    request.timers.run(PATIENCE_S - 0.1)
    assert request.searches == []
    request.timers.run(PATIENCE_S)
    (search,) = request.searches
    assert (search.tried, search.left, search.failed) == ({flow(8).peer}, flow(8), False)
    assert request.found(9, 5.0)
    assert request.went == [flow(8), flow(9)]
    request.timers.run(5.0 + PATIENCE_S)
    assert request.searches[-1].tried == {flow(8).peer, flow(9).peer}


def test_who_answers_while_another_is_looked_for_is_stayed_with() -> None:
    request = Request()
    request.timers.run(PATIENCE_S)
    request.failover.hear()
    assert not request.found(9, 5.0)
    assert request.went == [flow(8)]
    request.fail("503", 6.0)  # and then it refuses: the other one is looked for again
    assert request.found(9, 7.0)
    assert request.went == [flow(8), flow(9)]


def test_who_refuses_while_another_is_looked_for_is_left_for_it() -> None:
    request = Request()
    request.timers.run(PATIENCE_S)
    request.fail("503", 4.5)
    assert len(request.searches) == 1
    assert request.found(9, 5.0)
    assert request.outcomes == []


def test_without_another_the_silent_one_is_waited_for_and_the_failed_one_is_the_outcome() -> None:
    request = Request()
    request.timers.run(PATIENCE_S)
    request.searches[0].lost(5.0)
    assert request.outcomes == []
    request.fail("408", 32.0)
    request.searches[1].lost(32.0)
    assert request.outcomes == ["408"]


def test_where_all_fail_the_first_failure_is_the_outcome() -> None:
    request = Request()
    request.fail("503", 1.0)
    request.found(9, 1.0)
    request.fail("nobody listens", 2.0)
    request.searches[-1].lost(2.0)
    assert request.outcomes == ["503"]


def test_nothing_goes_round_in_circles() -> None:
    request = Request()
    request.fail("503", 1.0)
    assert not request.found(8, 1.0)
    assert (request.went, request.outcomes) == ([flow(8)], ["503"])


def test_nothing_is_looked_for_once_it_is_over_and_what_comes_late_is_not_taken() -> None:
    request = Request()
    request.timers.run(PATIENCE_S)
    request.failover.stop()
    assert not request.found(9, 5.0)
    assert request.went == [flow(8)]
    assert len(request.timers) == 0


@pytest.mark.parametrize("alone", [True, False])
def test_nobody_silent_is_left_where_that_is_not_wanted(alone: bool) -> None:
    request = Request(PATIENCE_S if alone else None, alone=alone)
    request.timers.run(100.0)
    assert (request.searches, len(request.timers)) == ([], 0)
    if alone:
        request.fail("408", 100.0)
        assert request.outcomes == ["408"]
