"""iLBC as a `Codec`: for one stream at a time; the functions serve all streams at once."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from voip.codecs.core import CodecInfo
from voip.codecs.ilbc.decoder import DecoderState, decode
from voip.codecs.ilbc.encoder import EncoderState, encode
from voip.codecs.ilbc.mode import MODE_20, MODE_30, Mode
from voip.errors import CodecError

__all__ = ["ILBC_20", "ILBC_30", "IlbcCodec", "mode_of"]

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
_MODE: Final = re.compile(r"(?:^|;)\s*mode\s*=\s*(\w*)", re.IGNORECASE)
_RECEIVED, _LOST = np.ones(1, bool), np.zeros(1, bool)


def mode_of(fmtp: str) -> Mode:
    """Return the frame size of a format's parameters: 30 ms unless they say 20 (RFC 3952).

    Raises CodecError for a mode that there is not.
    """
    match = _MODE.search(fmtp)
    if match is None or match[1] in ("0", "30"):
        return MODE_30
    if match[1] == "20":
        return MODE_20
    raise CodecError(f"iLBC has no mode {match[1]!r}", hint="mode=20 or mode=30")


class IlbcCodec:
    """iLBC of one frame size, both directions of one stream."""

    def __init__(self, mode: Mode = MODE_30) -> None:
        self._mode = mode
        self._info = _INFO[mode]
        self.reset()

    @property
    def info(self) -> CodecInfo:
        """What is known about the encoding."""
        return self._info

    def encode(self, pcm: npt.NDArray[np.int16]) -> bytes:
        """Encode whole frames, one after the other."""
        out = np.empty(self._frames(pcm.size, self._mode.samples) * self._mode.octets, np.uint8)
        self.encode_into(pcm, out)
        return out.tobytes()

    def decode(self, payload: bytes) -> npt.NDArray[np.int16]:
        """Decode whole frames; one that is marked as empty, or is none, is concealed."""
        octets = np.frombuffer(payload, np.uint8)
        out = np.empty(self._frames(octets.size, self._mode.octets) * self._mode.samples, np.int16)
        self.decode_into(octets, out)
        return out

    def conceal(self, samples: int) -> npt.NDArray[np.int16]:
        """Return what the lost may have sounded like; the stream goes on by whole frames."""
        frames = -(-samples // self._mode.samples)
        nothing = np.zeros((1, self._mode.octets), np.uint8)
        lost = [decode(nothing, _LOST, self._decoder, self._mode) for _ in range(frames)]
        return np.concatenate([np.zeros((1, 0), np.int16), *lost], axis=1)[0, :samples]

    def samples(self, payload: npt.NDArray[np.uint8]) -> int:
        """Return how many samples a payload holds. Raises CodecError where a frame is not whole."""
        return self._frames(payload.size, self._mode.octets) * self._mode.samples

    def encode_into(self, pcm: npt.NDArray[np.int16], out: npt.NDArray[np.uint8]) -> int:
        """Encode into the beginning of `out`; return how many octets it took."""
        if pcm.dtype != np.int16 or pcm.ndim != 1 or out.dtype != np.uint8:
            raise CodecError(
                "iLBC encodes int16 (samples,) to uint8, "
                f"not {pcm.dtype} {pcm.shape} to {out.dtype}"
            )
        frames = self._frames(pcm.size, self._mode.samples)
        room = self._fit(frames * self._mode.octets, out)
        for at, place in self._steps(frames):
            out[place] = encode(pcm[None, at], self._encoder, self._mode)[0]
        return room

    def decode_into(self, payload: npt.NDArray[np.uint8], out: npt.NDArray[np.int16]) -> int:
        """Decode into the beginning of `out`; return how many samples it gave."""
        if payload.dtype != np.uint8 or payload.ndim != 1 or out.dtype != np.int16:
            raise CodecError(
                "iLBC decodes uint8 (octets,) to int16, "
                f"not {payload.dtype} {payload.shape} to {out.dtype}"
            )
        frames = self._frames(payload.size, self._mode.octets)
        room = self._fit(frames * self._mode.samples, out)
        for place, at in self._steps(frames):
            out[place] = decode(payload[None, at], _RECEIVED, self._decoder, self._mode)[0]
        return room

    def reset(self) -> None:
        """Forget what went before, in both directions."""
        self._encoder = EncoderState.of(1, self._mode)
        self._decoder = DecoderState.of(1, self._mode)

    def _frames(self, size: int, of: int) -> int:
        if size % of:
            unit = "samples" if of == self._mode.samples else "octets"
            raise CodecError(
                f"iLBC of {self._mode.frame_ms} ms has frames of {of} {unit}, "
                f"and {size} is no multiple of it"
            )
        return size // of

    def _steps(self, frames: int) -> Iterator[tuple[slice, slice]]:
        """Yield where each frame is in PCM, and where in the payload."""
        samples, octets = self._mode.samples, self._mode.octets
        for n in range(frames):
            yield (
                slice(n * samples, (n + 1) * samples),
                slice(n * octets, (n + 1) * octets),
            )

    def _fit(self, needed: int, out: npt.NDArray[np.uint8] | npt.NDArray[np.int16]) -> int:
        if needed > out.size:
            raise CodecError(f"{self._info.name} needs room for {needed}, there is {out.size}")
        return needed
