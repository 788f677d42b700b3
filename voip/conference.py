"""A conference that this phone holds: its calls hear each other, and it hears and speaks to all.

Its URI stands in the Contact of each of its calls with `isfocus` (RFC 4579, RFC 5359 section 2.10).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from os import PathLike
from typing import Literal, overload

import numpy as np
import numpy.typing as npt

from voip.account import Account
from voip.call import Call
from voip.callbacks import Callback
from voip.circles import Circles
from voip.conference_news import ConferenceNews
from voip.conference_settings import Settings
from voip.desk import Desk
from voip.dialling import Dialling
from voip.entry_tones import Announcements
from voip.errors import CallError, CallStateError, ConfigError, VoipError
from voip.events import (
    CallEnded,
    CallEvent,
    CallState,
    ConferenceEvent,
    PartyJoined,
    PartyLeft,
    Replaced,
    Transferred,
)
from voip.handing_over import connect, send_all
from voip.logs.lines import CallLog
from voip.media.answers import EngineEvent, SourceDrained, SpeakersChanged
from voip.media.control import MAX_GAIN
from voip.media.record.plan import plan_of
from voip.party_recording import PartyRecording
from voip.referring import dialog_of
from voip.roster import Roster, Users, described
from voip.session.audio import AudioReader, CallAudio
from voip.session.media import Share
from voip.session.mix import Announcer, Mix
from voip.session.playing import play, program_of
from voip.session.recording import FileRecording
from voip.sip.headers import NameAddr

__all__ = ["Conference"]

_USER_CHARS = 12


class Conference:
    """Calls of one phone that hear each other; made by `Softphone.conference`.

    Each hears the sum of all others and what the phone says to all (`play`, `send`), never itself.
    A call that ends leaves it; one that takes its place (a transfer) takes its part. Who is on hold
    hears nothing, and what is played by those who hold us is not heard. `async with` ends all calls
    at the end of the block.
    """

    def __init__(
        self, desk: Desk, dialling: Dialling, held: dict[str, Conference], settings: Settings
    ) -> None:
        self.user = f"conf-{desk.stack.random.token(_USER_CHARS)}"
        """Its name in our Contacts: who calls it there wants to take part."""
        self._desk = desk
        self._dialling = dialling
        self._held = held  # the phone's conferences that are open, by name
        self._shares: dict[Call, Share] = {}
        self._states: list[CallState] = []  # as they were last told of
        self._followed: dict[Call, Callback] = {}  # what the parties tell of what happens to them
        self._settings = settings
        self._mix = Mix(desk.stack, partial(_rate, settings, self._shares))
        self._log = CallLog(conference=self.user)
        self._new_audio()
        announce = self._settings.announce
        self._announcements = Announcements(desk.stack, announce, self._log) if announce else None
        self._circles = Circles()
        self._recordings: list[PartyRecording] = []
        wanted = partial(_tell_speakers, desk, self._mix, settings)
        self._news = ConferenceNews(desk.spawn, self._log, wanted)
        self.roster = Roster(desk, self.user, partial(_users, desk, self._shares))
        """Tells those who watch the conference who is in it."""
        self._unsubscribe: Callable[[], None] | None = None

    async def open(self) -> None:
        """Begin it, with nobody; `MediaError` where others carry this phone's sound."""
        await self._mix.open()
        self._unsubscribe = self._desk.stack.driver.subscribe(self._on_media)
        self._desk.stack.agent.focuses.add(self.user)
        self._held[self.user] = self
        if self._settings.loudest is not None:
            await _shape(self._mix, self._settings, speakers=self._news.is_wanted)

    @property
    def rate(self) -> int:
        """Samples a second of what is played, sent, read and recorded here.

        Where it was not set, the highest that a party had when sound was first played or read; each
        party hears the others at the rate of its own codec, whatever this is.
        """
        return self._audio.rate

    @property
    def is_open(self) -> bool:
        """Whether it has not ended; it may be that nobody is in it."""
        return self._mix.is_open

    def __repr__(self) -> str:
        return f"<Conference of {', '.join(call.remote for call in self._shares) or 'nobody'}>"

    # ------------------------------------------------------------ who takes part

    @property
    def uri(self) -> str:
        """Its address, as the first party knows it: who calls that wants to take part.

        Raises `CallStateError` while nobody is there.
        """
        for call in self._shares:
            return NameAddr.parse(dialog_of(call).contact).uri
        raise CallStateError("nobody is in the conference", hint="add a call first")

    @property
    def parties(self) -> list[Call]:
        """The calls that take part, in the order in which they came."""
        return list(self._shares)

    async def add(
        self,
        party: Call | str,
        *,
        timeout: float | None = 30.0,
        account: Account | str | None = None,
    ) -> Call:
        """Let a call that is up take part, or call somebody to it; returns the call.

        A call on hold is taken off it. Raises `CallStateError` for a call that cannot take part,
        `CallError` and `NoAnswerError` as `Softphone.dial`.
        """
        self._mix.check_carried()
        if isinstance(party, str):
            line = self._desk.lines.of(account)
            uri = line.account.dial_uri(party)
            party = await self._dialling.dial(
                line, uri, wait="answered", timeout=timeout, headers=(), focus=self.user
            )
        if party not in self._desk.calls.values():
            raise CallStateError("this call cannot take part", hint="a call of this phone")
        if party.conference is not None:
            raise CallStateError(f"{party.remote} is in a conference", hint="remove it there")
        await self._enter(party, Share(self._mix.number))
        return party

    async def _enter(self, call: Call, share: Share) -> None:
        session = call._session
        if not session.is_up:
            raise CallStateError(f"the call is {call.state.value}", hint="wait for its answer")
        call.conference = self
        try:
            if session.focus != self.user or session.changes.held_by_us:
                await self._name(call)
            await session.media.route(None)
            await session.media.mix(self._circles.within(call, share))
            if not self._mix.is_open or call.ended is not None:
                raise CallStateError("the call or the conference ended meanwhile")
        except BaseException:
            call.conference = session.focus = None
            with suppress(VoipError):  # it may be over, or the conference
                await session.media.mix(None)
            raise
        if self._audio.over:
            self._new_audio()
        self._shares[call] = share
        self.roster.changed()
        self._tell(PartyJoined(call))
        for recording in self._recordings:
            self._desk.spawn(recording.joined(call))
        if call not in self._followed:
            self._followed[call] = call.on_event(partial(self._happened, call))

    async def _name(self, call: Call) -> None:
        """Tell the other side that it is in a conference; it may know nothing of such."""
        try:
            await call._session.name_focus(self.user, resume=True)
        except CallError as error:
            if not call._session.is_up or call._session.changes.held_by_us:
                raise
            call.log.info("%s is in a conference and does not hear of it: %s", call.remote, error)

    async def remove(self, call: Call) -> None:
        """Let a call go on by itself; `call.hangup()` ends it instead."""
        self._share(call)
        self._forget(call)
        session = call._session
        with suppress(CallStateError):  # it ends at this moment
            await session.media.mix(None)
            try:
                await session.name_focus(None)
            except CallError as error:
                call.log.info("it still takes us for a conference: %s", error)

    async def kick(self, call: Call) -> None:
        """Have a party hear nothing and be heard by nobody any more, and end its call."""
        self._share(call)
        with suppress(CallStateError):  # it ends at this moment
            await call._session.media.mix(None)
        await call.hangup()

    def _share(self, call: Call) -> Share:
        try:
            return self._shares[call]
        except KeyError:
            raise CallStateError(
                f"{call.remote} is not in the conference", hint="add it first"
            ) from None

    def _forget(self, call: Call) -> None:
        self._shares.pop(call, None)
        call.conference = None
        call._callbacks.drop(self._followed.pop(call))
        self._circles.forget(call)
        self._news.fall_silent(call)
        self._tell(PartyLeft(call))
        for recording in self._recordings:
            self._desk.spawn(recording.left(call))
        self.roster.leave(call)
        self.roster.changed()
        if not self._shares:
            self._end_audio()

    def _happened(self, call: Call, event: CallEvent) -> None:
        share = self._shares.get(call)
        if share is None:
            return
        if isinstance(event, CallEnded):
            self._forget(call)
            if call.successors and call.successors.taken is None:
                self._desk.spawn(self._succeed_later(call, share))
        elif isinstance(event, Transferred | Replaced):
            self._desk.spawn(self._succeed(call, event.call, share))

    async def _succeed_later(self, call: Call, share: Share) -> None:
        """Let who is called at the wish of one that has left take its part, once answered."""
        new = await call.successors.settled()
        if new is not None:
            await self._succeed(call, new, share)

    async def _succeed(self, old: Call, new: Call, share: Share) -> None:
        """Let a call take the part of the one whose place it has taken."""
        named = self._circles.succeed(old, new)
        try:
            await self._enter(new, share)
        except VoipError as error:
            new.log.warning("it cannot take part in the conference: %s", error)
        for call in named:
            if call in self._shares:
                with suppress(CallStateError):  # it ends at this moment
                    await self._adjust(call, self._shares[call])

    # ------------------------------------------------------------ who hears whom

    async def mute(self, call: Call) -> None:
        """Let nobody hear a party."""
        await self._adjust(call, replace(self._share(call), gain=0.0))

    async def unmute(self, call: Call) -> None:
        """Let a party be heard again, as loud as it is."""
        await self._adjust(call, replace(self._share(call), gain=1.0))

    async def deafen(self, call: Call) -> None:
        """Let a party hear nobody."""
        await self._adjust(call, replace(self._share(call), hears=False))

    async def undeafen(self, call: Call) -> None:
        """Let a party hear the others again."""
        await self._adjust(call, replace(self._share(call), hears=True))

    async def set_gain(self, call: Call, gain_db: float) -> None:
        """Let a party be louder or softer in the others' ears: up to +20 dB."""
        gain = 10 ** (min(gain_db, 1000) / 20)
        if not gain <= MAX_GAIN:
            raise ConfigError(f"{gain_db} dB cannot be had", hint="up to 20 dB")
        await self._adjust(call, replace(self._share(call), gain=gain))

    async def whisper(self, call: Call, *listeners: Call) -> None:
        """Let a party be heard by these only; without any, by all again.

        The host does not hear it either, nor what records the mix.
        """
        share = self._share(call)
        for listener in listeners:
            self._share(listener)
        self._circles.whisper(call, listeners)
        await self._adjust(call, share)

    async def listen(self, call: Call, *speakers: Call) -> None:
        """Let a party hear these only, the host neither; without any, all again."""
        share = self._share(call)
        for speaker in speakers:
            self._share(speaker)
        self._circles.listen(call, speakers)
        await self._adjust(call, share)

    async def coach(self, coach: Call, agent: Call) -> None:
        """Let one party speak to another alone, and hear all: a coach, whom customers do not hear.

        `whisper(coach)` ends it.
        """
        await self.whisper(coach, agent)

    async def _adjust(self, call: Call, share: Share) -> None:
        self._shares[call] = share
        await call._session.media.mix(self._circles.within(call, share))
        self.roster.changed()

    def calls_changed(self) -> None:
        """Have those told who watch, if a party has been held, or is heard again."""
        self.roster.leave_ended()
        states = [call.state for call in self._shares]
        if states != self._states:
            self._states = states
            self.roster.changed()

    # ------------------------------------------------------------ what happens in it

    @property
    def speakers(self) -> tuple[Call, ...]:
        """Who speaks now, the loudest first; known while somebody listens to events."""
        return self._news.speakers

    def events(self) -> AsyncIterator[ConferenceEvent]:
        """Yield what happens from now on, until it is over: who comes, goes and speaks."""
        return self._news.follow()

    def on_event(self, callback: Callback) -> Callback:
        """Call back (function or coroutine function) with every event from now on."""
        self._news.call_back(callback)
        return callback

    def _tell(self, event: PartyJoined | PartyLeft) -> None:
        self._news.tell(event)
        if self._announcements is not None and self._shares:
            self._desk.spawn(self._announcements.tell(event, self._announced))

    # ------------------------------------------------------------ the phone's own part

    async def play(
        self, source: str | PathLike[str] | npt.NDArray[np.int16], *, loop: bool = False
    ) -> None:
        """Let all hear a WAV file or int16 (samples,): see `Call.play`.

        Ends with the last party.
        """
        await play(self._desk.stack, self._own_audio(), program_of(source, loop=loop))

    async def send(self, pcm: npt.NDArray[np.int16]) -> None:
        """Let all hear int16 (samples,) after what was sent before: see `Call.send`."""
        await self._own_audio().send(pcm)

    def audio(self, frame_ms: float = 20) -> AudioReader:
        """Return the sum of what all parties say from now on: see `Call.audio`.

        It ends with the last party.
        """
        return self._own_audio().reader(frame_ms)

    @overload
    def record(
        self,
        path: str | PathLike[str],
        *,
        rate_hz: int | None = None,
        per_party: Literal[False] = False,
    ) -> FileRecording: ...

    @overload
    def record(
        self, path: str | PathLike[str], *, rate_hz: int | None = None, per_party: Literal[True]
    ) -> PartyRecording: ...

    def record(
        self, path: str | PathLike[str], *, rate_hz: int | None = None, per_party: bool = False
    ) -> FileRecording | PartyRecording:
        """Return a recording of that: see `Call.record`.

        per_party: another file for each party beside it (`PartyRecording.paths`).
        """
        audio, stack = self._own_audio(), self._desk.stack
        if not per_party:
            return FileRecording(stack, audio, plan_of(path, rate_hz=rate_hz))
        self._recordings = [one for one in self._recordings if not one.is_over]
        recording = PartyRecording(
            stack, self._mix, audio, path, rate_hz, lambda: self.parties, self._log
        )
        self._recordings.append(recording)
        return recording

    def _own_audio(self) -> CallAudio:
        self._mix.check_carried()
        if not self._shares:
            raise CallStateError("nobody is in the conference", hint="add a call first")
        return self._audio

    def _new_audio(self) -> None:
        stack, announcer = self._desk.stack, Announcer(self._mix)
        self._audio = CallAudio(stack, self._mix, self._lost, self._log)
        self._announced = CallAudio(stack, announcer, self._lost, self._log)

    def _end_audio(self) -> None:
        for audio in (self._audio, self._announced):
            if not audio.over:
                audio.end()
                self._desk.spawn(audio.close())
        recordings, self._recordings = self._recordings, []
        for recording in recordings:
            self._desk.spawn(recording.release())

    def _lost(self, lost_ms: float) -> None:
        self._log.warning("a reader of %r was too slow and lost %.0f ms", self, lost_ms)

    def _on_media(self, event: EngineEvent) -> None:
        if isinstance(event, SourceDrained) and event.stream == self._mix.number:
            self._audio.on_source_drained(event.ring)
            self._announced.on_source_drained(event.ring)
        elif isinstance(event, SpeakersChanged) and event.stream == self._mix.number:
            self._news.speak(event.speakers, self._shares)

    # ------------------------------------------------------------ the end

    async def hand_over(self, target: str | Call | None = None, *, timeout: float = 30.0) -> None:
        """Leave, and let the others go on without us (RFC 5359 section 2.10, RFC 4579).

        target: another conference, by its address or by our call to it: all are sent there, and
        with a call, it is asked to call those that do not go (section 5.10). None: the two that are
        left are connected with each other. Returns when they say that they are; raises `CallError`
        where one is not: who could not be sent is still in this conference.
        """
        calls = [call for call in self._shares if call is not target]
        if target is not None:
            await send_all(self._desk, calls, target, timeout)
        elif len(calls) == 2:
            await connect(calls, timeout)
        else:
            raise CallStateError(
                f"{len(calls)} parties cannot be connected with each other",
                hint="hand over to a conference elsewhere, by its address",
            )
        if isinstance(target, Call) and target in self._shares:
            await self.remove(target)
        await self.close()

    async def dissolve(self) -> None:
        """End the conference, and let every call go on by itself."""
        self.roster.end()
        for call in self.parties:
            await self.remove(call)
        await self._end()

    async def close(self) -> None:
        """End the conference and all its calls; closing twice does nothing."""
        self.roster.end()
        await asyncio.gather(*(call.hangup() for call in self.parties))
        await self._end()

    async def _end(self) -> None:
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
        self._desk.stack.agent.focuses.discard(self.user)
        self._held.pop(self.user, None)
        self._end_audio()
        self._news.end()
        await self._mix.close()

    async def __aenter__(self) -> Conference:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()


# What the parts of a conference ask of it, of no more than they need: what referred to the whole
# would keep it, after its end, until the next time that garbage is collected.


def _rate(settings: Settings, shares: Mapping[Call, Share]) -> int:
    return settings.rate or max((call.rate for call in shares), default=8000)


def _users(desk: Desk, shares: Mapping[Call, Share]) -> Users:
    """Say who takes part: the host, as the first party knows it, and the parties."""
    first = next(iter(shares), None)
    line = desk.lines.first if first is None else desk.lines.of_call(first.account)
    return described(line.account.identity(), shares)


async def _shape(mix: Mix, settings: Settings, *, speakers: bool) -> None:
    if mix.is_open:
        await mix.shape(settings.loudest, speakers=speakers)


def _tell_speakers(desk: Desk, mix: Mix, settings: Settings) -> None:
    desk.spawn(_shape(mix, settings, speakers=True))
