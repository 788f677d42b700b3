"""Cryptographic contexts of every suite, and encrypted header extensions, with `cryptography`."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from voip.rtp.srtp.context import FORGED, MAX_SOURCES, REFUSED, REPLAYED
from voip.rtp.srtp.derivation import EXTENSIONS, RTCP, RTP, session_keys
from voip.rtp.srtp.extensions import encryption_mask, payload_offset
from voip.rtp.srtp.keys import SrtpKeys
from voip.rtp.srtp.replay import INDEX_LIMIT, RTCP_INDEX_LIMIT, ReplayWindow, estimate
from voip.rtp.srtp.transforms import Aead, CounterMode, Keystream, Transform

__all__ = ["OwnReceiver", "OwnSender"]

_NUMBER_AND_SOURCE = struct.Struct(">2xHxxxxI")
_WORD = struct.Struct(">I")
_ENCRYPTED = 1 << 31
_RTCP_HEADER = 8


class OwnSender:
    """`Sender` with `cryptography`. indexes, rtcp_indexes: where an earlier key left off.

    They go on under a new key, as RFC 3711 sections 3.3.1 and 3.4 have it.
    """

    def __init__(
        self,
        keys: SrtpKeys,
        indexes: Mapping[int, int] | None = None,
        rtcp_indexes: Mapping[int, int] | None = None,
        *,
        rtcp_encrypted: bool = True,
    ) -> None:
        self.windows = _windows(indexes)
        self.rtcp_indexes = dict(rtcp_indexes or {})
        self._rtcp_encrypted = rtcp_encrypted
        self._rtp, self._rtcp = _transform(keys, RTP), _transform(keys, RTCP)
        self._extensions = _Extensions(keys) if keys.encrypted_extensions else None

    @property
    def indexes(self) -> Mapping[int, int]:
        """The highest index sent, by SSRC."""
        return _highest(self.windows)

    def protect(self, packet: memoryview, length: int) -> int:
        """Protect an RTP packet; never two of one index: whoever has both, has what they hide."""
        start = 12 if length >= 12 and packet[0] == 0x80 else payload_offset(packet, length)
        if start < 0:
            return REFUSED
        sequence, ssrc = _NUMBER_AND_SOURCE.unpack_from(packet)
        window = self.windows.get(ssrc)
        if window is None:
            window = self.windows[ssrc] = ReplayWindow()
        index = estimate(window.highest, sequence)
        if index >= INDEX_LIMIT or not window.is_new(index):
            return REFUSED
        window.note(index)
        if self._extensions is not None and packet[0] & 0x10:
            self._extensions.apply(packet, start, ssrc, index)
        return self._rtp.seal(packet, start, length, ssrc, index)

    def protect_rtcp(self, packet: memoryview, length: int) -> int:
        """Protect an RTCP packet."""
        if length < _RTCP_HEADER:
            return REFUSED
        (ssrc,) = _WORD.unpack_from(packet, 4)
        index = self.rtcp_indexes.get(ssrc, 0)
        if index >= RTCP_INDEX_LIMIT:
            return REFUSED
        self.rtcp_indexes[ssrc] = index + 1
        return self._rtcp.seal_rtcp(packet, length, ssrc, index, encrypted=self._rtcp_encrypted)


class OwnReceiver:
    """`Receiver` with `cryptography`. indexes, rtcp_indexes: what had come by an earlier key."""

    def __init__(
        self,
        keys: SrtpKeys,
        indexes: Mapping[int, int] | None = None,
        rtcp_indexes: Mapping[int, int] | None = None,
        *,
        rtcp_encrypted: bool = True,
    ) -> None:
        self.windows = _windows(indexes)
        self._rtcp_windows = _windows(rtcp_indexes)
        self._rtcp_encrypted = rtcp_encrypted
        self._rtp, self._rtcp = _transform(keys, RTP), _transform(keys, RTCP)
        self._extensions = _Extensions(keys) if keys.encrypted_extensions else None
        suite = keys.transform
        self._least_rtcp = _RTCP_HEADER + 4 + suite.rtcp_tag_bytes
        self._after_word = suite.rtcp_tag_after_mki

    @property
    def indexes(self) -> Mapping[int, int]:
        """The highest index received, by SSRC."""
        return _highest(self.windows)

    @property
    def rtcp_indexes(self) -> Mapping[int, int]:
        """The same of RTCP."""
        return _highest(self._rtcp_windows)

    def unprotect(self, packet: memoryview, length: int) -> int:
        """Authenticate and decrypt an RTP packet in place."""
        start = 12 if length >= 12 and packet[0] == 0x80 else payload_offset(packet, length)
        if start < 0:
            return FORGED
        sequence, ssrc = _NUMBER_AND_SOURCE.unpack_from(packet)
        window = self.windows.get(ssrc)
        if window is None:
            if len(self.windows) >= MAX_SOURCES:
                return FORGED
            window = ReplayWindow()
        index = estimate(window.highest, sequence)
        if not window.is_new(index):
            return REPLAYED
        if index >= INDEX_LIMIT:
            return FORGED
        length = self._rtp.open(packet, start, length, ssrc, index)
        if length >= 0:
            window.note(index)
            self.windows[ssrc] = window
            if self._extensions is not None and packet[0] & 0x10:
                self._extensions.apply(packet, start, ssrc, index)
        return length

    def unprotect_rtcp(self, packet: memoryview, length: int) -> int:
        """Authenticate and decrypt an RTCP packet in place."""
        if length < self._least_rtcp:
            return FORGED
        (ssrc,) = _WORD.unpack_from(packet, 4)
        (word,) = _WORD.unpack_from(packet, length - self._after_word - 4)
        if bool(word & _ENCRYPTED) is not self._rtcp_encrypted:
            return FORGED
        window = self._rtcp_windows.get(ssrc)
        if window is None:
            if len(self._rtcp_windows) >= MAX_SOURCES:
                return FORGED
            window = ReplayWindow()
        index = word & ~_ENCRYPTED
        if not window.is_new(index):
            return REPLAYED
        length = self._rtcp.open_rtcp(packet, length, ssrc, word)
        if length >= 0:
            window.note(index)
            self._rtcp_windows[ssrc] = window
        return length


def _windows(indexes: Mapping[int, int] | None) -> dict[int, ReplayWindow]:
    return {ssrc: ReplayWindow(index) for ssrc, index in (indexes or {}).items()}


def _highest(windows: Mapping[int, ReplayWindow]) -> dict[int, int]:
    return {ssrc: one.highest for ssrc, one in windows.items() if one.highest is not None}


class _Extensions:
    """Encrypts the chosen elements of header extensions, or decrypts them (RFC 6904 section 3)."""

    def __init__(self, keys: SrtpKeys) -> None:
        self._stream = Keystream(session_keys(keys, EXTENSIONS))
        self._chosen = keys.encrypted_extensions

    def apply(self, packet: memoryview, end: int, ssrc: int, index: int) -> None:
        """Do so in the header of a packet, which is whole and ends at `end`."""
        begin = 16 + 4 * (packet[0] & 0x0F)
        profile = int.from_bytes(packet[begin - 4 : begin - 2], "big")
        body = bytes(packet[begin:end])
        mask = encryption_mask(profile, body, self._chosen)
        if not any(mask):
            return
        stream = bytearray(len(body))
        self._stream.apply(memoryview(stream), ssrc, index)
        packet[begin:end] = bytes(
            octet ^ key & chosen for octet, key, chosen in zip(body, stream, mask, strict=True)
        )


def _transform(keys: SrtpKeys, label: int) -> Transform:
    suite, session = keys.transform, session_keys(keys, label)
    if suite.aead:
        return Aead(session)
    return CounterMode(session, suite.tag_bytes if label == RTP else suite.rtcp_tag_bytes)
