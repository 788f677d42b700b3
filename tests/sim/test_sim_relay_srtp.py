"""A relay between a protected leg and a plain one, and between two that have other keys (V03)."""

from __future__ import annotations

import asyncio

import pytest
from test_sim_relay import Scene, hear, play

import voip
from voip.types import SeededRandom


@pytest.mark.parametrize("legs", [(0,), (1,), (0, 1)], ids=["first", "second", "both"])
@pytest.mark.parametrize("loss", [0.0, 0.05])
def test_V03_payloads_are_relayed_between_srtp_and_rtp(legs: tuple[int, ...], loss: float) -> None:
    async def story(scene: Scene) -> None:
        for leg in legs:
            suite = ("AES_CM_128_HMAC_SHA1_80", "AEAD_AES_256_GCM")[leg]
            ours, theirs = (
                voip.SrtpKeys.generate(suite, SeededRandom(10 * leg + side)) for side in (1, 2)
            )
            await scene.legs[leg].protect(send=ours, receive=theirs)
            await scene.ends[leg].protect(send=theirs, receive=ours)
        one, two = scene.legs
        before = [(await leg.measure()).played_ms for leg in scene.legs]
        await one.bridge(two)
        there, back = await asyncio.gather(hear(*scene.ends, 3, 1), hear(*scene.ends[::-1], 3, 2))
        assert min(there, back) > (0.99 if not loss else 0.8)
        after = [(await leg.measure()).played_ms for leg in scene.legs]
        assert max(after) - max(before) < 400, (before, after)
        for end in scene.ends:
            stats = await end.measure()
            assert stats.packets_received > 140 * (1 - 3 * loss)

    play(story, loss=loss)
