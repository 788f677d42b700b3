"""Agents that watch each other: what the tests of subscriptions share."""

from __future__ import annotations

from typing import Any

from virtual_sip import CONFIG, Net, Path, Phone, replace

from voip.sip.config import AgentConfig
from voip.sip.events import Notified, SubscribeReceived, SubscriptionEnded
from voip.sip.message import Request

WATCHED = ("message-summary", "presence", "dialog", "reg")
EVENTS: AgentConfig = replace(
    CONFIG,
    allow=(*CONFIG.allow, "SUBSCRIBE", "NOTIFY", "REFER"),
    supported=("replaces", "norefersub"),
    events=(*WATCHED, "refer"),
    unsolicited=("message-summary",),
)
TEXT = "text/plain"
PATHS = {"no loss": Path(), "20 % loss": Path(loss=0.2, delay=(0.01, 0.05))}


def two(path: Path | None = None, seed: int = 1) -> tuple[Net, Phone, Phone]:
    """A network with a watcher and somebody to watch."""
    net = Net(path or Path(), seed)
    return net, net.phone("192.0.2.1", EVENTS), net.phone("192.0.2.2", EVENTS)


def watch(watcher: Phone, watched: Phone, event: str = "presence", **more: Any) -> Any:
    """Subscribe."""
    return watcher.agent.subscriptions.subscribe(
        watched.uri, event, flow=watcher.to(watched), from_=watcher.contact, to=watched.contact,
        contact=watcher.contact, accept=(TEXT,), now=watcher.net.now, **more,
    )  # fmt: skip


def accepting(phone: Phone, body: Any = b"first", **more: Any) -> list[Any]:
    """Let a phone accept every subscription; return the list of them, as they come."""
    notifiers: list[Any] = []

    def accept(event: SubscribeReceived) -> None:
        notifiers.append(event.notifier)
        event.notifier.accept(
            contact=phone.contact, body=body, content_type=TEXT, now=phone.net.now, **more
        )

    phone.on(SubscribeReceived, accept)
    return notifiers


def bodies(phone: Phone) -> list[bytes]:
    """What a watcher has been told, in order."""
    return [event.request.body for event in phone.events(Notified)]


def states(phone: Phone) -> list[str]:
    return [event.state.value for event in phone.events(Notified)]


def ends(phone: Phone) -> list[tuple[str, int | None]]:
    return [(event.reason, event.status) for event in phone.events(SubscriptionEnded)]


def requests(net: Net, method: str) -> list[Request]:
    return [m for _, m, _ in net.wire if isinstance(m, Request) and m.method == method]
