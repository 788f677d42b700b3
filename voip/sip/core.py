"""What the parts of one agent share: its transactions, dialogs, timers and what goes out.

Sections are RFC 3261's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from hashlib import blake2s
from typing import TYPE_CHECKING, Any, Final, Protocol

from voip.errors import SipError
from voip.sip.config import AgentConfig, Counters
from voip.sip.digest import DigestClient
from voip.sip.event_usages import EventUsages
from voip.sip.failover import Failover, Seek, Sought
from voip.sip.flow import Flow, Peer
from voip.sip.guard import Admission, Guard
from voip.sip.message import Request, Response, make_response
from voip.sip.multipart import MULTIPART
from voip.sip.timers import Timers
from voip.sip.traffic import Traffic
from voip.sip.transaction import NOBODY, Durations
from voip.sip.transactions import Transactions
from voip.sip.via import mark_source, way_back
from voip.types import Random

if TYPE_CHECKING:
    from voip.sip.client_invite import ClientInvite
    from voip.sip.dialog import Dialog, DialogId
    from voip.sip.events import SipEvent
    from voip.sip.server_invite import ServerInvite
    from voip.sip.usage import InviteUsage

__all__ = ["Core", "Refusal", "RefusalsTold", "Screen"]

Refusal = tuple[int, list[tuple[str, str]]]
"""A status and headers to say no with."""
Screen = Callable[[Request, Flow, bool, float], Refusal | None]

_TAG_CHARS: Final = 16
_ENDED_KEPT: Final = 64
"""Dialogs of calls remembered after their end, so that a Replaces for one is declined (603)."""


class RefusalsTold(Protocol):
    """Is told what becomes nothing: not of what a user was asked about."""

    def refused(self, request: Request, status: int) -> None:
        """An INVITE that would have begun a call was answered with this status."""
        ...

    def flooded(self, host: str, *, is_call: bool) -> None:
        """A request was one too many of a stranger's; `is_call`: it was an INVITE."""
        ...


class Core:
    """The shared inside of one `SipAgent`; nothing of it is for users."""

    def __init__(self, config: AgentConfig, random: Random) -> None:
        self.config = config
        self.random = random
        self.counters = Counters()
        self.traffic = Traffic()
        self.durations = Durations(config.t1, config.t2, config.t4)
        self.timers = Timers()
        self.transactions = Transactions(
            self.durations,
            self.timers,
            self.send,
            max_client=config.max_client_transactions,
            max_server=config.max_server_transactions,
            max_completed=config.max_completed_transactions,
            max_udp_request=config.max_udp_request,
        )
        self.guard = Guard(config.stranger_rate, config.known_hosts)
        self.screen: Screen | None = None
        """Looks at an INVITE that begins a call before anything is kept of it, and at whether it
        names a call of ours, to replace or join it; returns what refuses it."""
        self.refusals: RefusalsTold | None = None
        """Is told of calls that the user never hears of."""
        self.focuses: set[str] = set()
        """The users that conferences of ours have in their URIs."""
        self.look_up: Callable[[Dialog, Sought], None] | None = None
        """Finds another way for a request of ours within a dialog; None: nobody does."""
        self.digest = DigestClient()
        self.usages: dict[DialogId, InviteUsage] = {}
        self.dialling: set[ClientInvite | ServerInvite] = set()
        """INVITEs, ours and theirs, that have no dialog yet, and may make one."""
        self.reliable: dict[tuple[DialogId, int], ServerInvite] = {}
        """INVITEs whose reliable responses may still be acknowledged, by their CSeq number."""
        self.ended: deque[DialogId] = deque(maxlen=_ENDED_KEPT)
        self.subscriptions = EventUsages()
        self.out: list[tuple[bytes, Flow]] = []
        self.events: list[SipEvent] = []
        self._allow = ("Allow", ", ".join(config.allow))
        self._supported = ("Supported", ", ".join(config.supported))
        self._accept = ("Accept", ", ".join((*config.accept, *MULTIPART)))
        self._allow_events = ("Allow-Events", ", ".join(config.events))
        self._secret = random.token(32).encode()

    @property
    def full(self) -> bool:
        """Whether there are as many calls as may be, those that only ask for one among them."""
        return len(self.usages) + len(self.dialling) >= self.config.max_dialogs

    def send(self, data: bytes, flow: Flow) -> None:
        """Put a message on its way."""
        self.traffic.sent.add_bytes(data)
        self.out.append((data, flow))

    def emit(self, event: SipEvent) -> None:
        """Tell the user."""
        self.events.append(event)

    def failover(self, seek: Seek | None, tried: Iterable[Peer] = ()) -> Failover[Any]:
        """Return the ways of one request; see `Failover`."""
        return Failover(seek, self.timers, self.config.failover_s, tried)

    def new_tag(self) -> str:
        """Return a tag nobody can guess (section 19.3)."""
        return self.random.token(_TAG_CHARS)

    def request_headers(self, *, describe: bool = False) -> list[tuple[str, str]]:
        """Return the headers by which we name ourselves in requests.

        Supported is in every one (RFC 4028 section 7.1). `describe`: say what else we can do, as
        an INVITE and its 2xx should (section 13).
        """
        if describe:
            return [*self.name(), *self._abilities(), *self.recv_info()]
        return [*self.name(), self._supported] if self.config.supported else self.name()

    def name(self) -> list[tuple[str, str]]:
        """Return who sends a request, for an ACK, which says no more."""
        return [("User-Agent", self.config.user_agent)] if self.config.user_agent else []

    def recv_info(self) -> list[tuple[str, str]]:
        """Return which Info packages we take, even if none (RFC 6086 section 5.2.3)."""
        if "INFO" not in self.config.allow:
            return []
        return [("Recv-Info", ", ".join(self.config.info_packages))]

    def response_headers(self, *, describe: bool = False) -> list[tuple[str, str]]:
        """Return the same for responses."""
        name = [("Server", self.config.user_agent)] if self.config.user_agent else []
        return name + self._abilities() if describe else name

    def own_response(
        self,
        request: Request,
        status: int,
        headers: Iterable[tuple[str, str]] = (),
        tag: str | None = None,
        reason: str | None = None,
    ) -> Response:
        """Return a response of the agent's own; its To tag is the same at every repetition."""
        self.counters.refused += status >= 300
        lines = [*self.response_headers(), *headers]
        if status in (405, 501):
            lines.append(self._allow)
        elif status == 489:
            lines += self.allows_events()
        tag = tag or self._tag_for(request)
        return make_response(request, status, reason, to_tag=tag, headers=lines)

    def answer(
        self,
        request: Request,
        flow: Flow,
        status: int,
        headers: Iterable[tuple[str, str]] = (),
        tag: str | None = None,
        reason: str | None = None,
    ) -> None:
        """Answer without keeping anything (section 8.2.7): a repetition is answered anew alike."""
        self._send_own(request, flow, status, headers, tag, reason)
        if self.refusals is not None and status >= 300 and _begins_call(request):
            self.refusals.refused(request, status)

    def _send_own(
        self,
        request: Request,
        flow: Flow,
        status: int,
        headers: Iterable[tuple[str, str]] = (),
        tag: str | None = None,
        reason: str | None = None,
    ) -> None:
        response = self.own_response(request, status, headers, tag, reason)
        self.send(response.to_bytes(), way_back(request, flow))

    def flood(self, host: str, *, is_call: bool) -> None:
        """Count a request that is one too many of a stranger's."""
        self.counters.flooded += 1
        if self.refusals is not None:
            self.refusals.flooded(host, is_call=is_call)

    def holds_back(
        self,
        request: Request,
        flow: Flow,
        admission: Admission,
        belongs: Callable[[Core, Request], bool],
        now: float,
    ) -> bool:
        """Whether a stranger's request is one too many; over a connection it is told so.

        `belongs` says whether it is of a transaction or a call that is there.
        """
        if admission is Admission.WELCOME or (
            admission is Admission.UNPROVEN
            and (belongs(self, request) or self.guard.admit_new(flow.remote.host, now))
        ):
            return False
        self.flood(flow.remote.host, is_call=_begins_call(request))
        if flow.reliable and request.method != "ACK":
            with suppress(SipError):  # no way back
                mark_source(request, flow.remote)
                self._send_own(request, flow, 503, [("Retry-After", "5")])
        return True

    def answer_once(
        self,
        request: Request,
        flow: Flow,
        status: int,
        headers: Iterable[tuple[str, str]] = (),
        *,
        now: float,
    ) -> None:
        """Answer by a transaction, where a repetition might be answered otherwise."""
        way = way_back(request, flow)
        transaction = self.transactions.accept(request, way, NOBODY, now)
        transaction.respond(self.own_response(request, status, headers), now)

    def capabilities(self) -> list[tuple[str, str]]:
        """Return what an OPTIONS asks for (section 11.2)."""
        tongue = ("Accept-Language", "en")  # of our reason phrases
        return [self._allow, *self.accepts(), tongue, self._supported, *self.allows_events()]

    def allows_events(self) -> list[tuple[str, str]]:
        """Return what a 489 has to say (RFC 6665 section 8.3.2)."""
        return [self._allow_events] if self.config.events else []

    def accepts(self) -> list[tuple[str, str]]:
        """Return what a 415 has to say, whatever it could not read (section 21.4.13)."""
        return [self._accept, ("Accept-Encoding", "identity")]

    def demands(self) -> list[tuple[str, str]]:
        """Return what an INVITE of ours demands of the callee."""
        required = self.config.required
        return [("Require", ", ".join(required))] if required else []

    def _abilities(self) -> list[tuple[str, str]]:
        supported = [self._supported] if self.config.supported else []
        return [self._allow, *supported, *self.allows_events()]

    def learn_target(self, dialog: Dialog, response: Response) -> None:
        """Take the peer's Contact of a 2xx to a request that refreshes ours (section 12.2.1.2)."""
        try:
            dialog.refresh_target(response)
        except SipError:
            self.counters.malformed += 1  # the old target stays

    def dialog(self, dialog_id: DialogId) -> Dialog | None:
        """Return the dialog of that name, whatever uses it (RFC 5057)."""
        usage = self.usages.get(dialog_id)
        return usage.dialog if usage is not None else self.subscriptions.dialog(dialog_id)

    def _tag_for(self, request: Request) -> str:
        parts = (request.headers.get(name) or "" for name in ("Call-ID", "From", "CSeq", "Via"))
        digest = blake2s("\n".join(parts).encode("utf-8", "replace"), key=self._secret)
        return digest.hexdigest()[:_TAG_CHARS]


def _begins_call(request: Request) -> bool:
    if request.method != "INVITE":
        return False
    try:
        return request.to.tag is None
    except SipError:  # nobody's call
        return True
