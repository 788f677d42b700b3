"""The figures of several engines as those of one."""

from __future__ import annotations

from dataclasses import fields, replace

from engine_desk import Desk, speech

from voip.media.merged_stats import merged
from voip.media.stats import StatsSnapshot
from voip.rtp.rtcp import ReportBlock, SenderReport, build_compound
from voip.types import Address


def heard(stream: int, seconds: int) -> StatsSnapshot:
    """Return figures of an engine with one stream, to which its peer and a stranger spoke."""
    desk = Desk()
    desk.call()
    desk.say(speech(seconds), sequence=0, timestamp=16_000)
    stranger = Address("203.0.113.9", 4444)
    desk.say(speech(0.2), sequence=0, timestamp=16_000, source=stranger)
    block = ReportBlock(desk.stats().ssrc_sent or 0, 2 * seconds, seconds, 0, 80, 0, 0)
    desk.put(build_compound([SenderReport(0xABCD, 1 << 32, 0, 1, 160, (block,))]), rtcp=True)
    desk.run(seconds + 1.0)
    found = desk.engine.snapshot
    assert found is not None
    return replace(found, rows={stream: 0}, conflicts={0: seconds}, former={0: ((seconds, 10, 1),)})


def test_every_stream_has_the_figures_that_its_own_engine_told() -> None:
    one, other = heard(1, 3), heard(7, 5)
    both = merged([one, other])
    assert both is not None
    for engine, stream in ((one, 1), (other, 7)):
        own, told = engine.of(stream), both.of(stream)
        assert own is not None and told is not None
        assert replace(told, stream=0) == replace(own, stream=0)
        assert told.strangers and told.remote
    told = both.of(7)
    assert told is not None
    assert (told.remote_packets_lost, told.remote_fraction_lost, told.remote_jitter_ms) == (
        5, 10 / 256, 10.0,
    )  # fmt: skip
    assert (told.ssrc_conflicts, told.sources[0].ssrc) == (5, 5)
    for field in fields(StatsSnapshot):  # none is left to its default
        assert bool(getattr(both, field.name)) == bool(getattr(one, field.name)), field.name
