"""What happens to a phone and its calls, as frozen values, delivered in order."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from voip.types import Address

__all__ = [
    "Answered",
    "AudioOverrun",
    "CallEnded",
    "CallEvent",
    "CallState",
    "CallbackFailed",
    "DtmfReceived",
    "DtmfSent",
    "EarlyMedia",
    "EndedBy",
    "HeldByRemote",
    "PhoneEvent",
    "Redirected",
    "Registered",
    "RegistrationFailed",
    "ResumedByRemote",
    "Ringing",
    "SourceLearned",
    "Unregistered",
]


class CallState(Enum):
    """Where a call is. It only moves forward, but for `ACTIVE` and `HELD`."""

    NEW = "new"
    CALLING = "calling"  # INVITE sent, nothing heard yet
    RINGING = "ringing"
    EARLY = "early"  # ringing, with sound from the callee's side
    ACTIVE = "active"
    HELD = "held"  # by us, by the peer, or by both
    ENDING = "ending"
    ENDED = "ended"


class EndedBy(Enum):
    """Who ended a call."""

    LOCAL = "local"
    REMOTE = "remote"
    FAILURE = "failure"  # nobody's wish: no answer, network, refused


@dataclass(frozen=True, slots=True)
class Ringing:
    """The callee's phone rings (180)."""


@dataclass(frozen=True, slots=True)
class Redirected:
    """Who was called sent us on: `target`, a URI, is called now (3xx)."""

    target: str


@dataclass(frozen=True, slots=True)
class EarlyMedia:
    """There is sound before the answer (183 with a session description)."""


@dataclass(frozen=True, slots=True)
class Answered:
    """The call is up. `codec`: encoding name of what we send."""

    codec: str


@dataclass(frozen=True, slots=True)
class HeldByRemote:
    """The peer put us on hold."""


@dataclass(frozen=True, slots=True)
class ResumedByRemote:
    """The peer took us off hold."""


@dataclass(frozen=True, slots=True)
class DtmfReceived:
    """A digit was heard, once, when it ended."""

    digit: str
    duration_ms: float


@dataclass(frozen=True, slots=True)
class DtmfSent:
    """All queued digits have gone out."""

    digits: str


@dataclass(frozen=True, slots=True)
class SourceLearned:
    """The peer's sound comes from another address than it said, and was believed."""

    address: Address


@dataclass(frozen=True, slots=True)
class AudioOverrun:
    """A reader was too slow and lost `lost_ms` of sound, the oldest first."""

    lost_ms: float


@dataclass(frozen=True, slots=True)
class CallbackFailed:
    """A callback of the application raised; it was logged, and nothing else happened."""

    callback: str
    error: BaseException


@dataclass(frozen=True, slots=True)
class CallEnded:
    """The call is over. `status`: the SIP status that said so, where one did."""

    by: EndedBy
    reason: str
    status: int | None = None


CallEvent = (
    Ringing
    | Redirected
    | EarlyMedia
    | Answered
    | HeldByRemote
    | ResumedByRemote
    | DtmfReceived
    | DtmfSent
    | SourceLearned
    | AudioOverrun
    | CallbackFailed
    | CallEnded
)


@dataclass(frozen=True, slots=True)
class Registered:
    """The registrar knows us for `expires_s` seconds; renewed before they are over."""

    expires_s: float


@dataclass(frozen=True, slots=True)
class Unregistered:
    """The registrar has been told to forget us."""


@dataclass(frozen=True, slots=True)
class RegistrationFailed:
    """The registrar refused or did not answer; `retry_in_s` None: not tried again."""

    reason: str
    status: int | None = None
    retry_in_s: float | None = None


PhoneEvent = Registered | Unregistered | RegistrationFailed | CallbackFailed
