"""A `Codec` made of a `Coder`: what all codecs check and convert is here, once.

A codec's own room writes the coder, which works between int16 and octets in arrays that fit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol, runtime_checkable

import numpy as np

from voip.codecs.core import CodecInfo
from voip.codecs.direct import Direct
from voip.codecs.pcm import (
    Octets,
    Pcm,
    Rounding,
    Whole,
    check_into,
    check_octets,
    check_pcm,
    divide,
)
from voip.errors import CodecError

__all__ = ["ArrayCodec", "Coder", "Concealing"]

_KEPT: Final = 16_384
"""Samples that are room enough for a packet of any codec: 120 ms of stereo at 48 kHz take 11,520.
Of more at once the room is not kept."""


class Coder(Protocol):
    """Both directions of one stream, between arrays of one dimension that are contiguous.

    It is asked for sizes first, and may refuse what it is given there, by a CodecError, and
    nowhere later: so nothing malformed reaches a library, and a refusal changes nothing.
    """

    def octets(self, samples: int) -> int:
        """Return how many octets a payload of so many samples takes, at most."""
        ...

    def samples(self, payload: Octets) -> int:
        """Return how many samples a payload holds."""
        ...

    def encode(self, pcm: Whole, out: Octets) -> int:
        """Encode into the beginning of `out`; return how many octets it took."""
        ...

    def decode(self, payload: Octets, out: Whole) -> None:
        """Decode into all of `out`."""
        ...


@runtime_checkable
class Concealing(Protocol):
    """A coder that continues the sound where payloads are lost."""

    def conceal(self, out: Whole) -> None:
        """Fill `out` with what the lost may have sounded like."""
        ...


@runtime_checkable
class _Direct(Protocol):
    def direct(self, *, encode: bool) -> Direct | None: ...


class ArrayCodec:
    """A codec of one stream; `make` builds its coder, and another one when all is to be forgotten.

    int16 and float32 both go in and out. float32 is rounded and saturates; what is not a number
    is silence.
    """

    def __init__(self, info: CodecInfo, make: Callable[[], Coder]) -> None:
        self._info, self._make = info, make
        self._coder = make()
        self._round = Rounding()
        self._room = np.empty(0, np.int16)

    @property
    def info(self) -> CodecInfo:
        """What is known about the encoding."""
        return self._info

    def encode(self, pcm: Pcm) -> bytes:
        """Encode int16 or float32 (samples,), whole frames, into one payload."""
        check_pcm(pcm, self._info.name)
        out = np.empty(self._coder.octets(pcm.size), np.uint8)
        return out[: self.encode_into(pcm, out)].tobytes()

    def decode(self, payload: bytes) -> Whole:
        """Decode one payload to int16 (samples,)."""
        octets = np.frombuffer(payload, np.uint8)
        out = np.empty(self._coder.samples(octets), np.int16)
        self._coder.decode(octets, out)
        return out

    def conceal(self, samples: int) -> Whole:
        """Return what to play instead of lost samples: silence where the codec has nothing."""
        if samples < 0:
            raise CodecError(f"{self._info.name} cannot conceal {samples} samples")
        out = np.zeros(samples, np.int16)
        if isinstance(self._coder, Concealing):
            self._coder.conceal(out)
        return out

    def samples(self, payload: Octets) -> int:
        """Return how many samples a payload holds; CodecError for one that is none."""
        check_octets(payload, self._info.name)
        return self._coder.samples(payload)

    def encode_into(self, pcm: Pcm, out: Octets) -> int:
        """Encode into the beginning of `out`; return how many octets it took."""
        check_pcm(pcm, self._info.name)
        room = self._coder.octets(pcm.size)
        check_into(out, room, self._info.name, sound=False)
        if pcm.dtype == np.float32:
            whole = self._whole(pcm.size)
            self._round(pcm, whole)  # type: ignore[arg-type]
        else:
            whole = np.ascontiguousarray(pcm)
        return self._coder.encode(whole, out[:room])

    def decode_into(self, payload: Octets, out: Pcm) -> int:
        """Decode into the beginning of `out`, int16 or float32; return how many samples it gave."""
        check_octets(payload, self._info.name)
        octets = np.ascontiguousarray(payload)
        samples = self._coder.samples(octets)
        check_into(out, samples, self._info.name, sound=True)
        if out.dtype == np.float32:
            whole = self._whole(samples)
            self._coder.decode(octets, whole)
            divide(whole, out[:samples])  # type: ignore[arg-type]
        else:
            self._coder.decode(octets, out[:samples])  # type: ignore[arg-type]
        return samples

    def reset(self) -> None:
        """Forget what went before, in both directions."""
        self._coder = self._make()

    def direct_decoder(self) -> Direct | None:
        """Return how C decodes by the present coder; None where only Python does."""
        return self._coder.direct(encode=False) if isinstance(self._coder, _Direct) else None

    def direct_encoder(self) -> Direct | None:
        """Return how C encodes by the present coder."""
        return self._coder.direct(encode=True) if isinstance(self._coder, _Direct) else None

    def _whole(self, samples: int) -> Whole:
        """Return room for int16; it is kept, that there be no more of it with each frame."""
        if samples > _KEPT:
            return np.empty(samples, np.int16)
        if samples > self._room.size:
            self._room = np.empty(samples, np.int16)
        return self._room[:samples]
