"""A back-to-back user agent: a call that came in is connected to one that we make.

Both are calls in their own right, with dialogs and sound of their own; what happens to one is
passed to the other: ringing, early sound, the answer or the refusal, digits, hanging up and why.
One that is transferred or replaced is followed: the other goes on with who comes in its place, and
waits for that where who had asked for it has left already.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from voip.call import Call
from voip.errors import CallError, CallStateError, MediaError, VoipError
from voip.events import CallState, DtmfReceived, EarlyMedia, Ringing
from voip.sip.headers import Headers
from voip.sip.message import REASONS
from voip.sip.reason import reason_header

__all__ = ["Dial", "HeaderList", "HeaderPolicy", "connect"]

RING_S: Final = 30.0
"""How long callees ring unless told otherwise."""
_TOLD: Final = (486, 600, 603)
"""Refusals the caller hears of as they are; all others are 480."""

_UP: Final = (CallState.ACTIVE, CallState.HELD)

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
) -> int:
    """Ring all `targets` for `call`, connect it to the first that answers, until either hangs up.

    The caller is refused with 486, 600 or 603 where a callee said so, else with 480; when the
    caller gives up, so do we. Of a single callee's early sound the caller hears what there is.

    One who leaves while somebody is called at his wish (REFER) is waited for: the other goes on
    with whom that brings, or is hung up with its status as the Reason where it brings nobody.

    Returns 200 where they were connected until one hung up, else the status that says why not: of
    the refusal (487: the caller gave up), or of the transfer that left one alone.
    """
    gone = asyncio.ensure_future(call.wait_ended())
    headers = (policy or HeaderPolicy()).passed(call.headers)
    hunt = _Hunt(call, lambda target: dial(target, headers), ring_s, early=len(targets) == 1)
    try:
        leg = await hunt.first(targets, gone)
        if leg is None:
            try:
                await call.reject(hunt.status, headers=hunt.reasons)
            except CallStateError:  # the caller has given up
                return 487
            return hunt.status
        bridge = _Bridge(call, leg)
        try:
            return await bridge.talk()
        finally:
            await bridge.end()
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
        except BaseException as error:
            if isinstance(error, CallError):
                picked_up = await leg.successors.settled()
                if picked_up is not None:
                    return picked_up
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


class _Bridge:
    """The two sides of a bridge: who comes in the place of one is the side from then on."""

    def __init__(self, caller: Call, callee: Call) -> None:
        self._sides = [caller, callee]
        self._left: dict[Call, None] = {}  # those who left a transfer behind
        self._changed = asyncio.Event()
        self._digits: dict[Call, asyncio.Future[None]] = {}
        for side in self._sides:
            self._enter(side)

    async def talk(self) -> int:
        """Answer the caller and let both talk, digits included; return as `connect`."""
        caller = self._sides[0]
        try:
            await caller.answer()
        except CallError as error:  # its ACK was lost: its place may be taken all the same
            if await caller.successors.settled() is None:
                return error.status or 487
        while True:
            self._changed.clear()
            for left in self._go_on():
                with suppress(VoipError):  # it may be over
                    await left.mute()  # it need not hear what is said from now on
            first, second = self._sides
            if first.state in _UP and second.state in _UP:
                await self._connect(first, second)
            for side in first, second:
                if side.ended is not None and not side.successors:
                    return (side.successors.status or 480) if side in self._left else 200
                if side.ended is not None and side not in self._left:
                    self._left[side] = None
                    words = "it has left a transfer behind: who is called for it is waited for"
                    side.log.event(logging.INFO, "bridge_waits", words)
            there = [side for side in (first, second) if side.ended is None]
            await _first_of(self._changed.wait(), *(side.wait_ended() for side in there))

    async def end(self) -> None:
        """Hang up, and call nobody any more; each hears why the other side is gone."""
        self._go_on()
        first, second = self._sides
        await asyncio.gather(
            second.hangup(self._why(first)),
            first.hangup(self._why(second)),
            *(side.successors.give_up() for side in self._sides),
        )
        self._go_on()
        await asyncio.gather(*(side.hangup() for side in self._sides))  # answered at that moment
        await _drop(*self._digits.values())

    def _go_on(self) -> list[Call]:
        """Take those for sides who have come in the place of one; return whose place they took."""
        left = []
        for index, side in enumerate(self._sides):
            while side.successors.taken is not None:
                left.append(side)
                side = side.successors.taken
            if side is not self._sides[index]:
                self._sides[index] = side
                self._enter(side)
        return left

    def _enter(self, side: Call) -> None:
        side.bridged = True
        side.successors.on_decided(self._changed.set)
        self._digits[side] = asyncio.ensure_future(_pass_digits(side, self._sides))

    async def _connect(self, first: Call, second: Call) -> None:
        try:
            await first.bridge(second)
        except VoipError:
            if first.state in _UP and second.state in _UP:
                raise

    def _why(self, side: Call) -> HeaderList:
        status = side.successors.status
        if side in self._left and status:
            return [reason_header(status, REASONS.get(status, ""))]
        return _reasons(side)


async def _first_of(*events: Coroutine[Any, Any, object]) -> None:
    """Wait until one of these has happened."""
    waiting = [asyncio.ensure_future(event) for event in events]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await _drop(*waiting)


async def _pass_digits(source: Call, sides: Sequence[Call]) -> None:
    """Press at the other side what is pressed on `source`, where the bridge has not carried it."""
    async for event in source.events():  # from the beginning: some were quick
        if isinstance(event, DtmfReceived) and not event.relayed and source in sides:
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
