"""How codecs sound: judged, kept as JSON, and shown in the documentation.

`make codec-quality` judges them by the reference data's speech and writes
`docs/codec-quality.json`, and of it the page and its two plots. `python tests/codec_quality.py
--pages` makes those anew without judging.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
RESULT = DOCS / "codec-quality.json"
PAGE = DOCS / "codec-quality.md"
CLEAN_PLOT, LOSS_PLOT = DOCS / "codec-quality-clean.svg", DOCS / "codec-quality-loss.svg"
DATA = Path(os.environ.get("VOIP_REFERENCE_DATA", ROOT.parent / "shared" / "data"))
SETS = ("speech/librivox-16k-pocketsphinx", "speech/asterisk-en-8k")
"""Where the speech is in the reference data; lossy paths have the first."""
SHOWN = {"librivox-16k-pocketsphinx": "LibriVox", "asterisk-en-8k": "prompts"}
SEEDS = 4

_HEAD = """# How codecs sound

Written by `make codec-quality`; nothing in it is written by hand. Scores are MOS-LQO by PESQ: `nb`
narrow band at 8 kHz (ITU-T P.862, mapped by P.862.1), `wb` wide band at 16 kHz (P.862.2). **The two
are no one scale**: 4.2 in wide band is more than 4.4 in narrow band.
"""
_CLEAN = """
## On a clean path

![what is heard on a clean path](codec-quality-clean.svg)

Each recording is encoded and decoded by us, and by another implementation with the same settings:
FFmpeg (by PyAV; where it only decodes, what we encoded); for iLBC the program that RFC 3951 prints,
as PJSIP has built it, for FFmpeg leaves the enhancer out; for Opus `opusenc` and `opusdec`
(`--vbr --speech --comp 10`). Difference: ours less theirs, the mean, and the worst recording.
Recordings of less than 2.9 s are left out, for PESQ of those is chance. Linear PCM (L16) loses
nothing, and is not judged. {sets}.

| codec | band | speech | recordings | ours | the other | | difference | worst |
|---|---|---|---|---|---|---|---|---|
"""
_LOSS = """
## Where packets are lost

![what is heard where packets are lost](codec-quality-loss.svg)

Packets of 20 ms, LibriVox, {seeds} passes over each path with other losses: {scores} scores in
each mean. The plot has the first two remedies of each codec. Which packets are lost follows from
recording, loss and seed, and is the same for every codec and remedy. *Random*: each packet by
itself; *burst*: in bursts of {burst:g} packets on average (Gilbert-Elliott). A-law is as µ-law, and
L16 as what has its rate.

- **redundancy**: Opus at 24 kbit/s and 16 kHz, told of the loss. What a packet repeats of the one
  before it is heard in its place, if the packet came. It takes bits from the packet's own sound,
  and a packet's time to wait for it.
- **own**: the codec's concealment; of Opus at the same bit rate without redundancy.
- **generic**: `voip.dsp.conceal`, for codecs that have none of their own.
- **repetition**: the last frame again, each time half as loud. **silence**: zeros.

| codec | remedy | band | lost | {percents} |
|---|---|---|---|{columns}|
"""
_DIFFERENCES = """
## What a remedy is worth

The first remedy of a codec less another, on the same paths: mean difference of {scores} pairs, ±
its standard error. Where it is not well above its error, nothing is shown to be better.

| codec | better | than | lost | {percents} |
|---|---|---|---|{columns}|
"""
_BARS = """
## What is asked

| | least figure | bar | |
|---|---|---|---|
"""
_TOLD = {
    "clean_mean": "clean: mean of a set, against the other implementation",
    "clean_recording": "clean: a single recording, against the other implementation",
    "redundancy_from_10_percent": "redundancy against concealment, from 10 % lost",
}


def last_result() -> dict[str, Any]:
    """The committed result."""
    result: dict[str, Any] = json.loads(RESULT.read_text())
    return result


def digest(result: Mapping[str, Any]) -> str:
    """What a plot says of the result that it was made of."""
    return hashlib.sha256(json.dumps(result, sort_keys=True).encode()).hexdigest()


# ------------------------------------------------------------ the page


def page(result: Mapping[str, Any]) -> str:
    """The page, of a result."""
    sets = ", ".join(
        f"{SHOWN.get(name, name)}: {one['recordings']} recordings, {one['seconds']:g} s"
        for name, one in result["sets"].items()
    )
    losses = list(next(iter(result["lossy"]))["random"])
    wide = next(iter(result["sets"].values()))["recordings"]
    told = {"scores": wide * result["seeds"], "seeds": result["seeds"], "burst": result["burst"]}
    lost = [loss for loss in losses if loss != "0"]
    libraries = ", ".join(f"{name} {version}" for name, version in result["libraries"].items())
    return "".join(
        (
            _HEAD,
            f"\nMade with {libraries}.\n",
            _CLEAN.format(sets=sets),
            *map(_clean_line, result["clean"]),
            _LOSS.format(
                percents=_percents(losses), columns="---|" * (len(losses) - 1) + "---", **told
            ),
            *(_loss_line(one, kind) for one in result["lossy"] for kind in ("random", "burst")),
            _DIFFERENCES.format(
                percents=_percents(lost), columns="---|" * (len(lost) - 1) + "---", **told
            ),
            *_difference_lines(result["differences"], lost),
            _BARS,
            *(_bar_line(name, one) for name, one in result["bars"].items()),
        )
    )


def _percents(losses: Sequence[str]) -> str:
    return " | ".join(f"{loss} %" for loss in losses)


def _clean_line(one: Mapping[str, Any]) -> str:
    cells = [
        one["codec"],
        one["band"],
        SHOWN.get(one["set"], one["set"]),
        one["recordings"],
        _score(one["ours"]),
        _score(one["theirs"]),
        one["by"] or "no other",
        _signed(one["difference"]),
        _signed(one["worst"]),
    ]
    return f"| {' | '.join(map(str, cells))} |\n"


def _loss_line(one: Mapping[str, Any], kind: str) -> str:
    scores = sorted(one[kind].items(), key=lambda item: int(item[0]))
    cells = [one["codec"], one["remedy"], one["band"], kind]
    return f"| {' | '.join([*cells, *(_score(score) for _, score in scores)])} |\n"


def _difference_lines(differences: Sequence[Mapping[str, Any]], lost: Sequence[str]) -> list[str]:
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    for one in differences:
        row = rows.setdefault((one["codec"], one["remedy"], one["than"], one["kind"]), {})
        row[str(one["loss"])] = f"{_signed(one['difference'])} ± {one['error']:.3f}"
    return [
        f"| {' | '.join([*names, *(row.get(loss, '') for loss in lost)])} |\n"
        for names, row in rows.items()
    ]


def _bar_line(name: str, one: Mapping[str, Any]) -> str:
    verdict = {True: "met", False: "**missed**", None: "not judged"}[one["met"]]
    least = "at least" if one["bar"] else "more than"
    remedy, _, codec = name.partition("_concealment_of_")
    told = _TOLD.get(name, f"{codec}: {remedy} concealment against repetition and silence")
    return f"| {told} | {_signed(one['figure'])} | {least} {one['bar']:g} | {verdict} |\n"


def _score(score: float | None) -> str:
    return "-" if score is None else f"{score:.2f}"


def _signed(difference: float | None) -> str:
    return "-" if difference is None else f"{difference + 0.0:+.3f}"


# ------------------------------------------------------------ the plots


def draw(result: Mapping[str, Any], clean: Path, loss: Path) -> None:
    """Draw both plots; of one result the same octets each time, for one version of Matplotlib."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    style = {"svg.hashsalt": "voip", "svg.fonttype": "none", "font.size": 9, "axes.grid": True}
    about = {"Date": None, "Description": digest(result)}
    with matplotlib.rc_context({**style, "grid.alpha": 0.3}):
        for path, figure in ((clean, _clean_figure(result)), (loss, _loss_figure(result))):
            figure.savefig(path, metadata=about)
            pyplot.close(figure)


def _clean_figure(result: Mapping[str, Any]) -> Any:
    from matplotlib import pyplot

    bands = {"nb": "narrow band", "wb": "wide band"}
    rows = {band: [one for one in result["clean"] if one["band"] == band] for band in bands}
    figure, axes = pyplot.subplots(
        2,
        1,
        figsize=(9, 1.6 + 0.24 * len(result["clean"])),
        height_ratios=[max(1, len(one)) for one in rows.values()],
        layout="constrained",
    )
    for axis, (band, all_of_it) in zip(axes, rows.items(), strict=True):
        names = [f"{one['codec']}, {SHOWN.get(one['set'], one['set'])}" for one in all_of_it]
        places = range(len(all_of_it))
        axis.barh(places, [one["ours"] - 1 for one in all_of_it], left=1, height=0.6, label="ours")
        there = [(place, one["theirs"]) for place, one in enumerate(all_of_it) if one["theirs"]]
        axis.plot(
            [score for _, score in there],
            [place for place, _ in there],
            "k|",
            markersize=11,
            markeredgewidth=2,
            label="the other implementation",
        )
        axis.set(yticks=places, yticklabels=names, xlim=(1, 4.7), title=f"{bands[band]}, MOS-LQO")
        axis.invert_yaxis()
    axes[0].legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def _loss_figure(result: Mapping[str, Any]) -> Any:
    """The first two remedies of each codec: a line and a dashed one."""
    from matplotlib import pyplot

    bands = {"nb": "narrow band", "wb": "wide band"}
    figure, axes = pyplot.subplots(2, 2, figsize=(9, 7), sharex=True, layout="constrained")
    for row, (band, said) in zip(axes, bands.items(), strict=True):
        shown = [one for one in result["lossy"] if one["band"] == band]
        codecs = list(dict.fromkeys(one["codec"] for one in shown))
        for axis, kind in zip(row, ("random", "burst"), strict=True):
            for number, codec in enumerate(codecs):
                remedies = [one for one in shown if one["codec"] == codec][:2]
                for one, style in zip(remedies, ("-", "--"), strict=False):
                    scores = sorted((int(loss), score) for loss, score in one[kind].items())
                    axis.plot(
                        [loss for loss, _ in scores],
                        [score for _, score in scores],
                        style,
                        marker=".",
                        color=f"C{number % 10}",
                        label=f"{codec}, {one['remedy']}",
                    )
            axis.set(title=f"{said}, {kind} loss", ylim=(1, 4.6))
        row[0].set_ylabel("MOS-LQO")
        row[1].legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=8)
    for axis in axes[1]:
        axis.set_xlabel("packets lost, %")
    return figure


# ------------------------------------------------------------ the command


def write_pages() -> None:
    """Make the page and the plots anew."""
    result = last_result()
    PAGE.write_text(page(result))
    draw(result, CLEAN_PLOT, LOSS_PLOT)


def ilbc_program() -> Path | None:
    """The program of RFC 3951, where the peers are."""
    sys.path.insert(0, str(ROOT / "tests/interop"))
    try:
        from peers.installed import installed

        return installed().ilbc_program
    finally:
        sys.path.remove(str(ROOT / "tests/interop"))


def judge() -> None:
    """Judge all codecs, and write the result and the pages."""
    from voip.harness.codec_quality.grid import run
    from voip.harness.codec_quality.speech import SpeechSet

    began = time.monotonic()
    report = run(
        [SpeechSet.of(DATA / folder) for folder in SETS],
        seeds=SEEDS,
        program=ilbc_program(),
        progress=lambda text: print(f"{time.monotonic() - began:4.0f} s  {text}", flush=True),
    )
    RESULT.write_text(json.dumps(report.to_json(), indent=1) + "\n")
    write_pages()


if __name__ == "__main__":
    write_pages() if "--pages" in sys.argv[1:] else judge()
