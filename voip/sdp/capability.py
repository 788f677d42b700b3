"""What an agent can do with one audio encoding, and its shape in a session description."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

from voip.errors import ConfigError
from voip.fmtp import Value, read, write
from voip.sdp.answers import answer_fmtp
from voip.sdp.bit_rates import bit_rates
from voip.sdp.description import MediaDescription
from voip.sdp.format import (
    MAX_NAME_LENGTH,
    MAX_PAYLOAD_TYPE,
    STATIC_FORMATS,
    Encoding,
    RtpFormat,
    static_payload_type,
)
from voip.sdp.telephone_event import TELEPHONE_EVENT, parse_events

__all__ = [
    "COMFORT_NOISE",
    "OWN_DTX",
    "PCMA",
    "PCMU",
    "TELEPHONE_EVENTS",
    "AudioCapability",
    "capabilities_of",
]

_NAME = re.compile(rf"[A-Za-z0-9_.-]{{1,{MAX_NAME_LENGTH}}}")
_PARAMETERS = re.compile(r"\S(?:[^\r\n\0]*\S)?")
COMFORT_NOISE = "cn"
"""The encoding name of RFC 3389."""
OWN_DTX = frozenset({"amr", "amr-wb", "evs", "g723", "g729", "opus", "speex"})
"""Encodings that describe silence themselves: they want no comfort noise beside them."""
_NOT_SPEECH = frozenset({TELEPHONE_EVENT, "tone", COMFORT_NOISE, "red", "ulpfec"})


@dataclass(frozen=True, slots=True)
class AudioCapability:
    """An audio encoding an agent sends and receives.

    `name` as in SDP, without case; `clock_rate` in Hz; `fmtp` what we tell the peer about what
    we receive. `ptime_ms` is the packet time we send where the peer asks for none (None: the
    negotiator's), `maxptime_ms` the longest packet we take or make (None: no bound of ours).
    `payload_type` is the number we would like it to have, no more than a wish and no part of
    what it is; None: that of RFC 3551, else a dynamic one. `offered`: whether an offer of ours has
    it unasked; else only who offers it is answered with it.

    Raises ConfigError for values that cannot stand in a session description.
    """

    name: str
    clock_rate: int = 8000
    channels: int = 1
    fmtp: str = ""
    ptime_ms: int | None = None
    maxptime_ms: int | None = None
    payload_type: int | None = field(default=None, compare=False)
    offered: bool = field(default=True, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name.lower())
        if _NAME.fullmatch(self.name) is None:
            raise ConfigError(f"{self.name!r} is no encoding name", hint='one like "pcmu"')
        if self.clock_rate < 1 or self.channels < 1:
            raise ConfigError(f"{self.name}: clock rate and channels must be 1 or more")
        if self.fmtp and _PARAMETERS.fullmatch(self.fmtp) is None:
            raise ConfigError(f"{self.name}: fmtp must be one line without blanks at its ends")
        if any(time is not None and time < 1 for time in (self.ptime_ms, self.maxptime_ms)):
            raise ConfigError(f"{self.name}: packet times are milliseconds, 1 or more")
        if self.payload_type is not None:
            if not 0 <= self.payload_type <= MAX_PAYLOAD_TYPE:
                raise ConfigError(f"{self.name}: a payload type is a number from 0 to 127")
            if STATIC_FORMATS.get(self.payload_type, self.encoding) != self.encoding:
                raise ConfigError(
                    f"{self.name}: payload type {self.payload_type} is another encoding's",
                    hint="leave it out, or take one from 96 to 127",
                )

    @classmethod
    def of(
        cls,
        name: str,
        clock_rate: int = 8000,
        channels: int = 1,
        *,
        ptime_ms: int | None = None,
        maxptime_ms: int | None = None,
        **parameters: Value,
    ) -> AudioCapability:
        """Return a capability with typed parameters: `of("opus", 48000, 2, usedtx=True)`.

        They are those of `voip.fmtp`, a hyphen of a name being an underscore here. Raises
        ConfigError for one that the encoding has not, and for no value of it.
        """
        return cls(name, clock_rate, channels, write(name, parameters), ptime_ms, maxptime_ms)

    @property
    def parameters(self) -> dict[str, Value]:
        """What `fmtp` says, in the types of `voip.fmtp`; what is not known there is left out."""
        return read(self.name, self.fmtp)

    @property
    def events(self) -> frozenset[int]:
        """The event codes of telephone-event, none of other encodings."""
        return parse_events(self.fmtp) if self.name == TELEPHONE_EVENT else frozenset()

    @property
    def bit_rates(self) -> tuple[int, int] | None:
        """The least and the highest bit rate in bit/s, of sound alone; None where unknown."""
        return bit_rates(self.encoding, self.parameters)

    @property
    def encoding(self) -> Encoding:
        """What it is compared by: name, clock rate, channels."""
        return self.name, self.clock_rate, self.channels

    @property
    def static_payload_type(self) -> int | None:
        """The number RFC 3551 gave it, None where there is none."""
        return static_payload_type(self.encoding)

    @property
    def is_speech(self) -> bool:
        """Whether it carries sound by itself: events, comfort noise and redundancy do not."""
        return self.name not in _NOT_SPEECH

    def as_format(self, payload_type: int) -> RtpFormat:
        """Return the encoding under a number."""
        return RtpFormat(payload_type, *self.encoding, self.fmtp)

    def answering(self, offered: RtpFormat) -> AudioCapability | None:
        """Return what of this capability fits an offered format, None where nothing does.

        Encodings fit by name, clock rate and channels; `voip.sdp.answers` says what becomes of
        their parameters.
        """
        if offered.encoding != self.encoding:
            return None
        fmtp = answer_fmtp(self.name, self.fmtp, offered.fmtp)
        return None if fmtp is None else self._with_fmtp(fmtp)

    def _with_fmtp(self, fmtp: str) -> AudioCapability:
        return self if fmtp == self.fmtp else replace(self, fmtp=fmtp)


PCMU = AudioCapability("pcmu")
"""G.711 µ-law."""

PCMA = AudioCapability("pcma")
"""G.711 A-law."""

TELEPHONE_EVENTS = AudioCapability(TELEPHONE_EVENT, fmtp="0-16", payload_type=101)
"""DTMF digits and flash (RFC 4733), under the number telephones expect."""


def capabilities_of(media: MediaDescription) -> tuple[AudioCapability, ...]:
    """Return what an m= line says its author can do, in its order of preference.

    Payload types are of one negotiation and stay behind. a=ptime and a=maxptime hold for the
    whole line, so for each of its encodings.
    """
    return tuple(
        AudioCapability(*encoding.encoding, encoding.fmtp, media.ptime_ms, media.maxptime_ms)
        for encoding in media.encodings
    )
