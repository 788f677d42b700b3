"""Rubbish and floods: what an engine lets them cost."""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import pytest
from engine_desk import HOST, Desk, assert_heard, describe, speech
from hypotheses import examples
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from voip.media.answers import DtmfReceived
from voip.media.commands import CloseStream, OpenStream
from voip.rtp.rtcp import Bye, ReceiverReport, build_compound
from voip.types import Address

rubbish = st.one_of(
    st.binary(max_size=100),
    st.builds(
        lambda first, second, rest, size: bytes([first, second]) + rest + bytes(size),
        st.sampled_from([0x80, 0x90, 0xA0, 0x81]),
        st.sampled_from([0, 8, 101, 0x80, 0xE5, 200, 201, 203]),
        st.binary(min_size=10, max_size=10),
        st.sampled_from([0, 1, 4, 160, 1000, 1500]),
    ),
)
arrivals = st.lists(
    st.tuples(
        rubbish,
        st.integers(0, 2),
        st.booleans(),
        st.sampled_from([None, Address("192.0.2.9", 1), Address("192.0.2.9", 2)]),
        st.sampled_from([0, 0, 0, 0.02, 0.3, 2.1]),  # another source is learned after 0.25, 2 s
    ),
    max_size=60,
)


@given(arrivals)
@examples(60, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_arrives_nothing_is_raised_and_the_next_call_is_heard(packets):
    desk = Desk()
    for stream in range(3):
        desk.call(stream)
    for packet, stream, rtcp, source, pause in packets:
        desk.put(packet, stream=stream, rtcp=rtcp, source=source)
        if pause:
            desk.run(pause)
    desk.run(0.1)
    table = desk.engine._table
    for stream in range(3):
        stats = desk.stats(stream)
        assert stats.current_frames >= 0
        assert len(stats.strangers) <= 8
        assert 0 <= stats.estimated_loss_rate <= 1
        assert np.isfinite(stats.current_delay_ms)
        assert np.isfinite(stats.jitter_ms or 0.0)
    for stream in range(3):
        desk.sinks.pop(stream)
        desk.do(CloseStream(stream))
    assert table.playout.ring.pooled == 0
    desk.call(9)
    sent = speech(0.5)
    desk.say(sent, stream=9)
    desk.run(0.8)
    assert_heard(desk, sent, 9)


def calls_of(work: Callable[[], object]) -> int:
    """Python and C functions called by `work`: what it costs, whatever the machine."""
    count = 0

    def note(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("kind", ["audio", "events", "strangers", "rubbish", "reports"])
def test_a_flood_costs_so_much_per_packet_and_no_more(kind):
    costs = []
    for rows in (16, 64):
        desk = Desk()
        for stream in range(rows):
            desk.do(OpenStream(stream, HOST, "x"), describe(stream))
        desk.run(0.5)
        packets = 0
        for stream in range(rows):
            for n in range(32 if kind != "reports" else 4):
                packets += 1
                if kind == "rubbish":
                    desk.put(b"\x12\x34", stream=stream)
                elif kind == "reports":
                    block = [ReceiverReport(1, ()), Bye(tuple(range(31)), "x" * 200)]
                    desk.put(build_compound(block), stream=stream, rtcp=True)
                else:
                    source = Address("198.51.100.1", n) if kind == "strangers" else None
                    body = bytes([n % 16, 0x80, 0, 160]) * 300 if kind == "events" else bytes(160)
                    number = 101 if kind == "events" else 0
                    desk.rtp(
                        n, n * 160, body, stream=stream, payload_type=number, source=source,
                        marker=True,
                    )  # fmt: skip
        costs.append(calls_of(desk.tick) / packets)
        assert not desk.io.queue
    assert costs[1] <= 1.1 * costs[0] + 2
    assert costs[1] <= {"events": 400, "reports": 200}.get(kind, 40)


def test_digits_in_the_flood_of_one_batch_are_told_once_each(desk):
    desk.call()
    for n, digit in enumerate("123"):
        for copy in range(3):
            desk.rtp(
                3 * n + copy, 1600 * n, bytes([int(digit), 0x8A, 3, 0x20]), payload_type=101,
                marker=copy == 0,
            )  # fmt: skip
    desk.run(0.02)
    assert [event.digit for event in desk.of(DtmfReceived)] == ["1", "2", "3"]
