"""What one offer and its answer come to, as seen from our side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from voip.sdp.answers import SHARED
from voip.sdp.capability import COMFORT_NOISE, OWN_DTX, AudioCapability
from voip.sdp.description import Direction, MediaDescription, SessionDescription
from voip.sdp.extensions import AgreedExtension, agreed_extensions
from voip.sdp.format import RtpFormat
from voip.sdp.matching import Match
from voip.sdp.redundancy import RED, repeating
from voip.sdp.telephone_event import TELEPHONE_EVENT
from voip.types import Address

__all__ = ["MAX_PTIME_MS", "PTIME_STEP_MS", "RTCP_MUX", "RTCP_RSIZE", "AgreedAudio", "agree"]

RTCP_MUX, RTCP_RSIZE = "rtcp-mux", "rtcp-rsize"
"""Attributes of RFC 5761 (section 5.1) and RFC 5506 (section 5), which both sides must give."""

MAX_PTIME_MS = 200
"""The longest packet a receiver must take (RFC 3551, section 4.2); we send none longer."""

PTIME_STEP_MS = 10
"""Packets are made of such steps: other wishes are rounded down, and up to one step."""


@dataclass(frozen=True, slots=True)
class AgreedAudio:
    """The audio stream of a dialog after offer and answer.

    `active` is False where there is none: rejected, stopped (port 0), or not described at all
    (`media_index` None); then nothing else has a meaning. Addresses are the peer's, None where
    nothing may be sent (hold by 0.0.0.0); a `host` may be a name if the peer wrote one.
    `send_format` and `send_events` have the peer's numbers, `receive_formats` and
    `receive_events` ours; events are telephone-event (RFC 4733), `fmtp` of `send_events` those
    that both know. `send_redundancy`, None where it may not be done, and `receive_redundancy` are
    what repeats speech (RFC 2198). `rtcp_mux`: RTCP goes where RTP does (RFC 5761), and
    `remote_rtcp` is the same; `rtcp_rsize`: it may be of reduced size (RFC 5506). `direction` is
    ours, after both sides. `remote_hold`: the peer does not want to hear us now. `send_noise`,
    `receive_noise`: comfort noise (RFC 3389), the former of the clock of what we send, and where
    that has no DTX of its own. `extensions`: what RTP headers may be extended by (RFC 8285).
    """

    media_index: int | None
    active: bool = False
    remote_rtp: Address | None = None
    remote_rtcp: Address | None = None
    send_format: RtpFormat | None = None
    receive_formats: tuple[RtpFormat, ...] = ()
    send_events: RtpFormat | None = None
    receive_events: tuple[RtpFormat, ...] = ()
    send_redundancy: RtpFormat | None = None
    receive_redundancy: tuple[RtpFormat, ...] = ()
    ptime_ms: int = 20
    direction: Direction = Direction.INACTIVE
    remote_hold: bool = False
    rtcp_mux: bool = False
    rtcp_rsize: bool = False
    send_noise: RtpFormat | None = None
    receive_noise: tuple[RtpFormat, ...] = ()
    extensions: tuple[AgreedExtension, ...] = ()

    @property
    def can_send(self) -> bool:
        """Whether we may send sound, and know where to."""
        return self.direction.sends and self.remote_rtp is not None

    @property
    def can_receive(self) -> bool:
        """Whether the peer may send us sound."""
        return self.direction.receives


def agree(
    index: int,
    ours: MediaDescription,
    session: SessionDescription,
    theirs: MediaDescription,
    found: Sequence[Match],
    *,
    hold_unless_told: bool | None,
    ptime_ms: int,
) -> AgreedAudio:
    """Return what our m-line and the peer's come to; `session` is the peer's description.

    `found`: the formats of both, in the order of the answer; without speech there is no stream.
    `hold_unless_told`: whether the peer holds us, where its direction was not free to say
    (None: it was). `ptime_ms`: what we send where nobody asks otherwise.
    """
    speech = next((match for match in found if match.capability.is_speech), None)
    if speech is None:
        return AgreedAudio(index)
    rtp = session.rtp_address(theirs)
    theirs_direction = session.direction_of(theirs)
    hold = not theirs_direction.receives if hold_unless_told is None else hold_unless_told
    mux = _both(RTCP_MUX, ours, theirs)
    red = tuple(f for f in ours.encodings if f.name == RED)
    return AgreedAudio(
        media_index=index,
        active=True,
        remote_rtp=rtp,
        remote_rtcp=rtp if mux else session.rtcp_address(theirs),
        send_format=_with_common(speech.remote, found),
        receive_formats=tuple(
            _with_common(f, found)
            for f in ours.encodings
            if f.name not in (TELEPHONE_EVENT, RED, COMFORT_NOISE)
        ),
        send_events=_send_events(found, speech.remote.clock_rate),
        receive_events=tuple(f for f in ours.encodings if f.name == TELEPHONE_EVENT),
        send_redundancy=repeating(theirs.encodings, speech.remote) if red else None,
        receive_redundancy=red,
        ptime_ms=_packet_time(speech.capability, theirs, ptime_ms),
        direction=(ours.direction or Direction.SENDRECV) & theirs_direction.mirrored,
        remote_hold=hold or rtp is None,
        rtcp_mux=mux,
        rtcp_rsize=_both(RTCP_RSIZE, ours, theirs),
        send_noise=_send_noise(found, speech.remote),
        receive_noise=tuple(f for f in ours.encodings if f.name == COMFORT_NOISE),
        extensions=agreed_extensions(ours, session, theirs),
    )


def _both(attribute: str, ours: MediaDescription, theirs: MediaDescription) -> bool:
    return all(attribute in (one.name for one in side.attributes) for side in (ours, theirs))


def _with_common(format_: RtpFormat, found: Sequence[Match]) -> RtpFormat:
    """Return a format with the parameters that hold for both sides, where the codec has such."""
    if format_.name not in SHARED:
        return format_
    common = (m.capability.fmtp for m in found if m.capability.encoding == format_.encoding)
    return replace(format_, fmtp=next(common, format_.fmtp))


def _send_events(found: Sequence[Match], clock_rate: int) -> RtpFormat | None:
    """Return telephone-event of the speech's clock, any other where there is none."""
    events = [match for match in found if match.capability.name == TELEPHONE_EVENT]
    events.sort(key=lambda match: match.remote.clock_rate != clock_rate)
    if not events:
        return None
    return events[0].capability.as_format(events[0].remote.payload_type)


def _send_noise(found: Sequence[Match], speech: RtpFormat) -> RtpFormat | None:
    """Return the comfort noise that may stand for silence in `speech`, if there is one."""
    if speech.name in OWN_DTX:
        return None
    wanted = (COMFORT_NOISE, speech.clock_rate, 1)
    return next((match.remote for match in found if match.remote.encoding == wanted), None)


def _packet_time(capability: AudioCapability, theirs: MediaDescription, default: int) -> int:
    wanted = theirs.ptime_ms or capability.ptime_ms or default
    longest = min(theirs.maxptime_ms or MAX_PTIME_MS, capability.maxptime_ms or MAX_PTIME_MS)
    return max(min(wanted, longest, MAX_PTIME_MS) // PTIME_STEP_MS, 1) * PTIME_STEP_MS
