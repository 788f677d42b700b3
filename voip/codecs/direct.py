"""Codecs that a loop in C may call: where their functions lie, without Python in between.

What is called so is what `encode_into` and `decode_into` would have called, with the same
arguments. Who calls keeps the object for as long as it does, and no other thread uses the codec.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from voip.codecs.pcm import Octets, Whole

__all__ = ["Direct", "DirectCodec", "Together"]


class Together(Protocol):
    """Codes a packet of each of many streams in one operation, as their codecs would do it alone.

    `states` are what the streams' codecs `keep`, each at most once.
    """

    def decode(
        self, states: Sequence[Any], payloads: Octets, received: npt.NDArray[np.bool_]
    ) -> Whole:
        """Decode uint8 (k, octets) to int16 (k, samples); conceal where nothing was `received`."""
        ...

    def encode(self, states: Sequence[Any], pcm: Whole) -> Octets:
        """Encode int16 (k, samples) to uint8 (k, octets)."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Direct:
    """How one direction of one mono stream is called.

    Either `function` is the address of a C function and `state` of what it works on, as libopus has
    them: `int (state, octets, length, float *, samples, 0)` to decode and `int (state, const
    float *, samples, octets, room)` to encode. Or `together` codes it with others of the same one,
    by what is kept. Where there is neither, Python asks the codec, and knows the rest.

    octets, samples: a payload of n * `octets` octets holds n * `samples` samples; where `octets`
    is 0, its first octet says how many times `samples` it holds, as in Opus (RFC 6716, 3.1).
    -1: `measure` is the address of `int (state, octets, length)`, which tells, 0 where it is none.
    room: what encoding 20 ms may take, in octets. keeps: what must live while it is called.

    conceals: whether the function gives whole frames of what was lost, too, for no octets at all.
    repeats: whether, with 1 for its last argument, it gives what was lost just before a payload.
    quick: whether 20 ms take no more than some 10 µs, so that many streams are coded at a time.
    """

    octets: int
    samples: int
    room: int = 0
    function: int = 0
    state: int = 0
    together: Together | None = None
    keeps: object = None
    measure: int = 0
    conceals: bool = False
    repeats: bool = False
    quick: bool = False


@runtime_checkable
class DirectCodec(Protocol):
    """A codec whose directions may be called so; None where this one may not."""

    def direct_decoder(self) -> Direct | None:
        """Return how payloads are decoded."""
        ...

    def direct_encoder(self) -> Direct | None:
        """Return how sound is encoded."""
        ...
