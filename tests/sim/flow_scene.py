"""A proxy that is registrar too, phones and a bare agent in a simulated world, for flows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest

from voip import Softphone
from voip.call import Call
from voip.config import MediaConfig, NetworkConfig
from voip.errors import CallError, TransportError, VoipError
from voip.proxy import SipProxy
from voip.sim import Host, Path, World
from voip.sip.agent import SipAgent
from voip.sip.config import AgentConfig
from voip.sip.digest import Credentials
from voip.sip.endpoint.endpoint import SipEndpoint
from voip.sip.endpoint.trace import SipTraceRecord
from voip.sip.events import Answered, InviteFailed, RequestDone, RequestFailed, SipEvent
from voip.sip.message import Request, Response, parse_message
from voip.types import Address, SeededRandom

SERVER = "10.0.0.9"
PASSWORDS = {"alice": "wonderland", "bob": "builder", "carol": "carpet", "gateway": "trunk"}
AOR = f"sip:alice@{SERVER}"

lossy = pytest.mark.parametrize("loss", [0.0, 0.2], ids=["no loss", "20% loss"])
in_all_weathers = pytest.mark.parametrize(
    ("loss", "seed"),
    [(0.0, 1), (0.2, 1), *(pytest.param(0.2, seed, marks=pytest.mark.long) for seed in (2, 3))],
    ids=["no loss", "20% loss, seed 1", "20% loss, seed 2", "20% loss, seed 3"],
)


class Scene:
    """A proxy that is registrar too, and hosts for phones; `seen` has what the phones exchanged."""

    def __init__(self, loss: float, seed: int = 7, **proxy: Any) -> None:
        self.loss = loss
        self.world = World(seed, path=Path(delay_s=0.02, jitter_s=0.01, loss=loss))
        self.server = self.world.host(SERVER)
        self.alice, self.bob = self.world.host("10.0.0.1"), self.world.host("10.0.0.2")
        self.carol = self.world.host("10.0.0.3")
        self.seen: list[Request | Response] = []
        self.arrived: dict[str, list[Request | Response]] = {}  # by host
        self.proxy: SipProxy
        self._proxy = proxy

    def run(self, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async def whole() -> None:
            with self.server.here():
                self.proxy = SipProxy(PASSWORDS, SERVER, 5060, **self._proxy)
                await self.proxy.__aenter__()
            await self.alice.run(main())
            await self.proxy.__aexit__()

        self.world.run(whole())

    def trace(self, record: SipTraceRecord) -> None:
        with suppress(VoipError):
            message = parse_message(record.data)
            self.seen.append(message)
            if not record.sent:
                self.arrived.setdefault(record.flow.local.host, []).append(message)

    def statuses(self, method: str) -> list[int]:
        """The final responses that were seen, repetitions left out."""
        found = {
            (message.cseq.number, message.status): None
            for message in self.seen
            if isinstance(message, Response) and message.cseq.method == method
        }
        return [status for _, status in found if status >= 200]

    def phone(self, name: str, host: Host, domain: str = SERVER, **more: Any) -> Softphone:
        more.setdefault("media", MediaConfig(elsewhere=Address(host.address, 40000)))
        more.setdefault("network", NetworkConfig(bind_host=host.address, bind_port=5060))
        more.setdefault("password", PASSWORDS[name])
        return Softphone(f"sip:{name}@{domain}", trace=self.trace, **more)

    async def answering(
        self, name: str = "bob", host: Host | None = None, **more: Any
    ) -> tuple[Softphone, asyncio.Queue[Call]]:
        """Bob, or somebody else, who answers whatever comes and stays in it."""
        calls: asyncio.Queue[Call] = asyncio.Queue()

        async def taken(call: Call) -> None:
            await call.answer()
            calls.put_nowait(call)
            await call.wait_ended()

        return await self.taking(name, taken, host, **more), calls

    async def taking(
        self,
        name: str,
        handler: Callable[[Call], Coroutine[Any, Any, None]],
        host: Host | None = None,
        **more: Any,
    ) -> Softphone:
        """A phone of its own host that does with calls as `handler` says, switched on."""
        host = host or {"alice": self.alice, "bob": self.bob, "carol": self.carol}[name]
        for _ in range(3 if self.loss else 1):
            with host.here(), suppress(TransportError):  # a connection that takes over 10 s
                phone = self.phone(name, host, **more)
                phone.on_incoming(handler)
                await phone.start()
                return phone
        raise AssertionError(f"{name} cannot register")

    async def up(
        self, caller: Softphone, target: str, calls: asyncio.Queue[Call], **more: Any
    ) -> tuple[Call, Call]:
        """Call somebody who is `answering`; return the call as both sides have it.

        Where so much is lost that no ACK came in 32 s the call is over, and is made again.
        """
        for _ in range(4 if self.loss else 1):
            with suppress(CallError, TimeoutError):
                mine = await caller.dial(target, timeout=80, **more)
                return mine, await asyncio.wait_for(calls.get(), 40)
        raise AssertionError(f"{target} cannot be called")

    async def settled(self, *phones: Softphone) -> None:
        """Let time pass until every transaction is over: nothing may be left of any call."""
        for _ in range(150):
            await asyncio.sleep(1)
            left = {phone.account.uri: _left(phone) for phone in phones}
            left["proxy"] = (self.proxy.agent.transactions, self.proxy.agent.timers)
            if not any(map(any, left.values())):
                return
        raise AssertionError(left)

    def contacts(self, user: str) -> list[str]:
        return [one.contact.uri for one in self.proxy.location.bindings(user, self.proxy.now())]


def _left(phone: Softphone) -> tuple[int, ...]:
    agent = phone._agent
    dialogs, subscriptions = len(agent.dialogs), len(agent.subscriptions)
    of_agent = (agent.transactions, agent.timers, agent.dialling, dialogs, subscriptions)
    return (*of_agent, len(phone.calls), len(phone._stack.sessions))


class Stranger:
    """A bare agent that sends REGISTERs and INVITEs of any kind, with Alice's password."""

    def __init__(self, scene: Scene) -> None:
        self._agent = SipAgent(AgentConfig(), SeededRandom(5))
        self._done: asyncio.Queue[RequestDone | RequestFailed | InviteFailed | Answered]
        self._done = asyncio.Queue()
        platform = scene.alice.platform
        self._endpoint: SipEndpoint[SipEvent] = SipEndpoint(
            self._agent, self._on_event, platform.sip_network(), random=platform.random()
        )
        self._cseq = 1

    async def __aenter__(self) -> Stranger:
        await self._endpoint.start("10.0.0.1", 5070)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._endpoint.close()

    def _on_event(self, event: SipEvent) -> None:
        if isinstance(event, RequestDone | RequestFailed | InviteFailed | Answered):
            self._done.put_nowait(event)
        if isinstance(event, Answered):
            self._agent.bye(event.dialog, now=self._endpoint.now())
            self._endpoint.flush()

    async def message(self, uri: str, body: bytes, content_type: str) -> Response:
        """Return how a MESSAGE was answered."""
        return await self._ask("MESSAGE", uri, to=uri, body=body, content_type=content_type)

    async def register(self, *headers: tuple[str, str], password: str = "wonderland") -> Response:
        self._cseq += 3
        return await self._ask(
            "REGISTER", f"sip:{SERVER}", to=AOR, call_id="register", cseq=self._cseq,
            headers=headers, password=password,
        )  # fmt: skip

    async def _ask(
        self, method: str, uri: str, *, to: str, password: str = "wonderland", **more: Any
    ) -> Response:
        self._agent.request(
            method,
            uri,
            flow=await self._endpoint.flow_to(SERVER, 5060),
            from_=f"<{AOR}>",
            to=f"<{to}>",
            credentials=Credentials("alice", password),
            now=self._endpoint.now(),
            **more,
        )
        self._endpoint.flush()
        return await self._outcome()

    async def invite(
        self,
        uri: str,
        *headers: tuple[str, str],
        body: bytes = b"",
        content_type: str | None = None,
    ) -> Response:
        """Return how an INVITE was answered; a call that comes of it is hung up at once."""
        await self.begin(uri, headers=headers, body=body, content_type=content_type)
        return await self._outcome()

    async def begin(self, uri: str, **more: Any) -> None:
        """Send an INVITE."""
        self._agent.invite(
            uri,
            flow=await self._endpoint.flow_to(SERVER, 5060),
            from_=f"<{AOR}>",
            to=f"<{uri}>",
            contact="<sip:alice@10.0.0.1:5070>",
            credentials=Credentials("alice", "wonderland"),
            now=self._endpoint.now(),
            **more,
        )
        self._endpoint.flush()

    async def _outcome(self) -> Response:
        outcome = await self._done.get()
        assert outcome.response is not None
        return outcome.response


def told(response: Response) -> set[str]:
    return {contact.uri for contact in response.contacts}
