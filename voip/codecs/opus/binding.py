"""libopus, called by ctypes: where it is found, and what of it is used.

The interpreter's lock is kept during a call (decision 0093): calls are short, taking the lock back
may not be, and no state is ever entered by two threads at once.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from ctypes import c_char_p, c_int, c_int32, c_void_p
from functools import cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from voip.codecs import libraries
from voip.errors import CodecError

__all__ = [
    "INSTALL",
    "LibOpus",
    "State",
    "address",
    "address_to_write",
    "candidates",
    "libopus",
    "open_library",
]

INSTALL: Final = "install the system's libopus (Debian: libopus0), or pip install av, which has one"
"""What to do where there is no libopus."""

_SYSTEM_NAME: Final = "libopus.so.0"

_first_octet: Final[Callable[[Any], ctypes.c_char]] = ctypes.c_char.from_buffer


class LibOpus:
    """An opened libopus. Its functions are called by their C arguments, pointers as integers."""

    def __init__(self, path: str) -> None:
        """Open it. Raises OSError where it cannot be loaded, AttributeError where it is another."""
        library = ctypes.PyDLL(path)
        self.path = path
        """A file, or a name that the system's loader knows."""
        text = library.opus_get_version_string
        text.restype = c_char_p
        self.version = str(text().decode("ascii", "replace")).removeprefix("libopus ")
        self._error_text = library.opus_strerror
        self._error_text.argtypes, self._error_text.restype = [c_int], c_char_p

        coding: list[Any] = [c_void_p, c_void_p, c_int, c_void_p, c_int32]
        decoding: list[Any] = [c_void_p, c_void_p, c_int32, c_void_p, c_int, c_int]
        self.encode, self.encode_float = library.opus_encode, library.opus_encode_float
        self.decode, self.decode_float = library.opus_decode, library.opus_decode_float
        for function in (self.encode, self.encode_float):
            function.argtypes, function.restype = coding, c_int32
        for function in (self.decode, self.decode_float):
            function.argtypes, function.restype = decoding, c_int

        self.encode_float_address = _address_of(self.encode_float)
        self.decode_float_address = _address_of(self.decode_float)

        self.encoder_size = library.opus_encoder_get_size
        self.decoder_size = library.opus_decoder_get_size
        for function in (self.encoder_size, self.decoder_size):
            function.argtypes, function.restype = [c_int], c_int
        self.encoder_init = library.opus_encoder_init
        self.encoder_init.argtypes = [c_void_p, c_int32, c_int, c_int]
        self.decoder_init = library.opus_decoder_init
        self.decoder_init.argtypes = [c_void_p, c_int32, c_int]
        self.encoder_ctl = library.opus_encoder_ctl
        self.encoder_ctl.argtypes = [c_void_p, c_int]  # the rest is variadic

    def check(self, result: int, what: str) -> int:
        """Return a result that is none of the library's errors, which are negative.

        Raises CodecError for those, naming what was done.
        """
        if result < 0:
            text = self._error_text(result).decode("ascii", "replace")
            raise CodecError(f"libopus {self.version}: {what}: {text}")
        return result


class State:
    """The memory of an encoder or decoder. It is Python's: there is nothing to close."""

    def __init__(self, octets: int) -> None:
        self._memory = ctypes.create_string_buffer(octets)
        self.pointer = ctypes.addressof(self._memory)


@cache
def libopus() -> LibOpus:
    """Return the library, opened once. Raises CodecError where there is none."""
    return open_library(candidates())


def candidates() -> Iterator[str]:
    """Where a libopus may be: the system's first, then the one that PyAV's wheel carries."""
    return libraries.candidates(_SYSTEM_NAME)


def open_library(paths: Iterator[str]) -> LibOpus:
    """Open the first that can be opened. Raises CodecError, with a hint, where none can."""
    for path in paths:
        try:
            return LibOpus(path)
        except (OSError, AttributeError):
            continue
    raise CodecError("there is no libopus on this machine", hint=INSTALL)


def _address_of(function: Any) -> int:
    return int(ctypes.cast(function, c_void_p).value or 0)


def address_to_write(array: npt.NDArray[np.generic]) -> int:
    """Return where the elements of an array lie; it must outlive what is done there.

    Raises CodecError for an array that is not contiguous, may not be written to, or is empty.
    """
    try:
        return ctypes.addressof(_first_octet(array))
    except (TypeError, ValueError) as error:
        raise CodecError(f"libopus cannot work in this array: {error}") from None


def address(array: npt.NDArray[np.generic]) -> int:
    """Return where the elements of an array lie, to be read: it may be read-only."""
    if array.flags.writeable:
        return address_to_write(array)
    if not array.flags.c_contiguous or array.size == 0:
        raise CodecError("libopus cannot read this array: it is not contiguous, or empty")
    return int(array.__array_interface__["data"][0])  # ctypes, four times as fast, refuses
