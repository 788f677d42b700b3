"""What the figures of a stream come to."""

from __future__ import annotations

from voip.media.answers import StreamStats
from voip.quality.report import QualityReport

__all__ = ["quality_of"]


def quality_of(stats: StreamStats) -> QualityReport:
    """Judge a stream by its figures."""
    return QualityReport.of(
        codec=stats.codec,
        packets_sent=stats.packets_sent,
        packets_received=stats.packets_received,
        packets_lost=stats.packets_lost,
        packets_discarded=stats.packets_late,
        packets_recovered=stats.packets_recovered,
        jitter_ms=stats.jitter_ms,
        rtt_ms=stats.rtt_ms,
        jitter_buffer_ms=stats.delay_ms,
    )
