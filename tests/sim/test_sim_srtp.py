"""Protected calls of phones in a simulated world: SRTP through loss, copies and a rollover."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path as FilePath

import numpy as np
import pytest
from sound_scene import call_up, tone

from voip import SrtpKeys
from voip.call import Call
from voip.config import MediaConfig
from voip.errors import CallStateError
from voip.harness.audio import Sound, dominant_tone
from voip.media.answers import StreamStats
from voip.media.transmit import Transmitter
from voip.sim import Path, World
from voip.types import SeededRandom

CM, CM_256, GCM = "AES_CM_128_HMAC_SHA1_80", "AES_256_CM_HMAC_SHA1_80", "AEAD_AES_256_GCM"


def keys(seed: int, suite: str = CM) -> SrtpKeys:
    return SrtpKeys.generate(suite, SeededRandom(seed))


@pytest.fixture(autouse=True)
def soon_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let sequence numbers go round soon after the beginning."""
    begin = Transmitter.open

    def at_65400(self: Transmitter, row: int, **start: int) -> None:
        begin(self, row, **start | {"sequence": 65_400})

    monkeypatch.setattr(Transmitter, "open", at_65400)


def protected_call(
    talk: Callable[[Call, Call], Awaitable[None]],
    *,
    suite: str = CM,
    path: Path | None = None,
    capture: FilePath | None = None,
) -> None:
    """Let Alice call Bob, both with the keys of the other before anything is sent."""
    world = World(5, path=path or Path(delay_s=0.02))
    if capture is not None:
        world.capture(capture)
    hers, his = keys(1, suite), keys(2, suite)

    async def early(call: Call) -> None:
        await call.protect(send=his, receive=hers)

    async def started(call: Call) -> None:
        await call.protect(send=hers, receive=his)

    async def echoed(call: Call, other: Call) -> None:
        await other.echo()
        await talk(call, other)

    call_up(echoed, media=MediaConfig(), world=world, early=early, started=started)


@pytest.mark.rfc("3711", "3.3.1")
@pytest.mark.parametrize("suite", [CM, CM_256, GCM])
def test_a_call_over_loss_copies_and_disorder_across_a_rollover(
    tmp_path: FilePath, suite: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    figures: list[StreamStats] = []
    heard: list[np.ndarray] = []

    async def talk(call: Call, other: Call) -> None:
        playing = asyncio.ensure_future(call.play(tone(440, 12)))
        async for frame in call.audio(frame_ms=1000):
            heard.append(frame)
            if len(heard) == 12:
                break
        await playing
        figures.extend([await call.measure(), await other.measure()])

    path = Path(delay_s=0.03, jitter_s=0.01, loss=0.03, reorder=0.05, duplicate=0.02)
    protected_call(talk, suite=suite, path=path, capture=tmp_path / "wire.pcap")

    for stats in figures:
        assert stats.packets_sent > 550  # from 65,400 on: the counter went over
        assert stats.packets_received > 520
        assert stats.packets_lost > 5 < stats.packets_reordered
        assert stats.packets_replayed > 3, "copies are replays"
        assert (stats.packets_forged, stats.packets_withheld) == (0, 0)
        assert stats.packets_discarded == stats.packets_duplicate == 0
    for second in heard[2:11]:
        line = dominant_tone(Sound(second, 8000))
        assert line is not None and abs(line.frequency_hz - 440) < 5
    wire = (tmp_path / "wire.pcap").read_bytes()
    assert len(wire) > 1000 * 200
    assert b"\xff" * 20 not in wire, "silence is to be seen"
    for one in (keys(1, suite), keys(2, suite)):
        assert one.key not in wire
        assert one.key.hex() not in caplog.text and repr(one.key)[2:-1] not in caplog.text


def test_keys_change_in_the_middle_of_a_call() -> None:
    figures: list[StreamStats] = []

    async def talk(call: Call, other: Call) -> None:
        playing = asyncio.ensure_future(call.play(tone(440, 9)))
        for seed in (11, 21):
            await asyncio.sleep(2.0)  # of a world in which nobody waits
            new = keys(seed), keys(seed + 1)
            await other.protect(send=new[1], receive=new[0])  # who hears changes first ...
            await asyncio.sleep(0.2)
            await call.protect(send=new[0], receive=new[1])  # ... and trouble is one way only
        await asyncio.sleep(3.0)
        figures.extend([await call.measure(), await other.measure()])
        await playing

    protected_call(talk)
    hers, his = figures
    assert his.packets_forged == 0 and his.packets_lost == 0
    assert hers.packets_forged in range(2 * 8, 2 * 13)  # 200 ms, in which she had not the new keys
    assert hers.packets_received > 300


def test_who_has_other_keys_hears_nothing() -> None:
    figures: list[StreamStats] = []

    async def talk(call: Call, other: Call) -> None:
        await call.protect(send=keys(8), receive=keys(2))
        before = await other.measure()
        await asyncio.sleep(3.0)
        figures.extend([before, await other.measure(), await call.measure()])
        with pytest.raises(TypeError):
            await call.protect(keys(1), keys(2))  # type: ignore[misc]
        await call.hangup()
        with pytest.raises(CallStateError):
            await call.protect(send=None, receive=None)

    protected_call(talk)
    before, after, hers = figures
    assert after.packets_received - before.packets_received < 5  # what was on its way
    assert after.packets_forged - before.packets_forged > 140
    assert hers.packets_received > 140 and hers.packets_forged == 0
