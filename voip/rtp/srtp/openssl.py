"""Where OpenSSL's AES and SHA-1 are in this process, for a loop in C that links nothing.

They are pylibsrtp's, whose module brings an OpenSSL of its own, or the one of Python's `hashlib`.
All are of OpenSSL's public interface.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from functools import cache

__all__ = ["NAMES", "addresses", "addresses_in"]

NAMES = (
    "EVP_CIPHER_CTX_new",
    "EVP_CIPHER_CTX_free",
    "EVP_EncryptInit_ex",
    "EVP_EncryptUpdate",
    "EVP_aes_128_ctr",
    "EVP_aes_256_ctr",
    "SHA1_Update",
    "SHA1_Final",
)
"""In the order `_srtp.c` has them."""


@cache
def addresses() -> tuple[int, ...] | None:
    """Return where the functions of `NAMES` are; None: they are nowhere to be found."""
    return next((found for file in files() if (found := addresses_in(file))), None)


def files() -> Iterator[str]:
    """Yield files of modules that may have them, or depend on what has."""
    for module in ("pylibsrtp._binding", "_hashlib"):
        try:
            file = getattr(__import__(module, fromlist=["__file__"]), "__file__", None)
        except ImportError:
            continue
        if file:
            yield file


def addresses_in(file: str) -> tuple[int, ...] | None:
    """Return where they are in a library that is loaded, or in what it depends on."""
    try:
        library = ctypes.CDLL(file)
        found = [ctypes.cast(getattr(library, name), ctypes.c_void_p).value for name in NAMES]
    except (OSError, AttributeError):  # it is no library, or hides them
        return None
    return tuple(address or 0 for address in found)
