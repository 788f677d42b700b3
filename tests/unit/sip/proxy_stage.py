"""What the tests of a proxy stand on: policies that say what a test wants, and what was sent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from virtual_sip import OFFER, SDP, Net, Phone, Proxy

from voip.sip.flow import Flow
from voip.sip.message import Request, Response, parse_message
from voip.sip.proxy import ProxyAgent, ProxyConfig
from voip.sip.proxy_policy import Decision, Forward, Incoming, LocationPolicy, Target
from voip.sip.server_request import ServerRequest
from voip.types import Address, SeededRandom

USERS = {"alice": "wonderland", "bob": "builder", "carol": "singer"}
P1, P2 = "192.0.2.11", "192.0.2.12"


@dataclass
class Says:
    """A policy that says what a test wants; what is in a dialog goes on."""

    decide_: Callable[[Incoming], Decision]
    seen: list[Incoming] = field(default_factory=list)

    def decide(self, incoming: Incoming, now: float) -> Decision:
        self.seen.append(incoming)
        if incoming.in_dialog:
            return Forward(((Target(incoming.request.uri),),))
        return self.decide_(incoming)

    def serve(self, request: ServerRequest, now: float) -> None:
        request.reply(200, now=now)

    def lose(self, flow: Flow) -> None:
        pass


def to(*groups: tuple[Phone | Proxy, ...]) -> Says:
    """Forward to these, one group after the other."""

    def uri(who: Phone | Proxy) -> str:
        return f"sip:phone@{who.address}"

    return Says(lambda _: Forward(tuple(tuple(Target(uri(w)) for w in group) for group in groups)))


def call(phone: Phone, proxy: Proxy, user: str = "bob", **more: Any) -> Any:
    return phone.agent.invite(
        f"sip:{user}@{proxy.address.host}", flow=phone.to(proxy),
        from_="<sip:alice@atlanta.example>", to=f"<sip:{user}@{proxy.address.host}>",
        contact=phone.contact, body=OFFER, content_type=SDP, now=phone.net.now, **more,
    )  # type: ignore[arg-type]  # fmt: skip


def at(net: Net, phone: Phone, kind: type[Any]) -> None:
    phone.on(kind, lambda event: phone.answer(event.invite))


def sent(net: Net, what: str | int, by: Phone | Proxy) -> list[Any]:
    """Messages of a method or status that somebody sent, repetitions left out."""
    found: dict[bytes, Any] = {}
    for _, message, flow in net.wire:
        kind = message.method if isinstance(message, Request) else message.status
        if kind == what and flow.local == by.address:
            found.setdefault(message.to_bytes(), message)
    return list(found.values())


class Desk:
    """Speaks raw messages to one proxy."""

    def __init__(self, policy: Says | LocationPolicy, config: ProxyConfig | None = None) -> None:
        self.agent = ProxyAgent(config or ProxyConfig(), policy, SeededRandom(1))
        self.flow = Flow("udp", Address(P1, 5060), Address("192.0.2.9", 5060))

    def tell(self, text: str | bytes, flow: Flow | None = None) -> list[Request | Response]:
        data = text.encode() if isinstance(text, str) else text
        self.agent.receive(data, flow or self.flow, 0.0)
        return [parse_message(out) for out, _ in self.agent.outgoing()]

    def settle(self) -> None:
        """Let time go by until nothing is waited for; no name is found."""
        now = 0.0
        while (due := self.agent.next_timer()) is not None or now == 0.0:
            now = due or 1.0
            for needed in self.agent.events():
                needed.lost("nowhere", now)
            self.agent.handle_timer(now)
            self.agent.outgoing()

    def status(self, text: str) -> int:
        [message] = self.tell(text)
        assert isinstance(message, Response)
        return message.status


ONWARD = Says(lambda i: Forward(((Target("sip:bob@192.0.2.2"),),)))
