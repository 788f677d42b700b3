"""Applications of a benchmark's calls: each reads what is heard and sends it back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import cast

from voip.errors import CallStateError
from voip.logs.lines import CallLog
from voip.media.commands import AddSink, RemoveSink, SetSource
from voip.media.driver import EngineDriver
from voip.media.rings import RingArena
from voip.session.audio import CallAudio
from voip.session.stack import Stack

__all__ = ["Readers"]

FRAME_MS = 20


@dataclass(frozen=True, slots=True)
class _Sound:
    """What `CallAudio` needs of a phone."""

    driver: EngineDriver
    arena: RingArena


class _Carrier:
    """A stream of an engine, as `voip.session.audio.Carrier`."""

    rate_hz = 8000

    def __init__(self, driver: EngineDriver, stream: int) -> None:
        self._driver = driver
        self._stream = stream

    def check_carried(self) -> None:
        """It is there."""

    async def add_sink(self, ring: int) -> None:
        """Write what is heard to a ring."""
        await self._driver.apply(AddSink(self._stream, ring))

    async def remove_sink(self, ring: int) -> None:
        """Stop that."""
        await self._driver.apply(RemoveSink(self._stream, ring))

    async def set_source(self, ring: int | None) -> None:
        """Send what is in a ring, or nothing."""
        await self._driver.apply(SetSource(self._stream, ring))


class Readers:
    """`async for frame in call.audio(): await call.send(frame)`, for each of `streams`."""

    def __init__(self, driver: EngineDriver, arena: RingArena, streams: Iterable[int]) -> None:
        sound = cast(Stack, _Sound(driver, arena))
        self.lost_ms = 0.0
        self._audio = [
            CallAudio(sound, _Carrier(driver, stream), self._lost, CallLog()) for stream in streams
        ]
        self._tasks = [asyncio.create_task(self._echo(audio)) for audio in self._audio]

    async def close(self) -> None:
        """End them all."""
        for audio in self._audio:
            audio.end()
        await asyncio.gather(*self._tasks)
        for audio in self._audio:
            await audio.close()

    async def _echo(self, audio: CallAudio) -> None:
        with suppress(CallStateError):  # it is over
            async for frame in audio.reader(FRAME_MS):
                await audio.send(frame)

    def _lost(self, lost_ms: float) -> None:
        self.lost_ms += lost_ms
