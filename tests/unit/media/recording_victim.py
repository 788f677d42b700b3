"""A program that records a tone until it is killed, its disk is full, or `seconds` are over.

    python recording_victim.py PATH SECONDS [LIMIT_OCTETS]

Tells after every piece how many frames the recording has been given, and at the end why it ended.
"""

from __future__ import annotations

import resource
import sys
import time

import numpy as np

from voip.errors import AudioFileError
from voip.media.record.plan import plan_of
from voip.media.record.sink import RecordingSink
from voip.media.rings import AudioRing

RATE = 8000
PIECE = 800


def tone(start: int, count: int) -> np.ndarray:
    """Two channels, one an octave above the other."""
    t = np.arange(start, start + count) / RATE
    left = 8000 * np.sin(2 * np.pi * 500 * t)
    return np.stack((left, 8000 * np.sin(2 * np.pi * 1000 * t)), axis=1).astype(np.int16)


def main() -> None:
    path, seconds = sys.argv[1], float(sys.argv[2])
    if len(sys.argv) > 3:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))
    ring = AudioRing(memoryview(bytearray(64 + 2 * 2 * 2 * RATE)))
    ring.rate_hz = RATE
    plan = plan_of(path, channels="stereo", sidecar=True)
    sink = RecordingSink(ring, plan, pairs=True, wall=lambda: 1.7e9, about={"call_id": "x"})
    given = 0
    try:
        while given < seconds * RATE:
            ring.overwrite(tone(given, PIECE).reshape(-1))
            sink.service(0.0)
            given += PIECE
            print(given, flush=True)
            time.sleep(0.001)
        sink.close()
    except AudioFileError as error:
        print(f"failed: {error.message}", flush=True)
        print(f"journal: {sink.journal.failure}", flush=True)


if __name__ == "__main__":
    main()
