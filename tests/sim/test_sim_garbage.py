"""What is over is gone when nobody has it any more, without the collection of garbage.

A phone at rest allocates nothing, so that Python does not collect for long: what was left in cycles
would stay in memory after a flood, and be collected all at once in the middle of the next call.
"""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest
from flow_scene import SERVER, Scene

from voip import Softphone
from voip.call import Call
from voip.errors import CallError

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


@pytest.mark.parametrize("what", [talk, give_up, be_refused, write], ids=lambda one: one.__name__)
def test_nothing_of_ours_is_left_to_the_garbage_collector(
    what: Callable[[Softphone, asyncio.Queue[Call]], Awaitable[None]],
) -> None:
    scene = Scene(0.0)
    left: Counter[str] = Counter()

    async def main() -> None:
        bob, calls = await scene.answering()
        alice, _ = await scene.answering("alice")

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
