"""The accounts of one phone: each registered on its own, all answering for the phone together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from itertools import count
from typing import Any, Final

from voip.account import Account
from voip.errors import ConfigError, RegistrationError
from voip.events import PhoneEvent, Registered
from voip.keepalives import KeepAlives
from voip.line import Line
from voip.session.stack import Stack
from voip.sip.events import SipEvent
from voip.sip.flow import Flow
from voip.sip.message import Request

__all__ = ["ANONYMOUS_URI", "Lines"]

ANONYMOUS_URI: Final = "sip:anonymous@anonymous.invalid"
"""Who a phone without an account is (RFC 3261 section 8.1.1.3)."""
PATIENCE_S: Final = 4.0
"""How long one account that is registered waits for the others when the phone is opened."""
_NOBODY, _SOMEBODY = "nothing to register", 'Softphone("sip:alice@pbx.example")'


class Lines:
    """The lines of a phone, the first of which is meant where none is named.

    own: the account that is written out as arguments of the phone, nobody's where it is not
    `named`; there are it or `accounts`. register: whether to register those that want it as long
    as the phone is open; None: if there are any.
    """

    def __init__(
        self, own: Account, accounts: Sequence[Account], *, named: bool, register: bool | None
    ) -> None:
        if accounts and (named or own != Account(own.uri, transport=own.transport)):
            raise ConfigError("accounts, and one beside them", hint="Account(uri, password=...)")
        accounts = accounts or ([own] if named else [])
        if register and not any(account.register for account in accounts):
            raise ConfigError(_NOBODY, hint=_SOMEBODY)
        self._register = register is not False
        self._begin: Callable[[Line], None] = lambda line: None
        nobody = Account(ANONYMOUS_URI, transport=own.transport) if named else own
        self._nobody = Line(nobody, named=False, registers=False)
        self._lines: tuple[Line, ...] = ()
        self._leaving: dict[Line, None] = {}
        self._marks = count(1)
        self._late: dict[asyncio.Task[Registered], None] = {}  # in order: a simulation repeats
        for account in accounts:
            self.add(account)
        self._lines = self._lines or (self._nobody,)

    def begin(
        self,
        stack: Stack,
        tell: Callable[[PhoneEvent], None],
        *,
        transport: str | None,
        instance: str,
        outbound: bool,
    ) -> None:
        """Make the registrations of all: see `Line.begin`; with `outbound`, or where it must be."""
        keep_alives = KeepAlives(stack.signalling)

        def begin(line: Line) -> None:
            flows = outbound or len(line.account.proxies) > 1
            urn = instance if flows else None
            line.begin(stack, tell, keep_alives, transport=transport, instance=urn)

        self._begin = begin
        for line in dict.fromkeys((*self._lines, self._nobody)):
            begin(line)

    # ------------------------------------------------------------ coming and going

    def add(self, account: Account) -> Line:
        """Have one more; `ConfigError` where it is there already."""
        others = [line for line in self._all if line.named]
        if any(line.account.aor.equivalent(account.aor) for line in others):
            raise ConfigError(f"{account.aor} twice", hint="one account for each address")
        mark = str(next(self._marks))
        is_alone = all(line.account.user != account.user for line in others)
        wanted = self._register and account.register
        line = Line(account, named=True, registers=wanted, mark=None if is_alone else mark)
        self._lines = (*(one for one in self._lines if one.named), line)
        self._begin(line)
        return line

    def part_with(self, line: Line) -> None:
        """Begin nothing as it any more; what is under way goes on until `forget`."""
        line.over = True
        self._leaving[line] = None
        self._lines = tuple(one for one in self._lines if one is not line) or (self._nobody,)

    def forget(self, line: Line) -> None:
        """Take it that nothing of it is left."""
        self._leaving.pop(line, None)

    # ------------------------------------------------------------ which is meant

    @property
    def first(self) -> Line:
        """The one that is meant where none is named."""
        return self._lines[0]

    @property
    def accounts(self) -> list[Account]:
        """The accounts, the first of which is meant where none is named."""
        return [line.account for line in self._lines if line.named]

    def of(self, account: Account | str | None) -> Line:
        """Return the line of an account, or of an address of record; `ConfigError` for others'."""
        if account is None:
            return self.first
        wanted = (account if isinstance(account, Account) else Account(account)).aor
        for line in self._lines:
            if line.named and line.account.aor.equivalent(wanted):
                return line
        known = ", ".join(str(one.aor) for one in self.accounts)
        raise ConfigError(f"{wanted} is no account of this phone", hint=known)

    def of_call(self, account: Account | None) -> Line:
        """Return the line of a call; the first where its account has been removed meanwhile."""
        for line in self._all:
            if account is not None and line.account is account:
                return line
        return self.first

    def called(self, request: Request, flow: Flow | None = None) -> Line:
        """Return the line that a request came for: by the contact it was sent to, and from where.

        Where that fits nobody it is the first.
        """
        if len(self._lines) == 1:
            return self.first
        host = None if flow is None else flow.remote.host
        return max(self._lines, key=lambda line: line.fitness(request, host))

    def hosts(self) -> set[str]:
        """Return the addresses of all registrars: who comes from there speaks for one of them."""
        return {host for line in self._all for host in line.registrars.hosts()}

    @property
    def _all(self) -> tuple[Line, ...]:
        return (*self._lines, *self._leaving)

    # ------------------------------------------------------------ registration

    @property
    def registered(self) -> bool:
        """Whether everyone who is to be registered is, and somebody is."""
        wanted = [line for line in self._lines if line.registrars.wanted]
        return bool(wanted) and all(line.registrars.registered for line in wanted)

    async def open(self) -> None:
        """Register those that are to be registered as long as the phone is open: see `start`."""
        if any(line.registers for line in self._lines):
            await self.start()

    async def start(self, account: Account | str | None = None) -> Registered:
        """Register an account, or all that want it; returns the first grant, in their order.

        That is when all are granted or refused, or `PATIENCE_S` after one was; raises where all
        are refused. Those that are late or refused go on, as `Registrar.start` says.
        """
        lines = self._to_register(account)
        if len(lines) == 1:
            return await lines[0].registrars.start()
        starting = [self._spawn(line.registrars.start()) for line in lines]
        late = set(starting)
        while late and not any(map(_is_granted, starting)):
            _, late = await asyncio.wait(late, return_when=asyncio.FIRST_COMPLETED)
        if late:
            await asyncio.wait(late, timeout=PATIENCE_S)
        for task in starting:
            if _is_granted(task):
                return task.result()
        failure = None if starting[0].cancelled() else starting[0].exception()
        raise failure or RegistrationError("the phone was closed")

    def _to_register(self, account: Account | str | None) -> list[Line]:
        if account is not None:
            return [self.of(account)]
        lines = [line for line in self._lines if line.named and line.account.register]
        if not lines:
            raise ConfigError(_NOBODY, hint=_SOMEBODY)
        return lines

    async def stop(self, account: Account | str | None = None) -> RegistrationError | None:
        """Unregister one or all; return why a registrar may still know us, if one may."""
        lines = self._all if account is None else (self.of(account),)
        errors = await asyncio.gather(*(line.registrars.stop() for line in lines))
        return next((error for error in errors if error is not None), None)

    async def close(self) -> None:
        """Forget all without a word."""
        for line in self._all:
            await line.registrars.close()
        for task in self._late:  # it may be looking for a way still
            task.cancel()
        await asyncio.gather(*self._late, return_exceptions=True)

    def on_event(self, event: SipEvent) -> bool:
        """Take an event of the agent; True when it was about a REGISTER of ours."""
        return any(line.registrars.on_event(event) for line in self._all)

    def on_lost(self, flow: Flow) -> None:
        """Take it that a way is gone."""
        for line in self._all:
            line.registrars.on_lost(flow)

    def _spawn(self, work: Coroutine[Any, Any, Registered]) -> asyncio.Task[Registered]:
        task = asyncio.get_running_loop().create_task(work)
        self._late[task] = None
        task.add_done_callback(self._over)
        return task

    def _over(self, task: asyncio.Task[Registered]) -> None:
        """Forget one that was granted or refused: its failure was told as an event."""
        self._late.pop(task, None)
        if not task.cancelled():
            task.exception()


def _is_granted(task: asyncio.Task[Registered]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is None
