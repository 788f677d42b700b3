"""A line as one JSON object, or as text."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Final

from voip.logs.redaction import extras

__all__ = ["MAX_VALUE", "JsonFormatter", "TextFormatter"]

MAX_VALUE: Final = 2000
"""Characters of one value; a traceback may have ten times as many, of which the last are kept."""
_FIRST: Final = ("call_id", "event")


class JsonFormatter(logging.Formatter):
    """One object a line, in ASCII: time (ISO 8601, UTC), level, logger, message, then its fields.

    `error` is the traceback, where there is one. Values that JSON has no type for are told as text.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        line: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _cut(record.getMessage()),
        }
        for name, value in extras(record).items():
            line.setdefault(name, _cut(value) if isinstance(value, str) else value)
        error = _error(self, record)
        if error:
            line["error"] = error
        return json.dumps(line, default=lambda value: _cut(str(value)))


class TextFormatter(logging.Formatter):
    """Time, level, logger, message and fields on one line, for people; a traceback after it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        fields = extras(record)
        names = [*(name for name in _FIRST if name in fields), *fields]
        words = [
            _time(record),
            record.levelname,
            f"{record.name}:",
            _cut(record.getMessage()),
            *(f"{name}={_word(fields[name])}" for name in dict.fromkeys(names)),
        ]
        # some of it comes from the network: it must not look like another line
        line = "".join(
            c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in " ".join(words)
        )
        error = _error(self, record)
        return f"{line}\n{error}" if error else line


def _time(record: logging.LogRecord) -> str:
    at = datetime.fromtimestamp(record.created, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _error(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    if record.exc_info and not record.exc_text:
        record.exc_text = formatter.formatException(record.exc_info)
    return (record.exc_text or "")[-10 * MAX_VALUE :]


def _cut(text: str) -> str:
    return text if len(text) <= MAX_VALUE else f"{text[:MAX_VALUE]}..."


def _word(value: object) -> str:
    text = _cut(str(value))
    return json.dumps(text, ensure_ascii=False) if " " in text or not text else text
