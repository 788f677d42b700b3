"""Counts what reading something costs, the same number at every run.

A step is a call of a function, Python's or C's, or a character that a regular expression had to
look at. No clock is asked. Patterns that step back would make the second kind a lie:
`stepping_back` finds them.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from re import _constants, _parser  # type: ignore[attr-defined]
from types import FrameType, ModuleType
from typing import Any

import pytest

from voip.errors import VoipError

UNBOUNDED = _constants.MAXREPEAT


class StepCounter:
    """Counts the steps of functions that use the patterns of `modules`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *modules: ModuleType) -> None:
        self.steps = 0
        self.patterns = 0
        for module, name, pattern in patterns_of(*modules):
            monkeypatch.setattr(module, name, _Counted(pattern, self))
            self.patterns += 1

    def cost(self, read: Callable[[bytes], object], data: bytes) -> int:
        """Return the steps of one reading; what is wrong with the data does not matter."""
        self.steps = 0
        with suppress(VoipError):
            sys.setprofile(self._on_event)
            try:
                read(data)
            finally:
                sys.setprofile(None)
        return self.steps

    def _on_event(self, frame: FrameType, event: str, argument: Any) -> None:
        if event in ("call", "c_call"):
            self.steps += 1


class _Counted:
    """A pattern whose work is counted: characters matched, or all that are left where none are."""

    def __init__(self, pattern: re.Pattern[Any], counter: StepCounter) -> None:
        self._pattern = pattern
        self._counter = counter

    def _matched(self, found: re.Match[Any] | None, text: Any, start: int) -> Any:
        self._counter.steps += (len(text) if found is None else found.end()) - start
        return found

    def match(self, text: Any, start: int = 0) -> Any:
        return self._matched(self._pattern.match(text, start), text, start)

    def fullmatch(self, text: Any, start: int = 0) -> Any:
        return self._matched(self._pattern.fullmatch(text, start), text, start)

    def search(self, text: Any, start: int = 0) -> Any:
        return self._matched(self._pattern.search(text, start), text, start)

    def sub(self, by: Any, text: Any) -> Any:
        self._counter.steps += len(text)
        return self._pattern.sub(by, text)

    def findall(self, text: Any) -> Any:
        self._counter.steps += len(text)
        return self._pattern.findall(text)


def patterns_of(*modules: ModuleType) -> Iterator[tuple[ModuleType, str, re.Pattern[Any]]]:
    """Yield the patterns that modules have made."""
    for module in modules:
        for name, value in vars(module).items():
            if isinstance(value, re.Pattern):
                yield module, name, value


def stepping_back(pattern: re.Pattern[Any]) -> bool:
    """Whether a pattern has a repetition without end that may give back what it took."""
    return _steps_back(_parser.parse(pattern.pattern, pattern.flags & ~re.UNICODE))


def _steps_back(parts: Any) -> bool:
    for operator, argument in parts:
        if operator in (_constants.MAX_REPEAT, _constants.MIN_REPEAT) and argument[1] is UNBOUNDED:
            return True
        if any(_steps_back(inside) for inside in _inside(argument)):
            return True
    return False


def _inside(argument: Any) -> Iterator[Any]:
    if isinstance(argument, _parser.SubPattern):
        yield argument
    elif isinstance(argument, tuple | list):
        for one in argument:
            yield from _inside(one)
