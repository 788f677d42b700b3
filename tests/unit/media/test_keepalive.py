"""What goes to the other side while there is nothing to say (RFC 6263)."""

from __future__ import annotations

from itertools import pairwise

import pytest
from engine_desk import DTMF, PCMA, PCMU, Desk, describe, peer, speech

from voip.media.commands import OpenStream

pytestmark = pytest.mark.rfc("6263", "7")


def quiet(desk: Desk, **more: object) -> list:
    """What is sent in the minute after sending has stopped."""
    desk.call(**more)  # type: ignore[arg-type]
    desk.run(1)
    desk.do(describe(send=False))
    mark = len(desk.io.sent)
    desk.run(61)
    return desk.io.sent[mark:]


def test_something_goes_every_fifteen_seconds(desk: Desk) -> None:
    kept = quiet(desk)
    last = max(one.at for one in desk.io.sent if one.payload)
    times = [last, *(one.at for one in kept)]
    assert len(kept) == 4
    assert all(14 <= later - earlier <= 15 for earlier, later in pairwise(times))
    before = next(one for one in reversed(desk.io.sent) if one.payload)
    for n, one in enumerate(kept, 1):
        assert (one.payload, one.marker) == (b"", False)
        assert (one.ssrc, one.sequence) == (before.ssrc, before.sequence + n)
        assert one.payload_type >= 96
        assert one.payload_type not in (PCMU.payload_type, PCMA.payload_type, DTMF.payload_type)
        elapsed = (one.timestamp - before.timestamp) / 8000
        assert elapsed == pytest.approx(one.at - before.at, abs=0.041)


def test_it_makes_nobody_a_sender(desk: Desk) -> None:
    quiet(desk)
    late = [packet for at, _, packet in desk.io.reports if at > desk.now - 40]
    assert len(late) > 5
    assert {packet[1] for packet in late} == {201}, "receiver reports"


def test_who_speaks_needs_none(desk: Desk) -> None:
    desk.call()
    desk.run(40)
    assert all(one.payload for one in desk.io.sent)


def test_it_can_be_set_and_left(desk: Desk) -> None:
    assert 19 <= len(quiet(desk, settings={"keepalive_s": 3})) <= 25
    assert "keep-alive" in desk.refused(OpenStream(9, "127.0.0.1", "x", keepalive_s=0))
    other = Desk()
    assert quiet(other, settings={"keepalive_s": None}) == []


def test_reports_do_it_where_they_take_the_same_way(desk: Desk) -> None:
    desk.call(send=False, rtcp=peer(1), rtcp_mux=True)
    desk.io._keep = lambda row, packet: desk.io.reports.append((desk.now, row, packet))
    desk.run(60)
    assert all(later - at < 15 for (at, _, _), (later, _, _) in pairwise(desk.io.reports))
    assert {packet[1] for _, _, packet in desk.io.reports} == {201}


def test_nothing_goes_where_nobody_is(desk: Desk) -> None:
    desk.call(rtp=None, rtcp=None, send=False)
    desk.run(60)
    assert desk.io.sent == []


@pytest.mark.parametrize("native", [False, None])
def test_the_peers_are_no_gap_and_no_sound(native: bool | None) -> None:
    desk = Desk(native)
    desk.call()
    sequence, timestamp = desk.say(speech(1))
    desk.run(1.5)
    for n in range(4):
        desk.rtp(sequence + n, timestamp + n * 120_000, b"", payload_type=127)
        desk.run(15)
    assert desk.stats().packets_lost == 0
    desk.say(speech(1), sequence=sequence + 4, timestamp=timestamp + 4 * 120_000)
    desk.run(2)
    stats = desk.stats()
    assert (stats.packets_lost, stats.packets_discarded) == (0, 0)
    assert stats.packets_received == 104
    # an unknown source's are nothing, and neither is sound that nobody agreed on
    desk.rtp(1, 1, b"", payload_type=127, ssrc=77)
    desk.rtp(1, 1, bytes(160), payload_type=127)
    desk.run(0.1)
    assert desk.stats().packets_received == 104
    assert desk.stats().packets_discarded == 1
