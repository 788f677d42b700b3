"""A peer whose clock is wrong, in real time: SIPp signals, SoX makes its sound, which is paced."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest
from direct import HOST
from peers.ports import free_port
from peers.process import leashed
from peers.sipp import Sipp
from phones import LEG_HZ, part, until
from sipp_flow import ACKED, CONTACT, HUNG_UP_ON, OURS, described, echoed, scenario
from stalls import repeated_after_stalls
from test_troubles import made, speech

from voip.config import MediaConfig, NetworkConfig
from voip.harness.audio import Sound, find_offset
from voip.harness.grade import Bar, grade_speech
from voip.phone import Softphone

PACER = Path(__file__).parent / "peers" / "paced_rtp.py"
LISTENED_S = 22.0
STALL_MS = 30.0
"""A sender that is kept from running for longer makes a gap that a buffer of 60 ms may not hide."""
PIECE_S = 2.7
BAR = Bar(drift_ppm=10_000, allowed=0.02)
"""What is put in, at the edge of a word, may be a frame that is not in what was said."""
HELD_MS = 80.0
"""By so much the buffer may be fuller or emptier in the end than it was."""


@pytest.mark.usefixtures("codec_judges")
@pytest.mark.parametrize(
    "ppm",
    [
        -4000.0,
        4000.0,
        pytest.param(-500.0, marks=pytest.mark.matrix),
        pytest.param(500.0, marks=pytest.mark.matrix),
    ],
)
@repeated_after_stalls
async def test_a_clock_that_is_off_is_told_and_not_heard(
    sipp: Callable[..., Awaitable[Sipp]], artifacts: Path, ppm: float
) -> None:
    """At 4000 ppm more is too much, or missing, than the buffer holds, and nowhere is a gap."""
    file = made(artifacts / "said.ul", source=speech(artifacts))
    port = free_port()
    flow = scenario(
        artifacts, "callee", '<recv request="INVITE"/>',
        echoed(200, CONTACT, *described(port), tag=OURS, again=True),
        ACKED, *HUNG_UP_ON,
    )  # fmt: skip
    callee = await sipp(flow)
    async with Softphone(
        network=NetworkConfig(bind_host=HOST, trusted=(HOST,)),
        media=MediaConfig(codecs=("pcmu",), jitter_min_ms=60.0),
        pcap=artifacts / "phone.pcap",
    ) as phone:
        call = await phone.dial(callee.uri)
        local = call._session.media.local_rtp
        assert local is not None
        pacer = await asyncio.create_subprocess_exec(
            *leashed([sys.executable, str(PACER), str(port), str(local.port), str(file), str(ppm)]),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            await until(lambda: call.stats.packets_received > 0, "its sound")
            async with call.record(artifacts / "heard.wav"):
                await asyncio.sleep(LISTENED_S)
                stats = await call.measure()
        finally:
            told, _ = await pacer.communicate(b"\n")
        await asyncio.sleep(0.3)
        over = await call.measure()
        await call.hangup()
        (await callee.finished()).require(1)
    sent, late_ms = map(float, told.split())
    assert (over.packets_received, over.packets_lost) == (sent, 0)
    gaps = f"{stats.concealed_ms:.0f} ms concealed; a packet was sent {late_ms:.0f} ms late"
    stalled = late_ms > STALL_MS
    assert stats.concealed_ms == 0 or stalled, gaps
    if stats.clock_drift_ppm is not None:  # where the machine is busy, no line is straight enough
        assert stats.clock_drift_ppm == pytest.approx(ppm, abs=60)
    heard = Sound.read(artifacts / "heard.wav")
    once = Sound.read(artifacts / "speech.wav")
    packets = once.samples[: once.samples.size // 160 * 160]  # as they are sent, over and over
    said = Sound(np.tile(packets, 3), once.rate_hz)
    begin = find_offset(part(said, 0, PIECE_S), part(heard, 0, 2 * PIECE_S))
    assert begin is not None
    scores = []
    for at_s in np.arange(PIECE_S, LISTENED_S - 2 * PIECE_S, PIECE_S).tolist():
        there_s = begin.offset / LEG_HZ + at_s / (1 + ppm * 1e-6)
        around = part(heard, max(0.0, there_s - 0.2), there_s + PIECE_S + 0.3)
        grade = grade_speech(part(said, at_s, at_s + PIECE_S), around, leg_rate_hz=LEG_HZ, bar=BAR)
        assert grade.passed and (grade.coverage or 0) > 0.95, f"{at_s} s: {grade.explain()}"
        scores.append(round(grade.mos_lqo or 0, 2))
    assert len(scores) >= 3
    stretched_ms = stats.expanded_ms - stats.accelerated_ms
    drifted_ms = -ppm * 1e-6 * 1000 * LISTENED_S
    print(f"PESQ {scores}; {stretched_ms:.0f} ms stretched of {drifted_ms:.0f} ms; {gaps}")
    assert stalled or abs(stretched_ms - drifted_ms) < HELD_MS, f"{stretched_ms} of {drifted_ms} ms"
