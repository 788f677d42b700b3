"""A mix of the engine, as those see it who hold a conference: its own voice and its own ear.

An `Announcer` is a second voice, which its host hears, too.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from voip.errors import CallStateError, MediaError
from voip.media.commands import (
    AddSink,
    Announce,
    CloseStream,
    Command,
    OpenMix,
    RemoveSink,
    SetSource,
    ShapeMix,
)
from voip.media.elsewhere import no_sound
from voip.session.stack import Stack

__all__ = ["Announcer", "Mix"]


class Mix:
    """Streams that hear each other (`MediaSession.mix`); `number` is its among the streams'.

    rate: how many samples a second those see who hold it.
    """

    def __init__(self, stack: Stack, rate: Callable[[], int] = lambda: 8000) -> None:
        self._rate = rate
        self.number = next(stack.streams)
        self._stack = stack
        self._open = False

    @property
    def is_open(self) -> bool:
        """Whether it has begun and has not ended."""
        return self._open

    async def open(self) -> None:
        """Begin; `MediaError` where others carry this phone's sound."""
        if self._stack.media.elsewhere is not None:
            raise no_sound()
        await self._stack.driver.apply(OpenMix(self.number))
        self._open = True

    async def close(self) -> None:
        """End; closing twice does nothing."""
        if self._open:
            self._open = False
            with suppress(MediaError):  # the engine has stopped
                await self._stack.driver.apply(CloseStream(self.number))

    @property
    def rate_hz(self) -> int:
        """Samples a second of what is said in it."""
        return self._rate()

    def check_carried(self) -> None:
        """Raise `CallStateError` where it is over."""
        if not self._open:
            raise CallStateError("the conference is over")

    async def add_sink(self, ring: int) -> None:
        """Write the sum of what all say to ring number `ring`."""
        await self._apply(AddSink(self.number, ring))

    async def remove_sink(self, ring: int) -> None:
        """Stop that; nothing happens when the mix is over."""
        if self._open:
            await self._stack.driver.apply(RemoveSink(self.number, ring))

    async def set_source(self, ring: int | None) -> None:
        """Let all hear what is in ring number `ring`, or nothing (None)."""
        await self._apply(SetSource(self.number, ring))

    async def add_part(self, ring: int, stream: int) -> None:
        """Write what stream number `stream` says in it to ring number `ring`."""
        await self._apply(AddSink(self.number, ring, part=stream))

    async def announce(self, ring: int | None) -> None:
        """Let all hear what is in ring number `ring`, us too, or nothing (None)."""
        await self._apply(Announce(self.number, ring))

    async def shape(self, loudest: int | None, *, speakers: bool) -> None:
        """Let only the loudest be heard (None: all), and have it told who talks."""
        await self._apply(ShapeMix(self.number, loudest, speakers))

    async def _apply(self, command: Command) -> None:
        self.check_carried()
        await self._stack.driver.apply(command)


class Announcer:
    """The carrier (`voip.session.audio`) of what is announced in a mix; nothing is heard by it."""

    def __init__(self, mix: Mix) -> None:
        self._mix = mix

    @property
    def rate_hz(self) -> int:
        """Samples a second of what is announced."""
        return self._mix.rate_hz

    def check_carried(self) -> None:
        """Raise `CallStateError` where the mix is over."""
        self._mix.check_carried()

    async def set_source(self, ring: int | None) -> None:
        """Announce what is in ring number `ring`, or nothing (None)."""
        await self._mix.announce(ring)

    async def add_sink(self, ring: int) -> None:
        """Refuse to: it is the mix that is heard."""
        raise CallStateError("an announcement hears nothing", hint="listen to the conference")

    async def remove_sink(self, ring: int) -> None:
        """Do nothing: there is none."""
