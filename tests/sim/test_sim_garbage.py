"""What is over is gone when nobody has it any more, without the collection of garbage.

A phone at rest allocates nothing, so that Python does not collect for long: what was left in cycles
would stay in memory after a flood, and be collected all at once in the middle of the next call.
"""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from flow_scene import SERVER, Scene

from voip import Softphone
from voip.call import Call
from voip.config import MediaConfig
from voip.entry_tones import entry_tones
from voip.errors import AudioFileError, CallError
from voip.sounds import asset_path

BOB = f"sip:bob@{SERVER}"


async def talk(alice: Softphone, calls: asyncio.Queue[Call]) -> None:
    call = await alice.dial(BOB)
    theirs = await calls.get()
    await call.hold()
    await theirs.send_dtmf("1", mode="info")
    await call.resume()
    await theirs.hangup()
    await call.wait_ended()


async def give_up(alice: Softphone, calls: asyncio.Queue[Call]) -> None:
    call = await alice.dial(f"sip:carol@{SERVER}", wait="started")
    await asyncio.sleep(1)
    await call.cancel()


async def be_refused(alice: Softphone, calls: asyncio.Queue[Call]) -> None:
    with pytest.raises(CallError):
        await alice.dial(f"sip:gateway@{SERVER}")


async def write(alice: Softphone, calls: asyncio.Queue[Call]) -> None:
    await alice.message(BOB, "hello")
    await alice.options(BOB)


async def speak(alice: Softphone, calls: asyncio.Queue[Call]) -> None:
    call = await alice.dial(BOB)
    theirs = await calls.get()
    with asset_path("speech-8k.wav") as path:
        playing = asyncio.create_task(call.play(path))
        async with theirs.audio() as audio:
            await audio.read(1.0)
        await playing
    await call.hangup()
    await theirs.wait_ended()


async def record(alice: Softphone, calls: asyncio.Queue[Call]) -> None:
    call = await alice.dial(BOB)
    theirs = await calls.get()
    with TemporaryDirectory() as folder:
        async with call.record(Path(folder, "one.wav")):
            await asyncio.sleep(1)
        with pytest.raises(AudioFileError):
            await call.record(Path(folder, "nowhere", "one.wav")).start()
        recording = theirs.record(Path(folder, "two.wav"))
        await recording.start()
        await asyncio.sleep(1)
        await call.hangup()
        await theirs.wait_ended()
        await asyncio.sleep(1)


async def confer(alice: Softphone, calls: asyncio.Queue[Call]) -> None:
    async with await alice.conference(loudest=2, announce=entry_tones) as conference:
        conference.on_event(lambda _: None)
        parties = [await conference.add(BOB) for _ in range(2)]
        theirs = [await calls.get() for _ in parties]
        with TemporaryDirectory() as folder:
            async with conference.record(Path(folder, "all.wav")):
                await conference.play(np.zeros(8000, np.int16))
            async with conference.record(Path(folder, "each.wav"), per_party=True):
                await asyncio.sleep(1)
        await conference.remove(parties[0])
        await parties[0].hangup()
    await theirs[1].wait_ended()


async def join(alice: Softphone, calls: asyncio.Queue[Call]) -> None:
    pair = [await alice.dial(BOB) for _ in range(2)]
    theirs = [await calls.get() for _ in pair]
    await pair[0].bridge(pair[1])
    await theirs[0].send_dtmf("1")
    await asyncio.sleep(1)
    for call in theirs:
        await call.hangup()
    for call in pair:
        await call.wait_ended()


WITHOUT_SOUND = talk, give_up, be_refused, write
WITH_SOUND = speak, record, confer, join


@pytest.mark.parametrize("what", WITHOUT_SOUND + WITH_SOUND, ids=lambda one: one.__name__)
def test_nothing_of_ours_is_left_to_the_garbage_collector(
    what: Callable[[Softphone, asyncio.Queue[Call]], Awaitable[None]],
) -> None:
    scene = Scene(0.0)
    left: Counter[str] = Counter()

    async def main() -> None:
        sound: dict[str, Any] = {"media": MediaConfig()} if what in WITH_SOUND else {}
        bob, calls = await scene.answering(**sound)
        alice, _ = await scene.answering("alice", **sound)

        async def ring(call: Call) -> None:
            await call.ring()
            await call.wait_ended()

        carol = await scene.taking("carol", ring)

        async def once() -> None:
            await what(alice, calls)
            await scene.settled(alice, bob, carol)
            scene.seen.clear()
            scene.arrived.clear()
            await asyncio.sleep(60)

        await once()  # what is made once and stays
        gc.collect()
        gc.disable()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            await once()
            gc.collect()
            left.update(type(one).__qualname__ for one in gc.garbage if is_ours(one))
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
        for phone in (alice, bob, carol):
            await phone.close()

    scene.run(main)
    assert not left


def is_ours(one: object) -> bool:
    return type(one).__module__.startswith("voip")
