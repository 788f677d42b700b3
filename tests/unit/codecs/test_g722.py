"""G.722 by each that codes it: the ITU's speech vector, FFmpeg, three rates, what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import media_library
import numpy as np
import numpy.typing as npt
import pytest
from media_library import decoded_by_ffmpeg, encoded_by_ffmpeg

from voip.codecs import g722, libraries
from voip.codecs.core import CodecFormat
from voip.codecs.g722 import G722, g722_codec
from voip.codecs.registry import default_registry
from voip.errors import CodecError
from voip.harness.audio import fit_tones, snr_db

pytestmark = pytest.mark.rfc("3551", "4.5.2")

RATES = (64000, 56000, 48000)
SAMPLES = 97536
Pcm = npt.NDArray[np.int16]


@pytest.fixture(params=["C", "package"], autouse=True)
def by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What codes it: our own, or the package G722."""
    if request.param == "package":
        monkeypatch.setenv("VOIP_NATIVE", "0")
    elif not libraries.adapter("g722_encode"):
        pytest.skip("the part in C was not built, or is not wanted")
    return str(request.param)


def words(reference_data: Path, name: str, count: int) -> Pcm:
    found = np.fromfile(reference_data / "codec-g722-itu-stl" / name, "<i2")
    assert found.size == count
    return found


def speech() -> Pcm:
    samples = media_library.speech(16000)
    return samples[: samples.size // 320 * 320]


@pytest.mark.reference
def test_the_itus_speech_is_encoded_and_decoded_to_the_bit(reference_data: Path) -> None:
    sound = words(reference_data, "inpsp.bin", SAMPLES)
    codes = words(reference_data, "codspw.cod", SAMPLES // 2).astype(np.uint8)
    heard = words(reference_data, "outsp1.bin", SAMPLES)
    codec = g722_codec()
    assert codec.encode(sound) == codes.tobytes()
    np.testing.assert_array_equal(codec.decode(codes.tobytes()), heard)
    codec.reset()
    for at in range(0, SAMPLES, 320):  # packets of 20 ms; the last is shorter
        payload = codes[at // 2 : at // 2 + 160].tobytes()
        assert codec.encode(sound[at : at + 320]) == payload
        np.testing.assert_array_equal(codec.decode(payload), heard[at : at + 320])


def test_ffmpeg_hears_ours_as_we_do_and_we_hear_ffmpegs(missing) -> None:
    sound = speech()
    ours = g722_codec().encode(sound)
    np.testing.assert_array_equal(
        decoded_by_ffmpeg("g722", ours, missing, sample_rate=16000), g722_codec().decode(ours)
    )
    theirs = encoded_by_ffmpeg("g722", sound, missing, sample_rate=16000)
    assert len(theirs) == len(ours)
    heard = g722_codec().decode(theirs)
    np.testing.assert_array_equal(
        heard, decoded_by_ffmpeg("g722", theirs, missing, sample_rate=16000)
    )
    before, after = sound[:-22].astype(float), heard[22:].astype(float)
    assert snr_db((before**2).mean(), ((after - before) ** 2).mean()) > 15


def test_the_wire_counts_8000_hz_and_the_sound_has_16000() -> None:
    codec = default_registry().create(CodecFormat("G722", 8000))
    info = codec.info
    assert (info.clock_rate, info.sample_rate, info.bit_rate) == (8000, 16000, 64000)
    assert default_registry().static_format(9) == info.format
    assert len(codec.encode(np.zeros(320, np.int16))) == 160, "20 ms"
    assert not info.conceals
    assert not codec.conceal(320).any()


@pytest.mark.parametrize("bit_rate", RATES)
def test_a_tone_of_each_band_goes_through_at_every_rate(bit_rate: int) -> None:
    n = np.arange(16000)
    for hz, snr in ((1000, 20), (6000, 10)):
        tone = np.rint(8000 * np.sin(2 * np.pi * hz * n / 16000)).astype(np.int16)
        codec = g722_codec(bit_rate)
        heard = codec.decode(codec.encode(tone))
        signal, rest = fit_tones(heard[None, 8000:], 16000, (hz,))
        assert abs(snr_db(signal[0], 8000**2 / 2)) < 1
        assert snr_db(signal[0], rest[0]) > snr


def test_fewer_bits_leave_the_lowest_to_the_auxiliary_channel_and_more_noise() -> None:
    sound, noise = speech(), []
    for bit_rate, unused in zip(RATES, (0, 1, 3), strict=True):
        codec = g722_codec(bit_rate)
        assert codec.info.bit_rate == bit_rate
        payload = codec.encode(sound)
        octets = np.frombuffer(payload, np.uint8)
        assert octets.size == sound.size // 2
        assert np.bitwise_or.reduce(octets) == 255 - unused
        heard = codec.decode(payload)
        with_data = octets | np.random.default_rng(1).integers(0, unused + 1, octets.size)
        codec.reset()
        np.testing.assert_array_equal(codec.decode(with_data.astype(np.uint8).tobytes()), heard)
        by_full = g722_codec().decode(payload)
        for decoded in (heard, by_full):
            noise.append(((decoded[22:] - sound[:-22].astype(float)) ** 2).mean())
    assert noise[0] == noise[1]
    assert noise[1] < noise[2] < noise[4], "by its own decoder"
    assert noise[3] < 4 * noise[2], "the decoder of 64 kbit/s plays them, too"
    assert noise[5] < 4 * noise[4]


def test_what_is_encoded_comes_22_samples_later() -> None:
    sound = speech()
    codec = g722_codec()
    heard = codec.decode(codec.encode(sound)).astype(float)
    likeness = [np.dot(sound[: 16000 - lag], heard[lag:16000]) for lag in range(50)]
    assert int(np.argmax(likeness)) == 22 == G722.algorithmic_delay_ms * 16


def test_odd_sound_and_other_rates_are_refused() -> None:
    codec, other = g722_codec(), g722_codec()
    with pytest.raises(CodecError, match="two samples in an octet, and 321 is odd"):
        codec.encode(np.ones(321, np.int16))
    tone = np.arange(0, 6400, 20).astype(np.int16)
    assert codec.encode(tone) == other.encode(tone), "as if nothing had been"
    with pytest.raises(CodecError, match="no 32000 bit/s"):
        g722_codec(32000)


def test_without_the_library_all_else_works(by: str) -> None:
    program = (
        "import sys; sys.modules['G722'] = None\n"
        "from voip.codecs.registry import default_registry\n"
        "from voip.codecs.core import CodecFormat\n"
        "from voip.errors import CodecError\n"
        "default_registry().create(CodecFormat('pcmu'))\n"
        "try: print(default_registry().create(CodecFormat('g722')).info.name)\n"
        "except CodecError as error: print(error.hint)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == {"C": "g722", "package": g722.INSTALL}[by]
