"""Keeping an account registered, in the event loop: `voip.sip.registration` with a timer.

The way to the registrar is looked for anew at each renewal, and at once when its connection is
lost: names, routes and connections change while a phone stays where it is.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Collection, Coroutine
from contextlib import aclosing, suppress
from typing import Any, Final

from voip.account import Account
from voip.errors import RegistrationError, TransportError, VoipError
from voip.events import PhoneEvent, Registered, RegistrationFailed, Unregistered
from voip.keepalives import KeepAlives
from voip.session.failures import unreachable
from voip.session.stack import Stack
from voip.sip import registration as sip
from voip.sip.events import SipEvent
from voip.sip.failover import Sought, Way
from voip.sip.flow import Flow, Peer
from voip.sip.headers import NameAddr
from voip.sip.locating import Where
from voip.sip.terms import Terms
from voip.sip.uri import SipUri

__all__ = ["Registrar"]

log = logging.getLogger(__name__)

GOODBYE_S: Final = 4.0
"""How long unregistering waits for the registrar."""
MAX_HOSTS: Final = 16
"""Hosts of one registrar that are remembered: names lead to several."""
STEADY_S: Final = 60.0
"""A connection that is lost sooner after registering is not replaced at once a second time: there
are registrars that close it after every answer."""


class Registrar:
    """One registration of an account. `tell` gets its events; `contact(flow)` names the phone.

    `instance`, `reg_id`: see `voip.sip.registration`. `others_hold` says whether the account is
    registered by another way too. `failure` is how the latest attempt failed, None after others.
    """

    def __init__(
        self,
        account: Account,
        stack: Stack,
        contact: Callable[[Flow], str],
        tell: Callable[[PhoneEvent], None],
        keep_alives: KeepAlives,
        *,
        instance: str | None = None,
        reg_id: int | None = None,
    ) -> None:
        self.account = account
        self.others_hold: Callable[[], bool] = lambda: False
        self.wanted = False
        self.failure: RegistrationFailed | None = None
        self._instance = instance
        self._reg_id = reg_id
        self._terms = Terms()
        self._stack = stack
        self._contact = contact
        self._tell = tell
        self._keep_alives = keep_alives
        self._binding: sip.Registration | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: list[asyncio.Future[Registered]] = []
        self._leaving: list[asyncio.Future[RegistrationError | None]] = []
        self._finding = asyncio.Lock()
        self._work: set[asyncio.Task[None]] = set()
        self._registered_at: float | None = None
        self._expires_at = 0.0
        self._unreached = 0
        self._was_lost_early = False
        self._granted: OrderedDict[str, None] = OrderedDict()
        self._kept: tuple[Flow, Terms] | None = None
        self._closed = False

    @property
    def registered(self) -> bool:
        """Whether the registrar knows us."""
        binding = self._binding
        return binding is not None and binding.state is sip.RegistrationState.REGISTERED

    @property
    def state(self) -> sip.RegistrationState:
        """Where the registration stands."""
        if self._binding is not None:
            return self._binding.state
        states = sip.RegistrationState
        if self.failure is not None:
            return states.FAILED
        return states.REGISTERING if self.wanted else states.UNREGISTERED

    @property
    def expires_in_s(self) -> float | None:
        """How long the registrar still knows us, unless asked again; None where it does not."""
        return self._expires_at - self._stack.signalling.now() if self.registered else None

    @property
    def terms(self) -> Terms:
        """What the registrar said, while it knows us."""
        return self._terms if self.registered else Terms()

    @property
    def peer(self) -> Peer | None:
        """Where we are registered."""
        return self._binding.flow.peer if self._binding is not None and self.registered else None

    @property
    def hosts(self) -> list[str]:
        """Where we have been registered last, as IP literals: calls come from there."""
        return list(self._granted)

    def where(self, uri: SipUri) -> Where:
        """Say where a request to `uri` goes first."""
        route = self.terms.service_route
        return self.account.where(uri, NameAddr.parse(route[0]).sip_uri if route else None)

    def route(self) -> list[str]:
        """Route of a request: the proxy, then what the registrar wants (RFC 3608)."""
        own, more = self.account.route(), self.terms.service_route
        if (
            own
            and more
            and NameAddr.parse(own[0]).sip_uri.equivalent(NameAddr.parse(more[0]).sip_uri)
        ):
            own = []
        return [*own, *more]

    @property
    def _aor(self) -> str:
        return str(self.account.aor)

    @property
    def gruu(self) -> str | None:
        """A URI that reaches this very phone, and lasts (RFC 5627)."""
        return self.terms.pub_gruu or self.terms.temp_gruu

    async def start(self) -> Registered:
        """Register; returns what was granted, raises `RegistrationError` when it was refused.

        After a failure that may pass it is tried again all the same, until `stop`.
        """
        self.wanted = True
        try:
            async with self._finding:
                self._refuse_if_over()
                flow = await self._flow()
                self._refuse_if_over()
                binding = self._binding or self._bind(flow)
        except TransportError as error:
            self._try_later(error)
            raise unreachable(error.message, hint=error.hint) from error
        self._unreached = 0
        answer: asyncio.Future[Registered] = asyncio.get_running_loop().create_future()
        self._waiting.append(answer)
        self._take_way(flow)
        binding.start(self._stack.signalling.now())
        self._settle()
        return await answer

    async def stop(self) -> RegistrationError | None:
        """Unregister, and try no more; return why the registrar may still know us, if it may.

        Waits a moment for the registrar to agree.
        """
        self.wanted = False
        binding = self._binding
        if binding is None or binding.state is sip.RegistrationState.UNREGISTERED:
            self._stop_timer()
            return None
        gone: asyncio.Future[RegistrationError | None] = asyncio.get_running_loop().create_future()
        self._leaving.append(gone)
        binding.stop(self._stack.signalling.now())
        self._settle()
        try:
            async with asyncio.timeout(GOODBYE_S):
                return await gone
        except TimeoutError:
            self._stop_timer()
            self._refuse(RegistrationError("unregistered meanwhile"))
            host = self.account.registrar.host
            return RegistrationError(f"{host} has not agreed to unregister in {GOODBYE_S:g} s")

    async def close(self) -> None:
        """Forget it without a word: the registrar will, when the binding runs out."""
        self._closed = True
        self._stop_timer()
        self._refuse(RegistrationError("the phone was closed"))
        for task in self._work:
            task.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)

    def on_event(self, event: SipEvent) -> bool:
        """Take an event of the agent; True when it was about our REGISTER."""
        if self._binding is None:
            return False
        self._binding.retry_base_s = self._retry_base_s()
        if not self._binding.handle(event, self._stack.signalling.now()):
            return False
        self._settle()
        return True

    def on_lost(self, flow: Flow) -> None:
        """The way `flow` is gone: register by another one, or nobody reaches us.

        At once, but for a connection that is lost early again and again: then a renewal is
        early enough. Where a REGISTER was under way, that has failed and is tried again anyway.
        """
        self._keep_alives.lost(flow)
        if self._kept is not None and self._kept[0].peer == flow.peer:
            self._kept = None
        binding = self._binding
        if binding is None or not self.registered or self._registered_at is None:
            return
        if flow.peer != binding.flow.peer:
            return
        early = self._stack.signalling.now() - self._registered_at < STEADY_S
        if early and self._was_lost_early:
            log.info("%s closes its connections; registering again in time", flow.remote)
            return
        self._was_lost_early = early
        self._begin(self._renew(None))

    # ------------------------------------------------------------ the way there

    async def _flow(self, without: Collection[Peer] = ()) -> Flow:
        """Return the best way to the registrar, to none of those `without`."""
        where = self.account.where(self.account.aor)
        prefer = None if self._binding is None else self._binding.flow.peer
        signalling = self._stack.signalling
        async with aclosing(signalling.flows(where, prefer=prefer, without=without)) as flows:
            async for flow in flows:
                return flow
        raise AssertionError  # `flows` yields or raises

    def _bind(self, flow: Flow) -> sip.Registration:
        account = self.account
        self._binding = sip.Registration(
            self._stack.agent,
            self._stack.random,
            registrar=account.registrar,
            address=account.identity(),
            contact=self._contact(flow),
            flow=flow,
            credentials=account.credentials(),
            expires_s=account.expires_s,
            route=account.route(),
            instance=self._instance,
            reg_id=self._reg_id,
            seek=self._seek,
        )
        return self._binding

    def _take_way(self, flow: Flow, *, anyway: bool = False) -> None:
        """Go on by `flow`, if that is another way; register by it in any case with `anyway`."""
        binding = self._binding
        if binding is not None and (anyway or flow != binding.flow):
            binding.rebind(self._contact(flow), flow, self._stack.signalling.now())

    def _try_later(self, error: TransportError) -> None:
        """No way leads to the registrar: look for one again in time, as after other failures."""
        if self._binding is not None or self._closed or not self.wanted:
            return
        self._unreached += 1
        longest = min(sip.RETRY_MAX_S, self._retry_base_s() * 2.0 ** min(self._unreached, 16))
        wait_s = self._stack.random.uniform(0.5 * longest, longest)
        self._stop_timer()
        self._timer = asyncio.get_running_loop().call_later(wait_s, self._start_again)
        self._say_failed(RegistrationFailed(str(error), None, wait_s, self._aor))

    def _retry_base_s(self) -> float:
        return sip.RETRY_BASE_WHILE_REACHED_S if self.others_hold() else sip.RETRY_BASE_S

    def _start_again(self) -> None:
        async def start() -> None:
            with suppress(VoipError):  # it was told
                if self.wanted:
                    await self.start()

        self._timer = None
        self._begin(start())

    async def _renew(self, due: float | None) -> None:
        """Register again by the way that leads there now: because it is time, or (None) at once."""
        binding = self._binding
        if binding is None:
            return
        flow = binding.flow
        with suppress(VoipError):  # what is sent by the old way fails, is told, and tried again
            async with self._finding:
                flow = await self._flow()
        if self._closed or not binding.wanted:
            return
        self._take_way(flow, anyway=due is None)
        if due is not None:
            binding.handle_timer(max(due, self._stack.signalling.now()))
        self._settle()

    def _seek(self, sought: Sought) -> None:
        """Find another way for a REGISTER that nobody answers (RFC 3263 section 4.3)."""
        self._begin(self._look(sought))

    async def _look(self, sought: Sought) -> None:
        signalling = self._stack.signalling
        if sought.failed:
            signalling.avoid(sought.left)
        try:
            async with self._finding:
                flow = await self._flow(sought.tried)
        except VoipError:
            sought.lost(signalling.now())
        else:
            if self._closed or not self.wanted:
                sought.lost(signalling.now())
            elif sought.found(Way(flow, contact=self._contact(flow)), signalling.now()):
                signalling.avoid(sought.left)
        self._settle()

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    # ------------------------------------------------------------ what happens

    def _settle(self) -> None:
        """Send what is to be sent, tell what happened, and set the timer."""
        self._stack.signalling.flush()
        if self._binding is None:
            return
        for event in self._binding.events():
            self._happened(event)
        self._stop_timer()
        due = self._binding.next_timer()
        if due is not None and not self._closed:
            self._timer = asyncio.get_running_loop().call_at(due, self._timer_due, due)

    def _timer_due(self, due: float) -> None:
        self._timer = None
        self._begin(self._renew(due))

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _happened(self, event: sip.RegistrationEvent) -> None:
        match event:
            case sip.Registered(expires_s, _, terms):
                self._registered_at = self._stack.signalling.now()
                self._expires_at = self._registered_at + expires_s
                self.failure = None
                self._terms = terms
                self._keep_alive(terms)
                self._remember_host()
                told = Registered(expires_s, self._aor)
                for answer in _not_done(self._waiting):
                    answer.set_result(told)
                self._tell(told)
            case sip.RegistrationFailed():
                self._failed(event)
            case sip.Unregistered(error):
                self._let_go()
                if error is not None:
                    log.warning("unregistering: %s", error)
                for gone in _not_done(self._leaving):
                    gone.set_result(error)
                self._refuse(RegistrationError("unregistered meanwhile"))
                self.failure = None
                self._tell(Unregistered(self._aor))

    def _remember_host(self) -> None:
        if self._binding is not None:
            host = self._binding.flow.remote.host
            self._granted[host] = None
            self._granted.move_to_end(host)
            if len(self._granted) > MAX_HOSTS:
                self._granted.popitem(last=False)

    def _failed(self, event: sip.RegistrationFailed) -> None:
        self._refuse(event.error)
        error = event.error
        self._say_failed(RegistrationFailed(str(error), error.status, event.retry_in_s, self._aor))

    def _say_failed(self, failure: RegistrationFailed) -> None:
        self.failure = failure
        self._tell(failure)

    def _keep_alive(self, terms: Terms) -> None:
        """See to the flow the registrar reaches us by, where it may die unnoticed."""
        binding = self._binding
        if binding is None or (binding.flow, terms) == self._kept:
            return
        self._let_go()
        flow = binding.flow
        if flow.reliable or terms.outbound or terms.behind_nat:
            self._kept = flow, terms
            self._keep_alives.keep(
                self, flow, answers=terms.outbound, flow_timer_s=terms.flow_timer_s
            )

    def _let_go(self) -> None:
        if self._kept is not None:
            self._keep_alives.let_go(self, self._kept[0])
            self._kept = None

    def _refuse(self, error: VoipError) -> None:
        for answer in _not_done(self._waiting):
            answer.set_exception(error)

    def _refuse_if_over(self) -> None:
        if self._closed:
            raise RegistrationError("the phone was closed")
        if not self.wanted:
            raise RegistrationError("unregistered meanwhile")


def _not_done(futures: list[asyncio.Future[Any]]) -> list[asyncio.Future[Any]]:
    """Take those that somebody waits for; the list is empty then."""
    waiting = [future for future in futures if not future.done()]
    futures.clear()
    return waiting
