"""The numbers of a subscription's documents: which are old, and whether one has been missed."""

from __future__ import annotations

__all__ = ["Versions"]


class Versions:
    """Numbers of documents that are full or tell what changed (RFC 3680 5.1, RFC 4235 4.3)."""

    def __init__(self) -> None:
        self._last: int | None = None

    def is_old(self, version: int, full: bool) -> bool:
        """Whether a document is to be passed over; a full one numbered 0 begins anew."""
        return self._last is not None and version <= self._last and not (full and version == 0)

    def follow(self, version: int, full: bool) -> bool:
        """Go on to a document that is not old; False where one before it has been missed."""
        before, self._last = self._last, version
        return full or (before is not None and version == before + 1)
