"""A phone with several accounts, in a simulated world: each at a registrar of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from callers import answering

from voip import Account, Softphone
from voip.config import MediaConfig, NetworkConfig
from voip.errors import VoipError
from voip.harness.soak.census import left_in_phone
from voip.proxy import SipProxy
from voip.sim import Host, Path, World
from voip.sip.endpoint.trace import SipTraceRecord
from voip.sip.message import Request, parse_message
from voip.types import Address

HOME, WORK = "10.0.0.8", "10.0.0.9"
HOME_USERS = {"alice": "wonderland", "bob": "builder"}
WORK_USERS = {"carol": "christmas", "dave": "lister", "alice": "another"}
ALICE = Account(f"sip:alice@{HOME}", "wonderland")
CAROL = Account(f"sip:carol@{WORK}", "christmas", display_name="Carol")
AT_HOME, AT_WORK = str(ALICE.aor), str(CAROL.aor)
LONG_S = 12 * 3600.0
UNTIL_TIME_PASSES = ("transactions", "timers", "INVITEs without a dialog")
"""What is left of requests that nobody has answered, until their transactions end."""


class Scene:
    """Two proxies that are registrars too, a phone at both, and Bob and Dave with one each."""

    def __init__(self, *, work: bool = True) -> None:
        self.world = World(3, path=Path(delay_s=0.02))
        self.home, self.work = self.world.host(HOME), self.world.host(WORK)
        self.here, self.there = self.world.host("10.0.0.1"), self.world.host("10.0.0.2")
        self.at_home: SipProxy
        self.at_work: SipProxy
        self.sent: list[Request] = []
        self._work = work

    def run(self, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a test where the phone is; in the end nothing is left there."""

        async def inside() -> None:
            await main()
            left = asyncio.all_tasks() - tasks
            assert not [task for task in left if "Registrar" in repr(task)], left

        async def whole() -> None:
            nonlocal tasks
            with self.home.here():
                self.at_home = await SipProxy(HOME_USERS, HOME, 5060).__aenter__()
            if self._work:
                await self.open_work()
            tasks = asyncio.all_tasks()
            await self.here.run(inside())
            await self.at_home.__aexit__()
            if hasattr(self, "at_work"):
                await self.at_work.__aexit__()

        tasks: set[asyncio.Task[Any]] = set()
        self.world.run(whole())

    async def open_work(self) -> None:
        with self.work.here():
            self.at_work = await SipProxy(WORK_USERS, WORK, 5060).__aenter__()

    def phone(self, *accounts: Account, **more: Any) -> Softphone:
        def trace(record: SipTraceRecord) -> None:
            with suppress(VoipError):
                message = parse_message(record.data)
                if record.sent and isinstance(message, Request):
                    self.sent.append(message)

        more.setdefault("network", NetworkConfig(bind_host="10.0.0.1", bind_port=5060))
        more.setdefault("media", MediaConfig(elsewhere=Address("10.0.0.1", 40000)))
        return Softphone(accounts=accounts or [ALICE, CAROL], trace=trace, **more)

    async def other(self, account: str, password: str) -> Softphone:
        """Somebody else's phone, which answers whatever comes."""
        with self.there.here():
            phone = Softphone(
                account,
                password=password,
                network=NetworkConfig(bind_host=self.there.address, bind_port=0),
                media=MediaConfig(elsewhere=Address(self.there.address, 40000)),
            )
            await phone.start()
        answering(phone)
        return phone

    async def stranger(self, host: Host) -> Softphone:
        """A phone without an account."""
        with host.here():
            phone = Softphone(
                network=NetworkConfig(bind_host=host.address, bind_port=0),
                media=MediaConfig(elsewhere=Address(host.address, 40000)),
            )
            await phone.start()
        return phone

    async def bob(self) -> Softphone:
        return await self.other(f"sip:bob@{HOME}", "builder")

    async def dave(self) -> Softphone:
        return await self.other(f"sip:dave@{WORK}", "lister")

    def requests(self, method: str, user: str) -> list[Request]:
        """Return those of the phone's that are from a user."""
        return [one for one in self.sent if one.method == method and one.from_.sip_uri.user == user]


def held_by(phone: Softphone) -> dict[str, int]:
    """Return what a closed phone holds, but for what ends by itself (`UNTIL_TIME_PASSES`)."""
    left = left_in_phone(phone)
    return {what: count for what, count in left.items() if what not in UNTIL_TIME_PASSES}


def bound(proxy: SipProxy, user: str) -> list[str]:
    return [str(one.uri) for one in proxy.location.bindings(user, proxy.now())]


def told(phone: Softphone, aor: str) -> list[type]:
    return [type(event) for event in phone._events if getattr(event, "aor", None) == aor]
