"""What an agent is told once, and what it counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["AgentConfig", "Counters"]


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """The agent's name, timers (seconds), abilities and limits.

    `allow`: methods it answers. INVITE, ACK, CANCEL, BYE, OPTIONS, PRACK and UPDATE are the
    agent's own business, and so are SUBSCRIBE, NOTIFY and REFER where they are allowed; any other
    is handed up as `RequestReceived` and has to be replied to. `accept`: media types an INVITE's
    body may have, alone or as a part of a multipart. `supported`: option tags (`Require` of any
    other earns 420). `events`: packages that may be subscribed to here (489 otherwise).
    `unsolicited`: those whose NOTIFY is taken unasked.
    """

    user_agent: str = "voip"
    t1: float = 0.5
    t2: float = 4.0
    t4: float = 5.0
    allow: tuple[str, ...] = ("INVITE", "ACK", "CANCEL", "BYE", "OPTIONS", "PRACK", "UPDATE")
    accept: tuple[str, ...] = ("application/sdp",)
    supported: tuple[str, ...] = ("100rel", "timer", "199")
    required: tuple[str, ...] = ()
    """Option tags, of those supported, that the other side of a call must know: Require in our
    INVITE, 421 to an INVITE of theirs that does not name them."""
    events: tuple[str, ...] = ()
    unsolicited: tuple[str, ...] = ()
    info_packages: tuple[str, ...] = ()
    """Info packages that are taken, where INFO is allowed at all (RFC 6086)."""

    session_expires: int | None = None
    """Seconds without a refresh after which a session is over, as we ask for it (RFC 4028); None:
    we do not ask, and do what the other side asks for."""
    min_session_expires: int = 90
    """Less is refused with 422."""
    refresher: Literal["us", "them"] | None = None
    """Who is to refresh, where that is ours to say; None: whoever asked for the timer."""

    subscription_s: int = 3600
    """How long a peer's subscription lasts, at most and where it says nothing."""
    subscription_min_s: int = 60
    """Shorter ones are refused with 423, but for 0, which asks for the state once."""

    max_udp_request: int | None = 1300
    """A longer request to a UDP flow goes by TCP, and by UDP only where there is no TCP (RFC 3261
    section 18.1.1). None: always by UDP."""

    progress_interval: float = 60.0
    """A ringing INVITE of the peer's is told so again this often (RFC 3261 section 13.3.1.1)."""
    silence_limit: float = 185.0
    """An INVITE of ours that heard no provisional response this long is cancelled: Timer C. The
    other side must say something every minute."""

    failover_s: float | None = 4.0
    """A server that is silent this long is left for another where there is one, by whoever sends;
    at 8*T1 four INVITEs have gone. None: when the transaction times out."""

    stranger_rate: float | None = None
    """Requests a second that one unknown source may begin (`guard.Guard`); None: no limit."""
    known_hosts: tuple[str, ...] = ()
    """IP literals of those that are known from the beginning."""

    max_client_transactions: int = 10_000
    max_server_transactions: int = 65_536
    """Others' requests that have no answer yet, or none that has been acknowledged."""
    max_completed_transactions: int = 262_144
    """Those that only take repetitions any more, for 64*T1: so many are 4,000 calls a second."""
    max_dialogs: int = 10_000
    """Calls at a time, early ones and unanswered INVITEs too, of both sides."""
    max_forks: int = 12
    """Dialogs that one INVITE or SUBSCRIBE of ours may make."""
    max_subscriptions: int = 5_000
    """Subscriptions, ours and the peers' together."""
    max_dialog_subscriptions: int = 16
    """Those of the peer's in one dialog."""
    max_dialog_requests: int = 16
    """Requests of the peer's in one dialog that wait for a reply."""
    max_attempts: int = 5
    """Times one request is sent anew for challenges."""


@dataclass(slots=True)
class Counters:
    """What came in and was dropped or refused."""

    malformed: int = 0
    """Messages that cannot be read; requests among them are answered 400 where possible."""
    stray_responses: int = 0
    """Responses nobody waits for."""
    stray_acks: int = 0
    """ACKs to nothing."""
    refused: int = 0
    """Requests refused by the agent itself, whatever the status."""
    overload: int = 0
    """Requests refused because a limit was reached."""
    flooded: int = 0
    """Requests dropped, or refused over a connection, because strangers sent too many."""
    unproven: int = 0
    """Answers whose proof that their sender knows our password was wrong (`rspauth`)."""
    late_replies: int = 0
    """Replies of the user's that came when nobody waited for them any more."""
