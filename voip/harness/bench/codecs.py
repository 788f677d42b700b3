"""What a codec of ours costs beside the library's own call, at equal settings, in the same run."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt

from voip.codecs.opus.binding import address, libopus
from voip.codecs.opus.decoder import OpusDecoder
from voip.codecs.opus.encoder import OpusEncoder
from voip.codecs.opus.settings import OpusSettings
from voip.harness.audio import Sound
from voip.sounds import asset_path

__all__ = ["opus_costs"]

_ROOM: Final = 1276
_BLOCK: Final = 10
"""Frames that one side codes before the others have their turn."""


def opus_costs(rounds: int = 5, frames: int = 400) -> dict[str, float]:
    """Return microseconds per 20 ms frame of speech at 16 kHz: ours, and the bare C call's.

    Encoders and decoders take turns every 0.2 s of sound; of each such piece the best of `rounds`
    counts, so that what else the machine does matters little. The C call is given pointers made
    beforehand: nothing of it is Python's but the call. Raises CodecError without libopus.
    """
    with asset_path("speech-16k.wav") as path:
        sound = Sound.read(path)
    rate, frame = sound.rate_hz, sound.rate_hz // 50
    pieces = [p.copy() for p in np.resize(sound.samples, frames * frame).reshape(frames, frame)]
    ours = OpusEncoder(rate, 1, OpusSettings())
    packets = [np.frombuffer(ours.encode(piece), np.uint8).copy() for piece in pieces]
    out, pcm = np.empty(_ROOM, np.uint8), np.empty(frame, np.int16)
    decoder = OpusDecoder(rate, 1)
    library, into, heard = libopus(), address(out), address(pcm)
    # The bare calls work on encoders and decoders of their own, which have gone the same way.
    coder_state = OpusEncoder(rate, 1, OpusSettings()).state
    decoder_state = OpusDecoder(rate, 1).state
    where = [address(piece) for piece in pieces]
    payloads = [(address(packet), packet.size) for packet in packets]

    def encode(part: slice) -> None:
        for piece in pieces[part]:
            ours.encode_into(piece, out)

    def native_encode(part: slice) -> None:
        for pointer in where[part]:
            library.encode(coder_state.pointer, pointer, frame, into, _ROOM)

    def decode(part: slice) -> None:
        for packet in packets[part]:
            decoder.decode_into(packet, pcm)

    def native_decode(part: slice) -> None:
        for pointer, size in payloads[part]:
            library.decode(decoder_state.pointer, pointer, size, heard, frame, 0)

    return _best_us(
        {
            "encode_us": encode,
            "native_encode_us": native_encode,
            "decode_us": decode,
            "native_decode_us": native_decode,
        },
        frames,
        rounds,
    )


def _best_us(
    sides: dict[str, Callable[[slice], None]], frames: int, rounds: int
) -> dict[str, float]:
    """Let sides take turns at blocks of frames; return each one's least time per frame."""
    blocks = range(0, frames, _BLOCK)
    seconds: npt.NDArray[np.float64] = np.empty((rounds, len(sides), len(blocks)))
    for turn in seconds:
        for block, begin in enumerate(blocks):
            for side, work in enumerate(sides.values()):
                before = time.perf_counter()
                work(slice(begin, begin + _BLOCK))
                turn[side, block] = time.perf_counter() - before
    best = seconds.min(axis=0).sum(axis=1) / frames * 1e6
    return dict(zip(sides, best.round(2).tolist(), strict=True))
