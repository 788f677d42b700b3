"""Every error the package raises: what happened, to whom, and what to do about it."""

from __future__ import annotations

import errno
from typing import Any

__all__ = [
    "AudioFileError",
    "AuthenticationError",
    "CallError",
    "CallStateError",
    "CodecError",
    "ConfigError",
    "DeviceError",
    "MediaError",
    "NoAnswerError",
    "RegistrationError",
    "RequestError",
    "RtpError",
    "SdpError",
    "SimulationError",
    "SipError",
    "SubscriptionError",
    "TransportError",
    "UnreachableError",
    "VoipError",
    "hint_for_files",
]


def hint_for_files(error: OSError) -> str:
    """Return what to do where no file or socket can be opened any more, "" for other errors."""
    is_out = error.errno in (errno.EMFILE, errno.ENFILE)
    return "raise the limit of open files (ulimit -n)" if is_out else ""


class VoipError(Exception):
    """Base of all. `code` names the kind for machines, `hint` says what to do, `context` to whom.

    `status` is the SIP status that answers a protocol error, or that ended a call (None: neither).
    """

    code = "voip"

    def __init__(
        self, message: str, *, hint: str = "", status: int | None = None, **context: Any
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.status = status
        self.context: dict[str, Any] = context

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class ConfigError(VoipError):
    """A setting or argument of the caller's cannot work."""

    code = "config"


class SipError(VoipError):
    """A SIP message or state that RFC 3261 does not allow; `status` answers it."""

    code = "sip"


class SdpError(VoipError):
    """A session description that cannot be read (400) or agreed on (488)."""

    code = "sdp"


class RtpError(VoipError):
    """An RTP or RTCP packet that cannot be built or read."""

    code = "rtp"


class CodecError(VoipError):
    """An encoding that is not there, or a payload it cannot decode."""

    code = "codec"


class MediaError(VoipError):
    """The media engine refused a command."""

    code = "media"


class AudioFileError(VoipError):
    """A sound file cannot be read or written."""

    code = "audio-file"


class DeviceError(VoipError):
    """A sound device cannot be had, or not be used so."""

    code = "device"


class TransportError(VoipError):
    """A socket cannot be opened, or nobody listens at the other end."""

    code = "transport"


class SimulationError(VoipError):
    """A simulated world cannot go on, or cannot be built as asked."""

    code = "simulation"


class RegistrationError(VoipError):
    """A registrar refused, or did not answer."""

    code = "registration"


class SubscriptionError(VoipError):
    """What was to be watched cannot be, or is not told any more; `status` says why."""

    code = "subscription"


class RequestError(VoipError):
    """A request outside of calls (MESSAGE, PUBLISH ...) was refused or not answered."""

    code = "request"


class CallError(VoipError):
    """A call did not come about, or ended otherwise than by us; `status` says how."""

    code = "call"


class AuthenticationError(CallError, RegistrationError):
    """Credentials were asked for and are missing or wrong."""

    code = "authentication"


class UnreachableError(CallError, RegistrationError, RequestError, TransportError):
    """Nothing gets there: nobody listens, there is no route, a name has no address.

    The same by every transport, of which some say so at once and others when something was sent.
    """

    code = "unreachable"


class NoAnswerError(CallError):
    """Nobody answered in time."""

    code = "no-answer"


class CallStateError(CallError):
    """The call is not in a state in which this can be done."""

    code = "call-state"
