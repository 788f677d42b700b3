"""The rules of offer/answer for sessions that change, one test each."""

from __future__ import annotations

import pytest
from sdp_exchange import (
    OPUS,
    answered,
    audio,
    described,
    negotiator,
)

from voip.errors import SdpError
from voip.sdp import (
    PCMA,
    PCMU,
    Direction,
    NegotiationState,
    RtpFormat,
)
from voip.types import Address

pytestmark = pytest.mark.rfc("3264", "5-8")


# ---------------------------------------------------------------- streams that come and go


def test_stream_stops_with_port_0_in_a_re_offer_and_comes_back() -> None:
    callee, _ = answered(described(audio()))
    callee.receive_offer(described(audio(port=0), version=2))
    answer = callee.create_answer()
    assert answer.media[0].port == 0
    assert callee.agreed is not None
    assert (callee.agreed.active, callee.agreed.media_index) == (False, 0)
    assert not callee.agreed.can_send
    assert not callee.agreed.can_receive

    offer = callee.create_offer()
    assert [media.port for media in offer.media] == [4000]
    assert callee.receive_answer(described(audio(), version=3)).active


def test_stream_that_the_answer_rejects_is_not_active() -> None:
    caller = negotiator()
    caller.create_offer()
    agreed = caller.receive_answer(described("audio 0 RTP/AVP 0"))
    assert (agreed.active, agreed.media_index) == (False, 0)
    assert caller.state is NegotiationState.AGREED


def test_our_offers_keep_the_slots_of_rejected_streams() -> None:
    callee, _ = answered(described("video 6000 RTP/AVP 31", audio("0")))
    offer = callee.create_offer()
    assert [(m.kind, m.port, m.formats) for m in offer.media] == [
        ("video", 0, ("31",)),
        ("audio", 4000, ("0", "8", "101")),
    ]
    agreed = callee.receive_answer(described("video 0 RTP/AVP 31", audio("8"), version=2))
    assert agreed.media_index == 1
    assert agreed.send_format == RtpFormat(8, "pcma")


def test_audio_keeps_its_slot_when_another_comes_before_it_in_preference() -> None:
    callee, _ = answered(described("audio 5000 RTP/AVP 18", audio("0", port=5002)))
    callee.receive_offer(described(audio("0"), audio("0", port=5002), version=2))
    assert [media.port for media in callee.create_answer().media] == [0, 4000]


def test_audio_moves_to_a_new_slot_when_its_own_is_stopped() -> None:
    callee, _ = answered(described(audio()))
    callee.receive_offer(described(audio(port=0), audio("8", port=5002), version=2))
    assert [media.port for media in callee.create_answer().media] == [0, 4000]
    assert callee.agreed is not None
    assert callee.agreed.media_index == 1


def test_audio_is_added_to_a_session_without_streams() -> None:
    callee, _ = answered(described())
    offer = callee.create_offer()
    assert [media.port for media in offer.media] == [4000]
    assert callee.receive_answer(described(audio(), version=2)).active


def test_slot_of_a_stopped_secure_stream_is_reused_in_clear() -> None:
    callee, _ = answered(described(audio()))
    callee.receive_offer(described("audio 0 RTP/SAVP 0", version=2))
    callee.create_answer()
    offer = callee.create_offer()
    assert [(media.port, media.protocol) for media in offer.media] == [(4000, "RTP/AVP")]


def test_audio_turned_into_another_medium_is_refused_and_the_call_stays() -> None:
    callee, _ = answered(described(audio()))
    before = callee.agreed
    with pytest.raises(SdpError) as caught:
        callee.receive_offer(described("image 5004 udptl t38", version=2))
    assert caught.value.status == 488
    assert callee.agreed == before
    assert callee.state is NegotiationState.AGREED


# ---------------------------------------------------------------- versions


def test_repeated_identical_offer_keeps_its_version() -> None:
    caller = negotiator()
    first = caller.create_offer()
    caller.receive_answer(described(audio()))
    second = caller.create_offer()
    assert second == first
    assert second.to_bytes() == first.to_bytes()


def test_version_goes_up_by_one_when_something_changes_and_the_session_id_stays() -> None:
    caller = negotiator()
    offers = [caller.create_offer()]
    for direction in (Direction.SENDONLY, Direction.SENDONLY, Direction.SENDRECV):
        caller.receive_answer(described(audio()))
        offers.append(caller.create_offer(direction))
    assert [offer.origin.version for offer in offers] == [1, 2, 2, 3]
    assert len({offer.origin.session_id for offer in offers}) == 1


def test_versions_count_over_offers_and_answers_alike() -> None:
    caller = negotiator()
    assert caller.create_offer().origin.version == 1
    caller.receive_answer(described(audio("0")))
    caller.receive_offer(described(audio("0"), version=2))
    assert caller.create_answer().origin.version == 2
    assert caller.create_offer().origin.version == 3


def test_re_offer_without_news_is_answered_as_before() -> None:
    offer = described(audio("0 8"))
    callee, first = answered(offer)
    before = callee.agreed
    callee.receive_offer(offer)
    assert callee.create_answer() == first
    assert callee.agreed == before


@pytest.mark.parametrize("version", [0, 1, 9, 1 << 70])
def test_peer_that_counts_its_versions_wrongly_is_still_taken_at_its_word(version: int) -> None:
    callee, _ = answered(described(audio("0"), version=1))
    callee.receive_offer(described(audio("8", port=7000), version=version))
    callee.create_answer()
    assert callee.agreed is not None
    assert callee.agreed.remote_rtp == Address("198.51.100.2", 7000)
    assert callee.agreed.send_format == RtpFormat(8, "pcma")


def test_origin_keeps_its_address_when_media_move() -> None:
    caller = negotiator()
    first = caller.create_offer()
    caller.receive_answer(described(audio()))
    caller.set_address(Address("203.0.113.1", 6000))
    second = caller.create_offer()
    assert second.origin.connection == first.origin.connection
    assert second.origin.version == 2
    assert second.connection is not None
    assert (second.connection.address, second.media[0].port) == ("203.0.113.1", 6000)


def test_our_codecs_change_with_the_next_offer() -> None:
    caller = negotiator([PCMU])
    caller.create_offer()
    caller.receive_answer(described(audio("0")))
    caller.set_capabilities([OPUS, PCMU])
    assert [f.name for f in caller.create_offer().media[0].encodings] == ["opus", "pcmu"]
    agreed = caller.receive_answer(
        described("audio 5000 RTP/AVP 96,rtpmap:96 opus/48000/2", version=2)
    )
    assert agreed.send_format == RtpFormat(96, "opus", 48000, 2)


# ---------------------------------------------------------------- order of things


def test_invite_without_offer_is_offered_in_the_200_and_answered_in_the_ack() -> None:
    callee = negotiator()
    callee.create_offer()
    agreed = callee.receive_answer(described(audio("8")))
    assert agreed.send_format == RtpFormat(8, "pcma")
    assert callee.agreed == agreed


def test_states_of_an_exchange_each_way() -> None:
    one = negotiator()
    assert one.state is NegotiationState.IDLE
    one.create_offer()
    assert one.state is NegotiationState.OFFER_SENT
    assert one.agreed is None
    one.receive_answer(described(audio()))
    assert one.state is NegotiationState.AGREED
    one.receive_offer(described(audio(), version=2))
    assert one.state is NegotiationState.OFFER_RECEIVED
    one.create_answer()
    assert one.state is NegotiationState.AGREED


def test_what_is_out_of_order_is_refused_and_changes_nothing() -> None:
    one = negotiator()
    for action in (lambda: one.receive_answer(described(audio())), one.create_answer):
        with pytest.raises(SdpError):
            action()
    assert one.state is NegotiationState.IDLE

    one.create_offer()
    for action in (one.create_offer, one.create_answer):
        with pytest.raises(SdpError):
            action()
    with pytest.raises(SdpError) as glare:
        one.receive_offer(described(audio()))
    assert glare.value.status == 491
    assert one.state is NegotiationState.OFFER_SENT

    one.abandon()
    one.receive_offer(described(audio()))
    with pytest.raises(SdpError) as second:
        one.receive_offer(described(audio()))
    assert second.value.status == 500
    for action in (one.create_offer, lambda: one.receive_answer(described(audio()))):
        with pytest.raises(SdpError):
            action()
    assert one.state is NegotiationState.OFFER_RECEIVED

    one.create_answer()
    with pytest.raises(SdpError):
        one.receive_answer(described(audio()))


def test_answer_to_an_old_offer_does_not_answer_theirs() -> None:
    one = negotiator()
    one.create_offer()
    agreed = one.receive_answer(described(audio()))
    one.receive_offer(described(audio("8"), version=2))
    with pytest.raises(SdpError):
        one.receive_answer(described(audio("8")))
    assert one.state is NegotiationState.OFFER_RECEIVED
    assert one.agreed == agreed


def test_failed_re_invite_leaves_everything_as_it_was() -> None:
    caller = negotiator()
    caller.create_offer()
    before = caller.receive_answer(described(audio()))
    held = caller.create_offer(Direction.SENDONLY)
    caller.abandon()
    assert caller.state is NegotiationState.AGREED
    assert caller.agreed == before
    assert caller.direction is Direction.SENDRECV
    with pytest.raises(SdpError):
        caller.receive_answer(described(audio()))
    assert caller.create_offer().origin.version == held.origin.version + 1


def test_wish_that_was_set_outlives_a_failed_offer() -> None:
    caller = negotiator()
    caller.set_direction(Direction.SENDONLY)
    caller.create_offer()
    caller.abandon()
    assert caller.direction is Direction.SENDONLY
    caller.create_offer(Direction.INACTIVE)
    caller.set_direction(Direction.RECVONLY)
    caller.abandon()
    assert caller.direction is Direction.RECVONLY


def test_refused_offer_of_the_peer_leaves_everything_as_it_was() -> None:
    callee, answer = answered(described(audio("0")))
    before = callee.agreed
    callee.receive_offer(described(audio("8", port=7000), version=2))
    callee.abandon()
    assert callee.agreed == before
    assert callee.state is NegotiationState.AGREED
    callee.receive_offer(described(audio("0"), version=3))
    assert callee.create_answer() == answer


def test_abandoning_nothing_does_nothing() -> None:
    one = negotiator()
    one.abandon()
    assert one.state is NegotiationState.IDLE
    one.create_offer()
    agreed = one.receive_answer(described(audio()))
    one.abandon()
    assert one.agreed == agreed
    assert one.state is NegotiationState.AGREED


def test_receiving_an_offer_shows_what_answering_would_agree_on() -> None:
    callee = negotiator()
    shown = callee.receive_offer(described(audio("8 101")))
    assert callee.agreed is None
    callee.create_answer()
    assert callee.agreed == shown


def test_answer_that_comes_again_counts_as_the_last_one() -> None:
    caller = negotiator()
    caller.create_offer()
    early = caller.receive_answer(described(audio("0")))  # 183
    same = caller.receive_answer(described(audio("0")))  # 200, as it should be
    assert same == early
    moved = caller.receive_answer(described(audio("8", port=7000)))  # 200, as it happens
    assert moved.remote_rtp == Address("198.51.100.2", 7000)
    assert caller.agreed == moved


# ---------------------------------------------------------------- answers that are wrong


@pytest.mark.parametrize(
    ("media", "at", "status"),
    [
        ((), "IN IP4 198.51.100.2", 400),
        ((audio(), "video 0 RTP/AVP 31"), "IN IP4 198.51.100.2", 400),
        (("video 6000 RTP/AVP 31",), "IN IP4 198.51.100.2", 400),
        ((audio(),), "", 400),
        (("audio 5000 RTP/AVP 18",), "IN IP4 198.51.100.2", 488),
        (("audio 5000 RTP/SAVP 0",), "IN IP4 198.51.100.2", 488),
        ((audio(),), "IN IP4 224.2.1.1/127", 488),
        ((audio(),), "IN IP6 2001:db8::2", 488),
    ],
)
def test_answer_that_does_not_fit_the_offer_is_refused_and_changes_nothing(
    media: tuple[str, ...], at: str, status: int
) -> None:
    caller = negotiator()
    caller.create_offer()
    with pytest.raises(SdpError) as caught:
        caller.receive_answer(described(*media, at=at))
    assert caught.value.status == status
    assert caller.state is NegotiationState.OFFER_SENT
    assert caller.agreed is None
    assert caller.receive_answer(described(audio())).active


def test_codec_we_did_not_offer_is_not_sent_even_if_the_answer_lists_it_first() -> None:
    caller = negotiator([PCMA])
    caller.create_offer()
    agreed = caller.receive_answer(described(audio("0 8")))
    assert agreed.send_format == RtpFormat(8, "pcma")
