"""How the jitter buffer does: judged, kept as JSON, and shown in the documentation.

`make jitter-quality` judges it by the reference data's speech and writes `docs/jitter.json`, and
of it the page and its plots. `python tests/jitter_quality.py --pages` makes those anew without
judging; a number is how many processes judge.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from voip.harness.jitter_quality.scenarios import SCENARIOS

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
RESULT, PAGE = DOCS / "jitter.json", DOCS / "jitter.md"
GRID_PLOT, POLICY_PLOT = DOCS / "jitter-grid.svg", DOCS / "jitter-policies.svg"
DATA = Path(os.environ.get("VOIP_REFERENCE_DATA", ROOT.parent / "shared" / "data"))
SPEECH = "speech/librivox-16k-pocketsphinx"
PROMPTS = tuple(
    f"speech/asterisk-en-8k/{name}.wav" for name in ("screen-callee-options", "vm-opts-full")
)
"""Recordings that nothing is tuned by."""
SEEDS, GRID_SEEDS = range(2000, 2032), range(2000, 2004)
"""What is tuned is tuned by those below 2000."""
METHODS = ("ours", "fixed 60 ms", "PJSIP's rule", "ideal")

_HEAD = """# The jitter buffer

Written by `make jitter-quality`; nothing in it is written by hand. Speech: {recordings} recordings
(LibriVox, {seconds:g} s with the 2 s of silence before it) over G.711 (µ-law), 20 ms packets, one
call for each trace, in virtual time. **MOS**: MOS-LQO by PESQ, narrow band (P.862, P.862.1), the
mean of the recordings and the calls, ± its standard error by as many calls. **Delay**: from a
packet's departure to its playout, the mean of all that was heard, ± its standard deviation between
calls; the path itself takes no time but its jitter. **Gap**: sound that was made up because packets
came too late, beyond what was lost, in a call.

- **fixed 60 ms**: the first packet waits for 60 ms, and the others as long as that asks for.
- **PJSIP's rule**: as its guide describes it (`voip/harness/jitter_quality/baselines.py` says how).
- **ideal**: all packets are known in advance, and wait just so long that none is too late. A gap is
  led into the packet after it where that has come, by all four: where packets are lost, those who
  wait longer may be better than the ideal.

How the buffer works: decisions [0104](decisions/0104-delay-by-a-sliding-window.md),
[0105](decisions/0105-pauses-are-stretched-before-speech.md),
[0119](decisions/0119-what-follows-a-gap-is-led-into.md) and
[0124](decisions/0124-closures-within-words-are-no-pauses.md).

## Named paths

{seeds} calls each, with packets at other times between the listener's steps. No number that the
buffer goes by was chosen by these calls: other seeds are for that. The bar is what good telephones
reach on such paths, with the delay beyond the 45 ms that they take on the clean one. The baselines:
MOS and delay.

| path | what happens | bar | MOS | delay | gap | fixed | PJSIP's | ideal | |
|---|---|---|---|---|---|---|---|---|---|
"""
_OTHERS = """
The same by {unheard} recordings that nothing was chosen by either, another speaker (prompts of
Asterisk's, {unheard_seconds:g} s with the silence). PESQ says less of them without any jitter, so
what counts is by how much they are worse than on the clean path: by no more than would do to be at
the bar with the recordings above.

| path | at most | worse by | MOS | delay | gap | |
|---|---|---|---|---|---|---|
"""
_POLICIES = """
## How careful to be

![delay and what is missing, by policy](jitter-policies.svg)

`jitter_policy` names the share of packets that may come too late. The path is *gamma*.

| policy | MOS | delay | gap, ms |
|---|---|---|---|
"""
_GRID = """
## Over the grid

![scores and delays over the grid](jitter-grid.svg)

Calls in each cell: {grid_seeds}. *uniform*: delays up to the jitter; *gamma*: shape 2, this mean, a
tail to six times that; *bursty*: stalls of up to twice the jitter, every 300 ms on average;
*spikes*: stalls of three times the jitter, every two to six seconds; *route change*: so much longer
or shorter, every four to eight seconds. Packets overtake each other. Each cell: MOS, delay in ms,
gap in ms.

A change in the middle of a word costs 0.1 to 0.3 in that recording, however it is filled: it is the
first stall or the first longer route of a call that most of what is missing of the ideal comes of.

| jitter | | lost | ours | fixed 60 ms | PJSIP's rule | ideal |
|---|---|---|---|---|---|---|
"""


def last_result() -> dict[str, Any]:
    """The committed result."""
    result: dict[str, Any] = json.loads(RESULT.read_text())
    return result


def digest(result: Mapping[str, Any]) -> str:
    """What a plot says of the result that it was made of."""
    return hashlib.sha256(json.dumps(result, sort_keys=True).encode()).hexdigest()


def verdicts(result: Mapping[str, Any], which: str = "named") -> dict[str, bool]:
    """Whether each named path is at or above its bar, in less time; by "others", too.

    By the other recordings: whether it is worse than the clean one by no more than the bar's.
    """
    met = {}
    for name, bar in SCENARIOS.items():
        ours = result[which][name]["ours"]
        in_time = bar.delay_ms is None or ours["delay_ms"] < bar.delay_ms
        low = bar.mos_lqo
        if which == "others":
            low = result[which]["clean"]["ours"]["mos"] - allowed(result, name)
        met[name] = bool(ours["mos"] >= low and in_time)
    return met


def allowed(result: Mapping[str, Any], name: str) -> float:
    """By how much a named path may be worse than the clean one."""
    return float(result["named"]["clean"]["ours"]["mos"] - SCENARIOS[name].mos_lqo)


# ------------------------------------------------------------ the page


def page(result: Mapping[str, Any]) -> str:
    """The page, of a result."""
    return "".join(
        (
            _HEAD.format(**result),
            *_named_lines(result),
            _OTHERS.format(**result),
            *_other_lines(result),
            _POLICIES,
            *(
                f"| {name} | {one['mos']:.2f} | {one['delay_ms']:.0f} ms | {one['gap_ms']:.0f} |\n"
                for name, one in result["policies"].items()
            ),
            _GRID.format(**result),
            *(_grid_line(cell) for cell in result["grid"]),
        )
    )


def _named_lines(result: Mapping[str, Any]) -> Iterator[str]:
    met = verdicts(result)
    for name, bar in SCENARIOS.items():
        methods = result["named"][name]
        ours = methods["ours"]
        wanted = f"{bar.mos_lqo}" + (f", {bar.delay_ms:g} ms" if bar.delay_ms else "")
        cells = [
            name,
            bar.told,
            wanted,
            f"**{ours['mos']:.3f}** ± {ours['mos_error']:.3f}",
            f"{ours['delay_ms']:.0f} ± {ours['delay_spread_ms']:.0f} ms",
            f"{ours['gap_ms']:.0f} ms",
            *(
                f"{methods[one]['mos']:.2f}, {methods[one]['delay_ms']:.0f} ms"
                for one in METHODS[1:]
            ),
            "met" if met[name] else "**missed**",
        ]
        yield f"| {' | '.join(cells)} |\n"


def _other_lines(result: Mapping[str, Any]) -> Iterator[str]:
    met = verdicts(result, "others")
    clean = result["others"]["clean"]["ours"]["mos"]
    for name in SCENARIOS:
        ours = result["others"][name]["ours"]
        cells = [
            name,
            f"{allowed(result, name):.3f}",
            f"**{clean - ours['mos']:.3f}**",
            f"{ours['mos']:.3f} ± {ours['mos_error']:.3f}",
            f"{ours['delay_ms']:.0f} ± {ours['delay_spread_ms']:.0f} ms",
            f"{ours['gap_ms']:.0f} ms",
            "met" if met[name] else "**missed**",
        ]
        yield f"| {' | '.join(cells)} |\n"


def _grid_line(cell: Mapping[str, Any]) -> str:
    ours, *others = (cell[one] for one in METHODS)
    figures = [f"{ours['mos']:.2f} ± {ours['mos_error']:.2f}, {_delay_and_gap(ours)}"]
    figures += [f"{one['mos']:.2f}, {_delay_and_gap(one)}" for one in others]
    kind = cell["kind"] if cell["jitter_ms"] else "none"
    return f"| {kind} | {cell['jitter_ms']} ms | {cell['loss']} % | {' | '.join(figures)} |\n"


def _delay_and_gap(figures: Mapping[str, float]) -> str:
    return f"{figures['delay_ms']:.0f}, {figures['gap_ms']:.0f}"


# ------------------------------------------------------------ the plots


def draw(result: Mapping[str, Any], grid: Path, policies: Path) -> None:
    """Draw both plots; of one result the same octets each time, for one version of Matplotlib."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    style = {"svg.hashsalt": "voip", "svg.fonttype": "none", "font.size": 9, "axes.grid": True}
    about = {"Date": None, "Description": digest(result)}
    with matplotlib.rc_context({**style, "grid.alpha": 0.3}):
        for path, figure in ((grid, _grid_figure(result)), (policies, _policy_figure(result))):
            figure.savefig(path, metadata=about)
            pyplot.close(figure)


def _grid_figure(result: Mapping[str, Any]) -> Any:
    """Scores where nothing and where 5 % is lost, and delays, by the jitter of each kind."""
    from matplotlib import pyplot

    kinds = list(dict.fromkeys(cell["kind"] for cell in result["grid"]))
    figure, axes = pyplot.subplots(
        3,
        len(kinds),
        figsize=(2.6 * len(kinds), 7),
        sharex=True,
        sharey="row",
        layout="constrained",
    )
    for column, kind in enumerate(kinds):
        for row, (loss, what) in enumerate(((0, "mos"), (5, "mos"), (0, "delay_ms"))):
            axis = axes[row][column]
            cells = [
                cell
                for cell in result["grid"]
                if cell["loss"] == loss and (cell["kind"] == kind or not cell["jitter_ms"])
            ]
            for number, method in enumerate(METHODS):
                axis.errorbar(
                    [cell["jitter_ms"] for cell in cells],
                    [cell[method][what] for cell in cells],
                    [cell[method]["mos_error"] if what == "mos" else 0.0 for cell in cells],
                    linestyle="-" if method == "ours" else "--",
                    marker=".",
                    color=f"C{number}",
                    label=method,
                )
            if what == "mos":
                axis.set(ylim=(1, 4.6))
        axes[0][column].set_title(kind)
        axes[2][column].set_xlabel("jitter, ms")
    for axis, label in zip(
        axes, ("MOS-LQO, no loss", "MOS-LQO, 5 % lost", "delay, ms"), strict=True
    ):
        axis[0].set_ylabel(label)
    axes[0][-1].legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def _policy_figure(result: Mapping[str, Any]) -> Any:
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(6, 3), layout="constrained")
    named = result["named"]["gamma"]
    for name, one in [*result["policies"].items(), ("fixed 60 ms", named["fixed 60 ms"])]:
        axis.plot(one["delay_ms"], one["gap_ms"], "o")
        axis.annotate(
            f"{name}, MOS {one['mos']:.2f}",
            (one["delay_ms"], one["gap_ms"]),
            textcoords="offset points",
            xytext=(6, 4),
        )
    axis.set(xlabel="delay, ms", ylabel="gap in a call, ms", title="gamma jitter, mean 20 ms")
    axis.margins(0.25)
    return figure


# ------------------------------------------------------------ the command


def write_pages() -> None:
    """Make the page and the plots anew."""
    result = last_result()
    PAGE.write_text(page(result))
    draw(result, GRID_PLOT, POLICY_PLOT)


def main(workers: int | None = None) -> None:
    """Judge everything, and write the result and the pages."""
    from voip.harness.codec_quality.speech import SpeechSet
    from voip.harness.jitter_quality.judging import Talk, judge

    began = time.monotonic()
    result = judge(
        Talk.of(SpeechSet.of(DATA / SPEECH)),
        Talk.of(SpeechSet("prompts", tuple(DATA / name for name in PROMPTS))),
        seeds=SEEDS,
        workers=workers,
        grid_seeds=GRID_SEEDS,
        progress=lambda text: print(f"{time.monotonic() - began:4.0f} s  {text}", flush=True),
    )
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    write_pages()


if __name__ == "__main__":
    write_pages() if "--pages" in sys.argv[1:] else main(*map(int, sys.argv[1:]))
