"""iLBC as a `Codec`: for one stream at a time; the functions serve all streams at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

from voip.codecs.coder import ArrayCodec
from voip.codecs.core import CodecInfo
from voip.codecs.direct import Direct
from voip.codecs.ilbc.decoder import DecoderState, decode
from voip.codecs.ilbc.encoder import EncoderState, encode
from voip.codecs.ilbc.mode import MODE_20, MODE_30, Mode
from voip.codecs.pcm import Octets, Whole
from voip.errors import CodecError
from voip.fmtp import pairs

__all__ = ["ILBC_20", "ILBC_30", "ilbc_codec", "mode_of"]

ILBC_20, ILBC_30 = (
    CodecInfo(
        name="ilbc",
        clock_rate=8000,
        sample_rate=8000,
        channels=1,
        frame_samples=mode.samples,
        ptime_ms=mode.frame_ms,
        bit_rate=8 * mode.octets * 1000 // mode.frame_ms,
        algorithmic_delay_ms=mode.frame_ms + mode.delay / 8,
        conceals=True,
    )
    for mode in (MODE_20, MODE_30)
)
_INFO: Final = {MODE_20: ILBC_20, MODE_30: ILBC_30}
_RECEIVED, _LOST = np.ones(1, bool), np.zeros(1, bool)


def mode_of(fmtp: str) -> Mode:
    """Return the frame size of a format's parameters: 30 ms unless they say 20 (RFC 3952).

    Raises CodecError for a mode that there is not.
    """
    for name, text in pairs(fmtp):
        if name == "mode" and text not in ("0", "30"):
            if text == "20":
                return MODE_20
            raise CodecError(f"iLBC has no mode {text!r}", hint="mode=20 or mode=30")
    return MODE_30


def ilbc_codec(mode: Mode = MODE_30) -> ArrayCodec:
    """Build iLBC of one frame size. A frame that is marked as empty, or is none, is concealed."""
    return ArrayCodec(_INFO[mode], lambda: _Coder(mode))


_State = TypeVar("_State", EncoderState, DecoderState)


@dataclass(frozen=True, slots=True)
class _Together:
    """Frames of many streams, whose states are gathered for that and given back."""

    mode: Mode

    def decode(
        self, states: Sequence[DecoderState], payloads: Octets, received: npt.NDArray[np.bool_]
    ) -> Whole:
        state, size = _gathered(states), self.mode.octets
        frames = [
            decode(payloads[:, at : at + size], received, state, self.mode)
            for at in range(0, payloads.shape[1], size)
        ]
        _give_back(state, states)
        return np.concatenate(frames, axis=1)

    def encode(self, states: Sequence[EncoderState], pcm: Whole) -> Octets:
        state, size = _gathered(states), self.mode.samples
        frames = [
            encode(pcm[:, at : at + size], state, self.mode) for at in range(0, pcm.shape[1], size)
        ]
        _give_back(state, states)
        return np.concatenate(frames, axis=1)


_TOGETHER: Final = {mode: _Together(mode) for mode in (MODE_20, MODE_30)}


def _gathered(states: Sequence[_State]) -> _State:
    kind = type(states[0])
    return kind(
        *(np.concatenate([getattr(state, one.name) for state in states]) for one in fields(kind))
    )


def _give_back(whole: _State, states: Sequence[_State]) -> None:
    for one in fields(whole):
        for row, state in zip(getattr(whole, one.name), states, strict=True):
            getattr(state, one.name)[0] = row


class _Coder:
    def __init__(self, mode: Mode) -> None:
        self._mode = mode
        self._encoder = EncoderState.of(1, mode)
        self._decoder = DecoderState.of(1, mode)
        self._nothing = np.zeros((1, mode.octets), np.uint8)

    def direct(self, *, encode: bool) -> Direct:
        octets, samples = self._mode.octets, self._mode.samples
        together, state = _TOGETHER[self._mode], self._encoder if encode else self._decoder
        return Direct(octets, samples, octets, together=together, keeps=state, conceals=True)

    def octets(self, samples: int) -> int:
        return self._frames(samples, self._mode.samples, "samples") * self._mode.octets

    def samples(self, payload: Octets) -> int:
        return self._frames(payload.size, self._mode.octets, "octets") * self._mode.samples

    def encode(self, pcm: Whole, out: Octets) -> int:
        frames = pcm.reshape(-1, 1, self._mode.samples)
        for frame, place in zip(frames, out.reshape(-1, self._mode.octets), strict=True):
            place[:] = encode(frame, self._encoder, self._mode)[0]
        return out.size

    def decode(self, payload: Octets, out: Whole) -> None:
        frames = payload.reshape(-1, 1, self._mode.octets)
        for frame, place in zip(frames, out.reshape(-1, self._mode.samples), strict=True):
            place[:] = decode(frame, _RECEIVED, self._decoder, self._mode)[0]

    def conceal(self, out: Whole) -> None:
        """Fill `out`; the stream goes on by whole frames."""
        for begin in range(0, out.size, self._mode.samples):
            place = out[begin : begin + self._mode.samples]
            lost = decode(self._nothing, _LOST, self._decoder, self._mode)
            place[:] = lost[0, : place.size]

    def _frames(self, size: int, of: int, unit: str) -> int:
        if size % of:
            raise CodecError(
                f"iLBC of {self._mode.frame_ms} ms has frames of {of} {unit}, "
                f"and {size} is no multiple of it"
            )
        return size // of
