"""What the control plane may tell the engine: plain frozen values.

Commands are applied in order at the start of a tick and acknowledged by it with `Applied` or
`Refused` (`voip.media.answers`). No callables, no live objects: the same commands work in the
caller's thread, in another thread and across processes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from voip.config import TroubleConfig
from voip.rtp.jitter import ALLOWANCE
from voip.rtp.srtp.keys import SrtpKeys
from voip.rtp.xr import XrBlock
from voip.types import Address

__all__ = [
    "AddPairSink",
    "AddSink",
    "Announce",
    "CloseStream",
    "Command",
    "ConnectStream",
    "HeaderExtensions",
    "LinkIn",
    "LinkOut",
    "LogJitter",
    "MixStream",
    "MuteStream",
    "OpenMix",
    "OpenStream",
    "PayloadFormat",
    "ProtectStream",
    "ReadJitterLog",
    "ReadStats",
    "RemoveSink",
    "RouteStream",
    "SendApp",
    "SendDtmf",
    "SendXr",
    "SetBeep",
    "SetSource",
    "ShapeMix",
    "Unlink",
    "WatchStream",
]


@dataclass(frozen=True, slots=True)
class PayloadFormat:
    """An encoding as negotiated in one direction: payload type and what it means."""

    payload_type: int
    name: str  # encoding name as in SDP, lower case: "pcmu", "pcma", "telephone-event"
    clock_rate: int = 8000
    channels: int = 1
    fmtp: str = ""


@dataclass(frozen=True, slots=True)
class OpenStream:
    """Bind ports on `host` and add a row. Its result is `Opened`."""

    stream: int
    host: str
    cname: str
    jitter_min_ms: float = 30.0
    jitter_max_ms: float = 400.0
    jitter_allowance: float = ALLOWANCE  # the share of packets that may come too late
    symmetric: bool = True  # learn another source, by the rule of docs/architecture.md, section 5
    troubles: TroubleConfig = field(default_factory=TroubleConfig)
    keepalive_s: float | None = 15.0  # something is sent at least so often (RFC 6263); None: not


@dataclass(frozen=True, slots=True)
class HeaderExtensions:
    """What packets hold beside sound (RFC 8285): identifiers, 0 of what is not sent, or not read.

    *_level: audio levels (RFC 6464); `voice`: their V bit has a meaning. send_time: abs-send-time.
    """

    send_level: int = 0
    send_time: int = 0
    receive_level: int = 0
    voice: bool = True


@dataclass(frozen=True, slots=True)
class ConnectStream:
    """Apply a negotiated session description: addresses, formats, direction, packet time.

    Given again after every new offer/answer. `send_format` None: nothing can be sent.
    """

    stream: int
    rtp: Address | None
    rtcp: Address | None
    send_format: PayloadFormat | None
    receive_formats: tuple[PayloadFormat, ...]
    send: bool = True
    receive: bool = True
    ptime_ms: int = 20
    send_dtmf: PayloadFormat | None = None
    receive_dtmf: tuple[PayloadFormat, ...] = ()  # those that are telephone-event
    hear_tones: bool = False  # digits are listened for in the sound, too, where it is decoded
    decode_for_tones: bool = False  # and it is decoded for that, though it is relayed
    rtcp_mux: bool = False  # RTCP comes and goes by the RTP port (RFC 5761)
    rtcp_rsize: bool = False  # RTCP may come and go without a report (RFC 5506)
    redundancy: int = 0  # how many packets before it each one repeats, by `send_redundancy`
    send_redundancy: PayloadFormat | None = None  # RFC 2198
    receive_redundancy: tuple[PayloadFormat, ...] = ()
    rtcp_ask_round_trip: bool = False  # by XR, while nothing is sent (RFC 3611, 4.4)
    send_noise: PayloadFormat | None = None  # comfort noise (RFC 3389) that the peer takes
    receive_noise: tuple[PayloadFormat, ...] = ()
    dtx: bool = False  # send `send_noise` while nobody speaks, and nothing else
    extensions: HeaderExtensions = HeaderExtensions()


@dataclass(frozen=True, slots=True)
class ProtectStream:
    """Send and hear `stream` by SRTP only, with these keys from now on; other keys may follow.

    None: nothing is sent, or heard, as long as there are no keys. It cannot be undone.
    """

    stream: int
    send: SrtpKeys | None
    receive: SrtpKeys | None


@dataclass(frozen=True, slots=True)
class MuteStream:
    """Send silence instead of sound; packets go on."""

    stream: int
    muted: bool


@dataclass(frozen=True, slots=True)
class RouteStream:
    """Send on `stream` what is heard on `source` (the same number: echo; None: nothing).

    relay: payloads go on as they come while both speak the same format and nothing else is to be
    done to the sound, telephone-events too; else, and otherwise, sound is decoded and coded anew.
    """

    stream: int
    source: int | None
    relay: bool = False


@dataclass(frozen=True, slots=True)
class OpenMix:
    """Begin a mix: streams that hear each other (`MixStream`).

    Its number, `stream`, is one among the streams': rings are bound to it as to a stream, and
    `CloseStream` ends it. It hears the sum of what its streams say; what it sends they all hear.
    """

    stream: int


@dataclass(frozen=True, slots=True)
class MixStream:
    """Send on `stream` what all others in mix number `mix` say (None: it is in no mix any more).

    gain: of what it says in their ears, linear; 0: nothing. hears: whether it hears them.
    heard_by: the streams that hear it, and no others (None: all); the mix's number: who holds it.
    listens_to: the streams that it hears, and no others; of those that are heard by some only, it
    must be one of these.
    """

    stream: int
    mix: int | None
    gain: float = 1.0
    hears: bool = True
    heard_by: tuple[int, ...] | None = None
    listens_to: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class ShapeMix:
    """Let only the `loudest` streams of a mix be heard at a time (None: all).

    speakers: tell who talks in it (`SpeakersChanged`).
    """

    stream: int
    loudest: int | None = None
    speakers: bool = False


@dataclass(frozen=True, slots=True)
class Announce:
    """Let all in a mix hear ring number `ring`, who holds it too (None: nothing)."""

    stream: int
    ring: int | None


@dataclass(frozen=True, slots=True)
class SetSource:
    """Send on `stream` the PCM of ring number `ring` of the arena (None: nothing)."""

    stream: int
    ring: int | None


@dataclass(frozen=True, slots=True)
class AddSink:
    """Write what `stream` hears, or sends with `sent=True`, to ring number `ring`.

    part: of a mix, only what that stream says in it, silence while it is not there.
    """

    stream: int
    ring: int
    sent: bool = False
    part: int | None = None


@dataclass(frozen=True, slots=True)
class AddPairSink:
    """Write what `stream` hears and sends to ring number `ring`, sample by sample in pairs.

    From the next step on, without a gap: silence where nothing is heard or sent. `RemoveSink`
    ends it. The ring has room for an even number of samples; its rate is that of each side.
    """

    stream: int
    ring: int


@dataclass(frozen=True, slots=True)
class SetBeep:
    """Add a beep to what `stream` sends, muted or not, every so often (frequency None: no more).

    heard: also to what is heard on it, and so to whom that is sent on.
    """

    stream: int
    frequency_hz: float | None
    duration_s: float = 0.5
    every_s: float = 15.0
    level_dbm0: float = -20.0
    heard: bool = True


@dataclass(frozen=True, slots=True)
class RemoveSink:
    """Stop writing to ring number `ring`."""

    stream: int
    ring: int


@dataclass(frozen=True, slots=True)
class SendDtmf:
    """Queue digits for sending by RFC 4733; refused where no telephone-event was negotiated."""

    stream: int
    digits: str
    duration_ms: int = 100
    gap_ms: int = 60


@dataclass(frozen=True, slots=True)
class SendXr:
    """Send report blocks (RFC 3611) with the next RTCP report; by themselves with `rtcp_rsize`.

    `ReferenceTime()` is stamped then. Refused where more waits than fits a packet.
    """

    stream: int
    blocks: tuple[XrBlock, ...]


@dataclass(frozen=True, slots=True)
class SendApp:
    """Likewise an APP packet (RFC 3550, 6.7): name of 4 octets, data of words, subtype to 31."""

    stream: int
    name: bytes
    data: bytes = b""
    subtype: int = 0


@dataclass(frozen=True, slots=True)
class WatchStream:
    """Tell of the peer's silence (`MediaSilent`) after every `silent_s` of it, counted from now."""

    stream: int
    silent_s: float


@dataclass(frozen=True, slots=True)
class LogJitter:
    """Log what a jitter buffer does, the last `events`; 0: no more."""

    stream: int
    events: int = 10_000


@dataclass(frozen=True, slots=True)
class ReadJitterLog:
    """Ask for lines of a log, from number `since` on, up to 500. Its result is `JitterLines`."""

    stream: int
    since: int = 0


@dataclass(frozen=True, slots=True)
class ReadStats:
    """Ask for the figures of one stream. Its result is `StreamStats`."""

    stream: int


@dataclass(frozen=True, slots=True)
class LinkOut:
    """Write what `stream` hears, or what is said here in mix `stream`, to link number `link`.

    A link brings sound from one engine to another: see `voip.media.links`.
    """

    stream: int
    link: int


@dataclass(frozen=True, slots=True)
class LinkIn:
    """Send on `stream` too what link number `link` brings, or let all in mix `stream` hear it."""

    stream: int
    link: int


@dataclass(frozen=True, slots=True)
class Unlink:
    """Neither write to nor read from link number `link` any more."""

    stream: int
    link: int


@dataclass(frozen=True, slots=True)
class CloseStream:
    """Send RTCP BYE, release ports and row; what is not open stays so.

    Its result is the last `StreamStats`. Of a mix: its streams go on without it.
    """

    stream: int


Command = (
    OpenStream
    | ConnectStream
    | ProtectStream
    | MuteStream
    | RouteStream
    | OpenMix
    | MixStream
    | ShapeMix
    | Announce
    | SetSource
    | AddSink
    | AddPairSink
    | RemoveSink
    | SetBeep
    | SendDtmf
    | SendXr
    | SendApp
    | WatchStream
    | LogJitter
    | LinkOut
    | LinkIn
    | Unlink
    | ReadJitterLog
    | ReadStats
    | CloseStream
)
