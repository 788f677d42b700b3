"""Typed parameters of formats, and what answers them, encoding by encoding."""

from __future__ import annotations

import pytest
from hypotheses import examples
from hypothesis import given
from hypothesis import strategies as st
from sdp_exchange import answered as exchange_answered
from sdp_exchange import audio, described, line_of, sent

from voip.codecs.amr import KINDS
from voip.codecs.core import CodecFormat
from voip.codecs.registry import default_registry
from voip.errors import ConfigError
from voip.fmtp import PARAMETERS, pairs, read, write
from voip.sdp import AudioCapability, capabilities_of
from voip.sdp.capability import TELEPHONE_EVENTS
from voip.sdp.format import RtpFormat
from voip.sdp.telephone_event import format_events

INFOS = {str(info.format): info for info in default_registry()}
VALUES = {
    "opus": {
        "maxplaybackrate": st.integers(8000, 48000),
        "sprop-maxcapturerate": st.integers(8000, 48000),
        "maxaveragebitrate": st.integers(6000, 510_000),
        **dict.fromkeys(("stereo", "sprop-stereo", "cbr", "useinbandfec", "usedtx"), st.booleans()),
    },
    "ilbc": {"mode": st.sampled_from([20, 30])},
    "speex": {
        "vbr": st.sampled_from(["on", "off", "vad"]),
        "cng": st.booleans(),
        "mode": st.sampled_from(["any", *map(str, range(11))]),
    },
    "g729": {"annexb": st.booleans()},
    **{
        name: {
            **dict.fromkeys(
                ("octet-align", "crc", "robust-sorting", "mode-change-neighbor"), st.booleans()
            ),
            "mode-set": st.sets(st.integers(0, modes - 1), min_size=1).map(
                lambda found: tuple(sorted(found))
            ),
            "mode-change-period": st.integers(1, 2),
            "mode-change-capability": st.integers(1, 2),
            "interleaving": st.integers(1, 60),
            "max-red": st.integers(0, 65_535),
        }
        for name, modes in (("amr", 8), ("amr-wb", 9))
    },
}
TIMES = st.one_of(st.none(), st.integers(1, 200))


def carried(capability: AudioCapability) -> AudioCapability:
    """Return what the other side reads of a session description with it."""
    number = capability.static_payload_type
    (found,) = capabilities_of(sent(line_of(capability, 96 if number is None else number)))
    return found


def test_every_known_parameter_is_tried_here() -> None:
    assert {name: set(rules) for name, rules in PARAMETERS.items()} == {
        name: set(values) for name, values in VALUES.items()
    }


@pytest.mark.parametrize("info", INFOS.values(), ids=list(INFOS))
@examples(30)
@given(data=st.data(), ptime=TIMES, maxptime=TIMES)
def test_every_codec_survives_a_session_description(info, data, ptime, maxptime) -> None:
    wishes = VALUES.get(info.name, {})
    parameters = (
        {
            name: data.draw(wishes[name])
            for name in data.draw(st.lists(st.sampled_from(sorted(wishes)), unique=True))
        }
        if wishes
        else {}
    )
    capability = AudioCapability.of(
        info.name,
        info.clock_rate,
        info.channels,
        ptime_ms=ptime,
        maxptime_ms=maxptime,
        **{name.replace("-", "_"): value for name, value in parameters.items()},
    )
    read_back = carried(capability)
    assert read_back == capability
    assert read_back.parameters == parameters
    assert read_back.bit_rates == capability.bit_rates
    assert CodecFormat(*read_back.encoding, read_back.fmtp) in default_registry()


@given(st.frozensets(st.integers(0, 255), min_size=1), st.sampled_from([8000, 16000, 48000]))
def test_events_survive_a_session_description(events: frozenset[int], clock: int) -> None:
    capability = AudioCapability("telephone-event", clock, fmtp=format_events(events))
    assert carried(capability).events == events


@pytest.mark.parametrize("capability", [AudioCapability("cn"), AudioCapability("cn", 16000)])
def test_comfort_noise_survives_a_session_description(capability: AudioCapability) -> None:
    assert carried(capability) == capability
    assert not capability.is_speech
    assert capability.static_payload_type == (13 if capability.clock_rate == 8000 else None)


# ---------------------------------------------------------------- reading and writing


@given(st.sampled_from(sorted(PARAMETERS)), st.text(max_size=200))
def test_anything_can_be_read(name: str, fmtp: str) -> None:
    found = read(name, fmtp)
    assert read(name, write(name, found)) == found


def test_what_is_unknown_or_no_value_is_as_if_not_said() -> None:
    said = "maxplaybackrate=7999; STEREO = 1 ;stereo=0;x=y;;cbr;usedtx=2;maxaveragebitrate=²"
    assert read("opus", said) == {"stereo": True}
    assert read("amr", "mode-set=0,2,2") == {}
    assert read("amr", "mode-set=" + "0," * 1000 + "1") == {}
    assert read("amr", "mode-set=7, 0") == {"mode-set": (0, 7)}
    assert read("g722", "bitrate=64") == {}
    assert list(pairs(" A = b ;; c")) == [("a", "b"), ("c", "")]
    assert len(list(pairs("a=1;" * 1000))) == 64


@pytest.mark.parametrize(
    ("name", "values", "why"),
    [
        ("opus", {"stereo": 2}, "stereo cannot be 2"),
        ("opus", {"maxplaybackrate": 96_000}, "maxplaybackrate cannot be 96000"),
        ("opus", {"mode": 20}, "opus has no parameter mode"),
        ("pcmu", {"annexb": True}, "pcmu has no parameter annexb"),
        ("ilbc", {"mode": 25}, "mode cannot be 25"),
        ("amr", {"mode_set": (8,)}, "mode-set cannot be"),
        ("amr", {"mode_set": ()}, "mode-set cannot be"),
    ],
)
def test_what_cannot_be_said_is_refused(name: str, values: dict, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as caught:
        AudioCapability.of(name, **values)
    assert caught.value.hint


# ---------------------------------------------------------------- bit rates


@pytest.mark.parametrize("info", INFOS.values(), ids=list(INFOS))
def test_a_codecs_bit_rate_is_within_its_capabilitys(info) -> None:
    rates = AudioCapability(info.name, info.clock_rate, info.channels).bit_rates
    assert rates is not None
    assert rates[0] <= info.bit_rate <= rates[1]
    if info.name in KINDS:
        assert rates == (KINDS[info.name].bit_rates[0], KINDS[info.name].bit_rates[-1])


def test_parameters_bound_the_bit_rate() -> None:
    of = AudioCapability.of
    assert of("opus", 48000, 2).bit_rates == (6_000, 510_000)
    assert of("opus", 48000, 2, maxaveragebitrate=20_000).bit_rates == (6_000, 20_000)
    assert of("ilbc", mode=20).bit_rates == (15_200, 15_200)
    assert of("ilbc").bit_rates == (13_333, 13_333)
    assert of("amr", mode_set=(0, 2)).bit_rates == (4_750, 5_900)
    assert of("l16", 48000, 2).bit_rates == (1_536_000, 1_536_000)
    assert AudioCapability("x-private").bit_rates is None


# ---------------------------------------------------------------- answers


def answered(ours: AudioCapability, theirs: str) -> str | None:
    found = ours.answering(RtpFormat(100, *ours.encoding, theirs))
    return None if found is None else found.fmtp


@pytest.mark.rfc("7587", "7.1")
@pytest.mark.parametrize("theirs", ["", "stereo=1;maxplaybackrate=8000", "usedtx=1", "nonsense"])
def test_an_answer_for_opus_says_what_we_want_to_receive(theirs: str) -> None:
    ours = AudioCapability.of("opus", 48000, 2, maxplaybackrate=16000, useinbandfec=True)
    assert answered(ours, theirs) == "maxplaybackrate=16000;useinbandfec=1"
    assert answered(AudioCapability("opus", 48000, 2), theirs) == ""


@pytest.mark.rfc("3551", "4.5.2")
def test_g722_is_the_one_of_8000_hz() -> None:
    ours = AudioCapability("g722")
    assert ours.static_payload_type == 9
    assert ours.answering(RtpFormat(9, "g722", 8000)) is ours
    assert ours.answering(RtpFormat(96, "g722", 16000)) is None


@pytest.mark.parametrize(
    ("ours", "theirs", "answer"),
    [
        ("", "", ""),
        ("annexb=yes", "", "annexb=yes"),
        ("", "annexb=no", "annexb=no"),
        ("annexb=no", "annexb=yes", "annexb=no"),
        ("annexb=no", "", "annexb=no"),
    ],
)
def test_g729_has_its_annex_where_both_have_it(ours: str, theirs: str, answer: str) -> None:
    assert answered(AudioCapability("g729", fmtp=ours), theirs) == answer


@pytest.mark.rfc("4867", "8.3.1")
@pytest.mark.parametrize(
    ("ours", "theirs", "answer"),
    [
        ("", "", ""),
        ("", "octet-align=0", ""),
        ("", "octet-align=1", None),
        ("octet-align=1", "octet-align=1", "octet-align=1"),
        ("octet-align=1", "", None),
        ("octet-align=1", "octet-align=1;crc=1", None),
        ("", "interleaving=20", None),
        ("", "mode-set=0,2", "mode-set=0,2"),
        ("mode-set=0,2,5", "mode-set=2,5", "mode-set=2,5"),
        ("mode-set=0,2", "mode-set=0,7", None),
        ("mode-set=0,2", "", "mode-set=0,2"),
        ("octet-align=1", "octet-align=1;mode-set=7", "octet-align=1;mode-set=7"),
        ("", "mode-set=99", ""),
    ],
)
def test_amr_has_one_payload_format_and_the_offered_modes(
    ours: str, theirs: str, answer: str | None
) -> None:
    assert answered(AudioCapability("amr", fmtp=ours), theirs) == answer
    assert answered(AudioCapability("amr-wb", 16000, fmtp=ours), theirs) == answer


@examples(30)
@given(st.text(max_size=100))
def test_any_offer_has_an_answer_or_none(theirs: str) -> None:
    for info in INFOS.values():
        ours = AudioCapability(info.name, info.clock_rate, info.channels)
        assert isinstance(answered(ours, theirs), str | None)
    assert isinstance(answered(TELEPHONE_EVENTS, theirs), str | None)


@pytest.mark.rfc("4867", "8.3.1")
@pytest.mark.parametrize(
    ("ours", "said", "agreed"),
    [
        (AudioCapability.of("amr", mode_set=(0, 2)), "", "mode-set=0,2"),
        (AudioCapability("amr"), "mode-set=7", "mode-set=7"),
        (AudioCapability.of("g729", annexb=False), "annexb=yes", "annexb=no"),
        (AudioCapability.of("opus", 48000, 2, cbr=True), "stereo=1", "stereo=1"),
    ],
)
def test_what_holds_for_both_is_what_the_answer_says(
    ours: AudioCapability, said: str, agreed: str
) -> None:
    name, clock, channels = ours.encoding
    lines = [f"rtpmap:96 {name}/{clock}" + (f"/{channels}" if channels > 1 else "")]
    lines += [f"fmtp:96 {said}"] if said else []
    callee, answer = exchange_answered(described(audio("96", *lines)), [ours])
    assert callee.agreed is not None
    assert callee.agreed.send_format == RtpFormat(96, *ours.encoding, agreed)
    (written,) = answer.media[0].encodings
    assert written.fmtp == (ours.fmtp if name == "opus" else agreed)
