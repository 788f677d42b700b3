"""Session descriptions and offer/answer: `parse`, `Negotiator`, and the values between them."""

from voip.sdp.agreement import AgreedAudio
from voip.sdp.capability import PCMA, PCMU, TELEPHONE_EVENTS, AudioCapability, capabilities_of
from voip.sdp.description import (
    Attribute,
    Connection,
    Direction,
    MediaDescription,
    Origin,
    RtcpAddress,
    SessionDescription,
    Timing,
)
from voip.sdp.extensions import AgreedExtension, HeaderExtension
from voip.sdp.format import RtpFormat
from voip.sdp.matching import Warning3xx
from voip.sdp.negotiation import NegotiationState, Negotiator, Preference
from voip.sdp.parser import parse

__all__ = [
    "PCMA",
    "PCMU",
    "TELEPHONE_EVENTS",
    "AgreedAudio",
    "AgreedExtension",
    "Attribute",
    "AudioCapability",
    "Connection",
    "Direction",
    "HeaderExtension",
    "MediaDescription",
    "NegotiationState",
    "Negotiator",
    "Origin",
    "Preference",
    "RtcpAddress",
    "RtpFormat",
    "SessionDescription",
    "Timing",
    "Warning3xx",
    "capabilities_of",
    "parse",
]
