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
from voip.sip.registration import RegistrationState

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
    """Keeps each of `registrars` registered; one of them is enough to be reached."""

    def __init__(self, registrars: Sequence[Registrar]) -> None:
        self._all = tuple(registrars)
        self._late: dict[asyncio.Task[Registered], None] = {}  # in order: a simulation repeats
        for one in self._all:
            one.others_hold = partial(self._others_hold, one)

    def _others_hold(self, one: Registrar) -> bool:
        return any(other.registered for other in self._all if other is not one)

    @property
    def registered(self) -> bool:
        """Whether the registrar knows us, by whatever way."""
        return any(one.registered for one in self._all)

    @property
    def wanted(self) -> bool:
        """Whether the account is to be registered, be it or not."""
        return any(one.wanted for one in self._all)

    def status(self, account: Account) -> RegistrationStatus:
        """Return how it stands, by the best of the ways."""
        best = self.by_preference()[0]
        return RegistrationStatus(
            account, best.registered, best.expires_in_s, best.failure, best.gruu
        )

    def states(self) -> list[RegistrationState]:
        """Return where each of them stands."""
        return [one.state for one in self._all]

    def hosts(self) -> list[str]:
        """Return where calls come from: the hosts that have registered us, as IP literals."""
        return [host for one in self._all for host in one.hosts]

    def by_preference(self) -> list[Registrar]:
        """Return them, those that are registered first."""
        return sorted(self._all, key=lambda one: not one.registered)

    def of(self, flow: Flow) -> Registrar:
        """Return the one that is registered by a flow, or else the best one."""
        best = self.by_preference()
        return next((one for one in best if one.peer == flow.peer), best[0])

    async def start(self) -> Registered:
        """Register by all; returns what the first grants, raises when all refuse.

        The others go on in the meantime, and what becomes of them is told as events.
        """
        if len(self._all) == 1:
            return await self._all[0].start()
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(one.start()) for one in self._all]
        for task in tasks:
            self._late[task] = None
            task.add_done_callback(self._over)
        starting = set(tasks)
        failure: BaseException | None = None
        while starting:
            done, starting = await asyncio.wait(starting, return_when=asyncio.FIRST_COMPLETED)
            for task in [one for one in tasks if one in done]:
                if task.cancelled():  # see `close`
                    failure = failure or RegistrationError("the phone was closed")
                elif (error := task.exception()) is None:
                    return task.result()
                else:
                    failure = error
        raise failure or RegistrationError("there is nobody to register at")

    async def stop(self) -> RegistrationError | None:
        """Unregister everywhere; return why a registrar may still know us, if one may."""
        errors = await asyncio.gather(*(one.stop() for one in self._all))
        return next((error for error in errors if error is not None), None)

    async def close(self) -> None:
        """Forget all without a word."""
        for one in self._all:
            await one.close()
        for task in self._late:  # it may be looking for a way still
            task.cancel()
        await asyncio.gather(*self._late, return_exceptions=True)

    def on_event(self, event: SipEvent) -> bool:
        """Take an event of the agent; True when it was about a REGISTER of ours."""
        return any(one.on_event(event) for one in self._all)

    def on_lost(self, flow: Flow) -> None:
        """Take it that a way is gone."""
        for one in self._all:
            one.on_lost(flow)

    def _over(self, task: asyncio.Task[Registered]) -> None:
        """Forget one that has started or failed: its failure was told as an event."""
        self._late.pop(task, None)
        if not task.cancelled():
            task.exception()
