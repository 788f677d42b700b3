"""SIP URIs against RFC 3261 section 19.1."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voip.errors import SipError
from voip.sip.uri import SipUri, for_people, format_host, uri_scheme

pytestmark = pytest.mark.rfc("3261", "19.1")


def test_parts_of_a_full_uri() -> None:
    uri = SipUri.parse("sips:alice:secret@atlanta.com:5061;transport=TCP;lr?subject=a%20b&to=x")
    assert uri == SipUri(
        "sips",
        "alice",
        "secret",
        "atlanta.com",
        5061,
        (("transport", "TCP"), ("lr", None)),
        (("subject", "a b"), ("to", "x")),
    )
    assert uri.transport == "tcp"
    assert uri.is_loose_router
    assert uri.param("LR") == ""
    assert uri.param("maddr") is None


@pytest.mark.parametrize(
    "text",
    [
        "sip:example.com",
        "sip:alice@example.com",
        "sip:+1-212-555-1212:1234@gateway.com;user=phone",
        "sip:1212@gateway.com",
        "sip:user;par=u%40example.net@example.com",
        "sip:alice@[2001:db8::10]:5070;transport=tcp",
        "sip:[::1]",
        "sip:bob@biloxi.com:65535",
        "sip:atlanta.com;method=REGISTER?to=alice%40atlanta.com",
        "sip:null-%00-null@example.com",
        "sip:%E2%82%AC@example.com",
        "sip:%FF%FE@example.com",
        "sip:x@my_container;ob",
    ],
)
def test_what_is_written_as_the_grammar_asks_comes_back_letter_for_letter(text: str) -> None:
    assert str(SipUri.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sip:",
        "alice@example.com",
        "sip:alice@",
        "sip:@example.com",
        "sip:alice@@example.com",
        "sip:a@b@example.com",
        "sip:alice@exa mple.com",
        "sip:alice@example.com:",
        "sip:alice@example.com:0",
        "sip:alice@example.com:65536",
        "sip:alice@example.com:٣",
        "sip:alice@-example.com",
        "sip:alice@[::1",
        "sip:alice@[127.0.0.1]",
        "sip:alice@[fe80::1%eth0]",
        "sip:alice@[fe80::1%25eth0]",
        "sip:alice@2001:db8::1",
        "sip:alice@example.com;",
        "sip:alice@example.com;=x",
        "sip:alice@example.com?",
        "sip:alice@example.com?to",
        "sip:al%zzice@example.com",
        "sip:alice@example.com\r\nVia: x",
        "<sip:alice@example.com>",
        "sip:alice@" + "a" * 256,
    ],
)
def test_what_is_no_sip_uri_is_refused_with_400(text: str) -> None:
    with pytest.raises(SipError) as caught:
        SipUri.parse(text)
    assert caught.value.status == 400


@pytest.mark.parametrize("text", ["tel:+4930123", "http://example.com", "soap.beep://x:1", "urn:x"])
def test_other_schemes_are_refused_with_416(text: str) -> None:
    with pytest.raises(SipError) as caught:
        SipUri.parse(text)
    assert caught.value.status == 416


def test_scheme_is_read_without_a_sip_uri() -> None:
    assert uri_scheme("TEL:+49") == "tel"
    assert uri_scheme("no scheme") is None


def test_password_reaches_the_wire_but_no_repr_and_no_error() -> None:
    uri = SipUri.parse("sip:alice:s3cret@example.com")
    assert "s3cret" in str(uri)
    assert "s3cret" not in repr(uri)
    with pytest.raises(SipError) as caught:
        SipUri.parse("sip:alice:s3cret@bad host")
    assert "s3cret" not in str(caught.value)
    assert "s3cret" not in for_people(f"sip:alice:s3cret@{'x' * 600}")


def test_parameters_are_replaced_in_copies() -> None:
    uri = SipUri.parse("sip:a@b;Transport=udp;x=1")
    assert str(uri.with_params(transport="tcp", lr=None)) == "sip:a@b;x=1;transport=tcp;lr"
    assert str(uri.without_params("TRANSPORT")) == "sip:a@b;x=1"
    assert str(uri) == "sip:a@b;Transport=udp;x=1"


def test_ipv6_hosts_wear_brackets_in_text_only() -> None:
    assert SipUri.parse("sip:a@[2001:db8::1]:5060").host == "2001:db8::1"
    assert format_host("::1", 5060) == "[::1]:5060"
    assert format_host("example.com") == "example.com"


@pytest.mark.reference
def test_equivalence_is_what_rfc_3261_19_1_4_prints(reference_data: Path) -> None:
    text = (reference_data / "rfc-text" / "rfc3261.txt").read_text(errors="replace")
    begin = text.index("The URIs within each of the following sets are equivalent:")
    middle = text.index("The URIs within each of the following sets are not equivalent:")
    end = text.index("Note that equality is not transitive", middle)
    compared = 0
    for same, part in ((True, text[begin:middle]), (False, text[middle:end])):
        for block in re.split(r"\n\s*\n", part):
            uris = [SipUri.parse(found) for found in re.findall(r"(?im)^\s+(sips?:\S+)", block)]
            for one in uris:
                for other in uris:
                    if one is not other:
                        assert one.equivalent(other) is same, (str(one), str(other))
                        compared += 1
    assert compared == 2 * (1 + 3 + 1 + 1) + 2 * 6


def test_equivalence_is_not_transitive() -> None:
    plain, on, off = (
        SipUri.parse(f"sip:carol@chicago.com{tail}")
        for tail in ("", ";security=on", ";security=off")
    )
    assert plain.equivalent(on)
    assert plain.equivalent(off)
    assert not on.equivalent(off)
    assert not plain.equivalent(SipUri.parse("sips:carol@chicago.com"))


_text = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
_hosts = st.one_of(
    st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,10}[a-z0-9])?", fullmatch=True),
    st.ip_addresses().map(str),
)


@given(
    st.builds(
        SipUri,
        st.sampled_from(["sip", "sips"]),
        _text,
        st.none() | _text,
        _hosts,
        st.none() | st.integers(1, 65535),
        st.lists(st.tuples(_text, st.none() | _text), max_size=3).map(tuple),
        st.lists(st.tuples(_text, st.text(max_size=5)), max_size=3).map(tuple),
    )
)
def test_any_uri_that_can_be_written_reads_back_the_same(uri: SipUri) -> None:
    assert SipUri.parse(str(uri)) == uri


@given(
    st.text() | st.text(st.sampled_from('sip:@;=?&%41[]. <>"\r\n'), max_size=60).map("sip:".__add__)
)
def test_any_text_is_a_uri_or_a_sip_error(text: str) -> None:
    try:
        uri = SipUri.parse(text)
    except SipError as error:
        assert error.status in (400, 416)
    else:
        assert SipUri.parse(str(uri)) == uri
