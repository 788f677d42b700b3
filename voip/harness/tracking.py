"""Following what was sent through what was heard, as playout speeds up, waits and drifts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from voip.harness.audio import (
    FRAME_S,
    WINDOW_S,
    Floats,
    Pcm,
    Sound,
    correlation,
    cut,
    decibels,
    frame_rms,
    snr_db,
)

__all__ = ["Track", "follow"]

_FRAMES_PER_WINDOW = round(WINDOW_S / FRAME_S)
_REACH_S = 0.060  # a step of the playout: three packets dropped or repeated at once
_ALIKE = 0.8  # so alike must another place be before it is believed: a hole has lookalikes
_BETTER = 0.02  # and so much more than where it was expected
_LOUD = 0.25  # frames and windows above this share of the RMS sent are compared
_TAPS = 21  # enough for part of a sample of delay up to the fricatives
_DRIFT_S = 0.5
_DRIFT_PAIRS = 5

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """Where each 20 ms frame of `sent` is in `heard`. Both at one rate.

    `offsets`: int64 (frames,), samples from a place in `sent` to the same in `heard`, one value per
    window of 100 ms. `loud`: bool (frames,), which frames hold sound to compare. `level`: float64
    (frames,), RMS heard over RMS sent; 0 where `heard` has begun too late or ended too soon.
    """

    sent: Sound
    heard: Sound
    offsets: npt.NDArray[np.int64]
    loud: Flags
    level: Floats

    @property
    def loud_windows(self) -> Flags:
        """Which windows of 100 ms hold sound, bool (windows,)."""
        return _loud(self.sent, self.sent.frame * _FRAMES_PER_WINDOW)

    def windows_inside(self, span: tuple[int, int]) -> slice:
        """Return the whole windows between frames `span[0]` and `span[1]`."""
        first, last = span
        return slice(-(-first // _FRAMES_PER_WINDOW), last // _FRAMES_PER_WINDOW)

    def frames_at_s(self, frames: npt.NDArray[np.int64]) -> Floats:
        """Return where in `heard` these frames of `sent` begin, in seconds."""
        at_s: Floats = frames * FRAME_S + self.offsets[frames] / self.heard.rate_hz
        return at_s

    def windows_at_s(self, inside: slice) -> Floats:
        """Return where in `heard` these windows of `sent` begin, in seconds."""
        return self.frames_at_s(np.arange(inside.start, inside.stop) * _FRAMES_PER_WINDOW)

    def window_snr_db(self, inside: slice) -> Floats:
        """Return what of each window is `sent`, through a filter of 21 taps, over what is not.

        A window in which little was sent is measured against the power of the loud ones.
        """
        length = self.sent.frame * _FRAMES_PER_WINDOW
        windows = range(inside.start, inside.stop)
        padded = np.pad(self.sent.samples.astype(np.float64), _TAPS // 2)
        shifted = np.lib.stride_tricks.sliding_window_view(padded, _TAPS)
        explained, rest = np.zeros(len(windows)), np.zeros(len(windows))
        for i, window in enumerate(windows):
            start = window * length
            offset = int(self.offsets[window * _FRAMES_PER_WINDOW])
            heard = _slice(self.heard.samples, start + offset, length).astype(np.float64)
            image = _filtered(shifted[start : start + length], heard)
            explained[i] = np.mean(image**2)
            rest[i] = np.mean((heard - image) ** 2)
        loud = self.loud_windows[inside]
        usual = float(explained[loud].mean()) if loud.any() else 0.0
        signal = np.where(loud, explained, np.maximum(explained, usual))
        return np.array([snr_db(s, r) for s, r in zip(signal, rest, strict=True)])

    def gain_db(self, first: int, last: int) -> float:
        """Return the gain of the loud frames in [first, last), by their median."""
        levels = self.level[first:last][self.loud[first:last]]
        return decibels(float(np.median(levels)) ** 2)

    def drift_ppm(self) -> float | None:
        """Return how much longer (+) or shorter the heard is; None with too few loud windows.

        The median over pairs of loud windows half a second apart: a step of the playout moves few
        pairs, a wrong rate moves all. One sample is the resolution: 250 ppm at 8 kHz.
        """
        apart = round(_DRIFT_S / WINDOW_S)
        loud = self.loud_windows
        offsets = self.offsets[::_FRAMES_PER_WINDOW][: len(loud)]
        both = loud[apart:] & loud[:-apart]
        if both.sum() < _DRIFT_PAIRS:
            return None
        moved = np.median((offsets[apart:] - offsets[:-apart])[both])
        return float(moved / (self.sent.rate_hz * _DRIFT_S) * 1e6)

    def excerpt(self, first: int, last: int) -> tuple[Pcm, Pcm]:
        """Return the samples sent and heard of frames [first, last), equally long."""
        start = first * self.sent.frame
        length = (last - first) * self.sent.frame
        offset = int(np.median(self.offsets[first:last]))
        return (
            _slice(self.sent.samples, start, length),
            _slice(self.heard.samples, start + offset, length),
        )


def follow(sent: Sound, heard: Sound, offset: int) -> Track:
    """Follow `sent` through `heard`, window by window, both ways from where `offset` fits best.

    Each loud window is looked for within 60 ms of where the one before it was.
    """
    frame = sent.frame
    length = frame * _FRAMES_PER_WINDOW
    reach = round(_REACH_S * sent.rate_hz)
    windows = len(sent.samples) // length
    loud = _loud(sent, length)
    placed = np.full(windows, offset, np.int64)
    anchor = _best_window(sent, heard, offset, length)
    for order in (range(anchor, windows), range(anchor - 1, -1, -1)):
        here = offset
        for window in order:
            start = window * length
            covered = start + here >= 0 and start + here + length <= len(heard.samples)
            if loud[window] and covered:
                here += _nudge(
                    sent.samples[start : start + length],
                    _slice(heard.samples, start + here - reach, length + 2 * reach),
                )
            placed[window] = here
    frames = len(sent.samples) // frame
    offsets = np.repeat(placed, _FRAMES_PER_WINDOW)[:frames]
    offsets = (
        np.pad(offsets, (0, frames - len(offsets)), mode="edge")
        if windows
        else (np.full(frames, offset, np.int64))
    )
    sent_rms = frame_rms(sent.samples, frame)
    heard_rms = np.array(
        [
            np.sqrt(np.mean(_slice(heard.samples, n * frame + int(o), frame).astype(float) ** 2))
            for n, o in enumerate(offsets)
        ]
    )
    level = np.divide(heard_rms, sent_rms, out=np.zeros(frames), where=sent_rms > 0)
    return Track(sent, heard, offsets, _loud(sent, frame), level)


def _filtered(shifted: Floats, heard: Floats) -> Floats:
    """Return what of `heard` (samples,) the columns of `shifted` (samples, taps) explain.

    Least squares by the normal equations; the ridge keeps them solvable for narrow-band sound and
    costs nothing above 90 dB.
    """
    gram = shifted.T @ shifted
    ridge = 1e-9 * np.trace(gram) / len(gram)
    if ridge <= 0:
        return np.zeros(len(heard))
    image: Floats = shifted @ np.linalg.solve(gram + ridge * np.eye(len(gram)), shifted.T @ heard)
    return image


def _best_window(sent: Sound, heard: Sound, offset: int, length: int) -> int:
    """Return the window of `sent` that is most alike to `heard` at `offset`."""
    reference = cut(sent.samples, length)
    found = cut(_slice(heard.samples, offset, reference.size), length)
    scale = np.sqrt(np.sum(reference**2, axis=1) * np.sum(found**2, axis=1))
    alike = np.abs(np.sum(reference * found, axis=1))
    loud = _loud(sent, length) & (scale > 0)
    likeness = np.divide(alike, scale, out=np.zeros(len(scale)), where=loud)
    return int(np.argmax(likeness)) if len(likeness) else 0


def _loud(sent: Sound, length: int) -> Flags:
    rms = frame_rms(sent.samples, length)
    flags: Flags = rms >= _LOUD * np.sqrt(np.mean(sent.samples.astype(np.float64) ** 2))
    return flags


def _nudge(sent: Pcm, around: Pcm) -> int:
    """Return by how many samples from the middle of `around` its likest place to `sent` is off."""
    reach = (len(around) - len(sent)) // 2
    reference = sent.astype(np.float64)
    field = around.astype(np.float64)
    product = np.abs(correlation(field, reference)[len(sent) - 1 : len(around)])
    energy = np.concatenate(([0.0], np.cumsum(field**2)))
    covered = np.maximum(energy[len(sent) :] - energy[: -len(sent)], 0.0)
    scale = np.sqrt(covered * np.sum(reference**2))
    likeness = np.divide(product, scale, out=np.zeros(len(product)), where=scale > 0)
    best = int(np.argmax(likeness))
    moved = likeness[best] > max(_ALIKE, likeness[reach] + _BETTER)
    return best - reach if moved else 0


def _slice(samples: Pcm, start: int, length: int) -> Pcm:
    """Return `samples[start:start + length]`, zeros where there are none."""
    out = np.zeros(length, np.int16)
    first, last = max(start, 0), min(start + length, len(samples))
    if first < last:
        out[first - start : last - start] = samples[first:last]
    return out
