"""A PBX inside the process: a registrar and a set of numbers, for demonstrations and tests.

It has the users and numbers of the Asterisk that the interop tests start, and answers the same
questions about what it saw, so that a test can run against both.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import deque
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from itertools import count
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from voip.b2bua import HeaderList, connect
from voip.call import Call
from voip.config import MediaConfig, NetworkConfig
from voip.errors import ConfigError, SipError
from voip.events import DtmfReceived
from voip.harness.pbx_numbers import Numbers
from voip.net.platform import running_platform
from voip.phone import Softphone
from voip.proxy import SipProxy
from voip.sip.authenticator import Authenticator
from voip.sip.digest_server import DigestServer
from voip.sip.endpoint.trace import SipTrace
from voip.sip.event_server import EventConfig
from voip.sip.identity import asserted
from voip.sip.location import Binding, Location, by_preference
from voip.sip.message import Request
from voip.sip.proxy_policy import Target
from voip.sip.registrar import Registrar
from voip.sip.server_request import ServerRequest
from voip.sip.uri import SipUri
from voip.sounds import asset_path
from voip.types import Address

if TYPE_CHECKING:
    from voip.metrics import Metrics

__all__ = ["USERS", "EmbeddedPbx", "HeardDigit"]

USERS: Final[Mapping[str, str]] = {"1001": "secret1001", "1002": "secret1002"}
"""Users there are unless told otherwise, and their passwords."""

MAX_CALL_S: Final = 3600.0
"""The longest call: a recording does not fill the disk."""
MAX_HEARD: Final = 10_000
"""Digits that are remembered."""


@dataclass(frozen=True, slots=True)
class HeardDigit:
    """A digit that was heard. `channel`: the caller's number, and which call of the PBX it was."""

    channel: str
    digit: str
    duration_ms: float


class EmbeddedPbx:
    """A PBX on `host`, UDP and TCP: `async with EmbeddedPbx() as pbx:`. Port 0: any free one.

    Callers need a digest password, the one of the user in From. The numbers: 600 echo; 601 tone
    of 1004 Hz, 0 dBm0; 603 a prompt, then BYE; 604 a beep, then reads four digits; 605 sends
    `1234*0#`, 150 ms each, then BYE; 606 the prompt as early media, then answers and echoes; 607
    busy (486); 608 no circuit (503); 609 rings for ever; 610 answers, BYE after a second; 612
    records and echoes; 614 records, and is silent. A user's number rings where the user has
    registered, all places at once. Any other number: 404.

    users: names and passwords. recordings: an existing directory for 612 and 614; without it what
    they record is gone when the PBX closes. algorithms: of digest, all offered in this order; MD5
    alone, because some phones give up where they see another. proxy: calls between users go
    through a SIP proxy, and their sound from one to the other, instead of both being calls of the
    PBX; it is in front of the numbers too, and asks for the password by 407. max_redirects,
    hides_users, events: that proxy's, as of `SipProxy`; without word on it users may publish their
    presence and watch each other's. Without a proxy there is no presence (405, 489), and phones get
    no name of their own (GRUU): who calls one would reach the PBX. media, metrics, trace: as of
    `Softphone`. In a simulated world it is made by code that runs on its host.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        users: Mapping[str, str] = USERS,
        *,
        recordings: str | PathLike[str] | None = None,
        algorithms: tuple[str, ...] = ("MD5",),
        proxy: bool = False,
        max_redirects: int = 0,
        hides_users: bool = True,
        events: EventConfig | None = None,
        media: MediaConfig | None = None,
        metrics: Metrics | None = None,
        trace: SipTrace | None = None,
    ) -> None:
        of_proxy = {
            "max_redirects": max_redirects != 0,
            "hides_users": not hides_users,
            "events": events is not None,
        }
        given = [name for name, is_given in of_proxy.items() if is_given]
        if given and not proxy:
            raise ConfigError(
                f"{' and '.join(given)}: only a PBX with a proxy has that", hint="proxy=True"
            )
        self.host = host
        self._users = dict(users)
        self._recordings = recordings
        random = running_platform().random()
        digest = DigestServer("voip", self._users, random, algorithms=algorithms)
        self._authenticator = Authenticator(digest, known=self._showed_password)
        self._location = Location()
        self._registrar = Registrar(self._users, self._location, self._authenticator)
        self._proxy: SipProxy | None = None
        if proxy:
            self._proxy = SipProxy(
                self._users,
                host,
                port,
                services=self._service,
                algorithms=algorithms,
                max_redirects=max_redirects,
                hides_users=hides_users,
                events=events or EventConfig(),
                metrics=metrics,
                trace=trace,
            )
            self._location = self._proxy.location
        self._phone = Softphone(
            network=NetworkConfig(
                bind_host=host,
                bind_port=0 if proxy else port,
                trusted=(host,) if proxy else (),
            ),
            media=media,
            metrics=metrics,
            register=False,
            requests={} if proxy else {"REGISTER": self._register},
            authorize=self._from_proxy if proxy else self._authorize,
            trace=None if proxy else trace,
            random=random,
            user_agent="voip embedded PBX",
        )
        self._phone.on_incoming(self._take)
        self._phone.on_transfer(lambda request: False)  # it calls nobody but its users
        self._exit = AsyncExitStack()
        self._serial = count(1)
        self._taking: set[asyncio.Task[None]] = set()
        self._heard: deque[HeardDigit] = deque(maxlen=MAX_HEARD)
        self._heard_before = 0
        self._news = asyncio.Event()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as opening:
            prompt = opening.enter_context(asset_path("prompt-8k.wav"))
            beep = opening.enter_context(asset_path("enter-digits-8k.wav"))
            directory = self._recordings
            if directory is None:
                directory = opening.enter_context(
                    tempfile.TemporaryDirectory(prefix="voip-pbx-", ignore_cleanup_errors=True)
                )
            self._numbers = Numbers(prompt, beep, Path(directory), self._tell)
            if self._proxy is not None:
                await opening.enter_async_context(self._proxy)
            await opening.enter_async_context(self._phone)
            opening.push_async_callback(self._end_calls)
            self._exit = opening.pop_all()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._exit.aclose()

    # ------------------------------------------------------------ where it is

    @property
    def port(self) -> int:
        """The SIP port, UDP and TCP."""
        return self._phone.port if self._proxy is None else self._proxy.port

    @property
    def proxy(self) -> SipProxy | None:
        """The proxy in front of it, None where there is none."""
        return self._proxy

    @property
    def address(self) -> str:
        """`host:port`."""
        return str(Address(self.host, self.port))

    def uri(self, number: str) -> str:
        """Return the SIP URI of a number or user."""
        return f"sip:{number}@{self.address}"

    def password(self, user: str) -> str:
        """Return a user's digest password; ConfigError where there is no such user."""
        if user not in self._users:
            raise ConfigError(f"nobody is called {user}", hint=", ".join(self._users))
        return self._users[user]

    # ------------------------------------------------------------ what it saw

    def contacts(self, user: str) -> list[str]:
        """Return the contact URIs under which `user` is registered now.

        The preferred ones come first, of equal ones the newest.
        """
        return [str(binding.uri) for binding in self._bindings(user)]

    def _bindings(self, user: str) -> list[Binding]:
        groups = by_preference(self._location.bindings(user, _now()))
        return [binding for group in groups for binding in group]

    def calls(self) -> int:
        """Return how many calls are up or being set up; one between users counts twice."""
        return len(self._phone.calls)

    async def idle(self, timeout: float = 5.0) -> None:
        """Wait until no call is left; raises TimeoutError."""
        async with asyncio.timeout(timeout):
            while self._taking or self._phone.calls:
                for call in self._phone.calls:  # one that a user was rung by may outlast `_take`
                    await call.wait_ended()
                if self._taking:
                    await self._next_news()

    async def digits(self, caller: str, timeout: float = 10.0) -> str:
        """Return the digits that 604 read from `caller`, and forget them; raises TimeoutError.

        604 is done after four digits, or 1.5 s without another one.
        """
        async with asyncio.timeout(timeout):
            while caller not in self._numbers.digits:
                await self._next_news()
        return self._numbers.digits.pop(caller)

    def heard_digits(self, since: int = 0) -> list[HeardDigit]:
        """Return every digit that ended after `since` (see `mark`), whatever the number called."""
        skip = max(0, since - self._heard_before)
        return list(self._heard)[skip:]

    def mark(self) -> int:
        """Return how many digits have been heard: what `heard_digits` takes."""
        return self._heard_before + len(self._heard)

    async def recording(self, number: str, timeout: float = 5.0) -> Path:
        """Return the newest recording (WAV) that 612 or 614 made, once no call is left."""
        await self.idle(timeout)
        if number not in self._numbers.recordings:
            raise FileNotFoundError(f"the PBX recorded nothing at {number}")
        return self._numbers.recordings[number]

    # ------------------------------------------------------------ within

    def _register(self, request: ServerRequest) -> None:
        self._registrar.register(request, _now())

    def _showed_password(self, host: str, _: float) -> None:
        self._phone.know(host)

    def _authorize(self, request: Request, now: float) -> list[tuple[str, str]] | None:
        """Return None where the sender of an INVITE is who From says, else the headers of a 401."""
        found = self._authenticator.authenticate(request, now)
        return (
            None if found.user is not None and found.user == _claimed(request) else found.challenge
        )

    def _from_proxy(self, request: Request, now: float) -> list[tuple[str, str]] | None:
        """Let through what our proxy has made sure of: it comes from there, and names a user."""
        via = request.via
        source = via.received or via.host, via.rport or via.port
        known = bool(asserted(request.headers)) and _claimed(request) in self._users
        if self._proxy is not None and source == (self.host, self._proxy.port) and known:
            return None
        return self._authenticator.authenticate(request, now).challenge

    def _service(self, number: str) -> Target | None:
        """Say where a number that is no user's is served: here, behind the proxy."""
        if self._numbers.service(number, "") is None:
            return None
        return Target(f"sip:{number}@{Address(self.host, self._phone.port)}")

    async def _take(self, call: Call) -> None:
        """Serve a caller, who is who From says: `authorize` has seen to that."""
        task = asyncio.current_task()
        if task is not None:
            self._taking.add(task)
            task.add_done_callback(self._taken)
        caller, number = _user(call.remote), _user(call.dialled)
        channel = f"{caller}-{next(self._serial):08}"
        call.on_dtmf(lambda event: self._hear(channel, event))
        async with call:  # however it goes, it is over then
            with suppress(TimeoutError):
                async with asyncio.timeout(MAX_CALL_S):
                    await self._serve(call, number, caller)

    async def _serve(self, call: Call, number: str, caller: str) -> None:
        service = self._numbers.service(number, caller)
        if service is not None:
            await service(call)
        elif number not in self._users:
            await call.reject(404)
        elif bindings := self._bindings(number):
            contacts = [_way_to(binding) for binding in bindings]
            await connect(call, contacts, lambda uri, more: self._dial(uri, caller, more))
        else:
            await call.reject(480)

    async def _dial(self, contact: str, caller: str, headers: HeaderList) -> Call:
        return await self._phone.dial(
            contact, wait="started", from_=self.uri(caller), headers=headers
        )

    def _hear(self, channel: str, event: DtmfReceived) -> None:
        if len(self._heard) == MAX_HEARD:
            self._heard_before += 1
        self._heard.append(HeardDigit(channel, event.digit, event.duration_ms))

    def _taken(self, task: asyncio.Task[None]) -> None:
        self._taking.discard(task)
        self._tell()

    async def _end_calls(self) -> None:
        """Hang up, and let every service finish what it does: recordings are whole then."""
        await asyncio.gather(*(call.hangup() for call in self._phone.calls))
        if self._taking:
            await asyncio.wait(self._taking)

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def _next_news(self) -> None:
        await self._news.wait()


def _now() -> float:
    """Return the time SIP goes by in this event loop."""
    return asyncio.get_running_loop().time()


def _claimed(request: Request) -> str:
    try:
        return _user(request.from_.uri)
    except SipError:
        return ""


def _way_to(binding: Binding) -> str:
    """Return the URI that reaches a binding: by its flow where only that does, as behind a NAT."""
    if binding.flow is None:
        return str(binding.uri)
    host, port = binding.flow.remote
    return str(replace(binding.uri, host=host, port=port))


def _user(uri: str) -> str:
    try:
        return SipUri.parse(uri).user or ""
    except SipError:
        return ""
