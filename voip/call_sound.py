"""What a call plays and records."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path

from voip.events import CallEvent, RecordingFailed
from voip.media.record.plan import Beep, plan_of
from voip.session.audio import CallAudio
from voip.session.recording import FileRecording, PreRoll
from voip.session.session import CallSession

__all__ = ["CallSound"]


class CallSound:
    """Of one call, whose events go to `emit`. `call_id` is what its log lines carry."""

    def __init__(
        self,
        call_id: str,
        session: CallSession,
        audio: CallAudio,
        emit: Callable[[CallEvent], None],
    ) -> None:
        self._call_id = call_id
        self._session = session
        self._audio = audio
        self._emit = emit
        self._pre_roll = PreRoll(session.stack, audio, session.media)

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
