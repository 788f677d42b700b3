"""The digits of a call: sent, and collected as people enter them, so many or up to a terminator."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from voip.dsp.dtmf import dtmf
from voip.dsp.pcm import to_int16
from voip.errors import CallStateError, ConfigError
from voip.events import CallEvent, DtmfReceived, DtmfSent
from voip.session.audio import CallAudio
from voip.session.event_log import EventLog
from voip.session.info import dtmf_relay
from voip.session.playing import Played, StoppedBy
from voip.session.session import CallSession

__all__ = ["DIGITS", "Digits"]

ONE_PRESS_S: Final = 1.0
"""What comes so soon after another way is the same press of a key."""
MAX_TONES_MS: Final = 10_000
"""Of a tone, and of a gap: more are two."""
MAX_PRESSES: Final = 32
MAX_DIGITS: Final = 1024
"""Digits a call remembers that nobody has collected."""
DIGITS: Final = "0123456789*#ABCD"


@dataclass(slots=True)
class _Press:
    """A digit that was told, when, and the ways by which it came."""

    digit: str
    at: float
    ways: set[str]


class Digits:
    """Of one call, whose events are `events`."""

    def __init__(
        self,
        session: CallSession,
        events: EventLog[CallEvent],
        audio: CallAudio,
        play: Callable[[Sequence[npt.NDArray[np.int16]]], Awaitable[Played]],
    ) -> None:
        self._session = session
        self._events = events
        self._audio = audio
        self._play_sound = play
        self._heard = ""
        self._latest: deque[_Press] = deque(maxlen=MAX_PRESSES)

    def has_heard(self, event: DtmfReceived) -> bool:
        """Tell whether a digit is one that came another way just before, and is told already.

        Gateways, and phones that are told to, send one keypress as an event, in an INFO and as
        tones; each way has each press once.
        """
        now = self._session.stack.signalling.now()
        while self._latest and now - self._latest[0].at > ONE_PRESS_S:
            self._latest.popleft()
        for press in self._latest:
            if press.digit == event.digit and event.way not in press.ways:
                press.ways.add(event.way)
                return True
        self._latest.append(_Press(event.digit, now, {event.way}))
        return False

    def heard(self, digit: str) -> None:
        """Remember a digit of the other side's for whoever collects."""
        self._heard = (self._heard + digit)[-MAX_DIGITS:]

    async def send_dtmf(
        self,
        digits: str,
        *,
        duration_ms: int = 100,
        gap_ms: int = 60,
        mode: Literal["rfc4733", "info", "in-band"] = "rfc4733",
    ) -> None:
        """Send digits (0-9, *, #, A-D); returns when the last has gone out.

        mode: beside the sound by RFC 4733 (`MediaError` where the other side takes none); each in
        an INFO of its own as older phones do (`CallError` where it refuses); or as tones in the
        sound, after what plays, which codecs made for speech spoil.
        """
        bad = sorted(set(digits.upper()) - set(DIGITS))
        if bad or not 1 <= len(digits) <= MAX_DIGITS:
            what = "".join(bad) or (f"{len(digits)} digits at once" if digits else "nothing")
            raise ConfigError(f"{what} cannot be sent as DTMF", hint=DIGITS)
        if mode not in ("rfc4733", "info", "in-band"):
            raise ConfigError(f"mode={mode!r}", hint="rfc4733, info or in-band")
        if mode == "info":
            for digit in digits.upper():
                await self._session.send_info(dtmf_relay(digit, duration_ms))
            self._session.emit(DtmfSent(digits))
            return
        if mode == "in-band":
            if not 1 <= duration_ms <= MAX_TONES_MS or not 0 <= gap_ms <= MAX_TONES_MS:
                raise ConfigError(
                    f"tones of {duration_ms} ms with gaps of {gap_ms} ms cannot be sent",
                    hint=f"1 to {MAX_TONES_MS} ms, gaps from 0",
                )
            if not await self._play(digits.upper(), duration_ms, gap_ms):
                raise CallStateError("the call ended before all digits were sent")
            self._session.emit(DtmfSent(digits))
            return
        start = len(self._events)
        await self._session.media.send_dtmf(digits, duration_ms, gap_ms)
        if not await self._happens(DtmfSent, start):
            raise CallStateError("the call ended before all digits were sent")

    async def _play(self, digits: str, duration_ms: int, gap_ms: int) -> bool:
        """Play digits as tones; tell whether all have gone out."""
        rate = self._audio.rate
        tones = {
            digit: to_int16(dtmf(digit, rate_hz=rate, duration_ms=duration_ms, gap_ms=gap_ms))
            for digit in sorted(set(digits))
        }
        played = await self._play_sound([tones[digit] for digit in digits])
        return played.stopped_by is StoppedBy.END

    async def collect(
        self, count: int, *, timeout: float = 10.0, terminator: str | None = "#"
    ) -> str:
        """Return up to `count` digits, fewer after `timeout` s without one or at `terminator`.

        Digits pressed before are not lost: each is returned once. The terminator is taken and
        not returned.
        """
        if count < 1:
            raise ConfigError(f"{count} digits cannot be collected", hint="1 or more")
        while True:
            so_far = len(self._events)
            entered, rest = _take(self._heard, count, terminator)
            if rest is None and not self._events.ended and await self._digit(so_far, timeout):
                continue
            if rest is None:  # no more come; the last may have come at the last moment
                entered, rest = _take(self._heard, count, terminator)
            entered, self._heard = (self._heard, "") if rest is None else (entered, rest)
            return entered

    async def _digit(self, start: int, timeout: float) -> bool:
        """Wait for a digit; False where none came in time, or the call ended."""
        try:
            async with asyncio.timeout(timeout):
                return await self._happens(DtmfReceived, start)
        except TimeoutError:
            return False

    async def _happens(self, kind: type[CallEvent], start: int) -> bool:
        """Wait for an event of a kind, from number `start` on; False where the call ended."""
        while (found := await self._events.next(start)) is not None:
            event, start = found
            if isinstance(event, kind):
                return True
        return False


def _take(digits: str, count: int, terminator: str | None) -> tuple[str, str | None]:
    """Return (what was entered, what is left), the latter None where it is not complete."""
    if terminator and terminator in digits[: count + 1]:
        entered, _, rest = digits.partition(terminator)
        return entered, rest
    if len(digits) >= count:
        return digits[:count], digits[count:]
    return "", None
