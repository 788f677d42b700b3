"""A peer from whom nothing comes any more: what an engine tells of it, and when."""

from __future__ import annotations

import pytest
from engine_desk import describe, speech

from voip.media.answers import MediaHeard, MediaSilent
from voip.media.commands import WatchStream
from voip.rtp.rtcp import SenderReport, build_compound
from voip.types import Address


def test_a_peer_from_whom_nothing_comes_is_told_of_every_five_seconds(desk):
    desk.call()
    desk.run(16)
    assert [round(event.seconds) for event in desk.of(MediaSilent)] == [5, 10, 15]


def report(sequence: int = 0) -> bytes:
    return build_compound([SenderReport(0xABCD, sequence << 32, 0, 1, 160)])


def test_a_silence_is_told_in_time_again_and_again_and_when_it_is_over(desk):
    desk.call()
    desk.run(3)
    desk.do(WatchStream(1, 1.5))  # counted from now
    desk.run(100.0)
    told = desk.of(MediaSilent)
    assert len(told) == 66
    for times, event in enumerate(told, 1):
        assert times * 1.5 <= event.seconds <= times * 1.5 + 0.12
    assert desk.of(MediaHeard) == []
    desk.say(speech(0.1))
    desk.run(0.3)
    assert desk.of(MediaHeard) == [MediaHeard(1)]
    desk.run(1.5)
    assert 1.5 <= desk.of(MediaSilent)[-1].seconds <= 1.62


def test_who_reports_is_not_silent_and_who_has_missed_five_reports_is_gone(desk):
    desk.call()
    for n in range(20):
        desk.put(report(n), rtcp=True, at=desk.now + 4 * n)
    desk.run(19 * 4 + 0.1)
    assert desk.of(MediaSilent) == []
    desk.run(31)
    told = [(round(event.seconds), event.reports_stopped) for event in desk.of(MediaSilent)]
    assert told == [(5, False), (10, False), (15, False), (20, False), (25, True), (30, True)]


@pytest.mark.parametrize(("reports", "told"), [(0, []), (1, []), (2, [25, 30]), (5, [25, 30])])
def test_who_is_not_to_be_heard_is_missed_if_it_has_reported_since(desk, reports, told):
    """A report that crosses the hold says nothing of what is to come."""
    desk.call()
    for _ in range(3):
        desk.put(report(), rtcp=True)
    desk.run(1)
    desk.do(describe(receive=False))
    for n in range(reports):
        desk.put(report(n), rtcp=True, at=desk.now + n)
    desk.run(reports + 32)
    assert [round(event.seconds) for event in desk.of(MediaSilent)] == told
    assert all(event.reports_stopped for event in desk.of(MediaSilent))


def test_nobody_is_missed_where_nothing_is_to_come(desk):
    desk.call()
    desk.do(describe(receive=False, send=False))
    for n in range(5):
        desk.put(report(n), rtcp=True, at=desk.now + n)
    desk.run(60)
    assert desk.of(MediaSilent) == []


def test_rubbish_and_strangers_reports_are_no_sign_of_life(desk):
    desk.call()
    for n in range(12):
        desk.put(b"\x80\xc8rubbish", rtcp=True, at=desk.now + n)
        desk.put(report(n), rtcp=True, at=desk.now + n, source=Address("203.0.113.9", 1))
    desk.run(12)
    assert [round(event.seconds) for event in desk.of(MediaSilent)] == [5, 10]
