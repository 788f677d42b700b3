"""Writing the package's log lines somewhere."""

from __future__ import annotations

import logging
import sys
from typing import Final, TextIO

from voip.errors import ConfigError
from voip.logs.formats import JsonFormatter, TextFormatter
from voip.logs.lines import CurrentCall
from voip.logs.redaction import Redaction

__all__ = ["LEVELS", "log_to"]

LEVELS: Final = ("debug", "info", "warning", "error")


def log_to(
    stream: TextIO | None = None,
    *,
    level: str = "info",
    as_json: bool = False,
    loggers: tuple[str, ...] = ("voip",),
) -> logging.Handler:
    """Write lines of `level` and above to `stream` (stderr), secrets masked; return the handler.

    loggers: whose lines; name your application's too, and what it writes in handlers of calls has
    their ids. `logging.getLogger("voip").removeHandler(handler)` ends it.
    """
    if level not in LEVELS:
        raise ConfigError(f"no log level {level!r}", hint=", ".join(LEVELS))
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setLevel(level.upper())
    handler.setFormatter(JsonFormatter() if as_json else TextFormatter())
    handler.addFilter(CurrentCall())
    handler.addFilter(Redaction())
    for name in loggers:
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        if logger.getEffectiveLevel() > handler.level:
            logger.setLevel(handler.level)
    return handler
