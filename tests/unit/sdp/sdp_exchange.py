"""Offers and answers as the tests of negotiation make them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from voip.errors import SdpError
from voip.sdp import (
    PCMA,
    PCMU,
    TELEPHONE_EVENTS,
    AudioCapability,
    Connection,
    MediaDescription,
    NegotiationState,
    Negotiator,
    Origin,
    SessionDescription,
    parse,
)
from voip.types import Address, SeededRandom

OPUS = AudioCapability("opus", 48000, 2, "useinbandfec=1")
OURS = (PCMU, PCMA, TELEPHONE_EVENTS)
HERE = Address("192.0.2.1", 4000)
EVENTS = ["rtpmap:101 telephone-event/8000", "fmtp:101 0-16"]


def negotiator(capabilities: Sequence[AudioCapability] = OURS, **options: Any) -> Negotiator:
    options = {"address": HERE, "random": SeededRandom(1), **options}
    return Negotiator(capabilities, **options)


def described(
    *media: str, at: str = "IN IP4 198.51.100.2", version: int = 1, head: str = ""
) -> SessionDescription:
    """A peer's description; each of `media` is an m= line and its a= lines, by commas."""
    lines = [f"v=0\no=peer 7 {version} IN IP4 198.51.100.2\ns=-\n"]
    lines += [f"c={at}\n"] if at else []
    lines += [f"t=0 0\n{head}"]
    for entry in media:
        first, *attributes = entry.split(",")
        lines += [f"m={first}\n", *(f"a={attribute}\n" for attribute in attributes)]
    return parse("".join(lines))


def audio(
    formats: str = "0 8 101", *attributes: str, port: int = 5000, protocol: str = "RTP/AVP"
) -> str:
    events = EVENTS if "101" in formats.split() else []
    return ",".join([f"audio {port} {protocol} {formats}", *events, *attributes])


def answered(
    offer: SessionDescription, capabilities: Sequence[AudioCapability] = OURS, **options: Any
) -> tuple[Negotiator, SessionDescription]:
    callee = negotiator(capabilities, **options)
    callee.receive_offer(offer)
    return callee, callee.create_answer()


def numbers(media: MediaDescription) -> list[int]:
    return [encoding.payload_type for encoding in media.encodings]


def refusal(offer: SessionDescription, **options: Any) -> SdpError:
    callee = negotiator(**options)
    with pytest.raises(SdpError) as caught:
        callee.receive_offer(offer)
    assert callee.state is NegotiationState.IDLE
    return caught.value


def line_of(capability: AudioCapability, number: int) -> MediaDescription:
    return MediaDescription(
        "audio",
        4000,
        "RTP/AVP",
        (str(number),),
        encodings=(capability.as_format(number),),
        ptime_ms=capability.ptime_ms,
        maxptime_ms=capability.maxptime_ms,
    )


def sent(media: MediaDescription) -> MediaDescription:
    here = Connection("192.0.2.1")
    session = SessionDescription(Origin("-", 1, 1, here), connection=here, media=(media,))
    return parse(session.to_bytes()).media[0]
