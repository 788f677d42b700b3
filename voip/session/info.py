"""INFO: Info packages (RFC 6086), and digits as older phones send them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from voip.errors import ConfigError, SipError
from voip.events import DtmfReceived, InfoReceived
from voip.sip.grammar import is_token
from voip.sip.message import Request
from voip.sip.server_request import ServerRequest

__all__ = ["DTMF", "DTMF_RELAY", "Answer", "Info", "dtmf_relay", "is_info", "read_info"]

DTMF_RELAY: Final = "application/dtmf-relay"
DTMF: Final = "application/dtmf"
DEFAULT_MS: Final = 160
MAX_MS: Final = 5_000

_DIGITS: Final = "0123456789*#ABCD"
_SIGNAL: Final = re.compile(
    rb"^[ \t]*+signal[ \t]*+=[ \t]*+([0-9A-Da-d*#]{1,2})[ \t]*+\r?$", re.M | re.I
)
_DURATION: Final = re.compile(
    rb"^[ \t]*+duration[ \t]*+=[ \t]*+([0-9]{1,6})[ \t]*+\r?$", re.M | re.I
)
_BY_NUMBER: Final = {str(number): _DIGITS[number] for number in range(16)}


@dataclass(frozen=True, slots=True)
class Info:
    """What one INFO says. `package` None: as was done before there were packages."""

    package: str | None
    body: bytes = b""
    content_type: str | None = None

    def __post_init__(self) -> None:
        if self.package is not None and not is_token(self.package):
            raise ConfigError(f"{self.package!r} is no Info package", hint="a single word")

    def headers(self) -> list[tuple[str, str]]:
        """Return the header lines that say so."""
        if self.package is None:
            return []
        disposition = [("Content-Disposition", "Info-Package")] if self.body else []
        return [("Info-Package", self.package), *disposition]


@dataclass(frozen=True, slots=True)
class Answer:
    """How an INFO is answered, and what it tells."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    event: InfoReceived | DtmfReceived | None = None


def is_info(request: ServerRequest) -> bool:
    """Whether it is an INFO."""
    return request.request.method == "INFO"


def dtmf_relay(digit: str, duration_ms: int) -> Info:
    """Return the INFO of one digit."""
    body = f"Signal={digit}\r\nDuration={duration_ms}\r\n"
    return Info(None, body.encode(), DTMF_RELAY)


def read_info(request: Request, packages: tuple[str, ...]) -> Answer:
    """Judge an INFO: 469 for a package we do not take, 415 for what says nothing to us."""
    package = request.headers.get("Info-Package")
    try:
        kind = request.content_type
    except SipError:
        return Answer(400)
    if package is not None:
        name = package.partition(";")[0].strip().lower()
        if name not in (known.lower() for known in packages):
            return Answer(469, (("Recv-Info", ", ".join(packages)),))
        return Answer(200, event=InfoReceived(name, kind, request.body))
    if not request.body:
        return Answer(200)  # a sign of life (RFC 6086 section 4.2.2)
    if kind == DTMF_RELAY:
        return _digit(_SIGNAL.search(request.body), _DURATION.search(request.body))
    if kind == DTMF:
        return _digit(
            re.fullmatch(rb"[ \t\r\n]*+([0-9A-Da-d*#]{1,2})[ \t\r\n]*+", request.body), None
        )
    return Answer(415, (("Accept", f"{DTMF_RELAY}, {DTMF}"),))


def _digit(signal: re.Match[bytes] | None, duration: re.Match[bytes] | None) -> Answer:
    text = "" if signal is None else signal[1].decode().upper()
    digit = text if len(text) == 1 else _BY_NUMBER.get(text)  # 10 is *, 11 is #
    if not digit:
        return Answer(400)
    ms = DEFAULT_MS if duration is None else min(int(duration[1]), MAX_MS)
    return Answer(200, event=DtmfReceived(digit, float(ms), way="info"))
