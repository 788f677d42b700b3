"""The audio grade: whether what we sent was heard, all of it, clean, at the right speed.

Three judges for three kinds of sound. `grade_tone`: steady tones; each 100 ms window is split into
the tones and the rest. `grade_waveform`: any sound over a path that keeps the waveform (G.711,
L16); each window is compared with what was sent. `grade_speech`: speech over any codec, by PESQ
(ITU-T P.862, narrow band, mapped to MOS-LQO by P.862.1).

All three look at every 20 ms frame too, so that a hole of a single packet is found, and say how
much they compared: a comparison of nothing fails.
"""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass, replace
from enum import Enum
from typing import Self

import numpy as np
import numpy.typing as npt

from voip.errors import ConfigError
from voip.harness.audio import (
    FRAME_S,
    WINDOW_S,
    Floats,
    Sound,
    cut,
    decibels,
    dominant_tone,
    find_offset,
    fit_tones,
    frame_rms,
    level_dbfs,
    snr_db,
    tone_lines,
)
from voip.harness.tracking import Track, follow

__all__ = [
    "WORST_MOS_LQO",
    "Bar",
    "Grade",
    "Kind",
    "grade_speech",
    "grade_tone",
    "grade_waveform",
    "pesq_installed",
]

WORST_MOS_LQO = 1.0
"""The score of a segment that holds nothing PESQ could compare."""

_EDGE_FRAMES = 5  # what was heard begins and ends with 100 ms of it without a hole
_SEGMENT_S = 8.0  # P.862.3 recommends 8 s to 12 s of speech for one score
_PLACES_TOLD = 3
_FLAT_TOP = 3  # so many samples in a row at the top are clipping
_TOP = 32_000

Flags = npt.NDArray[np.bool_]


class Kind(Enum):
    """By which judge a grade was given."""

    TONE = "tone"
    WAVEFORM = "waveform"
    SPEECH = "speech"


@dataclass(frozen=True, slots=True)
class Bar:
    """What must be reached.

    `seconds`: continuous time in which the sent signal dominates. `snr_db`: of every window.
    `frame_level`: of every 20 ms frame, as a share of the RMS sent. `mos_lqo`: of every segment of
    speech. `drift_ppm`: by how much the speed may be off. `allowed`: share of windows and of frames
    that may fall short; more than 0 is for paths that lose packets on purpose.
    """

    seconds: float = 1.0
    snr_db: float = 15.0
    frame_level: float = 0.25
    mos_lqo: float = 3.5
    drift_ppm: float = 1000.0
    allowed: float = 0.0


@dataclass(frozen=True, slots=True)
class Grade:
    """The verdict, what it rests on, and every fault. Figures that were not taken are None.

    `windows` and `frames`: how many were compared. `start_s`, `seconds`: the part of the recording
    that was judged. `coverage`: the share of what was sent that it holds (None for tones).
    `weakest_frame`: RMS heard over RMS sent. `gain_db`: heard over sent.
    """

    kind: Kind
    windows: int = 0
    frames: int = 0
    start_s: float | None = None
    seconds: float = 0.0
    coverage: float | None = None
    worst_snr_db: float | None = None
    weakest_frame: float | None = None
    gain_db: float | None = None
    frequencies_hz: tuple[float, ...] = ()
    heard_hz: float | None = None
    drift_ppm: float | None = None
    mos_lqo: float | None = None
    faults: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """True when something was compared and no fault was found."""
        return self.windows > 0 and self.frames > 0 and not self.faults

    def explain(self) -> str:
        """Say in one line what was compared, and under it each fault."""
        windows = "segments of speech" if self.kind is Kind.SPEECH else "windows of 100 ms"
        figures = [f"compared {self.windows} {windows} and {self.frames} frames of 20 ms"]
        if self.start_s is not None:
            figures.append(f"{self.seconds:.2f} s from {self.start_s:.2f} s")
        for name, value, unit in (
            ("coverage", self.coverage, ""),
            ("worst SNR", self.worst_snr_db, " dB"),
            ("weakest frame", self.weakest_frame, " of the RMS sent"),
            ("gain", self.gain_db, " dB"),
            ("heard", self.heard_hz, " Hz"),
            ("drift", self.drift_ppm, " ppm"),
            ("MOS-LQO", self.mos_lqo, ""),
        ):
            if value is not None:
                figures.append(f"{name} {value:.4g}{unit}")
        faults = self.faults or (() if self.passed else ("nothing was compared",))
        verdict = "passed" if self.passed else "FAILED"
        return "\n  - ".join((f"{self.kind.value} {verdict}: {', '.join(figures)}", *faults))

    def require(self) -> Self:
        """Return the grade itself, or raise AssertionError with the explanation."""
        if not self.passed:
            raise AssertionError(self.explain())
        return self


# ---------------------------------------------------------------- tones


def grade_tone(
    sent: Sound, heard: Sound, *, leg_rate_hz: int | None = None, bar: Bar | None = None
) -> Grade:
    """Judge whether the steady tone or tones of `sent` are what is heard.

    Phase and delay are free; frequency, level, purity and continuity are not. What is judged
    lasts from the first 100 ms of the tone to the last in `heard`. `leg_rate_hz`: the rate that
    `heard` must have. Raises ConfigError where `sent` is no steady tone of at most four lines.
    """
    bar = bar or Bar()
    lines = tone_lines(sent)
    grade = Grade(Kind.TONE, frequencies_hz=lines)
    if fault := _cannot_compare(heard, leg_rate_hz):
        return replace(grade, faults=(fault,))
    sent_rms = _loud_rms(sent)
    signal, rest = fit_tones(cut(heard.samples, heard.frame), heard.rate_hz, lines)
    level = np.sqrt(signal + rest) / sent_rms
    present = (signal > rest) & (level >= bar.frame_level)
    span = _span(present)
    loudest = dominant_tone(heard)
    named = " + ".join(f"{line:.1f}" for line in lines)
    if span is None:
        other = (
            ""
            if loudest is None
            else (
                f"; the strongest line is {loudest.frequency_hz:.1f} Hz"
                f" at {loudest.level_dbfs:.1f} dBFS"
            )
        )
        return replace(grade, faults=(f"{named} Hz is nowhere heard for 100 ms{other}",))

    first, last = span[0] + 1, span[1] - 1  # the tone begins and ends somewhere within a frame
    start, end = first * heard.frame, last * heard.frame
    part = Sound(heard.samples[start:end], heard.rate_hz)
    window = round(WINDOW_S * heard.rate_hz)
    signal, rest = fit_tones(cut(part.samples, window), heard.rate_hz, lines)
    ratios = np.array([snr_db(s, r) for s, r in zip(signal, rest, strict=True)])
    found = dominant_tone(part)
    return _finish(
        replace(
            grade,
            start_s=start / heard.rate_hz,
            seconds=part.seconds,
            gain_db=level_dbfs(part.samples) - decibels((sent_rms / 32768) ** 2),
            heard_hz=None if found is None else found.frequency_hz,
        ),
        bar,
        snr=_Figures(
            "windows",
            ratios,
            start / heard.rate_hz + WINDOW_S * np.arange(len(ratios), dtype=np.float64),
        ),
        level=_Figures(
            "frames of 20 ms", level[first:last], FRAME_S * np.arange(first, last, dtype=np.float64)
        ),
        longest_s=_longest(present) * FRAME_S,
        faults=(*_clipped(sent, part), *_missing_lines(lines, sent, part, bar)),
    )


def _missing_lines(
    lines: tuple[float, ...], sent: Sound, heard: Sound, bar: Bar
) -> tuple[str, ...]:
    """Hold each of several tones against its own level, as the frames are held together."""
    faults = []
    for line in lines if len(lines) > 1 else ():
        before, after = (
            np.sqrt(fit_tones(cut(s.samples, round(WINDOW_S * s.rate_hz)), s.rate_hz, (line,))[0])
            for s in (sent, heard)
        )
        if len(after) and np.median(after) < bar.frame_level * before.max():
            faults.append(f"{line:.1f} Hz is missing from the tones sent together")
    return tuple(faults)


# ---------------------------------------------------------------- any waveform, and speech


def grade_waveform(
    sent: Sound, heard: Sound, *, leg_rate_hz: int | None = None, bar: Bar | None = None
) -> Grade:
    """Judge whether `heard` holds the very waveform of `sent`, by the SNR of each window.

    Each window is aligned by itself and may pass a filter of 21 taps (gain, a delay by part of a
    sample, a telephone's band). In pauses of `sent` the rest is measured against its loud windows.
    """
    bar = bar or Bar()
    compared = _compare(Kind.WAVEFORM, sent, heard, leg_rate_hz, bar)
    if isinstance(compared, Grade):
        return compared
    grade, track, span = compared
    inside = track.windows_inside(span)
    ratios = track.window_snr_db(inside)
    return _finish(
        grade,
        bar,
        snr=_Figures("windows", ratios, track.windows_at_s(inside)),
        level=_loud_levels(track, span),
        longest_s=_longest((ratios > 0) | ~track.loud_windows[inside]) * WINDOW_S,
        faults=_clipped(sent, heard),
    )


def grade_speech(
    sent: Sound, heard: Sound, *, leg_rate_hz: int | None = None, bar: Bar | None = None
) -> Grade:
    """Judge speech by PESQ, segment by segment, and by the level of every loud frame.

    Raises ConfigError where the package `pesq` is not installed (`pesq_installed` tells).
    """
    bar = bar or Bar()
    if not pesq_installed():
        raise ConfigError("speech cannot be graded without PESQ", hint="make peers")
    compared = _compare(Kind.SPEECH, sent, heard, leg_rate_hz, bar)
    if isinstance(compared, Grade):
        return compared
    grade, track, (first, last) = compared
    scores = _pesq_segments(track, first, last)
    faults = list(_clipped(sent, heard))
    if scores and min(scores) < bar.mos_lqo:
        faults.append(
            f"PESQ gives {min(scores):.2f} MOS-LQO for the worst of {len(scores)} segments,"
            f" floor {bar.mos_lqo:.2f}"
        )
    loud = track.loud[first:last]
    level = track.level[first:last]
    return _finish(
        replace(grade, windows=len(scores), mos_lqo=min(scores) if scores else None),
        bar,
        snr=None,
        level=_loud_levels(track, (first, last)),
        longest_s=_longest((level >= bar.frame_level) | ~loud) * FRAME_S,
        faults=tuple(faults),
    )


def pesq_installed() -> bool:
    """Tell whether the optional package `pesq` is there."""
    return importlib.util.find_spec("pesq") is not None


def _pesq_segments(track: Track, first: int, last: int) -> list[float]:
    """Return MOS-LQO of each segment of frames `first` to `last`, each aligned by itself."""
    from pesq import PesqError, pesq  # optional: it exists only as source

    rate_hz = track.sent.rate_hz
    count = max(1, math.ceil((last - first) * FRAME_S / _SEGMENT_S))
    rate = 8000 if rate_hz == 8000 else 16000
    scores = []
    for frames in np.array_split(np.arange(first, last), count):
        if not track.loud[frames].any():
            continue
        reference, degraded = (
            _resampled(Sound(samples, rate_hz), rate).samples
            for samples in track.excerpt(int(frames[0]), int(frames[-1]) + 1)
        )
        try:
            scores.append(float(pesq(rate, reference, degraded, "nb")))
        except PesqError:  # there is speech in what was sent, and PESQ finds none to compare
            scores.append(WORST_MOS_LQO)
    return scores


def _compare(
    kind: Kind, sent: Sound, heard: Sound, leg_rate_hz: int | None, bar: Bar
) -> Grade | tuple[Grade, Track, tuple[int, int]]:
    """Align, follow, and find the span of frames to judge; a failed grade where there is none."""
    grade = Grade(kind)
    if not sent.samples.any():
        raise ConfigError("silence was sent: there is nothing to hear", hint="send sound")
    if fault := _cannot_compare(heard, leg_rate_hz):
        return replace(grade, faults=(fault,))
    sent = _resampled(sent, heard.rate_hz)
    alignment = find_offset(sent, heard)
    if alignment is None:
        return replace(grade, faults=("nothing but silence was heard",))
    track = follow(sent, heard, alignment.offset)
    present = track.level >= bar.frame_level
    span = _span(present[track.loud])
    if span is None:
        return replace(
            grade,
            faults=(
                "what was sent is nowhere heard for 100 ms"
                f" (best likeness {alignment.likeness:.2f}, heard {level_dbfs(heard.samples):.1f}"
                " dBFS)",
            ),
        )
    places = np.flatnonzero(track.loud)
    # A recording may begin and end somewhere within a frame: those two are not judged.
    first, last = int(places[span[0] + 1]), int(places[span[1] - 2]) + 1
    return (
        replace(
            grade,
            start_s=max(0.0, first * FRAME_S + float(track.offsets[first]) / heard.rate_hz),
            seconds=(last - first) * FRAME_S,
            coverage=(span[1] - span[0]) / len(places),
            gain_db=track.gain_db(first, last),
            drift_ppm=track.drift_ppm(),
        ),
        track,
        (first, last),
    )


def _loud_levels(track: Track, span: tuple[int, int]) -> _Figures:
    frames = span[0] + np.flatnonzero(track.loud[span[0] : span[1]])
    return _Figures("frames of 20 ms", track.level[frames], track.frames_at_s(frames))


# ---------------------------------------------------------------- what all have in common


@dataclass(frozen=True, slots=True, eq=False)
class _Figures:
    """One figure per window or frame, and where in the recording each begins: float64 (n,)."""

    named: str
    values: Floats
    at_s: Floats

    @property
    def worst(self) -> float | None:
        return float(self.values.min()) if len(self.values) else None

    def short_of(self, least: float, allowed: float) -> str:
        """Say how many fall short and where, if they are more than the share `allowed`."""
        short = np.flatnonzero(self.values < least)
        if len(short) <= allowed * len(self.values):
            return ""
        places = ", ".join(f"{self.at_s[i]:.2f} s" for i in short[:_PLACES_TOLD])
        more = ", ..." if len(short) > _PLACES_TOLD else ""
        return f"{len(short)} of {len(self.values)} {self.named} (at {places}{more})"


def _finish(
    grade: Grade,
    bar: Bar,
    *,
    snr: _Figures | None,
    level: _Figures,
    longest_s: float,
    faults: tuple[str, ...],
) -> Grade:
    """Hold windows, frames, continuity and speed against the bar."""
    found = list(faults)
    if snr is not None:
        grade = replace(grade, windows=len(snr.values), worst_snr_db=snr.worst)
        if short := snr.short_of(bar.snr_db, bar.allowed):
            found.append(f"under {bar.snr_db:g} dB SNR: {short}")
    grade = replace(grade, frames=len(level.values), weakest_frame=level.worst)
    if short := level.short_of(bar.frame_level, bar.allowed):
        found.append(f"under {bar.frame_level:g} of the RMS sent: {short}")
    if longest_s + 1e-9 < bar.seconds:
        found.append(f"only {longest_s:.2f} s in a row hold what was sent, not {bar.seconds:g} s")
    if grade.drift_ppm is not None and abs(grade.drift_ppm) > bar.drift_ppm:
        found.append(f"it runs {grade.drift_ppm:+.0f} ppm off the speed it was sent with")
    if not grade.windows or not grade.frames:
        found.append("no window could be compared")
    return replace(grade, faults=tuple(found))


def _cannot_compare(heard: Sound, leg_rate_hz: int | None) -> str:
    if leg_rate_hz is not None and heard.rate_hz != leg_rate_hz:
        return f"heard at {heard.rate_hz} Hz on a leg of {leg_rate_hz} Hz"
    if len(heard.samples) < heard.frame:
        return "nothing was recorded"
    return ""


def _loud_rms(sound: Sound) -> float:
    """Return the RMS of a sound without the silence around it."""
    rms = frame_rms(sound.samples, sound.frame)
    loud = rms[rms >= rms.max() / 2]
    return float(np.sqrt(np.mean(loud**2)))


def _span(present: Flags) -> tuple[int, int] | None:
    """Return [first, last) from the first run of `_EDGE_FRAMES` to the end of the last one."""
    if len(present) < _EDGE_FRAMES:
        return None
    runs = np.flatnonzero(
        np.lib.stride_tricks.sliding_window_view(present, _EDGE_FRAMES).all(axis=1)
    )
    return (int(runs[0]), int(runs[-1]) + _EDGE_FRAMES) if len(runs) else None


def _longest(flags: Flags) -> int:
    """Return the length of the longest run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], flags.astype(np.int8), [0]))))
    return int((edges[1::2] - edges[::2]).max(initial=0))


def _clipped(sent: Sound, heard: Sound) -> tuple[str, ...]:
    tops, before = _flat_tops(heard), _flat_tops(sent)
    if tops <= before:
        return ()
    return (f"clipped: {tops} flat tops near full scale, {before} in what was sent",)


def _flat_tops(sound: Sound) -> int:
    loud = np.abs(sound.samples.astype(np.int32)) >= _TOP
    edges = np.flatnonzero(np.diff(np.concatenate(([0], loud.astype(np.int8), [0]))))
    return int(np.sum(edges[1::2] - edges[::2] >= _FLAT_TOP))


def _resampled(sound: Sound, rate_hz: int) -> Sound:
    if sound.rate_hz == rate_hz:
        return sound
    from scipy.signal import resample_poly  # here: it loads longer than all of the rest

    common = math.gcd(sound.rate_hz, rate_hz)
    samples = resample_poly(
        sound.samples.astype(np.float64), rate_hz // common, sound.rate_hz // common
    )
    return Sound(np.clip(np.rint(samples), -32768, 32767).astype(np.int16), rate_hz)
