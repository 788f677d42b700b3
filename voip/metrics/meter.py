"""The figures of one phone, read where they are kept.

Nothing is counted for this but one tally at the end of each call: no packet and no tick costs more
because somebody looks, and sums over streams are sums over the engine's latest snapshot.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from voip.call import Call
from voip.desk import Desk
from voip.events import CallState
from voip.media.driver import EngineFigures
from voip.media.stats import StatsSnapshot
from voip.metrics.histogram import Histogram
from voip.metrics.signalling import Reading, signalling
from voip.metrics.tally import Tally, add_up, direction_of
from voip.sip.registration import RegistrationState

__all__ = ["Meter"]

_PRESENT: Final = tuple(state for state in CallState if state is not CallState.ENDED)
_TICK_BOUNDS_S: Final = (0.0001, 0.0003, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
_BY_WAY: Final = {
    "voip_rtp_packets": {"sent": "packets_sent", "received": "packets_received"},
    "voip_rtp_bytes": {"sent": "bytes_sent", "received": "bytes_received"},
}
_PACKETS: Final = {
    "voip_rtp_packets_lost": "packets_lost",
    "voip_rtp_packets_late": "packets_late",
    "voip_rtp_packets_duplicate": "packets_duplicate",
    "voip_rtp_packets_recovered": "packets_recovered",
    "voip_rtp_packets_reordered": "packets_reordered",
    "voip_rtp_packets_discarded": "packets_discarded",
    "voip_rtp_packets_from_strangers": "packets_from_strangers",
    "voip_rtp_packets_forged": "packets_forged",
    "voip_rtp_packets_replayed": "packets_replayed",
    "voip_rtp_packets_withheld": "packets_withheld",
    "voip_rtp_frames_dropped": "dropped_frames",
    "voip_rtp_buffer_overruns": "buffer_overrun_count",
}
_SECONDS: Final = {
    "voip_media_played_seconds": "played_ms",
    "voip_media_concealed_seconds": "concealed_ms",
    "voip_media_accelerated_seconds": "accelerated_ms",
    "voip_media_expanded_seconds": "expanded_ms",
    "voip_media_source_underrun_seconds": "source_underrun_ms",
    "voip_media_noise_played_seconds": "noise_played_ms",
    "voip_media_silence_unsent_seconds": "silence_unsent_ms",
}


class Meter:
    """Reads one phone, from its start to its end, in its event loop."""

    label: Final = "phone"

    def __init__(self, desk: Desk) -> None:
        self.tally = Tally()
        self._desk = desk
        self._seen_ticks = 0
        self._began = Histogram(_TICK_BOUNDS_S)
        self._done = Histogram(_TICK_BOUNDS_S)
        self._shown: dict[tuple[str, tuple[str, ...]], float] = {}

    @property
    def name(self) -> str:
        """What the phone is called: its first account, "phone" where it has none."""
        return self._desk.lines.first.aor or "phone"

    @property
    def calls(self) -> list[Call]:
        """The calls that are not over, the oldest first."""
        return list(self._desk.calls.values())

    def read(self) -> Iterator[Reading]:
        """Yield every figure as it is now."""
        yield from self._calls()
        yield from self._registrations()
        stack = self._desk.stack
        yield from signalling(
            stack.agent._core, stack.signalling.figures(), self._desk.refused.counts
        )
        yield "voip_sip_dialogs", (), len(stack.agent.dialogs)
        engine = stack.driver.figures(self._seen_ticks)
        yield from self._streams(engine.snapshot)
        yield from self._engine(engine)

    # ------------------------------------------------------------ calls and registrations

    def _calls(self) -> Iterator[Reading]:
        present = Counter((direction_of(session), session.state) for session in self._desk.calls)
        for direction in ("incoming", "outgoing"):
            for state in _PRESENT:
                yield "voip_calls", (direction, state.value), present[direction, state]
        for ended, count in self.tally.ended.items():
            yield "voip_calls_ended", ended, count
        for name, histogram in self.tally.histograms.items():
            yield name, (), histogram

    def _registrations(self) -> Iterator[Reading]:
        states: Counter[RegistrationState] = Counter()
        for line in self._desk.lines.all:
            if not line.named:
                continue
            states.update(line.registrars.states())
            yield "voip_account_registered", (line.aor,), float(line.registrars.registered)
            failures = self.tally.failures[line.aor]
            yield "voip_registration_failures", (line.aor,), failures
        for state in RegistrationState:
            yield "voip_registrations", (state.value,), states[state]

    # ------------------------------------------------------------ media

    def _streams(self, snapshot: StatsSnapshot | None) -> Iterator[Reading]:
        """Yield the sums over streams that are open and those of calls that are over.

        The figures of open ones are at most a second old, those of ended calls final.
        """
        sums = dict(self.tally.media)
        codecs: Counter[str] = Counter()
        jitter_ms = rtt_ms = np.zeros(0)
        opened = [session.media for session in self._desk.calls]
        if snapshot is not None:
            rows = snapshot.rows_of(media.stream for media in opened if media.is_open)
            for name, figure in snapshot.sums(rows).items():
                sums[name] += figure
            codecs.update(snapshot.codec.get(row, "none") for row in rows.tolist())
            jitter_ms, rtt_ms = snapshot.jitter_ms(rows), snapshot.rtt_ms(rows)
        for media in opened:
            if not media.is_open:  # closed a moment ago, or not open yet: what is known is final
                add_up(sums, media.stats)
        for codec, count in codecs.items():
            yield "voip_media_streams", (codec,), count
        for name, ways in _BY_WAY.items():
            for way, summed in ways.items():
                yield name, (way,), self._steady(name, (way,), sums[summed])
        for name, summed in _PACKETS.items():
            yield name, (), self._steady(name, (), sums[summed])
        for name, summed in _SECONDS.items():
            yield name, (), self._steady(name, (), sums[summed] / 1000)
        yield from _spread("voip_rtp_jitter_seconds", jitter_ms)
        yield from _spread("voip_rtp_round_trip_seconds", rtt_ms)

    def _engine(self, engine: EngineFigures) -> Iterator[Reading]:
        ticks = engine.ticks
        if ticks is not None:
            self._seen_ticks = ticks.count
            self._began.add(ticks.lateness_s[:, 0])
            self._done.add(ticks.lateness_s[:, 1])
            yield "voip_media_ticks", (), ticks.count
            yield "voip_media_ticks_late", (), ticks.late
            yield "voip_media_ticks_failed", (), ticks.failed
            yield "voip_media_tick_start_delay_seconds", (), self._began
            yield "voip_media_tick_done_delay_seconds", (), self._done
        for kind, count in engine.io.items():
            name = "voip_media_io_anomalies"
            yield name, (kind,), self._steady(name, (kind,), count)

    def _steady(self, name: str, labels: tuple[str, ...], value: float) -> float:
        """Return a sum that never falls: a counter that does has begun anew, to Prometheus.

        It could for a moment when a stream is closed, and what was lost may be found again.
        """
        value = max(value, self._shown.get((name, labels), 0.0))
        self._shown[name, labels] = value
        return value


def _spread(name: str, figures_ms: npt.NDArray[np.float64]) -> Iterator[Reading]:
    if figures_ms.size:
        yield name, ("mean",), float(figures_ms.mean()) / 1000
        yield name, ("max",), float(figures_ms.max()) / 1000
