"""What a conference plays to all when somebody comes or goes."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from os import PathLike

import numpy as np
import numpy.typing as npt

from voip.errors import VoipError
from voip.events import PartyJoined, PartyLeft
from voip.logs.lines import CallLog
from voip.session.audio import CallAudio
from voip.session.playing import play, program_of
from voip.session.stack import Stack

__all__ = ["Announce", "AnnouncedSound", "Announcements", "entry_tones"]

AnnouncedSound = str | PathLike[str] | npt.NDArray[np.int16] | None
"""A WAV file, or int16 (samples,) at the conference's rate; None: nothing."""
Announce = Callable[[PartyJoined | PartyLeft, int], AnnouncedSound | Awaitable[AnnouncedSound]]
"""Returns what all are to hear of an event, given the conference's rate in Hz."""

_LOW_HZ, _HIGH_HZ = 440.0, 660.0
_TONE_S, _RAMP_S = 0.12, 0.01
_AMPLITUDE = 3000.0  # -24 dBFS: below speech
MAX_WAITING = 8
"""Announcements that may wait for each other; of a crowd that comes at once the rest is silent."""


def entry_tones(event: PartyJoined | PartyLeft, rate: int) -> npt.NDArray[np.int16]:
    """Return two tones, a fifth up for who comes, down for who goes: int16 (samples,)."""
    low, high = _tone(_LOW_HZ, rate), _tone(_HIGH_HZ, rate)
    return np.concatenate((low, high) if isinstance(event, PartyJoined) else (high, low))


def _tone(hertz: float, rate: int) -> npt.NDArray[np.int16]:
    t = np.arange(int(_TONE_S * rate)) / rate
    edge = np.clip(np.minimum(t, _TONE_S - t) / _RAMP_S, 0.0, 1.0)
    return np.rint(_AMPLITUDE * edge * np.sin(2 * np.pi * hertz * t)).astype(np.int16)


class Announcements:
    """Plays what `announce` has for each event, one after the other."""

    def __init__(self, stack: Stack, announce: Announce, log: CallLog) -> None:
        self._stack = stack
        self._announce = announce
        self._log = log
        self._waiting = 0

    async def tell(self, event: PartyJoined | PartyLeft, audio: CallAudio) -> None:
        """Let all hear of an event; what goes wrong with that is logged."""
        if self._waiting >= MAX_WAITING:
            return
        self._waiting += 1
        try:
            sound = self._announce(event, audio.rate)
            if inspect.isawaitable(sound):
                sound = await sound
            if sound is not None and not audio.over:
                await play(self._stack, audio, program_of(sound))
        except VoipError as error:
            self._log.warning("%s cannot be announced: %s", type(event).__name__, error)
        except Exception as error:
            self._log.error("announce failed on %s", type(event).__name__, exc_info=error)
        finally:
            self._waiting -= 1
