"""A codec of one's own: L8 (RFC 3551, section 4.5.10), registered, built from SDP, and used.

A phone that is started after it was registered may be told to use it: MediaConfig(codecs=("l8",)).

    python examples/own_codec.py speech.wav

The file is mono, 8000 Hz, 16 bits. What a coder need not care for, `ArrayCodec` does: float32,
arrays of wrong types or sizes, copies.
"""

import sys
import wave

import numpy as np

from voip.codecs.coder import ArrayCodec
from voip.codecs.core import CodecFormat, CodecInfo
from voip.codecs.registry import CodecEntry, default_registry, register

L8 = CodecInfo(
    *("l8", 8000, 8000, 1), frame_samples=1, ptime_ms=20, bit_rate=64000, algorithmic_delay_ms=0.125
)


class L8Coder:
    """The upper eight bits of each sample; zero is 128."""

    def octets(self, samples: int) -> int:
        return samples

    def samples(self, payload: np.ndarray) -> int:
        return payload.size

    def encode(self, pcm: np.ndarray, out: np.ndarray) -> int:
        out[:] = (pcm >> 8) + 128
        return out.size

    def decode(self, payload: np.ndarray, out: np.ndarray) -> None:
        out[:] = (payload.astype(np.int16) - 128) * 256 + 128


def main(path: str) -> None:
    register(CodecEntry(L8, lambda format_: ArrayCodec(L8, L8Coder)))  # phones have it from now on
    codec = default_registry().create(CodecFormat.read("L8/8000"))  # a=rtpmap:96 L8/8000
    with wave.open(path) as file:
        sound = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    packets = np.split(sound, range(160, sound.size, 160))
    heard = np.concatenate([codec.decode(codec.encode(packet)) for packet in packets])
    power, noise = sound.astype(float) ** 2, (heard - sound.astype(float)) ** 2
    print(f"{codec.info.format}: {10 * np.log10(power.mean() / noise.mean()):.1f} dB")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python examples/own_codec.py SPEECH.wav")
    main(sys.argv[1])
