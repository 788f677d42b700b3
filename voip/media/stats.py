"""The figures of one row as a value."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from voip.media.commands import StreamStats
from voip.media.table import StreamTable

if TYPE_CHECKING:
    from voip.media.reports import Reporter

__all__ = ["stream_stats"]


def stream_stats(table: StreamTable, reporter: Reporter, row: int) -> StreamStats:
    """Collect what is known of `row`."""
    receiver, playout, transmitter = table.receiver, table.playout, table.transmitter
    rate = table.lane.rate_hz
    heard = int(receiver.packets[row]) > 0
    steps = int(playout.steps[row])
    playing = bool(playout.playing[row]) and not bool(playout.starting[row])
    delay_ms = 1000 * playout.delay(row) if playing else None
    lost = receiver.lost(row)
    expected = int(receiver.packets[row]) + lost
    learner = table.learners.get(row)
    report = reporter.remote_report(row)
    return StreamStats(
        stream=int(table.stream[row]),
        codec=table.codec.get(row),
        packets_sent=int(transmitter.packets[row]),
        bytes_sent=int(transmitter.octets[row]),
        packets_received=int(receiver.packets[row]),
        bytes_received=int(receiver.octets[row]),
        packets_lost=lost,
        packets_late=int(playout.late[row]),
        packets_duplicate=int(playout.duplicate[row]),
        packets_reordered=int(receiver.reordered[row]),
        packets_discarded=int(table.discarded[row]),
        packets_from_strangers=learner.total if learner else 0,
        strangers=tuple(learner.counts.items()) if learner else (),
        jitter_ms=1000 * float(receiver.jitter[row]) / rate if heard else None,
        delay_ms=delay_ms,
        rtt_ms=report.rtt_ms,
        remote_packets_lost=report.packets_lost,
        remote_fraction_lost=report.fraction_lost,
        remote_jitter_ms=report.jitter_ms,
        concealed_ms=1000 * int(playout.concealed[row]) / rate,
        played_ms=1000 * int(playout.played[row]) / rate,
        source_underrun_ms=1000 * int(table.underrun[row]) / rate,
        level_received_dbfs=_dbfs(table.level_in[row], table.level_in_before[row]),
        level_sent_dbfs=_dbfs(table.level_out[row], table.level_out_before[row]),
        remote=table.remote.get(row),
        current_frames=int(playout.ring.count[row]),
        peak_frames=int(playout.peak[row]),
        dropped_frames=int(playout.dropped[row]),
        late_packet_count=int(playout.late[row]),
        buffer_overrun_count=int(playout.ring.overruns[row]),
        current_delay_ms=delay_ms or 0.0,
        average_delay_ms=1000 * float(playout.delay_sum[row]) / steps if steps else 0.0,
        estimated_loss_rate=max(0.0, lost / expected) if expected > 0 else 0.0,
    )


def _dbfs(now: float, before: float) -> float | None:
    """Level of the loudest step in dB below a full-scale square wave; None: digital silence."""
    loudest = max(float(now), float(before))
    return 10 * math.log10(loudest) if loudest > 0 else None
