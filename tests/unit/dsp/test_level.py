"""Levels by their definitions: sine, square wave, one step, the digital milliwatt."""

from __future__ import annotations

import numpy as np
import pytest

from voip.codecs import g711
from voip.codecs.g711 import Law
from voip.dsp.level import DBM0_DBFS, SILENCE_DBFS, amplitude, peak_dbfs, rms_dbfs, to_dbfs

SINE = np.sin(2 * np.pi * np.arange(800) / 8).astype(np.float32)


def test_full_scale_square_and_sine() -> None:
    square = np.where(SINE >= 0, 1.0, -1.0).astype(np.float32)
    pcm = np.stack((square, SINE, SINE / 10))
    assert rms_dbfs(pcm) == pytest.approx([0.0, -3.01, -23.01], abs=0.01)
    assert peak_dbfs(pcm) == pytest.approx([0.0, 0.0, -20.0], abs=0.01)


def test_int16_and_float_measure_alike() -> None:
    pcm = np.random.default_rng(1).integers(-32768, 32768, (7, 160)).astype(np.int16)
    as_float = pcm.astype(np.float32) / 32768
    np.testing.assert_allclose(rms_dbfs(pcm), rms_dbfs(as_float), atol=1e-4)
    np.testing.assert_allclose(peak_dbfs(pcm), peak_dbfs(as_float), atol=1e-4)


def test_the_lowest_sample_is_full_scale_and_one_step_is_heard() -> None:
    assert peak_dbfs(np.array([[0, -32768]], np.int16)) == pytest.approx([0.0])
    assert peak_dbfs(np.array([[0, 1]], np.int16)) == pytest.approx([-90.3], abs=0.01)


def test_silence_and_nothing_have_a_floor_and_not_minus_infinity() -> None:
    assert rms_dbfs(np.zeros((2, 160), np.int16)).tolist() == [SILENCE_DBFS] * 2
    assert peak_dbfs(np.zeros((2, 0), np.float32)).tolist() == [SILENCE_DBFS] * 2
    assert to_dbfs(0.0) == SILENCE_DBFS
    assert to_dbfs(amplitude(-42.0)) == pytest.approx(-42.0)


@pytest.mark.parametrize(
    ("law", "sequence"),
    [
        (Law.ALAW, [0x34, 0x21, 0x21, 0x34, 0xB4, 0xA1, 0xA1, 0xB4]),  # G.711, table 5
        (Law.ULAW, [0x1E, 0x0B, 0x0B, 0x1E, 0x9E, 0x8B, 0x8B, 0x9E]),  # G.711, table 6
    ],
)
def test_the_digital_milliwatt_of_g711_is_0_dbm0(law: Law, sequence: list[int]) -> None:
    pcm = g711.decode(np.array([sequence * 20], np.uint8), law)
    # µ-law's is 3.17 dB below its own full scale, which is 0.035 dB below that of 16 bits
    assert rms_dbfs(pcm)[0] == pytest.approx(DBM0_DBFS, abs=0.01 if law is Law.ALAW else 0.07)
