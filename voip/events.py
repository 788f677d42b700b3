"""What happens to a phone and its calls, as frozen values, delivered in order."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal

from voip.types import Address

__all__ = [
    "ActiveSpeaker",
    "Answered",
    "AudioOverrun",
    "CallEnded",
    "CallEvent",
    "CallState",
    "CallbackFailed",
    "Clipping",
    "ConferenceEvent",
    "DeviceLost",
    "DtmfReceived",
    "DtmfSent",
    "EarlyMedia",
    "EndedBy",
    "HeldByRemote",
    "InfoReceived",
    "Joined",
    "MediaTrouble",
    "MessageReceived",
    "MessageWaiting",
    "OneWayAudio",
    "PartyJoined",
    "PartyLeft",
    "PeerHeard",
    "PeerSilent",
    "PhoneEvent",
    "RecordingFailed",
    "Redirected",
    "Registered",
    "RegistrationFailed",
    "Replaced",
    "ResumedByRemote",
    "Ringing",
    "Silence",
    "SourceLearned",
    "TransferProgress",
    "TransferRequested",
    "Transferred",
    "TroubleOver",
    "Unregistered",
    "WrongCodec",
    "WrongSource",
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
class TransferProgress:
    """What the other side says of the call that we asked it to make: a SIP status."""

    status: int
    reason: str


@dataclass(frozen=True, slots=True)
class TransferRequested:
    """The other side asks us to call `target` instead; `referred_by` is who it says it is."""

    target: str
    referred_by: str | None


@dataclass(frozen=True, slots=True)
class Transferred:
    """We have called whom the other side asked us to call: `call` (a `Call`) is up.

    The other side hangs this one up. Where it has done so before, or asked outside of any call,
    the event is the phone's.
    """

    call: Any


@dataclass(frozen=True, slots=True)
class Replaced:
    """Somebody else has taken the other side's place: `call` (a `Call`) goes on, this one ends."""

    call: Any


@dataclass(frozen=True, slots=True)
class Joined:
    """Somebody has become part of this call by asking for it (RFC 3911): `call` (a `Call`)."""

    call: Any


@dataclass(frozen=True, slots=True)
class DtmfReceived:
    """A digit was heard, once, when it ended.

    relayed: whom the call is bridged with has been sent it already, as it came. way: how it came:
    as a telephone-event ("rfc4733"), in an INFO ("info"), or as tones in the sound ("in-band").
    """

    digit: str
    duration_ms: float
    relayed: bool = field(default=False, compare=False)
    way: Literal["rfc4733", "info", "in-band"] = field(default="rfc4733", compare=False)


@dataclass(frozen=True, slots=True)
class InfoReceived:
    """The other side says something in an INFO of an Info package (RFC 6086)."""

    package: str
    content_type: str | None
    body: bytes


@dataclass(frozen=True, slots=True)
class DtmfSent:
    """All queued digits have gone out."""

    digits: str


@dataclass(frozen=True, slots=True)
class SourceLearned:
    """The peer's sound comes from another address than it said, and was believed."""

    address: Address


@dataclass(frozen=True, slots=True)
class PeerSilent:
    """Neither RTP nor RTCP has come for `seconds`, in a call in which they should.

    `reports_stopped`: the peer has reported, and missed five reports (RFC 3550 section 6.3.5). The
    peer is asked for a sign of life meanwhile; `CallConfig.media_timeout_s` ends the call.
    """

    seconds: float
    reports_stopped: bool = False


@dataclass(frozen=True, slots=True)
class PeerHeard:
    """Something comes again, after `PeerSilent`."""


# Troubles with sound (`TroubleConfig`): each is told once, when it has lasted, and so is its end
# (`TroubleOver`). `reason`: what was seen, and what to look at, for people.


@dataclass(frozen=True, slots=True)
class OneWayAudio:
    """Sound goes one way only: nothing comes ("in"), or nothing of ours arrives ("out").

    In: we send, and no RTP has ever come, or none comes any more while the peer's RTCP does. Out:
    the peer's reports say so, or do not mention what we send.
    """

    direction: Literal["in", "out"]
    seconds: float
    reason: str


@dataclass(frozen=True, slots=True)
class Silence:
    """Packets come, and there has been nothing in them for `seconds`.

    level_dbfs: of the loudest step of the last second, None for digital silence.
    """

    seconds: float
    level_dbfs: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class Clipping:
    """What is heard is cut off at full scale: in `steps` of the steps of the last second."""

    steps: int
    reason: str


@dataclass(frozen=True, slots=True)
class WrongCodec:
    """What comes is not in a codec that was agreed on: `packets` in the last second.

    payload_type: the number of those that have another; None: what is in them does not fit theirs.
    """

    payload_type: int | None
    packets: int
    reason: str


@dataclass(frozen=True, slots=True)
class WrongSource:
    """RTP comes from somebody who is not believed to be the peer: `packets` in the last second.

    heard: whether the peer is heard beside.
    """

    address: Address
    packets: int
    heard: bool
    reason: str


MediaTrouble = OneWayAudio | Silence | Clipping | WrongCodec | WrongSource


@dataclass(frozen=True, slots=True)
class TroubleOver:
    """A trouble with sound that was told of is over."""

    trouble: MediaTrouble


@dataclass(frozen=True, slots=True)
class AudioOverrun:
    """A reader was too slow and lost `lost_ms` of sound, the oldest first."""

    lost_ms: float


@dataclass(frozen=True, slots=True)
class RecordingFailed:
    """A recording has ended before its time: a full disk, for one. What was written can be read."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class DeviceLost:
    """The sound device of the call is gone, and why; the call goes on in silence."""

    device: str
    reason: str


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
    | InfoReceived
    | DtmfSent
    | SourceLearned
    | PeerSilent
    | PeerHeard
    | MediaTrouble
    | TroubleOver
    | TransferProgress
    | TransferRequested
    | Transferred
    | Replaced
    | Joined
    | AudioOverrun
    | RecordingFailed
    | DeviceLost
    | CallbackFailed
    | CallEnded
)


@dataclass(frozen=True, slots=True)
class PartyJoined:
    """`call` (a `Call`) takes part in the conference."""

    call: Any


@dataclass(frozen=True, slots=True)
class PartyLeft:
    """`call` (a `Call`) takes part in the conference no more."""

    call: Any


@dataclass(frozen=True, slots=True)
class ActiveSpeaker:
    """Who speaks in the conference now: `calls`, the loudest first; empty: nobody does."""

    calls: tuple[Any, ...]


ConferenceEvent = PartyJoined | PartyLeft | ActiveSpeaker


# `aor` of what happens to an account is its address of record, "" where there is no account. Events
# are equal whichever it is.


@dataclass(frozen=True, slots=True)
class Registered:
    """The registrar knows us for `expires_s` seconds; renewed before they are over."""

    expires_s: float
    aor: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Unregistered:
    """The registrar has been told to forget us."""

    aor: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class RegistrationFailed:
    """The registrar refused or did not answer; `retry_in_s` None: not tried again."""

    reason: str
    status: int | None = None
    retry_in_s: float | None = None
    aor: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class MessageReceived:
    """A text came (RFC 3428). `sender` is who it says it is from, a URI."""

    sender: str
    text: str
    content_type: str = "text/plain"
    aor: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class MessageWaiting:
    """A mailbox says whether there is mail (RFC 3842): voice messages, new and old.

    `account`: whose mailbox it says it is.
    """

    waiting: bool
    new: int = 0
    old: int = 0
    account: str | None = None
    aor: str = field(default="", compare=False)


PhoneEvent = (
    Registered
    | Unregistered
    | RegistrationFailed
    | MessageReceived
    | MessageWaiting
    | Transferred
    | CallbackFailed
)
