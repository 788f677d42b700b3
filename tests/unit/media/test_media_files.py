"""Sound between files, arrays and rings."""

from __future__ import annotations

import numpy as np

from voip.media.files import ArraySource
from voip.media.rings import AudioRing


def ring_of(samples: int) -> AudioRing:
    return AudioRing(memoryview(bytearray(64 + 2 * samples)))


def test_an_array_is_sent_once_and_closes_its_ring() -> None:
    ring, pcm = ring_of(100), np.arange(150, dtype=np.int16)
    source = ArraySource(ring, pcm)

    source.service(0.0)
    first = ring.read(100)
    source.service(0.05)

    assert ring.closed
    assert np.array_equal(np.concatenate((first, ring.read(100))), pcm)


def test_an_array_in_a_loop_is_sent_over_and_over_without_a_seam() -> None:
    ring, pcm = ring_of(100), np.arange(70, dtype=np.int16)
    source = ArraySource(ring, pcm, loop=True)
    heard = []

    for step in range(5):
        source.service(0.05 * step)
        heard.append(ring.read(100))

    assert not ring.closed
    assert np.array_equal(np.concatenate(heard), np.resize(pcm, 500))


def test_nothing_in_a_loop_ends_at_once() -> None:
    ring = ring_of(100)

    ArraySource(ring, np.zeros(0, np.int16), loop=True).service(0.0)

    assert ring.closed
