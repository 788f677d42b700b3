"""Our phones at a peer's server, and the ear that judges what was heard.

The tests of all peers share these: they know nothing of any one peer.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from voip.call import Call
from voip.config import MediaConfig, NetworkConfig
from voip.events import CallEnded
from voip.harness.audio import FRAME_S, Sound, frame_rms
from voip.harness.grade import Grade, grade_speech, grade_waveform, pesq_installed
from voip.phone import Softphone
from voip.sounds import asset_path

CODECS = ("pcmu", "pcma")
LEG_HZ = 8000
JITTER_MS = 200.0
"""Least delay of the jitter buffers: on a machine busy with other tests either side may stall."""
TAIL_S = 0.6
"""What is still on its way when playing has ended lasts less than this."""


class Server(Protocol):
    """Where accounts are: Asterisk, or the embedded PBX."""

    def uri(self, number: str) -> str:
        """The SIP URI of a number or phone."""
        ...

    def password(self, user: str) -> str:
        """The digest password of an account."""
        ...


def softphone(
    server: Server,
    user: str,
    artifacts: Path,
    *,
    register: bool = False,
    codecs: tuple[str, ...] = CODECS,
    ptime_ms: int = 20,
    transport: str = "udp",
    **settings: Any,
) -> Softphone:
    """A phone with the account `user`, whose SIP and RTP are captured to `<user>.pcap`."""
    artifacts.mkdir(exist_ok=True)
    settings.setdefault("password", server.password(user))
    return Softphone(
        server.uri(user),
        register=register,
        network=replace(NetworkConfig(), transport=transport),
        media=MediaConfig(
            codecs=codecs, ptime_ms=ptime_ms, jitter_min_ms=JITTER_MS, jitter_policy="fixed"
        ),
        pcap=artifacts / f"{user}.pcap",
        **settings,
    )


def shipped(name: str) -> Sound:
    """A sound of the package: `speech-8k.wav` (8.3 s), `prompt-8k.wav` (3.3 s) ..."""
    with asset_path(name) as path:
        return Sound.read(path)


# -- judging ------------------------------------------------------------------------------------


def require_speech(sent: Sound, heard: Sound, *, coverage: float = 1.0, what: str = "") -> Grade:
    """Hold speech against the waveform's bar and against PESQ's; `coverage` of it must be there.

    Where PESQ is not installed the waveform has to do, unless VOIP_REQUIRE_PEERS says otherwise.
    """
    grade = _require(grade_waveform(sent, heard, leg_rate_hz=LEG_HZ), what)
    if pesq_installed() or os.environ.get("VOIP_REQUIRE_PEERS") == "1":
        grade = _require(grade_speech(sent, heard, leg_rate_hz=LEG_HZ), what)
    if grade.coverage is None or grade.coverage < coverage:
        raise AssertionError(f"{what}: less than {coverage:.0%} was heard\n{grade.explain()}")
    return grade


def _require(grade: Grade, what: str) -> Grade:
    if not grade.passed:
        raise AssertionError(f"{what}: {grade.explain()}" if what else grade.explain())
    return grade


def part(sound: Sound, start_s: float, end_s: float) -> Sound:
    """What lies between two moments."""
    first, last = round(start_s * sound.rate_hz), round(end_s * sound.rate_hz)
    return Sound(sound.samples[first:last], sound.rate_hz)


def stretches(sound: Sound, *, at_least_s: float = 0.2) -> list[tuple[bool, Sound]]:
    """Cut a sound into (loud?, what it is), from the first loud 20 ms to the last.

    Loud is what has a quarter of the loudest frame's RMS; shorter stretches are left out.
    """
    rms = frame_rms(sound.samples, sound.frame)
    loud = rms > 0.25 * rms.max(initial=1.0)
    edges = np.flatnonzero(np.diff(np.concatenate(([0], loud.astype(np.int8), [0])))).tolist()
    return [
        (bool(loud[first]), part(sound, first * FRAME_S, last * FRAME_S))
        for first, last in itertools.pairwise(edges)
        if (last - first) * FRAME_S >= at_least_s
    ]


# -- waiting ------------------------------------------------------------------------------------


async def ended(call: Call, timeout: float = 15.0) -> CallEnded:
    """How the call ended; raises TimeoutError when it goes on and on."""
    async with asyncio.timeout(timeout):
        return await call.wait_ended()


async def until(
    true: Callable[[], bool] | Callable[[], Awaitable[bool]], what: str, timeout: float = 5.0
) -> None:
    """Ask again and again until it is true; raises TimeoutError that says `what` was missing."""
    deadline = asyncio.get_running_loop().time() + timeout
    while True:
        answer = true()
        if answer if isinstance(answer, bool) else await answer:
            return
        if asyncio.get_running_loop().time() > deadline:
            raise TimeoutError(f"waited {timeout:g} s for {what}")
        await asyncio.sleep(0.05)


async def echo_of(call: Call, sound: Sound, path: Path) -> Sound:
    """Play `sound` and return all that was heard meanwhile, which is kept at `path`."""
    async with call.record(path):
        await call.play(sound.samples)
        await asyncio.sleep(TAIL_S)
    return Sound.read(path)
