"""What the engine says: answers, figures, and what has happened; plain frozen values."""

from __future__ import annotations

from dataclasses import dataclass, field

from voip.events import MediaTrouble
from voip.rtp.xr import XrBlock
from voip.types import Address

__all__ = [
    "AppReceived",
    "Applied",
    "DtmfReceived",
    "DtmfSent",
    "EngineEvent",
    "MediaHeard",
    "MediaSilent",
    "Opened",
    "Refused",
    "SourceDrained",
    "SourceFigures",
    "SourceLearned",
    "SpeakersChanged",
    "SsrcChanged",
    "StreamEnded",
    "StreamLost",
    "StreamRefused",
    "StreamStats",
    "TroubleBegan",
    "TroubleEnded",
    "XrReceived",
]


@dataclass(frozen=True, slots=True)
class Opened:
    """Where a new stream listens."""

    rtp: Address
    rtcp: Address


@dataclass(frozen=True, slots=True)
class SourceFigures:
    """What was received of one SSRC: packets, and as RFC 3550 counts those lost."""

    ssrc: int
    packets_received: int
    packets_lost: int


@dataclass(frozen=True, slots=True)
class StreamStats:
    """Figures of one stream since it was opened. Absent figures are None, never invented.

    `packets_lost` is RFC 3550's cumulative number lost (expected minus received, may be
    negative with duplicates) of what we receive; `remote_*` is what the peer reported by RTCP of
    what we sent. Levels are dBFS of the last second's loudest step.
    """

    stream: int
    codec: str | None = None
    packets_sent: int = 0
    bytes_sent: int = 0
    packets_received: int = 0
    bytes_received: int = 0
    packets_lost: int = 0
    packets_late: int = 0
    packets_duplicate: int = 0
    packets_recovered: int = 0  # of those lost: heard from what a later one repeated
    blocks_ignored: int = 0  # of packets that repeat others: no sound of ours (RFC 2198)
    packets_reordered: int = 0
    packets_discarded: int = 0  # not RTP, unknown payload type, too long
    packets_from_strangers: int = 0
    packets_forged: int = 0  # on a protected stream: not made with its keys, and dropped
    packets_replayed: int = 0  # likewise: they had come before, or were too old to tell
    packets_withheld: int = 0  # not sent, though counted as such: there were no keys for them
    strangers: tuple[tuple[Address, int], ...] = ()
    jitter_ms: float | None = None
    delay_ms: float | None = None  # what the jitter buffer adds now
    rtt_ms: float | None = None
    remote_packets_lost: int | None = None
    remote_fraction_lost: float | None = None
    remote_jitter_ms: float | None = None
    concealed_ms: float = 0.0  # sound made up for what was missing, up to 60 ms of each gap
    accelerated_ms: float = 0.0  # sound left out, to shorten the delay
    expanded_ms: float = 0.0  # silence and concealment inserted, to lengthen it
    played_ms: float = 0.0
    source_underrun_ms: float = 0.0
    noise_packets_sent: int = 0  # comfort noise (RFC 3389), counted as packets, too
    noise_packets_received: int = 0
    noise_played_ms: float = 0.0  # of what was played: noise, while the peer had nothing to say
    silence_unsent_ms: float = 0.0  # sound that was not sent, because nobody spoke
    silence_share_received: float | None = None  # of what was played; None: nothing was
    silence_share_sent: float | None = None  # of what might be left unsent (`dtx`)
    level_received_dbfs: float | None = None
    level_sent_dbfs: float | None = None
    level_told_dbov: int | None = None  # of the last packet, as it says (RFC 6464); -127: silence
    voice_told: bool | None = None  # likewise: somebody speaks in it
    ssrc_sent: int | None = None
    ssrc_received: int | None = None
    remote: Address | None = None  # where packets come from now
    kernel_timestamps: bool = False
    rtcp_packets_sent: int = 0
    rtcp_packets_received: int = 0
    ssrc_conflicts: int = 0  # packets of others, or our own come back, with an SSRC of ours
    clock_drift_ppm: float | None = None  # how fast the sender's clock goes by ours
    report_drift_ppm: float | None = None  # and by its own time of day, as its reports have it
    sources: tuple[SourceFigures, ...] = ()  # SSRCs that were heard: the last few, the present one
    # rows J05 by their names
    current_frames: int = 0
    peak_frames: int = 0
    dropped_frames: int = 0
    late_packet_count: int = 0
    buffer_overrun_count: int = 0
    current_delay_ms: float = 0.0
    average_delay_ms: float = 0.0
    estimated_loss_rate: float = 0.0


@dataclass(frozen=True, slots=True)
class JitterLines:
    """Lines of a jitter log, number `first` and those after it: as `voip.media.jitter_log.FIELDS`.

    total: how many there have been so far; a log that is full has forgotten the first ones.
    """

    stream: int
    first: int
    lines: tuple[tuple[object, ...], ...]
    total: int


Answer = Opened | StreamStats | JitterLines | None
"""What comes of a command."""


@dataclass(frozen=True, slots=True)
class Applied:
    """Command number `token` has been applied; `result` as the command's docstring says."""

    token: int
    result: Answer = None


@dataclass(frozen=True, slots=True)
class Refused:
    """Command number `token`, which was about `stream`, was not applied, and why."""

    token: int
    stream: int
    message: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class DtmfReceived:
    """A digit was heard on `stream`: delivered once, when it ended or timed out.

    relayed: its packets went on to whom `stream` is routed (`RouteStream`). in_band: it was heard
    in the sound, which goes wherever that goes.
    """

    stream: int
    digit: str
    duration_ms: float
    relayed: bool = False
    in_band: bool = False


@dataclass(frozen=True, slots=True)
class DtmfSent:
    """The queue of digits of `stream` has gone out."""

    stream: int
    digits: str


@dataclass(frozen=True, slots=True)
class SourceDrained:
    """All samples of ring number `ring`, which was closed, have been sent on `stream`."""

    stream: int
    ring: int


@dataclass(frozen=True, slots=True)
class SourceLearned:
    """The peer of `stream` sends from another address than it said, and was believed."""

    stream: int
    address: Address


@dataclass(frozen=True, slots=True)
class MediaSilent:
    """Neither RTP nor RTCP has come from the peer of `stream` for `seconds`, though it might.

    `reports_stopped`: the peer has reported by RTCP and missed the last five reports: it is gone,
    as RFC 3550 section 6.3.5 has it. Only that is told of a peer that is not to be heard.
    """

    stream: int
    seconds: float
    reports_stopped: bool = False


@dataclass(frozen=True, slots=True)
class MediaHeard:
    """Something has come from the peer of `stream` again, after `MediaSilent`."""

    stream: int


@dataclass(frozen=True, slots=True)
class TroubleBegan:
    """Something is wrong with the sound of `stream`."""

    stream: int
    trouble: MediaTrouble


@dataclass(frozen=True, slots=True)
class TroubleEnded:
    """What was told of by `TroubleBegan` is over."""

    stream: int
    trouble: MediaTrouble


@dataclass(frozen=True, slots=True)
class StreamRefused:
    """What was agreed on for `stream` cannot be done: a codec, or an address that leads nowhere."""

    stream: int
    message: str


@dataclass(frozen=True, slots=True)
class StreamEnded:
    """The peer of `stream` said RTCP BYE."""

    stream: int
    reason: str = field(default="")


@dataclass(frozen=True, slots=True)
class StreamLost:
    """The engine of `stream` is gone, and the stream with it: the process it ran in has died."""

    stream: int
    reason: str


@dataclass(frozen=True, slots=True)
class SsrcChanged:
    """We send as another source: somebody else sent with our SSRC (RFC 3550, 8.2)."""

    stream: int
    before: int
    ssrc: int


@dataclass(frozen=True, slots=True)
class XrReceived:
    """The peer of `stream` reported more by XR (RFC 3611); some a second are told of."""

    stream: int
    ssrc: int
    blocks: tuple[XrBlock, ...]


@dataclass(frozen=True, slots=True)
class AppReceived:
    """The peer of `stream` sent an APP packet (RFC 3550, 6.7); some a second are told of."""

    stream: int
    ssrc: int
    name: bytes
    data: bytes
    subtype: int


@dataclass(frozen=True, slots=True)
class SpeakersChanged:
    """Who talks in mix number `stream` now: streams, the loudest first, and how loud they are.

    levels: mean squares of half a second.
    """

    stream: int
    speakers: tuple[int, ...]
    levels: tuple[float, ...] = ()


EngineEvent = (
    Applied
    | AppReceived
    | SsrcChanged
    | XrReceived
    | Refused
    | DtmfReceived
    | DtmfSent
    | MediaHeard
    | MediaSilent
    | SourceDrained
    | SourceLearned
    | SpeakersChanged
    | StreamEnded
    | StreamLost
    | StreamRefused
    | TroubleBegan
    | TroubleEnded
)
