"""What an offered or answered m-line has in common with what we can do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from voip.errors import SdpError
from voip.sdp.capability import COMFORT_NOISE, OWN_DTX, AudioCapability
from voip.sdp.description import MediaDescription, SessionDescription
from voip.sdp.format import RtpFormat

__all__ = ["PROFILES", "Match", "Warning3xx", "matches", "not_acceptable"]

PROFILES = frozenset({"RTP/AVP", "RTP/AVPF"})
"""Profiles we speak. An AVPF line is answered as such and without a=rtcp-fb, so that no
feedback is in use and both profiles send the same packets (RFC 4585, section 5)."""


class Warning3xx(IntEnum):
    """Why a description was refused: the codes of a Warning header field (RFC 3261, 20.43)."""

    ADDRESS_FORMAT = 301
    TRANSPORT_PROTOCOL = 302
    MEDIA_TYPE = 304
    MEDIA_FORMAT = 305
    MULTICAST = 330

    @property
    def text(self) -> str:
        """The text that RFC 3261 recommends."""
        return {
            Warning3xx.ADDRESS_FORMAT: "Incompatible network address formats",
            Warning3xx.TRANSPORT_PROTOCOL: "Incompatible transport protocol",
            Warning3xx.MEDIA_TYPE: "Media type not available",
            Warning3xx.MEDIA_FORMAT: "Incompatible media format",
            Warning3xx.MULTICAST: "Multicast not available",
        }[self]


@dataclass(frozen=True, slots=True)
class Match:
    """One encoding both sides have: ours, and the peer's with the peer's number."""

    capability: AudioCapability
    remote: RtpFormat


def not_acceptable(warning: Warning3xx, detail: str) -> SdpError:
    """Return the error for what can be read and not agreed on.

    Its status is 488; its context holds what a Warning header field needs: `warning`, the
    code, and `warning_text`.
    """
    return SdpError(
        f"nothing can be agreed on: {detail}",
        hint="compare the codecs, transports and addresses of both sides",
        status=488,
        warning=int(warning),
        warning_text=warning.text,
    )


def _common_formats(
    capabilities: Sequence[AudioCapability], media: MediaDescription
) -> tuple[Match, ...]:
    """Return what both sides have, in the m-line's order; each side's encodings once."""
    found: list[Match] = []
    left = list(capabilities)
    for remote in media.encodings:
        for capability in left:
            answering = capability.answering(remote)
            if answering is not None:
                found.append(Match(answering, remote))
                left.remove(capability)
                break
    return tuple(found)


def matches(
    capabilities: Sequence[AudioCapability],
    session: SessionDescription,
    media: MediaDescription,
    family: int,
) -> tuple[Match, ...]:
    """Return what an m-line in use can be agreed on with; `family`: 4 or 6, of our address.

    Raises SdpError: status 488 where the line cannot be ours, 400 where it has no address.
    """
    if media.kind.lower() != "audio":
        raise not_acceptable(Warning3xx.MEDIA_TYPE, f"the peer wants {media.kind}, not audio")
    if media.protocol.upper() not in PROFILES:
        raise not_acceptable(
            Warning3xx.TRANSPORT_PROTOCOL, f"the peer wants {media.protocol}, not RTP/AVP"
        )
    connection = session.connection_of(media)
    if connection is None:
        raise SdpError(
            "the session description gives no address for its audio",
            hint="the peer left out the c= line",
            status=400,
        )
    if connection.multicast:
        raise not_acceptable(
            Warning3xx.MULTICAST, f"the peer wants multicast ({connection.address})"
        )
    if connection.family != family and not connection.unspecified:
        raise not_acceptable(
            Warning3xx.ADDRESS_FORMAT,
            f"the peer is at {connection.address} (IPv{connection.family}), we use IPv{family}",
        )
    found = _common_formats(capabilities, media)
    if not any(match.capability.is_speech for match in found):
        theirs = ", ".join(f"{f.name}/{f.clock_rate}" for f in media.encodings[:8]) or "nothing"
        ours = ", ".join(f"{c.name}/{c.clock_rate}" for c in capabilities)
        raise not_acceptable(Warning3xx.MEDIA_FORMAT, f"the peer has {theirs}; we have {ours}")
    return _without_vain_noise(found)


def _without_vain_noise(found: tuple[Match, ...]) -> tuple[Match, ...]:
    """Leave comfort noise out where no encoding of its clock needs it."""
    silent = {
        match.capability.clock_rate
        for match in found
        if match.capability.is_speech and match.capability.name not in OWN_DTX
    }
    return tuple(
        match
        for match in found
        if match.capability.name != COMFORT_NOISE or match.capability.clock_rate in silent
    )
