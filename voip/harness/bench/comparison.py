"""A benchmark's figures beside those of an earlier run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from voip.errors import ConfigError

__all__ = ["SLOWER", "compare", "read_earlier", "slower"]

SLOWER: Final = 1.25
"""What takes so much longer than before, on a machine that is as fast, has become slower."""


def read_earlier(path: Path) -> dict[str, Any]:
    """Read what `--json` printed; `ConfigError` where that cannot be."""
    try:
        report = json.loads(path.read_text())
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path} is no report", hint="what --json printed") from error
    if not isinstance(report, dict):
        raise ConfigError(f"{path} is no report", hint="what --json printed")
    return report


def compare(now: Mapping[str, Any], earlier: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Return earlier figure, present one and their ratio, by name, for all that both have.

    Figures within others have dots in their names. Where the earlier one is 0 there is no ratio.
    Raises `ConfigError` where there is nothing to compare.
    """
    before = dict(_figures(earlier))
    found = {
        name: {"earlier": before[name], "now": figure, "ratio": figure / before[name]}
        for name, figure in _figures(now)
        if before.get(name)
    }
    if not found:
        raise ConfigError("the earlier report has none of these figures", hint="another benchmark?")
    return found


def slower(compared: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Return which times in microseconds have grown, by their names, in what `compare` returned.

    Where both runs have a machine factor, what it has grown by is the machine's.
    """
    machine = compared.get("machine_factor", {"ratio": 1.0})["ratio"]
    return [
        name
        for name, one in compared.items()
        if "us" in name.rpartition(".")[2].split("_") and one["ratio"] > SLOWER * machine
    ]


def _figures(report: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in report.items():
        if isinstance(value, dict):
            yield from _figures(value, f"{prefix}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}{name}", value
