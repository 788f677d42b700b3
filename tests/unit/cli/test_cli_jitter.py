"""`voip jitter`: what is drawn is what the log says, and what cannot be drawn is said."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from voip_program import Done

from voip.harness.jitter_plot import JitterTimeline, draw
from voip.media.jitter_log import FIELDS

Voip = Callable[..., Done]

HEAD = ",".join(FIELDS) + "\n"
LOG = HEAD + (
    "500.030,target,30,31.5,2,40.0,0.0,0.0,5,0\n"  # what was made up and late came before the log
    "500.470,concealed,30,-12.0,0,50.0,0.0,0.0,5,0\n"
    "500.480,concealed+late,30,-22.0,0,60.0,0.0,0.0,7,0\n"
    "501.500,target+expanded,100,78.5,4,60.0,12.5,0.0,7,0\n"
    "502.530,accelerated+dropped,60,nan,9,60.0,12.5,7.5,7,3\n"
)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "jitter.csv"
    path.write_text(LOG)
    return path


def seconds_of(lines: list[dict[str, str]]) -> list[float]:
    return [float(line["time_s"]) - float(lines[0]["time_s"]) for line in lines]


def lines_of(axis: Any) -> dict[str, tuple[list[float], list[float]]]:
    """What an axis shows as lines, by their labels: where, and what."""
    return {line.get_label(): tuple(map(list, line.get_data())) for line in axis.get_lines()}


def bars_of(axis: Any) -> dict[str, list[tuple[float, float]]]:
    """What an axis shows as bars, by their labels: where each stands, and how high it is."""
    found = {}
    for bars in axis.collections:
        segments = bars.get_segments()
        assert all(low[1] == 0 and low[0] == high[0] for low, high in segments)
        found[bars.get_label()] = [(float(x), float(y)) for _, (x, y) in segments]
    return found


def test_J07_the_picture_has_what_the_log_says(log: Path) -> None:
    pytest.importorskip("matplotlib", reason="make quality installs it")
    lines = list(csv.DictReader(LOG.splitlines()))
    at = pytest.approx(seconds_of(lines))
    assert len(lines) == 5
    delay, depth, sound, packets = draw(JitterTimeline.read(log), "jitter.csv").axes
    assert delay.get_title() == "jitter.csv"
    shown = lines_of(delay)
    assert shown["target"] == (at, [30, 30, 30, 100, 60])
    assert shown["delay"][0] == at
    assert shown["delay"][1] == pytest.approx([31.5, -12.0, -22.0, 78.5, np.nan], nan_ok=True)
    assert lines_of(depth) == {"waiting": (at, [2, 0, 0, 4, 9])}
    assert bars_of(sound) == {
        "made up: a gap, 20 ms": [(pytest.approx(0.44), 10), (pytest.approx(0.45), 10)],
        "put in, 12 ms": [(pytest.approx(1.47), 12.5)],
        "left out, 8 ms": [(pytest.approx(2.5), 7.5)],
    }
    assert lines_of(packets) == {
        "late, 2": (at, [0, 0, 2, 2, 2]),
        "dropped, 3": (at, [0, 0, 0, 0, 3]),
    }
    assert {axis.get_ylabel() for axis in (delay, sound)} == {"ms", "ms in a step"}
    assert packets.get_xlabel() == "seconds"


def test_a_picture_is_written_beside_the_log_or_where_it_is_wanted(voip: Voip, log: Path) -> None:
    pytest.importorskip("matplotlib", reason="make quality installs it")
    done = voip("jitter", log)
    png = log.with_suffix(".png")
    assert (done.status, done.stderr) == (0, "")
    assert done.stdout == f"{png}: 5 events in 2.5 s\n"
    assert png.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    done = voip("jitter", log, "-o", "what.svg", "--json")
    assert done.json == {"ok": True, "picture": "what.svg", "lines": 5, "seconds": 2.5}
    assert "<svg" in Path("what.svg").read_text()
    done = voip("jitter", log, "-o", "what.doc", "--json")
    assert (done.status, done.json["code"]) == (1, "config")
    assert done.complaint.startswith("what.doc cannot be drawn (one of ")
    assert not Path("what.doc").exists()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is no log of a jitter buffer"),
        ("a,b\n1,2\n", "is no log of a jitter buffer"),
        ("\x00\xff", "is no l"),
        (HEAD, "nothing was logged in"),
        (HEAD + "1,target,2\n", "line 2 of"),
        (LOG + "soon,target,30,31.5,2,40.0,0.0,0.0,5,0\n", "line 7 of"),
    ],
)
def test_what_is_no_log_is_one_line(voip: Voip, tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "no.csv").write_text(text, encoding="latin-1")
    done = voip("jitter", "no.csv")
    assert (done.status, done.stdout) == (1, "")
    assert complaint in done.complaint
    assert not (tmp_path / "no.png").exists()


def test_what_cannot_be_read_or_written_is_one_line(voip: Voip, log: Path) -> None:
    done = voip("jitter", "none.csv", "--json")
    assert (done.status, done.json["code"]) == (1, "config")
    assert done.complaint == "none.csv cannot be read: No such file or directory"
    pytest.importorskip("matplotlib", reason="make quality installs it")
    done = voip("jitter", log, "-o", "none/x.png")
    assert (done.status, done.stdout) == (1, "")
    assert done.complaint == "none/x.png cannot be written: No such file or directory"


def test_without_matplotlib_it_says_what_to_install(
    voip: Voip, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [*sys.modules, "matplotlib"]:
        if name.partition(".")[0] == "matplotlib":
            monkeypatch.setitem(sys.modules, name, None)
    done = voip("jitter", log)
    assert (done.status, done.stdout) == (1, "")
    assert done.complaint == "a picture needs Matplotlib (pip install 'voip-softphone[quality]')"
