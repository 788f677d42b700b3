"""What is to be known about a recording, as JSON beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from voip.errors import AudioFileError

__all__ = ["MAX_ENTRIES", "Journal", "iso"]

MAX_ENTRIES = 10_000
"""Files, pauses and gaps told of one by one, each; the rest are counted."""


def iso(wall: float) -> str:
    """Return a time of day, seconds since 1970, as ISO 8601 in UTC, to the millisecond."""
    return datetime.fromtimestamp(wall, UTC).isoformat(timespec="milliseconds")


@dataclass(slots=True)
class Journal:
    """Keeps account of a recording. Positions and lengths are frames of the files at `rate_hz`."""

    about: Mapping[str, object]
    channels: tuple[str, ...]
    format: str
    rate_hz: int
    started: float  # of the first frame, seconds since 1970
    pre_roll: int = 0
    beep: Mapping[str, object] | None = None
    frames: int = 0
    paused: int | None = None  # how long the present pause has lasted, None: it goes on
    pauses: list[tuple[int, int]] = field(default_factory=list)
    gaps: list[tuple[int, int]] = field(default_factory=list)
    files: list[dict[str, object]] = field(default_factory=list)
    gap_frames: int = 0
    pause_frames: int = 0
    dropped_entries: int = 0
    failure: str | None = None
    ended: bool = False

    def gap(self, frames: int) -> None:
        """Sound was lost here, and is silence of the same length."""
        self.gap_frames += frames
        self._note(self.gaps, (self.frames, frames))

    def pause(self, frames: int) -> None:
        """It was paused here, and `frames` are not in it."""
        self.pause_frames += frames
        self._note(self.pauses, (self.frames, frames))

    def _note(self, entries: list[tuple[int, int]], entry: tuple[int, int]) -> None:
        if len(entries) < MAX_ENTRIES:
            entries.append(entry)
        else:
            self.dropped_entries += 1

    def file(self, path: Path, track: str, number: int) -> dict[str, object]:
        """A file begins here; what is returned may be added to."""
        entry: dict[str, object] = {
            "name": path.name,
            "start_s": self._seconds(self.frames),
            "duration_s": 0.0,
            "frames": 0,
        }
        if track:
            entry["track"] = track
        if len(self.files) < MAX_ENTRIES:
            self.files.append(entry)
        else:
            self.dropped_entries += 1
        return entry

    def as_dict(self) -> dict[str, object]:
        """Return all of it, as it is written."""
        taken = self.frames + self.pause_frames
        return {
            "version": 1,
            **self.about,
            "started": iso(self.started),
            "ended": iso(self.started + taken / self.rate_hz) if self.ended else None,
            "format": self.format,
            "rate_hz": self.rate_hz,
            "channels": list(self.channels),
            "frames": self.frames,
            "duration_s": self._seconds(self.frames),
            "pre_roll_s": self._seconds(self.pre_roll),
            "beep": self.beep,
            "pauses": [self._span(*pause) for pause in self.pauses],
            "gaps": [self._span(*gap) for gap in self.gaps],
            "files": self.files,
            "entries_left_out": self.dropped_entries,
            "failure": self.failure,
        }

    def write(self, path: Path) -> None:
        """Write it in one go: who reads sees the old one or the new one, never a half."""
        beside = path.with_name(path.name + ".part")
        try:
            beside.write_text(json.dumps(self.as_dict(), indent=2) + "\n", encoding="utf-8")
            beside.replace(path)
        except OSError as error:
            raise AudioFileError(f"{path} cannot be written: {error.strerror or error}") from None

    def _span(self, at: int, frames: int) -> dict[str, float]:
        return {"at_s": self._seconds(at), "seconds": self._seconds(frames)}

    def _seconds(self, frames: int) -> float:
        return round(frames / self.rate_hz, 6)
