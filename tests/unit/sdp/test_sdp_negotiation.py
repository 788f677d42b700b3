"""The rules of offer/answer, one test each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from sdp_exchange import (
    OPUS,
    OURS,
    answered,
    audio,
    described,
    negotiator,
    numbers,
    refusal,
)

from voip.errors import ConfigError, SdpError
from voip.sdp import (
    PCMU,
    TELEPHONE_EVENTS,
    AudioCapability,
    Direction,
    NegotiationState,
    Preference,
    RtpFormat,
    Warning3xx,
    parse,
)
from voip.types import Address, SeededRandom

pytestmark = pytest.mark.rfc("3264", "5-8")


# ---------------------------------------------------------------- what we offer


def test_offer_as_it_goes_on_the_wire() -> None:
    offer = negotiator(username="alice", session_name="a call").create_offer()
    assert offer.to_bytes().decode().split("\r\n") == [
        "v=0",
        f"o=alice {offer.origin.session_id} 1 IN IP4 192.0.2.1",
        "s=a call",
        "c=IN IP4 192.0.2.1",
        "t=0 0",
        "m=audio 4000 RTP/AVP 0 8 101",
        "a=rtpmap:0 PCMU/8000",
        "a=rtpmap:8 PCMA/8000",
        "a=rtpmap:101 telephone-event/8000",
        "a=fmtp:101 0-16",
        "a=ptime:20",
        "a=sendrecv",
        "",
    ]


def test_session_id_is_random_and_fits_32_bits() -> None:
    ids = {
        negotiator(random=SeededRandom(seed)).create_offer().origin.session_id for seed in range(50)
    }
    assert len(ids) == 50
    assert all(0 < session_id < 1 << 31 for session_id in ids)


def test_offer_at_an_ipv6_address() -> None:
    offer = negotiator(address=Address("2001:db8::1", 4000)).create_offer()
    assert b"o=- " in offer.to_bytes()
    assert b" IN IP6 2001:db8::1\r\ns=-\r\nc=IN IP6 2001:db8::1\r\n" in offer.to_bytes()


@pytest.mark.parametrize(
    ("rtcp", "line"),
    [
        (None, None),
        (Address("192.0.2.1", 4001), None),
        (Address("192.0.2.1", 53020), b"a=rtcp:53020\r\n"),
        (Address("192.0.2.9", 4001), b"a=rtcp:4001 IN IP4 192.0.2.9\r\n"),
    ],
)
def test_rtcp_is_said_where_it_is_not_the_next_port(
    rtcp: Address | None, line: bytes | None
) -> None:
    data = negotiator(rtcp=rtcp).create_offer().to_bytes()
    assert (b"a=rtcp:" in data) is (line is not None)
    assert line is None or line in data


def test_packet_times_are_offered_and_ours_within_our_bounds() -> None:
    bounded = AudioCapability("opus", 48000, 2, maxptime_ms=60)
    media = negotiator([PCMU, bounded], ptime_ms=80).create_offer().media[0]
    assert (media.ptime_ms, media.maxptime_ms) == (60, 60)


@pytest.mark.parametrize(
    ("capabilities", "options"),
    [
        ([], {}),
        ([TELEPHONE_EVENTS], {}),
        ([PCMU, PCMU], {}),
        ([AudioCapability(f"x{i}") for i in range(25)], {}),
        (OURS, {"address": Address("0.0.0.0", 4000)}),
        (OURS, {"address": Address("::", 4000)}),
        (OURS, {"address": Address("224.0.0.1", 4000)}),
        (OURS, {"address": Address("pbx.example.com", 4000)}),
        (OURS, {"address": Address("192.0.2.1", 0)}),
        (OURS, {"address": Address("192.0.2.1", 65535)}),
        (OURS, {"rtcp": Address("192.0.2.1", 65536)}),
        (OURS, {"ptime_ms": 0}),
        (OURS, {"ptime_ms": 201}),
        (OURS, {"username": "a b"}),
        (OURS, {"username": ""}),
        (OURS, {"session_name": "a\r\nb"}),
    ],
)
def test_settings_that_cannot_work_are_refused_at_once(
    capabilities: Sequence[AudioCapability], options: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError):
        negotiator(capabilities, **options)


# ---------------------------------------------------------------- which m-line is ours


def test_answer_has_the_same_m_lines_in_the_same_order() -> None:
    offer = described(
        "video 6000 RTP/AVP 31 99,rtpmap:99 H264/90000",
        audio("0"),
        "audio 5002 RTP/AVP 8",
        "image 5004 udptl t38",
        "application 9 UDP/DTLS/SCTP webrtc-datachannel",
        "audio 5006 RTP/SAVP 0",
        "text 0 RTP/AVP 98",
    )
    callee, answer = answered(offer)
    assert [(m.kind, m.port, m.protocol, m.formats) for m in answer.media] == [
        ("video", 0, "RTP/AVP", ("31", "99")),
        ("audio", 4000, "RTP/AVP", ("0",)),
        ("audio", 0, "RTP/AVP", ("8",)),
        ("image", 0, "udptl", ("t38",)),
        ("application", 0, "UDP/DTLS/SCTP", ("webrtc-datachannel",)),
        ("audio", 0, "RTP/SAVP", ("0",)),
        ("text", 0, "RTP/AVP", ("98",)),
    ]
    assert callee.agreed is not None
    assert callee.agreed.media_index == 1


@pytest.mark.parametrize("unfit", ["audio 5000 RTP/AVP 18", "audio 5000 RTP/SAVP 0", audio(port=0)])
def test_first_audio_that_fits_is_ours(unfit: str) -> None:
    callee, answer = answered(described(unfit, audio("8", port=5002)))
    assert [media.port for media in answer.media] == [0, 4000]
    assert callee.agreed is not None
    assert callee.agreed.remote_rtp == Address("198.51.100.2", 5002)


def test_avpf_is_answered_as_avpf_without_feedback() -> None:
    offer = described(audio("0", "rtcp-fb:* nack", "rtcp-mux", protocol="RTP/AVPF"))
    _, answer = answered(offer)
    assert (answer.media[0].port, answer.media[0].protocol) == (4000, "RTP/AVPF")
    assert answer.media[0].attributes == ()


def test_profile_is_compared_without_case_and_answered_as_written() -> None:
    _, answer = answered(described(audio("0", protocol="rtp/avp")))
    assert (answer.media[0].port, answer.media[0].protocol) == (4000, "rtp/avp")


@pytest.mark.parametrize(
    ("media", "code"),
    [
        (("video 6000 RTP/AVP 31",), 304),
        (("image 5004 udptl t38",), 304),
        (("video 6000 RTP/AVP 31", "audio 5000 RTP/SAVP 0"), 302),
        (("audio 5000 UDP/TLS/RTP/SAVPF 0",), 302),
        (("audio 5000 RTP/AVP 18 96",), 305),
        (("audio 5000 RTP/AVP 101,rtpmap:101 telephone-event/8000",), 305),
        (("audio 5000 RTP/AVP 13",), 305),
        ((audio(port=0), "video 6000 RTP/AVP 31"), 304),
    ],
)
def test_488_with_a_warning_where_nothing_fits(media: tuple[str, ...], code: int) -> None:
    error = refusal(described(*media))
    assert error.status == 488
    assert error.context["warning"] == code
    assert error.context["warning_text"] == Warning3xx(code).text
    assert error.hint


def test_488_names_the_codecs_of_both_sides() -> None:
    error = refusal(described("audio 5000 RTP/AVP 18 3"))
    assert "g729/8000, gsm/8000" in str(error)
    assert "pcmu/8000, pcma/8000, telephone-event/8000" in str(error)


def test_multicast_is_refused_with_330() -> None:
    error = refusal(described(audio(), at="IN IP4 224.2.1.1/127"))
    assert (error.status, error.context["warning"]) == (488, 330)


def test_address_of_another_family_is_refused_with_301() -> None:
    error = refusal(described(audio(), at="IN IP6 2001:db8::2"))
    assert (error.status, error.context["warning"]) == (488, 301)
    error = refusal(described(audio()), address=Address("2001:db8::1", 4000))
    assert (error.status, error.context["warning"]) == (488, 301)


def test_audio_without_an_address_is_refused_with_400() -> None:
    assert refusal(described(audio(), at="")).status == 400


def test_ipv6_on_both_sides() -> None:
    callee, answer = answered(
        described(audio(), at="IN IP6 2001:db8::2"), address=Address("2001:db8::1", 4000)
    )
    assert callee.agreed is not None
    assert callee.agreed.remote_rtp == Address("2001:db8::2", 5000)
    assert callee.agreed.remote_rtcp == Address("2001:db8::2", 5001)
    assert answer.connection is not None
    assert answer.connection.family == 6


def test_offer_without_m_lines_is_answered_without_m_lines() -> None:
    callee, answer = answered(described())
    assert answer.media == ()
    assert callee.state is NegotiationState.AGREED
    assert callee.agreed is not None
    assert (callee.agreed.active, callee.agreed.media_index) == (False, None)


def test_time_of_the_offer_is_repeated_in_the_answer() -> None:
    offer = parse(described(audio()).to_bytes().replace(b"t=0 0", b"t=3034423619 3042462419"))
    _, answer = answered(offer)
    assert b"t=3034423619 3042462419\r\n" in answer.to_bytes()


# ---------------------------------------------------------------- codecs and numbers


def test_answer_follows_the_order_of_the_offer() -> None:
    callee, answer = answered(described(audio("101 8 0")))
    assert numbers(answer.media[0]) == [101, 8, 0]
    assert callee.agreed is not None
    assert callee.agreed.send_format == RtpFormat(8, "pcma")


def test_answer_follows_our_order_where_we_prefer_it() -> None:
    callee, answer = answered(described(audio("101 8 0")), preference=Preference.OURS)
    assert numbers(answer.media[0]) == [0, 8, 101]
    assert callee.agreed is not None
    assert callee.agreed.send_format == RtpFormat(0, "pcmu")


def test_answer_holds_what_both_have_only() -> None:
    _, answer = answered(described("audio 5000 RTP/AVP 18 8 3 96,rtpmap:96 opus/48000/2"))
    assert answer.media[0].formats == ("8",)


def test_answer_uses_the_offerers_numbers_both_ways() -> None:
    offer = described(
        "audio 5000 RTP/AVP 111 110,rtpmap:111 opus/48000/2,fmtp:111 stereo=1,"
        "rtpmap:110 telephone-event/8000"
    )
    callee, answer = answered(offer, [OPUS, TELEPHONE_EVENTS])
    assert numbers(answer.media[0]) == [111, 110]
    assert callee.agreed is not None
    assert callee.agreed.send_format == RtpFormat(111, "opus", 48000, 2, "stereo=1")
    assert callee.agreed.receive_formats == (RtpFormat(111, "opus", 48000, 2, "useinbandfec=1"),)
    assert callee.agreed.send_events == RtpFormat(110, "telephone-event", fmtp="0-15")
    assert callee.agreed.receive_events == (RtpFormat(110, "telephone-event", fmtp="0-15"),)


def test_answerers_other_numbers_are_sent_and_ours_received() -> None:
    caller = negotiator([OPUS, PCMU, TELEPHONE_EVENTS])
    offer = caller.create_offer()
    assert numbers(offer.media[0]) == [96, 0, 101]
    agreed = caller.receive_answer(
        described(
            "audio 5000 RTP/AVP 107 97,rtpmap:107 opus/48000/2,rtpmap:97 telephone-event/8000"
        )
    )
    assert agreed.send_format == RtpFormat(107, "opus", 48000, 2)
    assert agreed.send_events == RtpFormat(97, "telephone-event", fmtp="0-15")
    assert [f.payload_type for f in agreed.receive_formats] == [96, 0]
    assert [f.payload_type for f in agreed.receive_events] == [101]


def test_static_codec_under_a_dynamic_number_fits() -> None:
    callee, answer = answered(described("audio 5000 RTP/AVP 97,rtpmap:97 pcma/8000/1"))
    assert answer.media[0].encodings == (RtpFormat(97, "pcma"),)
    assert callee.agreed is not None
    assert callee.agreed.send_format == RtpFormat(97, "pcma")


def test_codec_listed_twice_is_answered_once() -> None:
    _, answer = answered(described("audio 5000 RTP/AVP 97 0,rtpmap:97 PCMU/8000"))
    assert numbers(answer.media[0]) == [97]


def test_number_keeps_its_meaning_when_the_peer_gives_it_another() -> None:
    callee, answer = answered(
        described("audio 5000 RTP/AVP 96,rtpmap:96 opus/48000/2"), [OPUS, AudioCapability("ilbc")]
    )
    assert numbers(answer.media[0]) == [96]
    callee.receive_offer(
        described("audio 5000 RTP/AVP 96 97,rtpmap:96 iLBC/8000,rtpmap:97 opus/48000/2")
    )
    again = callee.create_answer()
    assert [(f.payload_type, f.name) for f in again.media[0].encodings] == [
        (97, "ilbc"),
        (96, "opus"),
    ]
    assert callee.agreed is not None
    assert callee.agreed.send_format == RtpFormat(96, "ilbc")  # the peer's number, as it says


def test_our_next_offer_keeps_the_numbers_of_our_answer() -> None:
    callee, _ = answered(described("audio 5000 RTP/AVP 111,rtpmap:111 opus/48000/2"), [PCMU, OPUS])
    assert numbers(callee.create_offer().media[0]) == [0, 111]


def test_peer_that_uses_up_all_numbers_has_those_it_gave_and_no_more() -> None:
    callee = negotiator([OPUS, PCMU, TELEPHONE_EVENTS])
    for number in range(128):
        callee.receive_offer(described(f"audio 5000 RTP/AVP {number},rtpmap:{number} opus/48000/2"))
        assert numbers(callee.create_answer().media[0]) == [number]
    with pytest.raises(SdpError) as caught:
        callee.receive_offer(described("audio 5000 RTP/AVP 0"))
    assert caught.value.status == 488
    callee.receive_offer(described("audio 5000 RTP/AVP 0 5,rtpmap:5 opus/48000/2"))
    assert numbers(callee.create_answer().media[0]) == [5]
    assert callee.agreed is not None
    assert callee.agreed.send_format == RtpFormat(5, "opus", 48000, 2)
    assert numbers(callee.create_offer().media[0]) == [5]


def test_events_of_the_codecs_clock_are_sent() -> None:
    te48 = AudioCapability("telephone-event", 48000, fmtp="0-15")
    offer = described(
        "audio 5000 RTP/AVP 101 102 96,rtpmap:96 opus/48000/2,"
        "rtpmap:101 telephone-event/8000,rtpmap:102 telephone-event/48000"
    )
    callee, _ = answered(offer, [OPUS, TELEPHONE_EVENTS, te48])
    assert callee.agreed is not None
    assert callee.agreed.send_events == RtpFormat(102, "telephone-event", 48000, fmtp="0-15")
    assert [f.payload_type for f in callee.agreed.receive_events] == [101, 102]


def test_no_telephone_event_where_the_peer_has_none() -> None:
    callee, answer = answered(described(audio("0 8")))
    assert numbers(answer.media[0]) == [0, 8]
    assert callee.agreed is not None
    assert (callee.agreed.send_events, callee.agreed.receive_events) == (None, ())


def test_events_narrow_to_what_both_know() -> None:
    caller = negotiator()
    caller.create_offer()
    agreed = caller.receive_answer(described(audio("0 101")))
    assert agreed.send_events == RtpFormat(101, "telephone-event", fmtp="0-16")
    agreed = caller.receive_answer(
        described("audio 5000 RTP/AVP 0 101,rtpmap:101 telephone-event/8000,fmtp:101 0-11")
    )
    assert agreed.send_events == RtpFormat(101, "telephone-event", fmtp="0-11")


def test_comfort_noise_is_agreed_and_is_not_what_we_speak() -> None:
    cn = AudioCapability("cn")
    callee, answer = answered(described(audio("13 0")), [PCMU, cn])
    assert numbers(answer.media[0]) == [13, 0]
    assert callee.agreed is not None
    assert callee.agreed.send_format == RtpFormat(0, "pcmu")
    assert [f.name for f in callee.agreed.receive_formats] == ["pcmu"]
    noise = RtpFormat(13, "cn")
    assert (callee.agreed.send_noise, callee.agreed.receive_noise) == (noise, (noise,))


@pytest.mark.parametrize(
    ("offer", "noise"),
    [
        ("0 13", 13),
        ("97 13,rtpmap:97 opus/48000/2", None),
        ("9 13", 13),
        ("0 97,rtpmap:97 CN/8000", 97),
        ("0 97,rtpmap:97 CN/16000", None),
        ("98 97 13,rtpmap:98 L16/16000,rtpmap:97 CN/16000", 97),
        ("0", None),
    ],
)
def test_comfort_noise_is_sent_by_the_clock_of_what_we_speak(offer: str, noise: int | None) -> None:
    """And not where that has silence of its own."""
    speech = [PCMU, AudioCapability("opus", 48000, 2), AudioCapability("g722")]
    speech.append(AudioCapability("l16", 16000))
    cn = [AudioCapability("cn", offered=False), AudioCapability("cn", 16000, offered=False)]
    callee, _ = answered(described(f"audio 5000 RTP/AVP {offer}"), [*speech, *cn])
    assert callee.agreed is not None
    sent = callee.agreed.send_noise
    assert (sent.payload_type if sent else None) == noise
    assert len(callee.agreed.receive_noise) == (noise is not None), "who has no use for it has none"


def test_what_is_not_offered_is_answered_and_kept_from_then_on() -> None:
    callee, answer = answered(
        described(audio("0 13")), [PCMU, AudioCapability("cn", offered=False)]
    )
    assert numbers(answer.media[0]) == [0, 13]
    assert numbers(callee.create_offer().media[0]) == [0, 13]
    callee.receive_answer(described(audio("0")))
    assert callee.agreed is not None
    assert callee.agreed.send_noise is None
    callee.receive_offer(described(audio("0")))
    callee.create_answer()
    assert numbers(callee.create_offer().media[0]) == [0]


def test_what_is_not_offered_is_not_taken_from_an_answer() -> None:
    caller = negotiator([PCMU, AudioCapability("cn", offered=False)])
    assert numbers(caller.create_offer().media[0]) == [0]
    agreed = caller.receive_answer(described(audio("0 13")))
    assert (agreed.send_noise, agreed.receive_noise) == (None, ())


@pytest.mark.parametrize(
    ("attributes", "capability", "expected"),
    [
        ((), PCMU, 20),
        (("ptime:30",), PCMU, 30),
        (("ptime:30", "maxptime:20"), PCMU, 20),
        (("maxptime:10",), PCMU, 10),
        (("ptime:40",), AudioCapability("pcmu", maxptime_ms=30), 30),
        ((), AudioCapability("pcmu", ptime_ms=60), 60),
        (("ptime:30",), AudioCapability("pcmu", ptime_ms=60), 30),
        (("ptime:25",), PCMU, 20),
        (("ptime:1",), PCMU, 10),
        (("maxptime:5",), PCMU, 10),
        (("ptime:5000",), PCMU, 200),
        (("ptime:300", "maxptime:400"), PCMU, 200),
    ],
)
def test_packet_time_is_the_peers_wish_within_all_bounds(
    attributes: tuple[str, ...], capability: AudioCapability, expected: int
) -> None:
    callee, _ = answered(described(audio("0", *attributes)), [capability])
    assert callee.agreed is not None
    assert callee.agreed.ptime_ms == expected
    caller = negotiator([capability])
    caller.create_offer()
    assert caller.receive_answer(described(audio("0", *attributes))).ptime_ms == expected


# ---------------------------------------------------------------- addresses


@pytest.mark.parametrize(
    ("attribute", "rtcp"),
    [
        ("rtcp:53020", Address("198.51.100.2", 53020)),
        ("rtcp:53020 IN IP4 203.0.113.9", Address("203.0.113.9", 53020)),
        ("x-none", Address("198.51.100.2", 5001)),
    ],
)
def test_rtcp_goes_where_the_peer_says(attribute: str, rtcp: Address) -> None:
    callee, _ = answered(described(audio("0", attribute)))
    assert callee.agreed is not None
    assert callee.agreed.remote_rtcp == rtcp


def test_connection_of_the_m_line_is_the_one_that_counts() -> None:
    text = described(audio("0")).to_bytes().decode() + "c=IN IP4 203.0.113.9\r\n"
    callee, _ = answered(parse(text))
    assert callee.agreed is not None
    assert callee.agreed.remote_rtp == Address("203.0.113.9", 5000)
    assert callee.agreed.remote_rtcp == Address("203.0.113.9", 5001)


@pytest.mark.parametrize(
    "at", ["IN IP4 0.0.0.0", "IN IP6 ::", "IN IP6 held.invalid", "IN IP4 held.invalid"]
)
@pytest.mark.parametrize("direction", list(Direction))
def test_hold_by_no_address_sends_nothing_and_answers_by_the_direction(
    at: str, direction: Direction
) -> None:
    callee, answer = answered(described(audio("0", direction.value), at=at))
    assert answer.media[0].direction is direction.mirrored
    agreed = callee.agreed
    assert agreed is not None
    assert (agreed.remote_rtp, agreed.remote_rtcp) == (None, None)
    assert agreed.remote_hold
    assert not agreed.can_send
    assert agreed.can_receive is direction.sends
    assert agreed.send_format == RtpFormat(0, "pcmu")


def test_answer_with_no_address_holds_us() -> None:
    caller = negotiator()
    caller.create_offer()
    agreed = caller.receive_answer(described(audio(), at="IN IP4 0.0.0.0"))
    assert agreed.active
    assert agreed.remote_hold
    assert not agreed.can_send


def test_re_offer_with_another_address_and_codec() -> None:
    callee, first = answered(described(audio("0 8")))
    callee.receive_offer(described(audio("8", port=7000), at="IN IP4 203.0.113.9", version=2))
    second = callee.create_answer()
    agreed = callee.agreed
    assert agreed is not None
    assert agreed.remote_rtp == Address("203.0.113.9", 7000)
    assert agreed.send_format == RtpFormat(8, "pcma")
    assert second.origin.version == first.origin.version + 1
