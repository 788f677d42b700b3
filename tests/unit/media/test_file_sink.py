"""The plainest recording: one ring of one channel, one file."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest

from voip.errors import AudioFileError
from voip.media.files import FileSink
from voip.media.rings import AudioRing


def ring_of(samples: int) -> AudioRing:
    return AudioRing(memoryview(bytearray(64 + 2 * samples)))


def test_what_comes_out_of_a_ring_is_in_the_file(tmp_path: Path) -> None:
    ring, ready = ring_of(8000), []
    sink = FileSink(ring, tmp_path / "a.wav", 8000, on_ready=lambda: ready.append(True))
    said = np.random.default_rng(1).integers(-9000, 9000, 20_000).astype(np.int16)
    for at in range(0, said.size, 500):
        ring.push(said[at : at + 500])
        sink.service(0.0)
    assert ready == [True] and sink.duration_s == 2.5
    sink.close()
    with wave.open(str(tmp_path / "a.wav")) as file:
        assert (file.getframerate(), file.getnchannels()) == (8000, 1)
        assert np.array_equal(np.frombuffer(file.readframes(1 << 20), "<i2"), said)


def test_what_a_full_ring_loses_is_silence_of_its_length(tmp_path: Path) -> None:
    ring, lost = ring_of(8000), []
    sink = FileSink(ring, tmp_path / "a.wav", 8000, file_rate_hz=16_000, on_lost=lost.append)
    for _ in range(100):
        ring.overwrite(np.full(200, 5000, np.int16))
    sink.service(0.0)
    sink.close()
    assert lost == [13_000], "12000, and an eighth that may be overwritten at any moment"
    with wave.open(str(tmp_path / "a.wav")) as file:
        pcm = np.frombuffer(file.readframes(1 << 20), "<i2")
    assert pcm.size == 2 * 20_000
    assert not pcm[: 2 * 12_900].any() and (np.abs(pcm[2 * 13_100 : -200] - 5000) < 60).all()


def test_a_file_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    sink = FileSink(ring_of(800), tmp_path / "none" / "a.wav", 8000)
    with pytest.raises(AudioFileError, match="cannot be written"):
        sink.service(0.0)
    sink.close()
