"""Gliding: a tone stays one, of another pitch, and steps join without a seam."""

from __future__ import annotations

import numpy as np
import pytest

from voip.dsp.glide import REACH, glide


def in_steps(sound: np.ndarray, given: int, count: int = 160) -> np.ndarray:
    """All of `sound`, float64 (samples,), in steps of `given`."""
    steps = (sound.size - 2 * REACH) // given
    places = np.arange(steps)[:, None] * given + np.arange(given + 2 * REACH)
    return glide(sound[places].astype(np.float32), count).ravel()


@pytest.mark.parametrize("given", [154, 159, 161])
@pytest.mark.parametrize("frequency_hz", [50.0, 425.0, 1004.0, 2400.0, 3000.0])
def test_a_tone_is_what_it_would_be_if_it_were_played_slower_or_faster(given, frequency_hz):
    at = np.arange(8000) / 8000
    heard = in_steps(np.sin(2 * np.pi * frequency_hz * at), given)
    where = (REACH + np.arange(heard.size) * given / 160) / 8000
    wanted = np.sin(2 * np.pi * frequency_hz * where)
    assert np.abs(heard - wanted).max() < (0.003 if frequency_hz < 3000 else 0.03)


def test_as_many_samples_are_left_as_they_are():
    sound = np.random.default_rng(1).normal(0, 1, (2, 160 + 2 * REACH)).astype(np.float32)
    assert glide(sound, 160) == pytest.approx(sound[:, REACH:-REACH], abs=1e-6)


def test_streams_do_not_disturb_each_other():
    sound = np.random.default_rng(2).normal(0, 1, (3, 159 + 2 * REACH)).astype(np.float32)
    together = glide(sound, 160)
    for n in range(3):
        assert np.array_equal(glide(sound[n : n + 1], 160)[0], together[n])
