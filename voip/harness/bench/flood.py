"""Floods of requests against a phone that has calls: `voip bench sip --flood`.

The phone has a process, who it speaks with another, the flood a third. What is asked is whether the
calls notice, whether the phone answers whom it knows, and what it remembers.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from voip.errors import ConfigError
from voip.harness.bench.worker import Worker

__all__ = ["KINDS", "FloodReport", "run_floods"]

RATE: Final = 10_000
"""Requests a second."""
SOURCES: Final = 1000
KINDS: Final = (("REGISTER", 1), ("INVITE", 1), ("REGISTER", SOURCES), ("INVITE", SOURCES))
CALLS: Final = 5
SETTLE_S: Final = 40.0
"""Until the last call has rung in vain and its transaction is over (64*T1), and a little more."""
STEP_S: Final = 0.1

OPTIONS_BAR_MS: Final = 1000.0
GROWTH_BAR: Final = 20_000_000
KEPT_BAR_MB: Final = 10.0
"""What the interpreter holds ready for the next time (docs/decisions/0087)."""


@dataclass(frozen=True, slots=True)
class FloodReport:
    """What the floods did. `rate`: requests a second that were sent in the slowest of them.

    `rtp_lost`: packets of the calls that either side missed, of `rtp_received`. `options`: how many
    were asked within the calls, `unanswered` of them, the slowest after `options_ms_max`.
    `growth_bytes`: of the phone's resident memory at its most; `rss_kept_mb`: what of it, in MB,
    has not come back `SETTLE_S` after the floods; `blocks_left`: Python's memory blocks likewise;
    `dropped`: requests that the phone did not read.
    """

    seconds: float
    rate: float
    sent: int
    dropped: int
    calls: int
    rtp_received: int
    rtp_lost: int
    options: int
    unanswered: int
    options_ms_max: float
    growth_bytes: int
    rss_kept_mb: float
    blocks_left: int
    transactions_left: int

    def bars(self) -> dict[str, dict[str, Any]]:
        """Compare with the bars, as `SipReport.bars` does."""
        heard = self.rtp_received > 0 and self.calls == CALLS
        return {
            "flood_rtp_lost": _bar(self.rtp_lost, 0, heard and self.rtp_lost == 0),
            "flood_options_ms_max": _bar(
                self.options_ms_max,
                OPTIONS_BAR_MS,
                self.options > 0 and not self.unanswered and self.options_ms_max <= OPTIONS_BAR_MS,
            ),
            "flood_growth_bytes": _bar(
                self.growth_bytes, GROWTH_BAR, self.growth_bytes < GROWTH_BAR
            ),
            "flood_rss_kept_mb": _bar(
                self.rss_kept_mb, KEPT_BAR_MB, self.rss_kept_mb <= KEPT_BAR_MB
            ),
            "flood_transactions_left": _bar(self.transactions_left, 0, self.transactions_left == 0),
        }


def run_floods(
    seconds: float,
    *,
    settle_s: float = SETTLE_S,
    progress: Callable[[str], None] = lambda _: None,
) -> FloodReport:
    """Flood a phone for `seconds` with each of `KINDS`; `ConfigError` for what cannot be."""
    if not 0 < seconds <= 60:
        raise ConfigError(f"a flood of {seconds:g} s", hint="up to 60 s")
    with Worker("flooded") as phone, Worker("flood-peer") as peer, Worker("flood") as flood:
        port = phone.ask("open")["port"]
        peer.ask("call", port=port, calls=CALLS)
        flood.ask("open", port=port)
        time.sleep(1.0)  # what the first sound needs is there
        before = phone.ask("mark")
        peak, sent, rates = before["rss_bytes"], 0, []
        for method, sources in KINDS:
            progress(f"{method} from {sources} addresses for {seconds:g} s")
            flood.tell("run", method=method, sources=sources, rate=RATE, seconds=seconds)
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                time.sleep(STEP_S)
                peak = max(peak, phone.ask("mark")["rss_bytes"])
            done = flood.answer()
            sent += done["sent"]
            rates.append(done["sent"] / done["wall_s"])
        during = phone.ask("mark")
        heard = peer.ask("finish")
        progress(f"{settle_s:g} s of rest")
        time.sleep(settle_s)
        after = phone.ask("mark")
        phone.ask("close")
    return FloodReport(
        seconds=seconds,
        rate=min(rates),
        sent=sent,
        dropped=during["flooded"] - before["flooded"],
        calls=min(during["calls"], heard["calls"]),
        rtp_received=heard["received"] + during["received"],
        rtp_lost=heard["lost"] + during["lost"],
        options=heard["options"],
        unanswered=heard["unanswered"],
        options_ms_max=heard["options_ms_max"],
        growth_bytes=max(peak, during["rss_bytes"]) - before["rss_bytes"],
        rss_kept_mb=(after["rss_bytes"] - before["rss_bytes"]) / 1e6,
        blocks_left=after["blocks"] - before["blocks"],
        transactions_left=after["transactions"],
    )


def _bar(figure: float, bar: float, met: bool) -> dict[str, Any]:
    return {"figure": round(figure, 3), "bar": bar, "met": met}
