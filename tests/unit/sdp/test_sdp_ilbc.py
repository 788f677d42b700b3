"""Which iLBC frame two sides use (RFC 3952, section 5)."""

from __future__ import annotations

import pytest

from voip.sdp.capability import AudioCapability
from voip.sdp.format import RtpFormat
from voip.sdp.ilbc import common_mode, mode_ms

pytestmark = pytest.mark.rfc("3952", "5")


@pytest.mark.parametrize(
    ("offer", "answer", "used"),
    [
        ("mode=20", "mode=20", "mode=20"),
        ("mode=20", "mode=30", "mode=30"),
        ("mode=30", "mode=20", "mode=30"),
        ("mode=30", "mode=30", "mode=30"),
        ("", "mode=20", "mode=30"),
        ("mode=20", "", "mode=30"),
        ("", "", ""),
        ("mode=0", "mode=20", "mode=30"),
    ],
)
def test_the_frame_is_of_30_ms_if_either_side_says_so(offer: str, answer: str, used: str) -> None:
    assert common_mode(offer, answer) == used
    assert mode_ms(used) == max(mode_ms(offer), mode_ms(answer))


@pytest.mark.parametrize("fmtp", ["mode=20", "MODE=20", " mode = 20 ", "a=b;mode=20", "mode=20;a"])
def test_20_ms_may_be_written_in_several_ways(fmtp: str) -> None:
    assert mode_ms(fmtp) == 20


@pytest.mark.parametrize("fmtp", ["mode=200", "demode=20", "mode=20x", "20", "mode", "mode=20 30"])
def test_everything_else_means_30_ms(fmtp: str) -> None:
    assert mode_ms(fmtp) == 30


@pytest.mark.parametrize(("theirs", "used"), [("mode=20", "mode=20"), ("", "mode=30")])
def test_an_offer_is_answered_with_what_both_use(theirs: str, used: str) -> None:
    ours = AudioCapability("iLBC", fmtp="mode=20", maxptime_ms=60)
    answered = ours.answering(RtpFormat(97, "ilbc", 8000, 1, theirs))
    assert answered is not None
    assert (answered.fmtp, answered.maxptime_ms) == (used, 60)
