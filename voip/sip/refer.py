"""REFER: what one asks of another, and how it is told how that goes (RFC 3515, 3892, 4488)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from voip.errors import SipError
from voip.sip.headers import NameAddr
from voip.sip.limits import MAX_LINE_CHARS
from voip.sip.message import REASONS, Request
from voip.sip.replaces import Replaces
from voip.sip.uri import SipUri, uri_scheme

__all__ = ["SIPFRAG", "ReferTarget", "check_refer", "read_sipfrag", "refer_target", "sipfrag"]

SIPFRAG: Final = "message/sipfrag"
_VERSION: Final = "SIP/2.0"


@dataclass(frozen=True, slots=True)
class ReferTarget:
    """Whom a REFER asks to call.

    `uri` has no method and no headers left in it; `replaces` is the call to take the place of.
    `wants_subscription` False: the referrer does not ask how it goes (RFC 4488).
    """

    uri: SipUri
    method: str = "INVITE"
    replaces: Replaces | None = None
    require_replaces: bool = False
    referred_by: str | None = None
    wants_subscription: bool = True


def check_refer(request: Request) -> None:
    """Raise SipError (400) unless a REFER has one Refer-To (RFC 3515 section 2.4.2)."""
    values = request.headers.values("Refer-To")
    if len(values) != 1:
        raise SipError(f"a REFER has one Refer-To, not {len(values)}", status=400)
    target = NameAddr.parse(values[0])
    if uri_scheme(target.uri) in ("sip", "sips"):
        _ = target.sip_uri
    if len(request.headers.values("Referred-By")) > 1:
        raise SipError("more than one Referred-By", status=400)


def refer_target(request: Request) -> ReferTarget:
    """Read whom a REFER asks to call; SipError (416) for what is no SIP address, else 400."""
    check_refer(request)
    uri = NameAddr.parse(request.headers.values("Refer-To")[0]).sip_uri
    headers = {name.lower(): value for name, value in uri.headers}
    replaces = headers.get("replaces")
    refer_sub = (request.headers.get("Refer-Sub") or "true").partition(";")[0].strip().lower()
    return ReferTarget(
        uri=replace(uri, headers=()).without_params("method"),
        method=(uri.param("method") or "INVITE").upper(),
        replaces=None if replaces is None else Replaces.parse(replaces),
        require_replaces="replaces" in headers.get("require", "").lower(),
        referred_by=request.headers.get("Referred-By"),
        wants_subscription=refer_sub != "false",
    )


def sipfrag(status: int, reason: str | None = None) -> bytes:
    """Return the body of a NOTIFY that says how far the call has come (RFC 3515 section 2.4.5)."""
    said = REASONS.get(status, "") if reason is None else reason
    said = "".join(char for char in said if char.isprintable())
    return f"{_VERSION} {status:03d} {said}\r\n".encode("utf-8", "surrogateescape")


def read_sipfrag(body: bytes) -> tuple[int, str] | None:
    """Return status and reason of a sipfrag's first line; None when it is no status line."""
    line = body[:MAX_LINE_CHARS].partition(b"\n")[0].decode("utf-8", "replace").strip()
    version, _, rest = line.partition(" ")
    digits, _, reason = rest.partition(" ")
    if version.upper() != _VERSION or len(digits) != 3 or not digits.isascii():
        return None
    if not digits.isdigit() or not 100 <= int(digits) <= 699:
        return None
    return int(digits), reason
