"""Who comes in the place of a call's other side: expected, until that is decided.

A transfer that the other side has asked for (REFER), or a call that asks for its place (Replaces).
Either may go on when the call itself is over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

__all__ = ["Successor", "Successors"]


class _Ends(Protocol):
    async def hangup(self) -> None: ...


AnyCall = TypeVar("AnyCall", bound=_Ends)


class Successor(Generic[AnyCall]):
    """Somebody expected. `call` is the new call, once there is one."""

    def __init__(self, of: Successors[AnyCall], call: AnyCall | None) -> None:
        self.call = call
        self._of = of
        self._given_up = False

    @property
    def is_wanted(self) -> bool:
        """Whether the place is still to be had."""
        return not self._given_up and self._of.taken is None

    async def begin(self, call: AnyCall) -> None:
        """Take it that `call` is on its way; it is hung up where nobody waits for it any more."""
        self.call = call
        if not self.is_wanted:
            await call.hangup()

    def take(self) -> bool:
        """Take the place, `call` being answered; False where that is another's, or nobody's."""
        of = self._of
        if not self.is_wanted or self.call is None:
            of._decided(self)
            return False
        of.taken = self.call
        of._decided(self)
        return True

    def fail(self, status: int) -> None:
        """Take it that nothing comes of it."""
        self._of.status = status
        self._of._decided(self)

    async def give_up(self) -> None:
        """Let nothing come of it: a call that is on its way is hung up."""
        self._given_up = True
        if self.call is not None:
            await self.call.hangup()


class Successors(Generic[AnyCall]):
    """All of one call; `len()` counts those not decided. Who is answered first takes the place.

    `taken`: the call that has; `status`: what became of the latest of which nothing came.
    """

    def __init__(self) -> None:
        self.taken: AnyCall | None = None
        self.status = 0
        self._expected: dict[Successor[AnyCall], None] = {}
        self._listeners: list[Callable[[], object]] = []

    def __len__(self) -> int:
        return len(self._expected)

    def expect(self, call: AnyCall | None = None) -> Successor[AnyCall]:
        """Expect one more; `call`: where it is on its way already."""
        successor = Successor(self, call)
        self._expected[successor] = None
        return successor

    @property
    def calls(self) -> list[AnyCall]:
        """The calls on their way."""
        return [one.call for one in self._expected if one.call is not None]

    def on_decided(self, listener: Callable[[], object]) -> None:
        """Call back when one has taken the place or come to nothing."""
        self._listeners.append(listener)

    async def settled(self) -> AnyCall | None:
        """Return who has taken the place, None where nobody has and nobody is expected."""
        news = asyncio.Event()
        self.on_decided(news.set)
        while self.taken is None and self._expected:
            news.clear()
            await news.wait()
        return self.taken

    async def give_up(self) -> None:
        """Expect nobody any more."""
        await asyncio.gather(*(one.give_up() for one in self._expected))

    def _decided(self, successor: Successor[AnyCall]) -> None:
        self._expected.pop(successor, None)
        for listener in self._listeners:
            listener()
