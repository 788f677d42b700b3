"""The two frame sizes of iLBC, and in which order a frame's samples are coded (RFC 3951)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from voip.codecs.ilbc.arrays import Index

__all__ = [
    "LONG_MEMORY",
    "MODES",
    "MODE_20",
    "MODE_30",
    "SHORT_MEMORY",
    "SUB_BLOCK",
    "Layout",
    "Mode",
]

SUB_BLOCK: Final = 40
"""Samples that share a prediction filter."""

LONG_MEMORY: Final = 147
"""Samples of the codebook memory for a sub-block (section 3.6.1)."""

SHORT_MEMORY: Final = 85
"""Samples of it for what the start state leaves of its two sub-blocks."""


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Where in a frame a segment lies that is coded from what was coded before it.

    First index: the case, which is twice the number of the start state's first sub-block (from 0),
    plus 1 where the start state comes first in its two sub-blocks. Segments before the start state
    run backwards in time, and so does their memory (section 3.6.1). A memory sample that is not
    there yet has the index `Mode.samples`, one past the frame, where callers keep a zero.
    """

    target: Index
    """(cases, samples of the segment)."""
    memory: Index
    """(cases, LONG_MEMORY or SHORT_MEMORY)."""
    sub_block: Index
    """(cases,): whose filter weights the search."""


@dataclass(frozen=True, slots=True, eq=False)
class Mode:
    """A frame size: `sub_blocks` of 40 samples, `lsf_sets` filters sent, `octets` of payload.

    `state` samples are quantised one by one (the start state), the `remainder` of its two
    sub-blocks and the `segments` of 40 samples from a codebook. `delay` samples of lookahead are
    the enhancer's.
    """

    frame_ms: int
    sub_blocks: int
    lsf_sets: int
    octets: int
    state: int
    delay: int
    layouts: tuple[Layout, ...] = field(init=False)
    """Of the remainder and of the segments, in the order of coding."""
    state_at: Index = field(init=False)
    """(cases, state): the samples of the start state."""
    state_turn: Index = field(init=False)
    """(cases,): how many of them belong to the first of its sub-blocks."""

    def __post_init__(self) -> None:
        cases = [_case(self, start, first) for start in range(self.starts) for first in (0, 1)]
        object.__setattr__(
            self,
            "layouts",
            tuple(
                Layout(*(np.array(part) for part in zip(*layouts, strict=True)))
                for layouts in zip(*cases, strict=True)
            ),
        )
        corner = np.array(
            [
                SUB_BLOCK * start + (0 if first else self.remainder)
                for start in range(self.starts)
                for first in (0, 1)
            ]
        )
        object.__setattr__(self, "state_at", corner[:, None] + np.arange(self.state))
        object.__setattr__(self, "state_turn", SUB_BLOCK - corner % SUB_BLOCK)

    @property
    def samples(self) -> int:
        """Of a frame."""
        return SUB_BLOCK * self.sub_blocks

    @property
    def remainder(self) -> int:
        """Samples of its two sub-blocks that are not in the start state."""
        return 2 * SUB_BLOCK - self.state

    @property
    def segments(self) -> int:
        """Sub-blocks that the start state lies not in."""
        return self.sub_blocks - 2

    @property
    def starts(self) -> int:
        """Sub-blocks that a start state can begin in."""
        return self.sub_blocks - 1


def _case(mode: Mode, start: int, first: int) -> list[tuple[Index, Index, int]]:
    """Return target, memory and sub-block of all segments, in the order of coding."""
    begin, end = SUB_BLOCK * start, SUB_BLOCK * (start + 2)
    if first:
        known = begin, begin + mode.state
        segments = [_forward(mode, known, mode.remainder, SHORT_MEMORY)]
    else:
        known = end - mode.state, end
        segments = [_backward(mode, known, mode.remainder, SHORT_MEMORY)]
    for _ in range(start + 2, mode.sub_blocks):
        segments.append(_forward(mode, (begin, end), SUB_BLOCK, LONG_MEMORY))
        end += SUB_BLOCK
    for _ in range(start):
        segments.append(_backward(mode, (begin, end), SUB_BLOCK, LONG_MEMORY))
        begin -= SUB_BLOCK
    return segments


def _forward(
    mode: Mode, known: tuple[int, int], length: int, memory: int
) -> tuple[Index, Index, int]:
    begin, end = known
    past = np.arange(end - memory, end)
    return (
        np.arange(end, end + length),
        np.where(past < begin, mode.samples, past),
        end // SUB_BLOCK,
    )


def _backward(
    mode: Mode, known: tuple[int, int], length: int, memory: int
) -> tuple[Index, Index, int]:
    begin, end = known
    past = np.arange(begin + memory - 1, begin - 1, -1)
    target = np.arange(begin - 1, begin - 1 - length, -1)
    return target, np.where(past >= end, mode.samples, past), (begin - 1) // SUB_BLOCK


MODE_20: Final = Mode(frame_ms=20, sub_blocks=4, lsf_sets=1, octets=38, state=57, delay=40)
"""15.2 kbit/s."""

MODE_30: Final = Mode(frame_ms=30, sub_blocks=6, lsf_sets=2, octets=50, state=58, delay=80)
"""13.33 kbit/s."""

MODES: Final = {mode.frame_ms: mode for mode in (MODE_20, MODE_30)}
"""By frame size in milliseconds."""
