"""The phone under test in a process of its own: it answers every call, or keeps registered."""

from __future__ import annotations

import asyncio
import gc
import heapq
import time
from dataclasses import dataclass

from voip.call import Call
from voip.config import MediaConfig, NetworkConfig
from voip.harness.bench.sip_speed import rss_bytes
from voip.net.sip_network import KernelNetwork
from voip.phone import Softphone
from voip.sip.agent import SipAgent
from voip.sip.config import AgentConfig
from voip.sip.endpoint.endpoint import SipEndpoint
from voip.sip.events import RequestDone, RequestFailed, SipEvent
from voip.sip.registration import Registered, Registration
from voip.types import Address, SecureRandom

__all__ = ["HOST", "PhoneMark", "PhoneSide", "RegistrationMark", "RegistrationSide"]

HOST = "127.0.0.1"
SOUND = Address("192.0.2.7", 40000)
"""Where the calls' sound would go, were there any."""
REGISTERS_AT_ONCE = 16
"""First registrations that wait for an answer at a time; renewals come when they are due."""
PACE_S = 0.005


@dataclass(frozen=True, slots=True)
class PhoneMark:
    """What the phone's process had done by now."""

    wall_s: float
    cpu_s: float
    rss_bytes: int
    calls: int  # that are not over
    answered: int
    broken: int  # answered, and the caller's ACK never came; or not answered at all
    collector_ms_max: float  # CPU time of the longest collection of cycles, when nothing else runs


class PhoneSide:
    """A `Softphone` without media engine that rings, answers, and lets the other side hang up."""

    def __init__(self) -> None:
        self._answered = 0
        self._broken = 0
        self._collecting = 0.0
        self._longest_s = 0.0
        self._phone = Softphone(
            network=NetworkConfig(bind_host=HOST, trusted=(HOST,)),
            media=MediaConfig(elsewhere=SOUND),
        )
        self._phone.on_incoming(self._answer)

    async def open(self) -> int:
        """Start; return the SIP port."""
        await self._phone.start()
        gc.collect()
        gc.freeze()
        gc.callbacks.append(self._on_collection)
        return self._phone.port

    def _on_collection(self, phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            self._collecting = time.process_time()
        else:
            self._longest_s = max(self._longest_s, time.process_time() - self._collecting)

    async def _answer(self, call: Call) -> None:
        try:
            await call.ring()
            await call.answer()
        except Exception:
            self._broken += 1
            raise
        self._answered += 1

    def mark(self) -> PhoneMark:
        """Read the clocks and counts."""
        longest_s = self._longest_s
        gc.collect()  # not counted: nobody but the benchmark asks for it
        self._longest_s = longest_s
        return PhoneMark(
            time.perf_counter(),
            time.process_time(),
            rss_bytes(),
            len(self._phone.calls),
            self._answered,
            self._broken,
            1000 * longest_s,
        )

    async def close(self) -> None:
        """End everything."""
        gc.callbacks.remove(self._on_collection)
        await self._phone.close()


@dataclass(frozen=True, slots=True)
class RegistrationMark:
    """What became of the registrations by now."""

    cpu_s: float
    held: int
    refreshed: int  # renewed at least once, and held
    failed: int


class RegistrationSide:
    """Many accounts of one agent on one socket, each kept registered by itself."""

    def __init__(self, count: int, registrar_port: int, expires_s: int) -> None:
        self._count = count
        self._port = registrar_port
        self._expires_s = expires_s
        self._agent = SipAgent(AgentConfig(max_client_transactions=2 * count), SecureRandom())
        self._transport: SipEndpoint[SipEvent] = SipEndpoint(
            self._agent, self._on_event, KernelNetwork()
        )
        self._by_address: dict[str, Registration] = {}
        self._held: set[str] = set()
        self._refreshed: set[str] = set()
        self._failed = 0
        self._begun_cpu_s = 0.0
        self._due: list[tuple[float, str]] = []
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Bind, and begin to register one after the other."""
        await self._transport.start(HOST, 0, ("udp",))
        flow = await self._transport.flow_to(HOST, self._port)
        random = SecureRandom()
        for number in range(self._count):
            address = f"sip:user{number}@bench.example"
            self._by_address[address] = Registration(
                self._agent,
                random,
                registrar=f"sip:{HOST}:{self._port}",
                address=f"<{address}>",
                contact=f"<sip:user{number}@{flow.local}>",
                flow=flow,
                expires_s=self._expires_s,
            )
        self._begun_cpu_s = time.process_time()
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        waiting = list(self._by_address.values())
        while True:
            now = self._transport.now()
            answered = len(self._held) + self._failed
            room = answered + REGISTERS_AT_ONCE - (self._count - len(waiting))
            for _ in range(min(room, len(waiting))):
                waiting.pop().start(now)
            while self._due and self._due[0][0] <= now:
                self._by_address[heapq.heappop(self._due)[1]].handle_timer(now)
            self._transport.flush()
            await asyncio.sleep(PACE_S)

    def _on_event(self, event: SipEvent) -> None:
        if not isinstance(event, RequestDone | RequestFailed):
            return
        address = event.handle.request.from_.uri
        registration = self._by_address[address]
        registration.handle(event, self._transport.now())
        for news in registration.events():
            if isinstance(news, Registered):
                self._held.add(address)
                if news.renewed:
                    self._refreshed.add(address)
            else:
                self._failed += 1
                self._held.discard(address)
        wake = registration.next_timer()
        if wake is not None:
            heapq.heappush(self._due, (wake, address))

    def mark(self) -> RegistrationMark:
        """Count."""
        refreshed = len(self._refreshed & self._held)
        cpu_s = time.process_time() - self._begun_cpu_s
        return RegistrationMark(cpu_s, len(self._held), refreshed, self._failed)

    async def close(self) -> None:
        """Stop, without unregistering anybody."""
        if self._task is not None:
            self._task.cancel()
        await self._transport.close()
