"""A SIP endpoint on the kernel's network with a scripted agent, for tests of what carries SIP."""

from __future__ import annotations

from collections.abc import Callable

from voip.net.sip_network import KernelNetwork
from voip.sip.endpoint.endpoint import SipEndpoint
from voip.sip.flow import Flow
from voip.types import Address

HOST = "127.0.0.1"


class Recorder:
    """An agent that says what it is told to say, and remembers what it was told."""

    def __init__(self) -> None:
        self.received: list[tuple[bytes, Flow]] = []
        self.failed: list[tuple[Flow, str]] = []
        self.timers: list[float] = []
        self.due: float | None = None
        self.to_send: list[tuple[bytes, Flow]] = []
        self.happened: list[str] = []
        self.answer: Callable[[bytes, Flow], bytes | None] = lambda data, flow: None

    def receive(self, data: bytes, flow: Flow, now: float) -> None:
        self.received.append((data, flow))
        self.happened.append(f"received {len(self.received)}")
        answer = self.answer(data, flow)
        if answer is not None:
            self.to_send.append((answer, flow))

    def flow_failed(self, flow: Flow, message: str, now: float) -> None:
        self.failed.append((flow, message))
        self.happened.append(message)

    def next_timer(self) -> float | None:
        return self.due

    def handle_timer(self, now: float) -> None:
        assert self.due is not None and now >= self.due
        self.timers.append(now)
        self.due = None
        self.happened.append("timer")

    def outgoing(self) -> list[tuple[bytes, Flow]]:
        sending, self.to_send = self.to_send, []
        return sending

    def events(self) -> list[str]:
        happened, self.happened = self.happened, []
        return happened


class Names(KernelNetwork):
    """The kernel's network, in which every name leads to this machine."""

    async def addresses(self, name: str) -> list[str]:
        return [HOST]


class Station:
    """An agent, its endpoint, and the events it was given."""

    def __init__(self, network: KernelNetwork | None = None, **options: object) -> None:
        self.agent = Recorder()
        self.events: list[str] = []
        self.network = network or KernelNetwork()
        self.transport: SipEndpoint[str] = SipEndpoint(
            self.agent,
            self.events.append,
            self.network,
            **options,  # type: ignore[arg-type]
        )

    def say(self, data: bytes, flow: Flow) -> None:
        self.agent.to_send.append((data, flow))
        self.transport.flush()

    def at(self, transport: str) -> Address:
        return dict(self.transport.addresses)[transport]


def message(text: str, body: str = "") -> bytes:
    return (f"INFO {text} SIP/2.0\r\nContent-Length: {len(body)}\r\n\r\n{body}").encode()
