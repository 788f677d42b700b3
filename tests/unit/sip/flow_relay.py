"""A proxy of the plainest kind for flow tests: it keeps no state but what it has challenged.

It stands on a `virtual_sip.Net` beside the phones. Branches follow from the request's own, so that
a repetition, a CANCEL and the ACK to a refusal take the same way (RFC 3261 section 16.11).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2s
from typing import Any

from virtual_sip import Net

from voip.sip.flow import Flow
from voip.sip.headers import NameAddr
from voip.sip.message import Request, Response, make_response, parse_message
from voip.types import Address

__all__ = ["Relay", "relay"]


@dataclass
class Relay:
    """`onward`: where calls that begin go next. `realm`: credentials for it are asked for.

    `change` may alter what passes; `dead`: nothing does.
    """

    address: Address
    onward: Address
    realm: str | None = None
    change: Callable[[Request | Response], None] | None = None
    dead: bool = False
    passed: list[str] = field(default_factory=list)

    # What it keeps of calls: nothing.
    dialogs: tuple[Any, ...] = ()
    transactions: int = 0
    timers: int = 0

    def __post_init__(self) -> None:
        self._out: list[tuple[bytes, Flow]] = []
        self._challenged: set[str] = set()

    @property
    def uri(self) -> str:
        return f"<sip:{self.address};lr>"

    def receive(self, data: bytes, flow: Flow, now: float) -> None:
        if self.dead:
            return
        message = parse_message(data)
        if isinstance(message, Response):
            self._back(message)
        elif not self._challenge(message, flow):
            self._forward(message)

    def next_timer(self) -> None:
        return None

    def handle_timer(self, now: float) -> None: ...

    def outgoing(self) -> list[tuple[bytes, Flow]]:
        out, self._out = self._out, []
        return out

    def events(self) -> list[Any]:
        return []

    # It sends from its own address, whatever host it is called by.

    def _send(self, message: Request | Response, to: Address) -> None:
        if self.change is not None:
            self.change(message)
        self._out.append((message.to_bytes(), Flow("udp", self.address, to)))

    def _challenge(self, request: Request, flow: Flow) -> bool:
        """Ask for credentials; the ACK to our 407 ends here."""
        branch = request.via.branch or ""
        if request.method == "ACK" and branch in self._challenged:
            return True
        if self.realm is None or request.method != "INVITE" or request.to.tag is not None:
            return False
        answers = request.headers.get_all("Proxy-Authorization")
        if any(f'realm="{self.realm}"' in answer for answer in answers):
            return False
        self._challenged.add(branch)
        header = f'Digest realm="{self.realm}", nonce="{branch}", qop="auth", algorithm=MD5'
        refusal = make_response(
            request, 407, to_tag=f"p{branch[-6:]}", headers=[("Proxy-Authenticate", header)]
        )
        self._send(refusal, flow.remote)
        return True

    def _forward(self, request: Request) -> None:
        self.passed.append(request.method)
        routes = request.headers.values("Route")
        mine = routes and NameAddr.parse(routes[0]).sip_uri.host == self.address.host
        if mine:
            request.headers.remove("Route")
            for route in routes[1:]:
                request.headers.add("Route", route)
        rest = routes[1:] if mine else routes
        if rest:
            host = NameAddr.parse(rest[0]).sip_uri
            to = Address(host.host, host.port or 5060)
        elif request.to.tag is None or (request.method in ("CANCEL", "ACK") and not mine):
            to = self.onward
        else:
            target = request.uri.partition("@")[2].partition(";")[0]
            name, _, port = target.partition(":")
            to = Address(name, int(port or 5060))
        token = blake2s(f"{request.via.branch} {self.address}".encode(), digest_size=8)
        via = f"SIP/2.0/UDP {self.address};branch=z9hG4bK{token.hexdigest()}"
        request.headers.prepend("Via", via)
        if request.method == "INVITE" and request.to.tag is None:
            request.headers.prepend("Record-Route", self.uri)
        self._send(request, to)

    def _back(self, response: Response) -> None:
        vias = response.headers.values("Via")
        response.headers.remove("Via")
        for via in vias[1:]:
            response.headers.add("Via", via)
        if len(vias) > 1:
            via = response.via
            to = Address(via.received or via.host, via.rport or via.port or 5060)
            self._send(response, to)


class _Stand:
    """What the network expects of who is on it."""

    def __init__(self, agent: Relay) -> None:
        self.agent, self.address = agent, agent.address
        self.seen: list[Any] = []
        self.reactions: list[Any] = []


def relay(net: Net, host: str, onward: Address, **more: Any) -> Relay:
    """Put a relay on the network."""
    made = Relay(Address(host, 5060), onward, **more)
    net.phones[made.address] = _Stand(made)  # type: ignore[assignment]
    return made
