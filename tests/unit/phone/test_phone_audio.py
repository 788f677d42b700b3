"""Letting go of a call's sound, when it is cut short and cut short again."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from voip.config import NetworkConfig
from voip.phone import Softphone
from voip.sounds import asset_path

HERE = NetworkConfig(bind_host="127.0.0.1")


def is_open(path: Path) -> bool:
    """Whether this process has the file open."""
    links = (str(one.readlink()) for one in Path("/proc/self/fd").iterdir() if one.is_symlink())
    return str(path.resolve()) in links


async def until_open(path: Path) -> None:
    async with asyncio.timeout(10):
        while not is_open(path):
            await asyncio.sleep(0.01)


@pytest.mark.realtime
@pytest.mark.parametrize("what", ["play", "record"])
async def test_a_file_is_closed_though_its_end_is_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    async with Softphone(network=HERE) as alice, Softphone(network=HERE) as bob:

        @bob.on_incoming
        async def answer(call: Any) -> None:
            await call.answer()
            await call.wait_ended()

        call = await alice.dial(f"sip:bob@127.0.0.1:{bob.port}")
        ending, may_end = asyncio.Event(), asyncio.Event()
        remove = call._session.stack.files.remove

        async def slowly(*served: Any) -> None:
            ending.set()
            await may_end.wait()
            await remove(*served)

        monkeypatch.setattr(call._session.stack.files, "remove", slowly)

        async def record(path: Path) -> None:
            async with call.record(path):
                await asyncio.Event().wait()

        with asset_path("prompt-8k.wav") as prompt:
            path = prompt if what == "play" else tmp_path / "heard.wav"
            working = asyncio.create_task(
                call.play(path, loop=True) if what == "play" else record(path)
            )
            await until_open(path)
            working.cancel()
            async with asyncio.timeout(10):
                await ending.wait()
            working.cancel()
            await asyncio.sleep(0)
            may_end.set()
            with pytest.raises(asyncio.CancelledError):
                await working
            assert not is_open(path)
