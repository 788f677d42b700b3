"""The files of a recording that are written at the same time, and their rotation."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import numpy.typing as npt

from voip.errors import AudioFileError
from voip.media.record.encoders import Encoder, encoder
from voip.media.record.plan import RecordPlan
from voip.media.record.sidecar import Journal

__all__ = ["Tracks"]

FLUSH_S = 1.0
"""How much sound a recording that is cut off may miss."""
CHECK_S = 0.1
"""How often a file that may only have so many octets is looked at."""
_FRAME_BYTES = 2


class Tracks:
    """Takes frames, int16 (samples, channels), and cuts them into files without a seam."""

    def __init__(self, plan: RecordPlan, journal: Journal) -> None:
        self._plan = plan
        self._journal = journal
        self._rate_hz = journal.rate_hz
        self._number = 0
        self._frames = 0  # in the present files
        self._flushed = 0
        self._files: list[tuple[Encoder, dict[str, object]]] = []
        self._limit = (
            None if plan.rotate_s is None else max(1, round(plan.rotate_s * self._rate_hz))
        )

    def open(self) -> None:
        """Make the first files; raises `AudioFileError`."""
        self._open()

    def _open(self) -> None:
        plan = self._plan
        self._number += 1
        self._frames = self._flushed = 0
        for track in plan.tracks:
            path = plan.path_of(track, self._number)
            title = str(self._journal.about.get("call_id", ""))
            made = encoder(path, plan.format, self._rate_hz, plan.file_channels, title)
            self._files.append((made, self._journal.file(path, track, self._number)))

    def write(self, pcm: npt.NDArray[np.int16]) -> bool:
        """Append frames; return whether new files were begun."""
        rotated = False
        while pcm.shape[0]:
            if self._is_full():
                self.close()
                self._open()
                rotated = True
            count = pcm.shape[0]
            if self._limit is not None:
                count = min(count, self._limit - self._frames)
            if self._plan.rotate_bytes is not None:
                count = min(count, max(1, int(CHECK_S * self._rate_hz)))
            self._put(pcm[:count])
            pcm = pcm[count:]
        if self._frames - self._flushed >= FLUSH_S * self._rate_hz:
            for made, _ in self._files:
                made.flush()
            self._flushed = self._frames
        return rotated

    def _put(self, pcm: npt.NDArray[np.int16]) -> None:
        for place, (made, entry) in enumerate(self._files):
            channels = self._plan.file_channels
            made.write(pcm[:, place * channels : (place + 1) * channels])
            entry["frames"] = self._frames + pcm.shape[0]
            entry["duration_s"] = round((self._frames + pcm.shape[0]) / self._rate_hz, 6)
        self._frames += pcm.shape[0]
        self._journal.frames += pcm.shape[0]

    def _is_full(self) -> bool:
        if self._limit is not None and self._frames >= self._limit:
            return True
        limit = self._plan.rotate_bytes
        if limit is None or not self._frames:
            return False
        ahead = int(CHECK_S * self._rate_hz) * _FRAME_BYTES * self._plan.file_channels
        return any(made.size + ahead > limit for made, _ in self._files)

    def close(self) -> None:
        """Make all files whole; raises the first failure when all are closed."""
        failure: AudioFileError | None = None
        files, self._files = self._files, []
        for made, entry in files:
            try:
                made.close()
            except AudioFileError as error:
                failure = failure or error
            else:
                entry["bytes"] = made.size
        if failure is not None:
            raise failure

    def give_up(self) -> None:
        """Close what there is after a failure."""
        with suppress(AudioFileError):
            self.close()
