"""What Opus allocates, told by tracemalloc: run by a test, in a process of its own.

Prints, for samples that may be written to and for such that may not: by how much longer a long
frame's payload is than a short one's, by how much memory grew in 1,000 packets, and the most it
held on the way, with long frames and with short ones.
"""

from __future__ import annotations

import tracemalloc

import numpy as np
import numpy.typing as npt

from voip.codecs.opus.codec import OpusCodec
from voip.codecs.opus.settings import OpusSettings, RateControl


def codec() -> OpusCodec:
    return OpusCodec(48000, 2, OpusSettings(510_000, RateControl.CBR, complexity=0))


def growth_and_peak(noise: npt.NDArray[np.int16]) -> tuple[int, int]:
    """Code a frame often, in place; return what memory grew by, and the most it held meanwhile."""
    opus = codec()
    room, sound = np.empty(1276, np.uint8), np.empty(1920, np.int16)

    def work(times: int) -> None:
        for _ in range(times):
            octets = opus.encode_into(noise, room)
            opus.decode_into(room[:octets], sound)

    work(20)
    tracemalloc.start()
    work(20)
    before, _ = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    work(1000)
    after, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return after - before, peak - before


def main() -> None:
    for writable in (True, False):
        noise = np.random.default_rng(9).integers(-9000, 9000, 1920).astype(np.int16)
        noise.flags.writeable = writable
        opus = codec()
        longer = len(opus.encode(noise)) - len(opus.encode(noise[:240]))
        grown, peak = growth_and_peak(noise)
        _, least = growth_and_peak(noise[:240])
        print(longer, grown, peak, least)


if __name__ == "__main__":
    main()
