"""The adaptive codebook: vectors out of what was already coded (sections 3.6.3 and 4.4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from voip.codecs.ilbc.arrays import Floats, Index, begins, correlated
from voip.codecs.ilbc.mode import LONG_MEMORY, MODES, SHORT_MEMORY, SUB_BLOCK, Layout, Mode
from voip.codecs.ilbc.tables import EXPANSION, GAINS

__all__ = [
    "LEAST_SCALE",
    "STAGES",
    "Shape",
    "decode_segment",
    "decode_segments",
    "dequantise_gains",
    "expand",
    "narrowed",
    "shape_of",
    "vectors",
    "widened",
]

STAGES: Final = 3
LEAST_SCALE: Final = 0.1
"""Below this a gain no longer scales the gain of the next stage (section 3.6.4.2)."""
_SHORTEST_DELAY, _BLEND = SUB_BLOCK // 2, 5


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """The vectors of one codebook as sums of two samples of memory and expanded memory.

    Vector v has the samples `one[v]` of the two memories, one after the other, and those that are
    `earlier[v]` by so many, the latter with the weight `blend[v]`, the former with the rest.
    """

    memory: int
    """Samples of memory."""
    base: int
    """Vectors that are stretches of the memory; as many are stretches of the expanded memory."""
    section: int
    """With the augmented ones: where the expanded section begins."""
    step: int
    """Divides `base`: of how many stretches of memory the correlations are had at once."""
    one: Index
    earlier: Index
    blend: Floats
    fades: npt.NDArray[np.bool_]
    """(vectors,): which are made of both."""


def _shape(length: int, memory: int) -> Shape:
    delays = np.arange(length, memory + 1)
    one = memory - delays[:, None] + np.arange(length)
    other, blend = one, np.zeros(one.shape)
    base = section = len(delays)
    if length == SUB_BLOCK:
        # Section 3.6.3.3: the newest 20 to 39 samples, which fade into what is as many before them,
        # because that is what follows when they have come to their end.
        delay = np.arange(_SHORTEST_DELAY, SUB_BLOCK)[:, None]
        n = np.arange(length)
        one = np.concatenate((one, np.minimum(memory - delay + n, memory - 1)))
        other = np.concatenate((other, memory - 2 * delay + n))
        blend = np.concatenate((blend, np.clip((n - delay + _BLEND) / _BLEND, 0, 1)))
        section += len(delay)
    # 126 vectors of 23 samples have indices of 7 bits: the last two are nothing an encoder sends.
    vectors = np.minimum(np.arange(256 if length == SUB_BLOCK else 128), 2 * section - 1)
    which, expanded = vectors % section, vectors // section
    return Shape(
        memory,
        base,
        section,
        max(step for step in range(1, 13) if base % step == 0),
        one[which] + memory * expanded[:, None],
        (one - other)[which],
        blend[which],
        blend[which].any(axis=1),
    )


_LONG: Final = _shape(SUB_BLOCK, LONG_MEMORY)
_SHORT: Final = {mode.remainder: _shape(mode.remainder, SHORT_MEMORY) for mode in MODES.values()}


def shape_of(layout: Layout) -> Shape:
    """Return the codebook for a segment."""
    length = layout.target.shape[1]
    return _LONG if length == SUB_BLOCK else _SHORT[length]


def expand(memory: Floats) -> Floats:
    """Return memory (rows, samples) and expanded memory, one after the other."""
    rows, samples = memory.shape
    padded = np.zeros((rows, samples + 7))
    padded[:, 3:-4] = memory
    out = np.empty((rows, 2 * samples))
    out[:, :samples] = memory
    out[:, samples:] = correlated(padded, EXPANSION)
    return out


def dequantise_gains(index: npt.NDArray[np.integer]) -> Floats:
    """Return the gains (rows, 3) of three indices; a stage is scaled by the one before."""
    gains = np.empty(index.shape)
    gains[:, 0] = GAINS[0].take(index[:, 0])
    for stage in (1, 2):
        scale = np.maximum(np.abs(gains[:, stage - 1]), LEAST_SCALE)
        gains[:, stage] = scale * GAINS[stage].take(index[:, stage])
    return gains


def decode_segments(
    frame: Floats, case: Index, index: npt.NDArray[np.integer], gains: Floats, mode: Mode
) -> None:
    """Complete frames (rows, samples + 1) that hold a start state, else zeros.

    case: (rows,), as for `Layout`; index, gains: (rows, segments, 3), the remainder first.
    """
    row = begins(*frame.shape)
    for segment, layout in enumerate(mode.layouts):
        memory = frame.reshape(-1).take(row + layout.memory.take(case, axis=0))
        out = decode_segment(memory, index[:, segment], gains[:, segment], shape_of(layout))
        frame.put(row + layout.target.take(case, axis=0), out)


def decode_segment(
    memory: Floats, index: npt.NDArray[np.integer], gains: Floats, shape: Shape
) -> Floats:
    """Return a segment (rows, samples) of its memory, likewise; index and gains are (rows, 3)."""
    both = expand(memory).reshape(-1)
    at = begins(len(memory), 2 * shape.memory)[:, None]
    return (gains[:, None] @ vectors(both, at, index, shape))[:, 0]


def vectors(both: Floats, at: Index, index: npt.NDArray[np.integer], shape: Shape) -> Floats:
    """Return vectors (rows, samples) of their indices (rows,), or (rows, 3, samples) of (rows, 3).

    both: memory and expanded memory of all rows in one dimension; at: where that of each row
    begins, as `index` with one axis more.
    """
    places = at + shape.one.take(index, axis=0)
    out: Floats = both.take(places)
    faded = shape.fades.take(index)
    if np.count_nonzero(faded):
        which = index[faded]
        other = both.take(places[faded] - shape.earlier.take(which, axis=0))
        other -= out[faded]
        other *= shape.blend.take(which, axis=0)
        out[faded] += other
    return out


def widened(index: Index) -> Index:
    """Return indices of 7 bits as those of 8 (section 3.6.3, table 3.1): 44 + 20 of each section.

    The first segment searches, in its second and third stage, the 44 shortest delays and the
    augmented vectors only.
    """
    return _WIDENED.take(index)


def narrowed(index: Index) -> Index:
    """Return indices of 8 bits as those of 7: the reverse of `widened`."""
    return _NARROWED.take(index)


_WIDENED: Final = np.concatenate(
    (np.arange(44), np.arange(108, 172), np.arange(236, 256), np.arange(128, 256))
)
_NARROWED: Final = np.zeros(256, np.intp)
_NARROWED[_WIDENED[:128]] = np.arange(128)
