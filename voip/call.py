"""One call, as an application sees it."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from voip.account import Account
from voip.arguments import HeaderLines, header_lines
from voip.call_sound import CallSound
from voip.callbacks import Callback, Callbacks, Spawn
from voip.devices.device import AudioDevice
from voip.devices.link import DeviceLink
from voip.digits import Digits
from voip.errors import CallStateError, ConfigError, VoipError
from voip.events import (
    AudioOverrun,
    CallbackFailed,
    CallEnded,
    CallEvent,
    CallState,
    DeviceLost,
    DtmfReceived,
    DtmfSent,
    Replaced,
    SourceLearned,
    TroubleOver,
)
from voip.journal import Journal
from voip.logs.lines import CallLog
from voip.media.answers import DtmfReceived as DigitHeard
from voip.media.answers import DtmfSent as DigitsSent
from voip.media.answers import EngineEvent, SourceDrained, StreamStats, TroubleBegan, TroubleEnded
from voip.media.answers import SourceLearned as MediaSourceLearned
from voip.media.jitter_log import jitter_csv
from voip.parts import PartMethod
from voip.protecting import Protecting
from voip.quality.report import QualityReport
from voip.session.audio import AudioReader, CallAudio
from voip.session.event_log import EventLog
from voip.session.figures import quality_of
from voip.session.info import Info
from voip.session.session import CallSession
from voip.session.speech import Speech
from voip.session.transfer import Beside, attended, refer
from voip.sip.headers import Headers
from voip.sip.identity import Identity
from voip.sip.reason import Reason
from voip.sip.replaces import place_of
from voip.sip.uri import SipUri
from voip.successors import Successors

__all__ = ["Call"]

MAX_TARGETS = 10
"""Places that a caller can be sent on to at once."""


class Call:
    """A call that was dialled or came in; made by `Softphone`, never by applications.

    Methods return when the thing has happened on the wire, and raise `CallError` when it has not.
    `rate` is the sample rate, in Hz, of the PCM given to and taken from this call.
    """

    account: Account | None  # whom we called as, or who was called; None: the phone has none
    replaces: Call | None = None  # whose place it takes once it is answered (RFC 3891)
    replaced_by: Call | None = None  # what has taken its place
    conference: Any = None  # the `Conference` of ours that it is in
    bridged = False  # by `voip.b2bua`, which goes on with who takes its place
    auto_answered = False  # by the phone itself, because the caller asked for that

    def __init__(
        self,
        call_id: str,
        spawn: Spawn,
        report: Callable[[CallbackFailed], None],
        resolve: Callable[[str], SipUri] = SipUri.parse,
        account: Account | None = None,
    ) -> None:
        self.id = call_id
        self.account = account
        self._resolve = resolve
        self._report = report
        self._spawn = spawn
        self._events: EventLog[CallEvent] = EventLog()
        self.successors: Successors[Call] = Successors()  # who comes in the other side's place

    def _bind(self, session: CallSession, beside: Beside) -> None:
        self._session = session
        self._beside = beside
        self.log.know(call_id=self.id)
        if self.account is not None:
            self.log.know(account=str(self.account.aor))
        self._journal = Journal(self.log)
        self._callbacks = Callbacks(self._spawn, self._emit, self.log)
        self._audio = CallAudio(
            session.stack,
            session.media,
            lambda lost_ms: self._emit(AudioOverrun(lost_ms)),
            self.log,
        )
        self._sound = CallSound(self.id, session, self._audio, self._events, self._emit)
        self._digits = Digits(session, self._events, self._audio, self._sound.play)
        session.hold_changed = self._on_hold
        self._parts: Mapping[type, Any] = {
            Digits: self._digits,
            CallSound: self._sound,
            Protecting: Protecting(session),
        }

    def __repr__(self) -> str:
        way = "to" if self.outgoing else "from"
        return f"<Call {way} {self.remote}: {self.state.value}>"

    # ------------------------------------------------------------ what it is

    @property
    def log(self) -> CallLog:
        """The logger of this call: its lines carry `call_id`, which is `id`, and who it is with."""
        return self._session.log

    @property
    def outgoing(self) -> bool:
        """Whether we dialled."""
        return self._session.outgoing

    @property
    def remote(self) -> str:
        """URI of the other side."""
        return self._session.remote.uri

    @property
    def remote_name(self) -> str:
        """Display name of the other side, "" where it has none."""
        return self._session.remote.display or ""

    @property
    def dialled(self) -> str:
        """URI that was called: the INVITE's Request-URI, "" before there is one."""
        request = self._session.invite_request
        return request.uri if request is not None else ""

    @property
    def state(self) -> CallState:
        """Where the call is."""
        return self._session.state

    @property
    def is_focus(self) -> bool:
        """Whether the other side says that it is a conference (`isfocus`, RFC 4579)."""
        dialog = self._session.current_dialog
        return dialog is not None and dialog.remote_is_focus

    @property
    def rings_here(self) -> bool:
        """Whether whoever called should hear a ringing tone of our own now.

        The callee rings, and no sound of its own has come (RFC 3960 section 3.2).
        """
        return self._session.rings_here

    @property
    def rate(self) -> int:
        """Samples a second of this call's PCM."""
        return self._audio.rate

    @property
    def codec(self) -> str | None:
        """Encoding name of what we send, None before that is agreed on."""
        return self._session.media.codec

    @property
    def ended(self) -> CallEnded | None:
        """How the call ended, None while it has not."""
        return self._session.end

    @property
    def stats(self) -> StreamStats:
        """Figures of the call's sound: at most a second old, the final ones when it is over."""
        return self._session.media.stats

    @property
    def media_timeout_s(self) -> float | None:
        """How long nothing may come before the call is ended: see `CallConfig`.

        It may be set at any time, and is counted from then on.
        """
        return self._session.presence.media_timeout_s

    @media_timeout_s.setter
    def media_timeout_s(self, seconds: float | None) -> None:
        self._session.presence.media_timeout_s = seconds

    @property
    def ping_s(self) -> float | None:
        """How often the other side is asked whether it is there: see `CallConfig`.

        It may be set at any time, and is counted from then on.
        """
        return self._session.presence.ping_s

    @ping_s.setter
    def ping_s(self, seconds: float | None) -> None:
        self._session.presence.ping_s = seconds

    async def measure(self) -> StreamStats:
        """Return the figures of this very moment."""
        return await self._session.media.read_stats()

    @property
    def quality(self) -> QualityReport:
        """How the call sounded, by `stats`."""
        return quality_of(self.stats)

    def header(self, name: str) -> str | None:
        """Return a header of the INVITE that came in, or of the answer to ours."""
        session = self._session
        message = session.answer_response if session.outgoing else session.invite_request
        return message.headers.get(name) if message is not None else None

    @property
    def headers(self) -> Headers:
        """All headers of the INVITE that came in, or of the latest response to ours."""
        session = self._session
        message = session.response if session.outgoing else session.invite_request
        return message.headers.copy() if message is not None else Headers()

    @property
    def place(self) -> str:
        """A URI by which somebody else takes our place in this call: who dials it replaces us.

        To be sent by any way, a text for one (RFC 5359 section 2.6); `transfer` asks the other
        side instead. `CallStateError` where the call is not up.
        """
        dialog = self._session.dialog
        if dialog is None or not self._session.is_up:
            raise CallStateError(f"the call is {self.state.value}", hint="answered, and not over")
        return str(place_of(dialog))

    @property
    def end_headers(self) -> Headers:
        """All headers of what the other side ended the call with: BYE, CANCEL or a refusal."""
        message = self._session.farewell
        return message.headers.copy() if message is not None else Headers()

    @property
    def end_reasons(self) -> list[Reason]:
        """Why the other side says it ended the call (RFC 3326)."""
        return Reason.of(self.end_headers)

    @property
    def identity(self) -> Identity | None:
        """Who the other side is said to be, and how far that is to be believed.

        None before it has said anything. What `NetworkConfig.trusted` does not vouch for is a
        claim that anybody may make.
        """
        session = self._session
        message = session.response if session.outgoing else session.invite_request
        return None if message is None else Identity.of(message, trusted=session.is_trusted)

    # ------------------------------------------------------------ signalling

    # `headers` are added to what is sent: a mapping, or pairs where a name stands more than once.

    async def ring(self, headers: HeaderLines = ()) -> None:
        """Tell the caller that it rings (180)."""
        await self._session.callee.ring(header_lines(headers))

    async def progress(self, headers: HeaderLines = ()) -> None:
        """Let the caller hear us before the call is answered (183).

        Where the INVITE has no offer we make one, and sound begins with the caller's answer; that
        needs a caller who knows reliable provisional responses, else `CallStateError`.
        """
        await self._session.callee.progress(header_lines(headers))

    async def answer(self, headers: HeaderLines = ()) -> None:
        """Answer; returns when the caller has acknowledged it."""
        await self._session.callee.answer(header_lines(headers))

    async def reject(
        self, status: int = 486, reason: str | None = None, *, headers: HeaderLines = ()
    ) -> None:
        """Refuse an incoming call: busy (486) unless told otherwise."""
        await self._session.callee.reject(status, reason, header_lines(headers))

    async def redirect(
        self, *targets: str, reason: str = "unconditional", headers: HeaderLines = ()
    ) -> None:
        """Send the caller on (302): to `targets`, URIs or numbers, the first of them first.

        reason: why, as Diversion has it (RFC 5806): "unconditional", "user-busy", "no-answer" ...
        """
        if not 1 <= len(targets) <= MAX_TARGETS:
            raise ConfigError(f"{len(targets)} targets", hint=f"1 to {MAX_TARGETS}")
        uris = [self._resolve(target) for target in targets]
        await self._session.callee.redirect(uris, reason, header_lines(headers))

    async def cancel(self) -> None:
        """Give up a call of ours that is not answered; `CallStateError` once it is."""
        if not self.outgoing or self._session.is_up:
            raise CallStateError(f"the call is {self.state.value}", hint="hang up instead")
        await self._session.hangup()

    async def hangup(self, headers: HeaderLines = ()) -> None:
        """End the call, whatever its state: BYE, CANCEL (without `headers`) or a refusal."""
        await self._session.hangup(header_lines(headers))

    async def hold(self) -> None:
        """Put the other side on hold; before the answer too, where it knows UPDATE."""
        await self._session.hold()

    async def resume(self) -> None:
        """Take the other side off hold."""
        await self._session.resume()

    async def transfer(self, target: str | Call, *, timeout: float = 60.0) -> None:
        """Connect the other side with somebody else, and leave the call.

        target: whom it is to call (as `Softphone.dial` takes it); or a call of ours that is up,
        whose other side it is to go on with. Returns when it reports that it has, and hangs up;
        raises `CallError` with the status it reports where that came to nothing, and the call goes
        on. `TransferProgress` tells how it goes.
        """
        whom = target.remote if isinstance(target, Call) else target
        self.log.event(logging.INFO, "transfer_asked", "the other side is to call %s", whom)
        try:
            if isinstance(target, Call):
                await attended(
                    self._session, target._session, self._beside, timeout=timeout, tell=self._emit
                )
                await target._session.leave()
            else:
                uri = self._resolve(target)
                await refer(self._session, uri, self._beside, timeout=timeout, tell=self._emit)
        except VoipError as error:
            self.log.event(
                logging.WARNING, "transfer_failed", "%s", error.message, status=error.status
            )
            raise
        await self.hangup()

    async def send_info(
        self, package: str, body: bytes = b"", content_type: str | None = None
    ) -> None:
        """Say something of an Info package (RFC 6086) in the call.

        Returns when it has been taken, raises `CallError` where it is not (469: not this package).
        """
        await self._session.send_info(Info(package, body, content_type))

    async def wait_answered(self, timeout: float | None = None) -> None:
        """Return when the call is up; after `timeout` seconds it is given up."""
        await self._session.wait_answered(timeout)

    async def wait_ended(self) -> CallEnded:
        """Return how the call ended, once it has."""
        return await self._session.wait_ended()

    async def __aenter__(self) -> Call:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.hangup()

    # ------------------------------------------------------------ sound

    play = PartMethod(CallSound, CallSound.play)
    player = PartMethod(CallSound, CallSound.player)
    play_tone = PartMethod(CallSound, CallSound.play_tone)

    async def send(self, pcm: npt.NDArray[np.int16]) -> None:
        """Send int16 (samples,) at `rate` after what was sent before; waits while 1 s is queued."""
        await self._audio.send(pcm)

    def audio(self, frame_ms: float = 20, *, rate: int | None = None) -> AudioReader:
        """Return what is heard from now on, as an async iterator of int16 (samples,) frames.

        rate: samples a second, 8000 to 48000, whatever the call's codec; None: `call.rate`. Any
        number of readers hear the same, each for itself, and change nothing for anybody else.
        A reader more than a second behind loses the oldest and is told by `AudioOverrun`.
        """
        return self._audio.reader(frame_ms, rate)

    record = PartMethod(CallSound, CallSound.record)
    keep_sound = PartMethod(CallSound, CallSound.keep_sound)
    set_hold_music = PartMethod(CallSound, CallSound.set_hold_music)

    def attach(self, device: AudioDevice, *, latency_ms: float = 30.0) -> DeviceLink:
        """Return a link with a sound device: `async with call.attach(device) as link:`.

        What is heard is played by it, and what it captures is sent while nothing else is played.
        latency_ms: of sound held back each way against its moods, beside its own blocks. One that
        vanishes is told by `DeviceLost`; the call goes on in silence (`link.use` takes another).
        """
        if not 5 <= latency_ms <= 500:
            raise ConfigError(f"a latency of {latency_ms} ms cannot be had", hint="5 to 500")
        return DeviceLink(self._audio, device, latency_ms / 1000, self._lost_device)

    def _lost_device(self, name: str, reason: str) -> None:
        self._emit(DeviceLost(name, reason))

    mute = PartMethod(CallSound, CallSound.mute)
    unmute = PartMethod(CallSound, CallSound.unmute)
    echo = PartMethod(CallSound, CallSound.echo)

    async def hear(self, other: Call) -> None:
        """Let the other side of this call hear that of `other`, and not the other way round.

        It may be early: before either is answered. Raises `CallStateError` unless both are of one
        phone.
        """
        if self._session.stack is not other._session.stack or self is other:
            raise CallStateError("these calls cannot be connected", hint="two calls of one phone")
        await self._session.media.route(other._session.media.stream, relay=True)

    async def bridge(self, other: Call) -> None:
        """Let both sides hear each other, and leave it at that until either call ends.

        While both speak the same codec and nothing is done to the sound (played, muted, mixed,
        other digits sent), packets are relayed as they come, digits too; what only listens, such
        as `audio` and `record`, changes nothing of that. Else sound is decoded and coded anew.

        Raises `CallStateError` unless both calls are of one phone and are up.
        """
        mine, theirs = self._session, other._session
        if mine.stack is not theirs.stack or self is other:
            raise CallStateError("these calls cannot be bridged", hint="two calls of one phone")
        if not (mine.is_up and theirs.is_up):
            raise CallStateError("both calls must be up to be bridged")
        await mine.media.route(theirs.media.stream, relay=True)
        try:
            await theirs.media.route(mine.media.stream, relay=True)
        except VoipError:  # that call ended at this moment
            await mine.media.route(None)
            raise

    async def log_jitter(self, events: int = 10_000) -> None:
        """Log what the jitter buffer does from now on, the last `events`; 0: no more."""
        await self._session.media.log_jitter(events)

    async def jitter_log(self) -> str:
        """Return that log as CSV, the oldest line first: when what was changed, and the figures.

        `MediaError` where none is kept. voip.media.jitter_log says what stands in it.
        """
        return jitter_csv(await self._session.media.jitter_lines())

    def speech(self, rate: int) -> Speech:
        """Return a queue of sound to send that can be taken back: for agents, `voip.agents`."""
        return Speech(self._audio, rate)

    # ------------------------------------------------------------ digits

    send_dtmf = PartMethod(Digits, Digits.send_dtmf)
    collect = PartMethod(Digits, Digits.collect)
    protect = PartMethod(Protecting, Protecting.protect)

    # ------------------------------------------------------------ events

    async def events(self) -> AsyncIterator[CallEvent]:
        """Yield what happened, from the beginning, and what happens, until the call is over."""
        async for event in self._events.follow():
            yield event

    def on_event(self, callback: Callback) -> Callback:
        """Call back (function or coroutine function) with every event from now on."""
        self._callbacks.add(None, callback)
        return callback

    def on_dtmf(self, callback: Callback) -> Callback:
        """Call back with every `DtmfReceived` from now on."""
        self._callbacks.add(DtmfReceived, callback)
        return callback

    def on_ended(self, callback: Callback) -> Callback:
        """Call back with `CallEnded`."""
        self._callbacks.add(CallEnded, callback)
        return callback

    def _emit(self, event: CallEvent) -> None:
        """Note an event and tell of it; what happens meanwhile is told after it."""
        if self._events.ended:  # nothing comes after `CallEnded`
            return
        if isinstance(event, DtmfReceived) and self._digits.has_heard(event):
            return  # as it came another way
        if isinstance(event, CallEnded):
            self._tell_replaced()
        self._events.add(event)
        self._journal.tell(event, self._session)
        if isinstance(event, DtmfReceived):
            self._digits.heard(event.digit)
        if isinstance(event, CallEnded):
            self._events.end()
            self._audio.end()
            self._sound.end()
            self._callbacks.end(self._report)
        self._callbacks.tell(event)

    def _give_place(self, new: Call) -> None:
        """Take it that `new` has taken this call's place; tell so once."""
        if self.replaced_by is None:
            self.replaced_by = new
            self._emit(Replaced(new))

    def _tell_replaced(self) -> None:
        """Tell of one that has been answered in our place before the end, though not acknowledged.

        Its ACK was lost: the transferor has heard of the answer from elsewhere, and hung up.
        """
        for new in self.successors.calls:
            if new.replaces is self and new._session.is_answered and new.ended is None:
                self._give_place(new)

    def _on_hold(self, held: bool) -> None:
        if self._sound.has_hold_music:
            self._spawn(self._sound.hold_changed(held))

    def _on_media(self, event: EngineEvent) -> None:
        match event:
            case DigitHeard(_, digit, duration_ms, relayed, in_band):
                way: Literal["rfc4733", "in-band"] = "in-band" if in_band else "rfc4733"
                self._emit(DtmfReceived(digit, duration_ms, relayed, way))
            case DigitsSent(_, digits):
                self._emit(DtmfSent(digits))
            case MediaSourceLearned(_, address):
                self._emit(SourceLearned(address))
            case SourceDrained(_, ring):
                self._audio.on_source_drained(ring)
            case TroubleBegan(_, trouble):
                self._emit(trouble)
            case TroubleEnded(_, trouble):
                self._emit(TroubleOver(trouble))
            case _:
                pass

    async def _close(self) -> None:
        """Let go of what the application left open; the call is over."""
        await self._audio.close()
