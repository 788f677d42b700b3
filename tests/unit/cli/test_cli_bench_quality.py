"""`voip bench quality`: what it asks for, and how it shows what was found; nothing is judged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from voip_program import Done

from voip.harness.codec_quality.clean import CleanScore
from voip.harness.codec_quality.loss import Cell, Remedy
from voip.harness.codec_quality.report import QualityReport
from voip.harness.codec_quality.speech import Band, SpeechSet

Voip = Callable[..., Done]
CELLS = [Cell(kind, 10, 0) for kind in ("random", "burst")]
FOUND = QualityReport(
    seeds=3,
    bands={"pcmu": Band.NARROW},
    clean={("pcmu", "shipped"): {"a.wav": CleanScore(4.4, 4.41, "FFmpeg")}},
    lossy={
        ("pcmu", Remedy.GENERIC): {cell: {"a.wav": 3.3} for cell in CELLS},
        ("pcmu", Remedy.SILENCE): {cell: {"a.wav": 2.1} for cell in CELLS},
    },
)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the judges are asked for, by the command that runs."""
    given: dict[str, Any] = {}

    def run(sets: list[SpeechSet], **options: Any) -> QualityReport:
        given.update(options, sets=sets, there=[path.exists() for path in sets[0].files])
        return FOUND

    monkeypatch.setattr("voip.harness.codec_quality.grid.run", run)
    return given


def test_scores_remedies_and_bars_are_shown(voip: Voip, asked: dict[str, Any]) -> None:
    done = voip("bench", "quality", "--seeds", "3")
    assert (done.status, done.stderr) == (0, "")
    assert "  pcmu, shipped (nb): 4.40  4.41 by FFmpeg\n" in done.stdout
    assert "  pcmu, generic, burst: 10 % 3.30\n" in done.stdout
    assert "  clean mean: -0.010  -0.03 at least: met\n" in done.stdout
    assert "  generic concealment of pcmu: 1.200  0 at least: met\n" in done.stdout
    assert asked["seeds"] == 3 and asked["there"] == [True], "the speech that ships"
    figures = voip("bench", "quality", "--json").json
    assert figures["clean"][0]["ours"] == 4.4
    assert figures["lossy"][0]["random"] == {"10": 3.3}


def test_speech_is_taken_from_folders(voip: Voip, asked: dict[str, Any], tmp_path: Path) -> None:
    empty = voip("bench", "quality", "--speech", str(tmp_path), "--json")
    assert (empty.status, empty.json["code"]) == (1, "config")
    assert "no WAV files to judge by" in empty.complaint
    assert not asked
