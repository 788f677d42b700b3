"""Native libraries of codecs: where they are found, and handles that are given back.

They are called by ctypes, with the interpreter's lock kept (decision 0093), or by `_libraries.c`,
where it was built, for a loop in C (decision 0117).
"""

from __future__ import annotations

import ctypes
import ctypes.util
import weakref
from collections.abc import Callable, Iterator
from functools import cache
from importlib import metadata
from types import ModuleType
from typing import Any, Final

from voip.errors import CodecError
from voip.optional_c import c_is_wanted

_libraries: ModuleType | None
try:
    from voip.codecs import _libraries
except ImportError:  # there was no compiler
    _libraries = None

__all__ = [
    "Handle",
    "adapter",
    "address_of",
    "candidates",
    "first_that_opens",
    "function",
    "library",
]

_WHEEL: Final = "av"
"""The distribution whose wheels carry some of them, as files of their own."""


def candidates(name: str) -> Iterator[str]:
    """Where a library may be, such as "libopus.so.0": the system's, then PyAV's wheel's."""
    yield name
    stem = name.partition(".so")[0]
    named = ctypes.util.find_library(stem.removeprefix("lib"))
    if named is not None:
        yield named
    try:
        files = metadata.distribution(_WHEEL).files or ()
    except metadata.PackageNotFoundError:
        return
    for file in files:
        if file.name.startswith(stem) and file.parts[0] != "..":
            yield str(file.locate())


def first_that_opens(paths: Iterator[str], name: str, install: str) -> ctypes.PyDLL:
    """Open a library. Raises CodecError, with a hint, where none can be."""
    for path in paths:
        try:
            return ctypes.PyDLL(path)
        except OSError:
            continue
    raise CodecError(f"there is no {name.partition('.so')[0]} on this machine", hint=install)


@cache
def library(name: str, package: str) -> ctypes.PyDLL:
    """Return a library, opened once. Raises CodecError where there is none.

    `package`: Debian's, to install.
    """
    install = f"install the system's {name.partition('.so')[0]} (Debian: {package})"
    return first_that_opens(candidates(name), name, install)


def function(library: ctypes.PyDLL, name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
    """Return a function of a library. Raises CodecError where it is another library's."""
    try:
        found = getattr(library, name)
    except AttributeError:
        raise CodecError(f"{library._name} has no {name}") from None
    found.restype, found.argtypes = result, list(arguments)
    return found  # type: ignore[no-any-return]


def adapter(name: str) -> int:
    """Return the address of a function of `_libraries.c`; 0 where that was not built.

    VOIP_NATIVE=0 in the environment does without it all the same.
    """
    if _libraries is None or not c_is_wanted():
        return 0
    return int(getattr(_libraries, name))


def address_of(function: Callable[..., Any]) -> int:
    """Return where a function of a library lies."""
    return ctypes.cast(function, ctypes.c_void_p).value or 0  # type: ignore[arg-type]


class Handle:
    """What a library allocated: given back to it when nobody holds this any more."""

    def __init__(self, pointer: int | None, destroy: Callable[[int], Any], what: str) -> None:
        if not pointer:
            raise CodecError(f"{what}: the library has no memory")
        self.pointer = pointer
        weakref.finalize(self, destroy, pointer)
