"""A mix of the engine, as those see it who hold a conference: its own voice and its own ear."""

from __future__ import annotations

from contextlib import suppress

from voip.errors import CallStateError, MediaError
from voip.media.commands import AddSink, CloseStream, Command, OpenMix, RemoveSink, SetSource
from voip.media.elsewhere import no_sound
from voip.session.stack import Stack

__all__ = ["Mix"]


class Mix:
    """Streams that hear each other (`MediaSession.mix`); `number` is its among the streams'."""

    def __init__(self, stack: Stack) -> None:
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
        return 8000

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

    async def _apply(self, command: Command) -> None:
        self.check_carried()
        await self._stack.driver.apply(command)
