"""What an agent has to tell (see `agent.SipAgent.events`).

Every INVITE, re-INVITE, UPDATE and request of ours ends in exactly one event: `Answered` or
`InviteFailed`, `ReinviteDone`, `UpdateDone`, `RequestDone` or `RequestFailed`; every dialog that
was answered, by us or by them, in exactly one `DialogEnded`; every subscription of ours in one
`SubscriptionEnded`, every one of the peer's that was accepted in one `NotifierEnded`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from voip.sip.client_invite import ClientInvite
    from voip.sip.client_request import ClientRequest
    from voip.sip.dialog import Dialog
    from voip.sip.event_headers import SubscriptionState
    from voip.sip.failover import Way
    from voip.sip.flow import Peer
    from voip.sip.message import Request, Response
    from voip.sip.notifier import Notifier
    from voip.sip.reinvite import Reinvite
    from voip.sip.server_invite import ServerInvite
    from voip.sip.server_request import ServerRequest
    from voip.sip.subscription import Subscription
    from voip.sip.update import Update

__all__ = [
    "Acknowledged",
    "Answered",
    "Cause",
    "DialogEnded",
    "EarlyDialogEnded",
    "IncomingInvite",
    "InviteCancelled",
    "InviteFailed",
    "InviteLeft",
    "Notified",
    "NotifierEnded",
    "PrackReceived",
    "Provisional",
    "ReferReceived",
    "RefreshDue",
    "ReinviteDone",
    "ReinviteProgress",
    "ReinviteReceived",
    "RequestDone",
    "RequestFailed",
    "RequestReceived",
    "SipEvent",
    "SubscribeReceived",
    "SubscriptionEnded",
    "SubscriptionForked",
    "SubscriptionLost",
    "UnsolicitedNotify",
    "UpdateDone",
    "UpdateReceived",
]


class Cause(Enum):
    """Why a request of ours came to nothing."""

    RESPONSE = "response"
    """The other side refused."""
    TIMEOUT = "timeout"
    """Nobody answered; status 408."""
    TRANSPORT = "transport"
    """Nobody listens there, or the connection is lost; status 503, the reason says which."""
    CANCELLED = "cancelled"
    """We gave it up; status 487."""
    AUTHENTICATION = "authentication"
    """Credentials were asked for and are missing or wrong; status 401 or 407."""


@dataclass(frozen=True, slots=True)
class Provisional:
    """A 1xx to our INVITE. `dialog` is the early dialog it made, None when it made none.

    `reliable`: it is told once, in order, and its session description is the answer, or the
    offer, for good (RFC 3262). It is acknowledged already, unless `prack_owed`: then `prack`.
    """

    invite: ClientInvite
    response: Response
    dialog: Dialog | None
    reliable: bool = False
    prack_owed: bool = False


@dataclass(frozen=True, slots=True)
class EarlyDialogEnded:
    """One of the callees that rang does not any more (199, RFC 6228); others may."""

    invite: ClientInvite
    dialog: Dialog
    response: Response


@dataclass(frozen=True, slots=True)
class Answered:
    """A 2xx to our INVITE. It is acknowledged already, unless it brings an offer: then `ack`.

    That is where neither the INVITE had a body nor a reliable provisional response.
    """

    invite: ClientInvite
    response: Response
    dialog: Dialog


@dataclass(frozen=True, slots=True)
class InviteFailed:
    """Our INVITE came to nothing. `response` is None where none came."""

    invite: ClientInvite
    status: int
    reason: str
    cause: Cause
    response: Response | None = None


@dataclass(frozen=True, slots=True)
class InviteLeft:
    """Nobody answers our INVITE by the way it went: it is given up, to be sent anew by `way`.

    Nothing more comes of it. `tried`: where it has been; see `SipAgent.invite`.
    """

    invite: ClientInvite
    way: Way
    tried: frozenset[Peer]


@dataclass(frozen=True, slots=True)
class IncomingInvite:
    """Somebody calls: answer with `respond`."""

    invite: ServerInvite


@dataclass(frozen=True, slots=True)
class InviteCancelled:
    """An INVITE (or re-INVITE) that was not answered is over.

    487: the peer gave it up; `request` is its CANCEL, None where it was something else that ended
    it. 504: it never acknowledged our reliable provisional response.
    """

    invite: ServerInvite
    reason: str
    status: int = 487
    request: Request | None = None


@dataclass(frozen=True, slots=True)
class PrackReceived:
    """The PRACK to a reliable response of ours brought a session description, or owes one.

    `request` is the PRACK. Where our response had the offer this is its answer, or nothing where
    there should be one, and `reply` is None; else it is an offer, to be answered with `reply`.
    """

    invite: ServerInvite
    dialog: Dialog
    request: Request
    reply: ServerRequest | None


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The ACK to our 2xx came, for the first time. Its body is the answer to an offer of ours."""

    dialog: Dialog
    request: Request


@dataclass(frozen=True, slots=True)
class ReinviteReceived:
    """The peer wants to change the session: answer with `respond`."""

    invite: ServerInvite
    dialog: Dialog


@dataclass(frozen=True, slots=True)
class UpdateReceived:
    """The peer offers another session by UPDATE: `reply` at once.

    One without an offer is answered by the agent.
    """

    request: ServerRequest
    dialog: Dialog


@dataclass(frozen=True, slots=True)
class ReinviteProgress:
    """A reliable 1xx to our re-INVITE. `prack_owed`: it brings an offer, `prack` the answer."""

    handle: Reinvite
    dialog: Dialog
    response: Response
    prack_owed: bool


@dataclass(frozen=True, slots=True)
class ReinviteDone:
    """Our re-INVITE is over: `status` 2xx, or else the session stays as it was.

    `body`: the session description that counts, of the 2xx or of a reliable 1xx before it.
    """

    handle: Reinvite
    dialog: Dialog
    status: int
    reason: str
    response: Response | None = None
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class UpdateDone:
    """Our UPDATE is over: `status` 2xx, or else the session stays as it was."""

    handle: Update
    dialog: Dialog
    status: int
    reason: str
    response: Response | None = None


@dataclass(frozen=True, slots=True)
class RefreshDue:
    """The session has to be refreshed with the offer it has: by `reinvite`, or by `update`.

    The peer knows no UPDATE, or wants none without an offer: otherwise the agent sends that by
    itself. A session that nobody refreshes is ended in time.
    """

    dialog: Dialog


@dataclass(frozen=True, slots=True)
class DialogEnded:
    """A dialog that had been answered is over.

    `by_remote`: the peer said so, in `request` if that was a BYE. `status` is what ended it where
    that was a response or a timeout (408), `reason` says it in words.
    """

    dialog: Dialog
    by_remote: bool
    reason: str
    status: int | None = None
    request: Request | None = None


@dataclass(frozen=True, slots=True)
class RequestReceived:
    """A request that is the user's business, in `request.dialog` or outside of any: `reply`."""

    request: ServerRequest


@dataclass(frozen=True, slots=True)
class RequestDone:
    """Our request has its final response, whatever its status."""

    handle: ClientRequest
    response: Response


@dataclass(frozen=True, slots=True)
class RequestFailed:
    """Our request has no answer, or was challenged and could not satisfy the challenge."""

    handle: ClientRequest
    status: int
    reason: str
    cause: Cause
    response: Response | None = None


@dataclass(frozen=True, slots=True)
class SubscribeReceived:
    """Somebody wants to watch an event we notify of: `accept` or `reject` at once."""

    notifier: Notifier


@dataclass(frozen=True, slots=True)
class ReferReceived:
    """Somebody asks us to call somebody, or to do something else (RFC 3515): as above."""

    notifier: Notifier


@dataclass(frozen=True, slots=True)
class NotifierEnded:
    """Nobody is to be notified any more: expired, unsubscribed, ended by us, or unreachable."""

    notifier: Notifier
    reason: str


@dataclass(frozen=True, slots=True)
class Notified:
    """A NOTIFY to a subscription of ours came, and has been answered."""

    subscription: Subscription
    request: Request
    state: SubscriptionState


@dataclass(frozen=True, slots=True)
class SubscriptionForked:
    """Another notifier answers our SUBSCRIBE: `fork` is a subscription of its own."""

    subscription: Subscription
    fork: Subscription


@dataclass(frozen=True, slots=True)
class SubscriptionLost:
    """A subscription of ours is over, and is asked for anew in `retry_in_s` seconds."""

    subscription: Subscription
    reason: str
    status: int | None
    retry_in_s: float


@dataclass(frozen=True, slots=True)
class SubscriptionEnded:
    """A subscription of ours is over. `status`: the response or time-out (408) that said so.

    `reason` is the notifier's word (RFC 6665 section 4.1.3), or ours.
    """

    subscription: Subscription
    reason: str
    status: int | None = None


@dataclass(frozen=True, slots=True)
class UnsolicitedNotify:
    """A NOTIFY nobody asked for, of a package for which that is usual; it has to be replied to."""

    request: ServerRequest


SipEvent: TypeAlias = (
    Provisional
    | Answered
    | InviteFailed
    | InviteLeft
    | EarlyDialogEnded
    | IncomingInvite
    | InviteCancelled
    | Acknowledged
    | PrackReceived
    | ReinviteReceived
    | ReinviteProgress
    | ReinviteDone
    | UpdateReceived
    | UpdateDone
    | RefreshDue
    | DialogEnded
    | RequestReceived
    | RequestDone
    | RequestFailed
    | SubscribeReceived
    | ReferReceived
    | NotifierEnded
    | Notified
    | SubscriptionForked
    | SubscriptionLost
    | SubscriptionEnded
    | UnsolicitedNotify
)
