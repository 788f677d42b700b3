"""G.722: 16 kHz sound in 64 kbit/s.

Our own in C (`g722.h`, decision 0121) codes it wherever `_libraries.c` was built, unless
VOIP_NATIVE=0; the package G722 does elsewhere (decision 0098). Both give the same, to the bit.

RTP counts it in 8000 Hz, by a mistake of RFC 1890 that is kept (RFC 3551, section 4.5.2): 20 ms are
160 octets, 160 units of time, 320 samples. An octet holds two samples, one of each sub-band's.
"""

from __future__ import annotations

from ctypes import PYFUNCTYPE, addressof, c_int32, c_ssize_t, c_void_p
from dataclasses import replace
from functools import cache
from typing import Any, Final

import numpy as np

from voip.codecs.coder import ArrayCodec
from voip.codecs.core import CodecInfo
from voip.codecs.direct import Direct
from voip.codecs.libraries import adapter
from voip.codecs.pcm import Octets, Whole
from voip.errors import CodecError

__all__ = ["G722", "INSTALL", "g722_codec"]

INSTALL: Final = "pip install G722"
"""What to do where neither is there."""

G722: Final = CodecInfo(
    name="g722",
    clock_rate=8000,
    sample_rate=16000,
    channels=1,
    frame_samples=2,
    ptime_ms=20,
    bit_rate=64000,
    algorithmic_delay_ms=1.375,
    static_payload_type=9,
)
"""The delay is that of the two filters that part and join the bands, of 24 taps each."""

_LOWER_BITS: Final = {64000: 0, 56000: 1, 48000: 2}
"""Bits of each octet that do not carry sound, by bit rate (ITU-T G.722, table 1)."""


def g722_codec(bit_rate: int = 64000) -> ArrayCodec:
    """Build G.722 at 64, 56 or 48 kbit/s: modes 1, 2 and 3 of the Recommendation.

    RTP has the first (RFC 3551); the others have as many octets, whose lowest bits are the
    auxiliary channel's and zero here: what is sent, a decoder of 64 kbit/s plays, too. Raises
    CodecError for another rate, and where nothing here codes it.
    """
    if bit_rate not in _LOWER_BITS:
        raise CodecError(f"G.722 has no {bit_rate} bit/s", hint="64000, 56000 or 48000")
    coder = _Coder if adapter("g722_encode") else _PackagedCoder
    return ArrayCodec(replace(G722, bit_rate=bit_rate), lambda: coder(bit_rate))


_State: Final = c_int32 * 44
"""As `g722.h` has it: the bits that do not carry sound, then zeros to begin with."""
_Call: Final = PYFUNCTYPE(None, c_void_p, c_void_p, c_ssize_t, c_void_p)


class _Coder:
    """By our own, with the interpreter's lock kept (decision 0093)."""

    def __init__(self, bit_rate: int) -> None:
        lower = _LOWER_BITS[bit_rate]
        self._encode, self._encoder = _Call(adapter("g722_encode")), _State(lower)
        self._decode, self._decoder = _Call(adapter("g722_decode")), _State(lower)

    def direct(self, *, encode: bool) -> Direct | None:
        called, state = ("g722_say", self._encoder) if encode else ("g722_hear", self._decoder)
        return Direct(1, 2, 160, adapter(called), addressof(state), keeps=state, quick=True)

    def octets(self, samples: int) -> int:
        return _half(samples)

    def samples(self, payload: Octets) -> int:
        return 2 * payload.size

    def encode(self, pcm: Whole, out: Octets) -> int:
        self._encode(addressof(self._encoder), pcm.ctypes.data, out.size, out.ctypes.data)
        return out.size

    def decode(self, payload: Octets, out: Whole) -> None:
        self._decode(addressof(self._decoder), payload.ctypes.data, payload.size, out.ctypes.data)


class _PackagedCoder:
    """By the package, whose code words are right-aligned."""

    def __init__(self, bit_rate: int) -> None:
        self._native = _library().G722(G722.sample_rate, bit_rate, use_numpy=False)
        self._lower = _LOWER_BITS[bit_rate]

    def direct(self, *, encode: bool) -> Direct | None:
        return Direct(1, 2, 160, quick=True)

    def octets(self, samples: int) -> int:
        return _half(samples)

    def samples(self, payload: Octets) -> int:
        return 2 * payload.size

    def encode(self, pcm: Whole, out: Octets) -> int:
        codes = np.frombuffer(self._native.encode(pcm), np.uint8)
        np.left_shift(codes, self._lower, out=out)
        return out.size

    def decode(self, payload: Octets, out: Whole) -> None:
        codes = payload >> self._lower if self._lower else payload
        out[:] = np.frombuffer(self._native.decode(codes.tobytes()), np.int16)


def _half(samples: int) -> int:
    if samples % 2:  # the package would leave the last one out
        raise CodecError(f"G.722 has two samples in an octet, and {samples} is odd")
    return samples // 2


@cache
def _library() -> Any:
    """Return the library, which is loaded when it is first needed."""
    try:
        import G722 as library  # noqa: N811
    except ImportError:
        raise CodecError("G.722 needs the package G722, which is not here", hint=INSTALL) from None
    return library
