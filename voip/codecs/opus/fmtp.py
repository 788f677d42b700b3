"""What two sides say about Opus in their session descriptions, and what follows (RFC 7587).

Each side says what it wants to receive, and a little of what it sends. An answer does not depend
on the offer (section 7.1): it is the answerer's own `OpusParameters.fmtp`. `sending` and
`packet_ms` are how we encode for what the other side said, `receiving_rate_hz` and
`receiving_channels` what of its sound there is to decode.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from math import ceil
from typing import Any

from voip import fmtp as fmtp_
from voip.codecs.opus.settings import (
    Application,
    OpusSettings,
    RateControl,
)
from voip.codecs.opus.toc import PACKET_UNITS, Bandwidth

__all__ = [
    "OpusParameters",
    "bit_rate_limit",
    "packet_ms",
    "receiving_channels",
    "receiving_rate_hz",
    "sending",
    "widest",
]

# Section 3.1.1, the upper ends of what is recommended: the limits where no other is told.
_NARROW_SPEECH, _WIDE_SPEECH, _FULL_SPEECH = 12_000, 20_000, 40_000
_MONO_MUSIC, _STEREO_MUSIC = 64_000, 128_000


@dataclass(frozen=True, slots=True)
class OpusParameters:
    """What one side says: a=fmtp by the names of RFC 7587 section 6.1, a=ptime and a=maxptime.

    Rates in Hz, `maxaveragebitrate` in bit/s (None: what section 3.1.1 recommends, at most).
    """

    maxplaybackrate: int = 48000
    sprop_maxcapturerate: int = 48000
    maxaveragebitrate: int | None = None
    stereo: bool = False
    sprop_stereo: bool = False
    cbr: bool = False
    useinbandfec: bool = False
    usedtx: bool = False
    ptime_ms: int = 20
    maxptime_ms: int = 120

    @classmethod
    def read(
        cls, fmtp: str, ptime_ms: int | None = None, maxptime_ms: int | None = None
    ) -> OpusParameters:
        """Read what stands after a=fmtp; `ptime_ms`, `maxptime_ms`: None where nothing is said.

        It is the network's: what is unknown, or no value of its parameter, is as if not said.
        """
        said: dict[str, Any] = {
            _field(name): value for name, value in fmtp_.read("opus", fmtp).items()
        }
        if ptime_ms is not None:
            said["ptime_ms"] = ptime_ms
        if maxptime_ms is not None:
            said["maxptime_ms"] = maxptime_ms
        return cls(**said)

    @property
    def fmtp(self) -> str:
        """What to say after a=fmtp: all that is not the default; "" where nothing is."""
        usual = {field.name: field.default for field in fields(self)}
        said = {name: getattr(self, _field(name)) for name in fmtp_.PARAMETERS["opus"]}
        return fmtp_.write("opus", {n: v for n, v in said.items() if v != usual[_field(n)]})


def _field(name: str) -> str:
    """Return the name of a parameter's field."""
    return name.replace("-", "_")


def widest(rate_hz: int) -> Bandwidth:
    """Return the least bandwidth that has all of a sound sampled at a rate."""
    return next((bandwidth for bandwidth in Bandwidth if bandwidth >= rate_hz), Bandwidth.FULL)


def bit_rate_limit(theirs: OpusParameters, application: Application) -> int:
    """Return the highest average bit rate in bit/s that the other side takes."""
    if theirs.maxaveragebitrate is not None:
        return theirs.maxaveragebitrate
    bandwidth = widest(theirs.maxplaybackrate)
    if bandwidth is Bandwidth.NARROW:
        return _NARROW_SPEECH
    if bandwidth <= Bandwidth.WIDE:
        return _WIDE_SPEECH
    if theirs.stereo:
        return _STEREO_MUSIC
    return _FULL_SPEECH if application is Application.VOIP else _MONO_MUSIC


def sending(theirs: OpusParameters, wanted: OpusSettings) -> OpusSettings:
    """Return how to encode for the other side: what we want, within what it said.

    It decides about DTX, redundancy goes to whom it is of use, a constant bit rate suits either's
    wish. A bit rate it limited is kept to within the second, too.
    """
    bandwidth = min(wanted.max_bandwidth, widest(theirs.maxplaybackrate))
    control = wanted.rate_control
    if theirs.cbr:
        control = RateControl.CBR
    elif theirs.maxaveragebitrate is not None and control is RateControl.VBR:
        control = RateControl.CONSTRAINED_VBR
    return replace(
        wanted,
        bit_rate=min(wanted.bit_rate, bit_rate_limit(theirs, wanted.application)),
        rate_control=control,
        fec=wanted.fec and theirs.useinbandfec,
        dtx=theirs.usedtx,
        max_bandwidth=bandwidth,
        bandwidth=None if wanted.bandwidth is None else min(wanted.bandwidth, bandwidth),
        channels=wanted.channels if theirs.stereo else 1,
    )


def packet_ms(theirs: OpusParameters) -> float:
    """Return how long packets to the other side are: the longest of Opus within what it said.

    Times in a session description are rounded up: 3 stands for 2.5 ms, which is the least.
    """
    most = min(theirs.ptime_ms, theirs.maxptime_ms)
    return max(
        (units * 2.5 for units in PACKET_UNITS if ceil(units * 2.5) <= most),
        default=PACKET_UNITS[0] * 2.5,
    )


def receiving_rate_hz(ours: OpusParameters, theirs: OpusParameters) -> int:
    """Return the least rate that has all of what the other side records and we play."""
    return int(widest(min(ours.maxplaybackrate, theirs.sprop_maxcapturerate)))


def receiving_channels(ours: OpusParameters, theirs: OpusParameters) -> int:
    """Return how many channels to decode to: 2 where we want them and the other side has them."""
    return 2 if ours.stereo and theirs.sprop_stereo else 1
