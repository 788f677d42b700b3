"""The calls of RFC 3665 replayed: the agent is Alice or Bob, everybody else speaks as printed.

Tags, branches and Call-IDs are "random" so that they come out as printed: the printed messages
are fed unchanged, and what the agent sends is compared with what Alice or Bob sends.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from printed_flows import call_flows

from voip.sip.agent import SipAgent
from voip.sip.config import AgentConfig
from voip.sip.digest import Credentials
from voip.sip.events import Answered, IncomingInvite, ReinviteReceived
from voip.sip.flow import Flow
from voip.sip.message import Request, Response, parse_message
from voip.types import Address

NAMES = r"(Alice|Bob|Proxy_[123]|SIP_ALG|Redirect_Server|Redirect_Proxy|Proxy)"
COOKIE = "z9hG4bK"
ALICES = ["3.1", "3.2", "3.3", "3.4", "3.5", "3.6", "3.7", "3.8", "3.10", "3.11"]
BOBS = ["3.1", "3.2", "3.3", "3.4", "3.6", "3.8", "3.11"]
"""Flows whose messages to and from them are all printed (3.9 leaves its 486 out)."""


def flow(section: str) -> str:
    """The number of a section's flow."""
    return f"F{5 + int(section[2:]):03}"


class Printed:
    """A `Random` that yields what the RFC prints."""

    def __init__(self, tags: list[str], branches: list[str]) -> None:
        self.tags = tags
        self.branches = branches

    def token(self, length: int = 16) -> str:
        if length == 20 and self.branches:
            return self.branches.pop(0).removeprefix(COOKIE)
        return self.tags[0] if length == 16 and self.tags else "0" * length

    def below(self, limit: int) -> int:
        return 0

    def uniform(self, low: float, high: float) -> float:
        return low


def who(name: str) -> tuple[str, str]:
    match = re.search(f"_{NAMES}_{NAMES}$", name)
    assert match, name
    return match[1], match[2]


class Replay:
    """One side of one flow."""

    def __init__(self, flow: list[tuple[str, Request | Response]], me: str) -> None:
        self.me = me
        self.script = [(*who(name), message) for name, message in flow if me in who(name)]
        mine = [m for sender, _, m in self.script if sender == me]
        first = next(m for m in mine if m.status != 100) if me == "Bob" else mine[0]  # type: ignore[union-attr]
        tag = first.to.tag if isinstance(first, Response) else first.from_.tag
        assert tag is not None
        self.agent = SipAgent(AgentConfig(user_agent=""), Printed([tag], list(_branches(mine))))
        self.now = 0.0
        self.sent: list[Request | Response] = []
        self.events: list[object] = []
        self.compared = 0
        self.challenged = False

    def run(self) -> int:
        """Go through the messages; return how many of ours were compared."""
        for sender, _, message in self.script:
            if sender == self.me:
                self._drain()
                if not self._matches(message):
                    self._prompt(message)
                    self._drain()
                self._compare(message)
            else:
                self.challenged = self.challenged or "Proxy-Authenticate" in message.headers
                self.agent.receive(message.to_bytes(), self._flow(message), self.now)
        self._drain()
        assert self.sent == [], self.sent
        return self.compared

    def end(self) -> None:
        """Hang up what the RFC leaves open; in the end nothing is left."""
        for dialog in self.agent.dialogs:
            self.agent.bye(dialog, now=self.now)
        while (due := self.agent.next_timer()) is not None:
            assert due < 300
            self.agent.handle_timer(due)
        assert (self.agent.transactions, self.agent.dialogs) == (0, [])

    def _flow(self, message: Request | Response) -> Flow:
        here, there = Address("192.0.2.101", 5060), Address("192.0.2.111", 5060)
        return Flow(message.via.transport.lower(), here, there)

    def _drain(self) -> None:
        self.sent += [parse_message(data) for data, _ in self.agent.outgoing()]
        self.events += self.agent.events()

    def _matches(self, printed: Request | Response) -> bool:
        return any(_same_kind(ours, printed) for ours in self.sent)

    def _prompt(self, printed: Request | Response) -> None:
        """Make the agent do what its user does at this point of the flow."""
        flow = self._flow(printed)
        if isinstance(printed, Response):
            invite = next(
                event.invite
                for event in reversed(self.events)
                if isinstance(event, IncomingInvite | ReinviteReceived)
            )
            contact = printed.headers.get("Contact")
            if contact is None and 100 < printed.status < 300:
                contact = "<sip:bob@client.biloxi.example.com>"
            self.agent.respond(
                invite, printed.status, contact=contact, body=printed.body,
                content_type=printed.headers.get("Content-Type"), now=self.now,
            )  # fmt: skip
        elif printed.method == "INVITE" and printed.to.tag is None:
            self.invite = self.agent.invite(
                printed.uri, flow=flow, from_=printed.headers.get("From") or "",
                to=printed.headers.get("To") or "", contact=printed.headers.get("Contact") or "",
                call_id=printed.call_id, route=printed.headers.values("Route"), body=printed.body,
                content_type=printed.headers.get("Content-Type"),
                credentials=Credentials("alice", "secret"), now=self.now,
            )  # fmt: skip
        elif printed.method == "CANCEL":
            self.agent.cancel(self.invite, now=self.now)
        elif printed.method == "INVITE":
            [dialog] = self.agent.dialogs
            self.agent.reinvite(dialog, body=printed.body, content_type="x/y", now=self.now)
        elif printed.method == "ACK":
            answered = next(e for e in self.events if isinstance(e, Answered))
            self.agent.ack(answered.dialog, body=printed.body, now=self.now)
        else:
            assert printed.method == "BYE"
            [dialog] = self.agent.dialogs
            self.agent.bye(dialog, now=self.now)

    def _compare(self, printed: Request | Response) -> None:
        ours = next((m for m in self.sent if _same_kind(m, printed)), None)
        assert ours is not None, f"expected {printed}, have {self.sent}"
        self.sent.remove(ours)
        self.compared += 1
        assert ours.via.branch == printed.via.branch
        assert len(ours.headers.values("Via")) == len(printed.headers.values("Via"))
        assert (ours.from_.uri, ours.from_.tag) == (printed.from_.uri, printed.from_.tag)
        assert ours.to.uri == printed.to.uri
        if printed.to.tag or isinstance(printed, Request):  # left out of a 200 to CANCEL
            assert ours.to.tag == printed.to.tag, printed
        assert ours.call_id == printed.call_id
        assert ours.cseq.method == printed.cseq.method
        if isinstance(ours, Response) and isinstance(printed, Response):
            expected = printed.headers.values("Record-Route")
            assert ours.headers.values("Record-Route") == expected
            assert ours.cseq == printed.cseq
            return
        assert isinstance(ours, Request)
        assert isinstance(printed, Request)
        strip = re.compile(";transport=[a-z]+")
        assert strip.sub("", ours.uri) == strip.sub("", printed.uri)
        if "Route" in printed.headers:  # the RFC's ACKs to failures leave it out
            assert ours.headers.values("Route") == printed.headers.values("Route")
        if self.challenged and printed.method == "INVITE":
            name = "Proxy-Authorization"
            assert len(ours.headers.get_all(name)) == len(printed.headers.get_all(name)) > 0


def _same_kind(ours: Request | Response, printed: Request | Response) -> bool:
    if isinstance(ours, Response) or isinstance(printed, Response):
        return (
            isinstance(ours, Response)
            and isinstance(printed, Response)
            and (ours.status, ours.cseq.method) == (printed.status, printed.cseq.method)
        )
    return ours.method == printed.method


def _branches(mine: list[Request | Response]) -> Iterator[str]:
    """The branches of the requests that begin a transaction, in order."""
    used: set[str] = set()
    for message in mine:
        branch = message.via.branch or ""
        if isinstance(message, Request) and branch not in used:
            used.add(branch)
            yield branch


@pytest.mark.reference
@pytest.mark.parametrize(
    ("me", "section"),
    [
        pytest.param(
            me,
            section,
            id=f"{flow(section)}-{section}-{me}",
            marks=pytest.mark.rfc("3665", section, flow(section)),
        )
        for me, sections in (("Alice", ALICES), ("Bob", BOBS))
        for section in sections
    ],
)
def test_the_agent_speaks_as_printed(reference_data: Path, me: str, section: str) -> None:
    flow = call_flows(reference_data)[section]
    replay = Replay(flow, me)
    assert replay.run() == len([name for name, _ in flow if who(name)[0] == me]) > 0
    replay.end()
