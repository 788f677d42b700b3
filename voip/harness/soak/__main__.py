"""The long runs, by `make soak`: what they found, on the terminal and, if asked for, as JSON.

Calls with sound end at Ctrl-C, and are reported on as far as they came; that is no success.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from dataclasses import replace

from voip.harness.soak.census import keep_heap_compact
from voip.harness.soak.media import soak_media
from voip.harness.soak.media_report import REAL, VIRTUAL, MediaSoakReport
from voip.harness.soak.run import CALLS, SoakReport, soak


def main() -> int:
    """Run what the command line asks for; 1 where something was wrong."""
    options = argparse.ArgumentParser(prog="python -m voip.harness.soak", description=__doc__)
    options.add_argument("--calls", type=int, default=CALLS)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--first", type=int, default=0, help="the number of the first call")
    options.add_argument(
        "--media",
        choices=("real", "virtual"),
        help="calls with sound instead: ten minutes of real time, or two hours of virtual time",
    )
    options.add_argument("--seconds", type=float, help="how long calls with sound come")
    options.add_argument("--at-once", type=int, help="how many of them are up at once, at most")
    options.add_argument("--json", action="store_true", help="the report on stdout, as JSON")
    options.add_argument("--log", default="critical", help="what is logged: info, warning ...")
    given = options.parse_args()
    logging.basicConfig(level=given.log.upper(), stream=sys.stderr)
    report: SoakReport | MediaSoakReport
    if given.media is None:
        report = soak(given.calls, given.seed, first=given.first, progress=_progress)
    else:
        plan = REAL if given.media == "real" else VIRTUAL
        most = given.at_once or plan.most
        rate = plan.calls_per_s * most / plan.most
        seconds = given.seconds or plan.seconds
        plan = replace(plan, seconds=seconds, calls_per_s=rate, most=most)
        if not plan.virtual:  # where nobody looks what is left, resident memory has to tell
            keep_heap_compact()
        report = soak_media(plan, given.seed, progress=_media_progress)
    if given.json:
        print(json.dumps(report.to_json(), indent=2))
    elif isinstance(report, MediaSoakReport):
        _print_media(report)
    else:
        _print(report)
    return 0 if report.passed else 1


def _media_progress(report: MediaSoakReport) -> None:
    last = report.samples[-1]
    if len(report.samples) % 6 == 0:
        print(
            f"{last.seconds / 60:.1f} min, {last.begun} calls begun, {last.up} up,"
            f" {last.resident_mb:.1f} MB,"
            f" {len(report.wrong)} went wrong",
            file=sys.stderr,
            flush=True,
        )


def _print_media(report: MediaSoakReport) -> None:
    kind = "virtual" if report.plan.virtual else "real"
    print(
        f"{report.begun} calls with sound in {report.seconds / 60:.1f} {kind} minutes,"
        f" {report.most_at_once} at once; {report.late_ticks} of {report.ticks} ticks late"
    )
    for deed, count in sorted(report.deeds.items()):
        print(f"{count:9} {deed}")
    for text in report.wrong:
        print(text)
    slope = report.slope
    if slope is None:
        print("memory: too short to say")
    else:
        error = slope.error_kb_per_call
        print(f"memory: {slope.kb_per_call:+.3f} kB for each call, give or take {error:.3f}")
    if report.growth is None and (taken := report.taken_slope) is not None:
        print(
            f"taken from the system: {taken.kb_per_call:+.3f} kB for each call,"
            f" give or take {taken.error_kb_per_call:.3f}"
        )
    if (growth := report.growth) is not None:
        print(
            f"left of each call where none is up: {growth.kb_per_call:+.3f} kB of the heap,"
            f" {growth.blocks_per_call:+.2f} small objects;"
            f" {growth.taken_kb_per_call:+.3f} kB more taken from the system"
        )
    if report.interrupted:
        print("interrupted: what is left was not looked at")
    else:
        print(f"left: {report.left or 'nothing'}")
    print("passed" if report.passed else "FAILED")


def _progress(report: SoakReport) -> None:
    tenth = report.tenths[-1]
    for text in report.news:
        print(text, file=sys.stderr)
    print(
        f"{tenth.calls} calls, {tenth.virtual_h:.1f} h of virtual time, {tenth.cpu_s:.0f} s of CPU"
        f" for these, {tenth.rss_mb:.0f} MB, {report.surprises} surprises,"
        f" left: {tenth.left or 'nothing'}",
        file=sys.stderr,
        flush=True,
    )


def _print(report: SoakReport) -> None:
    print(
        f"{report.calls} calls ({report.legs} ends of calls) in {report.virtual_days:.2f} virtual"
        f" days, seed {report.seed}, {report.crashes} crashes, {report.cuts} cuts"
    )
    for outcome, count in report.outcomes.items():
        print(f"{count:9} {outcome}")
    for text in report.wrong:
        print(text)
    flat = {True: "flat", False: "growing", None: "too short to say"}[report.rss_is_flat]
    sizes = ", ".join(f"{tenth.rss_mb:.0f}" for tenth in report.tenths)
    print(f"RSS by tenths: {sizes} MB: {flat}")
    print("passed" if report.passed else f"FAILED: {report.surprises} surprises")


if __name__ == "__main__":
    sys.exit(main())
