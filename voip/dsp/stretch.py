"""Time-scale modification: sound made shorter or longer, mostly by pitch periods.

WSOLA, a step at a time: playout jumps from one place of the sound to another that goes on most
alike, and leads over in a cross-fade (Verhelst, Roelands, "An overlap-add technique based on
waveform similarity (WSOLA) for high quality time-scale modification of speech", ICASSP 1993). The
playout by it: Liang, Färber, Girod, "Adaptive playout scheduling and loss concealment for voice
communication over IP networks" (IEEE Transactions on Multimedia 5, 2003). Batch-first, no state.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

__all__ = ["FADE_S", "jump", "likeness", "resemblance"]

FADE_S = 0.010
"""How much of both places is compared, and cross-faded."""

Pcm = npt.NDArray[np.float32]


def likeness(pcm: Pcm, shortest: int, longest: int, *, back: bool, rate_hz: int = 8000) -> Pcm:
    """Return how alike the two places of a jump are: float32 (k, longest - shortest + 1).

    `pcm`: float32 (k, samples), what is heard next, at least `longest` samples and `FADE_S`. Column
    n is a jump of `shortest` + n samples: ahead from the beginning, or `back` from `longest` on. 1
    is as alike as can be.
    """
    fade = round(FADE_S * rate_hz)
    here = pcm[:, longest : longest + fade] if back else pcm[:, :fade]
    alike = resemblance(pcm[:, : longest + fade], here)
    return alike[:, longest - shortest :: -1] if back else alike[:, shortest:]


def resemblance(pcm: Pcm, template: Pcm) -> Pcm:
    """Return how alike `template` each place of `pcm` is, of each stream: the cosine between them.

    float32 (k, samples), (k, width) -> (k, samples - width + 1).
    """
    sound = np.ascontiguousarray(pcm)
    width = template.shape[1]
    places = np.ndarray(  # what begins at each sample
        (sound.shape[0], sound.shape[1] - width + 1, width),
        np.float32,
        sound,
        0,
        (sound.strides[0], sound.itemsize, sound.itemsize),
    )
    alike: Pcm = np.einsum("kif,kf->ki", places, template)
    energy = np.einsum("kif,kif->ki", places, places)
    own = np.einsum("kf,kf->k", template, template)[:, None]
    alike /= np.sqrt(np.maximum(energy * own, 1e-12))
    return alike


def jump(pcm: Pcm, by: int, *, longest: int, back: bool, rate_hz: int = 8000) -> Pcm:
    """Return one stream's `pcm`, float32 (samples,), shorter by `by` samples, or longer (`back`).

    By at most `longest`, as `likeness` was asked for.
    """
    fade = round(FADE_S * rate_hz)
    start = longest if back else 0
    there = start - by if back else by
    here = pcm[start : start + fade]
    lead = here + _rising(fade) * (pcm[there : there + fade] - here)
    return np.concatenate((pcm[:start], lead, pcm[there + fade :]))


@cache
def _rising(width: int) -> Pcm:
    """Return the weights of the place that is jumped to, by sample."""
    return (0.5 - 0.5 * np.cos(np.pi * np.arange(1, width + 1) / (width + 1))).astype(np.float32)
