"""In which order the rows of a step are mixed: worked out once, as long as they stay the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from voip.media.columns import Bools, Ints, Rows, every, where

__all__ = ["Layout", "Members", "Part", "beginnings", "lay_out"]

Pcm = npt.NDArray[np.float32]
Powers = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """What rows (k,) of one rate have heard in a step: float32 (k, samples), not to be changed.

    power: its mean squares (k,).
    """

    rows: Rows
    rate_hz: int
    heard: Pcm
    power: Powers


@dataclass(slots=True, eq=False)
class Members:
    """All rows (k,) of one rate that are in mixes, sorted by these.

    picks: which part of the step they are in, and where (None: they are all of it, in this order).
    place: of each one's mix among the step's. first: where each mix begins. gain: None where it is
    1 for all. there: which mixes (m,) any of them is in.
    """

    rate_hz: int
    rows: Rows
    picks: list[tuple[int, Rows | None]]
    sorted_by: Rows | None
    place: Ints
    first: Rows
    gain: Pcm | None
    there: Bools
    order: Ints
    all_spoke: bool = True

    def said(self, parts: Sequence[Part]) -> tuple[Pcm, Powers]:
        """Return what they say, float32 (k, samples), and its mean squares (k,).

        It may be the part's own, which is not to be changed.
        """
        heard = [parts[n].heard if at is None else parts[n].heard[at] for n, at in self.picks]
        powers = [parts[n].power if at is None else parts[n].power[at] for n, at in self.picks]
        sound, power = heard[0], powers[0]
        if self.sorted_by is not None:
            sound = np.concatenate(heard)[self.sorted_by]
            power = np.concatenate(powers)[self.sorted_by]
        if self.gain is not None:
            sound = sound * self.gain[:, None]
            power = power * self.gain * self.gain
        return sound, power


@dataclass(slots=True, eq=False)
class Layout:
    """Which mixes (m,) there are in a step, in order, and who is in them, by rate."""

    mixes: Ints
    rows: list[tuple[int, Rows]]
    members: list[Members] = field(default_factory=list)

    def is_of(self, parts: Sequence[Part]) -> bool:
        """Whether the rows of a step are those of which this is the layout."""
        return len(parts) == len(self.rows) and all(
            part.rate_hz == rate and part.rows.size == rows.size and every(part.rows == rows)
            for part, (rate, rows) in zip(parts, self.rows, strict=True)
        )


def lay_out(parts: Sequence[Part], mix: Ints, gain: Pcm) -> Layout:
    """Sort the rows of a step by rate and mix. mix, gain: by row; mix -1: it is in none."""
    known = [(part.rate_hz, part.rows.copy()) for part in parts]
    mine = [where(mix[part.rows] >= 0) for part in parts]
    members = [part.rows[at] for part, at in zip(parts, mine, strict=True)]
    mixes = np.unique(mix[np.concatenate(members)]) if members else np.zeros(0, np.int64)
    layout = Layout(mixes, known)
    for rate in dict.fromkeys(part.rate_hz for part in parts):
        here = [n for n, part in enumerate(parts) if part.rate_hz == rate and mine[n].size]
        if not here:
            continue
        rows = np.concatenate([members[n] for n in here])
        order = np.argsort(mix[rows], kind="stable")
        picks: list[tuple[int, Rows | None]] = [(n, mine[n]) for n in here]
        sorted_by: Rows | None = order
        if len(here) == 1:
            n, sorted_by = here[0], None
            at = mine[n][order]
            whole = at.size == parts[n].rows.size and every(at == np.arange(at.size))
            picks = [(n, None if whole else at)]
        rows = rows[order]
        place = np.searchsorted(mixes, mix[rows])
        gains = gain[rows]
        there = np.zeros(mixes.size, np.bool_)
        there[place] = True
        layout.members.append(
            Members(
                rate_hz=rate,
                rows=rows,
                picks=picks,
                sorted_by=sorted_by,
                place=place,
                first=beginnings(place),
                gain=None if every(gains == 1.0) else gains,
                there=there,
                order=np.arange(rows.size),
            )
        )
    return layout


def beginnings(place: Ints) -> Rows:
    """Return where in a sorted array (k,) each different value begins."""
    begins = np.ones(place.size, np.bool_)
    np.not_equal(place[1:], place[:-1], out=begins[1:])
    return where(begins)
