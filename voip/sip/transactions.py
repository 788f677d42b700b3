"""All transactions of one agent, each found in one step (RFC 3261 sections 17.1.3 and 17.2.3).

The layer below the agent's core: it owns who is waiting for what, and how many may.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from voip.errors import SipError
from voip.sip.completed import Completed, CompletedTransaction, ServerKey
from voip.sip.compose import over
from voip.sip.flow import Flow
from voip.sip.message import Request, Response
from voip.sip.timers import Timers
from voip.sip.transaction import (
    ClientTransaction,
    ClientUser,
    Durations,
    ServerTransaction,
    ServerUser,
)
from voip.sip.via import is_of_rfc_3261
from voip.types import Address

__all__ = ["Transactions"]


UDP_ONLY_S: Final = 600.0
"""How long a peer that refused TCP is not asked for it again."""
MAX_UDP_ONLY: Final = 1024


class Transactions:
    """The client and server transactions of one agent.

    New ones are begun while there are less than `max_client` of ours, `max_server` of others' and
    `max_completed` of others' that only take repetitions any more.
    """

    def __init__(
        self,
        durations: Durations,
        timers: Timers,
        send: Callable[[bytes, Flow], None],
        *,
        max_client: int,
        max_server: int,
        max_completed: int,
        max_udp_request: int | None = None,
    ) -> None:
        self._durations = durations
        self._timers = timers
        self.repeated = 0
        """Requests and responses that were sent again, for a timer or because theirs came again."""
        self._send = send
        self._again = self._send_again  # one for all, not one for each
        self._max_client = max_client
        self._max_server = max_server
        self._max_completed = max_completed
        self._max_udp_request = max_udp_request
        self._udp_only: OrderedDict[Address, float] = OrderedDict()
        self._client: dict[tuple[str | None, str], ClientTransaction] = {}
        self._by_flow: dict[Flow, dict[ClientTransaction, None]] = {}
        self._server: dict[ServerKey, ServerTransaction] = {}
        self._forget = self._forget_server  # one for all, not one for each
        self._complete = self._complete_server
        self._completed = Completed(timers, self._again, self._forget_initial)
        self._initial: dict[ServerKey, ServerKey] = {}  # by origin: which came first

    def __len__(self) -> int:
        return len(self._client) + len(self._server) + len(self._completed)

    @property
    def sides(self) -> tuple[int, int]:
        """How many there are of ours, and of others' requests."""
        return len(self._client), len(self._server) + len(self._completed)

    @property
    def full(self) -> bool:
        """Whether no more of others' requests may be taken."""
        live, completed = len(self._server), len(self._completed)
        return live >= self._max_server or completed >= self._max_completed

    def check_room(self) -> None:
        """Raise SipError (503) when no more requests of our own may be begun."""
        if len(self._client) >= self._max_client:
            raise SipError(
                f"{self._max_client} requests are waiting for an answer already",
                status=503,
                hint="wait for some to end, or raise max_client_transactions",
            )

    def request(
        self, request: Request, flow: Flow, user: ClientUser, now: float
    ) -> ClientTransaction:
        """Send a request of ours; its top Via carries a new branch.

        What follows from a request that is there already (a digest's second try, CANCEL, the BYE
        of a dialog) is not counted against the limit: see `check_room`.
        """
        fall_back = None
        data = request.to_bytes()
        if self._wants_tcp(len(data), flow, now):
            flow = Flow("tcp", flow.local, flow.remote)
            request = over(request, flow)
            data = request.to_bytes()
            fall_back = self._over_udp
        transaction = ClientTransaction(
            request,
            flow,
            user,
            durations=self._durations,
            timers=self._timers,
            send=self._send,
            again=self._again,
            forget=self._forget_client,
            fall_back=fall_back,
            data=data,
        )
        self._client[request.via.branch, request.method] = transaction
        self._by_flow.setdefault(flow, {})[transaction] = None
        transaction.start(now)
        return transaction

    def _wants_tcp(self, size: int, flow: Flow, now: float) -> bool:
        """Whether a request is too long for a datagram that nobody cuts up (section 18.1.1)."""
        limit = self._max_udp_request
        if limit is None or size <= limit or flow.reliable:
            return False
        return self._udp_only.get(flow.remote, now) <= now

    def _over_udp(self, transaction: ClientTransaction, now: float) -> tuple[Request, Flow]:
        """Take it that the other side has no TCP: send it what is too long all the same."""
        self._leave_flow(transaction)
        remote = transaction.flow.remote
        self._udp_only[remote] = now + UDP_ONLY_S
        if len(self._udp_only) > MAX_UDP_ONLY:
            self._udp_only.popitem(last=False)
        flow = Flow("udp", transaction.flow.local, remote)
        self._by_flow.setdefault(flow, {})[transaction] = None
        return over(transaction.request, flow), flow

    def of_response(self, response: Response) -> ClientTransaction | None:
        """Find who waits for a response (RFC 3261 section 17.1.3)."""
        return self._client.get((response.via.branch, response.cseq.method))

    def accept(
        self, request: Request, flow: Flow, user: ServerUser, now: float
    ) -> ServerTransaction:
        """Begin answering a request that matched nothing. Responses go to `flow`."""
        transaction = ServerTransaction(
            request,
            flow,
            user,
            durations=self._durations,
            timers=self._timers,
            send=self._send,
            again=self._again,
            forget=self._forget,
            completed=self._complete,
            key=_key(request, request.method),
            origin=_origin(request),
        )
        self._server[transaction.key] = transaction
        if request.to.tag is None:
            self._initial.setdefault(transaction.origin, transaction.key)
        transaction.start(now)
        return transaction

    def of_request(self, request: Request) -> ServerTransaction | CompletedTransaction | None:
        """Find what a repeated request, or the ACK to an INVITE, belongs to (section 17.2.3)."""
        return self._find(_key(request, "INVITE" if request.method == "ACK" else request.method))

    def _find(self, key: ServerKey) -> ServerTransaction | CompletedTransaction | None:
        return self._server.get(key) or self._completed.get(key)

    def to_cancel(self, request: Request) -> ServerTransaction | CompletedTransaction | None:
        """Find the INVITE that a CANCEL means (section 9.2).

        The Call-ID and the From tag must be the INVITE's too, so that a branch that was seen or
        guessed is not enough to end a call.
        """
        found = self._find(_key(request, "INVITE"))
        if found is None or found.origin[:2] != _origin(request)[:2]:
            return None
        return found

    def is_merged(self, request: Request) -> bool:
        """Whether this request has come another way already (section 8.2.2.2)."""
        return request.to.tag is None and _origin(request) in self._initial

    def flow_failed(self, flow: Flow, message: str, now: float) -> None:
        """End every client transaction that goes this way."""
        for transaction in list(self._by_flow.get(flow, ())):
            transaction.fail(message, now)

    def _send_again(self, data: bytes, flow: Flow) -> None:
        self.repeated += 1
        self._send(data, flow)

    def _forget_client(self, transaction: ClientTransaction) -> None:
        request = transaction.request
        del self._client[request.via.branch, request.method]
        self._leave_flow(transaction)

    def _leave_flow(self, transaction: ClientTransaction) -> None:
        same_way = self._by_flow[transaction.flow]
        del same_way[transaction]
        if not same_way:
            del self._by_flow[transaction.flow]

    def _forget_server(self, transaction: ServerTransaction) -> None:
        del self._server[transaction.key]
        self._forget_initial(transaction.key, transaction.origin)

    def _complete_server(self, transaction: ServerTransaction, data: bytes, until: float) -> None:
        key, origin = transaction.key, transaction.origin
        del self._server[key]
        self._completed.add(key, origin, data, transaction.flow, until)

    def _forget_initial(self, key: ServerKey, origin: ServerKey) -> None:
        if self._initial.get(origin) == key:
            del self._initial[origin]


def _key(request: Request, method: str) -> ServerKey:
    """Return what names a request's server transaction."""
    via = request.via
    branch = via.branch
    if is_of_rfc_3261(via):
        return branch, via.host.lower(), via.port, method
    # As RFC 2543 did. Without the To tag, which the ACK has and its INVITE has not.
    cseq, sender = request.cseq.number, request.from_.tag
    return request.uri, request.call_id, cseq, sender, via.host.lower(), via.port, branch, method


def _origin(request: Request) -> ServerKey:
    cseq = request.cseq
    return request.call_id, request.from_.tag, cseq.number, cseq.method
