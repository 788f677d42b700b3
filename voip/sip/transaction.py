"""One SIP transaction: a table of `machines.py` at work on one request (RFC 3261 section 17).

A transaction sends, repeats, absorbs repetitions, and tells its user (the TU) what is news. It is
made and found by the layer in `transactions.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from voip.sip.completed import ServerKey
from voip.sip.compose import ack_failure
from voip.sip.flow import Flow
from voip.sip.machines import (
    INVITE_CLIENT,
    INVITE_SERVER,
    NON_INVITE_CLIENT,
    NON_INVITE_SERVER,
    Action,
    Again,
    Do,
    Machine,
    On,
    Start,
    State,
    TimerName,
)
from voip.sip.message import Request, Response, make_response
from voip.sip.timers import Timer, Timers

__all__ = [
    "NOBODY",
    "UNHEEDED",
    "ClientTransaction",
    "ClientUser",
    "Durations",
    "ServerTransaction",
    "ServerUser",
]

_MIN_TIMER_D_S: Final = 32.0
_REPEATING: Final = (TimerName.A, TimerName.E, TimerName.G)
_LAST: Final = {
    State.ACCEPTED: TimerName.L,
    State.CONFIRMED: TimerName.I,
    State.COMPLETED: TimerName.J,
}
"""The timers that end a server transaction when nothing more than repetitions can come."""


@dataclass(frozen=True, slots=True)
class Durations:
    """How long timers run, in seconds (RFC 3261 table 4).

    `t1`: estimated round trip; `t2`: longest interval between repetitions of a non-INVITE request
    or a response; `t4`: how long a message may stay in the network.
    """

    t1: float = 0.5
    t2: float = 4.0
    t4: float = 5.0
    trying: float = 0.2
    _by_transport: tuple[dict[TimerName, float | None], ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        name = TimerName
        unreliable: dict[TimerName, float | None] = {
            **dict.fromkeys((name.A, name.E, name.G), self.t1),
            **dict.fromkeys((name.B, name.F, name.H, name.J, name.L, name.M), self.timeout),
            name.D: max(_MIN_TIMER_D_S, self.timeout),
            name.I: self.t4,
            name.K: self.t4,
            name.TRYING: self.trying,
            name.SLOW: self._until_t2(),
            name.GIVE_UP: self.timeout,
        }
        reliable: dict[TimerName, float | None] = {
            **unreliable,
            **dict.fromkeys((name.A, name.E, name.G), None),
            **dict.fromkeys((name.D, name.I, name.J, name.K), 0.0),
        }
        object.__setattr__(self, "_by_transport", (unreliable, reliable))

    def _until_t2(self) -> float:
        """Return when Timer E, doubled at each firing, is first set to T2."""
        interval = passed = self.t1
        while 2 * interval < self.t2:
            interval *= 2
            passed += interval
        return passed

    @property
    def timeout(self) -> float:
        """64*T1: when a transaction is given up."""
        return 64 * self.t1

    def of(self, timer: TimerName, reliable: bool) -> float | None:
        """Return how long `timer` runs; 0: fires at once; None: needless on this transport."""
        return self._by_transport[reliable][timer]


class ClientUser(Protocol):
    """Who sent a request and wants to know what became of it.

    Each call names the transaction: a user may have had others before (digest).
    """

    def on_response(self, transaction: ClientTransaction, response: Response, now: float) -> None:
        """Take a response: every 1xx, every 2xx to an INVITE, otherwise one final one."""
        ...

    def on_timeout(self, transaction: ClientTransaction, now: float) -> None:
        """Take it that nobody answered (Timer B or F)."""
        ...

    def on_transport_error(self, transaction: ClientTransaction, message: str, now: float) -> None:
        """Take it that the other side cannot be reached; `message` says why."""
        ...

    def on_terminated(self, transaction: ClientTransaction, now: float) -> None:
        """Take it that the transaction is gone; nothing comes from it after this."""
        ...


class ServerUser(Protocol):
    """Who answers a request."""

    def on_ack(self, request: Request, now: float) -> None:
        """Take an ACK that matched an accepted INVITE (RFC 6026 section 7.1)."""
        ...

    def on_terminated(self, now: float) -> None:
        """Take it that the transaction is gone: nothing can be answered through it any more."""
        ...


class Nobody:
    """Who has answered for good and hears no more."""

    def on_ack(self, request: Request, now: float) -> None:
        """Pass over it."""

    def on_terminated(self, now: float) -> None:
        """Nothing is left to do."""


NOBODY: Final = Nobody()


class Unheeded:
    """Who waits for no answer to a request: of a CANCEL, or of one that is over."""

    def on_response(self, transaction: ClientTransaction, response: Response, now: float) -> None:
        """Pass over it: what answers a CANCEL does not say what becomes of its INVITE."""

    def on_timeout(self, transaction: ClientTransaction, now: float) -> None:
        """Leave it to the INVITE, which has a timer of its own."""

    def on_transport_error(self, transaction: ClientTransaction, message: str, now: float) -> None:
        """Leave it to the INVITE, which goes the same way."""

    def on_terminated(self, transaction: ClientTransaction, now: float) -> None:
        """Nothing is left to do."""


UNHEEDED: Final = Unheeded()


class _Transaction(ABC):
    """A machine in motion: its state and its timers."""

    __slots__ = (
        "_durations",
        "_interval",
        "_machine",
        "_reliable",
        "_running",
        "_timers",
        "flow",
        "state",
    )

    def __init__(self, durations: Durations, timers: Timers) -> None:
        self._durations = durations
        self._timers = timers
        self._running: dict[TimerName, Timer] = {}

    def _begin(self, machine: Machine, flow: Flow) -> None:
        self.flow = flow
        self.state = State.INIT
        """Where it is in its figure."""
        self._machine = machine
        self._reliable = flow.reliable
        self._interval = 0.0  # of the only timer that repeats something: A, E or G

    @abstractmethod
    def _act(self, action: Do, now: float) -> None:
        """Do what the machine says."""

    @abstractmethod
    def _ended(self, now: float) -> None:
        """Leave the layer."""

    def _handle(self, event: On | TimerName, now: float) -> bool:
        """Take one step; False where the table has none for `event` in this state."""
        step = self._machine.get((self.state, event))
        if step is None:
            return False
        state, actions = step
        self._enter(state)
        for action in actions:
            self._do(action, now)
        if state is State.TERMINATED:
            self._ended(now)
        return True

    def _enter(self, state: State) -> None:
        if state is not self.state:
            self.state = state
            for name in [name for name in self._running if (state, name) not in self._machine]:
                self._running.pop(name).cancel()

    def _cancel_timers(self) -> None:
        for timer in self._running.values():
            timer.cancel()
        self._running.clear()

    def _do(self, action: Action, now: float) -> None:
        match action:
            case Do():
                self._act(action, now)
            case Start(timer):
                interval = self._durations.of(timer, self._reliable)
                if interval is not None:
                    self._start(timer, interval, now)
            case Again(timer, at_t2):
                interval = 2 * self._interval
                if timer is not TimerName.A:
                    t2 = self._durations.t2
                    interval = t2 if at_t2 else min(interval, t2)
                self._start(timer, interval, now)

    def _start(self, timer: TimerName, interval: float, now: float) -> None:
        if timer in _REPEATING:
            self._interval = interval
        self._running[timer] = self._timers.start(now + interval, self._fire)

    def _fire(self, now: float) -> None:
        """Take the timer that has fired: the first of those that run which does so no more."""
        for name, timer in self._running.items():
            if not timer.running:
                del self._running[name]
                self._handle(name, now)
                return


class ClientTransaction(_Transaction):
    """A request of ours. `flow` is where it and the ACK to its failure go.

    `fall_back` is asked when nobody can be reached before anything came back: it returns the
    request for another flow. `data`: the request as bytes, where they are there already.
    """

    __slots__ = (
        "_again",
        "_data",
        "_fall_back",
        "_forget",
        "_message",
        "_send",
        "request",
        "user",
    )

    def __init__(
        self,
        request: Request,
        flow: Flow,
        user: ClientUser,
        *,
        durations: Durations,
        timers: Timers,
        send: Callable[[bytes, Flow], None],
        again: Callable[[bytes, Flow], None],
        forget: Callable[[ClientTransaction], None],
        fall_back: Callable[[ClientTransaction, float], tuple[Request, Flow]] | None = None,
        data: bytes | None = None,
    ) -> None:
        super().__init__(durations, timers)
        self.user: ClientUser = user
        self._send = send
        self._again = again
        self._forget = forget
        self._fall_back = fall_back
        self._message: Response | str = ""
        self._go(request, flow, data or request.to_bytes())

    def _go(self, request: Request, flow: Flow, data: bytes) -> None:
        self.request = request
        self._data = data
        self._begin(INVITE_CLIENT if request.method == "INVITE" else NON_INVITE_CLIENT, flow)

    def start(self, now: float) -> None:
        """Send the request."""
        self._handle(On.REQUEST, now)

    def receive(self, response: Response, now: float) -> None:
        """Take a response that matched (RFC 3261 section 17.1.3)."""
        self._message = response
        self._handle(_kind(response), now)

    def fail(self, message: str, now: float) -> None:
        """Take it that nothing reaches the other side; `message` says why."""
        if self._fall_back is not None and self.state in (State.CALLING, State.TRYING):
            fall_back, self._fall_back = self._fall_back, None
            self._enter(State.TERMINATED)
            request, flow = fall_back(self, now)
            self._go(request, flow, request.to_bytes())
            self.start(now)
            return
        self._message = message
        self._handle(On.TRANSPORT_ERROR, now)

    def stop(self, now: float) -> None:
        """Give it up without a word (RFC 3261 section 9.1: no final response after a CANCEL)."""
        if self.state is not State.TERMINATED:
            self._enter(State.TERMINATED)
            self._ended(now)

    def _act(self, action: Do, now: float) -> None:
        match action, self._message:
            case Do.SEND, _:
                self._send(self._data, self.flow)
            case Do.REPEAT, _:
                self._again(self._data, self.flow)
            case Do.SEND_ACK, Response() as response:
                self._send(ack_failure(self.request, response).to_bytes(), self.flow)
            case Do.UP, Response() as response:
                self.user.on_response(self, response, now)
            case Do.TIMEOUT, _:
                self.user.on_timeout(self, now)
            case Do.FAILED, str() as message:
                self.user.on_transport_error(self, message, now)

    def _ended(self, now: float) -> None:
        self._forget(self)
        user, self.user = self.user, UNHEEDED
        user.on_terminated(self, now)


class ServerTransaction(_Transaction):
    """A request of somebody else's. `flow` is where the responses go.

    The layer finds it by `key`: branch, sent-by and method (RFC 3261 section 17.2.3). `origin` is
    Call-ID, From tag, CSeq number and method, the same whatever way the request came (section
    8.2.2.2). It outlives its answer by 64*T1, and so do many: once nobody is to hear of it any
    more it leaves the rest to `completed`.
    """

    __slots__ = (
        "_ack",
        "_again",
        "_completed",
        "_data",
        "_forget",
        "_request",
        "_send",
        "key",
        "origin",
        "user",
    )

    def __init__(
        self,
        request: Request,
        flow: Flow,
        user: ServerUser,
        *,
        durations: Durations,
        timers: Timers,
        send: Callable[[bytes, Flow], None],
        again: Callable[[bytes, Flow], None],
        forget: Callable[[ServerTransaction], None],
        completed: Callable[[ServerTransaction, bytes, float], None],
        key: ServerKey,
        origin: ServerKey,
    ) -> None:
        super().__init__(durations, timers)
        self.key = key
        self.origin = origin
        self.user: ServerUser = user
        self._request: Request | None = request
        self._send = send
        self._again = again
        self._forget = forget
        self._completed = completed
        self._data = b""  # the last response
        self._ack: Request | None = None
        self._begin(INVITE_SERVER if request.method == "INVITE" else NON_INVITE_SERVER, flow)

    @property
    def answered(self) -> bool:
        """Whether a final response has been given, or none can be given any more."""
        return self.state not in (State.TRYING, State.PROCEEDING)

    def start(self, now: float) -> None:
        """Begin; the request itself is handed to the TU by who made this."""
        self._handle(On.REQUEST, now)

    def repeated(self, now: float) -> None:
        """Take a repetition of the request: answered from here, or absorbed."""
        self._handle(On.REQUEST, now)

    def receive_ack(self, request: Request, now: float) -> None:
        """Take an ACK that matched (RFC 3261 section 17.2.3)."""
        self._ack = request
        self._handle(On.ACK, now)
        self._leave_the_rest()

    def respond(self, response: Response, now: float) -> bool:
        """Send a response of the TU's; False when it comes too late to be sent."""
        previous, self._data = self._data, response.to_bytes()
        if self._handle(_kind(response), now):
            if response.status >= 200:
                self._request = None
                self._leave_the_rest()
            return True
        self._data = previous
        return False

    def release(self) -> None:
        """Tell the user nothing any more, and keep nothing of it alive."""
        self.user = NOBODY
        self._leave_the_rest()

    def _leave_the_rest(self) -> None:
        """Leave the layer's table for a smaller place where only repetitions are to come."""
        name = _LAST.get(self.state) if self.user is NOBODY else None
        last = None if name is None else self._running.get(name)
        if last is None:
            return
        # an INVITE that was accepted or whose refusal has its ACK is not answered again
        data = self._data if self.state is State.COMPLETED else b""
        self._completed(self, data, last.at)
        self._cancel_timers()

    def _act(self, action: Do, now: float) -> None:
        match action:
            case Do.SEND if self._data:
                self._send(self._data, self.flow)
            case Do.REPEAT if self._data:
                self._again(self._data, self.flow)
            case Do.SEND_100 if not self._data and self._request is not None:
                self._data = make_response(self._request, 100).to_bytes()
                self._send(self._data, self.flow)
            case Do.UP if self.state is State.ACCEPTED and self._ack is not None:
                self.user.on_ack(self._ack, now)

    def _ended(self, now: float) -> None:
        self._forget(self)
        user, self.user = self.user, NOBODY
        user.on_terminated(now)


def _kind(response: Response) -> On:
    if response.status < 200:
        return On.PROVISIONAL
    return On.SUCCESS if response.status < 300 else On.FAILURE
