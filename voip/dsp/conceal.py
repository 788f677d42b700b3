"""Packet loss concealment by repetition and fade: the last pitch period again, ever more softly.

Array functions without state of their own: a gap is described by the samples before it, which the
caller keeps, and by how long it has lasted. Any caller that steps through a gap in pieces hears
the same as one that asks for it at once. The idea (not the procedure) is that of ITU-T G.711
appendix I: a loop of one period, chosen by correlation, is continuous where a loop of one packet
clicks. Where the packet after the gap is there already, its own loop is led into, backwards.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

__all__ = ["FADE_S", "HISTORY_S", "HOLD_S", "REJOIN_S", "blend", "bridge", "conceal", "rejoin"]

HISTORY_S = 0.020
"""How much of the past is needed: the longest period and what it is compared by."""
HOLD_S = 0.010
"""A gap is filled at full level for this long,"""
FADE_S = 0.060
"""and is silent from here on."""
REJOIN_S = 0.004
"""How long the first good samples are blended with what concealment would have gone on with."""

_SHORTEST_S, _LONGEST_S, _TEMPLATE_S = 0.005, 0.015, 0.005  # periods tried; compared over 5 ms
_DECLICK_S = 0.001


def conceal(
    history: npt.NDArray[np.float32],
    elapsed: npt.NDArray[np.int64],
    count: int,
    *,
    rate_hz: int = 8000,
) -> npt.NDArray[np.float32]:
    """Return what to play for samples [elapsed, elapsed + count) of a gap: float32 (k, count).

    `history`: float32 (k, samples), the last good samples of each stream, at least `HISTORY_S`;
    `elapsed`: int (k,), samples of the gap that were concealed before.
    """
    audible = elapsed < FADE_S * rate_hz
    if audible.size and audible.all():
        return _repeat(history, elapsed, count, rate_hz)
    sound = np.zeros((history.shape[0], count), np.float32)
    if audible.any():  # a stream that is silent for long costs nothing
        sound[audible] = _repeat(history[audible], elapsed[audible], count, rate_hz)
    return sound


def rejoin(
    history: npt.NDArray[np.float32],
    elapsed: npt.NDArray[np.int64],
    pcm: npt.NDArray[np.float32],
    *,
    rate_hz: int = 8000,
) -> None:
    """Cross-fade, in place, from a gap of `elapsed` (k,) samples into good `pcm` (k, samples).

    `history` as it was given to `conceal` for this gap.
    """
    width = round(REJOIN_S * rate_hz)
    blend(conceal(history, elapsed, width, rate_hz=rate_hz), pcm)


def bridge(
    sound: npt.NDArray[np.float32], following: npt.NDArray[np.float32], *, rate_hz: int = 8000
) -> None:
    """Lead, in place, from the last concealment of a gap, `sound` (k, count), to what follows it.

    `following`: float32 (k, samples), what is heard next, at least `HISTORY_S`. What it repeats,
    played backwards, comes in as much as the past goes out. Nothing is to be blended after that.
    """
    mirrored = np.ascontiguousarray(following[:, round(HISTORY_S * rate_hz) - 1 :: -1])
    begun = np.zeros(sound.shape[0], np.int64)
    back = conceal(mirrored, begun, sound.shape[1], rate_hz=rate_hz)[:, ::-1]
    sound += _ramp_up(sound.shape[1]) * (back - sound)


def blend(old: npt.NDArray[np.float32], pcm: npt.NDArray[np.float32]) -> None:
    """Cross-fade, in place, from `old` (k, width) into the beginning of `pcm` (k, samples).

    For callers that have asked for what concealment goes on with beforehand.
    """
    width = min(old.shape[1], pcm.shape[1])
    old, beginning = old[:, :width], pcm[:, :width]
    beginning -= old
    beginning *= _ramp_up(width)
    beginning += old


@cache
def _ramp_up(width: int) -> npt.NDArray[np.float32]:
    """Return the weights of what comes, by sample."""
    return (np.arange(1, width + 1) / np.float32(width + 1)).astype(np.float32)


@cache
def _ramps(
    rate_hz: int,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return the weights of loop seam, first samples, and fade, by sample."""
    seam = round(_TEMPLATE_S * rate_hz)
    declick = round(_DECLICK_S * rate_hz)
    fade = np.linspace(1, 0, round((FADE_S - HOLD_S) * rate_hz), dtype=np.float32)
    return (
        np.linspace(1 / seam, 1, seam, dtype=np.float32),
        np.append(np.linspace(1 - 1 / declick, 0, declick, dtype=np.float32), np.float32(0)),
        np.concatenate((np.ones(round(HOLD_S * rate_hz), np.float32), fade)),
    )


def _repeat(
    history: npt.NDArray[np.float32], elapsed: npt.NDArray[np.int64], count: int, rate_hz: int
) -> npt.NDArray[np.float32]:
    seam, declick, fade = _ramps(rate_hz)
    loop = np.array(history)  # its last `period` samples
    streams, past = loop.shape
    period = _period(loop, rate_hz)[:, None]
    end = np.arange(past, (streams + 1) * past, past)[:, None]  # of each row, in all samples
    begin = end - period

    # The end of the loop leads over into its beginning, that is, into the samples before it.
    tail = loop[:, -seam.size :]
    before = loop.ravel().take(begin + np.arange(-seam.size, 0))
    step = tail[:, -1:] - before[:, -1:]
    tail += seam * (before - tail)
    at = elapsed[:, None] + np.arange(count)
    sound: npt.NDArray[np.float32] = loop.ravel().take(at % period + begin)
    if np.count_nonzero(elapsed < declick.size):  # the first sample continues the last good one
        sound[:, : declick.size] += step * declick.take(at[:, : declick.size], mode="clip")
    sound *= fade.take(at, mode="clip")
    return sound


def _period(history: npt.NDArray[np.float32], rate_hz: int) -> npt.NDArray[np.int64]:
    """Return the lag in samples (k,) at which each history resembles its end most."""
    template = round(_TEMPLATE_S * rate_hz)
    shortest = round(_SHORTEST_S * rate_hz)
    longest = round(_LONGEST_S * rate_hz)
    streams, past = history.shape
    windows = np.ndarray(  # the first one begins `longest` before the template
        (streams, longest - shortest + 1, template),
        np.float32,
        history,
        (past - template - longest) * history.itemsize,
        (history.strides[0], history.itemsize, history.itemsize),
    )
    likeness = np.einsum("kit,kt->ki", windows, history[:, -template:])
    energy = np.einsum("kit,kit->ki", windows, windows)
    likeness /= np.sqrt(np.maximum(energy, 1e-9))
    best: npt.NDArray[np.int64] = likeness.argmax(axis=1)
    return longest - best
