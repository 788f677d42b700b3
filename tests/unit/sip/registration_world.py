"""A registration of ours and a registrar of raw messages, in virtual time."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from voip.errors import RegistrationError
from voip.sip.agent import SipAgent
from voip.sip.config import AgentConfig
from voip.sip.digest import Credentials
from voip.sip.digest_server import DigestServer
from voip.sip.flow import Flow
from voip.sip.registration import (
    Registration,
    RegistrationEvent,
    RegistrationFailed,
    RegistrationState,
)
from voip.types import Address, SeededRandom

FLOW = Flow("udp", Address("192.0.2.10", 5060), Address("192.0.2.1", 5060))
OTHER_FLOW = Flow("udp", Address("192.0.2.11", 5060), Address("192.0.2.1", 5060))
CONTACT = "<sip:alice@192.0.2.10:5060>"
ALICE = Credentials("alice", "secret")

Script = Callable[["Ask"], str | None]
"""From a REGISTER to the status line and further lines of the answer; None: silence."""


@dataclass(frozen=True)
class Ask:
    """A REGISTER as the registrar sees it: plain text."""

    text: str
    now: float
    flow: Flow

    def value(self, name: str) -> str | None:
        found = re.search(rf"(?im)^{name}: *(.*?)\r$", self.text)
        return found[1] if found else None

    @property
    def expires(self) -> int:
        return int(self.value("Expires") or "-1")

    @property
    def cseq(self) -> int:
        return int((self.value("CSeq") or "0").split()[0])


def ok(expires: int, contact: str = CONTACT) -> Script:
    return lambda ask: f"200 OK\r\nContact: {contact};expires={expires}"


def as_asked(ask: Ask) -> str:
    """Grant what is asked for."""
    if ask.expires == 0:
        return "200 OK"
    return f"200 OK\r\nContact: {ask.value('Contact')};expires={ask.expires}"


def silence(ask: Ask) -> None:
    return None


@dataclass
class World:
    """An agent, its registration, a registrar, and time."""

    script: Script
    credentials: Credentials | None = None
    expires_s: int = 300
    seed: int = 1
    registrar: str = "sip:pbx"
    address: str = "<sip:alice@pbx>"
    contact: str = CONTACT
    now: float = 1000.0
    asks: list[Ask] = field(default_factory=list)
    news: list[RegistrationEvent] = field(default_factory=list)

    def __post_init__(self) -> None:
        random = SeededRandom(self.seed)
        self.agent = SipAgent(AgentConfig(), random)
        self.registration = Registration(
            self.agent,
            random,
            registrar=self.registrar,
            address=self.address,
            contact=self.contact,
            flow=FLOW,
            credentials=self.credentials,
            expires_s=self.expires_s,
        )

    def start(self) -> World:
        self.registration.start(self.now)
        self.settle()
        return self

    def stop(self) -> World:
        self.registration.stop(self.now)
        self.settle()
        return self

    def settle(self) -> None:
        """Let everything happen that needs no time."""
        moved = True
        while moved:
            moved = False
            for data, flow in self.agent.outgoing():
                moved = True
                ask = Ask(data.decode(), self.now, flow)
                self.asks.append(ask)
                answer = self.script(ask)
                if answer is not None:
                    self.agent.receive(reply(ask, answer), FLOW, self.now)
            for event in self.agent.events():
                moved = True
                assert self.registration.handle(event, self.now)
            self.news += self.registration.events()

    def run(self, seconds: float) -> World:
        end = self.now + seconds
        while True:
            due = [
                at
                for at in (self.agent.next_timer(), self.registration.next_timer())
                if at is not None
            ]
            if not due or min(due) > end:
                self.now = end
                return self
            self.now = max(self.now, min(due))
            self.agent.handle_timer(self.now)
            self.registration.handle_timer(self.now)
            self.settle()

    @property
    def state(self) -> RegistrationState:
        return self.registration.state

    @property
    def last(self) -> RegistrationEvent:
        return self.news[-1]

    def failure(self) -> RegistrationError:
        assert isinstance(self.last, RegistrationFailed)
        return self.last.error

    def assert_quiet(self) -> None:
        """Nothing is left after all transactions have had their time."""
        self.run(40.0)
        assert self.registration.next_timer() is None
        assert (self.agent.transactions, self.agent.timers) == (0, 0)


def reply(ask: Ask, answer: str) -> bytes:
    status, _, rest = answer.partition("\r\n")
    copied = "".join(
        f"{name}: {ask.value(name)}{';tag=reg' if name == 'To' else ''}\r\n"
        for name in ("Via", "From", "To", "Call-ID", "CSeq")
    )
    end = "\r\n" if rest else ""
    return f"SIP/2.0 {status}\r\n{copied}{rest}{end}l: 0\r\n\r\n".encode()


def with_digest(server: DigestServer, then: Script) -> Script:
    """Challenge whoever has no credentials that hold."""

    def script(ask: Ask) -> str | None:
        credentials = ask.value("Authorization")
        if credentials is not None:
            judgement = server.verify("REGISTER", credentials, ask.now, uri="sip:pbx")
            if judgement.username is not None:
                return then(ask)
        stale = credentials is not None and judgement.verdict.name in ("STALE", "REPLAYED")
        lines = server.challenge(ask.now, stale=stale)
        return "401 Unauthorized\r\n" + "\r\n".join(f"WWW-Authenticate: {line}" for line in lines)

    return script
