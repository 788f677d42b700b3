"""How fast the simulator is: a long call over a path that loses 3 % in bursts, and its real time.

Twice: the signalling alone, two SIP agents that refresh their session and ask each other for signs
of life; and the same with two phones and G.711 both ways.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from voip.call import Call
from voip.config import NetworkConfig
from voip.dsp.tones import MILLIWATT
from voip.dsp.tones import play as sound_of
from voip.errors import CallError
from voip.harness.bench.calibration import REFERENCE, calibrate
from voip.net.platform import running_platform
from voip.phone import Softphone
from voip.sim import GilbertElliott, Host, Path, World
from voip.sip.agent import SipAgent
from voip.sip.config import AgentConfig
from voip.sip.dialog import Dialog
from voip.sip.endpoint.endpoint import SipEndpoint
from voip.sip.events import (
    Answered,
    DialogEnded,
    IncomingInvite,
    InviteFailed,
    ReinviteDone,
    ReinviteReceived,
    RequestDone,
    RequestFailed,
    SipEvent,
)

__all__ = ["PATH", "SimReport", "run"]

PATH: Final = Path(burst=GilbertElliott.of(0.03, 4), delay_s=0.04, jitter_s=0.01)
"""3 % lost, in bursts of 4 packets on average."""
PING_S: Final = 30.0
"""How often OPTIONS is sent in the call."""
REFRESH_S: Final = 90.0
"""How often a re-INVITE is: half of the shortest session (RFC 4028)."""
SIGNALLING_BAR_S: Final = 2.0
MEDIA_BAR_S: Final = 60.0
"""The bars: seconds for half an hour, where nothing else runs."""
BAR_MINUTES: Final = 30.0
_SDP: Final = (
    b"v=0\r\no=- 1 1 IN IP4 10.0.0.1\r\ns=-\r\nc=IN IP4 10.0.0.1\r\nt=0 0\r\n"
    b"m=audio 40000 RTP/AVP 0\r\n"
)
_SDP_TYPE: Final = "application/sdp"
_BOB: Final = NetworkConfig(bind_port=5060)


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
    signalling = _timed(_Signalling(seed, minutes).run)
    progress("signalling and media ...")
    media = _timed(lambda: _talk(seed, minutes, drift_ppm))
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


# ---------------------------------------------------------------- signalling alone


class _Party:
    """A SIP agent on a host; its events go to `happened`."""

    def __init__(self, happened: Callable[[_Party, SipEvent], None]) -> None:
        platform = running_platform()
        self.agent = SipAgent(AgentConfig(), platform.random())
        self.events: asyncio.Queue[SipEvent] = asyncio.Queue()
        self.endpoint: SipEndpoint[SipEvent] = SipEndpoint(
            self.agent,
            lambda event: happened(self, event),
            platform.sip_network(),
            random=platform.random(),
        )

    def now(self) -> float:
        return self.endpoint.now()

    def contact(self, host: Host) -> str:
        return f"<sip:{host.address}:{self.endpoint.addresses[0][1].port}>"


class _Signalling:
    """A call of two agents that goes on for long."""

    def __init__(self, seed: int, minutes: float) -> None:
        self._seconds = 60 * minutes
        self._world = World(seed, path=PATH)
        self._alice = self._world.host("10.0.0.1")
        self._bob = self._world.host("10.0.0.2")
        self._done = {"options": 0, "reinvites": 0}
        self._dialog: asyncio.Future[Dialog]
        self._over: asyncio.Future[str]

    def run(self) -> dict[str, Any]:
        """Return what was exchanged; raises `CallError` where the call breaks."""
        self._world.run(self._main(), limit_s=2 * self._seconds + 600)
        return {**self._done, **_lost(self._world)}

    async def _main(self) -> None:
        loop = asyncio.get_running_loop()
        self._dialog, self._over = loop.create_future(), loop.create_future()
        with self._bob.here():
            callee = _Party(self._answer)
            await callee.endpoint.start(self._bob.address, 5060)
        with self._alice.here():
            caller = _Party(self._note)
            await caller.endpoint.start(self._alice.address, 5060)
            await self._call(caller)
            await caller.endpoint.close()
        await callee.endpoint.close()

    async def _call(self, caller: _Party) -> None:
        flow = await caller.endpoint.flow_to(self._bob.address, 5060)
        uri = f"sip:bob@{self._bob.address}"
        caller.agent.invite(
            uri,
            flow=flow,
            from_=f"<sip:alice@{self._alice.address}>",
            to=f"<{uri}>",
            contact=caller.contact(self._alice),
            body=_SDP,
            content_type=_SDP_TYPE,
            now=caller.now(),
        )
        caller.endpoint.flush()
        dialog = await self._dialog
        ends = caller.now() + self._seconds
        refresh = caller.now() + REFRESH_S
        while caller.now() + PING_S <= ends:
            await asyncio.sleep(PING_S)
            if self._over.done():
                raise CallError(f"the call ended by itself: {self._over.result()}")
            caller.agent.dialog_request(dialog, "OPTIONS", now=caller.now())
            if caller.now() >= refresh:
                refresh += REFRESH_S
                caller.agent.reinvite(dialog, body=_SDP, content_type=_SDP_TYPE, now=caller.now())
            caller.endpoint.flush()
        await asyncio.sleep(PING_S)
        caller.agent.bye(dialog, now=caller.now())
        caller.endpoint.flush()
        await self._over

    def _note(self, caller: _Party, event: SipEvent) -> None:
        """Take what the caller's agent tells."""
        match event:
            case Answered(_, _, dialog):
                self._dialog.set_result(dialog)
            case InviteFailed():
                self._dialog.set_exception(CallError(f"nobody answered: {event}"))
            case RequestDone():
                self._done["options"] += event.response.status == 200
            case ReinviteDone():
                self._done["reinvites"] += 1
            case RequestFailed():
                raise CallError(f"OPTIONS failed: {event}")
            case DialogEnded() if not self._over.done():
                self._over.set_result(event.reason)

    def _answer(self, callee: _Party, event: SipEvent) -> None:
        """Answer calls and re-INVITEs."""
        match event:
            case IncomingInvite(invite) | ReinviteReceived(invite, _):
                callee.agent.respond(
                    invite,
                    200,
                    contact=callee.contact(self._bob),
                    body=_SDP,
                    content_type=_SDP_TYPE,
                    now=callee.now(),
                )
            case _:
                pass


# ---------------------------------------------------------------- with media


def _talk(seed: int, minutes: float, drift_ppm: float) -> dict[str, Any]:
    world = World(seed, path=PATH)
    alice, bob = world.host("10.0.0.1", drift_ppm=drift_ppm), world.host("10.0.0.2")
    tone = np.rint(16384 * sound_of(MILLIWATT, 0, 8000, 8000)).astype(np.int16)
    figures: dict[str, Any] = {}

    async def note(side: str, call: Call) -> None:
        stats = await call.measure()
        figures[side] = {
            "packets_sent": stats.packets_sent,
            "packets_received": stats.packets_received,
            "packets_lost": stats.packets_lost,
            "delay_ms": None if stats.delay_ms is None else round(stats.delay_ms, 1),
            "accelerated_ms": stats.accelerated_ms,
            "expanded_ms": stats.expanded_ms,
            "mos": None if call.quality.mos is None else round(call.quality.mos, 2),
        }

    async def main() -> None:
        ready = asyncio.Event()

        async def listen() -> None:
            async with Softphone(register=False, network=_BOB) as phone:

                @phone.on_incoming
                async def answer(call: Call) -> None:
                    await call.answer()
                    playing = asyncio.ensure_future(call.play(tone, loop=True))
                    await asyncio.sleep(60 * minutes)
                    await note("callee", call)
                    await call.wait_ended()
                    await playing

                ready.set()
                await asyncio.Event().wait()

        async def dial() -> None:
            async with Softphone(register=False) as phone:
                call = await phone.dial(f"sip:bob@{bob.address}")
                playing = asyncio.ensure_future(call.play(tone, loop=True))
                ends = asyncio.get_running_loop().time() + 60 * minutes
                holds = 0
                while asyncio.get_running_loop().time() + REFRESH_S < ends:
                    await asyncio.sleep(REFRESH_S)
                    await call.hold()
                    await call.resume()
                    holds += 1
                await asyncio.sleep(max(0.0, ends - asyncio.get_running_loop().time()) + 1)
                await note("caller", call)
                figures["reinvites"] = 2 * holds
                await call.hangup()
                await playing

        bob.create_task(listen())
        await ready.wait()
        await alice.run(dial())

    world.run(main(), limit_s=120 * minutes + 600)
    return {**figures, **_lost(world)}
