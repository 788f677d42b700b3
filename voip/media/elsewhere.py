"""In place of an engine, where others carry the sound: streams are described, and that is all."""

from __future__ import annotations

from collections.abc import Callable

from voip.errors import MediaError
from voip.media.answers import Answer, EngineEvent, Opened, StreamStats
from voip.media.commands import CloseStream, Command, ConnectStream, OpenStream, ReadStats
from voip.media.driver import EngineFigures
from voip.types import Address

__all__ = ["MediaElsewhere", "no_sound"]


def no_sound() -> MediaError:
    """Return what is raised where somebody wants to hear or say something."""
    return MediaError(
        "this phone carries no sound itself",
        hint="MediaConfig(elsewhere=None) starts the media engine",
    )


class MediaElsewhere:
    """An `EngineDriver` without an engine: no thread, no socket, no tick, and nothing to tell.

    Every stream is said to listen at `address`, and for RTCP at the port after it.
    """

    def __init__(self, address: Address) -> None:
        self._opened = Opened(address, Address(address.host, address.port + 1))

    def start(self) -> None:
        """Nothing is to be started."""

    async def close(self) -> None:
        """Nothing is held."""

    async def apply(self, command: Command) -> Answer:
        """Agree to what concerns nobody's ears; `MediaError` for all else."""
        match command:
            case OpenStream():
                return self._opened
            case ReadStats(stream) | CloseStream(stream):
                return StreamStats(stream)
            case ConnectStream():
                return None
        raise no_sound()

    def post(self, command: Command) -> None:
        """Take a command that nobody waits for."""

    def stats(self, stream: int) -> StreamStats | None:
        """There are no figures."""
        return None

    def figures(self, since_tick: int = 0) -> EngineFigures:
        """There are no figures."""
        return EngineFigures()

    def subscribe(self, callback: Callable[[EngineEvent], None]) -> Callable[[], None]:
        """Nothing will be told."""
        return _nothing

    def on_tick(self, callback: Callable[[], None]) -> Callable[[], None]:
        """No tick will come."""
        return _nothing


def _nothing() -> None:
    pass
