"""The figures of several engines as those of one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from voip.media.stats import StatsSnapshot

__all__ = ["merged"]

T = TypeVar("T")


def merged(snapshots: Sequence[StatsSnapshot]) -> StatsSnapshot | None:
    """Return one snapshot of all streams, the rows of each engine after those before; None of none.

    Streams have numbers that no other engine's have.
    """
    if len(snapshots) < 2:
        return snapshots[0] if snapshots else None
    sizes = [next(iter(one.columns.values())).shape[0] for one in snapshots]
    firsts = np.cumsum([0, *sizes[:-1]]).tolist()
    pairs = list(zip(snapshots, firsts, strict=True))
    return StatsSnapshot(
        sum(one.version for one in snapshots),
        min(one.at for one in snapshots),
        all(one.kernel_timestamps for one in snapshots),
        {stream: row + first for one, first in pairs for stream, row in one.rows.items()},
        {
            name: np.concatenate([one.columns[name] for one in snapshots])
            for name in snapshots[0].columns
        },
        _by_row((one.codec, first) for one, first in pairs),
        _by_row((one.remote, first) for one, first in pairs),
        _by_row((one.strangers, first) for one, first in pairs),
        _by_row((one.conflicts, first) for one, first in pairs),
        _by_row((one.former, first) for one, first in pairs),
    )


def _by_row(parts: Iterable[tuple[Mapping[int, T], int]]) -> dict[int, T]:
    """Return what there is by row of engines, whose first row is that number among all."""
    return {row + first: value for part, first in parts for row, value in part.items()}
