"""The figures of the streams: of one row now, or a snapshot of all rows for others to read."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from voip.media.answers import SourceFigures, StreamStats
from voip.media.playout import PLAYING
from voip.media.table import BASE_STEP_S, StreamTable
from voip.rtp.drift import drift_of
from voip.types import Address

if TYPE_CHECKING:
    from voip.media.reports import Reporter

__all__ = ["SUMMED", "StatsSnapshot", "snapshot", "stream_stats"]

_RECEIVER = (
    "ssrc", "octets", "reordered", "jitter", "first_sequence", "last_sequence", "received",
    "received_before", "lost_before", "clock",
)  # fmt: skip
_PLAYOUT = (
    "state", "decoded", "late", "duplicate", "recovered", "dropped", "peak", "concealed",
    "accelerated", "expanded", "played", "delay_sum", "rate", "waited",
)  # fmt: skip
_TABLE = ("slot", "discarded", "ignored", "underrun", "forged", "replayed", "withheld")
_REPORTS = {
    "rtcp_sent": "sent",
    "rtcp_received": "received",
    "remote_lost": "remote_lost",
    "remote_fraction": "remote_fraction",
    "remote_jitter_s": "remote_jitter_s",
    "round_trip_s": "round_trip_s",
}
_LINES = ("points", "sum_xx", "sum_xy", "sum_yy")
_SURE_PPM = 5.0
"""A drift is told when its standard error is no more."""
_LEVELS = ("heard", "heard_before", "sent", "sent_before")

SUMMED = (
    "packets_sent", "bytes_sent", "packets_received", "bytes_received", "packets_lost",
    "packets_late", "packets_duplicate", "packets_recovered", "packets_reordered",
    "packets_discarded", "packets_from_strangers", "packets_forged", "packets_replayed",
    "packets_withheld",
    "dropped_frames", "buffer_overrun_count", "concealed_ms",
    "accelerated_ms", "expanded_ms", "played_ms", "source_underrun_ms",
    "noise_packets_sent", "noise_packets_received", "noise_played_ms", "silence_unsent_ms",
)  # fmt: skip
"""Figures of `StreamStats` that can be added up over streams."""
_COUNTED = {
    "packets_sent": "sent_packets",
    "bytes_sent": "sent_octets",
    "bytes_received": "octets",
    "packets_late": "late",
    "packets_duplicate": "duplicate",
    "packets_recovered": "recovered",
    "packets_reordered": "reordered",
    "packets_discarded": "discarded",
    "packets_forged": "forged",
    "packets_replayed": "replayed",
    "packets_withheld": "withheld",
    "dropped_frames": "dropped",
    "buffer_overrun_count": "overruns",
    "noise_packets_sent": "noise_sent",
    "noise_packets_received": "noise_received",
}
"""Their columns, as they are."""
_SAMPLES = {
    "concealed_ms": "concealed",
    "accelerated_ms": "accelerated",
    "expanded_ms": "expanded",
    "played_ms": "played",
    "source_underrun_ms": "underrun",
    "noise_played_ms": "noise_played",
    "silence_unsent_ms": "unsent",
}
"""The same, in samples."""


@dataclass(frozen=True, slots=True)
class StatsSnapshot:
    """Figures of all streams at one moment; nobody changes it, so anybody may read it.

    `version` counts snapshots; `at` is monotonic seconds.
    """

    version: int
    at: float
    kernel_timestamps: bool
    rows: dict[int, int]
    columns: dict[str, npt.NDArray[Any]]
    codec: dict[int, str]
    remote: dict[int, Address | None]
    strangers: dict[int, tuple[int, tuple[tuple[Address, int], ...]]]
    conflicts: dict[int, int] = field(default_factory=dict)
    former: dict[int, tuple[tuple[int, int, int], ...]] = field(default_factory=dict)

    def of(self, stream: int) -> StreamStats | None:
        """Return the figures of one stream, None where it was not open then."""
        row = self.rows.get(stream)
        return None if row is None else self._stats(stream, row)

    def rows_of(self, streams: Iterable[int]) -> npt.NDArray[np.intp]:
        """Return the rows of those of `streams` that were open then: intp (streams,)."""
        known = self.rows
        return np.array([known[stream] for stream in streams if stream in known], np.intp)

    def sums(self, rows: npt.NDArray[np.intp]) -> dict[str, float]:
        """Add up `SUMMED` over rows, whatever their number in a few array operations."""
        columns = self.columns
        received, lost = self._received_and_lost(rows)
        found: dict[str, float] = {
            "packets_received": int(received.sum()),
            "packets_lost": int(lost.sum()),
            "packets_from_strangers": sum(
                self.strangers[row][0] for row in rows.tolist() if row in self.strangers
            ),
        }
        for name, column in _COUNTED.items():
            found[name] = int(columns[column][rows].sum())
        rate = columns["rate"][rows]
        for name, column in _SAMPLES.items():
            found[name] = 1000 * float((columns[column][rows] / rate).sum())
        return found

    def jitter_ms(self, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
        """Return the jitter of those rows that have heard anything: float64 (rows,)."""
        received, _ = self._received_and_lost(rows)
        heard = rows[received > 0]
        jitter = self.columns["jitter"][heard] / self.columns["clock"][heard]
        return np.asarray(1000 * jitter, np.float64)

    def rtt_ms(self, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
        """Return the round trips of those rows that know theirs: float64 (rows,)."""
        found = self.columns["round_trip_s"][rows]
        return np.asarray(1000 * found[np.isfinite(found)], np.float64)

    def _received_and_lost(self, rows: Any) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Return packets received and lost (RFC 3550 appendix A.3) of one row, or of many."""

        def figure(name: str) -> npt.NDArray[Any]:
            return np.asarray(self.columns[name][rows])

        now = figure("received")
        missing = figure("last_sequence") - figure("first_sequence") + 1 - now
        lost = figure("lost_before") + np.where(figure("ssrc") >= 0, missing, 0)
        return figure("received_before") + now, lost

    def _stats(self, stream: int, row: int) -> StreamStats:
        def figure(name: str) -> Any:
            return self.columns[name][row].item()

        rate = figure("rate")
        received, lost = (count.item() for count in self._received_and_lost(row))
        expected = received + lost
        missing = lost + figure("duplicate")  # a copy makes up for no loss
        delay_ms = None
        if figure("state") == PLAYING:
            due_s = figure("slot") * BASE_STEP_S  # when the next sample will be heard
            next_heard_s = (figure("decoded") + figure("waited") - figure("fill")) / rate
            delay_ms = 1000 * (due_s - next_heard_s - figure("quickest"))
        strangers, names = self.strangers.get(row, (0, ()))
        remote_lost = _told(figure("remote_lost"))
        played, noise, made = figure("played"), figure("noise_played"), figure("made")
        told = figure("told")
        return StreamStats(
            stream=stream,
            codec=self.codec.get(row),
            packets_sent=figure("sent_packets"),
            bytes_sent=figure("sent_octets"),
            packets_received=received,
            bytes_received=figure("octets"),
            packets_lost=lost,
            packets_late=figure("late"),
            packets_duplicate=figure("duplicate"),
            packets_recovered=figure("recovered"),
            blocks_ignored=figure("ignored"),
            packets_reordered=figure("reordered"),
            packets_discarded=figure("discarded"),
            packets_from_strangers=strangers,
            packets_forged=figure("forged"),
            packets_replayed=figure("replayed"),
            packets_withheld=figure("withheld"),
            strangers=names,
            jitter_ms=1000 * figure("jitter") / figure("clock") if received else None,
            delay_ms=delay_ms,
            rtt_ms=_told(1000 * figure("round_trip_s")),
            remote_packets_lost=None if remote_lost is None else int(remote_lost),
            remote_fraction_lost=_told(figure("remote_fraction")),
            remote_jitter_ms=_told(1000 * figure("remote_jitter_s")),
            concealed_ms=1000 * figure("concealed") / rate,
            accelerated_ms=1000 * figure("accelerated") / rate,
            expanded_ms=1000 * figure("expanded") / rate,
            played_ms=1000 * played / rate,
            source_underrun_ms=1000 * figure("underrun") / rate,
            noise_packets_sent=figure("noise_sent"),
            noise_packets_received=figure("noise_received"),
            noise_played_ms=1000 * noise / rate,
            silence_unsent_ms=1000 * figure("unsent") / rate,
            silence_share_received=noise / played if played else None,
            silence_share_sent=figure("unsent") / made if made else None,
            level_received_dbfs=_dbfs(figure("heard"), figure("heard_before")),
            level_sent_dbfs=_dbfs(figure("sent"), figure("sent_before")),
            level_told_dbov=-(told & 0x7F) if told >= 0 else None,
            voice_told=told > 0x7F if told >= 0 and figure("told_voice") else None,
            ssrc_sent=figure("sent_ssrc"),
            ssrc_received=figure("ssrc") if figure("ssrc") >= 0 else None,
            remote=self.remote.get(row),
            kernel_timestamps=self.kernel_timestamps,
            rtcp_packets_sent=figure("rtcp_sent"),
            rtcp_packets_received=figure("rtcp_received"),
            ssrc_conflicts=self.conflicts.get(row, 0),
            clock_drift_ppm=self._drift_ppm("media", row),
            report_drift_ppm=self._drift_ppm("report", row),
            sources=self._sources(row),
            current_frames=figure("waiting"),
            peak_frames=figure("peak"),
            dropped_frames=figure("dropped"),
            late_packet_count=figure("late"),
            buffer_overrun_count=figure("overruns"),
            current_delay_ms=delay_ms or 0.0,
            average_delay_ms=1000 * figure("delay_sum") / played if played else 0.0,
            estimated_loss_rate=max(0.0, missing / expected) if expected > 0 else 0.0,
        )

    def _drift_ppm(self, which: str, row: int) -> float | None:
        """Return a drift that is known well enough."""
        drift, error = drift_of(*(self.columns[f"{which}_{name}"][row] for name in _LINES))
        return float(drift) if error <= _SURE_PPM else None

    def _sources(self, row: int) -> tuple[SourceFigures, ...]:
        def figure(name: str) -> int:
            return int(self.columns[name][row])

        found = [SourceFigures(*former) for former in self.former.get(row, ())]
        if figure("ssrc") >= 0:
            received = figure("received")
            expected = figure("last_sequence") - figure("first_sequence") + 1
            found.append(SourceFigures(figure("ssrc"), received, expected - received))
        return tuple(found)


def snapshot(
    table: StreamTable, reporter: Reporter, version: int, at: float, *, kernel_timestamps: bool
) -> StatsSnapshot:
    """Copy the figures of all streams."""
    return StatsSnapshot(
        version,
        at,
        kernel_timestamps,
        dict(table.rows),
        {name: column.copy() for name, column in _columns(table, reporter).items()},
        dict(table.codec),
        dict(table.remote),
        {row: _strangers(table, row) for row in table.learners},
        {row: found.count for row, found in reporter.conflicts.items()},
        dict(table.receiver.former),
    )


def stream_stats(
    table: StreamTable, reporter: Reporter, stream: int, *, kernel_timestamps: bool
) -> StreamStats | None:
    """Return the figures of one stream now, None where it is not open."""
    row = table.rows.get(stream, -1)
    live = StatsSnapshot(
        0,
        0.0,
        kernel_timestamps,
        table.rows,
        _columns(table, reporter),
        table.codec,
        table.remote,
        {row: _strangers(table, row)} if row in table.learners else {},
        {row: found.count for row, found in reporter.conflicts.items()},
        table.receiver.former,
    )
    return live.of(stream)


def _strangers(table: StreamTable, row: int) -> tuple[int, tuple[tuple[Address, int], ...]]:
    learner = table.learners[row]
    return learner.total, tuple(learner.counts.items())


def _columns(table: StreamTable, reporter: Reporter) -> dict[str, npt.NDArray[Any]]:
    receiver, playout, transmitter = table.receiver, table.playout, table.transmitter
    columns: dict[str, npt.NDArray[Any]] = {
        "sent_packets": transmitter.packets + transmitter.packets_before,
        "sent_octets": transmitter.octets + transmitter.octets_before,
        "sent_ssrc": transmitter.ssrc,
        "fill": playout.pcm.fill,
        "quickest": playout.delays.quickest,
        "waiting": playout.ring.count,
        "overruns": playout.ring.overruns,
        "noise_received": playout.comfort.packets,
        "noise_played": playout.comfort.heard,
        "noise_sent": table.silences.packets,
        "unsent": table.silences.unsent,
        "made": table.silences.made,
        "told": table.told.octet,
        "told_voice": table.told.voice,
    }
    for part, names in (
        (receiver, _RECEIVER),
        (playout, _PLAYOUT),
        (table, _TABLE),
        (table.levels, _LEVELS),
    ):
        for name in names:
            columns[name] = getattr(part, name)
    for name, column in _REPORTS.items():
        columns[name] = getattr(reporter, column)
    for which, line in (("media", reporter.clocks.media), ("report", reporter.clocks.report)):
        columns |= {f"{which}_{name}": getattr(line, name) for name in _LINES}
    return columns


def _told(figure: float) -> float | None:
    """Return what a peer has told; None: nothing."""
    return None if math.isnan(figure) else figure


def _dbfs(now: float, before: float) -> float | None:
    """Level of the loudest step in dB below a full-scale square wave; None: digital silence."""
    loudest = max(now, before)
    return 10 * math.log10(loudest) if loudest > 0 else None
