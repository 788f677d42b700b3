"""The accounts of a phone while it is open: registered, looked at, added and removed."""

from __future__ import annotations

import asyncio

from voip.account import Account
from voip.desk import Desk
from voip.events import Registered
from voip.line import Line
from voip.publishing import Publishing
from voip.registrars import RegistrationStatus
from voip.watching import Watching

__all__ = ["Accounts"]


class Accounts:
    """What a phone does with its accounts."""

    def __init__(self, desk: Desk, watching: Watching, publishing: Publishing) -> None:
        self._desk = desk
        self._watching = watching
        self._publishing = publishing

    async def add(self, account: Account) -> Registered | None:
        """Have one more account from now on, and register it where it is to be.

        Returns what was granted, None where it is not to be registered. The first account of a
        phone without one is the one that is meant where none is named. Raises `ConfigError` for an
        address that is there already, and as `register` does where it is refused: then nothing is
        left of it.
        """
        desk = self._desk
        desk.check_open()
        line = desk.lines.add(account)
        if not line.registers:
            return None
        try:
            return await line.registrars.start()
        except BaseException:
            desk.lines.part_with(line)
            await asyncio.shield(self._end(line))
            raise

    async def remove(self, account: Account | str) -> None:
        """Have an account no longer: end what belongs to it, then let its registrar forget it.

        It is nobody's from the beginning on: nothing is begun as it, and calls for it are refused
        as strangers' are. Its calls are hung up, its watches given up, its states taken back, and
        those who watch it are told that there is nothing to be watched. A registrar that does not
        agree is logged, as when the phone closes. Where it was the first account the next one is,
        and without another the phone has none. Raises `ConfigError` where it is not there.
        """
        desk = self._desk
        desk.check_open()
        line = desk.lines.of(account)
        desk.lines.part_with(line)
        await asyncio.shield(self._end(line))

    async def _end(self, line: Line) -> None:
        """End all that belongs to a line that nothing is begun as any more."""
        desk = self._desk
        calls = [call for call in desk.calls.values() if call.account is line.account]
        await asyncio.gather(*(call.hangup() for call in calls), return_exceptions=True)
        self._watching.forget(line)
        await asyncio.gather(self._watching.close(line), self._publishing.close(line))
        await line.registrars.stop()
        await line.registrars.close()
        desk.lines.forget(line)

    # ------------------------------------------------------------ registration

    async def register(self, account: Account | str | None = None) -> Registered:
        """Register an account now, or all (None), whatever was before; returns what was granted.

        Raises `RegistrationError` when it was refused, all of several; where that may pass it is
        tried again all the same.
        """
        self._check_started()
        return await self._desk.lines.start(account)

    async def unregister(self, account: Account | str | None = None) -> None:
        """Let one or all be forgotten; raises `RegistrationError` where a registrar does not agree.

        What is said of `account` and None is said of `register`.
        """
        self._check_started()
        error = await self._desk.lines.stop(account)
        if error is not None:
            raise error

    def registration(self, account: Account | str | None = None) -> RegistrationStatus:
        """Return how an account stands at its registrar at this moment."""
        self._check_started()
        line = self._desk.lines.of(account)
        return line.registrars.status(line.account)

    def _check_started(self) -> None:
        if not self._desk.opened:
            self._desk.check_open()
