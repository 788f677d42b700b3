"""Phones at an embedded PBX, and how their calls fail and end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any

import pytest

from voip.call import Call
from voip.config import MediaConfig
from voip.errors import CallError
from voip.events import CallEnded
from voip.harness.audio import Sound
from voip.harness.pbx import EmbeddedPbx
from voip.phone import Softphone
from voip.sim import World as SimulatedWorld

PATIENT = MediaConfig(jitter_min_ms=200.0)
TAIL_S = 0.8
"""What is still on its way when playing has ended lasts less than this."""
TONE = Sound.sine(700.0, 1.4, 8000, -20.0)


def phone_of(pbx: EmbeddedPbx, user: str = "1001", **options: Any) -> Softphone:
    return Softphone(pbx.uri(user), **{"password": pbx.password(user), "media": PATIENT, **options})


async def refusal(call: Awaitable[object]) -> CallError:
    with pytest.raises(CallError) as raised:
        await call
    return raised.value


async def ended(call: Call) -> CallEnded:
    async with asyncio.timeout(20):
        return await call.wait_ended()


def in_virtual_time(work: Coroutine[Any, Any, None]) -> None:
    """Do it on a simulated host, where nobody waits and no machine is busy."""
    world = SimulatedWorld()
    world.run(work, on=world.host("192.0.2.1"))
