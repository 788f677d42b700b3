"""Comfort noise: payloads as RFC 3389 says, and noise as loud and as coloured as was told."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from media_library import decoded_by_ffmpeg, encoded_by_ffmpeg
from scipy.signal import lfilter, welch

from voip.codecs.comfort_noise import MAX_ORDER, ComfortNoise, NoiseSource
from voip.dsp.level import SILENCE_DBFS, rms_dbfs
from voip.errors import CodecError

pytestmark = pytest.mark.rfc("3389", "3")

STEP = 258 / 32768


def source(seed: int = 1) -> NoiseSource:
    return NoiseSource(np.random.default_rng(seed))


def spectrum_db(sound: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Return the power of 32 bands, in dB beside their mean."""
    _, power = welch(sound.astype(np.float64), nperseg=64)
    level = 10 * np.log10(power[1:-1])
    return level - level.mean()


def coloured(filter_: tuple[float, ...], seed: int = 3) -> npt.NDArray[np.float32]:
    white = np.random.default_rng(seed).normal(0, 0.005, 80_000)
    return lfilter([1.0], filter_, white).astype(np.float32)


# ---------------------------------------------------------------- payloads


def test_a_payload_is_the_level_and_an_octet_for_each_coefficient() -> None:
    noise = ComfortNoise(-40, (-127 * STEP, 0.0, STEP, 127 * STEP))
    assert noise.payload == bytes([40, 0, 127, 128, 254])
    assert ComfortNoise.read(noise.payload) == noise
    assert ComfortNoise(0).payload == b"\x00"
    assert ComfortNoise.read(b"\x7f").level_dbov == -127


def test_what_the_rfc_reserves_is_left_out() -> None:
    assert ComfortNoise.read(bytes([0x80 | 60])).level_dbov == -60, "the bit that is always 0"
    assert len(ComfortNoise.read(bytes([60, 1, 2, 255, 3])).reflection) == 2
    assert len(ComfortNoise.read(bytes(500)).reflection) == MAX_ORDER


@given(
    st.integers(-127, 0),
    st.lists(st.floats(-0.9999, 0.9999), max_size=MAX_ORDER),
)
def test_a_noise_survives_its_payload(level: int, reflection: list[float]) -> None:
    noise = ComfortNoise(level, tuple(reflection))
    read = ComfortNoise.read(noise.payload)
    assert read.level_dbov == level
    np.testing.assert_allclose(read.reflection, reflection, atol=STEP / 2 + 1e-9)
    assert ComfortNoise.read(read.payload) == read


@pytest.mark.parametrize("arguments", [(1,), (-128,), (-50, (1.0,)), (-50, (0.0,) * 33)])
def test_what_cannot_be_told_is_refused(arguments: tuple) -> None:
    with pytest.raises(CodecError):
        ComfortNoise(*arguments)
    with pytest.raises(CodecError, match="empty"):
        ComfortNoise.read(b"")


# ---------------------------------------------------------------- noise


@pytest.mark.parametrize("level", [-30, -50, -75])
@pytest.mark.parametrize("reflection", [(), (-0.9,), (0.8, 0.5), (-0.9, 0.8, -0.3, 0.2)])
def test_it_is_as_loud_as_was_told(level: int, reflection: tuple[float, ...]) -> None:
    noise, from_ = ComfortNoise(level, reflection), source()
    sound = np.concatenate([from_.generate(noise, 160) for _ in range(400)])
    assert (sound.dtype, sound.shape) == (np.float32, (64_000,))
    assert abs(rms_dbfs(sound[1000:]) - level) < 0.4


def test_it_repeats_by_its_seed_and_goes_on_without_a_seam() -> None:
    noise = ComfortNoise(-40, (-0.95, 0.3))
    one, other = source(), source()
    whole = one.generate(noise, 640)
    pieces = np.concatenate([other.generate(noise, size) for size in (160, 1, 0, 479)])
    np.testing.assert_array_equal(whole, pieces)
    assert not np.array_equal(whole, source(2).generate(noise, 640))


@pytest.mark.parametrize("filter_", [(1, -0.9), (1, 0.7), (1, -1.2, 0.8), (1, 0, 0.81)])
def test_it_sounds_as_what_was_described(filter_: tuple[float, ...]) -> None:
    background = coloured(filter_)
    noise = ComfortNoise.of(background)
    assert abs(noise.level_dbov - rms_dbfs(background)) <= 0.5
    assert ComfortNoise.of(np.rint(background * 32768).astype(np.int16)).level_dbov in range(
        noise.level_dbov - 1, noise.level_dbov + 2
    )
    sound = source().generate(ComfortNoise.read(noise.payload), 80_000)
    np.testing.assert_allclose(spectrum_db(sound), spectrum_db(background), atol=2)


@pytest.mark.parametrize("filter_", [(1, -0.9), (1, 0.7), (1, -1.2, 0.8)])
def test_ffmpeg_makes_noise_of_the_same_colour_of_our_payload(missing, filter_) -> None:
    payload = ComfortNoise.of(coloured(filter_)).payload
    theirs = decoded_by_ffmpeg("comfortnoise", [payload] * 200, missing, sample_rate=8000)
    assert theirs.size >= 20_000
    # its excitation has three quarters of the power as its peak, evenly spread: 6 dB less, always
    softer = rms_dbfs(theirs[2000:]) - ComfortNoise.read(payload).level_dbov
    assert softer == pytest.approx(10 * np.log10(0.75 / 3), abs=0.3)
    np.testing.assert_allclose(spectrum_db(theirs[2000:]), spectrum_db(coloured(filter_)), atol=3.5)


@pytest.mark.parametrize("filter_", [(1, -0.9), (1, 0.7), (1, -1.2, 0.8)])
def test_what_ffmpeg_tells_of_a_background_sounds_like_it(missing, filter_) -> None:
    background = np.rint(coloured(filter_) * 32768).astype(np.int16)
    told = encoded_by_ffmpeg("comfortnoise", background, missing, sample_rate=8000)
    noises = [ComfortNoise.read(told[at : at + 11]) for at in range(0, len(told), 11)]
    noise = noises[-1]
    assert len(noise.reflection) == 10
    levels = [one.level_dbov for one in noises]
    assert abs(10 * np.log10(np.mean(10 ** (np.array(levels) / 10))) - rms_dbfs(background)) < 1
    sound = source().generate(noise, 80_000)
    np.testing.assert_allclose(spectrum_db(sound), spectrum_db(background), atol=3.5)


def test_silence_is_told_as_such() -> None:
    for silence in (np.zeros(160, np.int16), np.zeros(0, np.float32)):
        assert ComfortNoise.of(silence) == ComfortNoise(-127)
    assert ComfortNoise.of(np.full(160, -32768, np.int16), order=0) == ComfortNoise(0)
    with pytest.raises(CodecError, match="0 to 32 coefficients"):
        ComfortNoise.of(np.zeros(9, np.int16), order=33)


@given(st.binary(min_size=1, max_size=80))
@example(bytes([20] + [0] * 40))
@example(bytes([20] + [254] * 40))
@example(bytes([0] + [0, 254] * 20))
def test_any_payload_is_noise_not_louder_than_it_says(payload: bytes) -> None:
    noise, from_ = ComfortNoise.read(payload), source()
    sound = np.concatenate([from_.generate(noise, 400) for _ in range(10)])
    assert np.isfinite(sound).all()
    assert rms_dbfs(sound) <= max(SILENCE_DBFS, noise.level_dbov + 6)


@given(st.integers(0, 400), st.integers(0, 2**32), st.integers(0, MAX_ORDER))
def test_any_sound_can_be_described(size: int, seed: int, order: int) -> None:
    rng = np.random.default_rng(seed)
    sound = rng.integers(-32768, 32768, size) * (rng.random(size) < rng.random())
    noise = ComfortNoise.of(sound.astype(np.int16), order)
    assert ComfortNoise.read(noise.payload).level_dbov == noise.level_dbov
    assert len(noise.payload) <= 1 + order
