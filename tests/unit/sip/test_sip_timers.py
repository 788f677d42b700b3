from __future__ import annotations

from voip.sip.timers import Timers
from voip.types import SeededRandom


def test_timers_fire_in_order_and_once() -> None:
    timers = Timers()
    fired: list[str] = []
    timers.start(2.0, lambda now: fired.append(f"b{now}"))
    timers.start(1.0, lambda now: fired.append(f"a{now}"))
    timers.start(2.0, lambda now: fired.append(f"c{now}"))
    assert timers.next() == 1.0
    timers.run(0.5)
    assert fired == []
    timers.run(2.0)
    timers.run(3.0)
    assert fired == ["a2.0", "b2.0", "c2.0"]
    assert timers.next() is None
    assert len(timers) == 0


def test_a_cancelled_timer_never_fires_and_is_not_waited_for() -> None:
    timers = Timers()
    fired: list[float] = []
    first = timers.start(1.0, fired.append)
    timers.start(2.0, fired.append)
    first.cancel()
    first.cancel()
    assert len(timers) == 1
    assert timers.next() == 2.0
    timers.run(5.0)
    assert fired == [5.0]
    first.cancel()
    assert len(timers) == 0


def test_a_timer_may_start_and_cancel_others_while_firing() -> None:
    timers = Timers()
    fired: list[str] = []
    victim = timers.start(1.5, lambda now: fired.append("victim"))

    def first(now: float) -> None:
        fired.append("first")
        victim.cancel()
        timers.start(now, lambda at: fired.append("second"))

    timers.start(1.0, first)
    timers.run(2.0)
    assert fired == ["first", "second"]
    assert len(timers) == 0


def test_cancelled_timers_do_not_pile_up() -> None:
    timers = Timers()
    for at in range(10_000):
        timers.start(float(at), lambda now: None).cancel()
    assert len(timers) == 0
    assert len(timers._heap) < 200


def test_any_mixture_fires_exactly_what_was_not_cancelled() -> None:
    random = SeededRandom(3)
    timers = Timers()
    fired: list[int] = []
    expected: list[tuple[float, int]] = []
    running = []
    for number in range(2_000):
        at = random.uniform(0, 100)
        running.append((timers.start(at, lambda now, n=number: fired.append(n)), at, number))
        if random.below(3) == 0:
            timer, at, number = running.pop(random.below(len(running)))
            timer.cancel()
    expected = sorted((at, number) for _, at, number in running)
    assert len(timers) == len(expected) > 1_000
    timers.run(100.0)
    assert fired == [number for _, number in expected]
