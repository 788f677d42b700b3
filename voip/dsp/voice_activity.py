"""Whether somebody speaks: by level, against the noise that is there, with hysteresis.

`VoiceActivity` is made for barge-in, where a late answer costs a fifth of a second and a false one
a prompt: a voice is what is well above the noise for most of a while. `VoiceFloor` is made for
silence that is not sent, of many streams at once: there a false answer costs a packet, and a late
one the beginning of a word. The floor follows the quietest of the last seconds, as minimum
statistics do (Martin, IEEE Trans. SAP 9(5), 2001), by whole frames.
"""

from __future__ import annotations

from collections import deque

import numpy as np
import numpy.typing as npt

__all__ = ["FRAME_MS", "VoiceActivity", "VoiceFloor"]

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

ABOVE_DB = 6.0
"""A step this far above the floor is a voice to `VoiceFloor`: noise by itself is rarely."""
INAUDIBLE_DBFS = -66.0
"""What is fainter is none: 60 dB below speech of the usual level, and below what G.711 codes."""
LOUD_DBFS = -40.0
"""What is louder is never background, however steady: tones are, and music."""
_UNKNOWN_DB = 1000.0
_SMOOTH_S = 0.06
_PIECES, _PIECE_S = 8, 0.4
"""The floor is the least of the last 3.2 s."""


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


class VoiceFloor:
    """Says of steps of many streams whether there is a voice in them; by row.

    By level, and by that of the difference from sample to sample, which is what is high in it: a
    consonant may be softer than the hum it comes before.
    """

    def __init__(self, rows: int) -> None:
        self._level = np.full((rows, 2), _UNKNOWN_DB)
        self._least = np.full((rows, _PIECES, 2), np.inf)
        self._piece = np.zeros(rows, np.int64)
        self._left = np.full(rows, _PIECE_S)

    def grow(self, rows: int) -> None:
        """Make room for `rows` rows in all."""
        more = VoiceFloor(rows - self._piece.size)
        self._level = np.concatenate((self._level, more._level))
        self._least = np.concatenate((self._least, more._least))
        self._piece = np.concatenate((self._piece, more._piece))
        self._left = np.concatenate((self._left, more._left))

    def reset(self, row: int) -> None:
        """Know nothing of a row."""
        self._level[row] = _UNKNOWN_DB
        self._least[row] = np.inf
        self._left[row] = _PIECE_S

    def hear(
        self, rows: npt.NDArray[np.intp], pcm: npt.NDArray[np.float32], seconds: float
    ) -> npt.NDArray[np.bool_]:
        """Take a step of `rows` (k,), float32 (k, samples) of so many seconds: is it a voice, (k,).

        What has been the same for some seconds, and is not loud, is none.
        """
        high = pcm[:, 1:] - pcm[:, :-1]
        power = np.empty((rows.size, 2))
        power[:, 0] = np.einsum("ij,ij->i", pcm, pcm) / pcm.shape[1]
        power[:, 0] -= np.square(pcm.mean(axis=1, dtype=np.float64))
        power[:, 1] = np.einsum("ij,ij->i", high, high) / max(high.shape[1], 1)
        level = 10.0 * np.log10(np.maximum(power, 1e-9))
        before = self._level[rows]
        share = min(1.0, seconds / _SMOOTH_S)
        smooth = np.where(before == _UNKNOWN_DB, level, before + (level - before) * share)
        self._level[rows] = smooth
        over = self._left[rows] <= 0.0
        self._left[rows] = np.where(over, _PIECE_S, self._left[rows]) - seconds
        self._piece[rows[over]] = (self._piece[rows[over]] + 1) % _PIECES
        piece = self._piece[rows]
        self._least[rows[over], piece[over]] = np.inf
        self._least[rows, piece] = np.minimum(self._least[rows, piece], smooth)
        floor = np.maximum(self._least[rows].min(axis=1), INAUDIBLE_DBFS - ABOVE_DB)
        voice: npt.NDArray[np.bool_] = (level > floor + ABOVE_DB).any(axis=1)
        return voice | (level[:, 0] > LOUD_DBFS)
