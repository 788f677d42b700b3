"""iLBC's filters, which are products of matrices, against SciPy's, which go sample by sample."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy.signal import lfilter

from voip.codecs.ilbc import tables
from voip.codecs.ilbc.arrays import correlated, delayed
from voip.codecs.ilbc.lpc import (
    HighPass,
    high_pass,
    polynomials,
    residual,
    synthesise,
    unit_response,
)
from voip.codecs.ilbc.state import decode_state, dispersion
from voip.codecs.ilbc.tables import ORDER

Floats = npt.NDArray[np.float64]

ROWS = 5


def some_filters(rng: np.random.Generator, *shape: int) -> Floats:
    """Frequencies as far apart as in speech: (*shape, 11)."""
    sets = np.cumsum(rng.uniform(0.1, 0.4, (*shape, ORDER + 1)), axis=-1)
    return polynomials(np.pi * sets[..., :ORDER] / sets[..., ORDER:])


def test_polynomials_are_their_factors_multiplied_out() -> None:
    rng = np.random.default_rng(1)
    lsf = np.sort(rng.uniform(0.05, 3.1, (40, ORDER)), axis=1)
    for frequencies, found in zip(lsf, polynomials(lsf), strict=True):
        both = []
        for kind, last in ((0, 1.0), (1, -1.0)):
            product = np.array([1.0, last])
            for frequency in frequencies[kind::2]:
                product = np.convolve(product, [1, -2 * np.cos(frequency), 1])
            both.append(product)
        np.testing.assert_allclose(found, (both[0] + both[1])[: ORDER + 1] / 2, atol=1e-11)


@pytest.mark.parametrize("name", ["INPUT_HIGH_PASS", "OUTPUT_HIGH_PASS"])
@pytest.mark.parametrize("samples", [160, 240])
def test_high_pass_goes_on_from_frame_to_frame(name: str, samples: int) -> None:
    zeros, poles = getattr(tables, name)
    signal = np.random.default_rng(2).normal(0, 3000, (ROWS, 4 * samples))
    filter_, memory = HighPass.of(zeros, poles), np.zeros((ROWS, 4))
    parts = [high_pass(part, filter_, memory) for part in np.split(signal, 4, axis=1)]
    np.testing.assert_allclose(np.hstack(parts), lfilter(zeros, poles, signal), atol=1e-7)


@pytest.mark.parametrize("length", [32, 40])
def test_a_unit_response_is_that_of_the_recursion(length: int) -> None:
    filters = some_filters(np.random.default_rng(3), ROWS, 4)
    unit = np.eye(1, length)[0]
    found = unit_response(filters, length)
    for row in np.ndindex(ROWS, 4):
        np.testing.assert_allclose(found[row], lfilter([1], filters[row], unit), atol=1e-8)


def test_synthesis_goes_on_where_filters_change_and_undoes_the_residual() -> None:
    rng = np.random.default_rng(4)
    filters = some_filters(rng, ROWS, 4)
    excitation = rng.normal(0, 1000, (ROWS, 160))
    past = rng.normal(0, 1000, (ROWS, ORDER))
    out = synthesise(excitation, filters, unit_response(filters, 40), past)
    expected = np.hstack((past, np.zeros((ROWS, 160))))
    for row, n in np.ndindex(ROWS, 160):
        before = expected[row, n : n + ORDER][::-1]
        expected[row, n + ORDER] = excitation[row, n] - before @ filters[row, n // 40, 1:]
    np.testing.assert_allclose(out, expected[:, ORDER:], rtol=1e-7, atol=1e-4)
    again = residual(np.hstack((past, out)), filters)
    np.testing.assert_allclose(again, excitation, atol=1e-4)


@pytest.mark.parametrize("length", [57, 58])
def test_the_start_state_goes_through_the_all_pass_filter(length: int) -> None:
    rng = np.random.default_rng(5)
    filters = some_filters(rng, ROWS)
    levels = rng.integers(0, 8, (ROWS, length))
    maximum = rng.integers(0, 64, ROWS)
    spread = dispersion(filters, unit_response(filters[:, None], 40)[:, 0], length)
    found = decode_state(maximum, levels, spread)
    for row, filter_ in enumerate(filters):
        # Section 4.2: time-reversed, as many zeros behind, filtered, folded, and reversed back.
        scale = 10 ** tables.STATE_MAXIMA[maximum[row]] / 4.5
        backwards = np.append(tables.STATE_LEVELS[levels[row]][::-1] * scale, np.zeros(length))
        through = lfilter(filter_[::-1], filter_, backwards)
        expected = (through[:length] + through[length:])[::-1]
        np.testing.assert_allclose(found[row], expected, rtol=1e-7, atol=1e-4)


def test_sums_of_neighbours_are_numpys_correlations_row_by_row() -> None:
    rng = np.random.default_rng(6)
    signal, taps, target = rng.normal(size=(ROWS, 51)), rng.normal(size=8), rng.normal(size=40)
    found = correlated(signal, taps)
    products = signal @ delayed(target[None], 12)[0]
    for row, one in enumerate(signal):
        np.testing.assert_allclose(found[row], np.correlate(one, taps), atol=1e-12)
        np.testing.assert_allclose(products[row], np.correlate(one, target), atol=1e-12)
