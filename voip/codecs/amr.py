"""AMR and AMR-WB by opencore-amr and vo-amrwbenc, in the payloads of RFC 4867."""

from __future__ import annotations

from contextlib import suppress
from ctypes import Structure, addressof, c_int, c_uint64, c_void_p
from dataclasses import replace
from functools import cached_property
from typing import Final

import numpy as np

from voip.codecs.amr_payload import (
    MAX_FRAMES,
    NO_DATA,
    AmrFrame,
    AmrKind,
    pack,
    unpack,
)
from voip.codecs.coder import ArrayCodec
from voip.codecs.core import CodecFormat, CodecInfo, Ways
from voip.codecs.direct import Direct
from voip.codecs.libraries import Handle, adapter, address_of, function, library
from voip.codecs.pcm import Octets, Whole
from voip.errors import CodecError
from voip.fmtp import read

__all__ = ["AMR", "AMR_WB", "KINDS", "amr_codec", "amr_codec_for", "amr_ways"]

AMR: Final = CodecInfo(
    name="amr",
    clock_rate=8000,
    sample_rate=8000,
    channels=1,
    frame_samples=160,
    ptime_ms=20,
    bit_rate=12200,
    algorithmic_delay_ms=25.0,
    conceals=True,
    packet_frames=tuple(range(1, MAX_FRAMES + 1)),
)
AMR_WB: Final = replace(
    AMR,
    name="amr-wb",
    clock_rate=16000,
    sample_rate=16000,
    frame_samples=320,
    bit_rate=23850,
    algorithmic_delay_ms=25.9375,
    conceals=False,
)
"""Its library all but falls silent in a gap and the frame after it: repetition sounds better."""

_NARROW_RATES: Final = (4750, 5150, 5900, 6700, 7400, 7950, 10200, 12200)
_WIDE_RATES: Final = (6600, 8850, 12650, 14250, 15850, 18250, 19850, 23050, 23850)
KINDS: Final = {
    "amr": AmrKind("AMR", (95, 103, 118, 134, 148, 159, 204, 244, 39), _NARROW_RATES, None),
    "amr-wb": AmrKind("AMR-WB", (132, 177, 253, 285, 317, 365, 397, 461, 477, 40), _WIDE_RATES, 14),
}
_INFO: Final = {info.name: info for info in (AMR, AMR_WB)}


def amr_codec(
    name: str, *, aligned: bool = False, modes: tuple[int, ...] = (), mode: int | None = None
) -> ArrayCodec:
    """Build "amr" or "amr-wb"; `aligned`: octet-aligned payloads, else bandwidth-efficient ones.

    `modes`: those there may be (none: all), `mode`: to begin with (None: the best of them). What
    the other side asks for in its payloads is done from then on, if it may be. Raises CodecError
    for other modes, and where a library is missing.
    """
    kind, info = KINDS[name], _INFO[name]
    allowed = modes or tuple(range(len(kind.bit_rates)))
    first = max(allowed) if mode is None else mode
    if first not in allowed or not all(0 <= each < len(kind.bit_rates) for each in allowed):
        raise CodecError(
            f"{kind.name} cannot use mode {first} of {allowed}",
            hint=f"modes are 0 to {len(kind.bit_rates) - 1}",
        )
    make = _ConcealingCoder if info.conceals else _Coder
    return ArrayCodec(
        replace(info, bit_rate=kind.bit_rates[first]),
        lambda: make(info, kind, aligned, allowed, first),
    )


def amr_codec_for(format_: CodecFormat) -> ArrayCodec:
    """Build the codec of a negotiated format.

    Raises CodecError for payloads with checksums, sorting or interleaving, which are not here.
    """
    said = read(format_.name, format_.fmtp)
    for parameter in ("crc", "robust-sorting", "interleaving"):
        if said.get(parameter):
            raise CodecError(f"{format_} with {parameter} is not here", hint="offer it without")
    modes = said.get("mode-set", ())
    return amr_codec(
        format_.name,
        aligned=bool(said.get("octet-align")),
        modes=modes if isinstance(modes, tuple) else (),
    )


def amr_ways(name: str) -> Ways:
    """Return what the libraries of this machine can do with "amr" or "amr-wb"."""
    ways = Ways.NONE
    for way, side in ((Ways.ENCODE, _Encoder), (Ways.DECODE, _Decoder)):
        with suppress(CodecError):
            side(name)
            ways |= way
    return ways


class _Encoder:
    """Gives a mode octet and a frame for 20 ms."""

    def __init__(self, name: str) -> None:
        self._wide = name == "amr-wb"
        if self._wide:
            found, prefix = library("libvo-amrwbenc.so.0", "libvo-amrwbenc0"), "E_IF_"
            encode = "encode"
        else:
            found = library("libopencore-amrnb.so.0", "libopencore-amrnb0")
            prefix, encode = "Encoder_Interface_", "Encode"
        # AMR's is told whether to suppress silence when it is made, AMR-WB's with each frame.
        init = function(found, f"{prefix}init", c_void_p, *(() if self._wide else (c_int,)))
        leave = function(found, f"{prefix}exit", None, c_void_p)
        self.function = function(
            found, prefix + encode, c_int, c_void_p, c_int, c_void_p, c_void_p, c_int
        )
        self.state = Handle(init() if self._wide else init(0), leave, name)

    def __call__(self, mode: int, sound: Whole, out: Octets) -> int:
        octets: int = self.function(self.state.pointer, mode, sound.ctypes.data, out.ctypes.data, 0)
        return octets


class _Decoder:
    """Takes a mode octet and a frame for 20 ms."""

    def __init__(self, name: str) -> None:
        if name == "amr-wb":
            found = library("libopencore-amrwb.so.0", "libopencore-amrwb0")
            prefix, decode = "D_IF_", "decode"
        else:
            found = library("libopencore-amrnb.so.0", "libopencore-amrnb0")
            prefix, decode = "Decoder_Interface_", "Decode"
        init = function(found, f"{prefix}init", c_void_p)
        leave = function(found, f"{prefix}exit", None, c_void_p)
        self.function = function(found, prefix + decode, None, c_void_p, c_void_p, c_void_p, c_int)
        self.state = Handle(init(), leave, name)

    def __call__(self, frame: Octets, sound: Whole) -> None:
        self.function(self.state.pointer, frame.ctypes.data, sound.ctypes.data, 0)


_ROOM: Final = 64
"""Octets of a frame of either, its mode octet too."""
_NOTHING: Final = bytes([NO_DATA << 3 | 4])


class _State(Structure):
    """As `_libraries.c` has it; the mode to encode by is here."""

    _fields_ = tuple(
        (name, c_uint64)
        for name in (
            "decode", "decoder", "encode", "encoder", "frame", "wide", "aligned", "allowed", "mode",
        )
    )  # fmt: skip
    mode: int


class _Coder:
    conceals = False

    def __init__(
        self, info: CodecInfo, kind: AmrKind, aligned: bool, allowed: tuple[int, ...], mode: int
    ) -> None:
        self._frame, self._kind, self._aligned = info.frame_samples, kind, aligned
        self._allowed, self._name = allowed, info.name
        self._state = _State(
            frame=info.frame_samples, wide=info.name == "amr-wb", aligned=aligned,
            allowed=sum(1 << each for each in allowed), mode=mode,
        )  # fmt: skip
        if not amr_ways(info.name):
            _Decoder(info.name)  # which says what is missing
        self._octets = np.zeros(_ROOM, np.uint8)
        self._sound = np.zeros(self._frame, np.int16)

    @cached_property
    def _encoder(self) -> _Encoder:
        return _Encoder(self._name)

    @cached_property
    def _decoder(self) -> _Decoder:
        return _Decoder(self._name)

    def direct(self, *, encode: bool) -> Direct | None:
        called = adapter("amr_say" if encode else "amr_hear")
        if not called:
            return None
        side = self._encoder if encode else self._decoder
        way = "encode" if encode else "decode"
        setattr(self._state, way, address_of(side.function))
        setattr(self._state, f"{way}r", side.state.pointer)
        return Direct(
            -1, self._frame, _ROOM, called, addressof(self._state), keeps=(self._state, side),
            measure=adapter("amr_measure"), conceals=self.conceals,
        )  # fmt: skip

    def octets(self, samples: int) -> int:
        self._encoder  # noqa: B018  # there, or it raises
        frames, rest = divmod(samples, self._frame)
        if rest or not 0 < frames <= MAX_FRAMES:
            raise CodecError(
                f"{self._kind.name} takes 1 to {MAX_FRAMES} frames of {self._frame} samples, "
                f"not {samples}"
            )
        largest = max(self._kind.bits)
        if self._aligned:
            return 1 + frames * (1 + -(-largest // 8))
        return -(-(4 + frames * (6 + largest)) // 8)

    def samples(self, payload: Octets) -> int:
        self._decoder  # noqa: B018  # there, or it raises
        return len(self._read(payload)[1]) * self._frame

    def encode(self, pcm: Whole, out: Octets) -> int:
        frames = []
        for begin in range(0, pcm.size, self._frame):
            self._sound[:] = pcm[begin : begin + self._frame]  # the library may write there
            size = self._encoder(self._state.mode, self._sound, self._octets)
            stored = self._octets[:size].tobytes()
            frames.append(AmrFrame(stored[0] >> 3 & 0xF, stored[1:]))
        payload = pack(frames, self._kind, aligned=self._aligned)
        out[: len(payload)] = np.frombuffer(payload, np.uint8)
        return len(payload)

    def decode(self, payload: Octets, out: Whole) -> None:
        request, frames = self._read(payload)
        if request in self._allowed:
            self._state.mode = request
        for frame, place in zip(frames, out.reshape(-1, self._frame), strict=True):
            whole = frame.good and frame.type < len(self._kind.bits)
            self._fill(bytes([frame.type << 3 | 4]) + frame.data if whole else _NOTHING, place)

    def _fill(self, stored: bytes, out: Whole) -> None:
        self._octets[: len(stored)] = np.frombuffer(stored, np.uint8)
        self._decoder(self._octets, self._sound)
        out[:] = self._sound[: out.size]

    def _read(self, payload: Octets) -> tuple[int, tuple[AmrFrame, ...]]:
        return unpack(payload.tobytes(), self._kind, aligned=self._aligned)


class _ConcealingCoder(_Coder):
    conceals = True

    def conceal(self, out: Whole) -> None:
        for begin in range(0, out.size, self._frame):
            self._fill(_NOTHING, out[begin : begin + self._frame])
