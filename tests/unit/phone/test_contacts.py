"""How a phone names itself: by sips: where that was called, and nowhere else (RFC 5630)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from voip.account import Account
from voip.line import Line
from voip.sip.flow import Flow
from voip.sip.message import Request
from voip.sip.terms import Terms
from voip.sip.uri import SipUri
from voip.types import Address

pytestmark = pytest.mark.rfc("5630", "5.1.1.2")

TLS = Flow("tls", Address("192.0.2.1", 5061), Address("192.0.2.9", 5061))
UDP = Flow("udp", Address("192.0.2.1", 5060), Address("192.0.2.9", 5060))
BY_SIP, BY_SIPS = "<sip:alice@192.0.2.1:5061;transport=tls>", "<sips:alice@192.0.2.1:5061>"


def line(aor: str, route: tuple[str, ...] = (), gruu: str | None = None) -> Line:
    """A line of an account whose registrar says this."""
    found = Line(Account(aor), named=True, registers=False)
    registrar: Any = SimpleNamespace(terms=Terms(pub_gruu=gruu), gruu=gruu, route=lambda: route)
    registrars: Any = SimpleNamespace(of=lambda flow: registrar)
    found.registrars = found.contacts.registrars = registrars
    return found


@pytest.mark.parametrize("aor", ["sip:alice@home.example", "sips:alice@home.example"])
@pytest.mark.parametrize(
    ("called", "route", "contact"),
    [
        ("sip:bob@home.example", (), BY_SIP),
        ("sips:bob@home.example", (), BY_SIPS),
        ("sip:bob@home.example", ("<sips:home.example;lr>", "<sip:x;lr>"), BY_SIPS),
        ("sip:bob@home.example", ("<sip:home.example;lr>", "<sips:x;lr>"), BY_SIP),
    ],
)
def test_who_calls_sip_is_reached_by_sip_though_it_is_registered_by_sips(
    aor: str, called: str, route: tuple[str, ...], contact: str
) -> None:
    assert line(aor, route).contact_to(SipUri.parse(called), TLS) == contact


@pytest.mark.rfc("3261", "12.1.1")
@pytest.mark.parametrize(
    ("uri", "headers", "contact"),
    [
        ("sip:alice@192.0.2.1", {}, BY_SIP),
        ("sips:alice@192.0.2.1", {}, BY_SIPS),
        ("sip:alice@192.0.2.1", {"Contact": "<sips:bob@192.0.2.9>"}, BY_SIPS),
        ("sip:alice@192.0.2.1", {"Record-Route": "<sips:192.0.2.9;lr>, <sip:x;lr>"}, BY_SIPS),
        (
            "sip:alice@192.0.2.1",
            {"Record-Route": "<sip:192.0.2.9;lr>", "Contact": "<sips:bob@192.0.2.9>"},
            BY_SIP,
        ),
    ],
)
def test_who_is_called_is_reached_as_the_caller_says(
    uri: str, headers: dict[str, str], contact: str
) -> None:
    request = Request("INVITE", uri)
    for name, value in headers.items():
        request.headers.add(name, value)
    assert line("sips:alice@home.example").contact_for(request, TLS) == contact


def test_what_anybody_can_read_is_never_called_sips() -> None:
    request = Request("INVITE", "sip:alice@192.0.2.1")
    request.headers.add("Contact", "<sips:bob@192.0.2.9>")
    assert line("sip:alice@home.example").contact_for(request, UDP) == "<sip:alice@192.0.2.1:5060>"


@pytest.mark.rfc("5630", "5.1.1.4")
@pytest.mark.parametrize("granted", ["sip", "sips"])
def test_a_gruu_is_used_in_the_scheme_that_is_called(granted: str) -> None:
    mine = line("sip:alice@home.example", gruu=f"{granted}:alice@home.example;gr=urn:uuid:1")
    for called in ("sip", "sips"):
        contact = mine.contact_to(SipUri.parse(f"{called}:bob@home.example"), TLS)
        assert contact == f"<{called}:alice@home.example;gr=urn:uuid:1>"


@pytest.mark.rfc("5630", "5.1.1.1")
def test_who_wants_to_be_called_by_sips_registers_so() -> None:
    assert line("sips:alice@home.example").contacts.at(TLS) == BY_SIPS
    assert line("sip:alice@home.example").contacts.at(TLS) == BY_SIP
