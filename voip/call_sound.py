"""What a call plays and records."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, Final

from voip.dsp.cadence import parse
from voip.dsp.call_progress import call_progress_tone
from voip.dsp.voice_activity import FRAME_MS, VoiceActivity
from voip.errors import ConfigError, VoipError
from voip.events import CallEvent, DtmfReceived, RecordingFailed
from voip.media.play.opening import MelodyItem, Playable, ToneItem, is_url
from voip.media.play.source import Program
from voip.media.record.plan import Beep, plan_of
from voip.session.audio import CallAudio
from voip.session.event_log import EventLog
from voip.session.playing import HoldMusic, Played, Player, StoppedBy, program_of
from voip.session.recording import FileRecording, PreRoll
from voip.session.session import CallSession

__all__ = ["CallSound"]

_BARGE_IN: Final = {
    None: frozenset[StoppedBy](),
    "dtmf": frozenset({StoppedBy.DTMF}),
    "voice": frozenset({StoppedBy.VOICE}),
    "any": frozenset({StoppedBy.DTMF, StoppedBy.VOICE}),
}


class CallSound:
    """Of one call, whose events go to `emit`. `call_id` is what its log lines carry."""

    def __init__(
        self,
        call_id: str,
        session: CallSession,
        audio: CallAudio,
        events: EventLog[CallEvent],
        emit: Callable[[CallEvent], None],
    ) -> None:
        self._call_id = call_id
        self._session = session
        self._audio = audio
        self._events = events
        self._emit = emit
        self._hold_music = _hold_program(session.stack.media.hold_music)
        self._music: HoldMusic | None = None
        self._holding = asyncio.Lock()
        self._pre_roll = PreRoll(session.stack, audio, session.media)

    def end(self) -> None:
        """The call is over, and let go of: nothing more is told of it."""
        self._emit = _nobody

    async def mute(self) -> None:
        """Send silence."""
        await self._session.media.mute(True)

    async def unmute(self) -> None:
        """Send sound again."""
        await self._session.media.mute(False)

    async def echo(self) -> None:
        """Send back what is heard."""
        await self._session.media.route(self._session.media.stream)

    # ------------------------------------------------------------ playing

    async def play(
        self,
        source: Playable | Sequence[Playable],
        *,
        loop: bool | int = False,
        start_s: float = 0.0,
        volume_db: float = 0.0,
        fade_s: float = 0.0,
        barge_in: str | None = None,
    ) -> Played:
        """Send sound; returns when it has gone out, and how it ended.

        source: a file (WAV; with PyAV whatever FFmpeg decodes), an http or https URL, int16
        (samples,) at `rate`, or a list of these, one after the other without a gap. loop: for ever,
        or so many times. start_s: where in it to begin. volume_db: louder (up to 20) or softer.
        fade_s: how long it takes to become as loud, and, where it is stopped, to become silent.
        barge_in: what of the other side's stops it: "dtmf", "voice" or "any"; None: nothing.

        What is played while another thing plays waits for it. Raises `AudioFileError`.
        """
        wanted = _barge_in(barge_in)
        player = self.player(source, loop=loop, start_s=start_s, volume_db=volume_db, fade_s=fade_s)
        async with player:
            if not wanted:
                return await player.wait()
            return await self._until_barged_in(player, wanted, fade_s)

    def player(
        self,
        source: Playable | Sequence[Playable],
        *,
        loop: bool | int = False,
        start_s: float = 0.0,
        volume_db: float = 0.0,
        fade_s: float = 0.0,
    ) -> Player:
        """Return what plays as `play` does, to be had by its handle: `async with call.player(...)`.

        It can be paused, moved, made louder and stopped; `await player.wait()` is its end.
        """
        program = program_of(source, loop=loop, start_s=start_s, fade_s=fade_s)
        return Player(self._session.stack, self._audio, program, volume_db=volume_db)

    async def play_tone(
        self,
        name: str,
        *,
        country: str = "us",
        seconds: float | None = None,
        barge_in: str | None = None,
    ) -> Played:
        """Send a call-progress tone as people of a country know it: "busy", "ringback", "dial" ...

        See `voip.dsp.call_progress` for names and countries; `name` may be a cadence instead, such
        as "425:0.5 0:0.5" (`voip.dsp.cadence`). seconds: for so long; None: until it is cancelled.
        """
        tone = parse(name) if ":" in name or name[:1].isdigit() else None
        item = ToneItem(tone or call_progress_tone(name, country), seconds)
        return await self.play(item, barge_in=barge_in)

    async def _until_barged_in(
        self, player: Player, wanted: frozenset[StoppedBy], fade_s: float
    ) -> Played:
        """Return how it ended: of itself, or because the other side has pressed a key or spoken."""
        end = asyncio.ensure_future(player.wait())
        waiting: dict[asyncio.Future[Any], StoppedBy] = {}
        if StoppedBy.DTMF in wanted:
            waiting[asyncio.ensure_future(self._digit())] = StoppedBy.DTMF
        if StoppedBy.VOICE in wanted:
            waiting[asyncio.ensure_future(self._voice())] = StoppedBy.VOICE
        try:
            await asyncio.wait({end, *waiting}, return_when=asyncio.FIRST_COMPLETED)
            barged = next((one for one in waiting if one.done() and one.result()), None)
            if end.done() or barged is None:
                return await end
            await player.stop(fade_s, by=waiting[barged])
            played = await end
            digit = barged.result() if waiting[barged] is StoppedBy.DTMF else None
            return replace(played, digit=digit)
        finally:
            for one in (end, *waiting):
                one.cancel()
            await asyncio.gather(end, *waiting, return_exceptions=True)

    async def _digit(self) -> str:
        """Return the next digit; it is still there to be collected. "": the call has ended."""
        number = len(self._events)
        while (found := await self._events.next(number)) is not None:
            event, number = found
            if isinstance(event, DtmfReceived):
                return event.digit
        return ""

    async def _voice(self) -> bool:
        """Return when the other side speaks (True), or the call has ended."""
        activity = VoiceActivity()
        async with self._audio.reader(FRAME_MS) as ear:
            async for frame in ear:
                if activity.feed(frame):
                    return True
        return False

    # ------------------------------------------------------------ on hold

    async def set_hold_music(self, source: Playable | Sequence[Playable] | bool | None) -> None:
        """Let the other side hear this while we hold it, over and over.

        As `play` takes it, but for URLs; True: a melody that comes with the package; None or False:
        silence. It begins with each hold and ends with it; what is played meanwhile is heard
        instead. Before it is set, it is what `MediaConfig.hold_music` says.
        """
        self._hold_music = _hold_program(source)
        held = self._music is not None or self._session.changes.held_by_us
        await self.hold_changed(False)
        await self.hold_changed(held and self._session.changes.held_by_us)

    @property
    def has_hold_music(self) -> bool:
        """Whether anything is heard on hold."""
        return self._hold_music is not None or self._music is not None

    async def hold_changed(self, held: bool) -> None:
        """Begin or end the music; a file that cannot be read is logged, and silence is heard."""
        async with self._holding:
            music, program = self._music, self._hold_music
            if held and music is None and program is not None:
                self._music = music = HoldMusic(self._session.stack, self._audio, program)
                try:
                    await music.begin()
                except VoipError as error:
                    self._music = None
                    self._audio.log.warning("there is no music on hold: %s", error)
            elif not held and music is not None:
                self._music = None
                await music.release()

    # ------------------------------------------------------------ recording

    def record(
        self,
        path: str | PathLike[str],
        *,
        channels: str = "heard",
        format: str | None = None,  # noqa: A002
        rate_hz: int | None = None,
        pre_roll_s: float = 0.0,
        beep: bool | Beep = False,
        rotate_s: float | None = None,
        rotate_mb: float | None = None,
        sidecar: bool = False,
    ) -> FileRecording:
        """Return a recording of the call: `async with call.record("out.wav"):`.

        channels: "heard" (the other side), "sent" (ours), "mono" (both together), "stereo" (the
        other side left, ours right, in step to the sample) or "separate" (a file each). format:
        "wav", "flac", "opus" (in Ogg) or "mp3"; None: as the suffix says. All but WAV need PyAV.
        rate_hz: 8000 to 48000, the call's own rate unless told otherwise. pre_roll_s: begin so long
        ago, as far as `keep_sound` has kept it. beep: let both sides hear that they are recorded
        (`voip.media.record.plan.Beep` says how). rotate_s, rotate_mb: begin a new file after so
        many seconds or megabytes. sidecar: tell all about it in a JSON file beside it.
        """
        plan = plan_of(
            path,
            channels=channels,
            kind=format,
            rate_hz=rate_hz,
            pre_roll_s=pre_roll_s,
            beep=beep,
            rotate_s=rotate_s,
            rotate_mb=rotate_mb,
            sidecar=sidecar,
        )
        return FileRecording(
            self._session.stack,
            self._audio,
            plan,
            self._session.media,
            pre_roll=self._pre_roll,
            about=self._about,
            failed=self._failed,
        )

    async def keep_sound(self, seconds: float) -> None:
        """Keep the last `seconds` of both sides from now on, for `record(pre_roll_s=)`.

        Up to 60; 0: no more. It costs 32 kB a second at 8 kHz.
        """
        await self._pre_roll.keep(seconds)

    def _about(self) -> Mapping[str, object]:
        session, media = self._session, self._session.media
        stats = media.stats
        invite = session.invite_request
        ours, theirs = (invite.from_, invite.to) if invite is not None else (None, None)
        if not session.outgoing:
            ours, theirs = theirs, ours
        return {
            "call_id": self._call_id,
            "sip_call_id": invite.call_id if invite is not None else None,
            "direction": "outgoing" if session.outgoing else "incoming",
            "local": ours.uri if ours is not None else None,
            "remote": session.remote.uri,
            "remote_name": session.remote.display or None,
            "state": session.state.value,
            "codec": media.codec,
            "packets_received": stats.packets_received,
            "packets_lost": stats.packets_lost,
            "concealed_ms": round(stats.concealed_ms, 1),
        }

    def _failed(self, path: Path, error: Exception) -> None:
        self._emit(RecordingFailed(str(path), str(error)))


def _barge_in(words: str | None) -> frozenset[StoppedBy]:
    try:
        return _BARGE_IN[words]
    except KeyError:
        raise ConfigError(f"barge_in={words!r}", hint="dtmf, voice, any, or None") from None


def _hold_program(source: Playable | Sequence[Playable] | bool | None) -> Program | None:
    """Check what is to be heard on hold; None: nothing."""
    if source is None or source is False:
        return None
    program = program_of(MelodyItem() if source is True else source)
    for item in program.items:
        if is_url(item):
            raise ConfigError(f"music on hold is not played from {item}", hint="a file")
    return program


def _nobody(event: CallEvent) -> None:
    """Hear of what happens after the end."""
