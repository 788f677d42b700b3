"""The log of a jitter buffer: off by default, bounded, and enough to see what it did."""

from __future__ import annotations

import csv
import io

import pytest
from engine_desk import Desk, speech, ulaw

from voip.errors import MediaError
from voip.media.commands import CloseStream, LogJitter
from voip.media.jitter_log import FIELDS, jitter_csv

LATE = range(60, 66)
"""Packets that all come when the last of them was due, of a stream without jitter."""


def talk(desk: Desk) -> None:
    sent = speech(3)
    for n in range(150):
        at = desk.now + (LATE[-1] if n in LATE else n) * 0.02
        desk.rtp(n, n * 160, ulaw(sent[n * 160 : (n + 1) * 160]), at=at)
    desk.run(3.5)


def test_J07_what_a_buffer_did_can_be_had_as_csv(desk: Desk) -> None:
    desk.call()
    desk.do(LogJitter(1))
    talk(desk)
    lines = list(csv.DictReader(io.StringIO(desk.engine.jitter_log(1))))
    assert tuple(lines[0]) == FIELDS
    times = [float(line["time_s"]) for line in lines]
    assert times == sorted(times)
    events = {event for line in lines for event in line["event"].split("+")}
    assert {"target", "concealed", "expanded"} <= events
    last, stats = lines[-1], desk.stats()
    assert float(last["concealed_ms"]) == stats.concealed_ms
    assert float(last["expanded_ms"]) == stats.expanded_ms
    assert int(last["packets_late"]) == stats.packets_late
    targets = [float(line["target_ms"]) for line in lines]
    assert targets[0] == 30.0
    assert max(targets) == 100.0  # what the first of the late ones took longer


def test_it_is_off_by_default_bounded_and_ends_with_its_stream(desk: Desk) -> None:
    desk.call()
    with pytest.raises(MediaError, match="no jitter log"):
        desk.engine.jitter_log(1)
    desk.do(LogJitter(1, events=3))
    talk(desk)
    assert len(desk.engine.jitter_log(1).splitlines()) == 1 + 3
    desk.do(LogJitter(1, events=0))
    with pytest.raises(MediaError, match="no jitter log"):
        desk.engine.jitter_log(1)
    desk.do(LogJitter(1))
    desk.do(CloseStream(1))
    assert not desk.engine._table.jitter_logs
    desk.call(2)
    assert "events" in desk.refused(LogJitter(2, events=-1))


def test_lines_are_told_some_at_a_time_from_where_one_was() -> None:
    desk = Desk()
    desk.call()
    desk.do(LogJitter(1, events=5))
    log = desk.engine._table.jitter_log(1)
    talk(desk)
    assert log.total > 5
    oldest = log.total - 5
    told = log.lines(1, 0)
    assert (told.first, len(told.lines), told.total) == (oldest, 5, log.total)
    assert log.lines(1, oldest + 3).lines == told.lines[3:]
    assert log.lines(1, log.total).lines == log.lines(1, log.total + 9).lines == ()
    assert log.lines(1, log.total + 9).first == log.total
    assert jitter_csv(told.lines) == log.to_csv()
