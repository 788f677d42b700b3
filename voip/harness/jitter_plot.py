"""A picture of what a jitter buffer did, of its log (`call.jitter_log`).

Above, the delay and what it aims at; then the packets that wait, the sound that was made up, put in
and left out, and the packets that came too late. It is drawn by Matplotlib, which is optional.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from voip.errors import ConfigError
from voip.media.jitter_log import FIELDS, MOST_EVENTS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["JitterTimeline", "draw"]

_FIGURES: Final = tuple(name for name in FIELDS if name != "event")
_MADE: Final = {
    "concealed_ms": "made up: a gap",
    "expanded_ms": "put in",
    "accelerated_ms": "left out",
}
"""What was done to sound, and how that is told."""
_COUNTED: Final = {"packets_late": ("late", "-"), "packets_dropped": ("dropped", "--")}
_SIZE: Final = (11.0, 8.0)
_DPI: Final = 120


@dataclass(frozen=True, slots=True)
class JitterTimeline:
    """The lines of a log as columns, float64 (lines,), by their names in `FIELDS`.

    `time_s` counts from the first line.
    """

    columns: dict[str, npt.NDArray[np.float64]]

    @classmethod
    def read(cls, path: Path) -> JitterTimeline:
        """Read a file of CSV; raises `ConfigError` where it is no log of a jitter buffer."""
        try:
            with path.open(newline="", encoding="utf-8", errors="replace") as file:
                return cls.of(file, str(path))
        except OSError as error:
            raise ConfigError(f"{path} cannot be read: {error.strerror}") from error

    @classmethod
    def of(cls, lines: Iterable[str], name: str = "it") -> JitterTimeline:
        """Take lines of CSV; `name` is for messages."""
        reader = csv.reader(lines)
        rows: list[list[float]] = []
        try:
            if tuple(next(reader, ())) != FIELDS:
                raise ConfigError(
                    f"{name} is no log of a jitter buffer", hint="write call.jitter_log() to it"
                )
            for row in reader:
                rows.append(_figures(row))
                if len(rows) > MOST_EVENTS:
                    raise ConfigError(f"{name} has more than {MOST_EVENTS} lines")
        except (ValueError, csv.Error) as error:
            raise ConfigError(f"line {reader.line_num} of {name} is no line of a log") from error
        if not rows:
            raise ConfigError(f"nothing was logged in {name}", hint="log_jitter comes first")
        figures = np.array(rows).T
        columns = dict(zip(_FIGURES, figures, strict=True))
        return cls({**columns, "time_s": columns["time_s"] - columns["time_s"][0]})

    def grown(self, name: str) -> npt.NDArray[np.float64]:
        """Return by how much a figure grew from line to line: float64 (lines,).

        Nothing at the first: what it has may be from before the log.
        """
        return np.diff(self.columns[name], prepend=self.columns[name][0])


def draw(timeline: JitterTimeline, title: str = "") -> Figure:
    """Return the picture; raises `ConfigError` where there is no Matplotlib."""
    try:
        from matplotlib.figure import Figure  # here: nothing else needs it
    except ImportError:
        raise ConfigError(
            "a picture needs Matplotlib", hint="pip install 'voip-softphone[quality]'"
        ) from None
    figure = Figure(figsize=_SIZE, dpi=_DPI, layout="constrained")
    delay, depth, sound, packets = figure.subplots(4, 1, sharex=True)
    columns = timeline.columns
    at = columns["time_s"]
    delay.set(title=title, ylabel="ms")
    delay.step(at, columns["target_ms"], where="post", label="target")
    delay.plot(at, columns["delay_ms"], marker=".", linewidth=0.8, label="delay")
    depth.set_ylabel("packets")
    depth.step(at, columns["packets_waiting"], where="post", label="waiting")
    sound.set_ylabel("ms in a step")
    for number, (name, label) in enumerate(_MADE.items()):
        grown = timeline.grown(name)
        some = grown > 0
        total = f"{label}, {grown.sum():.0f} ms"
        sound.vlines(at[some], 0, grown[some], color=f"C{number}", label=total)
    packets.set(xlabel="seconds", ylabel="packets")
    for name, (label, style) in _COUNTED.items():
        count = timeline.grown(name).cumsum()
        packets.step(at, count, style, where="post", label=f"{label}, {count[-1]:.0f}")
    for axis in (delay, depth, sound, packets):
        axis.grid(alpha=0.3)
        axis.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize="small")
    return figure


def _figures(row: list[str]) -> list[float]:
    """Return the figures of a line; ValueError where it is none."""
    if len(row) != len(FIELDS):
        raise ValueError(f"{len(row)} fields")
    return [float(text) for name, text in zip(FIELDS, row, strict=True) if name != "event"]
