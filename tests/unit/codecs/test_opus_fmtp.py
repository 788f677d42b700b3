"""Opus in session descriptions (RFC 7587): what is read, what is said, and what follows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voip.codecs.opus.fmtp import (
    OpusParameters,
    bit_rate_limit,
    packet_ms,
    receiving_channels,
    receiving_rate_hz,
    sending,
    widest,
)
from voip.codecs.opus.settings import Application, OpusSettings, RateControl
from voip.codecs.opus.toc import Bandwidth

pytestmark = pytest.mark.rfc("7587", "6-7")

EXAMPLE_2 = (
    "maxplaybackrate=16000; sprop-maxcapturerate=16000; "
    "maxaveragebitrate=20000; stereo=1; useinbandfec=1; usedtx=0"
)


def test_the_examples_of_the_rfc() -> None:
    assert OpusParameters.read("") == OpusParameters()
    assert OpusParameters.read(EXAMPLE_2, ptime_ms=40, maxptime_ms=40) == OpusParameters(
        maxplaybackrate=16000,
        sprop_maxcapturerate=16000,
        maxaveragebitrate=20000,
        stereo=True,
        useinbandfec=True,
        ptime_ms=40,
        maxptime_ms=40,
    )
    both = OpusParameters.read("stereo=1; sprop-stereo=1")
    assert both == OpusParameters(stereo=True, sprop_stereo=True)
    assert both.fmtp == "stereo=1;sprop-stereo=1"


def test_nothing_said_means_the_defaults_of_section_6_1() -> None:
    usual = OpusParameters()
    assert (usual.maxplaybackrate, usual.sprop_maxcapturerate) == (48000, 48000)
    assert (usual.ptime_ms, usual.maxptime_ms) == (20, 120)
    flags = (usual.stereo, usual.sprop_stereo, usual.cbr, usual.useinbandfec, usual.usedtx)
    assert not any(flags)
    assert usual.fmtp == ""


@pytest.mark.parametrize(
    ("fmtp", "expected"),
    [
        ("USEINBANDFEC=1", OpusParameters(useinbandfec=True)),
        (" usedtx = 1 ;; cbr=1;", OpusParameters(usedtx=True, cbr=True)),
        ("stereo=2;cbr=-1;usedtx=true;useinbandfec=", OpusParameters()),
        ("maxplaybackrate=7999;sprop-maxcapturerate=48001", OpusParameters()),
        ("maxplaybackrate=44100", OpusParameters(maxplaybackrate=44100)),
        ("maxaveragebitrate=5999", OpusParameters()),  # outside 6000 to 510000 is ignored
        ("maxaveragebitrate=510001", OpusParameters()),
        ("maxaveragebitrate=510000", OpusParameters(maxaveragebitrate=510000)),
        ("stereo=1;stereo=0", OpusParameters(stereo=True)),
        ("minptime=10;useinbandfec=1;x", OpusParameters(useinbandfec=True)),
        ("stereo=١", OpusParameters()),
        ("maxaveragebitrate=" + "9" * 5000, OpusParameters()),
        ("x;" * 100 + "stereo=1", OpusParameters()),
    ],
)
def test_what_is_no_value_is_as_if_not_said(fmtp: str, expected: OpusParameters) -> None:
    assert OpusParameters.read(fmtp) == expected


@given(fmtp=st.text(max_size=80) | st.text(alphabet="sterocb=;01 -", max_size=40))
def test_anything_can_be_read(fmtp: str) -> None:
    assert isinstance(OpusParameters.read(fmtp), OpusParameters)


@given(
    ours=st.builds(
        OpusParameters,
        maxplaybackrate=st.integers(8000, 48000),
        sprop_maxcapturerate=st.integers(8000, 48000),
        maxaveragebitrate=st.none() | st.integers(6000, 510000),
        stereo=st.booleans(),
        sprop_stereo=st.booleans(),
        cbr=st.booleans(),
        useinbandfec=st.booleans(),
        usedtx=st.booleans(),
    )
)
def test_what_is_said_is_read_again(ours: OpusParameters) -> None:
    assert OpusParameters.read(ours.fmtp) == ours


def test_unknown_parameters_are_not_said_again() -> None:
    assert OpusParameters.read("minptime=10;useinbandfec=1;future=3").fmtp == "useinbandfec=1"


# ---------------------------------------------------------------- what we send


WANTED = OpusSettings(bit_rate=200_000, rate_control=RateControl.VBR, fec=True, dtx=True)


@pytest.mark.parametrize(
    ("rate_hz", "bandwidth"),
    [
        (8000, Bandwidth.NARROW),
        (8001, Bandwidth.MEDIUM),
        (12000, Bandwidth.MEDIUM),
        (16000, Bandwidth.WIDE),
        (22050, Bandwidth.SUPER_WIDE),
        (24000, Bandwidth.SUPER_WIDE),
        (44100, Bandwidth.FULL),
        (48000, Bandwidth.FULL),
    ],
)
def test_no_more_bandwidth_than_the_other_side_plays(rate_hz: int, bandwidth: Bandwidth) -> None:
    theirs = OpusParameters(maxplaybackrate=rate_hz)
    assert widest(rate_hz) is bandwidth
    assert sending(theirs, WANTED).max_bandwidth is bandwidth
    forced = sending(theirs, OpusSettings(bandwidth=Bandwidth.SUPER_WIDE)).bandwidth
    assert forced is min(bandwidth, Bandwidth.SUPER_WIDE)
    narrow = OpusSettings(max_bandwidth=Bandwidth.NARROW)
    assert sending(theirs, narrow).max_bandwidth is Bandwidth.NARROW


@pytest.mark.parametrize(
    ("theirs", "application", "limit"),
    [
        (OpusParameters(maxaveragebitrate=20000), Application.AUDIO, 20_000),
        (OpusParameters(maxaveragebitrate=300000), Application.VOIP, 300_000),
        (OpusParameters(maxplaybackrate=8000), Application.VOIP, 12_000),
        (OpusParameters(maxplaybackrate=12000), Application.VOIP, 20_000),
        (OpusParameters(maxplaybackrate=16000), Application.AUDIO, 20_000),
        (OpusParameters(), Application.VOIP, 40_000),
        (OpusParameters(), Application.AUDIO, 64_000),
        (OpusParameters(), Application.LOW_DELAY, 64_000),
        (OpusParameters(stereo=True), Application.VOIP, 128_000),
    ],
)
def test_no_more_bits_than_it_takes(
    theirs: OpusParameters, application: Application, limit: int
) -> None:
    assert bit_rate_limit(theirs, application) == limit
    assert sending(theirs, OpusSettings(510_000, application=application)).bit_rate == limit
    assert sending(theirs, OpusSettings(7_000, application=application)).bit_rate == 7_000


def test_each_of_its_wishes_is_granted() -> None:
    plain = sending(OpusParameters(), WANTED)
    assert (plain.channels, plain.fec, plain.dtx) == (1, False, False)
    assert plain.rate_control is RateControl.VBR
    assert sending(OpusParameters(stereo=True), WANTED).channels is None
    assert sending(OpusParameters(useinbandfec=True), WANTED).fec
    assert not sending(OpusParameters(useinbandfec=True), OpusSettings(fec=False)).fec
    assert sending(OpusParameters(usedtx=True), OpusSettings()).dtx
    assert sending(OpusParameters(cbr=True), WANTED).rate_control is RateControl.CBR
    limited = sending(OpusParameters(maxaveragebitrate=20000), WANTED)
    assert limited.rate_control is RateControl.CONSTRAINED_VBR
    constant = OpusSettings(rate_control=RateControl.CBR)
    assert sending(OpusParameters(), constant).rate_control is RateControl.CBR


@pytest.mark.parametrize(
    ("ptime_ms", "maxptime_ms", "expected"),
    [
        (None, None, 20),
        (3, None, 2.5),
        (5, None, 5),
        (10, None, 10),
        (30, None, 20),  # no packet of libopus': the next shorter one
        (40, None, 40),
        (60, None, 60),
        (120, None, 120),
        (500, None, 120),
        (60, 40, 40),
        (None, 10, 10),
        (1, 1, 2.5),  # nothing is shorter
    ],
)
def test_packets_last_as_long_as_it_asks(
    ptime_ms: int | None, maxptime_ms: int | None, expected: float
) -> None:
    assert packet_ms(OpusParameters.read("", ptime_ms, maxptime_ms)) == expected


# ---------------------------------------------------------------- what we receive


def test_what_the_other_side_does_not_record_need_not_be_decoded() -> None:
    usual = OpusParameters()
    narrow = OpusParameters(sprop_maxcapturerate=8000)
    assert receiving_rate_hz(usual, usual) == 48000
    assert receiving_rate_hz(usual, narrow) == 8000
    assert receiving_rate_hz(OpusParameters(maxplaybackrate=16000), usual) == 16000
    assert receiving_rate_hz(OpusParameters(maxplaybackrate=11025), usual) == 12000

    stereo = OpusParameters(stereo=True, sprop_stereo=True)
    assert receiving_channels(stereo, stereo) == 2
    assert receiving_channels(stereo, usual) == receiving_channels(usual, stereo) == 1
