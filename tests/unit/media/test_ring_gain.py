"""A ring is louder, softer or paused from one step to the next, by a ramp and without a click."""

from __future__ import annotations

import numpy as np
import pytest

from voip.media.rings import AudioRing


def ring_of(value: int, samples: int) -> AudioRing:
    ring = AudioRing(memoryview(bytearray(64 + 2 * samples)))
    ring.push(np.full(samples, value, np.int16))
    return ring


def test_a_ring_that_nobody_has_changed_is_as_it_is() -> None:
    ring = ring_of(1000, 480)
    sound = ring.take(160)
    assert sound.dtype == np.int16 and (sound == 1000).all()
    assert (ring.gain, ring.paused) == (1.0, False)


def test_a_gain_is_reached_by_a_ramp_within_one_step() -> None:
    ring = ring_of(1000, 800)
    ring.take(160)
    ring.gain = 0.5
    ramp, after = ring.take(160), ring.take(160)
    assert ramp[0] == pytest.approx(1000) and ramp[-1] == pytest.approx(500)
    assert (np.diff(ramp) < 0).all()
    assert after == pytest.approx(np.full(160, 500))
    ring.gain = 1.0
    ring.take(160)
    assert ring.take(160).dtype == np.int16, "and then it costs nothing again"


def test_paused_it_fades_out_and_keeps_what_is_left() -> None:
    ring = ring_of(1000, 800)
    ring.take(160)
    ring.gain = -1.0
    fading = ring.take(160)
    assert fading[0] == pytest.approx(1000) and fading[-1] == pytest.approx(0)
    assert ring.paused
    for _ in range(3):
        assert ring.take(160).size == 0
    assert ring.position == 320
    ring.gain = 1.0
    assert ring.take(160)[0] == pytest.approx(0)
    assert ring.take(160)[0] == 1000


def test_what_begins_at_a_gain_has_no_ramp() -> None:
    ring = ring_of(1000, 320)
    ring.start_at(0.25)
    assert ring.take(160) == pytest.approx(np.full(160, 250))


def test_the_last_samples_are_kept_and_the_rest_is_dropped() -> None:
    ring = AudioRing(memoryview(bytearray(64 + 2 * 1600)))
    ring.overwrite(np.arange(100, dtype=np.int16))
    assert ring.keep_last(1000) == 100
    ring.overwrite(np.arange(2000, dtype=np.int16))
    assert ring.keep_last(500) == 500
    assert np.array_equal(ring.read(10), np.arange(1500, 1510))
    ring.overwrite(np.arange(3000, dtype=np.int16))
    assert ring.keep_last(1600) == 1400, "an eighth may be overwritten at any moment"
    assert ring.lost == 0
