"""Sound made shorter and longer: what is left of it, and where places are alike."""

from __future__ import annotations

import numpy as np
import pytest

from voip.dsp.stretch import FADE_S, jump, likeness, resemblance

RATE = 8000
FADE = round(FADE_S * RATE)
BY = 160


def voice(hz: float, samples: int = 800) -> np.ndarray:
    """A buzz: many harmonics of one pitch."""
    at = np.arange(samples) / RATE
    return sum(np.sin(2 * np.pi * hz * n * at) / n for n in range(1, 8)).astype(np.float32) / 4


@pytest.mark.parametrize("back", [False, True])
@pytest.mark.parametrize("hz", [100.0, 150.0, 250.0])  # 20 ms are whole periods of them
def test_a_jump_of_whole_periods_is_not_to_be_seen(hz, back):
    sound = voice(hz)
    assert likeness(sound[None], BY, BY, back=back)[0, 0] == pytest.approx(1.0, abs=1e-4)
    changed = jump(sound, BY, longest=BY, back=back)
    wanted = voice(hz, sound.size + (BY if back else -BY))
    assert changed == pytest.approx(wanted, abs=1e-3)


def test_the_best_jump_is_the_period_for_each_stream_of_a_batch():
    batch = np.stack([voice(100.0), voice(125.0), voice(160.0)])
    for back in (False, True):
        alike = likeness(batch, 51, 130, back=back)
        assert alike.shape == (3, 80)
        assert (51 + alike.argmax(axis=1)).tolist() == [80, 64, 100]  # two of 50


def test_half_a_period_is_unlike():
    assert likeness(voice(75.0)[None], 53, 53, back=False)[0, 0] < 0.2  # of 106 samples


@pytest.mark.parametrize("back", [False, True])
def test_what_is_behind_a_jump_and_before_it_stays(back):
    sound = np.random.default_rng(1).normal(0, 0.1, 600).astype(np.float32)
    changed = jump(sound, BY, longest=BY, back=back)
    start = BY if back else 0
    assert changed.size == sound.size + (BY if back else -BY)
    assert np.array_equal(changed[:start], sound[:start])
    rest = sound[start + FADE - (BY if back else -BY) :]
    assert np.array_equal(changed[start + FADE :], rest)


def test_resemblance_is_a_cosine():
    rng = np.random.default_rng(2)
    sound, template = (rng.normal(size=(2, n)).astype(np.float32) for n in (50, 10))
    alike = resemblance(sound, template)
    for row in range(2):
        for at in range(41):
            piece = sound[row, at : at + 10]
            wanted = piece @ template[row] / np.linalg.norm(piece) / np.linalg.norm(template[row])
            assert alike[row, at] == pytest.approx(wanted, abs=1e-5)
    assert resemblance(np.zeros((1, 20), np.float32), template[:1, :5]).max() == 0.0
