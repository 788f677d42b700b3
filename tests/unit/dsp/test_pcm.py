"""Samples at the edges: nearest, half to even, and never round the end."""

from __future__ import annotations

import numpy as np

from voip.dsp.pcm import to_int16


def test_samples_are_rounded_half_to_even_and_saturate() -> None:
    said = np.array([[0.5, 1.5, 2.5, -0.5, -1.5], [40000, -40000, 32767, -32768, 0.49]], np.float32)
    kept = said.copy()
    heard = to_int16(said / np.float32(32768))
    assert heard.dtype == np.int16
    assert heard.tolist() == [[0, 2, 2, 0, -2], [32767, -32768, 32767, -32768, 0]]
    assert (said == kept).all()


def test_every_sample_comes_back() -> None:
    every = np.arange(-32768, 32768).astype(np.int16)
    assert (to_int16(every.astype(np.float32) / np.float32(32768)) == every).all()
