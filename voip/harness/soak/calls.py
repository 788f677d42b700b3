"""Both sides of every call as its plan has it, and a book of what became of it."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

from voip.call import Call
from voip.errors import CallError, VoipError
from voip.events import CallEnded, CallState, EndedBy, Transferred
from voip.harness.soak.plan import Deed, Plan, Trouble, plan
from voip.harness.soak.town import Line, Town

__all__ = ["Calls"]

log = logging.getLogger(__name__)

HEADER: Final = "X-Soak"
LINGER_S: Final = 60.0
"""How long after a host is back what it had to do with is still excused."""
OVERTIME_S: Final = 40.0
"""How long who should not hang up waits for the other side to, on top of the time to talk."""
LONGEST_S: Final = 1200.0
"""No call lasts longer."""
MAX_WRONG: Final = 50
"""Surprises told in full; the rest is counted."""


class Calls:
    """Places the calls of a seed in a town, and watches how each of them ends.

    `outcomes`: how often what happened. `wrong`: what may not happen, in words.
    """

    def __init__(self, seed: int, mean_gap_s: float) -> None:
        self.seed = seed
        self.town = Town(seed, self._ringing)
        self.outcomes: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.surprises = 0
        self.legs = 0
        self.open: dict[Call, str] = {}
        self._gap_s = mean_gap_s
        self._work: dict[asyncio.Task[None], None] = {}

    # ------------------------------------------------------------ the whole

    async def run(self, first: int, count: int) -> None:
        """Place `count` calls, and return when all of them are over."""
        for number in range(first, first + count):
            one = plan(self.seed, number, self._gap_s)
            await asyncio.sleep(one.gap_s)
            self._begin(self.town.lines[one.caller], self._call(one))
            if one.trouble is not None:
                self._begin(None, self._trouble(one))
        ends = self.town.world.time() + LONGEST_S
        while (self._work or self.open) and self.town.world.time() < ends:
            await asyncio.sleep(1.0)

    def _begin(self, line: Line | None, work: Coroutine[Any, Any, None]) -> None:
        loop = asyncio.get_running_loop()
        task = loop.create_task(work) if line is None else line.host.create_task(work)
        self._work[task] = None
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        del self._work[task]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a call's program failed", exc_info=error)
            self.surprise(f"{task.get_coro()} failed: {error!r}")

    async def _trouble(self, one: Plan) -> None:
        await asyncio.sleep(one.trouble_at_s)
        befall = self.town.crash if one.trouble is Trouble.CRASH else self.town.cut
        await befall(self.town.lines[one.troubled], one.trouble_s)

    def surprise(self, text: str) -> None:
        """Note what may not happen."""
        self.surprises += 1
        if len(self.wrong) < MAX_WRONG:
            self.wrong.append(f"{self.town.world.elapsed:.2f} s: {text}")

    def _is_excused(self, one: Plan | None, since: float) -> bool:
        """Whether a host that has to do with it was in trouble since then."""
        lines = self.town.lines
        if one is not None:
            lines = [lines[one.caller], lines[one.callee], lines[one.third]]
        return any(line.is_down or line.last_trouble > since - LINGER_S for line in lines)

    def _note(self, call: Call, one: Plan | None, who: str) -> None:
        """Write a call down, and how it ends."""
        name = f"call {one.number if one else '-'} ({one.deed.value if one else '-'}), {who}"
        began = self.town.world.time()
        self.legs += 1
        self.open[call] = name

        def ended(event: CallEnded) -> None:
            if self.open.pop(call, None) is None:
                self.surprise(f"{name} ended twice")
            if call.state is not CallState.ENDED or call.ended != event:
                self.surprise(f"{name} is {call.state.value} at its end")
            self.outcomes[f"{event.by.value} {event.status or '-'}"] += 1
            if event.by is EndedBy.FAILURE and not self._is_excused(one, began):
                self.surprise(f"{name} failed: {event.reason} ({event.status})")

        call.on_ended(ended)

        def transferred(event: Any) -> None:
            if isinstance(event, Transferred) and event.call not in self.open:
                if event.call.ended is None:
                    self._note(event.call, one, f"{who}, transferred")
                self._begin(None, self._linger(event.call, 3.0))

        call.on_event(transferred)

    async def _linger(self, call: Call, seconds: float) -> None:
        """Stay in a call for a while, unless the other side ends it, and end it."""
        await self._until(call, seconds)
        await call.hangup()

    @staticmethod
    async def _until(call: Call, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await call.wait_ended()
        except TimeoutError:
            pass

    # ------------------------------------------------------------ who calls

    async def _call(self, one: Plan) -> None:
        line, began = self.town.lines[one.caller], self.town.world.time()
        phone = line.phone
        if phone is None:
            self.outcomes["not placed: the phone is off"] += 1
            return
        try:
            call = await phone.dial(
                self.town.lines[one.callee].user,
                wait="started",
                headers={HEADER: str(one.number)},
                late_offer=one.late_offer,
            )
        except VoipError as error:
            self.outcomes[f"not placed: {error.code}"] += 1
            if not self._is_excused(one, began):
                self.surprise(f"call {one.number} cannot be placed: {error}")
            return
        self._note(call, one, "caller")
        if one.deed is Deed.CANCEL:
            await asyncio.sleep(one.patience_s)
            await call.hangup()
            return
        try:
            await call.wait_answered(one.patience_s)
        except CallError as error:
            self._judge(one, began, error.status)
            return
        self._judge(one, began, 200)
        await self._talk(call, one, 0)

    def _judge(self, one: Plan, began: float, status: int | None) -> None:
        """Hold how the call began against its plan."""
        wanted = {Deed.REFUSE: one.status, Deed.NO_ANSWER: 487}.get(one.deed, 200)
        if status != wanted and not self._is_excused(one, began):
            self.surprise(f"call {one.number} ({one.deed.value}): {status} and not {wanted}")

    # ------------------------------------------------------------ who is called

    def _ringing(self, line: Line) -> Callable[[Call], Awaitable[None]]:
        async def ringing(call: Call) -> None:
            number = call.header(HEADER)
            one = None if number is None else plan(self.seed, int(number), self._gap_s)
            if one is None or line.number != one.callee:
                self._note(call, one, "called in between")
                await self._take(call)
                return
            self._note(call, one, "callee")
            try:
                await self._respond(call, one)
            except CallError as error:
                given_up = one.deed is Deed.CANCEL or (
                    call.ended is not None and call.ended.by is EndedBy.REMOTE
                )
                if not (given_up or self._is_excused(one, self.town.world.time())):
                    self.surprise(f"call {one.number} is not answered: {error}")
                return
            if call.ended is None and call.state in (CallState.ACTIVE, CallState.HELD):
                await self._talk(call, one, 1)

        return ringing

    async def _take(self, call: Call) -> None:
        """Answer a call that came by a transfer or a redirection."""
        try:
            await call.answer()
        except CallError:
            return
        await self._linger(call, 300.0)

    async def _respond(self, call: Call, one: Plan) -> None:
        if one.number % 3:
            await call.ring()
        if one.deed is Deed.EARLY and not one.late_offer:
            await call.progress()
        await self._until(call, one.ring_s)
        if call.ended is not None:
            return
        match one.deed:
            case Deed.REFUSE:
                await call.reject(one.status)
            case Deed.NO_ANSWER:
                await self._until(call, 60.0)
            case Deed.REDIRECT:
                await call.redirect(self.town.lines[one.third].user)
            case _:
                await call.answer()

    # ------------------------------------------------------------ talking

    async def _talk(self, call: Call, one: Plan, side: int) -> None:
        """Do what the plan has for one side, 0 or 1, of a call that is up."""
        acts = one.active in (side, 2)
        began = self.town.world.time()
        if side == 1:
            await self._until(call, one.apart_s)
        await self._until(call, one.talk_s / 2)
        try:
            await self._act(call, one, acts)
        except VoipError as error:
            self.outcomes[f"{one.deed.value} failed: {error.status or error.code}"] += 1
            if call.ended is None and one.active != 2 and not self._is_excused(one, began):
                self.surprise(f"call {one.number}: {one.deed.value} failed: {error}")
        await self._until(call, one.talk_s / 2)
        if not acts:
            await self._until(call, OVERTIME_S)
        await call.hangup()

    async def _act(self, call: Call, one: Plan, acts: bool) -> None:
        if call.ended is not None:
            return
        match one.deed:
            case Deed.HOLD if acts:
                await call.hold()
                await self._until(call, 1.0)
                await call.resume()
            case Deed.GLARE:
                await call.hold()
                await call.resume()
            case Deed.TRANSFER if acts:
                await call.transfer(self.town.lines[one.third].user)
            case Deed.ATTENDED if acts:
                await self._attended(call, one)
            case Deed.WATCH if call.outgoing:
                await self._watch(call, one)
            case Deed.SAY if call.outgoing:
                phone = self.town.lines[one.caller].phone
                if phone is not None:
                    await phone.message(self.town.lines[one.callee].user, "how long yet?")
                await call.send_info("soak", b"long")
            case _:
                pass

    async def _attended(self, call: Call, one: Plan) -> None:
        line = self.town.lines[one.caller if call.outgoing else one.callee]
        if line.phone is None:
            return
        await call.hold()
        other = await line.phone.dial(self.town.lines[one.third].user)
        self._note(other, one, "consultation")
        try:
            await call.transfer(other)
        finally:
            await other.hangup()

    async def _watch(self, call: Call, one: Plan) -> None:
        phone = self.town.lines[one.caller].phone
        if phone is not None:
            async with await phone.watch(self.town.lines[one.callee].user, "dialog"):
                await self._until(call, 5.0)
