"""One account of a phone: where it is registered, how it is named, and which ways it goes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection
from contextlib import aclosing
from dataclasses import replace

from voip.account import Account
from voip.contacts import Contacts
from voip.errors import SipError, TransportError
from voip.events import PhoneEvent
from voip.keepalives import KeepAlives
from voip.registrars import Registrars
from voip.registration import Registrar
from voip.session.failures import unreachable
from voip.session.stack import Stack
from voip.sip.flow import Flow, Peer
from voip.sip.headers import NameAddr
from voip.sip.message import Request
from voip.sip.sips import answers_by_sips, top_is_sips
from voip.sip.uri import SipUri, uri_scheme

__all__ = ["Line"]


class Line:
    """What a phone calls and is called as. `stack` and `registrars` are there once it is started.

    Not `named`: the phone has no account, and `account` is nobody's. registers: whether the account
    is registered as long as the phone is open. mark: see `Contacts`. `over`: it has been removed,
    and nothing is begun as it any more.
    """

    stack: Stack
    registrars: Registrars

    def __init__(
        self, account: Account, *, named: bool, registers: bool, mark: str | None = None
    ) -> None:
        self.account = account
        self.named = named
        self.registers = registers
        self.over = False
        self.contacts = Contacts(account, named=named, mark=mark)
        self._mark = mark

    def begin(
        self,
        stack: Stack,
        tell: Callable[[PhoneEvent], None],
        keep_alives: KeepAlives,
        *,
        transport: str | None,
        instance: str | None,
    ) -> None:
        """Make its registrations: one for each proxy, flows of `instance` where that is given."""
        account = self.account
        proxies = account.proxies or (None,)
        self.stack = stack
        self.registrars = self.contacts.registrars = Registrars(
            [
                Registrar(
                    replace(account, proxy=proxy, transport=account.transport or transport),
                    stack,
                    self.contacts.at,
                    tell,
                    keep_alives,
                    instance=instance,
                    reg_id=None if instance is None else reg_id,
                )
                for reg_id, proxy in enumerate(proxies, 1)
            ]
        )

    @property
    def aor(self) -> str:
        """The address of record, "" where there is no account."""
        return str(self.account.aor) if self.named else ""

    # ------------------------------------------------------------ what comes in

    def expects(self, request: Request, host: str | None) -> bool:
        """Whether such a request from `host` (None: it is not known) is one for this account.

        A Request-URI without a user names nobody else.
        """
        if not self.named:
            return True
        if self.registers and host is not None and host not in self.registrars.hosts():
            return False
        return _user(request) in (None, self.account.user)

    def fitness(self, request: Request, host: str | None) -> tuple[bool, ...]:
        """Return how well a request fits this account: compared with others' the greatest is it."""
        uri = _sip_uri(request.uri)
        return (
            uri is not None and self._mark is not None and uri.param("line") == self._mark,
            self.expects(request, host),
            uri is not None and uri.user is not None and uri.user == self.account.user,
            host in self.registrars.hosts(),
            self._is_called(request),
        )

    def _is_called(self, request: Request) -> bool:
        try:
            called = _sip_uri(request.to.uri)
        except SipError:
            return False
        own = self.account.aor
        return called is not None and (called.user, called.host) == (own.user, own.host)

    # ------------------------------------------------------------ what goes out

    async def ways(
        self, uri: SipUri, *, without: Collection[Peer] = ()
    ) -> AsyncGenerator[tuple[Registrar, Flow]]:
        """Yield the ways to `uri`, the best first, each with the registration it belongs to.

        None of those `without`. Raises `UnreachableError` for none at all.
        """
        failure: TransportError | None = None
        is_there = False
        for registrar in self.registrars.by_preference():
            where = registrar.where(uri)
            flows = self.stack.signalling.flows(where, prefer=registrar.peer, without=without)
            try:
                async with aclosing(flows):
                    async for flow in flows:
                        is_there = True
                        yield registrar, flow
            except TransportError as error:
                failure = failure or error
        if failure is not None and not is_there:
            raise unreachable(failure.message, hint=failure.hint) from failure

    def identity(self, flow: Flow) -> NameAddr:
        """Return who we are in From."""
        return self.contacts.identity(flow)

    def contact(self, flow: Flow, *, secure: bool = False, anonymous: bool = False) -> str:
        """Return our Contact towards the other end of a flow: see `Contacts.of_dialog`.

        `secure`: by a sips: URI, as it must be where one was called.
        """
        return self.contacts.of_dialog(flow, secure=secure, anonymous=anonymous)

    def contact_to(self, uri: SipUri, flow: Flow, *, anonymous: bool = False) -> str:
        """Return our Contact in a request to `uri`."""
        route = self.registrars.of(flow).route()
        secure = uri.scheme == "sips" or top_is_sips(route)
        return self.contact(flow, secure=secure, anonymous=anonymous)

    def contact_for(self, request: Request, flow: Flow, *, anonymous: bool = False) -> str:
        """Return our Contact in the answer to a request that came by `flow`."""
        return self.contact(flow, secure=answers_by_sips(request), anonymous=anonymous)


def _sip_uri(text: str) -> SipUri | None:
    if uri_scheme(text) not in ("sip", "sips"):
        return None
    try:
        return SipUri.parse(text)
    except SipError:
        return None


def _user(request: Request) -> str | None:
    """Return whom a request names, None where it names nobody, "" where that is nobody's name."""
    uri = _sip_uri(request.uri)
    return "" if uri is None else uri.user
