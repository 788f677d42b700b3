"""Capabilities, telephone-event lists and payload type numbers."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypotheses import examples
from hypothesis import given
from hypothesis import strategies as st
from sdp_exchange import line_of, sent

from voip.errors import ConfigError
from voip.sdp import (
    PCMA,
    PCMU,
    TELEPHONE_EVENTS,
    AudioCapability,
    RtpFormat,
    capabilities_of,
    parse,
)
from voip.sdp.format import STATIC_FORMATS, spelled, static_payload_type
from voip.sdp.payload_types import PayloadTypes
from voip.sdp.telephone_event import DEFAULT_EVENTS, common_events, format_events, parse_events

pytestmark = pytest.mark.rfc("3551", "6")

OPUS = AudioCapability("opus", 48000, 2, "useinbandfec=1", ptime_ms=20, maxptime_ms=60)
ILBC = AudioCapability("ilbc", fmtp="mode=30")


_TEXT = st.text(
    st.characters(codec="utf-8", exclude_characters="\r\n\0"), min_size=1, max_size=40
).map(str.strip)
_TIMES = st.one_of(st.none(), st.integers(1, 200))
_NAMES = st.from_regex(r"[a-zA-Z0-9_.-]{1,20}", fullmatch=True)


@examples(100)
@given(
    name=_NAMES,
    rate=st.integers(1, 192_000),
    channels=st.integers(1, 8),
    fmtp=st.one_of(st.just(""), _TEXT),
    ptime=_TIMES,
    maxptime=_TIMES,
    number=st.integers(96, 127),
)
def test_capability_survives_a_session_description(
    name: str, rate: int, channels: int, fmtp: str, ptime: int, maxptime: int, number: int
) -> None:
    capability = AudioCapability(name, rate, channels, fmtp, ptime, maxptime)
    assert capabilities_of(sent(line_of(capability, number))) == (capability,)


@pytest.mark.parametrize("capability", [PCMU, PCMA, TELEPHONE_EVENTS, OPUS, ILBC])
def test_known_capability_survives_a_session_description(capability: AudioCapability) -> None:
    number = capability.static_payload_type
    media = sent(line_of(capability, 96 if number is None else number))
    assert capabilities_of(media) == (capability,)


def test_capabilities_keep_the_order_of_the_m_line() -> None:
    text = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\nm=audio 4000 RTP/AVP 8 96 0\r\n"
    text += "a=rtpmap:96 opus/48000/2\r\na=ptime:40\r\n"
    found = capabilities_of(parse(text).media[0])
    assert [c.name for c in found] == ["pcma", "opus", "pcmu"]
    assert {c.ptime_ms for c in found} == {40}


@pytest.mark.parametrize(
    "arguments",
    [
        {"name": ""},
        {"name": "a b"},
        {"name": "a/b"},
        {"name": "x" * 65},
        {"name": "pcmu", "clock_rate": 0},
        {"name": "pcmu", "channels": 0},
        {"name": "pcmu", "fmtp": "a\r\nm=video 9 RTP/AVP 31"},
        {"name": "pcmu", "fmtp": " a"},
        {"name": "pcmu", "ptime_ms": 0},
        {"name": "pcmu", "maxptime_ms": 0},
        {"name": "pcmu", "payload_type": 128},
        {"name": "ilbc", "payload_type": 8},
    ],
)
def test_capability_that_cannot_be_written_is_a_config_error(arguments: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        AudioCapability(**arguments)  # type: ignore[arg-type]


def test_names_are_lower_case_inside_and_as_registered_outside() -> None:
    assert AudioCapability("PCMU") == PCMU
    assert [spelled(n) for n in ("pcmu", "g722", "ilbc", "opus", "telephone-event", "l16")] == [
        "PCMU",
        "G722",
        "iLBC",
        "opus",
        "telephone-event",
        "L16",
    ]


def test_wished_number_is_no_part_of_what_a_capability_is() -> None:
    assert replace(TELEPHONE_EVENTS, payload_type=96) == TELEPHONE_EVENTS


@pytest.mark.reference
def test_static_payload_types_are_those_of_rfc_3551_table_4(reference_data: Path) -> None:
    text = (reference_data / "rfc-text" / "rfc3551.txt").read_text()
    table = text[: text.index("Table 4: Payload types (PT) for audio encodings")]
    rows = re.findall(
        r"^ +(\d+) +(\S+) +A +([\d,]+) +(\d|\(see text\))", table[-4000:], re.MULTILINE
    )
    printed = {
        int(number): (
            name.lower(),
            int(rate.replace(",", "")),
            int(channels) if channels.isdigit() else 1,
        )
        for number, name, rate, channels in rows
    }
    assert len(printed) == 17
    assert printed == dict(STATIC_FORMATS)
    assert all(static_payload_type(encoding) == number for number, encoding in printed.items())


# ---------------------------------------------------------------- telephone-event


@pytest.mark.parametrize(
    ("fmtp", "events"),
    [
        ("0-15,66,70", {*range(16), 66, 70}),  # RFC 4733, section 2.4.1
        ("0-16", set(range(17))),
        ("16,0-15", set(range(17))),
        ("5", {5}),
        ("0-15, 32", {*range(16), 32}),
        ("events=0-11", set(range(12))),
        ("255", {255}),
        ("", DEFAULT_EVENTS),
        ("256", DEFAULT_EVENTS),
        ("5-3", DEFAULT_EVENTS),
        ("0-15,", DEFAULT_EVENTS),
        ("a-b", DEFAULT_EVENTS),
        (",".join(["0-255"] * 1000), DEFAULT_EVENTS),
    ],
)
def test_list_of_events_is_read(fmtp: str, events: set[int]) -> None:
    assert parse_events(fmtp) == events


@given(st.frozensets(st.integers(0, 255), min_size=1))
def test_list_of_events_survives_writing(events: frozenset[int]) -> None:
    assert parse_events(format_events(events)) == events


def test_common_events_are_those_of_both() -> None:
    assert common_events("0-16", "0-15,66") == "0-15"
    assert common_events("0-16", "") == "0-15"
    assert common_events("0-15", "32-36") == ""


def test_telephone_event_without_a_common_event_does_not_fit() -> None:
    assert TELEPHONE_EVENTS.answering(RtpFormat(101, "telephone-event", fmtp="32-36")) is None
    answering = TELEPHONE_EVENTS.answering(RtpFormat(101, "telephone-event", fmtp="0-15"))
    assert answering is not None
    assert answering.fmtp == "0-15"


@pytest.mark.parametrize(
    "other", [RtpFormat(0, "pcmu", 16000), RtpFormat(0, "pcmu", 8000, 2), RtpFormat(0, "pcma")]
)
def test_encodings_fit_by_name_clock_and_channels_only(other: RtpFormat) -> None:
    assert PCMU.answering(other) is None
    assert PCMU.answering(RtpFormat(77, "pcmu", fmtp="x=y")) == PCMU


# ---------------------------------------------------------------- numbers


def test_numbers_are_static_then_dynamic_and_101_is_for_events() -> None:
    numbers = PayloadTypes()
    codecs = [PCMU, OPUS, *(AudioCapability(f"x{i}") for i in range(5)), TELEPHONE_EVENTS]
    given_out = [numbers.number(codec) for codec in codecs]
    assert given_out == [0, 96, 97, 98, 99, 100, 102, 101]


def test_peers_number_is_used_unless_it_means_something_else() -> None:
    numbers = PayloadTypes()
    assert numbers.number(OPUS, wish=111) == 111
    assert numbers.number(ILBC, wish=111) == 96
    assert numbers.number(OPUS) == 111
    assert numbers.number(OPUS, wish=107) == 107
    assert numbers.number(OPUS) == 107


def test_static_number_that_a_peer_gave_away_is_not_used_for_its_owner() -> None:
    numbers = PayloadTypes()
    assert numbers.number(OPUS, wish=0) == 0
    assert numbers.number(PCMU) == 96


def test_numbers_run_out_without_a_collision() -> None:
    numbers = PayloadTypes()
    given_out = [numbers.number(AudioCapability(f"x{i}")) for i in range(80)]
    used = [number for number in given_out if number is not None]
    assert len(used) == len(set(used)) == 61
    assert not set(used) & set(STATIC_FORMATS)
    assert not set(used) & set(range(64, 96))  # would be taken for RTCP (RFC 5761, section 4)
    assert given_out[-1] is None


def test_tried_numbers_leave_no_trace() -> None:
    numbers = PayloadTypes()
    numbers.copy().number(OPUS, wish=111)
    assert numbers.number(ILBC, wish=111) == 111
