"""What strangers can learn of a proxy's users."""

from __future__ import annotations

from itertools import count

import pytest
from virtual_sip import request_text

from voip.sip.authenticator import Authenticator
from voip.sip.digest_server import DigestServer
from voip.sip.flow import Flow
from voip.sip.headers import NameAddr
from voip.sip.location import Binding, Location
from voip.sip.message import Request, Response, parse_message
from voip.sip.proxy import ProxyAgent, ProxyConfig
from voip.sip.proxy_policy import LocationPolicy
from voip.sip.registrar import Registrar
from voip.types import Address, SeededRandom

pytestmark = [pytest.mark.rfc("3261", "16.5")]

USERS = {"absent": "a", "here": "b"}
GATEWAY, STRANGER = "192.0.2.50", "192.0.2.66"
PHONE = "sip:here@192.0.2.7"
METHODS = ("INVITE", "OPTIONS", "MESSAGE", "SUBSCRIBE", "INFO", "PUBLISH", "REGISTER")


class Wire:
    """A proxy with one user who is registered and one who is not."""

    def __init__(self, *, hides_users: bool = True) -> None:
        location = Location()
        contact = NameAddr("", PHONE)
        location.set("here", [Binding(contact, contact.sip_uri, 1e9, "c", 1)], 0.0)
        digest = DigestServer("here", USERS, SeededRandom(3))
        registrar = Registrar(USERS, location, Authenticator(digest))
        asks = Authenticator(digest, proxy=True)
        policy = LocationPolicy(
            USERS, location, asks, registrar, hides_users=hides_users, known_hosts=[GATEWAY]
        )
        config = ProxyConfig(domains=frozenset({"here.example"}))
        self.agent = ProxyAgent(config, policy, SeededRandom(1))
        self._serial = count(1)

    def ask(self, user: str, method: str = "INVITE", source: str = STRANGER) -> Response | Request:
        """Return the answer, or the request that was forwarded."""
        uri = f"sip:{user}@here.example" if method != "REGISTER" else "sip:here.example"
        number = next(self._serial)
        text = request_text(method, uri=uri, branch=f"z9hG4bK{number}", call_id=str(number))
        text = text.replace("To: <sip:phone@192.0.2.1>", f"To: <sip:{user}@here.example>")
        flow = Flow("udp", Address("192.0.2.11", 5060), Address(source, 5060))
        self.agent.receive(text.encode(), flow, 1.0)
        out = [parse_message(data) for data, _ in self.agent.outgoing()]
        return next(m for m in out if isinstance(m, Request) or m.status != 100)

    def answer(self, user: str, method: str = "INVITE", source: str = STRANGER) -> bytes:
        """Return an answer without what differs from one request to the next."""
        answer = self.ask(user, method, source)
        assert isinstance(answer, Response)
        for name in ("Via", "To", "From", "Call-ID", "WWW-Authenticate"):
            answer.headers.remove(name)
        return answer.to_bytes()


@pytest.mark.parametrize("method", METHODS)
def test_who_is_not_there_and_who_is_nobody_are_answered_alike(method: str) -> None:
    wire = Wire()
    absent, nobody = wire.answer("absent", method), wire.answer("nobody", method)
    assert absent == nobody
    assert absent.startswith(b"SIP/2.0 401" if method == "REGISTER" else b"SIP/2.0 480")


@pytest.mark.parametrize("method", METHODS)
def test_only_what_is_noticed_reaches_who_is_there(method: str) -> None:
    wire = Wire()
    if method in ("INVITE", "MESSAGE"):
        forwarded = wire.ask("here", method)
        assert isinstance(forwarded, Request) and forwarded.uri == PHONE
    else:
        assert wire.answer("here", method) == wire.answer("nobody", method)


def test_known_hosts_are_told_the_truth() -> None:
    wire = Wire()
    for method in ("INVITE", "OPTIONS"):
        assert wire.answer("absent", method, GATEWAY).startswith(b"SIP/2.0 480")
        assert wire.answer("nobody", method, GATEWAY).startswith(b"SIP/2.0 404")
        assert isinstance(wire.ask("here", method, GATEWAY), Request)


def test_a_proxy_may_tell_everybody() -> None:
    wire = Wire(hides_users=False)
    assert wire.answer("absent").startswith(b"SIP/2.0 480")
    assert wire.answer("nobody").startswith(b"SIP/2.0 404")
    assert isinstance(wire.ask("here", "OPTIONS"), Request)
