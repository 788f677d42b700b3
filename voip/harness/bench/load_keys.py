"""The load's side of protected calls: keys both processes know, and SRTP around its packets."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from voip.media.commands import ProtectStream
from voip.rtp.srtp.keys import ROOM_BYTES, SrtpKeys
from voip.rtp.srtp.stream import Inbound, Outbound
from voip.rtp.srtp.suites import suite_of
from voip.types import SeededRandom

__all__ = ["BARS_US", "LoadKeys", "protect_command"]

BARS_US = {
    "AES_CM_128_HMAC_SHA1_80": 4.0,
    "AES_CM_128_HMAC_SHA1_32": 4.0,
    "AES_256_CM_HMAC_SHA1_80": 20.0,
    "AES_256_CM_HMAC_SHA1_32": 20.0,
}
"""How much more a call may cost per 20 ms, on the reference machine; others have no bar."""


def _keys(suite: str, call: int) -> tuple[SrtpKeys, SrtpKeys]:
    """Return the keys of the engine's packets and of the load's: anybody can guess them."""
    random = SeededRandom(call)
    return SrtpKeys.generate(suite, random), SrtpKeys.generate(suite, random)


def protect_command(suite: str, call: int) -> ProtectStream:
    """Return what tells the engine of the keys of a call."""
    ours, theirs = _keys(suite, call)
    return ProtectStream(call, send=ours, receive=theirs)


class LoadKeys:
    """The contexts of all calls."""

    def __init__(self, suite: str, calls: int) -> None:
        self.tag_bytes = suite_of(suite).tag_bytes
        self._outbound = [Outbound() for _ in range(calls)]
        self._inbound = [Inbound() for _ in range(calls)]
        for call in range(calls):
            theirs, ours = _keys(suite, call)
            self._outbound[call].rekey(ours)
            self._inbound[call].rekey(theirs, 0.0)

    def protect(self, packets: npt.NDArray[np.uint8]) -> None:
        """Protect one packet of each call, uint8 (calls, bytes), which ends with room for a tag."""
        memory = packets.data.cast("B")
        width = packets.shape[1]
        for call, outbound in enumerate(self._outbound):
            packet = memory[call * width : (call + 1) * width]
            outbound.protect(packet, width - self.tag_bytes, rtcp=False)

    def protect_report(self, call: int, packet: bytes) -> bytes:
        """Return RTCP, protected."""
        room = memoryview(bytearray(packet + bytes(ROOM_BYTES)))
        return bytes(room[: self._outbound[call].protect(room, len(packet), rtcp=True)])

    def unprotect(self, call: int, packet: bytes, *, rtcp: bool) -> bytes:
        """Return what came, without protection; b"" where it is not what it should be."""
        room = memoryview(bytearray(packet))
        return bytes(
            room[: max(0, self._inbound[call].unprotect(room, len(packet), 0.0, rtcp=rtcp))]
        )
