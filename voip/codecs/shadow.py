"""Two implementations of one codec side by side on the same frames, and where they differ.

The first one's result is used; the other, the reference, works in its shadow and can do no harm:
what it refuses or makes otherwise is counted and told. It costs what the reference costs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from voip.codecs.core import Codec, CodecInfo
from voip.codecs.pcm import Octets, Pcm, Whole
from voip.errors import CodecError

__all__ = ["Mismatch", "ShadowCodec", "ShadowCounts", "Way"]

_Array: TypeAlias = npt.NDArray[Any]
_Made = TypeVar("_Made", bound=npt.NDArray[Any])


class Way(Enum):
    """What was done with a frame."""

    ENCODED = "encoded"
    DECODED = "decoded"
    CONCEALED = "concealed"


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A frame that the two made differently; `frame` counts those of its `way` from 0.

    `first` is the first octet or sample that differs, `largest` the largest difference, in steps
    of 16 bits for sound. `reason` says which one refused, or that lengths differ; then both are 0.
    """

    way: Way
    frame: int
    reason: str = ""
    first: int = 0
    largest: float = 0.0


@dataclass(frozen=True, slots=True)
class ShadowCounts:
    """How many frames went each way, and how many of them were made differently."""

    encoded: int = 0
    decoded: int = 0
    concealed: int = 0
    encoded_differently: int = 0
    decoded_differently: int = 0
    concealed_differently: int = 0

    @property
    def mismatches(self) -> int:
        """Frames that were made differently, whichever way."""
        return self.encoded_differently + self.decoded_differently + self.concealed_differently


class ShadowCodec:
    """`codec`, compared with `reference`. `tolerance`: steps of 16 bits that sound may differ by.

    `report` is called for each mismatch; it should not raise. Redundancy (`decode_fec`) is not
    shadowed. After a mismatch the two may remember different things, and go on to differ.
    """

    def __init__(
        self,
        codec: Codec,
        reference: Codec,
        *,
        tolerance: float = 0.0,
        report: Callable[[Mismatch], None] | None = None,
    ) -> None:
        if codec.info.format.key != reference.info.format.key:
            raise CodecError(
                f"{reference.info.format} is no reference for {codec.info.format}",
                hint="two of one name, clock rate and channels",
            )
        self._codec, self._reference = codec, reference
        self._tolerance, self._report = tolerance, report
        self._frames = dict.fromkeys(Way, 0)
        self._differ = dict.fromkeys(Way, 0)

    @property
    def info(self) -> CodecInfo:
        """What is known about the codec that is used."""
        return self._codec.info

    @property
    def counts(self) -> ShadowCounts:
        """What was compared until now."""
        frames, differ = self._frames, self._differ
        return ShadowCounts(*(frames[way] for way in Way), *(differ[way] for way in Way))

    def encode(self, pcm: Pcm) -> bytes:
        """Encode with both; return the first one's payload."""

        def work(codec: Codec) -> Octets:
            return np.frombuffer(codec.encode(pcm), np.uint8)

        return self._both(Way.ENCODED, work, work).tobytes()

    def decode(self, payload: bytes) -> Whole:
        """Decode with both; return the first one's sound."""

        def work(codec: Codec) -> Whole:
            return codec.decode(payload)

        return self._both(Way.DECODED, work, work)

    def conceal(self, samples: int) -> Whole:
        """Conceal with both; return the first one's sound."""

        def work(codec: Codec) -> Whole:
            return codec.conceal(samples)

        return self._both(Way.CONCEALED, work, work)

    def samples(self, payload: Octets) -> int:
        """Return how many samples the first one makes of a payload."""
        return self._codec.samples(payload)

    def encode_into(self, pcm: Pcm, out: Octets) -> int:
        """Encode with both; the first one into the beginning of `out`."""

        def work(codec: Codec, into: Octets) -> Octets:
            return into[: codec.encode_into(pcm, into)]

        return self._both(
            Way.ENCODED, lambda codec: work(codec, out), lambda c: work(c, np.empty_like(out))
        ).size

    def decode_into(self, payload: Octets, out: Pcm) -> int:
        """Decode with both; the first one into the beginning of `out`."""

        def work(codec: Codec, into: Pcm) -> Pcm:
            return into[: codec.decode_into(payload, into)]

        return self._both(
            Way.DECODED, lambda codec: work(codec, out), lambda c: work(c, np.empty_like(out))
        ).size

    def reset(self) -> None:
        """Let both forget what went before; the counts go on."""
        self._codec.reset()
        self._reference.reset()

    def _both(
        self, way: Way, work: Callable[[Codec], _Made], shadow: Callable[[Codec], _Made]
    ) -> _Made:
        """Let the codec work, and the reference in its shadow; return what the codec made."""
        frame = self._frames[way]
        self._frames[way] += 1
        try:
            theirs: _Made | None = shadow(self._reference)
            refused = ""
        except CodecError as error:
            theirs, refused = None, error.message
        try:
            made = work(self._codec)
        except CodecError as error:
            if theirs is not None:
                self._tell(Mismatch(way, frame, f"refused: {error.message}"))
            raise
        if theirs is None:
            self._tell(Mismatch(way, frame, f"the reference refused: {refused}"))
        elif made.size != theirs.size:
            self._tell(Mismatch(way, frame, f"{made.size} long, the reference {theirs.size}"))
        else:
            self._compare(way, frame, made, theirs)
        return made

    def _compare(self, way: Way, frame: int, made: _Array, theirs: _Array) -> None:
        tolerance = 0.0 if way is Way.ENCODED else self._tolerance
        if not tolerance and np.array_equal(made, theirs):
            return
        scale = 32768.0 if made.dtype == np.float32 else 1.0
        difference = np.abs(made.astype(np.float64) - theirs) * scale
        beyond = np.flatnonzero(difference > tolerance)
        if beyond.size:
            self._tell(Mismatch(way, frame, "", int(beyond[0]), float(difference.max())))

    def _tell(self, mismatch: Mismatch) -> None:
        self._differ[mismatch.way] += 1
        if self._report is not None:
            self._report(mismatch)
