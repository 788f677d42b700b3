"""Who serves files, and what is served: outside the tick, every now and then."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from typing import Protocol

from voip.media.record.plan import plan_of
from voip.media.record.sink import RecordingSink
from voip.media.rings import AudioRing

__all__ = ["FileServer", "FileSink", "Octets", "Served"]


class Octets(Protocol):
    """A file, as far as it has to be one: it is read on, and closed."""

    def read(self, size: int = -1, /) -> bytes:
        """Return up to `size` octets, b"" at the end."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class Served(Protocol):
    """Something that moves audio between a file and a ring."""

    def service(self, now: float) -> None:
        """Move what there is to move; `now` is monotonic."""
        ...


class FileServer(Protocol):
    """Serves files outside the tick, every now and then."""

    def add(self, served: Served, on_error: Callable[[Exception], None] | None = None) -> None:
        """Serve this too, at once and from then on."""
        ...

    async def remove(self, served: Served, finish: Callable[[], None] | None = None) -> None:
        """Serve it once more and let go of it; `finish` is called last, where it is served.

        Raises what that raises.
        """
        ...

    async def close(self) -> None:
        """Serve everything once more and let go of it."""
        ...

    def apart(self) -> FileServer:
        """Return another server, for what may keep it waiting: nobody else is served by it."""
        ...

    def open_url(self, url: str) -> Octets:
        """Open what an http or https URL names, while served; `AudioFileError` where it fails."""
        ...


class FileSink(RecordingSink):
    """A recording of a ring of one channel, as its path says: the plainest of all.

    `rate_hz` is the ring's, `file_rate_hz` the file's where that is another. See `RecordingSink`.
    """

    def __init__(
        self,
        ring: AudioRing,
        path: str | PathLike[str],
        rate_hz: int,
        *,
        file_rate_hz: int | None = None,
        on_ready: Callable[[], None] | None = None,
        on_lost: Callable[[int], None] | None = None,
    ) -> None:
        ring.rate_hz = rate_hz
        super().__init__(
            ring,
            plan_of(path, rate_hz=file_rate_hz),
            pairs=False,
            wall=_no_time,
            on_ready=on_ready,
            on_lost=on_lost,
        )


def _no_time() -> float:
    """Return the time of day of a recording that tells none."""
    return 0.0
