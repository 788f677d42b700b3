"""Who in a mix is heard by some only, and who hears some only: whispering and listening.

Both are rare, and done row by row beside the one sum: who is heard by some is left out of it and
added to what each of these hears; who hears some only has nothing of it but what these say.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from voip.media.columns import Bools, ColumnSpec, grow, make, reset

__all__ = ["Audience"]

Pcm = npt.NDArray[np.float32]
Streams = tuple[int, ...]


class Audience:
    """By row: whether its audience, or what it listens to, is limited; and by whom."""

    whispers: Bools
    picks: Bools

    COLUMNS: ClassVar[ColumnSpec] = {
        "whispers": (np.bool_, False, ()),  # it is heard by some only
        "picks": (np.bool_, False, ()),  # it hears some only
    }

    def __init__(self, rows: int) -> None:
        make(self, rows)
        self.heard_by: dict[int, frozenset[int]] = {}  # row -> streams, or the mix's own number
        self.listens_to: dict[int, frozenset[int]] = {}  # row -> streams

    def grow(self, rows: int) -> None:
        """Make room for `rows` rows in all."""
        grow(self, rows)

    def reset(self, row: int) -> None:
        """Let a row be heard by all, and hear all."""
        reset(self, row)
        self.heard_by.pop(row, None)
        self.listens_to.pop(row, None)

    @property
    def is_whole(self) -> bool:
        """Whether all hear all."""
        return not (self.heard_by or self.listens_to)

    def limit(self, row: int, heard_by: Streams | None, listens_to: Streams | None) -> None:
        """Let a row be heard by some streams only, and hear some only; None: all."""
        self.reset(row)
        if heard_by is not None:
            self.whispers[row] = True
            self.heard_by[row] = frozenset(heard_by)
        if listens_to is not None:
            self.picks[row] = True
            self.listens_to[row] = frozenset(listens_to)

    def pairs(
        self, members: Mapping[int, int], streams: Mapping[int, int]
    ) -> list[tuple[int, int]]:
        """Return who says something to whom beside the sum: pairs of rows, speaker first.

        members: row -> its mix, of all that take part in this step. streams: stream -> row.
        """
        found: dict[tuple[int, int], None] = {}
        for row, wanted in self.listens_to.items():
            if row not in members:
                continue
            for stream in sorted(wanted):
                other = streams.get(stream, -1)
                audience = self.heard_by.get(other)
                if audience is None or row in {streams.get(one, -1) for one in audience}:
                    found[other, row] = None
        for row, wanted in self.heard_by.items():
            for stream in sorted(wanted):
                other = streams.get(stream, -1)
                if other not in self.listens_to:
                    found[row, other] = None
        return [
            (speaker, listener)
            for speaker, listener in found
            if speaker != listener
            and speaker in members
            and members[speaker] == members.get(listener)
        ]

    def told_to(self, row: int, number: int) -> bool:
        """Whether who hears a mix from outside, by its `number`, hears a row that whispers."""
        return number in self.heard_by.get(row, ())
