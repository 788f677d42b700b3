"""Keeping an account registered, in the event loop: `voip.sip.registration` with a timer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from voip.account import Account
from voip.errors import RegistrationError, VoipError
from voip.events import PhoneEvent, Registered, RegistrationFailed, Unregistered
from voip.session.stack import Stack
from voip.sip import registration as sip
from voip.sip.events import SipEvent
from voip.sip.flow import Flow

__all__ = ["Registrar"]

log = logging.getLogger(__name__)

GOODBYE_S = 4.0
"""How long unregistering waits for the registrar."""


class Registrar:
    """The registration of one phone. `tell` gets its events; `contact(flow)` names the phone."""

    def __init__(
        self,
        account: Account,
        stack: Stack,
        contact: Callable[[Flow], str],
        tell: Callable[[PhoneEvent], None],
    ) -> None:
        self._account = account
        self._stack = stack
        self._contact = contact
        self._tell = tell
        self._binding: sip.Registration | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: list[asyncio.Future[Registered]] = []
        self._gone = asyncio.Event()

    @property
    def registered(self) -> bool:
        """Whether the registrar knows us."""
        binding = self._binding
        return binding is not None and binding.state is sip.RegistrationState.REGISTERED

    async def start(self) -> Registered:
        """Register; returns what was granted, raises `RegistrationError` when it was refused.

        After a refusal that may pass it is tried again all the same, until `stop`.
        """
        account, signalling = self._account, self._stack.signalling
        if self._binding is None:
            hop = account.target(account.aor)
            flow = await signalling.flow_to(hop.host, hop.port, hop.transport)
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
            )
        answer: asyncio.Future[Registered] = asyncio.get_running_loop().create_future()
        self._waiting.append(answer)
        self._gone.clear()
        self._binding.start(signalling.now())
        self._settle()
        return await answer

    async def stop(self) -> None:
        """Unregister, and try no more. Waits a moment for the registrar to agree."""
        binding = self._binding
        if binding is None:
            return
        if binding.state is not sip.RegistrationState.UNREGISTERED:
            binding.stop(self._stack.signalling.now())
            self._settle()
            with suppress(TimeoutError):
                async with asyncio.timeout(GOODBYE_S):
                    await self._gone.wait()
        self.drop()

    def drop(self) -> None:
        """Forget it without a word: the registrar will, when the binding runs out."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._refuse(RegistrationError("the phone was closed"))

    def on_event(self, event: SipEvent) -> bool:
        """Take an event of the agent; True when it was about our REGISTER."""
        if self._binding is None or not self._binding.handle(event, self._stack.signalling.now()):
            return False
        self._settle()
        return True

    def _settle(self) -> None:
        """Send what is to be sent, tell what happened, and set the timer."""
        self._stack.signalling.flush()
        if self._binding is None:
            return
        for event in self._binding.events():
            self._happened(event)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self._binding.next_timer()
        if due is not None:
            self._timer = asyncio.get_running_loop().call_at(due, self._timer_due, due)

    def _timer_due(self, due: float) -> None:
        self._timer = None
        if self._binding is not None:
            self._binding.handle_timer(max(due, self._stack.signalling.now()))
            self._settle()

    def _happened(self, event: sip.RegistrationEvent) -> None:
        match event:
            case sip.Registered(expires_s, _):
                told = Registered(expires_s)
                for answer in self._take_waiting():
                    answer.set_result(told)
                self._tell(told)
            case sip.RegistrationFailed(error, retry_in_s):
                self._refuse(error)
                self._tell(RegistrationFailed(str(error), error.status, retry_in_s))
            case sip.Unregistered(error):
                if error is not None:
                    log.warning("unregistering: %s", error)
                self._gone.set()
                self._refuse(RegistrationError("unregistered meanwhile"))
                self._tell(Unregistered())

    def _refuse(self, error: VoipError) -> None:
        for answer in self._take_waiting():
            answer.set_exception(error)

    def _take_waiting(self) -> list[asyncio.Future[Registered]]:
        waiting, self._waiting = self._waiting, []
        return [answer for answer in waiting if not answer.done()]
