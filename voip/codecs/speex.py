"""Speex by libspeex: narrow band, wide band and ultra-wide band (RFC 5574).

A payload is frames of 20 ms of any of its rates, which say themselves how long they are: that is
read here, before the library is called.
"""

from __future__ import annotations

import ctypes
from ctypes import Structure, addressof, byref, c_char_p, c_int, c_uint64, c_void_p
from dataclasses import replace
from typing import Final

import numpy as np

from voip.codecs.coder import ArrayCodec
from voip.codecs.core import CodecInfo
from voip.codecs.direct import Direct
from voip.codecs.libraries import Handle, adapter, address_of, function, library
from voip.codecs.pcm import Octets, Whole
from voip.errors import CodecError

__all__ = ["MAX_FRAMES", "SPEEX", "count_frames", "libspeex", "speex_codec"]

MAX_FRAMES: Final = 10
"""Of one payload, read or made: 200 ms."""

SPEEX: Final = tuple(
    CodecInfo(
        name="speex",
        clock_rate=rate_hz,
        sample_rate=rate_hz,
        channels=1,
        frame_samples=rate_hz // 50,
        ptime_ms=20,
        bit_rate=bit_rate,
        algorithmic_delay_ms=delay_ms,
        conceals=True,
        packet_frames=tuple(range(1, MAX_FRAMES + 1)),
    )
    for rate_hz, bit_rate, delay_ms in (
        (8000, 15000, 30.0),
        (16000, 27800, 33.9375),
        (32000, 29600, 35.90625),
    )
)
"""Narrow, wide and ultra-wide band; the bit rates are those of quality 8."""

_MAX_OCTETS: Final = 1500
_FRAME_ROOM: Final = 120
"""Octets that a frame takes at most: 492 bits, and 352 and 36 for the layers above."""
_BITS_ROOM: Final = 128
"""Octets of a SpeexBits, of which there are 48 on the machines of today."""
_SET_ENHANCEMENT, _SET_QUALITY, _GET_BIT_RATE = 0, 4, 19
_NARROW_BITS: Final = {0: 5, 1: 43, 2: 119, 3: 160, 4: 220, 5: 300, 6: 364, 7: 492, 8: 79}
"""Bits of a frame of the narrow band, its header too, by mode (RFC 5574 names the manual)."""
_LAYER_BITS: Final = ({0: 4, 1: 36, 2: 112, 3: 192, 4: 352}, {0: 4, 1: 36})
"""Bits of the first and of the second layer above it."""
_USER, _REQUEST, _END = 13, 14, 15
_REQUEST_BITS: Final = (1, 1, 4, 4, 4, 4, 4, 4, 8, 8, 16, 16, 32, 32, 64, 64)
_LAYERS: Final = {8000: 0, 16000: 1, 32000: 2}


def speex_codec(rate_hz: int = 8000, quality: int = 8) -> ArrayCodec:
    """Build it for 8000, 16000 or 32000 Hz; `quality`: 0 to 10, bits against likeness.

    Raises CodecError for other values, and where there is no libspeex.
    """
    info = next((info for info in SPEEX if info.sample_rate == rate_hz), None)
    if info is None or not 0 <= quality <= 10:
        raise CodecError(
            f"Speex has no {rate_hz} Hz of quality {quality}",
            hint="8000, 16000 or 32000 Hz; a quality from 0 to 10",
        )
    bit_rate = _Coder(rate_hz, quality).bit_rate
    return ArrayCodec(replace(info, bit_rate=bit_rate), lambda: _Coder(rate_hz, quality))


def count_frames(payload: bytes, layers: int) -> int:
    """Return how many frames a payload holds; each may have so many `layers` above its first.

    Raises CodecError where one is cut off, is none, or has more layers.
    """
    if not 0 < len(payload) <= _MAX_OCTETS:
        raise CodecError(f"a Speex payload has 1 to {_MAX_OCTETS} octets, not {len(payload)}")
    value, size = int.from_bytes(payload, "big"), 8 * len(payload)
    at = frames = 0
    above = layers

    def take(bits: int) -> int:
        nonlocal at
        at += bits
        if at > size:
            raise CodecError("a Speex payload ends within a frame")
        return value >> size - at & (1 << bits) - 1

    while at < size:
        layer = take(1)
        if size - at < 4 and not (layer and layers):
            break  # padding, which begins with a zero
        if layer:
            above += 1
            if above > layers:
                raise CodecError(f"a Speex frame has more than {layers} layers, or nothing below")
            mode = take(3)
            modes = _LAYER_BITS[above - 1]
            if mode not in modes:
                raise CodecError(f"Speex has no layer of mode {mode}")
            take(modes[mode] - 4)
            continue
        mode = take(4)
        if mode == _END:
            break
        above = layers  # a layer follows what it is above at once
        if mode == _REQUEST:
            take(_REQUEST_BITS[take(4)])
        elif mode == _USER:
            take(5 + 8 * take(4))
        elif mode in _NARROW_BITS:
            take(_NARROW_BITS[mode] - 5)
            frames, above = frames + 1, 0
        else:
            raise CodecError(f"Speex has no mode {mode}")
    if not 0 < frames <= MAX_FRAMES:
        raise CodecError(f"a Speex payload has 1 to {MAX_FRAMES} frames, not {frames}")
    return frames


class libspeex:  # noqa: N801
    """The functions of libspeex. Raises CodecError where there is none."""

    def __init__(self) -> None:
        found = library("libspeex.so.1", "libspeex1")
        pointer = c_void_p
        self.mode = function(found, "speex_lib_get_mode", pointer, c_int)
        self.encoder = function(found, "speex_encoder_init", pointer, pointer)
        self.encoder_control = function(found, "speex_encoder_ctl", c_int, pointer, c_int, pointer)
        self.encoder_destroy = function(found, "speex_encoder_destroy", None, pointer)
        self.encode = function(found, "speex_encode_int", c_int, pointer, pointer, pointer)
        self.decoder = function(found, "speex_decoder_init", pointer, pointer)
        self.decoder_control = function(found, "speex_decoder_ctl", c_int, pointer, c_int, pointer)
        self.decoder_destroy = function(found, "speex_decoder_destroy", None, pointer)
        self.decode = function(found, "speex_decode_int", c_int, pointer, pointer, pointer)
        self.bits_init = function(found, "speex_bits_init", None, pointer)
        self.bits_destroy = function(found, "speex_bits_destroy", None, pointer)
        self.bits_reset = function(found, "speex_bits_reset", None, pointer)
        self.bits_read = function(found, "speex_bits_read_from", None, pointer, c_char_p, c_int)
        self.bits_write = function(found, "speex_bits_write", c_int, pointer, pointer, c_int)
        self.bits_end = function(found, "speex_bits_insert_terminator", None, pointer)


class _State(Structure):
    """As `_libraries.c` has it."""

    _fields_ = tuple(
        (name, c_uint64)
        for name in ("code", "state", "bits", "frame", "layers", "first", "end", "write")
    )


class _Coder:
    def __init__(self, rate_hz: int, quality: int) -> None:
        self._library = found = libspeex()
        self._layers = _LAYERS[rate_hz]
        self._frame = rate_hz // 50
        mode = found.mode(self._layers)
        self._encoder = Handle(found.encoder(mode), found.encoder_destroy, "Speex")
        self._decoder = Handle(found.decoder(mode), found.decoder_destroy, "Speex")
        self._memory = ctypes.create_string_buffer(_BITS_ROOM)
        bits = ctypes.addressof(self._memory)
        found.bits_init(bits)
        memory = self._memory

        def destroy(pointer: int) -> None:
            assert memory is not None  # it must be there until then
            found.bits_destroy(pointer)

        self._bits = Handle(bits, destroy, "Speex")
        value = c_int(quality)
        found.encoder_control(self._encoder.pointer, _SET_QUALITY, byref(value))
        found.encoder_control(self._encoder.pointer, _GET_BIT_RATE, byref(value))
        self.bit_rate = value.value
        found.decoder_control(self._decoder.pointer, _SET_ENHANCEMENT, byref(c_int(1)))
        self._sound = np.empty(self._frame, np.int16)

    def direct(self, *, encode: bool) -> Direct | None:
        called, found = adapter("speex_say" if encode else "speex_hear"), self._library
        if not called:
            return None
        handle = self._encoder if encode else self._decoder
        state = _State(
            code=address_of(found.encode if encode else found.decode),
            state=handle.pointer, bits=self._bits.pointer, frame=self._frame, layers=self._layers,
            first=address_of(found.bits_reset if encode else found.bits_read),
            end=address_of(found.bits_end), write=address_of(found.bits_write),
        )  # fmt: skip
        return Direct(
            -1, self._frame, _FRAME_ROOM, called, addressof(state),
            keeps=(state, handle, self._bits), measure=adapter("speex_measure"),
            conceals=not encode,
        )  # fmt: skip

    def octets(self, samples: int) -> int:
        frames, rest = divmod(samples, self._frame)
        if rest or not 0 < frames <= MAX_FRAMES:
            raise CodecError(
                f"Speex takes 1 to {MAX_FRAMES} frames of {self._frame} samples, not {samples}"
            )
        return frames * _FRAME_ROOM

    def samples(self, payload: Octets) -> int:
        return count_frames(payload.tobytes(), self._layers) * self._frame

    def encode(self, pcm: Whole, out: Octets) -> int:
        self._library.bits_reset(self._bits.pointer)
        for begin in range(0, pcm.size, self._frame):
            self._sound[:] = pcm[begin : begin + self._frame]  # the library may write there
            self._library.encode(self._encoder.pointer, self._sound.ctypes.data, self._bits.pointer)
        self._library.bits_end(self._bits.pointer)
        octets: int = self._library.bits_write(self._bits.pointer, out.ctypes.data, out.size)
        return octets

    def decode(self, payload: Octets, out: Whole) -> None:
        octets = payload.tobytes()
        self._library.bits_read(self._bits.pointer, octets, len(octets))
        self._fill(out, self._bits.pointer)

    def conceal(self, out: Whole) -> None:
        self._fill(out, None)

    def _fill(self, out: Whole, bits: int | None) -> None:
        for begin in range(0, out.size, self._frame):
            part = out[begin : begin + self._frame]
            if self._library.decode(self._decoder.pointer, bits, self._sound.ctypes.data):
                self._sound[:] = 0
            part[:] = self._sound[: part.size]
