"""From the codecs a phone is told to use to what it says of them in session descriptions."""

from __future__ import annotations

from collections.abc import Iterable

from voip.codecs.core import CodecFormat, CodecInfo, Ways
from voip.codecs.registry import Registry, default_registry
from voip.config import MediaConfig
from voip.errors import CodecError, ConfigError
from voip.fmtp import Value, write
from voip.media.adapter import packet_frames
from voip.media.commands import HeaderExtensions
from voip.rtp.extensions import ABS_SEND_TIME, AUDIO_LEVEL
from voip.sdp.agreement import AgreedAudio
from voip.sdp.capability import COMFORT_NOISE, OWN_DTX, TELEPHONE_EVENTS, AudioCapability
from voip.sdp.description import Direction
from voip.sdp.extensions import HeaderExtension
from voip.sdp.format import RtpFormat

__all__ = [
    "agreed_extensions",
    "capabilities",
    "check_codecs",
    "header_extensions",
    "rate_of",
]

_EVENTS = TELEPHONE_EVENTS.fmtp
_NO_VOICE = "vad=off"
_VOICE = ("vad=on", "", _NO_VOICE)
"""What may stand behind the URI of audio levels (RFC 6464, section 4)."""


def capabilities(
    names: Iterable[str], ptime_ms: int, codecs: Registry | None = None, *, dtx: bool = False
) -> tuple[AudioCapability, ...]:
    """Return what a phone offers that has been told to use codecs, in this order.

    A name is "opus", or "l16/16000" or "l16/48000/2" where one alone is not enough. Digits
    (telephone-event) are offered for each clock that is in use (RFC 4733, section 2.1). With `dtx`
    so is comfort noise (RFC 3389), for each clock of a codec that has no DTX of its own, and that
    of Opus; without, who offers comfort noise is answered with it. Raises ConfigError for a codec
    that there is not, or that this machine cannot do.
    """
    registry = codecs or default_registry()
    speech = [_capability(_found(name, registry, ptime_ms), ptime_ms, dtx) for name in names]
    clocks = dict.fromkeys([TELEPHONE_EVENTS.clock_rate, *(one.clock_rate for one in speech)])
    others = [
        AudioCapability(TELEPHONE_EVENTS.name, clock, fmtp=_EVENTS)
        for clock in clocks
        if clock != TELEPHONE_EVENTS.clock_rate
    ]
    silent = dict.fromkeys(one.clock_rate for one in speech if one.name not in OWN_DTX)
    noises = [AudioCapability(COMFORT_NOISE, clock, offered=dtx) for clock in silent]
    return (*speech, *noises, TELEPHONE_EVENTS, *others)


def header_extensions(media: MediaConfig) -> tuple[HeaderExtension, ...]:
    """Return the extensions of RTP headers (RFC 8285) of a phone, those it offers and others.

    Levels of others are read unasked, but where sound is somebody else's; nothing is told unasked.
    """
    found = []
    if "audio-level" in media.header_extensions:
        found.append(HeaderExtension(AUDIO_LEVEL, attributes=_VOICE))
    elif media.elsewhere is None:
        found.append(HeaderExtension(AUDIO_LEVEL, Direction.RECVONLY, _VOICE, offered=False))
    if "abs-send-time" in media.header_extensions:
        found.append(HeaderExtension(ABS_SEND_TIME))  # of others it is not read
    return tuple(found)


def agreed_extensions(agreed: AgreedAudio) -> HeaderExtensions:
    """Return what packets of a stream hold beside sound, and what is read of it."""
    sent = {one.uri: one.number for one in agreed.extensions if one.send}
    read = {one.uri: one.number for one in agreed.extensions if one.receive}
    voice = all(
        one.uri != AUDIO_LEVEL or one.attributes.lower() != _NO_VOICE for one in agreed.extensions
    )
    return HeaderExtensions(
        send_level=sent.get(AUDIO_LEVEL, 0),
        send_time=sent.get(ABS_SEND_TIME, 0),
        receive_level=read.get(AUDIO_LEVEL, 0),
        voice=voice,
    )


def check_codecs(media: MediaConfig) -> None:
    """Raise ConfigError where a phone cannot have the codecs it is told to use."""
    capabilities(media.codecs, media.ptime_ms)


def rate_of(agreed: RtpFormat | None) -> int:
    """Return the samples a second of an encoding's sound; 8000 where nothing is agreed on."""
    if agreed is None:
        return 8000
    try:
        return default_registry().info(CodecFormat(*agreed.encoding)).sample_rate
    except CodecError:
        return 8000


def _found(name: str, registry: Registry, ptime_ms: int) -> CodecInfo:
    asked = name.lower().split("/")
    for info in registry:
        key = [info.name, str(info.clock_rate), str(info.channels)]
        if key[: len(asked)] == asked:
            try:
                registry.create(info.format)
                packet_frames(info, ptime_ms)
            except CodecError as error:
                raise ConfigError(f"{name}: {error.message}", hint=error.hint) from None
            if (ways := registry.ways(info.format)) is not Ways.BOTH:
                can = "decoded" if Ways.DECODE in ways else "encoded"
                raise ConfigError(f"{name} can only be {can} here", hint="a call needs both ways")
            return info
    there = dict.fromkeys(info.name for info in registry.offered())
    raise ConfigError(f"no codec {name!r}", hint="there are " + ", ".join(there))


def _capability(info: CodecInfo, ptime_ms: int, dtx: bool) -> AudioCapability:
    """Return what we say of a codec that we receive."""
    said: dict[str, Value] = {}
    if info.name == "opus":
        said["useinbandfec"] = True  # what the packet after a lost one repeats of it is heard
        if dtx:
            said["usedtx"] = True
    elif info.name == "ilbc":
        said["mode"] = 30 if ptime_ms % 30 == 0 else 20
    fmtp = write(info.name, said)
    return AudioCapability(info.name, info.clock_rate, info.channels, fmtp)
