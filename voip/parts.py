"""What the parts of a phone do, as methods of the phone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MethodType
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, overload

__all__ = ["HasParts", "PartMethod"]

Part = TypeVar("Part")
P = ParamSpec("P")
R = TypeVar("R")


class HasParts(Protocol):
    """Something made of parts, which are found by their class."""

    _parts: Mapping[type, Any]


class PartMethod(Generic[Part, P, R]):
    """A method of the part of class `kind`, under a name of the whole's: `help` and editors see it.

    On an instance it is the part's bound method, on the class the function with its documentation.
    """

    def __init__(self, kind: type[Part], method: Callable[Concatenate[Part, P], R]) -> None:
        self._kind = kind
        self._method = method

    @overload
    def __get__(self, whole: None, owner: type) -> Callable[Concatenate[Part, P], R]: ...

    @overload
    def __get__(self, whole: HasParts, owner: type) -> Callable[P, R]: ...

    def __get__(self, whole: HasParts | None, owner: type) -> Callable[..., R]:
        if whole is None:
            return self._method
        return MethodType(self._method, whole._parts[self._kind])
