"""SIPp as the caller of the SIP benchmark: its own `uac` scenario, counted by itself."""

from __future__ import annotations

import csv
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from voip.errors import ConfigError, VoipError
from voip.harness.bench.sip_load import CallTotals

__all__ = ["find_sipp", "run_sipp"]

_RATE = 5000
"""Calls a second that it would begin, were it not for the window."""
_END_S = 40.0


def find_sipp() -> str:
    """Return the program; `ConfigError` where it is not installed."""
    program = shutil.which("sipp")
    if program is None:
        raise ConfigError("there is no sipp on this machine", hint="make peers installs it")
    return program


def run_sipp(port: int, seconds: float, window: int) -> CallTotals:
    """Let SIPp call 127.0.0.1:`port` for so long, `window` calls at a time; return its counts."""
    with tempfile.TemporaryDirectory(prefix="voip-bench-") as folder:
        command = [find_sipp(), f"127.0.0.1:{port}", "-sn", "uac", "-i", "127.0.0.1"]
        command += ["-r", str(_RATE), "-l", str(window), "-d", "0", "-nostdin", "-nd"]
        command += ["-trace_stat", "-stf", "statistics.csv", "-fd", "1"]
        command += ["-trace_err", "-error_file", "errors.log"]
        with (Path(folder) / "screen.log").open("wb") as screen:
            process = subprocess.Popen(
                command, cwd=folder, stdin=subprocess.DEVNULL, stdout=screen, stderr=screen
            )
            begun = time.perf_counter()
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                wall = time.perf_counter() - begun
                process.send_signal(signal.SIGUSR1)  # no more calls, and an end after the last
            else:
                raise VoipError(f"SIPp ended at once: {_errors(Path(folder))}")
            try:
                process.wait(_END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise VoipError("SIPp's calls did not end") from None
        return _totals(Path(folder), wall)


def _totals(folder: Path, wall_s: float) -> CallTotals:
    with (folder / "statistics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter=";"))
    if not rows:
        raise VoipError(f"SIPp counted nothing: {_errors(folder)}")
    counts = {name: int(value) for name, value in rows[-1].items() if (value or "").isdigit()}
    reasons = {
        name.removesuffix("(C)"): count
        for name, count in counts.items()
        if name.startswith("Failed") and name.endswith("(C)") and count
    }
    completed = counts["SuccessfulCall(C)"]
    return CallTotals(
        completed,
        0,
        counts["FailedCall(C)"],
        counts["Retransmissions(C)"],
        completed,
        wall_s,
        reasons,
    )


def _errors(folder: Path) -> str:
    for name in ("errors.log", "screen.log"):
        path = folder / name
        if path.exists() and (text := path.read_text(errors="replace").strip()):
            return " ".join(text[-500:].split())
    return "it says nothing"
