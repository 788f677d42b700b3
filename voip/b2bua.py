"""A back-to-back user agent: a call that came in is connected to one that we make.

Both are calls in their own right, with dialogs and sound of their own; what happens to one is
passed to the other: ringing, early sound, the answer or the refusal, digits, hanging up and why.
One that is transferred or replaced is followed: the other goes on with who comes in its place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from voip.call import Call
from voip.errors import CallError, CallStateError, MediaError, VoipError
from voip.events import CallState, DtmfReceived, EarlyMedia, Replaced, Ringing, Transferred
from voip.sip.headers import Headers

__all__ = ["Dial", "HeaderList", "HeaderPolicy", "connect"]

RING_S: Final = 30.0
"""How long callees ring unless told otherwise."""
_TOLD: Final = (486, 600, 603)
"""Refusals the caller hears of as they are; all others are 480."""

_SHORTEST_MS: Final = 40
"""The shortest digit every receiver has to hear (ITU-T Q.24)."""

_NAMES: Final = frozenset(
    [
        *("subject", "priority", "privacy", "call-info", "alert-info", "user-to-user"),
        *("diversion", "history-info", "geolocation", "geolocation-routing"),
    ]
)

HeaderList = list[tuple[str, str]]
Dial = Callable[[str, HeaderList], Awaitable[Call]]
"""Begin to call a URI with these headers, and return the call at once."""


@dataclass(frozen=True, slots=True)
class HeaderPolicy:
    """Which headers of the caller's INVITE the callee gets, by name and by how names begin.

    What names the caller beside From (P-Asserted-Identity, Identity) is not among them: only who
    has made sure of it may say it. Reason goes with every end, both ways.
    """

    names: frozenset[str] = _NAMES
    prefixes: tuple[str, ...] = ("x-",)

    def passed(self, headers: Headers) -> HeaderList:
        """Return what goes on."""
        return [
            (name, value)
            for name, value in headers
            if name.lower() in self.names or name.lower().startswith(self.prefixes)
        ]


async def connect(
    call: Call,
    targets: Sequence[str],
    dial: Dial,
    *,
    policy: HeaderPolicy | None = None,
    ring_s: float = RING_S,
) -> None:
    """Ring all `targets` for `call`, connect it to the first that answers, until either hangs up.

    The caller is refused with 486, 600 or 603 where a callee said so, else with 480; when the
    caller gives up, so do we. Of a single callee's early sound the caller hears what there is.
    """
    gone = asyncio.ensure_future(call.wait_ended())
    headers = (policy or HeaderPolicy()).passed(call.headers)
    hunt = _Hunt(call, lambda target: dial(target, headers), ring_s, early=len(targets) == 1)
    try:
        leg = await hunt.first(targets, gone)
        if leg is None:
            with suppress(CallStateError):  # the caller has given up
                await call.reject(hunt.status, headers=hunt.reasons)
            return
        sides = [call, leg]
        try:
            await _talk(sides)
        finally:
            first, second = sides
            whys = _reasons(first), _reasons(second)
            await asyncio.gather(second.hangup(whys[0]), first.hangup(whys[1]))
    finally:
        await _drop(gone)


class _Hunt:
    """The search for somebody who answers. `status`, `reasons`: why nobody did."""

    def __init__(
        self, call: Call, dial: Callable[[str], Awaitable[Call]], ring_s: float, *, early: bool
    ) -> None:
        self.status = 480
        self.reasons: HeaderList = []
        self._call = call
        self._dial = dial
        self._ring_s = ring_s
        self._early = early

    async def first(self, targets: Sequence[str], gone: asyncio.Future[Any]) -> Call | None:
        """Return the call that was answered first, None where none was."""
        trials = {asyncio.ensure_future(self._try(target)) for target in targets}
        try:
            waiting = set(trials)
            while waiting and not gone.done():
                await asyncio.wait({*waiting, gone}, return_when=asyncio.FIRST_COMPLETED)
                for trial in [trial for trial in waiting if trial.done()]:
                    waiting.discard(trial)
                    error = trial.exception()
                    if error is None:
                        trials.discard(trial)
                        return trial.result()
                    if isinstance(error, VoipError) and error.status in _TOLD:
                        self.status = error.status or self.status
            return None
        finally:
            await _drop(*trials)
            for trial in trials:  # answered, and too late
                if not trial.cancelled() and trial.exception() is None:
                    await trial.result().hangup()

    async def _try(self, target: str) -> Call:
        """Ring one callee; return its call once it is answered. Cancelled, it stops ringing."""
        leg = await self._dial(target)
        leg.on_event(lambda event: self._pass_progress(leg, event))
        try:
            await leg.wait_answered(self._ring_s)
        except BaseException:
            self.reasons = _reasons(leg) or self.reasons
            await leg.hangup(_reasons(self._call))
            raise
        return leg

    async def _pass_progress(self, leg: Call, event: object) -> None:
        with suppress(CallError, MediaError):  # answered, or given up, meanwhile
            if isinstance(event, EarlyMedia) and self._early:
                await self._call.progress()
                await self._call.hear(leg)
            elif isinstance(event, Ringing | EarlyMedia) and self._call.state is CallState.NEW:
                await self._call.ring()


async def _talk(sides: list[Call]) -> None:
    """Answer the caller and let both talk, digits included, until either hangs up.

    `sides`: the caller and the callee. Who is transferred or replaced gives way to the new call.
    """
    moved = asyncio.Event()

    def follow(side: Call) -> None:
        def see(event: object) -> None:
            if isinstance(event, Transferred | Replaced) and side in sides:
                sides[sides.index(side)] = event.call
                follow(event.call)
                moved.set()

        side.on_event(see)

    for side in sides:
        follow(side)
    passing: dict[Call, asyncio.Future[None]] = {}
    try:
        await sides[0].answer()
        while True:
            moved.clear()
            first, second = sides
            await first.bridge(second)
            for side in first, second:
                if side not in passing:
                    passing[side] = asyncio.ensure_future(_pass_digits(side, sides))
            await _first_of(first.wait_ended(), second.wait_ended(), moved.wait())
            if not moved.is_set():
                return
    except CallError:  # one of them hung up meanwhile
        return
    finally:
        await _drop(*passing.values())


async def _first_of(*events: Coroutine[Any, Any, object]) -> None:
    """Wait until one of these has happened."""
    waiting = [asyncio.ensure_future(event) for event in events]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await _drop(*waiting)


async def _pass_digits(source: Call, sides: Sequence[Call]) -> None:
    """Press at the other side what is pressed on `source`: a bridge carries sound alone."""
    async for event in source.events():  # from the beginning: some were quick
        if isinstance(event, DtmfReceived) and source in sides:
            target = sides[1 - sides.index(source)]
            with suppress(CallError, MediaError):  # it is over, or takes no telephone-event
                duration_ms = max(_SHORTEST_MS, round(event.duration_ms))
                await target.send_dtmf(event.digit, duration_ms=duration_ms)


def _reasons(call: Call) -> HeaderList:
    """Return why the other side of a call ended it, for those it was connected to."""
    return [("Reason", str(reason)) for reason in call.end_reasons]


async def _drop(*tasks: asyncio.Future[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
