"""Offers and answers of speech that is repeated (RFC 2198, section 5)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sdp_exchange import answered, described, negotiator

from voip.sdp import PCMA, PCMU, TELEPHONE_EVENTS, AudioCapability
from voip.sdp.format import RtpFormat
from voip.sdp.redundancy import MAX_TYPES, repeated_types

pytestmark = pytest.mark.rfc("2198", "5")

OPUS = AudioCapability("opus", 48000, 2)


def test_each_encoding_is_offered_with_what_repeats_it() -> None:
    offer = negotiator([OPUS, PCMU, PCMA, TELEPHONE_EVENTS], redundancy=True).create_offer()
    text = offer.to_bytes().decode()
    assert "m=audio 4000 RTP/AVP 96 0 8 101 97 98 99\r\n" in text
    assert "a=rtpmap:97 red/48000/2\r\na=fmtp:97 96/96\r\n" in text
    assert "a=rtpmap:98 red/8000\r\na=fmtp:98 0/0\r\n" in text
    assert "a=rtpmap:99 red/8000\r\na=fmtp:99 8/8\r\n" in text


def test_nothing_is_offered_unasked_and_what_is_offered_is_taken() -> None:
    assert b"red" not in negotiator().create_offer().to_bytes()
    offer = described(
        "audio 5000 RTP/AVP 0 121 101,rtpmap:121 red/8000,fmtp:121 0/0,"
        "rtpmap:101 telephone-event/8000"
    )
    callee, answer = answered(offer)
    assert answer.media[0].encodings[-1] == RtpFormat(121, "red", fmtp="0/0")
    agreed = callee.agreed
    assert agreed is not None
    assert agreed.send_redundancy == RtpFormat(121, "red", fmtp="0/0")
    assert agreed.receive_redundancy == (RtpFormat(121, "red", fmtp="0/0"),)
    assert [one.name for one in agreed.receive_formats] == ["pcmu"]


def test_what_was_taken_is_offered_again_under_the_same_numbers() -> None:
    offer = described("audio 5000 RTP/AVP 0 121,rtpmap:121 red/8000,fmtp:121 0/0")
    callee, _ = answered(offer, [PCMU])
    again = callee.create_offer()
    assert again.media[0].encodings == (RtpFormat(0, "pcmu"), RtpFormat(121, "red", fmtp="0/0"))


def test_two_of_us_agree_each_by_the_others_numbers() -> None:
    caller = negotiator([PCMU, OPUS], redundancy=True)
    callee = negotiator([OPUS, PCMU])
    callee.receive_offer(caller.create_offer())
    agreed = caller.receive_answer(callee.create_answer())
    for one in (agreed, callee.agreed):
        assert one is not None
        assert one.send_format is not None
        assert one.send_format.name == "pcmu"
        assert one.send_redundancy == RtpFormat(97, "red", fmtp="0/0")
        assert [red.fmtp for red in one.receive_redundancy] == ["0/0", "96/96"]


@pytest.mark.parametrize(
    ("formats", "fmtp", "expected"),
    [
        ("0 8", "fmtp:121 8/8", "8/8"),
        ("0 18", "fmtp:121 0/18", "0/0"),  # G.729 is none of ours: what is repeated of it is not
        ("0 8", "fmtp:121 0/8/8", "0/8/8"),
        ("0 8", "fmtp:121 18/0", None),
        ("0 8", "fmtp:121 5/5", None),
        ("0 8", "fmtp:121 rubbish", None),
        ("0 8", "fmtp:121 0/999", None),
        ("0 8", "ptime:20", "0/0"),  # no list: whatever is of its clock
    ],
)
def test_what_repeats_an_encoding_of_ours_is_answered(
    formats: str, fmtp: str, expected: str | None
) -> None:
    offer = described(f"audio 5000 RTP/AVP {formats} 121,rtpmap:121 red/8000,{fmtp}")
    _, answer = answered(offer)
    found = [one.fmtp for one in answer.media[0].encodings if one.name == "red"]
    assert found == ([] if expected is None else [expected])


def test_of_several_only_that_of_what_is_sent_is_used() -> None:
    offer = described(
        "audio 5000 RTP/AVP 8 0 96 97 98,rtpmap:96 red/8000,fmtp:96 0/0,"
        "rtpmap:97 red/8000,fmtp:97 8/8,rtpmap:98 red/16000,fmtp:98 8/8"
    )
    callee, _ = answered(offer)
    assert callee.agreed is not None
    assert callee.agreed.send_format == RtpFormat(8, "pcma")
    assert callee.agreed.send_redundancy == RtpFormat(97, "red", fmtp="8/8")


def test_an_answer_without_it_or_with_it_unasked_agrees_on_none() -> None:
    offering = negotiator([PCMU], redundancy=True)
    offering.create_offer()
    agreed = offering.receive_answer(described("audio 5000 RTP/AVP 0"))
    assert agreed.send_redundancy is None
    silent = negotiator([PCMU])
    silent.create_offer()
    answer = described("audio 5000 RTP/AVP 0 96,rtpmap:96 red/8000,fmtp:96 0/0")
    agreed = silent.receive_answer(answer)
    assert (agreed.send_redundancy, agreed.receive_redundancy) == (None, ())


@given(st.text(alphabet="0123456789/ -x٣", max_size=200))
def test_a_list_is_payload_types_or_nothing(text: str) -> None:
    types = repeated_types(text)
    assert len(types) <= MAX_TYPES
    assert all(0 <= one <= 127 for one in types)
