"""The parts of the SIP benchmark that need one process: parsing, attacks, dialogs without I/O."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from voip.errors import VoipError
from voip.harness.bench.calibration import REFERENCE, calibrate
from voip.harness.bench.sip_messages import ATTACKS, invite, route
from voip.sip.agent import SipAgent
from voip.sip.config import AgentConfig
from voip.sip.events import IncomingInvite
from voip.sip.flow import Flow
from voip.types import Address, SecureRandom

__all__ = ["attack_ratios", "bytes_per_dialog", "parse_rates", "rss_bytes"]

_BATCH: Final = 2000
_FLOW: Final = Flow("udp", Address("192.0.2.1", 5060), Address("192.0.2.10", 5060))
_CONTACT: Final = "<sip:bob@192.0.2.1:5060>"
_SHORT_S: Final = 0.002
"""An attack that is read in less is read several times, so that the clock can tell."""


def parse_rates(seconds: float) -> list[tuple[float, float]]:
    """Parse and route INVITEs, no two alike; return (a second, factor) of each batch.

    The factor is that of plain Python: parsing is nothing else.
    """
    messages = [invite(number) for number in range(_BATCH)]
    rates: list[tuple[float, float]] = []
    until = time.perf_counter() + seconds
    before = calibrate(1).python_factor(REFERENCE)
    while time.perf_counter() < until or len(rates) < 3:
        begun = time.perf_counter()
        for message in messages:
            route(message)
        taken = time.perf_counter() - begun
        after = calibrate(1).python_factor(REFERENCE)
        rates.append((_BATCH / taken, (before + after) / 2))
        before = after
    return rates


def attack_ratios(tries: int) -> dict[str, tuple[float, float]]:
    """Return for each attack: cost of 64 KiB over cost of 32 KiB, and the former in ms of CPU.

    Each is read `tries` times: the median of the ratios, and the least of the costs.
    """
    found = {}
    for name, (make, read) in ATTACKS.items():
        half, whole = make(32_768), make(65_536)
        ratios, costs = [], []
        for _ in range(tries):
            costs.append(_cost_s(read, whole))
            ratios.append(costs[-1] / max(1e-9, _cost_s(read, half)))
        found[name] = statistics.median(ratios), 1000 * min(costs)
    return found


def _cost_s(read: Callable[[bytes], object], data: bytes) -> float:
    """Return the CPU time that reading takes."""
    times, begun = 0, time.process_time()
    while (taken := time.process_time() - begun) < _SHORT_S or not times:
        with suppress(VoipError):
            read(data)
        times += 1
    return taken / times


def bytes_per_dialog(dialogs: int) -> float:
    """Return what an agent without I/O grows by for each dialog it has answered."""
    _dialogs(50)
    gc.collect()
    before = rss_bytes()
    agent = _dialogs(dialogs)
    gc.collect()
    grown = rss_bytes() - before
    if len(agent.dialogs) != dialogs:
        raise VoipError(f"{len(agent.dialogs)} of {dialogs} dialogs were made")
    return grown / dialogs


def _dialogs(count: int) -> SipAgent:
    agent = SipAgent(AgentConfig(max_dialogs=count), SecureRandom())
    for number in range(count):
        message = invite(number)
        now = number / 1000
        agent.receive(message, _FLOW, now)
        for event in agent.events():
            if isinstance(event, IncomingInvite):
                body = message.partition(b"\r\n\r\n")[2]
                agent.ring(event.invite, contact=_CONTACT, now=now)
                agent.respond(
                    event.invite,
                    200,
                    contact=_CONTACT,
                    body=body,
                    content_type="application/sdp",
                    now=now,
                )
                agent.receive(_ack(number, event.invite.tag), _FLOW, now)
        agent.events(), agent.outgoing()
        agent.handle_timer(now)
    return agent


def _ack(number: int, tag: str) -> bytes:
    head, _, _ = invite(number).partition(b"\r\nRecord-Route")
    call_id = invite(number).partition(b"Call-ID: ")[2].partition(b"\r\n")[0]
    sender = invite(number).partition(b"From: ")[2].partition(b"\r\n")[0]
    vias = head.partition(b"\r\n")[2].replace(b"z9hG4bK", b"z9hG4bKa", 1)
    return (
        b"ACK sip:bob@192.0.2.1:5060 SIP/2.0\r\n%b\r\nFrom: %b\r\n"
        b"To: <sip:+15551230002@pbx.example.com>;tag=%b\r\nCall-ID: %b\r\n"
        b"CSeq: 102 ACK\r\nContent-Length: 0\r\n\r\n" % (vias, sender, tag.encode(), call_id)
    )


def rss_bytes() -> int:
    """Return the resident memory of this process."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmRSS:")[2].split()[0])
