"""Offers and answers of RTP header extensions (RFC 8285, sections 5 to 8)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sdp_exchange import answered, audio, described, negotiator

from voip.errors import ConfigError
from voip.sdp import AgreedAudio, Direction, HeaderExtension, SessionDescription
from voip.sdp.extensions import ALLOW_MIXED, EXTMAP, MAX_EXTMAPS, Extmap

pytestmark = pytest.mark.rfc("8285", "7")

LEVEL = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
TIME = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"
VOICE = ("vad=on", "", "vad=off")
BOTH = (
    HeaderExtension(LEVEL, attributes=VOICE),
    HeaderExtension(TIME, Direction.SENDONLY),
)
LISTENS = (HeaderExtension(LEVEL, Direction.RECVONLY, VOICE, offered=False),)


def lines(description: SessionDescription) -> list[str]:
    return [str(one.value) for one in description.media[0].attributes if one.name == EXTMAP]


def ways(agreed: AgreedAudio | None) -> list[tuple[int, str, bool, bool]]:
    assert agreed is not None
    return [(one.number, one.uri, one.send, one.receive) for one in agreed.extensions]


def test_what_was_asked_for_is_offered_and_nothing_unasked() -> None:
    assert lines(negotiator(header_extensions=BOTH).create_offer()) == [
        f"1 {LEVEL} vad=on",
        f"2/sendonly {TIME}",
    ]
    for nothing in ((), LISTENS):
        offer = negotiator(header_extensions=nothing).create_offer()
        assert b"extmap" not in offer.to_bytes()


def test_an_answer_keeps_the_identifiers_of_the_offer_and_turns_directions_round() -> None:
    offer = described(
        audio(
            "0 8",
            f"extmap:3 {LEVEL}",
            f"extmap:7/recvonly {TIME}",
            "extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid",
            "extmap:5/sendonly http://example.com/082005/ext.htm#xmeta short",
        )
    )
    callee, answer = answered(offer, header_extensions=BOTH)
    assert lines(answer) == [f"3 {LEVEL}", f"7/sendonly {TIME}"]
    assert ways(callee.agreed) == [(3, LEVEL, True, True), (7, TIME, True, False)]
    callee, answer = answered(offer, header_extensions=LISTENS)
    assert lines(answer) == [f"3/recvonly {LEVEL}"]
    assert ways(callee.agreed) == [(3, LEVEL, False, True)]


@pytest.mark.parametrize(
    ("theirs", "ours", "expected", "send", "receive"),
    [
        ("", Direction.SENDRECV, "", True, True),
        ("/sendrecv", Direction.SENDRECV, "", True, True),
        ("/sendonly", Direction.SENDRECV, "/recvonly", False, True),
        ("/recvonly", Direction.SENDRECV, "/sendonly", True, False),
        ("/inactive", Direction.SENDRECV, "/inactive", False, False),
        ("", Direction.SENDONLY, "/sendonly", True, False),
        ("/sendonly", Direction.SENDONLY, "/inactive", False, False),
        ("/recvonly", Direction.RECVONLY, "/inactive", False, False),
    ],
)
def test_an_extension_goes_where_both_want_it(
    theirs: str, ours: Direction, expected: str, send: bool, receive: bool
) -> None:
    offer = described(audio("0 8", f"extmap:9{theirs} {LEVEL}"))
    callee, answer = answered(offer, header_extensions=(HeaderExtension(LEVEL, ours),))
    assert lines(answer) == [f"9{expected} {LEVEL}"]
    assert ways(callee.agreed) == [(9, LEVEL, send, receive)]


def test_none_goes_where_its_stream_does_not() -> None:
    offer = described(audio("0 8", "sendonly", f"extmap:1 {LEVEL}", f"extmap:2 {TIME}"))
    callee, answer = answered(offer, header_extensions=BOTH)
    assert lines(answer) == [f"1 {LEVEL}", f"2/inactive {TIME}"], "the stream is recvonly"
    assert ways(callee.agreed) == [(1, LEVEL, False, True), (2, TIME, False, False)]
    caller = negotiator(header_extensions=BOTH)
    assert lines(caller.create_offer(Direction.RECVONLY)) == [
        f"1 {LEVEL} vad=on",
        f"2/inactive {TIME}",
    ]


def test_two_of_us_agree_and_hold_and_resume_by_the_same_identifiers() -> None:
    caller = negotiator(header_extensions=BOTH[::-1])
    callee = negotiator(header_extensions=BOTH)
    callee.receive_offer(caller.create_offer())
    agreed = caller.receive_answer(callee.create_answer())
    assert ways(agreed) == [(1, TIME, False, False), (2, LEVEL, True, True)]
    assert ways(callee.agreed) == [(1, TIME, False, False), (2, LEVEL, True, True)]
    for direction in (Direction.SENDONLY, Direction.SENDRECV):  # by the other side
        caller.receive_offer(callee.create_offer(direction))
        callee.receive_answer(caller.create_answer())
        both = direction is Direction.SENDRECV
        assert (2, LEVEL, True, both) in ways(callee.agreed)
        assert (2, LEVEL, both, True) in ways(caller.agreed)


def test_what_was_agreed_on_is_offered_again_and_an_identifier_means_nothing_else() -> None:
    offer = described(audio("0 8", f"extmap:1 {TIME}", f"extmap:12 {LEVEL} vad=off"))
    callee, _ = answered(offer, header_extensions=LISTENS)
    assert lines(callee.create_offer()) == [f"12/recvonly {LEVEL} vad=off"]
    caller = negotiator(header_extensions=BOTH)
    caller.receive_offer(described(audio("0 8", "extmap:1 urn:x", "extmap:3 urn:y")))
    caller.create_answer()
    assert lines(caller.create_offer()) == [f"2 {LEVEL} vad=on", f"4/sendonly {TIME}"]


def test_who_renumbers_is_offered_the_latest() -> None:
    """Against section 7; what was agreed on last is what both sides go by."""
    callee = negotiator(header_extensions=BOTH)
    for number in (5, 9, 7):
        callee.receive_offer(described(audio("0 8", f"extmap:{number} {LEVEL}")))
        assert lines(callee.create_answer()) == [f"{number} {LEVEL}"]
    assert lines(callee.create_offer()) == [f"7 {LEVEL}", f"1/sendonly {TIME}"]


def test_who_answers_without_them_has_none() -> None:
    caller = negotiator(header_extensions=BOTH)
    caller.create_offer()
    assert ways(caller.receive_answer(described(audio("0 8 101")))) == []
    again = negotiator(header_extensions=BOTH)
    again.create_offer()
    other = described(audio("0 8 101", f"extmap:5 {LEVEL}", f"extmap:1 {TIME}"))
    assert ways(again.receive_answer(other)) == [], "identifiers that were not offered"


@pytest.mark.rfc("8285", "6")
@pytest.mark.parametrize("where", ["media", "session"])
def test_mixed_headers_are_agreed_to_where_they_are_asked_for(where: str) -> None:
    head = f"a={ALLOW_MIXED}\n" if where == "session" else ""
    more = [ALLOW_MIXED] if where == "media" else []
    offer = described(audio("0 8", f"extmap:200 {LEVEL}", *more), head=head)
    callee, answer = answered(offer, header_extensions=LISTENS)
    assert answer.to_bytes().count(b"a=extmap-allow-mixed\r\n") == 1
    assert ways(callee.agreed) == [(200, LEVEL, False, True)]
    _, answer = answered(described(audio("0 8", f"extmap:1 {LEVEL}")), header_extensions=LISTENS)
    assert b"mixed" not in answer.to_bytes()
    _, answer = answered(described(audio("0 8", ALLOW_MIXED)), header_extensions=LISTENS)
    assert b"mixed" not in answer.to_bytes(), "there is nothing to mix"


@pytest.mark.rfc("8285", "5")
def test_mappings_of_the_session_hold_where_the_stream_has_none() -> None:
    head = f"a=extmap:6 {LEVEL}\n"
    _, answer = answered(described(audio("0 8"), head=head), header_extensions=BOTH)
    assert lines(answer) == [f"6 {LEVEL}"]
    offer = described(audio("0 8", f"extmap:2 {TIME}"), head=head)
    _, answer = answered(offer, header_extensions=BOTH)
    assert lines(answer) == [f"2/sendonly {TIME}"]


def test_an_identifier_of_the_extended_range_is_answered_by_a_free_one() -> None:
    offer = described(
        audio(
            "0 8", "extmap:1 urn:x", "extmap:4096 urn:y", f"extmap:4096 {LEVEL} vad=off",
            f"extmap:4097 {LEVEL}",
        )
    )  # fmt: skip
    callee, answer = answered(offer, header_extensions=BOTH)
    assert lines(answer) == [f"2 {LEVEL} vad=off"]
    assert callee.agreed is not None


@pytest.mark.rfc("6464", "4")
def test_of_several_instances_the_first_whose_attributes_we_know_is_answered() -> None:
    offer = described(
        audio("0 8", f"extmap:1 {LEVEL} vad=maybe", f"extmap:2 {LEVEL} vad=off",
              f"extmap:3 {LEVEL} vad=on")
    )  # fmt: skip
    callee, answer = answered(offer, header_extensions=BOTH)
    assert lines(answer) == [f"2 {LEVEL} vad=off"]
    assert callee.agreed is not None
    assert callee.agreed.extensions[0].attributes == "vad=off"


@pytest.mark.parametrize(
    "value",
    ["", "0 " + LEVEL, "256 " + LEVEL, "70000 " + LEVEL, "-1 " + LEVEL, "1", "1/both " + LEVEL,
     "x " + LEVEL, "1 ", "４ " + LEVEL, "4352 " + LEVEL, "1234567 " + LEVEL],
)  # fmt: skip
def test_what_is_no_usable_mapping_is_passed_over(value: str) -> None:
    offer = described(audio("0 8", f"extmap:{value}"))
    callee, answer = answered(offer, header_extensions=BOTH)
    assert lines(answer) == []
    assert ways(callee.agreed) == []


def test_of_one_identifier_the_first_counts_and_of_too_many_lines_the_first() -> None:
    offer = described(audio("0 8", f"extmap:1 {TIME}", f"extmap:1 {LEVEL}"))
    callee, _ = answered(offer, header_extensions=BOTH)
    assert [one[1] for one in ways(callee.agreed)] == [TIME]
    many = [f"extmap:{n} urn:x:{n}" for n in range(1, MAX_EXTMAPS + 1)]
    callee, _ = answered(
        described(audio("0 8", *many, f"extmap:100 {LEVEL}")), header_extensions=BOTH
    )
    assert ways(callee.agreed) == []


def test_where_all_identifiers_are_taken_nothing_is_offered() -> None:
    caller = negotiator(header_extensions=BOTH)
    many = [f"extmap:{n} urn:x:{n}" for n in range(1, 15)]
    caller.receive_offer(described(audio("0 8", *many)))
    caller.create_answer()
    assert lines(caller.create_offer()) == []


def test_an_offer_that_is_dropped_gives_no_identifiers() -> None:
    caller = negotiator(header_extensions=BOTH)
    other = caller.fork()
    caller.create_offer()
    caller.abandon()
    offer = described(audio("0 8", f"extmap:1 {TIME}"))
    for one in (caller, other):
        one.receive_offer(offer)
        assert lines(one.create_answer()) == [f"1/sendonly {TIME}"]


def test_a_uri_is_one_word() -> None:
    with pytest.raises(ConfigError):
        HeaderExtension("urn:x y")


@given(
    st.integers(1, 99_999),
    st.sampled_from([None, *Direction]),
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1),
    st.sampled_from(["", "vad=on", "a b  c"]),
)
def test_a_line_is_read_as_it_was_written(
    number: int, way: Direction | None, uri: str, attributes: str
) -> None:
    one = Extmap(number, uri, way, attributes)
    assert Extmap.read(str(one)) == one


@given(st.text(max_size=80))
def test_any_line_is_read_or_passed_over(value: str) -> None:
    one = Extmap.read(value)
    assert one is None or Extmap.read(str(one)) == one
