"""Offer/answer of one dialog for one audio stream (RFC 3264; RFC 6337 where it is silent)."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from enum import Enum

from voip.errors import ConfigError, SdpError
from voip.sdp.agreement import MAX_PTIME_MS, RTCP_MUX, RTCP_RSIZE, AgreedAudio, agree
from voip.sdp.capability import AudioCapability
from voip.sdp.description import (
    Attribute,
    Direction,
    MediaDescription,
    Origin,
    SessionDescription,
    Timing,
)
from voip.sdp.extensions import Extensions, HeaderExtension
from voip.sdp.format import RtpFormat
from voip.sdp.local import LocalAddress
from voip.sdp.matching import PROFILES, Match, Warning3xx, matches, not_acceptable
from voip.sdp.payload_types import PayloadTypes
from voip.sdp.redundancy import answered, offered
from voip.types import Address, Random

__all__ = ["MAX_CAPABILITIES", "NegotiationState", "Negotiator", "Preference"]

MAX_CAPABILITIES = 24
"""Encodings of one negotiator: fewer than there are free dynamic payload types."""

_SESSION_IDS = 1 << 31
"""Session ids stay below: there are telephones that read them into 32 bits."""


class NegotiationState(Enum):
    """Where offer and answer stand."""

    IDLE = "idle"
    OFFER_SENT = "offer sent"
    OFFER_RECEIVED = "offer received"
    AGREED = "agreed"


class Preference(Enum):
    """Whose order of codecs our answer follows (RFC 3264, 6.1 recommends the offerer's)."""

    OFFERER = "offerer"
    OURS = "ours"


@dataclass(frozen=True, slots=True)
class _Offer:
    """An offer of ours: which m-line is the audio, and what it stands for."""

    description: SessionDescription
    index: int
    capabilities: tuple[AudioCapability, ...]
    family: int


@dataclass(frozen=True, slots=True)
class _Proposal:
    """What an answer to their offer comes to, with `numbers` given out."""

    wanted: Direction
    agreed: AgreedAudio
    streams: tuple[MediaDescription, ...]
    numbers: PayloadTypes
    extensions: Extensions


class Negotiator:
    """Makes and judges the session descriptions of one dialog.

    `capabilities` in order of preference; `address` and `rtcp` (None: the next port) are where
    we receive; `ptime_ms` is the packet time we ask for, and send where nobody asks otherwise;
    `direction` is what we want, whatever the peer leaves of it (`set_direction`). `rtcp_mux`,
    `rtcp_rsize`: whether we offer these, and agree to them (RFC 5761, RFC 5506). `redundancy`:
    whether we offer that speech is repeated (RFC 2198), which we agree to in any case.
    `header_extensions`: what we know of what RTP headers may be extended by (RFC 8285).

    An operation that raises has changed nothing. ConfigError: the caller's values cannot be;
    SdpError: the order is wrong (status 491 or 500 where it is a peer's offer), or the peer's
    description is (status 400, or 488 with `warning` and `warning_text` in its context).
    """

    def __init__(
        self,
        capabilities: Sequence[AudioCapability],
        *,
        address: Address,
        random: Random,
        rtcp: Address | None = None,
        ptime_ms: int = 20,
        direction: Direction = Direction.SENDRECV,
        preference: Preference = Preference.OFFERER,
        username: str = "-",
        session_name: str = "-",
        rtcp_mux: bool = False,
        rtcp_rsize: bool = False,
        redundancy: bool = False,
        header_extensions: Sequence[HeaderExtension] = (),
    ) -> None:
        if not 1 <= ptime_ms <= MAX_PTIME_MS:
            raise ConfigError(f"ptime_ms={ptime_ms}", hint=f"1 to {MAX_PTIME_MS} ms")
        if not username or any(character.isspace() for character in username):
            raise ConfigError(f"{username!r} cannot stand in an o= line", hint='one word, or "-"')
        if not session_name or any(character in session_name for character in "\r\n\0"):
            raise ConfigError(f"{session_name!r} cannot stand in an s= line", hint='"-" will do')
        self._capabilities = _checked(capabilities)
        self._local = LocalAddress.of(address, rtcp)
        self._ptime_ms = ptime_ms
        self._redundancy = redundancy
        self._preference = preference
        self._session_name = session_name
        known = ((RTCP_MUX, rtcp_mux), (RTCP_RSIZE, rtcp_rsize))
        self._attributes = tuple(Attribute(name) for name, wanted in known if wanted)
        session_id = 1 + random.below(_SESSION_IDS - 1)
        self._origin = Origin(username, session_id, 0, self._local.connection)
        self._sent: SessionDescription | None = None
        self._numbers = PayloadTypes()
        self._extensions = Extensions(header_extensions)
        self._direction = direction
        self._direction_before = direction
        self._agreed: AgreedAudio | None = None
        self._streams: tuple[MediaDescription, ...] = ()  # m-lines of both sides, by position
        self._our_offer: _Offer | None = None  # kept when answered: the answer may come again
        self._unanswered = False
        self._their_offer: SessionDescription | None = None
        self._proposal: _Proposal | None = None  # while nothing it was made of has changed

    @property
    def state(self) -> NegotiationState:
        """Where offer and answer stand."""
        if self._their_offer is not None:
            return NegotiationState.OFFER_RECEIVED
        if self._unanswered:
            return NegotiationState.OFFER_SENT
        return NegotiationState.IDLE if self._agreed is None else NegotiationState.AGREED

    @property
    def agreed(self) -> AgreedAudio | None:
        """What the last complete exchange agreed on; None before the first."""
        return self._agreed

    @property
    def direction(self) -> Direction:
        """What we want: the next offer says it, the next answer as much of it as it may."""
        return self._direction

    @property
    def has_offered(self) -> bool:
        """Whether the last offer was ours: an answer to it may come, or come again."""
        return self._our_offer is not None

    def set_direction(self, direction: Direction) -> None:
        """Want another direction: SENDONLY or INACTIVE to hold, SENDRECV to resume.

        It lasts until set again, whatever the peer does meanwhile (RFC 6337, section 5.3).
        """
        self._direction = self._direction_before = direction

    def set_address(self, address: Address, rtcp: Address | None = None) -> None:
        """Receive elsewhere, from the next description on."""
        self._local = LocalAddress.of(address, rtcp)
        self._proposal = None

    def set_capabilities(self, capabilities: Sequence[AudioCapability]) -> None:
        """Do other encodings, from the next description on; numbers keep their meaning."""
        self._capabilities = _checked(capabilities)
        self._proposal = None

    def fork(self) -> Negotiator:
        """Return another one in the same state: each whom an offer reaches has an answer."""
        other = copy(self)
        other._numbers = self._numbers.copy()
        other._extensions = self._extensions.copy()
        other._proposal = None
        return other

    # ------------------------------------------------------------ we offer

    def create_offer(self, direction: Direction | None = None) -> SessionDescription:
        """Return our offer; `direction`: as by `set_direction`, and undone by `abandon`.

        The version in its o= line is one more than in the last description made, or the same
        where nothing else changed (RFC 3264, section 8).
        """
        if self.state not in (NegotiationState.IDLE, NegotiationState.AGREED):
            raise self._out_of_order("make an offer")
        wanted = direction or self._direction
        numbers = self._numbers.copy()
        streams = list(self._streams)
        index = self._agreed.media_index if self._agreed else None
        in_use = () if index is None else [one.encoding for one in streams[index].encodings]
        chosen = tuple(
            ours for ours in self._capabilities if ours.offered or ours.encoding in in_use
        )
        formats = _numbered([(ours, None) for ours in chosen], numbers)
        if self._redundancy or (self._agreed and self._agreed.receive_redundancy):
            formats += offered(self._speech(formats), numbers)
        extensions = self._extensions.copy()
        attributes = self._attributes + extensions.offer(
            self._agreed.extensions if self._agreed else (), wanted
        )
        if index is None:
            index = len(streams)
            streams.append(self._audio(formats, "RTP/AVP", wanted, attributes))
        else:
            protocol = streams[index].protocol  # a slot that stood still may have had any
            protocol = protocol if protocol.upper() in PROFILES else "RTP/AVP"
            streams[index] = self._audio(formats, protocol, wanted, attributes)
        timing = self._sent.timing if self._sent else Timing()
        offer = self._describe(tuple(streams), timing)
        family = self._local.connection.family
        self._our_offer = _Offer(offer, index, chosen, family)
        self._unanswered = True
        self._numbers, self._extensions = numbers, extensions
        self._direction_before, self._direction = self._direction, wanted
        return offer

    def receive_answer(self, answer: SessionDescription) -> AgreedAudio:
        """Take the answer to our offer; port 0 makes an agreement that is not `active`.

        The same offer may be answered again (in a 183, then in the 200): the last one holds.
        """
        offer = self._our_offer
        if offer is None:
            raise SdpError(
                "an answer came without an offer", hint="ignore it, or end the call", status=400
            )
        offered = [media.kind.lower() for media in offer.description.media]
        answered = [media.kind.lower() for media in answer.media]
        if answered != offered:
            raise SdpError(
                f"an offer of {_listed(offered)} was answered with {_listed(answered)}",
                hint="an answer repeats the m= lines of its offer (RFC 3264, section 6)",
                status=400,
            )
        ours, theirs = offer.description.media[offer.index], answer.media[offer.index]
        found: tuple[Match, ...] = ()
        if theirs.port:
            found = matches(offer.capabilities, answer, theirs, offer.family)
        before = self._agreed
        free_to_say = ours.direction is None or ours.direction.sends
        agreed = agree(
            offer.index,
            ours,
            answer,
            theirs,
            found,
            hold_unless_told=None if free_to_say else bool(before and before.remote_hold),
            ptime_ms=self._ptime_ms,
        )
        self._agreed, self._streams = agreed, offer.description.media
        self._unanswered = False
        return agreed

    # ------------------------------------------------------------ they offer

    def receive_offer(self, offer: SessionDescription) -> AgreedAudio:
        """Take an offer, and return what answering it now would agree on.

        Raises SdpError: status 488 where nothing fits, 491 while an offer of ours is open, 500
        while one of theirs is (RFC 3261, section 14.2).
        """
        if self.state is NegotiationState.OFFER_SENT:
            raise SdpError("two offers crossed", hint="both sides try again later", status=491)
        if self.state is NegotiationState.OFFER_RECEIVED:
            raise SdpError(
                "a second offer came before the first was answered",
                hint="the peer tries again later",
                status=500,
            )
        self._proposal = self._answer(offer, self._direction)
        self._their_offer, self._our_offer = offer, None
        return self._proposal.agreed

    def create_answer(self, direction: Direction | None = None) -> SessionDescription:
        """Return our answer to the offer received; `direction`: as by `set_direction`."""
        offer = self._their_offer
        if offer is None:
            raise self._out_of_order("make an answer")
        wanted = direction or self._direction
        proposal = self._proposal
        if proposal is None or proposal.wanted is not wanted:
            proposal = self._answer(offer, wanted)
        answer = self._describe(proposal.streams, offer.timing)
        self._agreed, self._streams = proposal.agreed, proposal.streams
        self._their_offer = self._proposal = None
        self._numbers, self._extensions = proposal.numbers, proposal.extensions
        self._direction = wanted
        return answer

    def _answer(self, offer: SessionDescription, wanted: Direction) -> _Proposal:
        numbers, extensions = self._numbers.copy(), self._extensions.copy()
        streams = [media.rejected() for media in offer.media]
        chosen = self._chosen(offer)
        if chosen is None:
            nothing = AgreedAudio(self._former_index(offer))
            return _Proposal(wanted, nothing, tuple(streams), numbers, extensions)
        index, found = chosen
        theirs = offer.media[index]
        if self._preference is Preference.OURS:
            order = [ours.encoding for ours in self._capabilities]
            found = sorted(found, key=lambda match: order.index(match.capability.encoding))
        formats = _numbered(
            [(match.capability, match.remote.payload_type) for match in found], numbers
        )
        kept = {audio.encoding for audio in formats}
        found = [match for match in found if match.capability.encoding in kept]
        formats += answered(theirs.encodings, self._speech(formats), numbers)
        direction = wanted & offer.direction_of(theirs).mirrored
        named = {attribute.name for attribute in theirs.attributes}
        shared = tuple(one for one in self._attributes if one.name in named)
        shared += extensions.answer(offer, theirs, direction)
        streams[index] = self._audio(formats, theirs.protocol, direction, shared)
        agreed = agree(
            index,
            streams[index],
            offer,
            theirs,
            found,
            hold_unless_told=None,
            ptime_ms=self._ptime_ms,
        )
        return _Proposal(wanted, agreed, tuple(streams), numbers, extensions)

    def _chosen(self, offer: SessionDescription) -> tuple[int, Sequence[Match]] | None:
        """Return the m-line that is to be our audio, None where no line is in use.

        The one that already is, or the first that fits. Raises SdpError where none does: what
        is wrong with the audio that comes first.
        """
        in_use = [index for index, media in enumerate(offer.media) if media.port]
        in_use.sort(key=lambda index: index != self._former_index(offer))
        refusals: list[tuple[bool, SdpError]] = []
        for index in in_use:
            media = offer.media[index]
            try:
                family = self._local.connection.family
                return index, matches(self._capabilities, offer, media, family)
            except SdpError as refusal:
                refusals.append((media.kind.lower() != "audio", refusal))
        if refusals:
            raise min(refusals, key=lambda refusal: refusal[0])[1]
        return None

    def _former_index(self, offer: SessionDescription) -> int | None:
        """Return which m-line of an offer stands where our audio is, None where none does."""
        index = self._agreed.media_index if self._agreed else None
        if index is None or index >= len(offer.media):
            return None
        return index if offer.media[index].kind.lower() == "audio" else None

    # ------------------------------------------------------------ neither

    def abandon(self) -> None:
        """Drop an offer that will not be answered (refused, glare, cancelled).

        What was agreed before stays in force; where no offer is open, nothing happens. The
        version of a dropped offer is not used again: the peer may have seen it.
        """
        if self._unanswered:
            self._unanswered = False
            self._our_offer = None
            self._direction = self._direction_before
        self._their_offer = self._proposal = None

    # ------------------------------------------------------------ what we write

    def _audio(
        self,
        formats: Sequence[RtpFormat],
        protocol: str,
        direction: Direction,
        attributes: tuple[Attribute, ...],
    ) -> MediaDescription:
        bounds = [ours.maxptime_ms for ours in self._capabilities if ours.maxptime_ms]
        longest = min(bounds, default=None)
        return MediaDescription(
            kind="audio",
            port=self._local.rtp.port,
            protocol=protocol,
            formats=tuple(str(encoding.payload_type) for encoding in formats),
            encodings=tuple(formats),
            ptime_ms=min(self._ptime_ms, longest or self._ptime_ms),
            maxptime_ms=longest,
            direction=direction,
            rtcp=self._local.rtcp_attribute,
            attributes=attributes,
        )

    def _speech(self, formats: Sequence[RtpFormat]) -> tuple[RtpFormat, ...]:
        speech = {ours.encoding for ours in self._capabilities if ours.is_speech}
        return tuple(one for one in formats if one.encoding in speech)

    def _describe(
        self, streams: tuple[MediaDescription, ...], timing: Timing
    ) -> SessionDescription:
        """Return the description with its version: that of the last where all else is equal."""
        last = self._sent.origin if self._sent else self._origin
        name, connection = self._session_name, self._local.connection
        if self._sent is not None:
            same = SessionDescription(last, name, connection, timing, streams)
            if same == self._sent:
                return same
        origin = Origin(last.username, last.session_id, last.version + 1, last.connection)
        self._sent = SessionDescription(origin, name, connection, timing, streams)
        return self._sent

    def _out_of_order(self, to: str) -> SdpError:
        return SdpError(
            f"cannot {to} now ({self.state.value})",
            hint="complete the open exchange, or abandon() it",
        )


def _checked(capabilities: Sequence[AudioCapability]) -> tuple[AudioCapability, ...]:
    encodings = [ours.encoding for ours in capabilities]
    if len(set(encodings)) < len(encodings):
        raise ConfigError("an encoding is listed twice", hint="name each codec once")
    if len(encodings) > MAX_CAPABILITIES:
        raise ConfigError(f"{len(encodings)} encodings", hint=f"at most {MAX_CAPABILITIES}")
    if not any(ours.is_speech and ours.offered for ours in capabilities):
        raise ConfigError("no encoding that carries speech", hint='add one, such as "pcmu"')
    return tuple(capabilities)


def _numbered(
    wanted: Sequence[tuple[AudioCapability, int | None]], numbers: PayloadTypes
) -> tuple[RtpFormat, ...]:
    """Return formats with our payload types; the number beside each is the peer's wish.

    An encoding for which no number is left (a peer that renumbers again and again) is left out.
    """
    formats = []
    speech = False
    for capability, wish in wanted:
        number = numbers.number(capability, wish)
        if number is not None:
            formats.append(capability.as_format(number))
            speech = speech or capability.is_speech
    if not speech:
        raise not_acceptable(Warning3xx.MEDIA_FORMAT, "all payload types are taken")
    return tuple(formats)


def _listed(kinds: Sequence[str]) -> str:
    return ", ".join(kinds[:8]) or "no stream"
