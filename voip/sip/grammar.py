"""The small pieces of SIP's grammar that headers share (RFC 3261 section 25.1).

Lists, parameters, quoted strings. All of it is one pass over the text, whatever the text is.
"""

from __future__ import annotations

import re
from typing import Final

from voip.errors import SipError

__all__ = [
    "METHODS",
    "TOKEN",
    "Params",
    "find_param",
    "format_params",
    "is_token",
    "parse_params",
    "quote_string",
    "split_list",
    "token_or_quoted",
    "unquote_string",
]

Params = tuple[tuple[str, str | None], ...]
"""Header parameters as written: quoted strings keep their quotes, None stands for no value."""

TOKEN: Final = r"[A-Za-z0-9\-.!%*_+`'~]++"
"""A token, as a regular expression that never steps back."""

METHODS: Final = frozenset(
    ("INVITE", "ACK", "BYE", "CANCEL", "REGISTER", "OPTIONS", "INFO", "NOTIFY", "SUBSCRIBE")
)
"""The methods that nearly always come, known to be tokens."""

_USUAL_PARAMS: Final = frozenset(("tag", "branch", "rport", "received", "expires", "q", "lr"))
_TOKEN: Final = re.compile(TOKEN)
_QUOTED: Final = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)
_LIST_STOPS: Final = re.compile(r'[,"<]')
_PARAM_STOPS: Final = re.compile(r'[;"]')


def is_token(text: str) -> bool:
    """Whether text may stand as a method, a header name or a parameter name."""
    return _TOKEN.fullmatch(text) is not None


def split_list(text: str) -> list[str]:
    """Take a comma-separated list apart, minding quoted strings and angle brackets.

    Entries come stripped of blanks; empty ones are kept, for their reader to refuse.
    SipError (400) when a quote or an angle bracket is never closed.
    """
    if "," not in text:
        return [text.strip(" \t")]
    entries: list[str] = []
    start = position = 0
    while stop := _LIST_STOPS.search(text, position):
        position = stop.end()
        match stop[0]:
            case ",":
                entries.append(text[start : stop.start()].strip(" \t"))
                start = position
            case '"':
                position = _end_of_quoted(text, stop.start())
            case _:
                position = text.find(">", position) + 1
                if not position:
                    raise SipError("an angle bracket is never closed", status=400)
    entries.append(text[start:].strip(" \t"))
    return entries


def parse_params(text: str) -> Params:
    """Read `;name=value;flag` (RFC 3261 section 25.1, generic-param), blanks around all of them.

    Empty text has no parameters. SipError (400) when one has no name or a quote never closes.
    """
    if text[:1] != ";":
        text = text.lstrip(" \t")
        if not text:
            return ()
        if text[0] != ";":
            raise SipError(f"parameters begin with ';', not {text[:40]!r}", status=400)
    rest = text[1:]
    if ";" not in rest and '"' not in rest:
        name, equals, value = rest.partition("=")
        if name in _USUAL_PARAMS:
            return ((name, value.strip(" \t") if equals else None),)
    blanks = " " in rest or "\t" in rest
    params: list[tuple[str, str | None]] = []
    for part in _split_params(rest) if '"' in rest else rest.split(";"):
        name, equals, value = part.partition("=")
        if name not in _USUAL_PARAMS:
            name = name.strip(" \t")
            if not is_token(name):
                raise SipError(f"not a parameter: {part[:40]!r}", status=400)
        if not equals:
            params.append((name, None))
        else:
            params.append((name, value.strip(" \t") if blanks else value))
    return tuple(params)


def format_params(params: Params) -> str:
    """Write parameters as `;name=value;flag`."""
    return "".join(f";{name}" if value is None else f";{name}={value}" for name, value in params)


def find_param(params: Params, name: str) -> str | None:
    """Return a parameter's value unquoted: "" when it stands without one, None when absent."""
    for key, value in params:
        if key == name or (len(key) == len(name) and key.lower() == name.lower()):
            if not value:
                return ""
            return unquote_string(value) if value[0] == '"' else value
    return None


def quote_string(text: str) -> str:
    """Write text as a quoted-string."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def token_or_quoted(text: str) -> str:
    """Write a parameter's value: as it is where it is a token, else as a quoted-string."""
    return text if is_token(text) else quote_string(text)


def unquote_string(text: str) -> str:
    """Return what a quoted-string says; other text comes back as it is."""
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        return text
    inner = text[1:-1]
    return _ESCAPED.sub(r"\1", inner) if "\\" in inner else inner


def _end_of_quoted(text: str, start: int) -> int:
    quoted = _QUOTED.match(text, start)
    if quoted is None:
        raise SipError("a quoted string is never closed", status=400)
    return quoted.end()


def _split_params(text: str) -> list[str]:
    parts: list[str] = []
    start = position = 0
    while stop := _PARAM_STOPS.search(text, position):
        position = stop.end()
        if stop[0] == '"':
            position = _end_of_quoted(text, stop.start())
        else:
            parts.append(text[start : stop.start()])
            start = position
    parts.append(text[start:])
    return parts
