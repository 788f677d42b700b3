"""How fast a sender's clock goes: told within 10 ppm, where there is enough to tell it by."""

from __future__ import annotations

import numpy as np
import pytest

from voip.rtp.drift import LEAST_POINTS, MEMORY, ClockDrift, theil_sen

PPM = np.array([-500.0, -200.0, -50.0, 0.0, 50.0, 200.0, 500.0])


def points(
    ppm: np.ndarray, seconds: int, jitter_s: float, seed: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """A packet a second of senders whose clocks are off, late by up to `jitter_s`: (rows, n)."""
    rng = np.random.default_rng(seed)
    made = np.arange(seconds) * np.ones((ppm.size, 1))  # by a clock that is right
    media = made * (1 + 1e-6 * ppm[:, np.newaxis]) + 12_345.0
    arrival = made + 0.040 + rng.uniform(0, jitter_s, made.shape) + 1e6
    return arrival, media - arrival


def fitted(arrival: np.ndarray, lead: np.ndarray) -> ClockDrift:
    found = ClockDrift(len(arrival) + 1)  # a row that has nothing
    rows = np.arange(len(arrival))
    for n in range(arrival.shape[1]):
        found.observe(rows, arrival[:, n], lead[:, n])
    return found


@pytest.mark.parametrize(("seconds", "jitter_s"), [(30, 0.0), (300, 0.02), (900, 0.06)])
def test_drift_is_told_within_ten_ppm(seconds: int, jitter_s: float) -> None:
    found, error = fitted(*points(PPM, seconds, jitter_s)).estimate(np.arange(PPM.size))
    assert np.abs(found - PPM).max() < 10
    assert (np.abs(found - PPM) <= 4 * error + 0.1).all()


def test_the_error_says_when_there_is_too_little() -> None:
    _, error = fitted(*points(PPM, 30, 0.06)).estimate(np.arange(PPM.size))
    assert (error > 50).all()
    early, _ = fitted(*points(PPM, LEAST_POINTS - 1, 0.0)).estimate(np.arange(PPM.size))
    assert np.isnan(early).all()
    nothing, _ = fitted(*points(PPM, 30, 0.0)).estimate(np.array([PPM.size]))
    assert np.isnan(nothing).all()


def test_a_straight_line_fit_of_numpy_comes_to_the_same() -> None:
    arrival, lead = points(PPM, 200, 0.03)
    found, _ = fitted(arrival, lead).estimate(np.arange(PPM.size))
    for row in range(PPM.size):
        slope = np.polyfit(arrival[row] - arrival[row, 0], lead[row] - lead[row, 0], 1)[0]
        assert found[row] == pytest.approx(1e6 * slope, abs=1e-3)


def test_what_changes_is_followed_and_sums_do_not_grow_without_end() -> None:
    before, after = (points(np.array([ppm]), 6 * MEMORY, 0.01) for ppm in (100.0, -100.0))
    found = fitted(*before)
    lead = after[1] - after[1][:, :1] + before[1][:, -1:]
    for n in range(1, 6 * MEMORY):
        found.observe(np.array([0]), after[0][:, n] - after[0][:, 0] + before[0][:, -1], lead[:, n])
    assert found.points[0] == MEMORY
    assert found.estimate(np.array([0]))[0] == pytest.approx(-100, abs=10)


def test_a_clock_that_jumps_begins_anew() -> None:
    arrival, lead = points(PPM, 100, 0.0)
    lead[:, 50:] += 5.0
    found = fitted(arrival, lead)
    assert (found.points[: PPM.size] == 50).all()
    assert np.abs(found.estimate(np.arange(PPM.size))[0] - PPM).max() < 1


def test_rows_are_added_and_forgotten() -> None:
    found = fitted(*points(PPM, 30, 0.0))
    found.grow(20)
    assert found.points.size == 20 and found.points[0] == 30
    found.reset(0)
    assert np.isnan(found.estimate(np.array([0]))[0]).all()


def test_the_median_of_slopes_bears_what_lies_far_out() -> None:
    arrival, lead = points(PPM, 300, 0.02)
    rng = np.random.default_rng(3)
    lead[:, rng.permutation(300)[:60]] -= 0.7
    assert np.abs(theil_sen(arrival, lead) - PPM).max() < 15
    assert theil_sen(arrival[0], lead[0]).shape == ()
