"""How fast the simulator is: a long call over a path that loses 3 % in bursts, and its real time.

Twice, between two phones that refresh their session (RFC 4028): the signalling alone, and with
G.711 both ways.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from voip.call import Call
from voip.config import CallConfig, MediaConfig, NetworkConfig
from voip.dsp.tones import MILLIWATT
from voip.dsp.tones import play as sound_of
from voip.errors import CallError
from voip.harness.bench.calibration import REFERENCE, calibrate
from voip.phone import Softphone
from voip.sim import GilbertElliott, Host, Path, World
from voip.sip.endpoint.trace import SipTraceRecord
from voip.sip.message import Request, parse_message
from voip.types import Address

__all__ = ["PATH", "SimReport", "run"]

PATH: Final = Path(burst=GilbertElliott.of(0.03, 4), delay_s=0.04, jitter_s=0.01)
"""3 % lost, in bursts of 4 packets on average."""
SESSION_S: Final = 180
"""How long a session lasts unrefreshed; it is refreshed after half of that."""
SIGNALLING_BAR_S: Final = 2.0
MEDIA_BAR_S: Final = 60.0
"""The bars: seconds for half an hour, where nothing else runs."""
BAR_MINUTES: Final = 30.0


@dataclass(frozen=True, slots=True)
class SimReport:
    """What both calls did, and how long they took. `signalling`, `media`: figures by name."""

    minutes: float
    signalling: dict[str, Any]
    media: dict[str, Any]
    machine_factor: float

    def to_json(self) -> dict[str, Any]:
        """Return all figures; a bar is judged for half an hour only.

        It is judged by CPU time: the simulator never waits, so that this is the real time on a
        machine that does nothing else.
        """
        judged = self.minutes == BAR_MINUTES
        bars = {
            name: {
                "figure": figures["cpu_s"],
                "bar": bar,
                "met": figures["cpu_s"] < bar if judged else None,
            }
            for name, figures, bar in (
                ("signalling_cpu_s", self.signalling, SIGNALLING_BAR_S),
                ("media_cpu_s", self.media, MEDIA_BAR_S),
            )
        }
        return {
            "minutes": self.minutes,
            "signalling": self.signalling,
            "media": self.media,
            "machine_factor": round(self.machine_factor, 3),
            "bars": bars,
        }


def run(
    minutes: float,
    seed: int = 1,
    drift_ppm: float = 0.0,
    progress: Callable[[str], None] = print,
) -> SimReport:
    """Let both calls last `minutes`; raises `CallError` where one of them breaks.

    `drift_ppm`: of the caller's clock in the call with media, which takes an engine of its own.
    """
    progress("signalling ...")
    signalling = _timed(lambda: _talk(seed, minutes, 0.0, media=False))
    progress("signalling and media ...")
    media = _timed(lambda: _talk(seed, minutes, drift_ppm, media=True))
    return SimReport(minutes, signalling, media, calibrate().factor(REFERENCE))


def _timed(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    began, cpu = time.perf_counter(), time.process_time()
    figures = work()
    figures["real_s"] = round(time.perf_counter() - began, 3)
    figures["cpu_s"] = round(time.process_time() - cpu, 3)
    return figures


def _lost(world: World) -> dict[str, int]:
    """Return how many datagrams were sent, and how many of them were lost."""
    counts = [world.network.counts_of(address) for address in world.network.senders()]
    return {
        "datagrams_sent": sum(one.sent for one in counts),
        "datagrams_lost": sum(one.lost for one in counts),
    }


def _talk(seed: int, minutes: float, drift_ppm: float, *, media: bool) -> dict[str, Any]:
    """Let two phones have a call; raises `CallError` where it does not last."""
    world = World(seed, path=PATH)
    alice, bob = world.host("10.0.0.1", drift_ppm=drift_ppm), world.host("10.0.0.2")
    tone = np.rint(16384 * sound_of(MILLIWATT, 0, 8000, 8000)).astype(np.int16)
    figures: dict[str, Any] = {}
    refreshes: set[tuple[str, int]] = set()

    def note_refresh(record: SipTraceRecord) -> None:
        message = parse_message(record.data)
        if (
            record.sent
            and isinstance(message, Request)
            and message.to.tag is not None
            and "Session-Expires" in message.headers
        ):
            refreshes.add((str(record.flow.local), message.cseq.number))

    def phone(host: Host) -> Softphone:
        return Softphone(
            register=False,
            network=NetworkConfig(bind_host=host.address, bind_port=5060),
            media=MediaConfig(elsewhere=None if media else Address(host.address, 40000)),
            calling=CallConfig(session_timer="required", session_expires_s=SESSION_S),
            trace=note_refresh,
        )

    async def last(side: str, call: Call) -> None:
        """Stay in the call for its time, talking where it has sound, and note its figures."""
        playing = asyncio.ensure_future(call.play(tone, loop=True)) if media else None
        with suppress(TimeoutError):
            async with asyncio.timeout(60 * minutes):
                end = await call.wait_ended()
                raise CallError(f"the call ended by itself: {end.reason}", status=end.status)
        if playing is not None:
            figures[side] = await _figures(call)
            playing.cancel()

    async def main() -> None:
        with bob.here():
            callee = phone(bob)

            @callee.on_incoming
            async def answer(call: Call) -> None:
                await call.answer()
                await last("callee", call)
                await call.wait_ended()

            await callee.start()
        await alice.run(dial())
        await callee.close()

    async def dial() -> None:
        async with phone(alice) as caller:
            call = await caller.dial(f"sip:bob@{bob.address}")
            await last("caller", call)
            await asyncio.sleep(1)  # the callee notes its figures too
            await call.hangup()

    world.run(main(), limit_s=120 * minutes + 600)
    return {**figures, "refreshes": len(refreshes), **_lost(world)}


async def _figures(call: Call) -> dict[str, Any]:
    stats = await call.measure()
    return {
        "packets_sent": stats.packets_sent,
        "packets_received": stats.packets_received,
        "packets_lost": stats.packets_lost,
        "delay_ms": None if stats.delay_ms is None else round(stats.delay_ms, 1),
        "accelerated_ms": stats.accelerated_ms,
        "expanded_ms": stats.expanded_ms,
        "mos": None if call.quality.mos is None else round(call.quality.mos, 2),
    }
