"""SIP agents joined by a network in virtual time, and a stranger who speaks raw messages."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from voip.errors import SipError
from voip.sip.agent import SipAgent
from voip.sip.config import AgentConfig
from voip.sip.dialog import Dialog
from voip.sip.events import SipEvent
from voip.sip.flow import Flow
from voip.sip.message import Request, Response, parse_message
from voip.sip.proxy import ProxyAgent, ProxyConfig
from voip.sip.proxy_policy import Policy
from voip.sip.proxy_way import FlowNeeded
from voip.sip.server_invite import ServerInvite
from voip.types import Address, SeededRandom

OFFER = b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\n"
ANSWER = b"v=0\r\no=- 2 1 IN IP4 192.0.2.2\r\n"
SDP = "application/sdp"
CONFIG = AgentConfig(user_agent="test")

E = TypeVar("E")


@dataclass
class Path:
    """How the network treats datagrams. `drop` may lose single ones on purpose."""

    loss: float = 0.0
    duplication: float = 0.0
    delay: tuple[float, float] = (0.01, 0.01)
    drop: Callable[[Request | Response, Flow], bool] | None = None


@dataclass
class Net:
    """Carries what agents send; nothing happens but in `run`."""

    path: Path = field(default_factory=Path)
    seed: int = 1
    now: float = 0.0

    def __post_init__(self) -> None:
        self.random = SeededRandom(self.seed)
        self.phones: dict[Address, Phone] = {}
        self.wire: list[tuple[float, Request | Response, Flow]] = []
        self._flying: list[tuple[float, int, bytes, Flow]] = []
        self._later: list[tuple[float, int, Callable[[], object]]] = []
        self._order = 0

    def proxy(self, host: str, policy: Policy, config: ProxyConfig | None = None) -> Proxy:
        proxy = Proxy(self, Address(host, 5060), policy, config or ProxyConfig())
        self.phones[proxy.address] = proxy  # type: ignore[assignment]
        return proxy

    def lose(self, phone: Phone) -> None:
        """Take a phone off the network."""
        del self.phones[phone.address]

    def phone(self, host: str, config: AgentConfig = CONFIG) -> Phone:
        phone = Phone(self, Address(host, 5060), config)
        self.phones[phone.address] = phone
        return phone

    def at(self, when: float, do: Callable[[], object]) -> None:
        """Do something at a time of the network's."""
        self._order += 1
        heapq.heappush(self._later, (when, self._order, do))

    def run(self, seconds: float) -> None:
        """Let time go by."""
        self.until(self.now + seconds)

    def until(self, end: float) -> None:
        self.flush()
        while True:
            due = [heap[0][0] for heap in (self._flying, self._later) if heap]
            timers = [phone.agent.next_timer() for phone in self.phones.values()]
            due += [timer for timer in timers if timer is not None]
            if not due or min(due) > end:
                break
            self.now = max(self.now, min(due))
            self._step()
            self.flush()
        self.now = end

    def _step(self) -> None:
        if self._flying and self._flying[0][0] <= self.now:
            _, _, data, flow = heapq.heappop(self._flying)
            back = Flow(flow.transport, flow.remote, flow.local)
            if flow.remote in self.phones:
                self.phones[flow.remote].agent.receive(data, back, self.now)
        elif self._later and self._later[0][0] <= self.now:
            heapq.heappop(self._later)[2]()
        else:
            for phone in self.phones.values():
                timer = phone.agent.next_timer()
                if timer is not None and timer <= self.now:
                    phone.agent.handle_timer(self.now)

    def flush(self) -> None:
        """Take what the agents have to send and to say, until they are silent."""
        busy = True
        while busy:
            busy = False
            for phone in self.phones.values():
                for data, flow in phone.agent.outgoing():
                    busy = True
                    self._carry(data, flow)
                for event in phone.agent.events():
                    busy = True
                    phone.seen.append(event)
                    for do in [d for kind, d in phone.reactions if isinstance(event, kind)]:
                        do(event)

    def _carry(self, data: bytes, flow: Flow) -> None:
        message = parse_message(data)
        self.wire.append((self.now, message, flow))
        path = self.path
        if path.drop is not None and path.drop(message, flow):
            return
        copies = 1
        if flow.transport == "udp":
            if self.random.uniform(0, 1) < path.loss:
                return
            copies += self.random.uniform(0, 1) < path.duplication
        for _ in range(copies):
            self._order += 1
            delay = self.random.uniform(*path.delay)
            if flow.transport != "udp":
                delay = path.delay[0]
            heapq.heappush(self._flying, (self.now + delay, self._order, data, flow))

    def sent(self, what: str | int, by: Phone | None = None) -> list[float]:
        """When messages of a method, or responses of a status, were sent."""
        return [
            now
            for now, message, flow in self.wire
            if (message.method if isinstance(message, Request) else message.status) == what
            and (by is None or flow.local == by.address)
        ]

    def trace(self) -> str:
        return "\n".join(
            f"{now:8.3f} {flow.local.host} -> {flow.remote.host} {message.summary()}"
            for now, message, flow in self.wire
        )


class Phone:
    """An agent with an address, what it has been told, and what it does about it."""

    def __init__(self, net: Net, address: Address, config: AgentConfig) -> None:
        self.net = net
        self.address = address
        self.agent = SipAgent(config, SeededRandom(net.random.below(1 << 30)))
        self.seen: list[SipEvent] = []
        self.reactions: list[tuple[type[Any], Callable[[Any], object]]] = []

    @property
    def uri(self) -> str:
        return f"sip:phone@{self.address}"

    @property
    def contact(self) -> str:
        return f"<{self.uri}>"

    def on(self, kind: type[E], do: Callable[[E], object]) -> None:
        self.reactions.append((kind, do))

    def to(self, other: Phone, transport: str = "udp") -> Flow:
        return Flow(transport, self.address, other.address)

    def call(self, other: Phone, transport: str = "udp", body: bytes = OFFER, **more: Any) -> Any:
        more.setdefault("contact", self.contact)
        return self.agent.invite(
            other.uri,
            flow=self.to(other, transport),
            from_=f"<{self.uri}>",
            to=f"<{other.uri}>",
            body=body,
            content_type=SDP if body else None,
            now=self.net.now,
            **more,
        )

    def answer(self, invite: Any, status: int = 200, **more: Any) -> None:
        if status < 300:
            more.setdefault("contact", self.contact)
        if status // 100 == 2:
            more = {"body": ANSWER, "content_type": SDP, **more}
        self.agent.respond(invite, status, now=self.net.now, **more)

    def events(self, kind: type[E]) -> list[E]:
        return [event for event in self.seen if isinstance(event, kind)]

    def only(self, kind: type[E]) -> E:
        found = self.events(kind)
        assert len(found) == 1, f"{len(found)} {kind.__name__} in {self.seen}\n{self.net.trace()}"
        return found[0]

    def kinds(self) -> list[str]:
        return [type(event).__name__ for event in self.seen]


class Proxy:
    """A proxy with an address. Names are looked up in `names`; what has no address is lost."""

    def __init__(self, net: Net, address: Address, policy: Policy, config: ProxyConfig) -> None:
        self.net = net
        self.address = address
        self.agent = ProxyAgent(config, policy, SeededRandom(net.random.below(1 << 30)))
        self.names: dict[str, str] = {}
        self.seen: list[FlowNeeded] = []
        self.reactions: list[tuple[type[Any], Callable[[Any], object]]] = [(FlowNeeded, self._find)]

    @property
    def route(self) -> str:
        return f"<sip:{self.address};lr>"

    def _find(self, needed: FlowNeeded) -> None:
        host = self.names.get(needed.host, needed.host)
        remote, transport = Address(host, needed.port or 5060), needed.transport or "udp"
        if remote in self.net.phones:
            needed.found(Flow(transport, self.address, remote), self.net.now)
        else:
            needed.lost("no such host", self.net.now)


def established(net: Net, caller: Phone, callee: Phone, transport: str = "udp") -> tuple[Any, Any]:
    """Set up a call; return both ends' dialogs."""
    from voip.sip.events import Acknowledged, Answered, IncomingInvite

    caller.call(callee, transport)
    net.run(0.1)
    callee.answer(callee.only(IncomingInvite).invite)
    net.run(0.2)
    dialogs = caller.only(Answered).dialog, callee.only(Acknowledged).dialog
    caller.seen.clear()
    callee.seen.clear()
    net.wire.clear()
    return dialogs


def assert_nothing_left(net: Net) -> None:
    """After 64*T1 more, no agent has a transaction, a dialog or a timer."""
    net.run(33.0)
    for phone in net.phones.values():
        dialogs = getattr(phone.agent, "dialogs", ())  # a proxy has none
        dialling = getattr(phone.agent, "dialling", 0)
        left = (phone.agent.transactions, len(dialogs), dialling, phone.agent.timers)
        assert not any(left), f"{phone.address}: {left}\n{net.trace()}"


class Stranger:
    """Speaks raw messages to one agent, and reads what it sends to anybody."""

    def __init__(
        self, config: AgentConfig = CONFIG, *, here: str = "192.0.2.1", there: str = "192.0.2.9"
    ) -> None:
        self.agent = SipAgent(config, SeededRandom(7))
        self.flow = Flow("udp", Address(here, 5060), Address(there, 5060))
        self.now = 0.0

    def tell(self, data: bytes | str, flow: Flow | None = None) -> list[Request | Response]:
        """Send it a message; return what it sends because of it."""
        raw = data.encode() if isinstance(data, str) else data
        self.agent.receive(raw, flow or self.flow, self.now)
        return self.heard()

    def called(self, **more: Any) -> Request:
        """Let the agent call it; return the INVITE."""
        self.agent.invite(
            "sip:stranger@192.0.2.9", flow=self.flow, from_="<sip:phone@192.0.2.1>",
            to="<sip:stranger@192.0.2.9>", contact="<sip:phone@192.0.2.1>", body=OFFER,
            content_type=SDP, now=self.now, **more,
        )  # fmt: skip
        [invite] = self.heard()
        assert isinstance(invite, Request)
        return invite

    def calls_without_tag(self, header: str) -> tuple[Dialog, ServerInvite]:
        """Be in a call without a tag of its own, and name it in another; return both.

        `header`: Replaces or Join, in which such a peer is called 0.
        """
        self.tell(request_text("INVITE", from_tag="x").replace(";tag=x", ""))
        (event,) = self.agent.events()
        self.agent.respond(event.invite, 200, contact="<sip:us@192.0.2.1>", now=0)
        dialog = event.invite.dialog
        more = f"{header}: {dialog.call_id};to-tag={dialog.local.tag};from-tag=0\r\n"
        self.tell(request_text("INVITE", call_id="2", branch="z9hG4bK2", more=more))
        return dialog, self.agent.events()[-1].invite

    def heard(self) -> list[Request | Response]:
        return [parse_message(data) for data, _ in self.agent.outgoing()]

    def heard_with_flows(self) -> list[tuple[Request | Response, Flow]]:
        return [(parse_message(data), flow) for data, flow in self.agent.outgoing()]

    def wait(self, seconds: float) -> list[Request | Response]:
        """Let time go by timer by timer; return what it sends."""
        end = self.now + seconds
        while (due := self.agent.next_timer()) is not None and due <= end:
            self.now = max(self.now, due)
            self.agent.handle_timer(self.now)
        self.now = end
        return self.heard()

    def empty(self) -> bool:
        agent = self.agent
        return not any((agent.transactions, agent.dialogs, agent.dialling, agent.timers))


def request_text(
    method: str,
    *,
    uri: str = "sip:phone@192.0.2.1",
    branch: str = "z9hG4bKabc",
    to_tag: str = "",
    from_tag: str = "theirs",
    call_id: str = "call@192.0.2.9",
    cseq: str | None = None,
    via: str | None = None,
    more: str = "",
    body: str = "",
) -> str:
    """Write a request of a stranger's at 192.0.2.9."""
    to = f"<sip:phone@192.0.2.1>{';tag=' + to_tag if to_tag else ''}"
    contact = "Contact: <sip:stranger@192.0.2.9>\r\n" if method == "INVITE" else ""
    kind = "Content-Type: application/sdp\r\n" if body else ""
    return (
        f"{method} {uri} SIP/2.0\r\n"
        f"Via: {via or f'SIP/2.0/UDP 192.0.2.9:5060;branch={branch}'}\r\n"
        "Max-Forwards: 70\r\n"
        f"From: <sip:stranger@192.0.2.9>;tag={from_tag}\r\n"
        f"To: {to}\r\n"
        f"Call-ID: {call_id}\r\n"
        f"CSeq: {cseq or f'1 {method}'}\r\n"
        f"{contact}{kind}{more}"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    )


def response_text(
    request: Request | Response, status: int, more: str = "", *, tag: str = "a"
) -> str:
    """Write a response of a stranger's at 192.0.2.9."""
    return (
        f"SIP/2.0 {status} Whatever\r\n"
        f"Via: {request.headers.get('Via')}\r\n"
        f"From: {request.headers.get('From')}\r\n"
        f"To: <sip:stranger@192.0.2.9>;tag={tag}\r\n"
        f"Call-ID: {request.call_id}\r\n"
        f"CSeq: {request.cseq}\r\n"
        "Contact: <sip:stranger@192.0.2.9>\r\n"
        f"{more}"
        "Content-Length: 0\r\n\r\n"
    )


def drop_first(*kinds: str | int) -> Callable[[Request | Response, object], bool]:
    """Lose the first message of each kind, by method or status."""
    left = list(kinds)

    def drop(message: Request | Response, _: object) -> bool:
        kind = message.method if isinstance(message, Request) else message.status
        if kind in left:
            left.remove(kind)
            return True
        return False

    return drop


__all__ = [
    "ANSWER",
    "CONFIG",
    "OFFER",
    "SDP",
    "Net",
    "Path",
    "Phone",
    "Proxy",
    "SipError",
    "Stranger",
    "assert_nothing_left",
    "drop_first",
    "established",
    "replace",
    "request_text",
    "response_text",
]
