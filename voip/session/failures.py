"""Why a call came to nothing, in words a person can act on."""

from __future__ import annotations

from voip.errors import (
    AuthenticationError,
    CallError,
    NoAnswerError,
    UnreachableError,
    VoipError,
)
from voip.sip.events import Cause, InviteFailed
from voip.sip.uri import for_people

__all__ = ["call_failure", "sdp_warning", "unreachable"]


def call_failure(event: InviteFailed, uri: str, *, has_password: bool) -> CallError:
    """Turn a failed INVITE to `uri` into an error."""
    status, reason = event.status, event.reason
    match event.cause:
        case Cause.AUTHENTICATION:
            return _not_authorized(event, has_password)
        case Cause.TIMEOUT:
            return NoAnswerError(
                f"no response from {uri}",
                hint="is the address right, and the host up?",
                status=status,
            )
        case Cause.TRANSPORT:
            return unreachable(reason, status)
        case Cause.CANCELLED:
            return CallError(f"the call to {uri} was given up", status=status)
        case _:
            return CallError(f"{reason.lower()} ({status})", status=status)


def unreachable(reason: str, status: int = 503, *, hint: str = "") -> UnreachableError:
    """Return the error that says that nothing gets there, and why."""
    hint = hint or "check the address and the transport"
    return UnreachableError(reason, hint=hint, status=status)


def _not_authorized(event: InviteFailed, has_password: bool) -> AuthenticationError:
    sender = for_people(event.invite.request.from_.uri).partition(":")[2]
    if not has_password:
        return AuthenticationError(
            f"{event.status} but no password was given for {sender}",
            hint="pass password=, --password-file or VOIP_PASSWORD",
            status=event.status,
        )
    if event.invite.authorized:
        return AuthenticationError(
            f"{event.status} twice: wrong password for {sender}", status=event.status
        )
    return AuthenticationError(
        f"{event.status} with no challenge that can be answered for {sender}",
        hint="digest with MD5, SHA-256 or SHA-512-256 can be answered",
        status=event.status,
    )


def sdp_warning(error: VoipError) -> list[tuple[str, str]]:
    """Return the Warning that says why an offer is refused (RFC 3261 section 20.43)."""
    code = error.context.get("warning")
    if code is None:
        return []
    text = str(error.context.get("warning_text", error.message)).replace('"', "'")
    return [("Warning", f'{int(code)} voip "{text}"')]
