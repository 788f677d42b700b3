"""tel: URIs by the examples and rules of RFC 3966, and of RFC 3261 section 19.1.6."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voip.errors import SipError
from voip.sip.tel import TelUri
from voip.sip.uri import SipUri

pytestmark = pytest.mark.rfc("3966", "5")

FOO = SipUri.parse("sip:foo.com")


@pytest.mark.reference
def test_every_uri_that_rfc_3966_prints_is_read(reference_data: Path) -> None:
    text = (reference_data / "rfc-text" / "rfc3966.txt").read_text()
    printed = re.findall(r'tel:[+0-9][^\s"<>:]*(?<![.,:])', text)
    for uri in printed:
        if uri not in ("tel:411", "tel:+"):  # shown as what it should not be
            assert str(TelUri.parse(uri)) == uri
    assert len(printed) > 5


@pytest.mark.parametrize(
    ("uri", "number", "context"),
    [
        ("tel:+1-201-555-0123", "+12015550123", None),
        ("tel:7042;phone-context=example.com", "7042", "example.com"),
        ("TEL:863-1234;phone-context=+1-914-555", "8631234", "+1-914-555"),
        ("tel:*67#;phone-context=example.com", "*67#", "example.com"),
    ],
)
def test_parts(uri: str, number: str, context: str | None) -> None:
    tel = TelUri.parse(uri)
    assert (tel.digits, tel.param("phone-context")) == (number, context)
    assert tel.is_global == number.startswith("+")


@pytest.mark.parametrize(
    "text",
    [
        "tel:", "tel:+", "tel:7042", "tel:+1a", "tel:12+3;phone-context=x.org", "tel:+1;",
        "tel:+1;=x", "tel:+1;a=1;A=2", "tel:7;phone-context=", "tel:7;phone-context=-",
        "tel:+1 2", "tel:+1;a=<",
        "tel:+" + "1" * 64,
    ],
)  # fmt: skip
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(SipError) as caught:
        TelUri.parse(text)
    assert caught.value.status == 400


def test_another_scheme_is_416() -> None:
    with pytest.raises(SipError) as caught:
        TelUri.parse("sip:+1@example.com")
    assert caught.value.status == 416


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("tel:+1-201-555-0123", "TEL:+1.201(555)0123", True),
        ("tel:+1;isub=1411;postd=pp22", "tel:+1;POSTD=PP22;isub=1411", True),
        ("tel:+1;ext=1-2", "tel:+1;ext=12", True),
        ("tel:7042;phone-context=Example.com", "tel:70-42;phone-context=example.COM", True),
        ("tel:863;phone-context=+1-914", "tel:863;phone-context=+1914", True),
        ("tel:+1", "tel:1;phone-context=+1", False),
        ("tel:+1;x", "tel:+1", False),
        ("tel:+12", "tel:+13", False),
        ("tel:7042;phone-context=a.com", "tel:7042;phone-context=b.com", False),
    ],
)
def test_section_4_equality(one: str, other: str, same: bool) -> None:
    assert TelUri.parse(one).equivalent(TelUri.parse(other)) is same
    assert TelUri.parse(other).equivalent(TelUri.parse(one)) is same


@pytest.mark.parametrize(
    ("tel", "sip"),
    [
        ("tel:+358-555-1234567;postd=pp22", "sip:+3585551234567;postd=pp22@foo.com;user=phone"),
        (
            "tel:+358-555-1234567;POSTD=PP22;isub=1411",
            "sip:+3585551234567;isub=1411;postd=pp22@foo.com;user=phone",
        ),
        (
            "tel:358-555;tsp=a.b;phone-context=+5",
            "sip:358555;phone-context=+5;tsp=a.b@foo.com;user=phone",
        ),
    ],
)
def test_equal_numbers_become_equal_sip_uris(tel: str, sip: str) -> None:
    uri = TelUri.parse(tel).to_sip(FOO)
    assert str(uri) == sip
    back = TelUri.from_sip(SipUri.parse(sip))
    assert back is not None
    assert back.equivalent(TelUri.parse(tel))


@pytest.mark.parametrize("sip", ["sip:alice@foo.com", "sip:600@foo.com", "sip:foo.com"])
def test_a_name_is_no_number(sip: str) -> None:
    assert TelUri.from_sip(SipUri.parse(sip)) is None


@given(st.text(max_size=60) | st.text(max_size=40).map("tel:+1{}".format))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        tel = TelUri.parse(text)
    except SipError:
        return
    assert TelUri.parse(str(tel)) == tel
    assert tel.equivalent(TelUri.parse(str(tel)))
