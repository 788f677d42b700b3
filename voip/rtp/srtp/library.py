"""The same contexts by libsrtp, through pylibsrtp's module of C functions.

Packets are worked on where they lie; pylibsrtp's own `Session` copies them three times. It cannot
set an index, which goes on under a new key: packets are made for that, and never sent.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterator, Mapping
from typing import Any

from pylibsrtp import Policy, Session, _binding
from pylibsrtp._binding import ffi, lib

from voip.rtp.srtp.context import FORGED, MAX_SOURCES, REFUSED, REPLAYED
from voip.rtp.srtp.keys import SrtpKeys
from voip.rtp.srtp.replay import WINDOW, estimate

__all__ = ["PROTECT", "UNPROTECT", "LibraryReceiver", "LibrarySender", "can_go_on", "suites"]

_PROFILES = {
    "AES_CM_128_HMAC_SHA1_80": Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
    "AES_CM_128_HMAC_SHA1_32": Policy.SRTP_PROFILE_AES128_CM_SHA1_32,
    "AEAD_AES_128_GCM": Policy.SRTP_PROFILE_AEAD_AES_128_GCM,
    "AEAD_AES_256_GCM": Policy.SRTP_PROFILE_AEAD_AES_256_GCM,
}
_BEYOND = {  # what libsrtp has and pylibsrtp does not name: its functions, for RTP and for RTCP
    "AES_256_CM_HMAC_SHA1_80": ("aes_cm_256_hmac_sha1_80", "aes_cm_256_hmac_sha1_80"),
    "AES_256_CM_HMAC_SHA1_32": ("aes_cm_256_hmac_sha1_32", "aes_cm_256_hmac_sha1_80"),
}
_OK = 0
_REPLAYS = (9, 10)  # srtp_err_status_replay_fail, srtp_err_status_replay_old
_NUMBER_AND_SOURCE = struct.Struct(">2xHxxxxI")
_HEADER = struct.Struct(">BBHII")
_STRIDE = 0x4000  # less than half of what a sequence number counts to
_MOST_BLANKS = 2048
"""Packets that are made to go on under a new key, at most: 2 us each, and all calls wait."""
_RTCP_HEADER = 8
_FIRST_RTCP = 1  # libsrtp's first index; RFC 3711's is 0

PROTECT = int(ffi.cast("uintptr_t", ffi.addressof(lib, "srtp_protect")))
"""Where libsrtp's function is: for a loop in C."""
UNPROTECT = int(ffi.cast("uintptr_t", ffi.addressof(lib, "srtp_unprotect")))


def _setters() -> dict[str, tuple[Any, Any]]:
    """Return what sets a policy to the suites of `_BEYOND`: nothing where a build hides it."""
    try:
        whole = ctypes.CDLL(_binding.__file__)
        found = {
            suite: tuple(getattr(whole, f"srtp_crypto_policy_set_{name}") for name in names)
            for suite, names in _BEYOND.items()
        }
    except (OSError, AttributeError):
        return {}
    for function in (function for both in found.values() for function in both):
        function.argtypes, function.restype = (ctypes.c_void_p,), None
    return {suite: (of_rtp, of_rtcp) for suite, (of_rtp, of_rtcp) in found.items()}


_SETTERS = _setters()


def suites() -> frozenset[str]:
    """Return the names of the suites it has."""
    return frozenset(_PROFILES) | frozenset(_SETTERS)


def can_go_on(indexes: Mapping[int, int], rtcp_indexes: Mapping[int, int]) -> bool:
    """Whether libsrtp comes to these indexes soon enough; they may be a peer's, and anything."""
    way = sum(index // _STRIDE + WINDOW for index in indexes.values())
    return way + sum(rtcp_indexes.values()) <= _MOST_BLANKS


def _session(keys: SrtpKeys, kind: int) -> Session:
    profile = _PROFILES.get(keys.suite, Policy.SRTP_PROFILE_AES128_CM_SHA1_80)
    policy = Policy(key=keys.key + keys.salt, ssrc_type=kind, srtp_profile=profile)
    if keys.suite not in _PROFILES:
        for function, part in zip(_SETTERS[keys.suite], ("rtp", "rtcp"), strict=True):
            at = ffi.addressof(policy._policy, part)
            function(int(ffi.cast("uintptr_t", at)))
    policy.window_size = WINDOW
    return Session(policy)


class _Context:
    """What both directions have."""

    def __init__(self, keys: SrtpKeys, kind: int) -> None:
        self._session = _session(keys, kind)
        self._handle: Any = self._session._srtp[0]
        self._length = ffi.new("int *")
        self.indexes: dict[int, int] = {}
        self.rtcp_indexes: dict[int, int] = {}
        self.handle = int(ffi.cast("uintptr_t", self._handle))
        """Of the library's session, which lives as long as this does: for a loop in C."""

    def _call(self, function: Any, packet: memoryview, length: int) -> int:
        """Return libsrtp's status; the length is in `_length` then."""
        self._length[0] = length
        return int(function(self._handle, ffi.from_buffer(packet), self._length))

    def _note(self, ssrc: int, sequence: int) -> None:
        highest = self.indexes.get(ssrc)
        index = estimate(highest, sequence)
        if highest is None or index > highest:
            self.indexes[ssrc] = index


class LibrarySender(_Context):
    """`voip.rtp.srtp.context.Sender`."""

    def __init__(
        self,
        keys: SrtpKeys,
        indexes: Mapping[int, int] | None = None,
        rtcp_indexes: Mapping[int, int] | None = None,
    ) -> None:
        super().__init__(keys, Policy.SSRC_ANY_OUTBOUND)
        room = memoryview(bytearray(64))
        for ssrc, index in (indexes or {}).items():
            for number in _all_before(index):
                _blank(room, ssrc, number)
                self.protect(room, 12)
        for ssrc, index in (rtcp_indexes or {}).items():
            for _ in range(_FIRST_RTCP, index):
                self.protect_blank_report(room, ssrc)

    def protect(self, packet: memoryview, length: int) -> int:
        """Protect an RTP packet."""
        if length < 12 or self._call(lib.srtp_protect, packet, length) != _OK:
            return REFUSED
        sequence, ssrc = _NUMBER_AND_SOURCE.unpack_from(packet)
        self._note(ssrc, sequence)
        return int(self._length[0])

    def protect_rtcp(self, packet: memoryview, length: int) -> int:
        """Protect an RTCP packet."""
        if length < _RTCP_HEADER or self._call(lib.srtp_protect_rtcp, packet, length) != _OK:
            return REFUSED
        ssrc = int.from_bytes(packet[4:8], "big")
        self.rtcp_indexes[ssrc] = self.rtcp_indexes.get(ssrc, _FIRST_RTCP) + 1
        return int(self._length[0])

    def protect_blank_report(self, room: memoryview, ssrc: int) -> int:
        """Let an index of RTCP pass, by a packet that says nothing."""
        room[:_RTCP_HEADER] = b"\x80\xc9\x00\x01" + ssrc.to_bytes(4, "big")
        return self.protect_rtcp(room, _RTCP_HEADER)


class LibraryReceiver(_Context):
    """`voip.rtp.srtp.context.Receiver`."""

    def __init__(
        self,
        keys: SrtpKeys,
        indexes: Mapping[int, int] | None = None,
        rtcp_indexes: Mapping[int, int] | None = None,
    ) -> None:
        super().__init__(keys, Policy.SSRC_ANY_INBOUND)
        suite = keys.transform
        self._least = 12 + suite.tag_bytes
        self._least_rtcp = _RTCP_HEADER + 4 + suite.rtcp_tag_bytes
        self._after_word = suite.rtcp_tag_after_mki
        self._sources: set[int] = set()
        if indexes or rtcp_indexes:
            self._go_on(keys, indexes or {}, rtcp_indexes or {})

    def _go_on(
        self, keys: SrtpKeys, indexes: Mapping[int, int], rtcp_indexes: Mapping[int, int]
    ) -> None:
        """Come to where an earlier key left off: what is before that is not to come again."""
        peer = LibrarySender(keys)
        room = memoryview(bytearray(64))
        for ssrc, index in indexes.items():
            for number in _all_before(index):
                _blank(room, ssrc, number)
                if length := peer.protect(room, 12):
                    self.unprotect(room, length)
        for ssrc, index in rtcp_indexes.items():
            for number in range(_FIRST_RTCP, index + 1):
                length = peer.protect_blank_report(room, ssrc)
                if length and index - number < WINDOW:
                    self.unprotect_rtcp(room, length)

    def unprotect(self, packet: memoryview, length: int) -> int:
        """Authenticate and decrypt an RTP packet in place."""
        if length < self._least:
            return FORGED
        sequence, ssrc = _NUMBER_AND_SOURCE.unpack_from(packet)
        if not self._may_hear(ssrc):
            return FORGED
        status = self._call(lib.srtp_unprotect, packet, length)
        if status != _OK:
            return REPLAYED if status in _REPLAYS else FORGED
        self._sources.add(ssrc)
        self._note(ssrc, sequence)
        return int(self._length[0])

    def unprotect_rtcp(self, packet: memoryview, length: int) -> int:
        """Authenticate and decrypt an RTCP packet in place."""
        if length < self._least_rtcp:
            return FORGED
        ssrc = int.from_bytes(packet[4:8], "big")
        if not self._may_hear(ssrc):
            return FORGED
        end = length - self._after_word
        word = bytes(packet[end - 4 : end])
        status = self._call(lib.srtp_unprotect_rtcp, packet, length)
        if status != _OK:
            return REPLAYED if status in _REPLAYS else FORGED
        self._sources.add(ssrc)
        index = int.from_bytes(word, "big") & 0x7FFFFFFF
        self.rtcp_indexes[ssrc] = max(self.rtcp_indexes.get(ssrc, 0), index)
        return int(self._length[0])

    def _may_hear(self, ssrc: int) -> bool:
        return ssrc in self._sources or len(self._sources) < MAX_SOURCES


def _all_before(index: int) -> Iterator[int]:
    """Yield indexes from 0 to `index`, none too far from the one before, of the last all."""
    window = max(0, index - WINDOW)
    yield from range(window % _STRIDE, window + 1, _STRIDE)
    yield from range(window + 1, index + 1)


def _blank(room: memoryview, ssrc: int, index: int) -> None:
    _HEADER.pack_into(room, 0, 0x80, 0, index & 0xFFFF, 0, ssrc)
