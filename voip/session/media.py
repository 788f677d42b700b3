"""The media half of a session: one stream of the engine, described and agreed on by SDP."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass

from voip.errors import CallStateError, MediaError, SdpError
from voip.ip import address_of
from voip.logs.lines import CallLog
from voip.media.answers import JitterLines, Opened, StreamStats
from voip.media.commands import (
    AddPairSink,
    AddSink,
    CloseStream,
    Command,
    ConnectStream,
    LogJitter,
    MixStream,
    MuteStream,
    OpenStream,
    PayloadFormat,
    ProtectStream,
    ReadJitterLog,
    ReadStats,
    RemoveSink,
    RouteStream,
    SendDtmf,
    SetBeep,
    SetSource,
)
from voip.media.elsewhere import no_sound
from voip.media.record.plan import Beep
from voip.rtp.jitter_policy import jitter_policy
from voip.rtp.srtp.keys import SrtpKeys
from voip.sdp.agreement import AgreedAudio
from voip.sdp.description import Direction
from voip.sdp.format import RtpFormat
from voip.sdp.negotiation import NegotiationState, Negotiator
from voip.sdp.parser import parse
from voip.session.formats import agreed_extensions, header_extensions, rate_of
from voip.session.stack import Stack
from voip.types import Address

__all__ = ["SDP", "MediaSession", "Share"]

SDP = "application/sdp"
_CLEAR = frozenset(("pcmu", "pcma", "g722", "l16"))
"""Codecs that leave tones as they are."""


@dataclass(frozen=True, slots=True)
class Share:
    """A part in a mix, while nobody is on hold: see `MixStream`."""

    mix: int
    gain: float = 1.0
    hears: bool = True
    heard_by: tuple[int, ...] | None = None
    listens_to: tuple[int, ...] | None = None


class MediaSession:
    """Opens a stream, negotiates it and tells the engine what was agreed."""

    def __init__(self, stack: Stack, log: CallLog) -> None:
        self._stack = stack
        self._log = log
        self.stream = next(stack.streams)
        self._measured = StreamStats(self.stream)
        self.local_rtp: Address | None = None
        self._negotiator: Negotiator | None = None
        self._unanswered: Negotiator | None = None  # as it was before anybody answered our INVITE
        self._branches: dict[object, Negotiator] = {}
        self.followed: object | None = None
        """Which of several exchanges is ours now (see `follow`)."""
        self._share: Share | None = None
        self._beeps: dict[object, Beep] = {}
        self._protection: ProtectStream | None = None
        self._open = False
        self._toward = self._advertised = ""  # what it is bound to, and described by
        self._closed = False
        self._turn = asyncio.Lock()  # opening and closing come one after the other

    @property
    def is_open(self) -> bool:
        """Whether the stream has ports and a row."""
        return self._open

    @property
    def agreed(self) -> AgreedAudio | None:
        """What the last offer and answer came to."""
        return self._negotiator.agreed if self._negotiator else None

    @property
    def codec(self) -> str | None:
        """Encoding name of what we send."""
        agreed = self.agreed
        return agreed.send_format.name if agreed and agreed.send_format else None

    @property
    def rate_hz(self) -> int:
        """Samples a second of its sound."""
        return rate_of(self.agreed.send_format if self.agreed else None)

    @property
    def held_by_remote(self) -> bool:
        """Whether the peer does not want to hear us."""
        return bool(self.agreed and self.agreed.remote_hold)

    @property
    def awaits_answer(self) -> bool:
        """Whether an offer of ours has no answer yet."""
        talks = self._negotiator
        return talks is not None and talks.state is NegotiationState.OFFER_SENT

    @property
    def has_offered(self) -> bool:
        """Whether we have made an offer, answered or not, and the peer none since."""
        return self._negotiator is not None and self._negotiator.has_offered

    async def open(self, peer_host: str, advertised: str) -> None:
        """Bind ports on the address used towards `peer_host`, and describe them by `advertised`.

        Opening twice does nothing. `CallStateError` after `close`.
        """
        stack = self._stack
        media = stack.media
        policy = jitter_policy(media.jitter_policy, media.jitter_min_ms, media.jitter_max_ms)
        command = OpenStream(
            self.stream,
            toward := stack.local_host(peer_host),
            cname=f"{stack.random.token(12)}@{advertised}",
            jitter_min_ms=policy.min_ms,
            jitter_max_ms=policy.max_ms,
            jitter_allowance=policy.allowance,
            symmetric=stack.media.symmetric,
            troubles=stack.media.troubles,
            keepalive_s=stack.media.keepalive_s,
        )
        async with self._turn:
            self._refuse_if_closed()
            if self._open:
                return
            try:
                opened = await stack.driver.apply(command)
                if self._protection is not None:
                    await stack.driver.apply(self._protection)
            except BaseException:  # it may be opened all the same, and nobody wants it
                self._close_soon()
                raise
            if not isinstance(opened, Opened):
                raise MediaError("the media engine opened no stream")
            self._open = True
            self._toward, self._advertised = toward, advertised
        if stack.media.elsewhere is not None:
            advertised = opened.rtp.host
        self._refuse_if_closed()  # it waits for its turn
        self.local_rtp = Address(advertised, opened.rtp.port)
        self._negotiator = Negotiator(
            stack.capabilities,
            address=self.local_rtp,
            rtcp=Address(advertised, opened.rtcp.port),
            random=stack.random,
            ptime_ms=stack.media.ptime_ms,
            session_name="voip",
            rtcp_mux=stack.media.rtcp_mux,
            rtcp_rsize=stack.media.rtcp_rsize,
            redundancy=stack.media.redundancy > 0,
            header_extensions=header_extensions(stack.media),
        )

    async def move(self, peer_host: str, advertised: str) -> None:
        """Open it anew where the address used towards `peer_host` is another than it is bound to.

        For a call that nobody has answered: what was read from it and sent by it is let go of.
        """
        if not self._open or (self._toward, self._advertised) == (
            self._stack.local_host(peer_host),
            advertised,
        ):
            return
        async with self._turn:
            self._refuse_if_closed()
            self._open = False
            await self._stack.driver.apply(CloseStream(self.stream))
        await self.open(peer_host, advertised)

    def check_carried(self) -> None:
        """Raise `CallStateError` without a stream (yet), `MediaError` where it is not with us."""
        if not self._open:
            raise CallStateError("the call has no sound yet", hint="answer it first")
        if self._stack.media.elsewhere is not None:
            raise no_sound()

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise CallStateError("the call is over")

    # ------------------------------------------------------------ offer and answer

    @property
    def _talks(self) -> Negotiator:
        if self._negotiator is None:
            raise MediaError("the stream is not open")
        return self._negotiator

    @property
    def direction(self) -> Direction:
        """What we want, whatever the peer leaves of it."""
        return self._talks.direction

    def follow(self, branch: object | None) -> None:
        """Go on with the exchange of one of those whom our INVITE has reached; None: as before.

        The first time it begins with what the INVITE offered, whatever others have made of it.
        """
        if branch is None or branch is self.followed:
            return
        if self._unanswered is None:
            self._unanswered = self._talks.fork()
            self._branches[branch] = self._talks
        elif branch not in self._branches:
            self._branches[branch] = self._unanswered.fork()
        self.followed = branch
        self._negotiator = self._branches[branch]

    def follow_only(self) -> None:
        """Forget the other exchanges: the present one is the call's."""
        self._branches.clear()
        self._unanswered = self.followed = None

    def offer(self, direction: Direction | None = None) -> bytes:
        """Return our offer."""
        return self._talks.create_offer(direction).to_bytes()

    def take_answer(self, body: bytes) -> AgreedAudio:
        """Take the peer's answer; raises `SdpError` where it is none, or wants no audio."""
        agreed = self._talks.receive_answer(parse(body))
        if not agreed.active:
            raise SdpError("the peer wants no audio", hint="it answered with port 0", status=488)
        return agreed

    def answer(self, offer: bytes) -> bytes:
        """Take the peer's offer and return our answer; raises `SdpError` (400, 488, 491, 500)."""
        self._talks.receive_offer(parse(offer))
        return self._talks.create_answer().to_bytes()

    def abandon(self) -> None:
        """Take an unanswered offer back, by whomever it was; without one nothing happens."""
        if self._negotiator is not None:
            self._negotiator.abandon()

    # ------------------------------------------------------------ the engine

    async def connect(self) -> None:
        """Tell the engine what was agreed; returns when it has been applied."""
        await self._apply(self._connect_command())

    def connect_soon(self) -> None:
        """Tell the engine what was agreed, without waiting."""
        if self._open:
            self._stack.driver.post(self._connect_command())
            if self._share is not None:
                self._stack.driver.post(self._mix_command())

    def _connect_command(self) -> ConnectStream:
        agreed = self.agreed
        if agreed is None:
            raise MediaError("nothing has been agreed on yet")
        rtp = self._numeric(agreed.remote_rtp)
        send = agreed.send_format
        events, noise = agreed.send_events, agreed.send_noise
        repeats = agreed.send_redundancy if self._stack.media.redundancy else None
        return ConnectStream(
            self.stream,
            rtp,
            self._numeric(agreed.remote_rtcp) if rtp is not None else None,
            _payload_format(send) if send else None,
            tuple(_payload_format(item) for item in agreed.receive_formats),
            send=agreed.active and agreed.can_send and rtp is not None,
            receive=agreed.active and agreed.can_receive,
            ptime_ms=min(agreed.ptime_ms, 120),
            send_dtmf=_payload_format(events) if events else None,
            receive_dtmf=tuple(_payload_format(item) for item in agreed.receive_events),
            hear_tones=self._hears_tones(agreed),
            decode_for_tones=self._stack.media.tones_heard == "always",
            rtcp_mux=agreed.rtcp_mux,
            rtcp_rsize=agreed.rtcp_rsize,
            redundancy=self._stack.media.redundancy,
            send_redundancy=_payload_format(repeats) if repeats else None,
            receive_redundancy=tuple(_payload_format(item) for item in agreed.receive_redundancy),
            send_noise=_payload_format(noise) if noise else None,
            receive_noise=tuple(_payload_format(item) for item in agreed.receive_noise),
            dtx=self._stack.media.dtx,
            extensions=agreed_extensions(agreed),
        )

    def _hears_tones(self, agreed: AgreedAudio) -> bool:
        """Whether digits are listened for in the sound: where they cannot come another way."""
        asked = self._stack.media.tones_heard
        if asked != "auto":
            return asked == "always"
        names = {item.name.lower() for item in agreed.receive_formats}
        return agreed.send_events is None and bool(names & _CLEAR)

    def _numeric(self, address: Address | None) -> Address | None:
        """Return `address` unless its host is a name: media go to addresses, names are for SIP."""
        if address is None:
            return None
        try:
            address_of(address.host)
        except ValueError:
            words = "the peer's media address %s is a name; nothing is sent there"
            self._log.event(logging.WARNING, "media_nowhere", words, address.host)
            return None
        return address

    def fall_silent(self) -> None:
        """Tell the engine that nobody is to be heard, nor sent to."""
        if self._open:
            self._stack.driver.post(
                ConnectStream(self.stream, None, None, None, (), send=False, receive=False)
            )

    async def mute(self, muted: bool) -> None:
        """Send silence, or sound again."""
        await self._apply(MuteStream(self.stream, muted))

    async def protect(self, send: SrtpKeys | None, receive: SrtpKeys | None) -> None:
        """Send and hear by SRTP only, with these keys, or not at all without; see `ProtectStream`.

        It may be said before there is a stream, and goes for those that take its place.
        """
        if self._stack.media.elsewhere is not None:
            raise no_sound()
        self._refuse_if_closed()
        command = ProtectStream(self.stream, send, receive)
        async with self._turn:
            self._refuse_if_closed()
            if self._open:
                await self._apply(command)
            self._protection = command

    async def log_jitter(self, events: int) -> None:
        """Log what the jitter buffer does, the last `events`; 0: no more."""
        await self._apply(LogJitter(self.stream, events))

    async def jitter_lines(self) -> list[tuple[object, ...]]:
        """Return what is in that log; `MediaError` where none is kept."""
        found: list[tuple[object, ...]] = []
        since = 0
        while True:
            answer = await self._stack.driver.apply(ReadJitterLog(self.stream, since))
            if not isinstance(answer, JitterLines):
                return found
            found += answer.lines
            since = answer.first + len(answer.lines)
            if since >= answer.total or not answer.lines:
                return found

    async def route(self, source: int | None, *, relay: bool = False) -> None:
        """Send what is heard on stream `source` (our own number: echo), or nothing (None).

        relay: as it comes, where nothing is to be done to it.
        """
        await self._apply(RouteStream(self.stream, source, relay))

    async def mix(self, share: Share | None) -> None:
        """Take part in a mix from now on, or in none (None).

        Who is on hold hears nothing of it, and the music of who holds us is not heard in it.
        """
        self._share = share
        await self._apply(self._mix_command())

    def _mix_command(self) -> MixStream:
        share = self._share
        if share is None:
            return MixStream(self.stream, None)
        return MixStream(
            self.stream,
            share.mix,
            gain=0.0 if self.held_by_remote else share.gain,
            hears=share.hears and self.direction.receives,
            heard_by=share.heard_by,
            listens_to=share.listens_to,
        )

    async def send_dtmf(self, digits: str, duration_ms: int, gap_ms: int) -> None:
        """Queue digits (RFC 4733)."""
        await self._apply(SendDtmf(self.stream, digits, duration_ms, gap_ms))

    async def add_sink(self, ring: int) -> None:
        """Write what is heard to ring number `ring`."""
        await self._apply(AddSink(self.stream, ring))

    async def add_pair_sink(self, ring: int) -> None:
        """Write what is heard and what is sent to ring number `ring`, in pairs."""
        await self._apply(AddPairSink(self.stream, ring))

    async def beep(self, owner: object, beep: Beep | None) -> None:
        """Let a beep be heard every so often, or no more; the latest of several that are wanted."""
        self._beeps.pop(owner, None)
        if beep is not None:
            self._beeps[owner] = beep
        beep = next(reversed(self._beeps.values()), None)
        if beep is None:
            await self._apply(SetBeep(self.stream, None))
            return
        await self._apply(
            SetBeep(
                self.stream,
                beep.frequency_hz,
                beep.duration_s,
                beep.every_s,
                beep.level_dbm0,
                heard=beep.to == "both",
            )
        )

    async def remove_sink(self, ring: int) -> None:
        """Stop that; nothing happens when the call is over."""
        if self._open:
            await self._stack.driver.apply(RemoveSink(self.stream, ring))

    async def set_source(self, ring: int | None) -> None:
        """Send what is in ring number `ring`, or nothing (None)."""
        await self._apply(SetSource(self.stream, ring))

    async def _apply(self, command: Command) -> None:
        """Let the engine do something; `CallStateError` where the call has no sound (any more)."""
        self._refuse_if_closed()
        if not self._open:
            raise CallStateError("the call has no sound yet", hint="answer it first")
        try:
            await self._stack.driver.apply(command)
        except MediaError:
            self._refuse_if_closed()  # the call ended before the engine came to it
            raise

    @property
    def stats(self) -> StreamStats:
        """Figures at most a second old while the stream is open; the last ones afterwards."""
        measured = self._measured
        recent = self._stack.driver.stats(self.stream) if self._open else None
        if recent is None or _packets(recent) < _packets(measured):
            return measured
        return recent

    async def read_stats(self) -> StreamStats:
        """Ask the engine for the present figures."""
        if self._open:
            result = await self._stack.driver.apply(ReadStats(self.stream))
            if isinstance(result, StreamStats):
                self._measured = result
        return self._measured

    async def close(self) -> None:
        """Close the stream; `stats` are its last figures then. Closing twice does nothing."""
        self._closed = True
        async with self._turn:
            if not self._open:
                return
            self._open = False
            try:
                result = await self._stack.driver.apply(CloseStream(self.stream))
            except BaseException as error:  # it has stopped, or was of no use for a moment
                self._close_soon()
                if not isinstance(error, MediaError):
                    raise
                self._log.debug("closing stream %d: %s", self.stream, error)
            else:
                if isinstance(result, StreamStats):
                    self._measured = result

    def _close_soon(self) -> None:
        """Close the stream if it is open, without waiting."""
        with suppress(MediaError):
            self._stack.driver.post(CloseStream(self.stream))


def _packets(stats: StreamStats) -> int:
    return stats.packets_sent + stats.packets_received


def _payload_format(item: RtpFormat) -> PayloadFormat:
    return PayloadFormat(item.payload_type, item.name, item.clock_rate, item.channels, item.fmtp)
