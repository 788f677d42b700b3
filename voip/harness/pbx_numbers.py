"""What the numbers of the embedded PBX do with a caller: the plan of the Asterisk test set-up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Final

import numpy as np

from voip.call import Call
from voip.dsp.tones import MILLIWATT
from voip.dsp.tones import play as sound_of
from voip.errors import MediaError

__all__ = ["SENT_DIGITS", "Numbers"]

SENT_DIGITS: Final = "1234*0#"
"""What 605 presses."""
_DIGIT_MS, _GAP_MS = 150, 200
_PAUSE_S = 0.5
"""Silence before and after digits: ears open a little after the answer, and ends are repeated."""
_LINGER_S = 1.0
"""How long 610 stays."""
_READ_DIGITS = 4
_FIRST_DIGIT_S, _NEXT_DIGIT_S = 8.0, 1.5

Service = Callable[[Call], Awaitable[None]]


class Numbers:
    """The services, each a coroutine function of the call, which is hung up when it returns.

    `prompt`: WAV file of 603 and 606; `beep`: of 604. `directory`: where 612 and 614 record.
    `digits`: what 604 read last, by caller; `read` is called when there is news. `recordings`: what
    was recorded last, by number.
    """

    def __init__(self, prompt: Path, beep: Path, directory: Path, read: Callable[[], None]) -> None:
        self.digits: dict[str, str] = {}
        self.recordings: dict[str, Path] = {}
        self._prompt = prompt
        self._beep = beep
        self._directory = directory
        self._read = read
        self._serial = count(1)

    def service(self, number: str, caller: str) -> Service | None:
        """Return what `number` does for `caller`, None where there is no such number."""
        services: dict[str, Service] = {
            "600": _echo,
            "601": _tone,
            "603": self._announce,
            "604": lambda call: self._read_digits(call, caller),
            "605": _press_digits,
            "606": self._early,
            "607": lambda call: call.reject(486),
            "608": lambda call: call.reject(503),
            "609": _ring_for_ever,
            "610": _hang_up_soon,
            "612": lambda call: self._record(call, "612", echo=True),
            "614": lambda call: self._record(call, "614", echo=False),
        }
        return services.get(number)

    async def _announce(self, call: Call) -> None:
        await call.answer()
        await call.play(self._prompt)

    async def _read_digits(self, call: Call, caller: str) -> None:
        await call.answer()
        beep = asyncio.ensure_future(call.play(self._beep))
        try:
            digits = digit = await call.collect(1, timeout=_FIRST_DIGIT_S)
        finally:
            beep.cancel()  # who presses has heard enough
            await asyncio.gather(beep, return_exceptions=True)
        while digit and len(digits) < _READ_DIGITS:
            digit = await call.collect(1, timeout=_NEXT_DIGIT_S)
            digits += digit
        self.digits[caller] = digits
        self._read()
        await _stay(call, _PAUSE_S)

    async def _early(self, call: Call) -> None:
        await call.progress()
        await call.play(self._prompt)
        await _echo(call)

    async def _record(self, call: Call, number: str, *, echo: bool) -> None:
        await call.answer()
        if echo:
            await call.echo()
        path = self._directory / f"{number}-{next(self._serial):04}.wav"
        async with call.record(path):
            self.recordings[number] = path
            await call.wait_ended()


async def _echo(call: Call) -> None:
    await call.answer()
    await call.echo()
    await call.wait_ended()


async def _tone(call: Call) -> None:
    await call.answer()
    second = sound_of(MILLIWATT, 0, call.rate, call.rate)  # 1004 whole periods: it joins itself
    await call.play(np.rint(32768 * second).astype(np.int16), loop=True)


async def _press_digits(call: Call) -> None:
    await call.answer()
    await _stay(call, _PAUSE_S)
    with suppress(MediaError):  # the caller takes no telephone-event
        await call.send_dtmf(SENT_DIGITS, duration_ms=_DIGIT_MS, gap_ms=_GAP_MS)
    await _stay(call, _PAUSE_S)


async def _ring_for_ever(call: Call) -> None:
    await call.ring()
    await call.wait_ended()


async def _hang_up_soon(call: Call) -> None:
    await call.answer()
    await _stay(call, _LINGER_S)


async def _stay(call: Call, seconds: float) -> None:
    """Wait, no longer than the call lasts."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await call.wait_ended()
