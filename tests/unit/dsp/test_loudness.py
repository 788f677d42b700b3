"""Loudness, by the Recommendation's table, EBU's test signals, and FFmpeg's meter."""

from __future__ import annotations

import numpy as np
import pytest

from voip.dsp.loudness import k_weighting, loudness_lufs


def tone(dbfs: float, seconds: float, rate: int = 48000, hertz: float = 1000.0) -> np.ndarray:
    """A stereo sine whose peaks are `dbfs`: float32 (2, samples)."""
    t = np.arange(round(seconds * rate)) / rate
    one = 10 ** (dbfs / 20) * np.sin(2 * np.pi * hertz * t)
    return np.stack([one, one]).astype(np.float32)


def test_filters_at_48_khz_are_those_of_the_tables() -> None:
    """BS.1770-4, annex 1, tables 1 and 2."""
    shelf, cut = k_weighting(48000)
    assert shelf[:3] == pytest.approx([1.53512485958697, -2.69169618940638, 1.19839281085285])
    assert shelf[4:] == pytest.approx([-1.69065929318241, 0.73248077421585])
    assert cut.tolist() == pytest.approx([1, -2, 1, 1, -1.99004745483398, 0.99007225036621])


@pytest.mark.parametrize("rate", [8000, 16000, 44100, 48000])
def test_E05_the_ebu_test_tone_measures_minus_23(rate: int) -> None:
    """EBU Tech 3341, minimum requirements, case 1 and 2."""
    assert loudness_lufs(tone(-23, 20, rate), rate) == pytest.approx(-23.0, abs=0.1)
    assert loudness_lufs(tone(-33, 20, rate), rate) == pytest.approx(-33.0, abs=0.1)


@pytest.mark.parametrize(
    "parts",
    [
        [(-36, 10), (-23, 60), (-36, 10)],  # case 3
        [(-72, 10), (-36, 10), (-23, 60), (-36, 10), (-72, 10)],  # case 4
        [(-26, 20), (-20, 20.1), (-26, 20)],  # case 5
    ],
)
def test_E05_what_is_soft_beside_the_rest_is_left_out(parts: list[tuple[float, float]]) -> None:
    sound = np.concatenate([tone(dbfs, seconds) for dbfs, seconds in parts], axis=1)
    assert loudness_lufs(sound, 48000) == pytest.approx(-23.0, abs=0.1)


def test_streams_are_measured_each_by_itself_and_silence_has_none() -> None:
    sounds = np.stack([tone(-23, 3)[:1], 0 * tone(-23, 3)[:1], tone(-80, 3)[:1]])
    found = loudness_lufs(sounds, 48000)
    assert found.shape == (3,)
    assert found[0] == pytest.approx(-26.0, abs=0.1)  # one channel of the two
    assert found[1] == found[2] == -np.inf
    assert loudness_lufs(tone(-23, 0.3), 48000) == -np.inf
    whole = np.rint(32767 * tone(-23, 3)).astype(np.int16)
    assert loudness_lufs(whole, 48000) == pytest.approx(-23.0, abs=0.1)


@pytest.mark.parametrize("seed", range(3))
def test_E05_ffmpegs_meter_says_the_same(seed: int) -> None:
    """Noise in bursts of all levels and colours, mono and stereo, by the filter `ebur128`."""
    av = pytest.importorskip("av")
    rng = np.random.default_rng(seed)
    bursts = []
    for _ in range(30):
        burst = rng.standard_normal((2, int(rng.integers(4800, 48000))))
        if rng.random() < 0.5:
            burst = np.cumsum(burst, axis=1) / 30
        bursts.append(burst * 10 ** (rng.uniform(-60, -12) / 20))
    sound = np.clip(np.concatenate(bursts, axis=1), -1, 1).astype(np.float32)
    sound = sound[: 1 + seed % 2]
    layout = "stereo" if len(sound) == 2 else "mono"
    graph = av.filter.Graph()
    source = graph.add_abuffer(format="fltp", sample_rate=48000, layout=layout, time_base="1/48000")
    meter = graph.add("ebur128", "metadata=1")
    sink = graph.add("abuffersink")
    source.link_to(meter)
    meter.link_to(sink)
    graph.configure()
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound), format="fltp", layout=layout)
    frame.sample_rate, frame.pts = 48000, 0
    graph.push(frame)
    graph.push(None)
    told = None
    while True:
        try:
            out = graph.pull()
        except (av.EOFError, av.BlockingIOError):
            break
        told = dict(out.metadata).get("lavfi.r128.I", told) if hasattr(out, "metadata") else told
    if told is None:
        pytest.skip("this PyAV does not tell what its filters measure")
    assert loudness_lufs(sound, 48000) == pytest.approx(float(told), abs=0.1)
