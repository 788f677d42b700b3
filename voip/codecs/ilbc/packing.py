"""Bits of a frame: which parameter they belong to, the most sensitive first (section 3.8)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt

from voip.codecs.ilbc.mode import MODE_20, Mode

__all__ = ["Fields", "fields_of", "pack", "unpack"]

_Bits = tuple[int, int, int]

_LSF: Final[tuple[_Bits, ...]] = ((6, 0, 0), (7, 0, 0), (7, 0, 0))
_POSITION: Final[_Bits] = (1, 0, 0)
_MAXIMUM: Final[_Bits] = (6, 0, 0)
_SAMPLE: Final[_Bits] = (0, 1, 2)

# Table 3.2, in classes 1, 2, 3. Indices, then gains: of the remainder, then of all segments.
_BLOCK_20: Final[_Bits] = (2, 0, 0)
_CODEBOOK_20: Final[tuple[_Bits, ...]] = (
    *((6, 0, 1), (0, 0, 7), (0, 0, 7)),
    *((2, 0, 3), (1, 1, 2), (0, 0, 3)),
    *((7, 0, 1), (0, 0, 7), (0, 0, 7)),
    *((0, 0, 8), (0, 0, 8), (0, 0, 8)),
    *((1, 2, 2), (1, 1, 2), (0, 0, 3)),
    *((1, 1, 3), (0, 2, 2), (0, 0, 3)),
)
_BLOCK_30: Final[_Bits] = (3, 0, 0)
_CODEBOOK_30: Final[tuple[_Bits, ...]] = (
    *((4, 2, 1), (0, 0, 7), (0, 0, 7)),
    *((1, 1, 3), (1, 1, 2), (0, 0, 3)),
    *((6, 1, 1), (0, 0, 7), (0, 0, 7)),
    *((0, 7, 1), (0, 0, 8), (0, 0, 8)),
    *((0, 7, 1), (0, 0, 8), (0, 0, 8)),
    *((0, 7, 1), (0, 0, 8), (0, 0, 8)),
    *((1, 2, 2), (1, 2, 1), (0, 0, 3)),
    *((0, 2, 3), (0, 2, 2), (0, 0, 3)),
    *((0, 1, 4), (0, 1, 3), (0, 0, 3)),
    *((0, 1, 4), (0, 1, 3), (0, 0, 3)),
)


@dataclass(frozen=True, slots=True, eq=False)
class Fields:
    """Where in a row of parameters a mode has what, and where in the payload their bits are."""

    lsf: slice
    start: int
    """The sub-block that the start state begins in, from 1."""
    first: int
    """1 where the start state comes first in its two sub-blocks."""
    maximum: int
    state: slice
    codebook: slice
    """Indices into the codebook, segment by segment, and `gains` of their three stages."""
    gains: slice
    places: npt.NDArray[np.intp]
    """(parameters, 8): the payload's bit of each parameter's bit, the highest first."""
    sources: npt.NDArray[np.intp]
    """(payload bits,): the reverse."""

    @property
    def parameters(self) -> int:
        """How many there are in a row."""
        return len(self.places)


@cache
def fields_of(mode: Mode) -> Fields:
    """Return where a mode has what."""
    block, codebook = (_BLOCK_20, _CODEBOOK_20) if mode is MODE_20 else (_BLOCK_30, _CODEBOOK_30)
    # The table has indices and gains of the remainder before those of the segments; a row has all
    # indices, then all gains.
    indices = [*codebook[:3], *codebook[6 : 6 + 3 * mode.segments]]
    before = [*_LSF * mode.lsf_sets, block, _POSITION, _MAXIMUM, *[_SAMPLE] * mode.state]
    table = [*before, *codebook]
    count, first = len(before), 3 * mode.lsf_sets
    order = [
        *range(count + 3),
        *range(count + len(indices), count + len(indices) + 3),
        *range(count + 3, count + len(indices)),
        *range(count + len(indices) + 3, len(table)),
    ]

    empty = 8 * mode.octets - 1
    # A parameter has no bits above its own: they are read from the empty frame indicator, which is
    # 0 in every frame that counts, and the indicator is written from such a bit.
    places = np.full((len(table), 8), empty)
    sources = np.zeros(8 * mode.octets, np.intp)
    left = {parameter: sum(bits) for parameter, bits in zip(order, table, strict=True)}
    at = 0
    for class_ in range(3):
        for parameter, bits in zip(order, table, strict=True):
            for _ in range(bits[class_]):
                column = 8 - left[parameter]
                places[parameter, column] = at
                sources[at] = 8 * parameter + column
                left[parameter] -= 1
                at += 1
    assert at == empty
    return Fields(
        lsf=slice(0, first),
        start=first,
        first=first + 1,
        maximum=first + 2,
        state=slice(first + 3, count),
        codebook=slice(count, count + len(indices)),
        gains=slice(count + len(indices), len(table)),
        places=places,
        sources=sources,
    )


def pack(parameters: npt.NDArray[np.uint8], mode: Mode) -> npt.NDArray[np.uint8]:
    """Return the payloads uint8 (streams, octets) of parameters uint8 (streams, parameters)."""
    bits = np.unpackbits(parameters, axis=1)
    return np.packbits(bits.take(fields_of(mode).sources, axis=1), axis=1)


def unpack(
    payloads: npt.NDArray[np.uint8], mode: Mode
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """Return the parameters uint8 (streams, parameters), and which frames count: bool (streams,).

    A frame does not that says it is empty, or that names a start state outside itself.
    """
    fields = fields_of(mode)
    bits = np.unpackbits(payloads, axis=1)
    parameters = np.packbits(bits.take(fields.places.reshape(-1), axis=1), axis=1)
    start = parameters[:, fields.start]
    return parameters, (bits[:, -1] == 0) & (start >= 1) & (start <= mode.starts)
