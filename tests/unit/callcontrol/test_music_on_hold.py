"""Music for who is on hold: real sockets, real sound (RFC 5359 section 2.3)."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from voip.call import Call
from voip.config import NetworkConfig
from voip.events import CallState, HeldByRemote
from voip.phone import Softphone

HERE = NetworkConfig(bind_host="127.0.0.1")


@pytest.mark.realtime
async def test_F019_who_is_on_hold_hears_music_and_is_not_heard() -> None:
    calls: asyncio.Queue[Call] = asyncio.Queue()
    async with Softphone(network=HERE) as alice, Softphone(network=HERE) as bob:

        @bob.on_incoming
        async def taken(call: Call) -> None:
            await call.answer()
            calls.put_nowait(call)
            await call.wait_ended()

        mine = await alice.dial(f"sip:bob@127.0.0.1:{bob.port}")
        theirs = await calls.get()
        await mine.hold()
        async with asyncio.timeout(5):
            while theirs.state is not CallState.HELD:
                await asyncio.sleep(0.01)
        assert HeldByRemote() in list(theirs._events)
        t = np.arange(16000) / 8000
        music = (8000 * np.sin(2 * np.pi * 440 * t)).astype(np.int16)
        voice = (8000 * np.sin(2 * np.pi * 1200 * t)).astype(np.int16)
        async with theirs.audio() as ear, mine.audio() as other:
            _, _, heard, silence = await asyncio.gather(
                mine.play(music), theirs.send(voice[:4000]), ear.read(1.5), other.read(0.5)
            )
        spectrum = np.abs(np.fft.rfft(heard[4000:12000].astype(float)))
        assert int(np.argmax(spectrum)) == 440
        assert np.abs(silence).max() == 0  # Bob is not heard while he is on hold
        await mine.resume()
        await mine.hangup()
