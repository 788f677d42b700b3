"""Call-progress tones, measured: which frequencies sound, how loud, and for how long.

The judge is scipy: a spectrum of each burst, and the edges of its envelope.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from scipy import signal

from voip.dsp.cadence import parse, render
from voip.dsp.call_progress import COUNTRIES, TONES, call_progress_tone
from voip.errors import ConfigError

RATE = 8000
Sound = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Burst:
    """What sounds without a pause: when it begins and ends, in seconds, and what is in it."""

    begin: float
    end: float
    hertz: tuple[int, ...]


def rendered(tone: str, country: str, seconds: float, rate: int = RATE) -> Sound:
    """A tone in pieces of odd lengths, as a ring asks for it."""
    spec = call_progress_tone(tone, country)
    pieces, at, n = [], 0, 0
    while at < seconds * rate:
        n = (n * 31 + 17) % 397 + 1
        pieces.append(render(spec, at, n, rate))
        at += n
    return np.concatenate(pieces)[: int(seconds * rate)]


def bursts(sound: Sound, rate: int = RATE) -> list[Burst]:
    """What a listener with a filter bank notes: edges by envelope, frequencies by spectrum."""
    width = int(0.008 * rate)
    envelope = np.sqrt(signal.convolve(sound.astype(float) ** 2, np.ones(width) / width, "same"))
    loud = np.concatenate(([False], envelope > 0.25 * envelope.max(), [False]))
    edges = np.flatnonzero(np.diff(loud.astype(int)))
    found = []
    for begin, end in zip(edges[::2], edges[1::2], strict=True):
        # a change of frequency within is an edge, too: short-time peaks
        marks = [begin, end]
        length = end - begin
        if length > 0.25 * rate:
            _, times, spectra = signal.stft(sound[begin:end], rate, nperseg=256, noverlap=192)
            peak = np.abs(spectra).argmax(axis=0)
            jumps = np.flatnonzero(np.abs(np.diff(peak[2:-2])) > 6) + 2
            marks += [begin + int(times[at] * rate) for at in jumps]
        marks = sorted(marks)
        cleaned = [marks[0]]
        for mark in marks[1:]:
            if mark - cleaned[-1] > 0.04 * rate:
                cleaned.append(mark)
        for start, stop in pairwise(cleaned):
            found.append(Burst(start / rate, stop / rate, peaks(sound[start:stop], rate)))
    return found


def peaks(sound: Sound, rate: int = RATE) -> tuple[int, ...]:
    """The frequencies of a burst, within 5 Hz, weaker ones down to a quarter of the strongest."""
    inner = sound[int(0.05 * sound.size) : int(0.95 * sound.size)].astype(float)
    size = 1 << 17
    spectrum = np.abs(np.fft.rfft(inner * np.hanning(inner.size), size))
    apart = max(1, int(1.5 / inner.size * size))
    at, _ = signal.find_peaks(spectrum, height=spectrum.max() / 4, distance=apart)
    return tuple(round(place * rate / size) for place in at)


# Facts as E.180's list and national specifications have them, by who knows them: frequencies,
# then seconds on and off.
FACTS = [
    ("de", "dial", (425,), (math.inf,)),
    ("de", "busy", (425,), (0.48, 0.48)),
    ("de", "congestion", (425,), (0.24, 0.24)),
    ("de", "ringback", (425,), (1.0, 4.0)),
    ("fr", "dial", (440,), (math.inf,)),
    ("fr", "ringback", (440,), (1.5, 3.5)),
    ("fr", "busy", (440,), (0.5, 0.5)),
    ("gb", "dial", (350, 440), (math.inf,)),
    ("gb", "ringback", (400, 450), (0.4, 0.2, 0.4, 2.0)),
    ("gb", "busy", (400,), (0.375, 0.375)),
    ("us", "dial", (350, 440), (math.inf,)),
    ("us", "ringback", (440, 480), (2.0, 4.0)),
    ("us", "busy", (480, 620), (0.5, 0.5)),
    ("us", "congestion", (480, 620), (0.25, 0.25)),
    ("it", "dial", (425,), (0.2, 0.2, 0.6, 1.0)),
    ("jp", "busy", (400,), (0.5, 0.5)),
    ("cn", "busy", (450,), (0.35, 0.35)),
    ("be", "congestion", (425,), (0.167, 0.167)),
    ("my", "ringback", (425,), (0.4, 0.2, 0.4, 2.0)),
    ("se", "congestion", (425,), (0.25, 0.75)),
]


@pytest.mark.parametrize(
    ("country", "tone", "hertz", "cadence", "rate"),
    [(*fact, RATE) for fact in FACTS] + [(*FACTS[1], 48_000), (*FACTS[13], 16_000)],
)
def test_a_tone_has_the_frequencies_and_the_cadence_of_its_country(
    country: str, tone: str, hertz: tuple[int, ...], cadence: tuple[float, ...], rate: int
) -> None:
    period = min(sum(cadence), 6.0)
    heard = bursts(rendered(tone, country, 2.5 * period, rate), rate)
    expected, at = [], 0.0
    while at < 2 * period:
        for number, seconds in enumerate(cadence):
            if number % 2 == 0 and at < 2 * period:
                expected.append((at, at + seconds))
            at += seconds
    assert len(heard) >= len(expected)
    for burst, (begin, end) in zip(heard, expected, strict=False):
        assert all(abs(a - b) <= 3 for a, b in zip(burst.hertz, hertz, strict=True)), burst
        assert burst.begin == pytest.approx(begin, abs=0.008)
        if end < math.inf:
            assert burst.end == pytest.approx(end, abs=0.008)


def test_the_special_information_tone_has_three_steps() -> None:
    first = bursts(rendered("info", "de", 1.9))[:3]
    assert [burst.hertz for burst in first] == [(950,), (1400,), (1800,)]
    assert first[0].begin == pytest.approx(0, abs=0.01)
    assert first[1].begin == pytest.approx(0.33, abs=0.03)
    assert first[2].begin == pytest.approx(0.66, abs=0.03)
    assert first[2].end == pytest.approx(0.99, abs=0.01)


def test_there_are_tones_of_forty_countries_each_with_its_source() -> None:
    """Every tone of every country sounds, neither faint nor loud, and does not click."""
    assert len(COUNTRIES) >= 40
    measured = 0
    for code, tones in COUNTRIES.items():
        assert tones.source and tones.name
        for kind in TONES:
            if not getattr(tones, kind):
                continue
            sound = rendered(kind, code, 4.0)
            loudest = np.sort(np.abs(sound.reshape(-1, 400)).max(axis=1))[-1]
            peak_dbfs = 20 * math.log10(loudest)
            assert -32 < peak_dbfs < -6, (code, kind, peak_dbfs)
            edges = np.abs(np.diff(sound))
            assert edges.max() < 1.6 * loudest, (code, kind)  # no click at a burst's edge
            measured += 1
    assert measured >= 235


def test_a_single_tone_is_at_minus_ten_dbm0() -> None:
    sound = rendered("dial", "de", 1.0)
    rms_dbm0 = 10 * math.log10(float(np.mean(sound**2))) + 6.15
    assert rms_dbm0 == pytest.approx(-10.0, abs=0.1)


def test_a_tone_that_varies_does_so_as_often_as_it_says() -> None:
    sound = rendered("dial", "in", 2.0)
    envelope = np.abs(signal.hilbert(sound.astype(float)))[400:-400]
    spectrum = np.abs(np.fft.rfft(envelope - envelope.mean()))
    assert spectrum.argmax() * RATE / envelope.size == pytest.approx(25, abs=0.6)
    assert envelope.min() / envelope.max() == pytest.approx(0.1, abs=0.03)


def test_what_is_played_once_is_played_once() -> None:
    tone = parse("425:0.2 0:0.1 425:0.2 |")
    assert tone.duration_s == pytest.approx(0.5)
    assert not render(tone, 4000, 8000, RATE).any()
    mixed = parse("950:0.3 | 425:0.5 0:0.5")
    assert [burst.hertz for burst in bursts(render(mixed, 0, 3 * RATE, RATE))][:2] == [
        (950,), (425,),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "words", ["", "|", "425:", "425:x", "9000:1", "-5:1", "425:0", "a+b:1", "425:-1", "1:1 " * 65]
)
def test_what_is_no_cadence_is_refused(words: str) -> None:
    with pytest.raises(ConfigError):
        parse(words)


def test_names_and_countries_that_are_not_known_are_named() -> None:
    with pytest.raises(ConfigError, match="no tones of 'zz'"):
        call_progress_tone("busy", "zz")
    with pytest.raises(ConfigError, match="no tone 'howler' of Germany"):
        call_progress_tone("howler", "de")
    assert call_progress_tone("reorder", "UK") == call_progress_tone("congestion", "gb")
