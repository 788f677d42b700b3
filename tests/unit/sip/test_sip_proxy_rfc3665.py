"""The proxies of RFC 3665 replayed: what comes is as printed, what goes is compared with the print.

Branches are ours and the printed values of Record-Route carry no proof of the call: both are put in
place of the printed ones in what comes later.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from printed_flows import call_flows

from voip.sip.flow import Flow
from voip.sip.headers import NameAddr
from voip.sip.message import Request, Response, parse_message
from voip.sip.proxy import ProxyAgent, ProxyConfig
from voip.sip.proxy_policy import Decision, Forward, Incoming, Refuse, Target
from voip.sip.server_request import ServerRequest
from voip.sip.via import Via
from voip.types import Address, SeededRandom

pytestmark = pytest.mark.rfc("3261", "16")

NAMES = r"(Alice|Bob|Proxy_[123]|SIP_ALG|Redirect_Server|Redirect_Proxy|Proxy)"
HOSTS = {"Proxy_1": "ss1.atlanta.example.com", "Proxy_2": "ss2.biloxi.example.com"}
PROXIES = [
    *((section, "Proxy_1") for section in ("3.2", "3.3")),
    *((section, "Proxy_2") for section in ("3.2", "3.3", "3.4")),
]
"""Flows whose proxies are printed message by message and without errors: in 3.8 the CANCEL of an
INVITE to Bob is printed as one to Alice, and the ACK between the proxies has another branch."""
AUTHENTICATION = ("Proxy-Authenticate", "WWW-Authenticate")


def who(name: str) -> tuple[str, str]:
    match = re.search(f"_{NAMES}_{NAMES}$", name)
    assert match, name
    return match[1], match[2]


@dataclass
class Replay:
    """One proxy of one flow; it is the proxy's policy too, which does what is printed next."""

    flow: list[tuple[str, Request | Response]]
    me: str
    ours: dict[str, str] = field(default_factory=dict)
    compared: int = 0
    bodies: int = 0

    def __post_init__(self) -> None:
        self.script = [(*who(name), message) for name, message in self.flow if self.me in who(name)]
        self.here = Address(HOSTS[self.me], 5060)
        config = ProxyConfig(keep_flows=False)
        self.agent = ProxyAgent(config, self, SeededRandom(1))
        self.sent: list[Request | Response] = []
        self.position = 0

    # The policy.

    def decide(self, incoming: Incoming, now: float) -> Decision:
        if incoming.request.method == "ACK" and not incoming.in_dialog:
            return Refuse(403)  # it is for the proxy's own refusal
        for sender, _, message in self.script[self.position :]:
            if sender != self.me:
                continue
            if isinstance(message, Response) and message.status >= 400:
                headers = [(n, v) for n in AUTHENTICATION for v in message.headers.get_all(n)]
                return Refuse(message.status, headers)
            if isinstance(message, Request) and message.method == incoming.request.method:
                kept = message.headers.get_all("Proxy-Authorization")
                given = incoming.request.headers.get_all("Proxy-Authorization")
                drop = tuple(("Proxy-Authorization", v) for v in given if v not in kept)
                return Forward(((Target(message.uri),),), drop=drop)
        raise AssertionError(f"nothing is printed for {incoming.request}")

    def serve(self, request: ServerRequest, now: float) -> None:
        raise AssertionError(request)

    def lose(self, flow: Flow) -> None:
        raise AssertionError(flow)

    # The replay.

    def run(self) -> int:
        for position, (sender, _, message) in enumerate(self.script):
            self.position = position + 1
            if sender == self.me:
                self.compare(message)
                continue
            text = message.to_bytes().decode()
            for printed, ours in self.ours.items():
                text = text.replace(printed, ours)
            self.agent.receive(text.encode(), self.way(message), 0.0)
            self.drain()
        assert [m for m in self.sent if not (isinstance(m, Response) and m.status == 100)] == []
        return self.compared

    def way(self, message: Request | Response) -> Flow:
        return Flow(message.via.transport.lower(), self.here, Address("192.0.2.201", 5060))

    def drain(self) -> None:
        for needed in self.agent.events():
            ahead = (m for sender, _, m in self.script[self.position :] if sender == self.me)
            printed = next(m for m in ahead if isinstance(m, Request))
            transport = printed.via.transport.lower()
            needed.found(Flow(transport, self.here, Address("192.0.2.222", 5060)), 0.0)
        self.sent += [parse_message(data) for data, _ in self.agent.outgoing()]

    def compare(self, printed: Request | Response) -> None:
        ours = next((m for m in self.sent if kind(m) == kind(printed)), None)
        assert ours is not None, f"expected {printed}, have {self.sent}"
        self.sent.remove(ours)
        self.compared += 1
        for name in ("From", "Call-ID", "CSeq"):
            assert ours.headers.get(name) == printed.headers.get(name)
        mine, theirs = vias(ours), vias(printed)
        if isinstance(printed, Request):
            assert isinstance(ours, Request)
            assert ours.headers.get("To") == printed.headers.get("To")
            if printed.via.host != self.here.host:  # an ACK that is printed as another's
                assert kind(printed) == "ACK"
                return
            self.ours[theirs[0]] = mine[0]
            mine, theirs = mine[1:], theirs[1:]
            strip = re.compile(r";transport=\w+")
            assert strip.sub("", ours.uri) == strip.sub("", printed.uri)
            if kind(printed) not in ("CANCEL", "ACK"):  # the RFC begins some of them anew
                assert ours.max_forwards == printed.max_forwards
            assert hosts(ours, "Route") == hosts(printed, "Route")
            names = ("Proxy-Authorization", "Contact", "Content-Type")
            for name in names if kind(printed) != "ACK" else ():  # printed with more than came
                assert ours.headers.get_all(name) == printed.headers.get_all(name)
        assert [self.ours.get(branch, branch) for branch in theirs] == mine
        assert hosts(ours, "Record-Route") == hosts(printed, "Record-Route")
        if isinstance(ours, Request):
            for value in ours.headers.values("Record-Route"):
                if self.here.host in value:
                    self.ours[f"<sip:{self.here.host};lr>"] = value
        else:
            assert ours.headers.get("Contact") == printed.headers.get("Contact")
        if printed.body and ours.body:  # some are left out of the print, on one hop or the other
            self.bodies += 1
            assert ours.body == printed.body


def kind(message: Request | Response) -> object:
    if isinstance(message, Request):
        return message.method
    return message.status, message.cseq.method


def vias(message: Request | Response) -> list[str]:
    return [Via.parse(value).branch or "" for value in message.headers.values("Via")]


def hosts(message: Request | Response, name: str) -> list[str]:
    return [NameAddr.parse(value).sip_uri.host for value in message.headers.values(name)]


@pytest.mark.reference
@pytest.mark.parametrize(("section", "me"), PROXIES)
def test_F007_F008_F009_the_proxy_speaks_as_printed(
    reference_data: Path, section: str, me: str
) -> None:
    flow = call_flows(reference_data)[section]
    replay = Replay(flow, me)
    assert replay.run() == len([name for name, _ in flow if who(name)[0] == me]) > 4
    assert replay.bodies
