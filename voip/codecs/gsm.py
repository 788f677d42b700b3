"""GSM 06.10 full rate by libgsm: 160 samples in 33 octets (RFC 3551, section 4.5.8)."""

from __future__ import annotations

from ctypes import Structure, addressof, c_int, c_uint64, c_void_p
from typing import Final

from voip.codecs.coder import ArrayCodec
from voip.codecs.core import CodecInfo
from voip.codecs.direct import Direct
from voip.codecs.libraries import Handle, adapter, address_of, function, library
from voip.codecs.pcm import Octets, Whole
from voip.errors import CodecError

__all__ = ["GSM", "gsm_codec", "libgsm"]

GSM: Final = CodecInfo(
    name="gsm",
    clock_rate=8000,
    sample_rate=8000,
    channels=1,
    frame_samples=160,
    ptime_ms=20,
    bit_rate=13200,
    algorithmic_delay_ms=20.0,
    static_payload_type=3,
)
_SAMPLES: Final = GSM.frame_samples
_OCTETS: Final = 33
_MARK: Final = 0xD
"""The upper half of each frame's first octet."""


def gsm_codec() -> ArrayCodec:
    """Build it. Raises CodecError where there is no libgsm."""
    return ArrayCodec(GSM, _Coder)


class libgsm:  # noqa: N801
    """The functions of libgsm. Raises CodecError where there is none."""

    def __init__(self) -> None:
        found = library("libgsm.so.1", "libgsm1")
        self.create = function(found, "gsm_create", c_void_p)
        self.destroy = function(found, "gsm_destroy", None, c_void_p)
        self.encode = function(found, "gsm_encode", None, c_void_p, c_void_p, c_void_p)
        self.decode = function(found, "gsm_decode", c_int, c_void_p, c_void_p, c_void_p)


class _State(Structure):
    """As `_libraries.c` has it."""

    _fields_ = (("call", c_uint64), ("state", c_uint64))


class _Coder:
    def __init__(self) -> None:
        self._library = found = libgsm()
        self._encoder = Handle(found.create(), found.destroy, "GSM")
        self._decoder = Handle(found.create(), found.destroy, "GSM")

    def direct(self, *, encode: bool) -> Direct | None:
        called = adapter("gsm_say" if encode else "gsm_hear")
        if not called:
            return None
        handle = self._encoder if encode else self._decoder
        function = self._library.encode if encode else self._library.decode
        state = _State(address_of(function), handle.pointer)
        return Direct(
            -1, _SAMPLES, _OCTETS, called, addressof(state), keeps=(state, handle),
            measure=adapter("gsm_measure"),
        )  # fmt: skip

    def octets(self, samples: int) -> int:
        return _whole(samples, _SAMPLES, "samples") * _OCTETS

    def samples(self, payload: Octets) -> int:
        frames = _whole(payload.size, _OCTETS, "octets")
        if (payload[::_OCTETS] >> 4 != _MARK).any():
            raise CodecError("GSM frames begin with the bits 1101, and these do not")
        return frames * _SAMPLES

    def encode(self, pcm: Whole, out: Octets) -> int:
        sound, payload = pcm.ctypes.data, out.ctypes.data
        for n in range(pcm.size // _SAMPLES):
            self._library.encode(
                self._encoder.pointer, sound + 2 * n * _SAMPLES, payload + n * _OCTETS
            )
        return out.size

    def decode(self, payload: Octets, out: Whole) -> None:
        octets, sound = payload.ctypes.data, out.ctypes.data
        for n in range(out.size // _SAMPLES):
            self._library.decode(
                self._decoder.pointer, octets + n * _OCTETS, sound + 2 * n * _SAMPLES
            )


def _whole(size: int, of: int, unit: str) -> int:
    if size % of:
        raise CodecError(f"GSM has frames of {of} {unit}, and {size} is no multiple of it")
    return size // of
