"""Tones: seamless, at their level, in their cadence."""

from __future__ import annotations

import numpy as np
import pytest

from voip.dsp.level import DBM0_DBFS, rms_dbfs
from voip.dsp.tones import BUSY, CONGESTION, DIAL, MILLIWATT, RINGBACK, Tone, play, sine

ALL = {"busy": BUSY, "congestion": CONGESTION, "dial": DIAL, "ringback": RINGBACK}


def lines(sound: np.ndarray, rate: int) -> list[float]:
    """Frequencies within 20 dB of the strongest, of one second."""
    spectrum = np.abs(np.fft.rfft(sound[:rate] * np.hanning(rate)))
    peaks = (spectrum[1:-1] > spectrum[:-2]) & (spectrum[1:-1] > spectrum[2:])
    return (np.flatnonzero(peaks & (spectrum[1:-1] > spectrum.max() / 10)) + 1.0).tolist()


@pytest.mark.parametrize("rate", [8000, 16000, 48000])
def test_the_milliwatt_is_1004_hz_at_0_dbm0(rate: int) -> None:
    sound = play(MILLIWATT, 0, rate, rate)
    assert sound.dtype == np.float32
    assert lines(sound, rate) == [1004.0]
    assert rms_dbfs(sound[None])[0] == pytest.approx(DBM0_DBFS, abs=0.01)
    assert np.abs(sound).max() < 0.7


@pytest.mark.parametrize(
    ("name", "frequencies", "level"),
    [
        ("dial", [350, 440], -13),
        ("ringback", [440, 480], -19),
        ("busy", [480, 620], -24),
        ("congestion", [480, 620], -24),
    ],
)
def test_call_progress_tones_have_their_frequencies_and_level(
    name: str, frequencies: list[float], level: float
) -> None:
    tone = ALL[name]
    steady = play(Tone(tone.frequencies_hz, tone.level_dbm0), 0, 8000, 8000)
    assert lines(steady, 8000) == frequencies
    power = rms_dbfs(steady[None])[0] - DBM0_DBFS
    assert power == pytest.approx(level + 3.01, abs=0.05), "two frequencies, each at that level"


@pytest.mark.parametrize(
    ("tone", "cadence"), [(RINGBACK, (2, 4)), (BUSY, (0.5, 0.5)), (CONGESTION, (0.25, 0.25))]
)
def test_cadence_is_kept_over_and_over(tone: Tone, cadence: tuple[float, float]) -> None:
    on, off = (round(s * 8000) for s in cadence)
    sound = play(tone, 0, 3 * (on + off), 8000)
    for n in range(3):
        start = n * (on + off)
        assert rms_dbfs(sound[None, start : start + on])[0] > tone.level_dbm0 + DBM0_DBFS + 2
        assert not sound[start + on : start + on + off].any()
        assert np.abs(sound[start + on - 40 : start + on]).max() > 0.01


@pytest.mark.parametrize("tone", [MILLIWATT, *ALL.values()])
def test_pieces_join_without_a_seam(tone: Tone) -> None:
    whole = play(tone, 0, 20_000, 8000)
    pieces = [play(tone, at, min(160, 20_000 - at), 8000) for at in range(0, 20_000, 160)]
    np.testing.assert_array_equal(np.concatenate(pieces), whole)


def test_after_days_a_sine_is_as_pure_as_at_the_beginning() -> None:
    far = 8000 * 86400 * 30
    np.testing.assert_allclose(
        sine(1004.0, 0.0, far, 160, 8000), sine(1004.0, 0.0, 0, 160, 8000), atol=1e-6
    )
