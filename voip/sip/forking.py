"""One request on its way through a proxy: its branches, and what goes back (RFC 3261 section 16).

The response context of section 16.7: branches are begun group by group, all 2xx to an INVITE go
back at once, of all others the best one goes back when nothing better can come.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final, Protocol

from voip.errors import SipError
from voip.sip.compose import cancel
from voip.sip.core import Core
from voip.sip.failover import Failover, Sought, Way
from voip.sip.flow import Flow
from voip.sip.message import Request, Response
from voip.sip.proxy_policy import FLOW_FAILED, Target
from voip.sip.recursion import Recursion
from voip.sip.timers import Timer
from voip.sip.transaction import UNHEEDED, ClientTransaction, ServerTransaction, Unheeded

__all__ = ["Branch", "Forking", "WayOut"]

_PREFERRED: Final = ((401, 407), (415, 420, 484))
"""Within 4xx: what the caller can mend (section 16.7, step 6)."""
_LAST: Final = (408, 487)
_WAY_FAILED: Final = (408, FLOW_FAILED)
_ASKS: Final = ("WWW-Authenticate", "Proxy-Authenticate")


class WayOut(Protocol):
    """What a `Forking` needs of its proxy: the request as it goes to a target, and the flow."""

    core: Core

    def send(
        self,
        request: Request,
        came_by: Flow,
        target: Target,
        breadth: int,
        sent: Callable[[Request, Flow, float], None],
        failed: Callable[[str, float], None],
        now: float,
        *,
        sought: Sought | None = None,
    ) -> None:
        """Find the flow to `target`, then call `sent` with the request for it; or `failed`.

        `sought`: another flow than it has gone by.
        """
        ...

    def acknowledge(self, request: Request, came_by: Flow, now: float) -> None:
        """Send the ACK to a 2xx on."""
        ...


class Forking:
    """A request being forwarded, and its responses; the user of its server transaction.

    `recursion`: follows 3xx; without it they go back to the caller.
    """

    def __init__(
        self,
        way: WayOut,
        request: Request,
        flow: Flow,
        groups: Iterable[tuple[Target, ...]],
        breadth: int,
        timer_c_s: float,
        recursion: Recursion | None = None,
    ) -> None:
        self.request = request
        self._way = way
        self._flow = flow
        self._groups = deque(groups)
        self._breadth = breadth
        self._timer_c_s = timer_c_s
        self._recursion = recursion
        self._branches: list[Branch] = []
        self._finals: list[Response] = []
        self._settled = False  # a 2xx or 6xx came, or the caller has given up: no new branches
        self._answered = False
        self._transaction: ServerTransaction | None = None

    @property
    def is_invite(self) -> bool:
        """Whether an INVITE is forwarded."""
        return self.request.method == "INVITE"

    def start(self, transaction: ServerTransaction, now: float) -> None:
        """Begin."""
        self._transaction = transaction
        if self.is_invite:
            transaction.respond(self._way.core.own_response(self.request, 100), now)
        self._next_group(now)

    def cancel(self, now: float) -> None:
        """Take it that the caller has given up (section 16.10)."""
        self._settled = True
        self._cancel_branches(now)
        self._settle(now)

    def on_ack(self, request: Request, now: float) -> None:
        """Pass on an ACK to a 2xx that has the INVITE's branch (RFC 6026 section 7.2)."""
        self._way.acknowledge(request, self._flow, now)

    def on_terminated(self, now: float) -> None:
        """No response can be sent any more: nobody waits for what the branches bring."""
        self._settled = self._answered = True
        self._cancel_branches(now)
        self._branches = []  # they name us as we do them

    def on_provisional(self, response: Response, now: float) -> None:
        """Pass a 101-199 on at once."""
        if self._transaction is not None and not self._answered:
            self._transaction.respond(response, now)

    def on_final(self, response: Response | None, now: float, branch: Branch | None = None) -> None:
        """Take a branch's final response; None: it never came."""
        if response is not None and response.status < 300:
            self._on_success(response, now)
            return
        if branch is not None and branch.target.spares is not None:
            if self._replace(branch, response, now):
                return
            if response is not None and response.status == FLOW_FAILED:
                # that is between proxies: to the caller its phone is not there
                response = self._way.core.own_response(self.request, 480)
        if response is not None and not self._goes_on(response, now):
            self._finals.append(response)
            if response.status >= 600:
                self._settled = True
                self._cancel_branches(now)
        self._settle(now)

    def _replace(self, branch: Branch, response: Response | None, now: float) -> bool:
        """Try another way to the same phone at once where one has failed (RFC 5626 section 7).

        Whatever else the phone has said is its answer, and it is not asked again.
        """
        spares = branch.target.spares
        failed = response is None or response.status in _WAY_FAILED
        if not spares or not failed or branch.given_up or self._settled:
            return False
        self._branches.remove(branch)
        self._begin([(replace(spares[0], spares=spares[1:]), branch.breadth)], now)
        return True

    def _goes_on(self, response: Response, now: float) -> bool:
        """Whether a 3xx is followed and nothing of it is left for the caller (16.7, step 4)."""
        if self._recursion is None or self._settled:
            return False
        groups = self._recursion.follow(response, now)
        self._groups.extendleft(reversed(groups))
        return bool(groups) and "Contact" not in response.headers

    def _on_success(self, response: Response, now: float) -> None:
        first, self._settled = not self._answered, True
        if self._transaction is not None and (first or self.is_invite):
            self._answered = True
            self._transaction.respond(response, now)
        self._cancel_branches(now)

    def _cancel_branches(self, now: float) -> None:
        if self.is_invite:
            for branch in list(self._branches):
                branch.cancel(now)

    def _settle(self, now: float) -> None:
        """Answer, or try the next group, when every branch has come to its end."""
        if self._answered or any(branch.pending for branch in self._branches):
            return
        if self._groups and not self._settled:
            self._next_group(now)
        else:
            self._answer(now)

    def _next_group(self, now: float) -> None:
        """Begin a group; what is more than Max-Breadth allows waits (RFC 5393 section 5.3.3)."""
        group = self._groups.popleft()
        if len(group) > self._breadth:
            self._groups.appendleft(group[self._breadth :])
            group = group[: self._breadth]
        share, rest = divmod(self._breadth, len(group))
        self._branches = []
        shares = [share + (number < rest) for number in range(len(group))]
        self._begin(zip(group, shares, strict=True), now)

    def _begin(self, targets: Iterable[tuple[Target, int]], now: float) -> None:
        """Begin a branch to each target, with its share of Max-Breadth."""
        begun = [
            Branch(self, self._way.core, target, breadth, self._timer_c_s)
            for target, breadth in targets
        ]
        self._branches += begun
        for branch in begun:
            if branch.pending:  # a 6xx may have come from an earlier one meanwhile
                self.send(branch, now)

    def send(self, branch: Branch, now: float, sought: Sought | None = None) -> None:
        """Send a branch's copy of the request, or send it by another flow."""
        way, target, breadth = self._way, branch.target, branch.breadth
        if sought is None:
            way.send(self.request, self._flow, target, breadth, branch.begin, branch.fail, now)
            return
        way.send(
            self.request,
            self._flow,
            target,
            breadth,
            lambda copy, flow, now: branch.go_on(copy, flow, sought, now),
            lambda why, now: sought.lost(now),
            now,
            sought=sought,
        )

    def _answer(self, now: float) -> None:
        self._answered = True
        best = self._best()
        if self._transaction is None:
            return
        if best is None or best.status == 408:
            # Nobody may answer 408 to another request than an INVITE (RFC 4320 section 4.2).
            if self.is_invite:
                status = 487 if self._settled and not self._finals else 408
                best = best or self._way.core.own_response(self.request, status)
                self._transaction.respond(best, now)
        elif best.status == 503:  # it says that one other cannot, not that we cannot
            self._transaction.respond(self._way.core.own_response(self.request, 500), now)
        else:
            self._transaction.respond(best, now)

    def _best(self) -> Response | None:
        """Return the best of the refusals (section 16.7, step 6), challenges put together."""
        if not self._finals:
            return None
        best = min(self._finals, key=_rank)
        if best.status in (401, 407):
            for other in self._finals:
                if other is not best and other.status in (401, 407):
                    for name in _ASKS:
                        for value in other.headers.get_all(name):
                            best.headers.add(name, value)
        return best


def _rank(response: Response) -> tuple[int, int]:
    status = response.status
    if status >= 600:
        return 0, 0
    for place, preferred in enumerate(_PREFERRED):
        if status in preferred:
            return status // 100, place
    return status // 100, len(_PREFERRED) + (status in _LAST)


class Branch:
    """One copy of the request under way to `target`; the user of its client transaction.

    Where nobody answers it is sent to another of the addresses that the next hop's name leads to
    (RFC 3263 section 4.3).
    """

    def __init__(
        self, forking: Forking, core: Core, target: Target, breadth: int, timer_c_s: float
    ) -> None:
        self.target = target
        self.breadth = breadth
        self.pending = True  # no final response yet
        self._forking = forking
        self._core = core
        self._failover: Failover[Response | None] = core.failover(
            None if target.flow is not None else self._seek
        )
        self._timer_c_s = timer_c_s
        self._request: Request | None = None
        self._flow: Flow | None = None
        self._transaction: ClientTransaction | None = None
        self._timer: Timer | None = None
        self._other: Request | None = None  # as it goes by the next flow
        self._progressed = False
        self._cancelled = False
        self._cancel_sent = False

    @property
    def given_up(self) -> bool:
        """Whether nobody waits for it any more: it was cancelled, by Timer C or by us."""
        return self._cancelled

    def begin(self, request: Request, flow: Flow, now: float) -> None:
        """Send it."""
        if self.pending:
            self._failover.begin(flow, self._go_by, now)
            self._send(request, flow, now)

    def _seek(self, sought: Sought) -> None:
        self._forking.send(self, sought.now, sought)

    def go_on(self, request: Request, flow: Flow, sought: Sought, now: float) -> None:
        """Send it by another flow, if it is not answered meanwhile."""
        self._other = request
        sought.found(Way(flow), now)

    def _go_by(self, way: Way, now: float) -> None:
        before, self._transaction, request = self._transaction, None, self._other
        if request is None:
            return
        if before is not None and self._forking.is_invite:
            before.user = _Left(self._forking, self._core)
        elif before is not None:
            before.stop(now)
        self._progressed = False
        self._failover.begin(way.flow, self._go_by, now)
        self._send(request, way.flow, now)

    def _send(self, request: Request, flow: Flow, now: float) -> None:
        self._request, self._flow = request, flow
        if self._forking.is_invite:
            self._start_timer(now + self._timer_c_s)
        try:
            self._core.transactions.check_room()
            self._transaction = self._core.transactions.request(request, flow, self, now)
        except SipError as error:  # no room, or nothing that can be written
            self.fail(error.message, now)

    def fail(self, message: str, now: float) -> None:
        """Take it that nobody can be reached: as if it had answered that (section 16.9)."""
        if self.pending:
            self._end(self._lost(), now)

    def cancel(self, now: float) -> None:
        """Give it up (section 9.1): now, or as soon as a provisional response has come."""
        if not self.pending or self._cancelled:
            return
        self._cancelled = True
        failed = self._failover.failed
        self._failover.stop()
        if self._request is None or failed:  # it is nowhere
            self._end(None, now)
        elif self._progressed:
            self._send_cancel(now)

    def on_response(self, transaction: ClientTransaction, response: Response, now: float) -> None:
        """Take our Via off and pass it to the context."""
        if not _is_ours(response, self._core):
            return
        self._failover.hear()
        if response.status == 503:
            self._fail_over(response, now)
        elif response.status >= 300:
            self._end(response, now)
        elif response.status >= 200:
            self.pending = False
            self._stop_timer()
            self._failover.stop()
            self._forking.on_final(response, now)
        else:
            self._on_provisional(response, now)

    def on_timeout(self, transaction: ClientTransaction, now: float) -> None:
        """Timer B or F: as if nothing had come (section 16.8)."""
        self._fail_over(None, now)

    def on_transport_error(self, transaction: ClientTransaction, message: str, now: float) -> None:
        """Nothing gets there: as if it had answered that (section 16.9)."""
        self._fail_over(self._lost(), now)

    def _lost(self) -> Response:
        return self._core.own_response(self._forking.request, self.target.lost)

    def _fail_over(self, response: Response | None, now: float) -> None:
        if self.pending:
            self._stop_timer()
            self._progressed = False
            if self._cancelled:
                self._end(response, now)
            else:
                self._failover.fail(response, self._end, now)

    def on_terminated(self, transaction: ClientTransaction, now: float) -> None:
        """Nothing is left to do."""

    def _on_provisional(self, response: Response, now: float) -> None:
        self._progressed = True
        if self._cancelled:
            if not self._cancel_sent:
                self._send_cancel(now)
            return
        if response.status > 100:
            if self._forking.is_invite:
                self._start_timer(now + self._timer_c_s)
            self._forking.on_provisional(response, now)

    def _send_cancel(self, now: float) -> None:
        if self._request is not None and self._flow is not None:
            self._cancel_sent = True
            self._core.transactions.request(cancel(self._request), self._flow, UNHEEDED, now)
            # no final response 64*T1 after the CANCEL: it counts as cancelled (section 9.1)
            self._start_timer(now + self._core.durations.timeout)

    def _on_timer(self, now: float) -> None:
        """Timer C (section 16.8), or the end of waiting after a CANCEL."""
        self._timer = None
        if self._progressed and not self._cancel_sent:
            self._cancelled = True
            self._send_cancel(now)
            return
        transaction, self._transaction = self._transaction, None
        self._end(None, now)
        if transaction is not None:
            transaction.stop(now)

    def _end(self, response: Response | None, now: float) -> None:
        if self.pending:
            self.pending = False
            self._stop_timer()
            self._failover.stop()
            self._forking.on_final(response, now, self)

    def _start_timer(self, at: float) -> None:
        self._stop_timer()
        self._timer = self._core.timers.start(at, self._on_timer)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _is_ours(response: Response, core: Core) -> bool:
    """Take our Via off; whether there is another one below it, for whom the response is."""
    hops = response.headers.values("Via")
    if len(hops) < 2:
        core.counters.malformed += 1
        return False
    response.headers.set("Via", ", ".join(hops[1:]))
    return True


class _Left(Unheeded):
    """Who has an INVITE that went another way after all: cancelled, but a 2xx is passed on."""

    def __init__(self, forking: Forking, core: Core) -> None:
        self._forking = forking
        self._core = core
        self._cancelled = False

    def on_response(self, transaction: ClientTransaction, response: Response, now: float) -> None:
        """Cancel it as soon as that may be done (section 9.1)."""
        if response.status < 200 and not self._cancelled:
            self._cancelled = True
            request = cancel(transaction.request)
            self._core.transactions.request(request, transaction.flow, UNHEEDED, now)
        elif 200 <= response.status < 300 and _is_ours(response, self._core):
            self._forking.on_final(response, now)
