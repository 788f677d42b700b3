"""Figures in buckets, and ticks that are counted once however often somebody looks."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from voip.metrics.families import FAMILIES
from voip.metrics.histogram import Histogram
from voip.net.driver import TickTimes
from voip.sip.message import parse_message
from voip.sip.traffic import METHODS, MessageCounts


def test_a_figure_is_in_every_bucket_from_its_own_on() -> None:
    histogram = Histogram((1, 2.5))
    histogram.add(1.0)
    histogram.add(np.array([0.0, 1.1, 2.5, 99.0]))
    histogram.add(None)
    histogram.add(np.zeros(0))
    assert histogram.buckets() == [("1.0", 2), ("2.5", 4), ("+Inf", 5)]
    assert histogram.total == pytest.approx(103.6)


def test_ticks_that_come_while_somebody_looks_are_for_the_next_look() -> None:
    times = TickTimes(4)
    for number in range(3):
        times.record(0.0, 0.1 * number, 1.0, None)
    seen = times.ticks
    times.record(0.0, 0.3, 1.0, None)
    assert times.since(1, seen)[:, 0] == pytest.approx([0.1, 0.2])
    assert times.since(seen)[:, 0] == pytest.approx([0.3])


def test_messages_are_counted_alike_as_they_are_read_and_as_bytes() -> None:
    read, sent = MessageCounts(), MessageCounts()
    head = "Via: SIP/2.0/UDP a;branch=z9hG4bK1\r\nFrom: <sip:a@a>;tag=1\r\nTo: <sip:b@b>\r\n"
    messages = [
        f"{method} sip:b@b SIP/2.0\r\n{head}Call-ID: 1\r\nCSeq: 1 {method}\r\n\r\n"
        for method in (*METHODS, "invite", "INVITES", "NEW")
    ]
    messages += [
        f"SIP/2.0 {status} x\r\n{head}Call-ID: 1\r\nCSeq: 1 INVITE\r\n\r\n"
        for status in (100, 183, 200, 302, 401, 404, 503, 699)
    ]
    for message in messages:
        read.add(parse_message(message.encode()))
        sent.add_bytes(message.encode())
    assert read.requests == sent.requests == dict.fromkeys(METHODS, 1) | {"other": 3}
    assert read.responses == sent.responses == {1: 2, 2: 1, 3: 1, 4: 2, 5: 1, 6: 1}


def test_names_and_meanings_are_as_prometheus_wants_them() -> None:
    for name, family in FAMILIES.items():
        assert name.startswith("voip_")
        assert not name.endswith(("_total", "_count", "_sum", "_bucket"))
        assert family.help.endswith(".")
        assert "phone" not in family.labels
        assert "le" not in family.labels


def test_the_guide_names_every_figure_and_no_other() -> None:
    page = (Path(__file__).parents[2] / "docs" / "guide" / "observing.md").read_text()
    named = set(re.findall(r"^\| .*?`voip_.*$", page, re.MULTILINE))
    shown = {name for row in named for name in re.findall(r"`(voip_\w+)`", row)}
    told = {
        f"{name}_total" if family.kind == "counter" else name for name, family in FAMILIES.items()
    }
    assert shown == told | {"voip_info"}
