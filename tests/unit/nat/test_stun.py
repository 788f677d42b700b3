"""STUN messages: RFC 5769's vectors, and what is none."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voip.nat.stun import (
    BINDING,
    Attribute,
    Kind,
    StunMessage,
    has_fingerprint,
    has_integrity,
    long_term_key,
    xor_address,
)
from voip.types import Address

pytestmark = [pytest.mark.rfc("8489", "5"), pytest.mark.rfc("5769", "2")]

ID = bytes(range(12))
PASSWORD = b"VOkJxbRl1RmTxUk/WvJxBt"
LONG_TERM = ("\u30de\u30c8\u30ea\u30c3\u30af\u30b9", "example.org", "TheMatrIX")


@pytest.fixture(scope="module")
def vectors(reference_data: Path) -> list[bytes]:
    """The four messages of RFC 5769 section 2."""
    text = (reference_data / "rfc-examples/rfc5769_stun_test_vectors.txt").read_text()
    found = []
    for section in re.split(r"^2\.[1-4]\.  ", text, flags=re.MULTILINE)[1:]:
        rows = re.findall(r"^ {4,}((?:[0-9a-f]{2} ){3}[0-9a-f]{2})(?: |$)", section, re.MULTILINE)
        found.append(bytes.fromhex("".join(rows)))
    assert [len(one) for one in found] == [108, 80, 92, 116]
    return found


@pytest.mark.reference
def test_rfc5769_messages_are_read_and_proven_genuine(vectors: list[bytes]) -> None:
    keys = [PASSWORD, PASSWORD, PASSWORD, long_term_key(*LONG_TERM)]
    for data, key in zip(vectors, keys, strict=True):
        assert StunMessage.parse(data) is not None
        assert has_integrity(data, key)
        assert not has_integrity(data, key + b"x")
        for position in (1, 9, 21, 60):  # not one bit may differ
            changed = bytearray(data)
            changed[position] ^= 1
            assert not has_integrity(bytes(changed), key)
    assert [has_fingerprint(data) for data in vectors] == [True, True, True, False]


@pytest.mark.reference
def test_rfc5769_attributes_have_the_printed_values(vectors: list[bytes]) -> None:
    request, four, six, long_term = (StunMessage.parse(data) for data in vectors)
    assert request is not None and four is not None and six is not None and long_term is not None
    assert (request.kind, request.method) == (Kind.REQUEST, BINDING)
    assert request.transaction_id.hex() == "b7e7a701bc34d686fa87dfae"
    assert request.get(Attribute.SOFTWARE) == b"STUN test client"
    assert request.get(Attribute.USERNAME) == b"evtj:h6vY"
    assert (four.kind, four.method) == (Kind.SUCCESS, BINDING)
    assert four.mapped_address == Address("192.0.2.1", 32853)
    assert six.mapped_address == Address("2001:db8:1234:5678:11:2233:4455:6677", 32853)
    assert four.get(Attribute.SOFTWARE) == six.get(Attribute.SOFTWARE) == b"test vector"
    assert long_term.get(Attribute.USERNAME) == LONG_TERM[0].encode()
    assert long_term.get(Attribute.REALM) == LONG_TERM[1].encode()
    assert long_term.get(Attribute.NONCE) == b"f//499k954d6OL34oL9FSTvy64sA"


@pytest.mark.reference
def test_rfc5769_messages_are_written_as_printed(vectors: list[bytes]) -> None:
    """The last one to the bit; the others are padded with spaces, which integrity covers too."""
    added = (Attribute.MESSAGE_INTEGRITY, Attribute.FINGERPRINT)
    for data, key in zip(vectors, [PASSWORD] * 3 + [long_term_key(*LONG_TERM)], strict=True):
        message = StunMessage.parse(data)
        assert message is not None
        kept = tuple(one for one in message.attributes if one[0] not in added)
        plain = StunMessage(message.kind, message.method, message.transaction_id, kept)
        written = plain.to_bytes(key=key, fingerprint=has_fingerprint(data))
        assert (len(written), written[:20]) == (len(data), data[:20])
        assert has_integrity(written, key)
        assert has_fingerprint(written) == has_fingerprint(data)
    assert written == vectors[3]


@pytest.mark.parametrize("host", ["192.0.2.7", "2001:db8::7", "fe80::1%2"])
def test_an_address_survives(host: str) -> None:
    value = xor_address(Address(host, 5060), ID)
    message = StunMessage(Kind.SUCCESS, BINDING, ID, ((Attribute.XOR_MAPPED_ADDRESS, value),))
    read = StunMessage.parse(message.to_bytes(fingerprint=True))
    assert read is not None
    assert read.mapped_address == Address(host.partition("%")[0], 5060)


def test_an_error_has_its_code_and_reason() -> None:
    value = bytes([0, 0, 4, 20]) + b"Unknown"
    message = StunMessage(Kind.ERROR, BINDING, ID, ((Attribute.ERROR_CODE, value),))
    read = StunMessage.parse(message.to_bytes())
    assert read is not None and read.kind is Kind.ERROR
    assert (read.error, read.mapped_address) == ((420, "Unknown"), None)
    assert StunMessage(Kind.ERROR, BINDING, ID, ((Attribute.ERROR_CODE, b"x"),)).error is None


@pytest.mark.parametrize("method", [0x001, 0x003, 0x00F, 0x0F5, 0xABC])
@pytest.mark.parametrize("kind", list(Kind))
def test_class_and_method_are_mixed_as_section_5_says(kind: Kind, method: int) -> None:
    read = StunMessage.parse(StunMessage(kind, method, ID).to_bytes())
    assert read == StunMessage(kind, method, ID)


def test_what_nobody_has_vouched_for_is_left_out() -> None:
    whole = StunMessage(Kind.REQUEST, BINDING, ID, ((Attribute.USERNAME, b"a"),))
    data = bytearray(whole.to_bytes(key=b"key"))
    data += b"\x00\x15\x00\x04nonc"
    data[2:4] = (len(data) - 20).to_bytes(2)
    read = StunMessage.parse(bytes(data))
    assert read is not None and has_integrity(bytes(data), b"key")
    assert read.get(Attribute.NONCE) is None and read.get(Attribute.USERNAME) == b"a"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0\0\0\0",
        b"OPTIONS sip:a@b SIP/2.0\r\n",
        StunMessage(Kind.REQUEST, BINDING, ID).to_bytes()[:-1],
        StunMessage(Kind.REQUEST, BINDING, ID).to_bytes() + b"\0\0\0\0",
        bytes(20),
        b"\x00\x01\x00\x04\x21\x12\xa4\x42" + ID + b"\x00\x06\x00\x05",  # longer than the message
        StunMessage(Kind.REQUEST, BINDING, ID, ((6, b""),) * 65).to_bytes(),
        StunMessage(Kind.REQUEST, BINDING, ID).to_bytes(fingerprint=True)[:-1] + b"\0",
    ],
)
def test_what_is_no_stun_message_is_none(data: bytes) -> None:
    assert StunMessage.parse(data) is None


@given(st.binary(max_size=120))
def test_nothing_from_the_network_raises(tail: bytes) -> None:
    data = b"\x01\x01" + len(tail).to_bytes(2) + b"\x21\x12\xa4\x42" + ID + tail
    message = StunMessage.parse(data)
    has_integrity(data, b"key")
    has_fingerprint(data)
    if message is not None:
        assert message.mapped_address is None or message.mapped_address.port >= 0
        assert message.error is None or message.error[0] < 800
