"""DTMF made and heard: through codecs, noise, other rates; and not heard in speech."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.io.wavfile

from voip.codecs import g711
from voip.codecs.g711 import Law
from voip.dsp.dtmf import COLUMNS_HZ, KEYPAD, ROWS_HZ, dtmf, hear_dtmf
from voip.dsp.level import DBM0_DBFS, rms_dbfs
from voip.dsp.tones import sine
from voip.errors import ConfigError

ALL = "".join(KEYPAD)


def digits(pcm: np.ndarray, rate_hz: int = 8000) -> str:
    return "".join(heard.digit for heard in hear_dtmf(pcm.astype(np.float32), rate_hz))


def pair(low: float, high: float, low_dbm0: float = -10, high_dbm0: float = -10) -> np.ndarray:
    return sine(low, low_dbm0, 0, 800, 8000) + sine(high, high_dbm0, 0, 800, 8000)


def test_keys_stand_where_q23_has_them() -> None:
    assert KEYPAD == ("123A", "456B", "789C", "*0#D")
    assert (ROWS_HZ, COLUMNS_HZ) == ((697, 770, 852, 941), (1209, 1336, 1477, 1633))
    spectrum = np.abs(np.fft.rfft(dtmf("6", duration_ms=1000, gap_ms=0)))
    assert sorted(np.argsort(spectrum)[-2:]) == [770, 1477]


@pytest.mark.parametrize("rate", [8000, 16000, 44100, 48000])
def test_all_sixteen_are_heard_at_any_rate(rate: int) -> None:
    assert digits(dtmf(ALL + "1155", rate_hz=rate), rate) == ALL + "1155"


@pytest.mark.parametrize("law", Law)
@pytest.mark.parametrize("snr_db", [30, 15, 10])
def test_all_sixteen_are_heard_through_g711_and_noise(law: Law, snr_db: float) -> None:
    clean = dtmf(ALL, duration_ms=60)
    tone_level = rms_dbfs(dtmf("5", gap_ms=0)[None])[0]
    noise = np.random.default_rng(1).standard_normal(clean.size)
    noisy = clean + noise * 10 ** ((tone_level - snr_db) / 20)
    pcm = np.clip(np.rint(noisy * 32768), -32768, 32767).astype(np.int16)
    assert digits(g711.decode(g711.encode(pcm, law), law) / 32768) == ALL


def test_40_ms_is_a_digit_and_20_ms_is_none() -> None:
    assert digits(dtmf(ALL, duration_ms=40, gap_ms=40)) == ALL
    assert digits(dtmf(ALL, duration_ms=20, gap_ms=40)) == ""


def test_times_are_within_15_ms() -> None:
    pcm = np.concatenate((np.zeros(4000, np.float32), dtmf("7", duration_ms=200)))
    (heard,) = hear_dtmf(pcm)
    assert heard.start_s == pytest.approx(0.5, abs=0.015)
    assert heard.duration_s == pytest.approx(0.2, abs=0.015)


@pytest.mark.parametrize("off", [-0.015, 0.015])
def test_frequencies_1_5_percent_off_are_heard(off: float) -> None:
    for row, keys in zip(ROWS_HZ, KEYPAD, strict=True):
        for column, key in zip(COLUMNS_HZ, keys, strict=True):
            assert digits(pair(row * (1 + off), column * (1 - off))) == key


@pytest.mark.parametrize(
    "frequencies",
    [(697 * 0.94, 1209), (770, 1336 * 1.06), (350, 440), (440, 480), (941, 1750), (1004, 1004)],
)
def test_other_tones_are_no_digits(frequencies: tuple[float, float]) -> None:
    assert digits(pair(*frequencies)) == ""


@pytest.mark.parametrize(("low", "high", "heard"), [(-10, -6, "5"), (-6, -14, "5"), (-10, 0, "")])
def test_twist_is_limited(low: float, high: float, heard: str) -> None:
    assert digits(pair(770, 1336, low, high)) == heard


def test_level_range() -> None:
    assert digits(pair(770, 1336, -3, -3)) == "5"
    quiet = -45 - DBM0_DBFS - 3.01
    assert digits(pair(770, 1336, quiet + 1, quiet + 1)) == "5"
    assert digits(pair(770, 1336, quiet - 1, quiet - 1)) == ""


def test_silence_nothing_and_unknown_keys() -> None:
    assert digits(np.zeros(8000)) == ""
    assert digits(np.zeros(100)) == ""
    assert dtmf("").size == 0
    with pytest.raises(ConfigError, match="'X' is no DTMF digit"):
        dtmf("12x")


@pytest.mark.reference
def test_speech_holds_no_digits(reference_data: Path) -> None:
    seconds = 0.0
    for file in sorted((reference_data / "speech").rglob("*.wav")):
        rate, pcm = scipy.io.wavfile.read(file)
        assert digits(pcm / 32768, rate) == "", file.name
        seconds += pcm.size / rate
    assert seconds > 180
