"""Cryptographic contexts (RFC 3711 section 3.2): one direction, and one key.

Packets lie in memory that is written in place. `own` and `library` are two implementations.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from voip.rtp.srtp.replay import ReplayWindow

__all__ = [
    "FORGED",
    "MAX_SOURCES",
    "REFUSED",
    "REPLAYED",
    "Looped",
    "Receiver",
    "Sender",
    "Windowed",
]

FORGED = -1
"""In a length's place: what came was not made with our keys, or is no such packet."""
REPLAYED = -2
"""In a length's place: it has come before, or is too old to tell."""
REFUSED = 0
"""In a length's place: it is no packet, or its key has been used up, and must not be sent."""
MAX_SOURCES = 64
"""Sources heard by one key; a further one is forged. Each is remembered as long as the key is."""


class Sender(Protocol):
    """Protects what is sent by one key.

    packet: writable memory, with `ROOM_BYTES` behind the packet's `length`. Returns the length
    afterwards, or `REFUSED`, which leaves the packet as it may be.
    """

    @property
    def indexes(self) -> Mapping[int, int]:
        """The highest index sent, by SSRC."""
        ...

    @property
    def rtcp_indexes(self) -> Mapping[int, int]:
        """The index of the next RTCP packet, by SSRC."""
        ...

    def protect(self, packet: memoryview, length: int) -> int:
        """Protect an RTP packet."""
        ...

    def protect_rtcp(self, packet: memoryview, length: int) -> int:
        """Protect an RTCP packet."""
        ...


class Receiver(Protocol):
    """Takes what comes by one key. What it returns is the length, `FORGED` or `REPLAYED`.

    Whatever the octets are, nothing is raised. What is not accepted may have been written to.
    """

    @property
    def indexes(self) -> Mapping[int, int]:
        """The highest index received, by SSRC."""
        ...

    @property
    def rtcp_indexes(self) -> Mapping[int, int]:
        """The same of RTCP."""
        ...

    def unprotect(self, packet: memoryview, length: int) -> int:
        """Authenticate and decrypt an RTP packet in place."""
        ...

    def unprotect_rtcp(self, packet: memoryview, length: int) -> int:
        """Authenticate and decrypt an RTCP packet in place."""
        ...


@runtime_checkable
class Looped(Protocol):
    """A context of libsrtp's, whose packets may go through a loop in C instead.

    handle: of libsrtp's session, which lives as long as this does. indexes: what the loop does to
    them is to be written back before the context is asked anything.
    """

    handle: int
    indexes: dict[int, int]


@runtime_checkable
class Windowed(Protocol):
    """A context of ours, whose packets a loop in C may take by the same keys.

    windows: which indexes have been used, by SSRC; likewise to be written back.
    """

    windows: dict[int, ReplayWindow]
