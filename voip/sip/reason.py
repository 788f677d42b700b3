"""Why a request was sent, or a call ended: the Reason header (RFC 3326)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from voip.errors import SipError
from voip.sip.grammar import find_param, is_token, parse_params, quote_string
from voip.sip.headers import Headers

__all__ = ["Reason", "reason_header"]

_CAUSE: Final = re.compile(r"[0-9]{1,9}")
MAX_REASONS: Final = 16
"""Values of one message that are looked at."""


@dataclass(frozen=True, slots=True)
class Reason:
    """A cause in the terms of a protocol: `SIP` (its status codes), `Q.850` (ISDN), or another."""

    protocol: str
    cause: int | None = None
    text: str = ""

    @classmethod
    def parse(cls, value: str) -> Reason:
        """Read one value; SipError (400) when it cannot be read."""
        protocol, semicolon, params = value.partition(";")
        protocol = protocol.strip(" \t")
        if not is_token(protocol):
            raise SipError(f"not a Reason: {value[:80]!r}", status=400)
        found = parse_params(f";{params}") if semicolon else ()
        cause = find_param(found, "cause")
        if cause is not None and not _CAUSE.fullmatch(cause):
            raise SipError(f"not a Reason: {value[:80]!r}", status=400)
        return cls(protocol, None if cause is None else int(cause), find_param(found, "text") or "")

    @classmethod
    def of(cls, headers: Headers) -> list[Reason]:
        """Return a message's reasons; what cannot be read is passed over."""
        return headers.readable("Reason", cls.parse, MAX_REASONS)

    def __str__(self) -> str:
        cause = "" if self.cause is None else f";cause={self.cause}"
        text = f";text={quote_string(self.text)}" if self.text else ""
        return f"{self.protocol}{cause}{text}"


def reason_header(status: int, text: str) -> tuple[str, str]:
    """Return the header that gives a SIP status as the reason of what nobody has asked for."""
    return "Reason", str(Reason("SIP", status, text))
