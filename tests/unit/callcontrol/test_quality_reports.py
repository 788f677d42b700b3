"""Reports of calls, sent to a collector when they are over (RFC 6035)."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from callers import answering
from phone_scene import Network, Server, flow, quiet, uri

from voip.media.answers import StreamStats
from voip.media.commands import Command
from voip.sim.world import DEFAULT_START
from voip.sip.config import AgentConfig
from voip.sip.events import RequestReceived
from voip.types import Address

COLLECTING = AgentConfig(allow=(*AgentConfig().allow, "PUBLISH"))


def collecting(event: Any, server: Server) -> None:
    if isinstance(event, RequestReceived):
        server.notes.append(event.request.request)
        event.request.reply(200, now=server.now())


async def nothing_measured(command: Command) -> None:
    return None


@flow
async def test_F106_a_report_is_published_when_a_call_is_over(net: Network) -> None:
    server = await net.server("collector", COLLECTING, collecting)
    alice, bob = net.phone("alice", quality_collector=server.uri), net.phone("bob")
    async with alice, bob:
        calls = answering(bob)
        call = await alice.dial(uri(bob))
        call._session.media._measured = replace(
            StreamStats(1), codec="pcmu", packets_sent=3000, packets_received=2850,
            packets_lost=150, packets_late=30, jitter_ms=2.0, rtt_ms=200.0, average_delay_ms=60.0,
            ssrc_sent=0x1A3B5C7D, ssrc_received=0x2468ABCD, remote=Address("192.0.2.3", 10002),
        )  # fmt: skip
        alice.sound.apply = nothing_measured  # these are the last figures
        await asyncio.sleep(60)
        dialog = call._session.dialog
        await call.hangup()
        await calls.get()
        await asyncio.sleep(40)
        (request,) = server.notes
        assert request.headers.get("Event") == "vq-rtcpxr"
        assert request.content_type == "application/vq-rtcpxr"
        text = request.body.decode()
        day = datetime.fromtimestamp(DEFAULT_START, UTC).date().isoformat()
        assert f"START={day}T" in text and f"STOP={day}T" in text  # the world's day, not ours
        for line in (
            f"CallID:{dialog.call_id}", f"LocalID:<{uri(alice)}>", f"RemoteID:<{uri(bob)}>",
            f"OrigID:<{uri(alice)}>", "PacketLoss:NLR=5.0 JDR=1.0",
            "RemoteAddr:IP=192.0.2.3 PORT=10002 SSRC=0x2468abcd",
            "Delay:RTD=200 ESD=60 SOWD=100 IAJ=2",
            f"DialogID:{dialog.call_id};to-tag={dialog.remote.tag};from-tag={dialog.local.tag}",
        ):  # fmt: skip
            assert f"{line}\r\n" in text, f"{line}\n{text}"
        assert re.search(r"QualityEst:RCQ=\d+ MOSCQ=\d\.\d QoEEstAlg=G\.107", text)
        assert "SessionDesc:PT=0 PD=PCMU SR=8000 FD=20 FPP=1 PPS=50" in text
        alice.sound.streams.clear()
        await quiet(alice, bob)


@flow
async def test_F106_a_call_that_was_never_answered_has_no_report(net: Network) -> None:
    server = await net.server("collector", COLLECTING, collecting)
    alice, bob = net.phone("alice", quality_collector=server.uri), net.phone("bob")
    async with alice, bob:
        call = await alice.dial(uri(bob), wait="started")
        await call.wait_ended()
        await asyncio.sleep(40)
        assert server.notes == []
        await quiet(alice, bob)
