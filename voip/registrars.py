"""The registrations of one account: by one proxy, or by several at once (RFC 5626 section 4.2)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from voip.account import Account
from voip.errors import RegistrationError
from voip.events import Registered, RegistrationFailed
from voip.registration import Registrar
from voip.sip.events import SipEvent
from voip.sip.flow import Flow

__all__ = ["Registrars", "RegistrationStatus"]


@dataclass(frozen=True, slots=True)
class RegistrationStatus:
    """How an account stands at its registrar at this moment.

    `expires_in_s`: how long the registrar still knows us, None where it does not. `failure`: how
    the latest attempt failed, None where it did not; its `retry_in_s` counts from then. `gruu`: a
    URI that reaches this very phone, where the registrar has given one (RFC 5627).
    """

    account: Account
    registered: bool
    expires_in_s: float | None = None
    failure: RegistrationFailed | None = None
    gruu: str | None = None


class Registrars:
    """Keeps each of `lines` registered; one of them is enough to be reached."""

    def __init__(self, lines: Sequence[Registrar]) -> None:
        self._lines = tuple(lines)
        self._late: set[asyncio.Task[Registered]] = set()
        for line in self._lines:
            line.others_hold = partial(self._others_hold, line)

    def _others_hold(self, line: Registrar) -> bool:
        return any(other.registered for other in self._lines if other is not line)

    @property
    def registered(self) -> bool:
        """Whether the registrar knows us, by whatever way."""
        return any(line.registered for line in self._lines)

    @property
    def wanted(self) -> bool:
        """Whether the account is to be registered, be it or not."""
        return any(line.wanted for line in self._lines)

    def status(self, account: Account) -> RegistrationStatus:
        """Return how it stands, by the best of the ways."""
        best = self.by_preference()[0]
        return RegistrationStatus(
            account, best.registered, best.expires_in_s, best.failure, best.gruu
        )

    def hosts(self) -> list[str]:
        """Return where calls come from: the hosts that have registered us, as IP literals."""
        return [host for line in self._lines for host in line.hosts]

    def by_preference(self) -> list[Registrar]:
        """Return the lines, those that are registered first."""
        return sorted(self._lines, key=lambda line: not line.registered)

    def of(self, flow: Flow) -> Registrar:
        """Return the line that is registered by a flow, or else the best one."""
        lines = self.by_preference()
        return next((line for line in lines if line.peer == flow.peer), lines[0])

    async def start(self) -> Registered:
        """Register by all; returns what the first grants, raises when all refuse.

        The others go on in the meantime, and what becomes of them is told as events.
        """
        if len(self._lines) == 1:
            return await self._lines[0].start()
        loop = asyncio.get_running_loop()
        starting = {loop.create_task(line.start()) for line in self._lines}
        self._late |= starting
        for task in starting:
            task.add_done_callback(self._over)
        failure: BaseException | None = None
        while starting:
            done, starting = await asyncio.wait(starting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if task.cancelled():  # see `close`
                    failure = failure or RegistrationError("the phone was closed")
                elif (error := task.exception()) is None:
                    return task.result()
                else:
                    failure = error
        raise failure or RegistrationError("there is nobody to register at")

    async def stop(self) -> RegistrationError | None:
        """Unregister everywhere; return why a registrar may still know us, if one may."""
        errors = await asyncio.gather(*(line.stop() for line in self._lines))
        return next((error for error in errors if error is not None), None)

    async def close(self) -> None:
        """Forget all without a word."""
        for line in self._lines:
            await line.close()
        for task in self._late:  # it may be looking for a way still
            task.cancel()
        await asyncio.gather(*self._late, return_exceptions=True)

    def on_event(self, event: SipEvent) -> bool:
        """Take an event of the agent; True when it was about a REGISTER of ours."""
        return any(line.on_event(event) for line in self._lines)

    def on_lost(self, flow: Flow) -> None:
        """Take it that a way is gone."""
        for line in self._lines:
            line.on_lost(flow)

    def _over(self, task: asyncio.Task[Registered]) -> None:
        """Forget one that has started or failed: its failure was told as an event."""
        self._late.discard(task)
        if not task.cancelled():
            task.exception()
