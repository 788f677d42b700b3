"""Whether somebody speaks: by level, against the noise that is there, with hysteresis.

Made for barge-in, where a late answer costs a fifth of a second and a false one a prompt: a voice
is what is well above the noise for most of a while. The floor follows the quietest of the last
seconds, as minimum statistics do (Martin, IEEE Trans. SAP 9(5), 2001), by whole frames.
"""

from __future__ import annotations

from collections import deque

import numpy as np
import numpy.typing as npt

__all__ = ["FRAME_MS", "VoiceActivity"]

FRAME_MS = 20
LOUD_DB = 12.0
"""How far above the noise a frame is loud."""
FAINT_DBFS = -45.0
"""What is fainter than that is no voice in a telephone, however quiet it is around it."""
_FLOOR_S = 3.0
_SETTLED = 50
_QUIET_DBFS = -50.0
_OF_LAST = 10
_LOUD_FRAMES = 7
"""How many of the last ten frames have to be loud: 140 ms of voice within 200 ms."""


class VoiceActivity:
    """Fed with frames of 20 ms, says when a voice has begun."""

    def __init__(self, *, loud_db: float = LOUD_DB, faint_dbfs: float = FAINT_DBFS) -> None:
        self._loud_db = loud_db
        self._faint_dbfs = faint_dbfs
        self._levels: deque[float] = deque(maxlen=int(1000 * _FLOOR_S / FRAME_MS))
        self._loud: deque[bool] = deque(maxlen=_OF_LAST)
        self.speaking = False

    def feed(self, frame: npt.NDArray[np.int16]) -> bool:
        """Take a frame, int16 (samples,); return whether somebody speaks."""
        if not frame.size:
            return self.speaking
        sound = frame.astype(np.float64) / 32768.0
        width = sound.size // 4 | 1
        if sound.size > width:  # hum is what a mean over 5 ms follows
            mean = np.convolve(sound, np.full(width, 1.0 / width), mode="valid")
            sound = sound[width // 2 : width // 2 + mean.size] - mean
        level = 10.0 * float(np.log10(max(float(np.mean(sound * sound)), 1e-10)))
        self._levels.append(max(level, -80.0))
        floor = min(self._levels)
        if len(self._levels) < _SETTLED:  # it may have begun with the voice
            floor = min(floor, _QUIET_DBFS)
        self._loud.append(level > max(floor + self._loud_db, self._faint_dbfs))
        loud = sum(self._loud)
        if loud >= _LOUD_FRAMES:
            self.speaking = True
        elif loud <= 1:
            self.speaking = False
        return self.speaking
