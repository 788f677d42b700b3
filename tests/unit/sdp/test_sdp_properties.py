"""Two negotiators of any capabilities, any exchanges: what always holds."""

from __future__ import annotations

from hypotheses import examples
from hypothesis import given
from hypothesis import strategies as st

from voip.errors import SdpError
from voip.sdp import (
    AgreedAudio,
    AudioCapability,
    Direction,
    NegotiationState,
    Negotiator,
    Preference,
    SessionDescription,
    parse,
)
from voip.types import Address, SeededRandom

_ENCODINGS = [
    ("pcmu", 8000, 1),
    ("pcma", 8000, 1),
    ("g722", 8000, 1),
    ("gsm", 8000, 1),
    ("opus", 48000, 2),
    ("ilbc", 8000, 1),
    ("l16", 16000, 1),
    ("cn", 8000, 1),
    ("telephone-event", 8000, 1),
    ("telephone-event", 48000, 1),
]


@st.composite
def capabilities(draw: st.DrawFn) -> list[AudioCapability]:
    chosen = draw(st.lists(st.sampled_from(_ENCODINGS), min_size=1, unique=True))
    wishes = st.one_of(st.none(), st.integers(96, 127))
    found = [AudioCapability(*encoding, payload_type=draw(wishes)) for encoding in chosen]
    return found if any(one.is_speech for one in found) else [*found, AudioCapability("pcmu")]


@st.composite
def negotiators(draw: st.DrawFn, port: int) -> Negotiator:
    return Negotiator(
        draw(capabilities()),
        address=Address("192.0.2.1", port),
        random=SeededRandom(port),
        ptime_ms=draw(st.sampled_from([10, 20, 30, 60])),
        direction=draw(st.sampled_from(Direction)),
        preference=draw(st.sampled_from(Preference)),
        redundancy=draw(st.booleans()),
    )


def carried(description: SessionDescription) -> SessionDescription:
    read = parse(description.to_bytes())
    assert read == description
    return read


def assert_agreement(one: AgreedAudio, other: AgreedAudio) -> None:
    """What one side sends, the other knows by the same number, and wants."""
    for sender, receiver in ((one, other), (other, one)):
        assert sender.active
        assert sender.send_format is not None
        meaning = {f.payload_type: f.encoding for f in receiver.receive_formats}
        assert meaning[sender.send_format.payload_type] == sender.send_format.encoding
        assert sender.can_send == receiver.can_receive
        events = {f.payload_type: f.encoding for f in receiver.receive_events}
        assert (sender.send_events is None) == (receiver.send_events is None)
        if sender.send_events is not None:
            assert events[sender.send_events.payload_type] == sender.send_events.encoding
        assert not meaning.keys() & events.keys()


@examples(60)
@given(negotiators(4000), negotiators(5000), st.data())
def test_two_sides_agree_exchange_after_exchange(
    alice: Negotiator, bob: Negotiator, data: st.DataObject
) -> None:
    versions: dict[str, list[SessionDescription]] = {"alice": [], "bob": []}
    meanings: dict[str, dict[int, tuple[str, int, int]]] = {"alice": {}, "bob": {}}

    def noted(who: str, description: SessionDescription) -> SessionDescription:
        for encoding in description.media[0].encodings:
            meaning = meanings[who].setdefault(encoding.payload_type, encoding.encoding)
            assert meaning == encoding.encoding  # RFC 3264, section 8.3.2
        made = versions[who]
        if made:
            assert description.origin.session_id == made[-1].origin.session_id
            step = description.origin.version - made[-1].origin.version
            assert step == (description != made[-1])
        made.append(description)
        return carried(description)

    for _ in range(data.draw(st.integers(1, 5))):
        offerer, answerer, names = data.draw(
            st.sampled_from([(alice, bob, ("alice", "bob")), (bob, alice, ("bob", "alice"))])
        )
        if data.draw(st.booleans()):
            offerer.set_capabilities(data.draw(capabilities()))
        before = offerer.agreed, answerer.agreed
        offer = noted(names[0], offerer.create_offer(data.draw(st.sampled_from(Direction))))
        try:
            answerer.receive_offer(offer)
        except SdpError as refusal:
            assert refusal.status == 488
            assert refusal.context["warning"] == 305
            offerer.abandon()
            assert (offerer.agreed, answerer.agreed) == before
            continue
        if data.draw(st.booleans()):
            answer = noted(names[1], answerer.create_answer())
            agreed = offerer.receive_answer(answer)
            assert answerer.agreed is not None
            assert_agreement(agreed, answerer.agreed)
        else:
            answerer.abandon()
            offerer.abandon()
            assert (offerer.agreed, answerer.agreed) == before


_M_LINES = st.sampled_from(
    [
        "audio 5000 RTP/AVP 0 8",
        "audio 5002 RTP/AVP 18",
        "audio 0 RTP/AVP 0",
        "audio 5004 RTP/SAVP 0",
        "audio 5006 RTP/AVPF 8 0",
        "video 5008 RTP/AVP 31",
        "image 5010 udptl t38",
        "application 9 UDP/DTLS/SCTP webrtc-datachannel",
    ]
)
_STEPS = st.sampled_from(["offer", "take offer", "answer", "take answer", "abandon"])


@examples(100)
@given(st.lists(st.tuples(_STEPS, st.lists(_M_LINES, max_size=4)), max_size=12))
def test_any_order_of_things_ends_in_a_defined_state(
    steps: list[tuple[str, list[str]]],
) -> None:
    one = Negotiator(
        [AudioCapability("pcmu")], address=Address("192.0.2.1", 4000), random=SeededRandom(1)
    )
    for step, lines in steps:
        text = "v=0\no=- 1 1 IN IP4 198.51.100.2\ns=-\nc=IN IP4 198.51.100.2\nt=0 0\n"
        theirs = parse(text + "".join(f"m={line}\n" for line in lines))
        before = one.state, one.agreed, one.direction
        try:
            if step == "offer":
                one.create_offer()
                assert one.state is NegotiationState.OFFER_SENT
            elif step == "take offer":
                one.receive_offer(theirs)
                assert one.state is NegotiationState.OFFER_RECEIVED
            elif step == "answer":
                answer = one.create_answer()
                assert one.state is NegotiationState.AGREED
                assert sum(media.port != 0 for media in answer.media) <= 1
            elif step == "take answer":
                one.receive_answer(theirs)
                assert one.state is NegotiationState.AGREED
            else:
                one.abandon()
                assert one.agreed == before[1]
        except SdpError:
            assert (one.state, one.agreed, one.direction) == before
