"""The four transaction machines of SIP, as tables to be read beside the RFC's figures.

RFC 3261 section 17 with the Accepted states of RFC 6026. A table maps (state, what happened) to
(next state, what to do). What is not in a table is ignored in that state; a timer that cannot fire
in the new state is stopped. `transaction.py` does what the tables say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias

__all__ = [
    "INVITE_CLIENT",
    "INVITE_SERVER",
    "NON_INVITE_CLIENT",
    "NON_INVITE_SERVER",
    "Action",
    "Again",
    "Do",
    "Machine",
    "On",
    "Start",
    "State",
    "TimerName",
]


class _Name(Enum):
    """A word of the tables. Enum's own hash is Python's, and each message asks for dozens."""

    __hash__ = object.__hash__


class State(_Name):
    """A transaction's states, by the names of the figures. INIT: nothing has happened yet."""

    INIT = "init"
    CALLING = "calling"
    TRYING = "trying"
    PROCEEDING = "proceeding"
    ACCEPTED = "accepted"
    COMPLETED = "completed"
    CONFIRMED = "confirmed"
    TERMINATED = "terminated"


class On(_Name):
    """What happens to a transaction beside its timers.

    On the client's side the request comes from the transaction's user (TU) and the responses from
    the network, on the server's side it is the other way round.
    """

    REQUEST = "request"
    PROVISIONAL = "1xx"
    SUCCESS = "2xx"
    FAILURE = "300-699"
    ACK = "ACK"
    TRANSPORT_ERROR = "transport error"


class TimerName(_Name):
    """The timers of RFC 3261 table 4 and RFC 6026 section 8.11, and three more."""

    A = "A"
    B = "B"
    D = "D"
    E = "E"
    F = "F"
    G = "G"
    H = "H"
    I = "I"  # noqa: E741 (its name in the RFC)
    J = "J"
    K = "K"
    L = "L"
    M = "M"
    TRYING = "trying"
    """200 ms in which the TU answers an INVITE somehow, or 100 is sent (section 17.2.1)."""
    SLOW = "slow"
    """When a client's Timer E has come to T2: who has not answered another request than INVITE by
    then says 100, and not sooner (RFC 4320 section 4.1)."""
    GIVE_UP = "give up"
    """64*T1: the TU never answered a non-INVITE, and nobody waits any more (RFC 4320)."""


class Do(Enum):
    """What a transaction does on the way to its next state."""

    SEND = "send the request, or the response that was given"
    REPEAT = "send the request, or the last response, again"
    SEND_100 = "send 100 (Trying)"
    SEND_ACK = "send ACK for the failure that came"
    UP = "hand the message to the TU"
    TIMEOUT = "tell the TU that nobody answered"
    FAILED = "tell the TU that nothing can be sent"


@dataclass(frozen=True, slots=True)
class Start:
    """Start a timer, except where the transport makes it needless (A, E, G)."""

    timer: TimerName


@dataclass(frozen=True, slots=True)
class Again:
    """Start a retransmission timer with a longer interval: A doubled; E, G doubled up to T2.

    `at_t2`: T2 at once, because a provisional response has come (section 17.1.2.2).
    """

    timer: TimerName
    at_t2: bool = False


Action: TypeAlias = Do | Start | Again
Machine: TypeAlias = Mapping[tuple[State, On | TimerName], tuple[State, tuple[Action, ...]]]

_S, _T = State, TimerName

_CALL_ACCEPTED: Final = (_S.ACCEPTED, (Start(_T.M), Do.UP))
_CALL_REFUSED: Final = (_S.COMPLETED, (Do.SEND_ACK, Start(_T.D), Do.UP))

INVITE_CLIENT: Final[Machine] = {
    (_S.INIT, On.REQUEST): (_S.CALLING, (Do.SEND, Start(_T.A), Start(_T.B))),
    (_S.CALLING, _T.A): (_S.CALLING, (Do.REPEAT, Again(_T.A))),
    (_S.CALLING, _T.B): (_S.TERMINATED, (Do.TIMEOUT,)),
    (_S.CALLING, On.TRANSPORT_ERROR): (_S.TERMINATED, (Do.FAILED,)),
    (_S.CALLING, On.PROVISIONAL): (_S.PROCEEDING, (Do.UP,)),
    (_S.CALLING, On.SUCCESS): _CALL_ACCEPTED,
    (_S.CALLING, On.FAILURE): _CALL_REFUSED,
    (_S.PROCEEDING, On.PROVISIONAL): (_S.PROCEEDING, (Do.UP,)),
    (_S.PROCEEDING, On.SUCCESS): _CALL_ACCEPTED,
    (_S.PROCEEDING, On.FAILURE): _CALL_REFUSED,
    # Not in the figure: here the connection is lost or the port closed after a provisional
    # response, and nobody is left to send the final one.
    (_S.PROCEEDING, On.TRANSPORT_ERROR): (_S.TERMINATED, (Do.FAILED,)),
    (_S.COMPLETED, On.FAILURE): (_S.COMPLETED, (Do.SEND_ACK,)),
    (_S.COMPLETED, On.TRANSPORT_ERROR): (_S.TERMINATED, (Do.FAILED,)),
    (_S.COMPLETED, _T.D): (_S.TERMINATED, ()),
    (_S.ACCEPTED, On.SUCCESS): (_S.ACCEPTED, (Do.UP,)),
    (_S.ACCEPTED, _T.M): (_S.TERMINATED, ()),
}
"""RFC 3261 figure 5 as RFC 6026 section 8.4 replaces it."""

_ANSWERED: Final = (_S.COMPLETED, (Start(_T.K), Do.UP))

NON_INVITE_CLIENT: Final[Machine] = {
    (_S.INIT, On.REQUEST): (_S.TRYING, (Do.SEND, Start(_T.E), Start(_T.F))),
    (_S.TRYING, _T.E): (_S.TRYING, (Do.REPEAT, Again(_T.E))),
    (_S.TRYING, _T.F): (_S.TERMINATED, (Do.TIMEOUT,)),
    (_S.TRYING, On.TRANSPORT_ERROR): (_S.TERMINATED, (Do.FAILED,)),
    (_S.TRYING, On.PROVISIONAL): (_S.PROCEEDING, (Do.UP,)),
    (_S.TRYING, On.SUCCESS): _ANSWERED,
    (_S.TRYING, On.FAILURE): _ANSWERED,
    (_S.PROCEEDING, _T.E): (_S.PROCEEDING, (Do.REPEAT, Again(_T.E, at_t2=True))),
    (_S.PROCEEDING, _T.F): (_S.TERMINATED, (Do.TIMEOUT,)),
    (_S.PROCEEDING, On.TRANSPORT_ERROR): (_S.TERMINATED, (Do.FAILED,)),
    (_S.PROCEEDING, On.PROVISIONAL): (_S.PROCEEDING, (Do.UP,)),
    (_S.PROCEEDING, On.SUCCESS): _ANSWERED,
    (_S.PROCEEDING, On.FAILURE): _ANSWERED,
    (_S.COMPLETED, _T.K): (_S.TERMINATED, ()),
}
"""RFC 3261 figure 6."""

INVITE_SERVER: Final[Machine] = {
    (_S.INIT, On.REQUEST): (_S.PROCEEDING, (Start(_T.TRYING),)),
    (_S.PROCEEDING, _T.TRYING): (_S.PROCEEDING, (Do.SEND_100,)),
    (_S.PROCEEDING, On.REQUEST): (_S.PROCEEDING, (Do.REPEAT,)),
    (_S.PROCEEDING, On.PROVISIONAL): (_S.PROCEEDING, (Do.SEND,)),
    (_S.PROCEEDING, On.SUCCESS): (_S.ACCEPTED, (Do.SEND, Start(_T.L))),
    (_S.PROCEEDING, On.FAILURE): (_S.COMPLETED, (Do.SEND, Start(_T.G), Start(_T.H))),
    (_S.COMPLETED, On.REQUEST): (_S.COMPLETED, (Do.REPEAT,)),
    (_S.COMPLETED, _T.G): (_S.COMPLETED, (Do.REPEAT, Again(_T.G))),
    (_S.COMPLETED, _T.H): (_S.TERMINATED, ()),
    (_S.COMPLETED, On.ACK): (_S.CONFIRMED, (Start(_T.I),)),
    (_S.CONFIRMED, _T.I): (_S.TERMINATED, ()),
    (_S.ACCEPTED, On.SUCCESS): (_S.ACCEPTED, (Do.REPEAT,)),
    (_S.ACCEPTED, On.ACK): (_S.ACCEPTED, (Do.UP,)),
    (_S.ACCEPTED, _T.L): (_S.TERMINATED, ()),
}
"""RFC 3261 figure 7 as RFC 6026 section 8.6 replaces it. Who made the machine has the INVITE."""

NON_INVITE_SERVER: Final[Machine] = {
    (_S.INIT, On.REQUEST): (_S.TRYING, (Start(_T.SLOW), Start(_T.GIVE_UP))),
    (_S.TRYING, _T.SLOW): (_S.PROCEEDING, (Do.SEND_100,)),
    (_S.TRYING, On.PROVISIONAL): (_S.PROCEEDING, (Do.SEND,)),
    (_S.TRYING, On.SUCCESS): (_S.COMPLETED, (Do.SEND, Start(_T.J))),
    (_S.TRYING, On.FAILURE): (_S.COMPLETED, (Do.SEND, Start(_T.J))),
    (_S.TRYING, _T.GIVE_UP): (_S.TERMINATED, ()),
    (_S.PROCEEDING, On.REQUEST): (_S.PROCEEDING, (Do.REPEAT,)),
    (_S.PROCEEDING, On.PROVISIONAL): (_S.PROCEEDING, (Do.SEND,)),
    (_S.PROCEEDING, On.SUCCESS): (_S.COMPLETED, (Do.SEND, Start(_T.J))),
    (_S.PROCEEDING, On.FAILURE): (_S.COMPLETED, (Do.SEND, Start(_T.J))),
    (_S.PROCEEDING, _T.GIVE_UP): (_S.TERMINATED, ()),
    (_S.COMPLETED, On.REQUEST): (_S.COMPLETED, (Do.REPEAT,)),
    (_S.COMPLETED, _T.J): (_S.TERMINATED, ()),
}
"""RFC 3261 figure 8, with the 100 of RFC 4320.

Its transport errors never come: a response is sent and forgotten.
"""
