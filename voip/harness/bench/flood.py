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
ROUNDS: Final = 2
"""The second one finds what the first has left."""
SETTLE_S: Final = 45.0
"""Until what was sent last is forgotten: 64*T1 and ten seconds for a way (`endpoint.ways`)."""
STEP_S: Final = 0.1

OPTIONS_BAR_MS: Final = 1000.0
GROWTH_BAR: Final = 20_000_000
KEPT_BAR_MB: Final = 4.0
"""What the interpreter holds ready for the next time (docs/decisions/0097)."""
ADDED_BAR_MB: Final = 1.0
BLOCKS_BAR: Final = 5000
"""Thousand sources that are remembered are fifteen thousand."""


@dataclass(frozen=True, slots=True)
class FloodReport:
    """What the floods did. `rate`: requests a second that were sent in the slowest of them.

    `rtp_lost`: packets of the calls that either side missed, of `rtp_received`. `options`: how many
    were asked within the calls, `unanswered` of them, the slowest after `options_ms_max`.
    `growth_bytes`: of the phone's resident memory at its most, beyond what its calls had taken in
    `SETTLE_S`; `rss_kept_mb`: what of it, in MB, has not come back `SETTLE_S` after the floods;
    `rss_added_mb`: what the same floods added to that when they came again; `blocks_left`: Python's
    memory blocks that are in use then and were not before; `transactions_left`: after the calls;
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
    rss_added_mb: float
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
            "flood_rss_added_mb": _bar(
                self.rss_added_mb, ADDED_BAR_MB, self.rss_added_mb <= ADDED_BAR_MB
            ),
            "flood_blocks_left": _bar(self.blocks_left, BLOCKS_BAR, self.blocks_left <= BLOCKS_BAR),
            "flood_transactions_left": _bar(self.transactions_left, 0, self.transactions_left == 0),
        }


def run_floods(
    seconds: float,
    *,
    settle_s: float = SETTLE_S,
    progress: Callable[[str], None] = lambda _: None,
) -> FloodReport:
    """Flood a phone for `seconds` with each of `KINDS`, `ROUNDS` times.

    `settle_s`: how long it rests before and after. `ConfigError` for what cannot be.
    """
    if not 0 < seconds <= 60:
        raise ConfigError(f"a flood of {seconds:g} s", hint="up to 60 s")
    with Worker("flooded") as phone, Worker("flood-peer") as peer, Worker("flood") as flood:

        def rest() -> dict[str, Any]:
            progress(f"{settle_s:g} s of rest")
            time.sleep(settle_s)
            return phone.ask("mark", at_rest=True)

        port = phone.ask("open")["port"]
        peer.ask("call", port=port, calls=CALLS)
        flood.ask("open", port=port)
        time.sleep(1.0)  # what the first sound needs is there
        before = rest()
        peak, sent, rates, after = before["rss_bytes"], 0, [], []
        for _ in range(ROUNDS):
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
            after.append(rest())
        first, last = after[0], after[-1]
        heard = peer.ask("finish")
        end = rest()
        phone.ask("close")
    return FloodReport(
        seconds=seconds,
        rate=min(rates),
        sent=sent,
        dropped=last["flooded"] - before["flooded"],
        calls=min(last["calls"], heard["calls"]),
        rtp_received=heard["received"] + last["received"],
        rtp_lost=heard["lost"] + last["lost"],
        options=heard["options"],
        unanswered=heard["unanswered"],
        options_ms_max=heard["options_ms_max"],
        growth_bytes=max(peak, last["rss_bytes"]) - before["rss_bytes"],
        rss_kept_mb=(first["rss_bytes"] - before["rss_bytes"]) / 1e6,
        rss_added_mb=(last["rss_bytes"] - first["rss_bytes"]) / 1e6,
        blocks_left=last["blocks"] - before["blocks"],
        transactions_left=end["transactions"],
    )


def _bar(figure: float, bar: float, met: bool) -> dict[str, Any]:
    return {"figure": round(figure, 3), "bar": bar, "met": met}
