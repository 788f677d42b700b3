"""What is written to logs: lines of calls that name their call, as JSON or text, without secrets.

Everything goes through `logging`, under the logger `voip`, and nowhere unless somebody listens:
`log_to` does, or any handler of the application's.
"""

from __future__ import annotations

from voip.logs.formats import JsonFormatter, TextFormatter
from voip.logs.limit import Limit
from voip.logs.lines import CallLog, CurrentCall
from voip.logs.redaction import Redaction, redact
from voip.logs.setup import log_to

__all__ = [
    "CallLog",
    "CurrentCall",
    "JsonFormatter",
    "Limit",
    "Redaction",
    "TextFormatter",
    "log_to",
    "redact",
]
