"""Rate conversion: by SciPy's resampler, by tones, and the same however it is cut up."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest

from voip.dsp.resample import RATES_HZ, Resampler, resample
from voip.errors import ConfigError


def others(rate: int) -> list[int]:
    return [other for other in RATES_HZ if other != rate]


def tone(frequency: float, rate: int, samples: int) -> np.ndarray:
    return np.sin(2 * np.pi * frequency * np.arange(samples) / rate).astype(np.float32)


def db(signal: np.ndarray) -> float:
    return 10 * math.log10(float(np.mean(np.square(signal, dtype=np.float64))) + 1e-20)


def middle(signal: np.ndarray) -> np.ndarray:
    edge = signal.shape[-1] // 5
    return signal[..., edge:-edge]


@pytest.mark.parametrize("rate_in", RATES_HZ)
def test_speech_band_noise_agrees_with_scipy(rate_in: int) -> None:
    """SciPy with a filter three times as long: the difference is our error, below -60 dB."""
    import scipy.signal  # here: it loads longer than all that is tested

    for rate_out in others(rate_in):
        noise = np.random.default_rng(3).standard_normal(rate_in // 5)
        lowest = min(rate_in, rate_out)
        band = scipy.signal.firwin(1001, 0.4 * lowest, fs=rate_in)
        sound = np.convolve(noise, band, "same")
        up, down = (r // math.gcd(rate_in, rate_out) for r in (rate_out, rate_in))
        length = 2 * 150 * max(up, down) + 1
        filter_ = scipy.signal.firwin(length, 0.5 * lowest, window=("kaiser", 9.0), fs=rate_in * up)
        expected = scipy.signal.resample_poly(sound, up, down, window=filter_)
        got = resample(sound.astype(np.float32), rate_in, rate_out)
        assert got.shape == expected.shape
        assert db(middle(got - expected)) < db(middle(expected)) - 60, f"to {rate_out} Hz"


@pytest.mark.parametrize("rate_in", RATES_HZ)
def test_tones_keep_their_phase_and_level(rate_in: int) -> None:
    for rate_out in others(rate_in):
        for share in (0.05, 0.5, 0.9):
            frequency = share * min(rate_in, rate_out) / 2
            got = resample(tone(frequency, rate_in, rate_in // 5), rate_in, rate_out)
            error = got - tone(frequency, rate_out, got.size)
            assert db(middle(error)) < -3 - 60, f"{frequency} Hz to {rate_out} Hz"


@pytest.mark.parametrize("rate_in", RATES_HZ[1:])
def test_what_does_not_fit_is_removed_and_not_folded_back(rate_in: int) -> None:
    for rate_out in RATES_HZ[: RATES_HZ.index(rate_in)]:
        frequencies = np.linspace(rate_out / 2, rate_in / 2, 12)[:-1]
        sounds = np.stack([tone(f, rate_in, rate_in // 5) for f in frequencies])
        sounds[0] = np.cos(np.pi * rate_out * np.arange(rate_in // 5) / rate_in)  # Nyquist itself
        left = [db(row) for row in middle(resample(sounds, rate_in, rate_out))]
        assert len(left) == 11
        assert max(left[1:]) < -3 - 60, f"aliases at {rate_out} Hz"
        assert left[0] < -60, f"half of {rate_out} Hz"


@pytest.mark.parametrize("rate_in", RATES_HZ[:-1])
def test_raising_the_rate_adds_no_images(rate_in: int) -> None:
    from scipy.signal.windows import blackmanharris

    for rate_out in RATES_HZ[RATES_HZ.index(rate_in) + 1 :]:
        got = resample(tone(0.3 * rate_in, rate_in, rate_in // 2), rate_in, rate_out)
        inner = middle(got)
        window = blackmanharris(inner.size)
        spectrum = np.abs(np.fft.rfft(inner * window)) ** 2
        images = spectrum[np.fft.rfftfreq(inner.size, 1 / rate_out) > rate_in / 2]
        assert images.size > 0
        assert 10 * np.log10(images.max() / spectrum.max()) < -60, f"to {rate_out} Hz"


@pytest.mark.parametrize("rate_in", RATES_HZ)
def test_blocks_of_20_ms_and_odd_blocks_give_the_same_as_one_shot(rate_in: int) -> None:
    sound = np.random.default_rng(4).standard_normal(rate_in // 10).astype(np.float32) / 4
    for rate_out in others(rate_in):
        whole = Resampler(rate_in, rate_out).process(sound)
        assert whole.size == math.ceil(sound.size * rate_out / rate_in)
        for block in (rate_in // 50, 97):
            resampler = Resampler(rate_in, rate_out)
            pieces, taken, given = [], 0, 0
            for at in range(0, sound.size, block):
                pieces.append(resampler.process(sound[at : at + block]))
                taken += sound[at : at + block].size
                given += pieces[-1].size
                assert given == math.ceil(taken * rate_out / rate_in)
            np.testing.assert_allclose(np.concatenate(pieces), whole, atol=2e-6)


@pytest.mark.parametrize(("rate_in", "rate_out"), [(8000, 48000), (44100, 8000), (16000, 8000)])
def test_delay_is_what_is_said_and_flush_returns_the_rest(rate_in: int, rate_out: int) -> None:
    sound = tone(440.0, rate_in, rate_in // 4)
    resampler = Resampler(rate_in, rate_out)
    late = np.concatenate((resampler.process(sound), resampler.flush()))
    assert resampler.delay_s == resampler.delay / rate_out
    assert 0.002 < resampler.delay_s < 0.006
    at_once = resample(sound, rate_in, rate_out)
    np.testing.assert_allclose(late[resampler.delay :], at_once, atol=1e-6)
    np.testing.assert_array_equal(
        resampler.process(sound), Resampler(rate_in, rate_out).process(sound), "begun anew"
    )


def test_streams_in_step_are_streams_alone() -> None:
    sounds = np.random.default_rng(8).standard_normal((6, 960)).astype(np.float32) / 4
    together = Resampler(48000, 8000, 6)
    got = np.concatenate([together.process(sounds[:, :480]), together.process(sounds[:, 480:])], 1)
    for n in range(6):
        np.testing.assert_allclose(got[n], Resampler(48000, 8000).process(sounds[n]), atol=2e-6)


def test_int16_is_rounded_and_saturates() -> None:
    sound = np.random.default_rng(9).standard_normal(4410) * 8000
    as_int = np.clip(np.rint(sound), -32768, 32767).astype(np.int16)
    exact = resample(as_int.astype(np.float32), 44100, 16000)
    got = resample(as_int, 44100, 16000)
    assert got.dtype == np.int16
    assert np.abs(got - np.clip(exact, -32768, 32767)).max() <= 0.5 + 1e-3
    square = np.where(np.arange(800) % 40 < 20, 32767, -32768).astype(np.int16)
    over = resample(square, 8000, 16000)
    assert (over.max(), over.min()) == (32767, -32768), "ringing does not wrap around"


def test_equal_rates_change_nothing() -> None:
    pcm = np.arange(-100, 100, dtype=np.int16)
    resampler = Resampler(16000, 16000)
    np.testing.assert_array_equal(resampler.process(pcm), pcm)
    assert (resampler.delay, resampler.flush().size) == (0, 0)


def test_what_cannot_be_converted_is_refused_in_words() -> None:
    with pytest.raises(ConfigError, match="44101 Hz to 8000 Hz"):
        Resampler(44101, 8000)
    with pytest.raises(ConfigError, match="8000 Hz to 0 Hz"):
        Resampler(8000, 0)
    with pytest.raises(ConfigError, match="0 Hz to 0 Hz"):
        Resampler(0, 0)
    with pytest.raises(ConfigError, match=r"\(2, 'samples'\), not \(3, 80\)"):
        Resampler(8000, 16000, 2).process(np.zeros((3, 80), np.float32))
    with pytest.raises(ConfigError, match="float64"):
        Resampler(8000, 16000).process(np.zeros(80))  # type: ignore[type-var]


def test_neither_a_phone_nor_an_engine_nor_a_resampler_waits_for_scipy_signal() -> None:
    program = (
        "import sys, voip.phone, voip.net.engine_process;"
        "from voip.dsp.resample import Resampler; Resampler(8000, 48000);"
        "sys.exit('scipy.signal' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
