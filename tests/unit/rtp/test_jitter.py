"""The delay a jitter buffer aims at: quantiles of drawn delays, clocks that differ, forgetting."""

from __future__ import annotations

import numpy as np
import pytest
from hypotheses import examples
from hypothesis import given
from hypothesis import strategies as st

from voip.rtp.jitter import QUICKEST_WINDOW, WINDOW, DelayEstimator

ROW = np.array([0])


def feed(estimator: DelayEstimator, transits: np.ndarray, row: int = 0) -> None:
    for transit in transits:
        estimator.update(np.array([row]), np.array([transit]))


@pytest.mark.parametrize("spread", [0.0, 0.012, 0.05, 0.2])
def test_the_target_is_what_998_of_1000_packets_kept_within(spread):
    delays = np.random.default_rng(1).uniform(0, spread, 4000)
    estimator = DelayEstimator(1)
    feed(estimator, 5.0 + delays)
    recent = np.sort(delays[-500:] - delays[-500:].min())
    assert recent[-2] - 0.005 <= estimator.target(ROW)[0] <= recent[-2] + 0.0101


@given(st.floats(-1e6, 1e6))
@examples(20)
def test_only_differences_of_the_clocks_matter(offset):
    delays = np.random.default_rng(2).uniform(0, 0.06, 300)
    here, there = DelayEstimator(1), DelayEstimator(1)
    feed(here, delays + 0.004)
    feed(there, delays + 0.004 + offset)
    assert there.target(ROW)[0] == pytest.approx(here.target(ROW)[0], abs=0.0101)
    assert there.quickest[0] - offset == pytest.approx(here.quickest[0], abs=1e-6)


def test_a_peak_is_waited_for_and_forgotten():
    estimator = DelayEstimator(1)
    feed(estimator, np.zeros(500))
    assert estimator.target(ROW)[0] == 0.0
    feed(estimator, np.full(30, 0.08))
    assert estimator.target(ROW)[0] >= 0.08
    feed(estimator, np.zeros(1500))
    assert estimator.target(ROW)[0] == 0.0


def test_a_drifting_clock_is_followed_and_is_no_jitter():
    estimator = DelayEstimator(2)
    rows, drift = np.array([0, 1]), np.array([-500e-6, 500e-6])
    for n in range(15_000):
        estimator.update(rows, n * 0.02 * drift)
    assert estimator.quickest == pytest.approx(15_000 * 0.02 * drift, abs=501 * 0.02 * 500e-6)
    assert (estimator.target(rows) <= 0.01).all()


def test_rows_do_not_disturb_each_other_and_growing_keeps_them():
    rng = np.random.default_rng(3)
    alone = DelayEstimator(1)
    together = DelayEstimator(3)
    delays = rng.uniform(0, 0.1, (600, 3))
    for n, three in enumerate(delays):
        alone.update(ROW, three[:1])
        if n == 300:
            together.grow(8)
        rows = np.array([2, 0]) if n % 2 else np.array([0, 2, 1])
        together.update(rows, np.where(rows == 0, three[0], three[1]))
    assert np.allclose(together.histogram[0], alone.histogram[0])
    assert together.quickest[0] == alone.quickest[0]
    together.reset(0)
    assert together.target(np.array([0]))[0] == 0.0
    assert together.target(np.array([2]))[0] > 0.0


@given(st.lists(st.floats(-1e12, 1e12), min_size=1, max_size=50))
@examples(50)
def test_whatever_the_transits_the_figures_stay_finite_and_bounded(transits):
    estimator = DelayEstimator(1)
    feed(estimator, np.array(transits))
    assert 0 <= estimator.target(ROW)[0] <= 0.64
    assert np.isfinite(estimator.histogram).all()
    assert np.isfinite(estimator.quickest[0])


def test_after_a_window_nothing_is_left_of_what_was():
    estimator = DelayEstimator(1)
    feed(estimator, np.random.default_rng(4).uniform(0, 0.2, 700))
    assert estimator.target(ROW)[0] > 0.18
    feed(estimator, np.zeros(WINDOW))
    assert estimator.target(ROW)[0] == 0.0
    assert estimator.histogram.sum() == WINDOW


def test_a_longer_way_is_no_jitter_once_the_quickest_counts_from_it():
    estimator = DelayEstimator(1)
    feed(estimator, np.random.default_rng(5).uniform(0, 0.01, 400))
    feed(estimator, np.random.default_rng(6).uniform(0.08, 0.09, QUICKEST_WINDOW))
    assert estimator.target(ROW)[0] == pytest.approx(0.09, abs=0.006)  # all but the first ones
    feed(estimator, np.random.default_rng(6).uniform(0.08, 0.09, QUICKEST_WINDOW))
    assert estimator.quickest[0] >= 0.08
    assert estimator.target(ROW)[0] == pytest.approx(0.01, abs=0.006)


def test_what_may_come_later_is_a_share_of_the_packets():
    estimator = DelayEstimator(1)
    delays = np.random.default_rng(7).gamma(2.0, 0.01, WINDOW)
    feed(estimator, delays)
    targets = [estimator.target(ROW, share)[0] for share in (0.0, 0.01, 0.1)]
    late = [np.count_nonzero(delays - delays.min() > target) / WINDOW for target in targets]
    assert targets == sorted(targets, reverse=True)
    assert late[0] == 0.0
    assert 0.002 <= late[1] <= 0.011
    assert 0.07 <= late[2] <= 0.11  # some came before the quickest was known


def test_of_few_packets_as_much_is_expected_as_more_of_them_will_show():
    """Gamma jitter: the target after 100 packets is on average what it is after 500."""
    early, late = [], []
    for seed in range(60):
        delays = np.random.default_rng(seed).gamma(2.0, 0.010, 500)
        estimator = DelayEstimator(1)
        feed(estimator, delays[:100])
        early.append(estimator.target(ROW)[0])
        feed(estimator, delays[100:])
        late.append(estimator.target(ROW)[0])
    assert np.mean(early) == pytest.approx(np.mean(late), rel=0.1)
    assert np.mean(early) > 0.065  # the latest of 100 is at 0.061 on average


def test_nothing_more_is_expected_of_stalls_nor_of_none():
    estimator = DelayEstimator(2)
    rows = np.array([0, 1])
    for n in range(100):
        estimator.update(rows, np.array([0.0, 0.15 - 0.02 * (n - 40) if 40 <= n < 48 else 0.0]))
    assert estimator.target(rows).tolist() == pytest.approx([0.0, 0.15])


def test_a_delay_that_has_grown_early_is_taken_as_it_is():
    estimator = DelayEstimator(1)
    feed(estimator, np.repeat([0.0, 0.08], (50, 50)))
    assert estimator.target(ROW)[0] == pytest.approx(0.08)
