"""Keeping secrets out of log lines, whoever has put them in.

What this package writes has none: no message, body, password, key or digit is ever given to a
logger. This is for what others write to the same handler, and for mistakes.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Final

__all__ = ["MASK", "Redaction", "extras", "redact"]

MASK: Final = "***"

_SECRET_NAMES: Final = (
    r"password|passwd|passphrase|secret|api_?key|private_?key|access_?token|token|ha1"
    r"|rspauth|response|cnonce|nextnonce|nonce|opaque|dtmf|digits|pin"
)
_VALUE: Final = r"""b?(?:"[^"\r\n]*"?|'[^'\r\n]*'?|[^\s"']\S*)"""
_RULES: Final = (
    # what answers and what asks for a password (RFC 3261 section 22), to the end of the line
    (
        re.compile(
            r"(?i)\b((?:proxy-)?authorization|(?:www|proxy)-authenticate"
            r"|(?:proxy-)?authentication-info)([\"']?[ \t]*[:=])[^\r\n]*"
        ),
        rf"\1\2 {MASK}",
    ),
    # SRTP keys (RFC 4568 section 9.1)
    (re.compile(r"(?i)\ba=crypto:[^\r\n]*"), f"a=crypto:{MASK}"),
    (re.compile(r"(?i)\binline:[A-Za-z0-9+/=]+"), f"inline:{MASK}"),
    # keys, whole or cut off
    (
        re.compile(
            r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----[^-]*(?:-----END [A-Z ]{0,40}KEY-----)?"
        ),
        f"{MASK} (a private key)",
    ),
    # sip:alice:password@host
    (
        re.compile(r"(?i)\b(sips?:|https?://)([^\s:@/<>\"]{1,256}):[^\s@/<>\"]{1,256}@"),
        rf"\1\2:{MASK}@",
    ),
    # digits of older phones (application/dtmf-relay)
    (re.compile(r"(?i)\b(signal[ \t]*=[ \t]*)[0-9a-d*#]{1,16}(?![0-9a-z])"), rf"\g<1>{MASK}"),
    # name=value, name: value, "name": "value"
    (re.compile(rf"(?i)\b({_SECRET_NAMES})([\"']?[ \t]*[=:][ \t]*){_VALUE}"), rf"\1\2{MASK}"),
)
_IS_SECRET: Final = re.compile(rf"(?i)(?:.*_)?(?:{_SECRET_NAMES}|authorization|crypto|key)")
_PLAIN: Final = frozenset((*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"))
"""What every record has."""


def redact(text: str) -> str:
    """Return `text` with what may be a secret masked. Linear in its input."""
    for rule, mask in _RULES:
        text = rule.sub(mask, text)
    return text


def extras(record: logging.LogRecord) -> Mapping[str, object]:
    """Return the fields that a line has been given beside its message, in order."""
    return {name: value for name, value in vars(record).items() if name not in _PLAIN}


class Redaction(logging.Filter):
    """Masks secrets in the message, the fields and the traceback of every record.

    The record itself is changed, so that no later handler, whatever its formatter, has them.
    """

    def __init__(self) -> None:
        super().__init__()
        self._tracebacks = logging.Formatter()

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep every record."""
        try:
            message = record.getMessage()
        except Exception:  # arguments that do not fit: a fault of who wrote it, which is still told
            message = str(record.msg)
        record.msg, record.args = redact(message), ()
        if record.exc_info and not record.exc_text:
            record.exc_text = self._tracebacks.formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = redact(record.exc_text)
        if record.stack_info:
            record.stack_info = redact(record.stack_info)
        for name, value in extras(record).items():
            if _IS_SECRET.fullmatch(name) and isinstance(value, str | bytes):
                setattr(record, name, MASK)
            elif isinstance(value, str):
                setattr(record, name, redact(value))
            elif not isinstance(value, int | float | None):
                setattr(record, name, redact(str(value)))
        return True
