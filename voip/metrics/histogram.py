"""Figures sorted into buckets."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate

import numpy as np
import numpy.typing as npt

__all__ = ["Histogram"]


class Histogram:
    """How many figures were at most each of `bounds`, which grow; and all of them."""

    def __init__(self, bounds: Iterable[float]) -> None:
        self._bounds = np.array(tuple(bounds), np.float64)
        self._counts = np.zeros(self._bounds.size + 1, np.int64)
        self.total = 0.0

    def add(self, figures: float | npt.NDArray[np.float64] | None) -> None:
        """Count a figure, or many; None is none."""
        if figures is None:
            return
        found = np.atleast_1d(np.asarray(figures, np.float64))
        self._counts += np.bincount(
            np.searchsorted(self._bounds, found), minlength=self._counts.size
        )
        self.total += float(found.sum())

    def buckets(self) -> list[tuple[str, float]]:
        """Return (bound, how many were at most that), as Prometheus has them."""
        bounds = [*map(str, self._bounds.tolist()), "+Inf"]
        return list(zip(bounds, map(float, accumulate(self._counts.tolist())), strict=True))
