"""Who serves files, and what is served: outside the tick, every now and then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

__all__ = ["FileServer", "Octets", "Served"]


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

    async def remove(self, served: Served) -> None:
        """Serve it once more and let go of it."""
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
