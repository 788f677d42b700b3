"""The registrar, given the messages of RFC 3665 section 2, as printed; and contacts of any kind."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from printed_flows import printed

from voip.sip.flow import Flow
from voip.sip.headers import NameAddr
from voip.sip.location import Location, by_preference
from voip.sip.message import Request, Response, parse_message
from voip.sip.registrar import Registrar, RegistrarConfig
from voip.types import Address

FLOW = Flow("tls", Address("192.0.2.9", 5061), Address("192.0.2.201", 5061))
DESK = "sips:bob@client.biloxi.example.com"
MAIL = "mailto:bob@biloxi.example.com"


@dataclass
class Register:
    """A REGISTER, and how it was answered."""

    request: Request
    flow: Flow = FLOW
    status: int = 0
    told: list[str] = field(default_factory=list)

    def reply(
        self,
        status: int,
        reason: str | None = None,
        *,
        headers: Iterable[tuple[str, str]] = (),
        now: float,
    ) -> None:
        self.status = status
        self.told = [NameAddr.parse(v).uri for name, v in headers if name == "Contact"]


class Town:
    """A registrar that has only bob and asks for no password: the printed digests are old."""

    def __init__(self) -> None:
        self.location = Location()
        config = RegistrarConfig(default_expires_s=3600)
        self.registrar = Registrar({"bob"}, self.location, None, config)
        self.cseq = 100

    def take(self, request: Request) -> Register:
        register = Register(request)
        self.registrar.register(register, 0.0)
        return register

    def register(self, *lines: str) -> Register:
        self.cseq += 1
        text = "\r\n".join([
            "REGISTER sips:biloxi.example.com SIP/2.0",
            "Via: SIP/2.0/TLS 192.0.2.201;branch=z9hG4bK1",
            "From: <sips:bob@biloxi.example.com>;tag=1",
            "To: <sips:bob@biloxi.example.com>",
            "Call-ID: 1",
            f"CSeq: {self.cseq} REGISTER",
            *lines,
            "Content-Length: 0",
            "\r\n",
        ])  # fmt: skip
        request = parse_message(text.encode())
        assert isinstance(request, Request)
        return self.take(request)

    def called(self) -> list[str]:
        groups = by_preference(self.location.bindings("bob", 1.0))
        return [str(binding.uri) for group in groups for binding in group]


@pytest.fixture
def town() -> Town:
    return Town()


@pytest.mark.reference
@pytest.mark.rfc("3665", "2.2")
def test_F002_the_printed_update_is_taken_and_told_as_printed(
    town: Town, reference_data: Path
) -> None:
    files = {
        section: [printed(file) for file in sorted(folder.iterdir())]
        for section in ("2.1", "2.2", "2.3")
        for folder in [reference_data / "sip-flows" / "rfc3665" / section]
    }
    compared = 0
    for section in files:
        requests = [one for one in files[section] if isinstance(one, Request)]
        answers = [one for one in files[section] if isinstance(one, Response)]
        answer = town.take(requests[-1])  # the one with credentials
        assert answer.status == answers[-1].status == 200
        assert answer.told == [contact.uri for contact in answers[-1].contacts], section
        compared += len(answer.told)
        assert town.called() == [uri for uri in answer.told if uri.startswith("sip")]
    assert compared >= 5


def test_what_is_no_sip_uri_is_told_and_never_called(town: Town) -> None:
    town.register(f"Contact: <{DESK}>;q=0.1")
    register = town.register(f"Contact: {MAIL}", "Contact: <tel:+15550100>;q=1.0")
    assert (register.status, register.told) == (200, [DESK, MAIL, "tel:+15550100"])
    assert town.called() == [DESK]


def test_it_is_renewed_and_removed_like_any_other(town: Town) -> None:
    town.register(f"Contact: {MAIL}")
    assert town.register(f"Contact: <{MAIL}>;expires=60").told == [MAIL]
    assert town.register(f"Contact: <{MAIL}>", "Expires: 5").status == 423
    assert town.register(f"Contact: <{MAIL}>", "Expires: 0").told == []
    town.register(f"Contact: {MAIL}")
    assert town.register("Contact: *", "Expires: 0").told == []
