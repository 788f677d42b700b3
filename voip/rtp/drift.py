"""How fast a sender's clock goes, by ours or by its own time of day: parts per million.

Over N instants, seconds of media against seconds of reference lie on a line whose slope is 1 plus
the drift. `ClockDrift` keeps the sums of a least-squares line for many streams at a time;
`theil_sen` is for whoever has all the points, and some that lie far out.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt

__all__ = ["JUMP_S", "LEAST_POINTS", "MEMORY", "ClockDrift", "theil_sen"]

LEAST_POINTS = 10
"""Fewer points say nothing."""
JUMP_S = 1.0
"""A clock that is suddenly so far away counts from elsewhere: its line begins anew."""
MEMORY = 600
"""Points that count; of more, the older ones count less and less."""

Rows = npt.NDArray[np.intp]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class ClockDrift:
    """A least-squares line for each of many rows, kept as sums.

    Points come one for each of some rows at a time, in order. Costs the same for any number.
    """

    points: Ints
    first_s: Floats
    first_lead_s: Floats
    last_lead_s: Floats
    mean_x: Floats
    mean_y: Floats
    sum_xx: Floats
    sum_xy: Floats
    sum_yy: Floats

    COLUMNS: ClassVar[dict[str, tuple[type[np.generic], float, tuple[int, ...]]]] = {
        "points": (np.int64, 0, ()),
        "first_s": (np.float64, 0.0, ()),  # what x, seconds of the reference, counts from
        "first_lead_s": (np.float64, 0.0, ()),  # what y, by how much media lead it, counts from
        "last_lead_s": (np.float64, 0.0, ()),
        "mean_x": (np.float64, 0.0, ()),
        "mean_y": (np.float64, 0.0, ()),
        "sum_xx": (np.float64, 0.0, ()),  # of products of what differs from the means
        "sum_xy": (np.float64, 0.0, ()),
        "sum_yy": (np.float64, 0.0, ()),
    }

    def __init__(self, rows: int) -> None:
        for name, (dtype, start, shape) in self.COLUMNS.items():
            setattr(self, name, np.full((rows, *shape), start, dtype))

    def grow(self, rows: int) -> None:
        """Make room for `rows` rows in all."""
        for name, (dtype, start, _) in self.COLUMNS.items():
            old = getattr(self, name)
            setattr(self, name, np.concatenate((old, np.full(rows - old.size, start, dtype))))

    def reset(self, rows: int | Rows) -> None:
        """Start rows afresh."""
        for name, (_, start, _) in self.COLUMNS.items():
            getattr(self, name)[rows] = start

    def observe(self, rows: Rows, reference_s: Floats, lead_s: Floats) -> None:
        """Take a point for each of `rows` (k,), each row once.

        reference_s: seconds by the clock that is compared with; lead_s: seconds of media less
        these, from anywhere on (k,).
        """
        new = (self.points[rows] == 0) | (np.abs(lead_s - self.last_lead_s[rows]) > JUMP_S)
        if new.any():
            fresh = rows[new]
            self.reset(fresh)
            self.first_s[fresh] = reference_s[new]
            self.first_lead_s[fresh] = lead_s[new]
        self.last_lead_s[rows] = lead_s
        points = self.points[rows] + 1
        if (points > MEMORY).any():
            points = np.minimum(points, MEMORY)
            less = np.where(points == MEMORY, 1 - 1 / MEMORY, 1.0)
            for sums in (self.sum_xx, self.sum_xy, self.sum_yy):
                sums[rows] *= less
        self.points[rows] = points
        x = reference_s - self.first_s[rows] - self.mean_x[rows]
        y = lead_s - self.first_lead_s[rows] - self.mean_y[rows]
        self.mean_x[rows] += x / points
        self.mean_y[rows] += y / points
        share = (points - 1) / points
        self.sum_xx[rows] += share * x * x
        self.sum_xy[rows] += share * x * y
        self.sum_yy[rows] += share * y * y

    def estimate(self, rows: Rows) -> tuple[Floats, Floats]:
        """Return the drift of `rows` (k,) in ppm, positive: fast, and its standard error in ppm.

        Both are nan below `LEAST_POINTS`.
        """
        return drift_of(self.points[rows], self.sum_xx[rows], self.sum_xy[rows], self.sum_yy[rows])


def drift_of(points: Ints, sum_xx: Floats, sum_xy: Floats, sum_yy: Floats) -> tuple[Floats, Floats]:
    """Return drift and standard error in ppm of a line's sums, all of one shape."""
    enough = (points >= LEAST_POINTS) & (sum_xx > 0)
    spread = np.where(enough, sum_xx, np.nan)
    slope = sum_xy / spread
    rest = np.maximum(sum_yy - slope * sum_xy, 0.0)
    error = np.sqrt(rest / np.maximum(points - 2, 1) / spread)
    return 1e6 * slope, 1e6 * error


def theil_sen(reference_s: Floats, lead_s: Floats) -> Floats:
    """Return drifts in ppm: the median slope of all pairs of points.

    Both are (streams, points), or (points,). A quarter of the points may lie anywhere.
    """
    first, second = np.triu_indices(reference_s.shape[-1], 1)
    dx = reference_s[..., second] - reference_s[..., first]
    dy = lead_s[..., second] - lead_s[..., first]
    slopes: Floats = np.median(dy / dx, axis=-1)
    return np.asarray(1e6 * slopes)
