"""What was found of codecs' quality: scores, means, differences, and the bars for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any, Final

import numpy as np

from voip.codecs.opus.binding import libopus
from voip.errors import CodecError
from voip.harness.audio import Sound
from voip.harness.codec_quality.clean import CleanScore
from voip.harness.codec_quality.loss import BURST, Cell, Kind, Remedy
from voip.harness.codec_quality.speech import Band, SpeechSet

__all__ = ["FILE_BAR", "MEAN_BAR", "QualityReport"]

MEAN_BAR: Final = -0.03
FILE_BAR: Final = -0.05
"""What the mean of a set, and a single recording, may be below the other implementation."""
_FEC_FROM: Final = 10
"""Percent lost from which redundancy is to be worth its bits."""


@dataclass(slots=True)
class QualityReport:
    """Scores are MOS-LQO.

    clean: (codec, set) -> scores by recording; lossy: (codec, remedy) -> cell -> a score for each
    recording, in the order of their names.
    """

    sets: Mapping[str, SpeechSet] = field(default_factory=dict)
    seeds: int = 0
    bands: dict[str, Band] = field(default_factory=dict)
    clean: dict[tuple[str, str], dict[str, CleanScore]] = field(default_factory=dict)
    lossy: dict[tuple[str, Remedy], dict[Cell, dict[str, float]]] = field(default_factory=dict)

    def add(self, part: QualityReport) -> None:
        """Take in what a part of the work has found."""
        self.bands |= part.bands
        self.clean |= part.clean
        for key, cells in part.lossy.items():
            known = self.lossy.setdefault(key, {})
            for cell, scores in cells.items():
                known.setdefault(cell, {}).update(scores)

    def to_json(self) -> dict[str, Any]:
        """Return all means, differences and bars; nothing depends on who was done first."""
        return {
            "sets": {
                name: {"recordings": len(one.files), "seconds": round(_seconds(one), 1)}
                for name, one in self.sets.items()
            },
            "seeds": self.seeds,
            "burst": BURST,
            "libraries": _libraries(),
            "clean": list(self._clean()),
            "lossy": list(self._lossy()),
            "differences": list(self.differences()),
            "bars": self.bars(),
        }

    def _clean(self) -> Iterator[dict[str, Any]]:
        for (codec, speech), scores in sorted(self.clean.items()):
            pairs = [(one.ours, one.theirs) for one in scores.values()]
            both = [(ours, theirs) for ours, theirs in pairs if theirs is not None]
            yield {
                "codec": codec,
                "set": speech,
                "band": self.bands[codec].value,
                "recordings": len(pairs),
                "ours": _mean([ours for ours, _ in pairs]),
                "theirs": _mean([theirs for _, theirs in both]),
                "by": next((one.other for one in scores.values()), None),
                "difference": _mean([ours - theirs for ours, theirs in both]),
                "worst": _rounded(min((ours - theirs for ours, theirs in both), default=None)),
            }

    def _lossy(self) -> Iterator[dict[str, Any]]:
        for (codec, remedy), cells in self._in_order():
            means: dict[str, dict[str, float | None]] = {kind.value: {} for kind in Kind}
            for loss, kind in sorted({(cell.loss, cell.kind) for cell in cells}):
                scores = [
                    score
                    for cell, by_recording in cells.items()
                    if (cell.kind, cell.loss) == (kind, loss)
                    for score in by_recording.values()
                ]
                for where in means if loss == 0 else (kind,):
                    means[where][str(loss)] = _mean(scores)
            yield {
                "codec": codec,
                "remedy": remedy.name.lower(),
                "band": self.bands[codec].value,
                **means,
            }

    def differences(self) -> Iterator[dict[str, Any]]:
        """Yield how much better a codec's first remedy is than each other, on the same paths.

        error: the standard error of the mean difference.
        """
        best: dict[str, Remedy] = {}
        for (codec, remedy), cells in self._in_order():
            first = best.setdefault(codec, remedy)
            if remedy is first:
                continue
            for kind, loss in sorted({(cell.kind, cell.loss) for cell in cells if cell.loss}):
                pairs = [
                    self.lossy[codec, first][cell][recording] - score
                    for cell, by_recording in cells.items()
                    if (cell.kind, cell.loss) == (kind, loss)
                    for recording, score in by_recording.items()
                ]
                yield {
                    "codec": codec,
                    "remedy": first.name.lower(),
                    "than": remedy.name.lower(),
                    "kind": kind,
                    "loss": loss,
                    "pairs": len(pairs),
                    "difference": _mean(pairs),
                    "error": _rounded(
                        float(np.std(pairs, ddof=1)) / len(pairs) ** 0.5 if len(pairs) > 1 else None
                    ),
                }

    def bars(self) -> dict[str, dict[str, Any]]:
        """Return each bar, the figure that is held against it, and whether it is met."""
        clean = list(self._clean())
        lossy = list(self.differences())
        figures: dict[str, tuple[list[float | None], float]] = {
            "clean_mean": ([one["difference"] for one in clean], MEAN_BAR),
            "clean_recording": ([one["worst"] for one in clean], FILE_BAR),
            f"redundancy_from_{_FEC_FROM}_percent": (
                [
                    one["difference"]
                    for one in lossy
                    if one["remedy"] == "redundancy" and one["loss"] >= _FEC_FROM
                ],
                0.0,
            ),
            **{
                f"{remedy}_concealment_of_{codec}": (
                    [one["difference"] for one in lossy if one["codec"] == codec],
                    0.0,
                )
                for codec, remedy in {
                    one["codec"]: one["remedy"] for one in lossy if one["remedy"] != "redundancy"
                }.items()
            },
        }
        bars: dict[str, dict[str, Any]] = {}
        for name, (all_of_it, bar) in figures.items():
            figure = min((one for one in all_of_it if one is not None), default=None)
            # nothing is gained by a remedy that is no better: those bars are to be passed
            met = None if figure is None else (figure > bar if bar == 0 else figure >= bar)
            bars[name] = {"figure": figure, "bar": bar, "met": met}
        return bars

    def _in_order(self) -> list[tuple[tuple[str, Remedy], dict[Cell, dict[str, float]]]]:
        """Return by codec, its best remedy first."""
        remedies = list(Remedy)
        return sorted(self.lossy.items(), key=lambda item: (item[0][0], remedies.index(item[0][1])))


def _seconds(speech: SpeechSet) -> float:
    return sum(Sound.read(path).seconds for path in speech.files)


def _libraries() -> dict[str, str | None]:
    versions: dict[str, str | None] = {}
    for name in ("pesq", "av", "G722"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    try:
        versions["libopus"] = libopus().version
    except CodecError:
        versions["libopus"] = None
    return versions


def _mean(scores: list[float]) -> float | None:
    return _rounded(float(np.mean(scores))) if scores else None


def _rounded(score: float | None) -> float | None:
    return None if score is None else round(score, 3)
