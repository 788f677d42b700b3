"""Letting one thing after another go wrong in a program that runs the same way each time.

A program is run once to count its *points*: every call that leaves our code through a seam (a
datagram, a name, a command to the engine, a file, a callback of the application's), and every place
at which a task of the user's waits. Then it is run once for each of them, and at that point the
call fails as its interface says that it may, or the task is cancelled.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import os
import types
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")


class BrokenError(Exception):
    """What the application's own code raises where it is told to."""


@dataclass(frozen=True)
class Seam:
    """A method through which our code calls the outside, and how that may fail."""

    owner: type
    method: str
    error: Callable[[], Exception]

    @property
    def name(self) -> str:
        return f"{self.owner.__name__}.{self.method}"


@dataclass
class Points:
    """The points of one run, in order. The one at index `at` goes wrong (None: none does)."""

    at: int | None = None
    names: list[str] = field(default_factory=list)
    counting: bool = False
    """Nothing counts before it is set: what is set up for all runs alike goes well."""

    @property
    def struck(self) -> str | None:
        """What went wrong; None where nothing has."""
        return None if self.at is None or self.at >= len(self.names) else self.names[self.at]

    def strikes(self, name: str) -> bool:
        """Count a point; whether it is the one that goes wrong."""
        if not self.counting:
            return False
        self.names.append(name)
        return self.at == len(self.names) - 1

    @contextmanager
    def at_seams(self, seams: list[Seam]) -> Iterator[None]:
        """Let every call through a seam be a point."""
        before = [(seam, getattr(seam.owner, seam.method)) for seam in seams]
        for seam, method in before:
            setattr(seam.owner, seam.method, self._guarded(seam, method))
        try:
            yield
        finally:
            for seam, method in before:
                setattr(seam.owner, seam.method, method)

    def _guarded(self, seam: Seam, method: Callable[..., Any]) -> Callable[..., Any]:
        if asyncio.iscoroutinefunction(method):

            @functools.wraps(method)
            async def waits(*arguments: Any, **named: Any) -> Any:
                if self.strikes(seam.name):
                    raise seam.error()
                return await method(*arguments, **named)

            return waits

        @functools.wraps(method)
        def calls(*arguments: Any, **named: Any) -> Any:
            if self.strikes(seam.name):
                raise seam.error()
            return method(*arguments, **named)

        return calls

    def callback(self, name: str, callback: Callable[..., Any]) -> Callable[..., Any]:
        """Return a callback of the application's that breaks where it is told to."""

        def called(*arguments: Any) -> Any:
            if self.strikes(name):
                raise BrokenError(name)
            return callback(*arguments)

        return called

    @types.coroutine
    def waiting(
        self, who: str, work: Coroutine[Any, Any, T], *, breaks: bool = False
    ) -> Generator[Any, Any, T]:
        """Run a part of a task's work; wherever it waits the task may be cancelled.

        With `breaks` it may raise `BrokenError` there, too, instead of going on.
        """
        step: Callable[[Any], Any] = work.send
        brought: Any = None
        while True:
            try:
                waited = step(brought)
            except StopIteration as stop:
                result: T = stop.value
                return result
            place = _place(work)
            if self.strikes(f"{who} is cancelled in {place}"):
                task = asyncio.current_task()
                assert task is not None
                asyncio.get_running_loop().call_soon(task.cancel)
            broken = breaks and self.strikes(f"{who} breaks in {place}")
            try:
                brought = yield waited
                step = work.send
            except BaseException as error:
                step, brought = work.throw, error
            else:
                if broken:
                    step, brought = work.throw, BrokenError(who)


def unreachable() -> OSError:
    """What the kernel says of a packet that it cannot send."""
    return OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH))


def in_use() -> OSError:
    """What it says of a port that somebody has."""
    return OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def _place(work: Any) -> str:
    """Where a coroutine waits: the innermost of our own functions."""
    found = "?"
    while work is not None:
        code = getattr(work, "cr_code", None) or getattr(work, "gi_code", None)
        frame = getattr(work, "cr_frame", None) or getattr(work, "gi_frame", None)
        if code is not None and frame is not None and f"{os.sep}voip{os.sep}" in code.co_filename:
            file = code.co_filename.rpartition(f"{os.sep}voip{os.sep}")[2]
            found = f"{file}:{frame.f_lineno} {code.co_name}"
        work = getattr(work, "cr_await", None) or getattr(work, "gi_yieldfrom", None)
    return found
