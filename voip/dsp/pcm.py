"""Between the two kinds of PCM: float32 in [-1, 1), which is worked in, and int16 at the edges."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["to_int16"]


def to_int16(pcm: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.int16]:
    """Return int16 of the same shape: nearest, half to even; what is out of [-1, 1) saturates."""
    scaled = pcm * np.float32(32768.0)
    np.rint(scaled, out=scaled)
    np.clip(scaled, -32768, 32767, out=scaled)
    rounded: npt.NDArray[np.int16] = scaled.astype(np.int16)
    return rounded
