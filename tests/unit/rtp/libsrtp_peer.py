"""libsrtp by its own C interface, with what pylibsrtp leaves out: MKIs, encrypted extensions.

The functions are those of pylibsrtp's module; the structures are those of libsrtp 2's `srtp.h`.
"""

from __future__ import annotations

import ctypes

from pylibsrtp import _binding
from pylibsrtp._binding import ffi

from voip.rtp.srtp.keys import ROOM_BYTES, SrtpKeys

_INBOUND, _OUTBOUND = 2, 3
_SETTERS = {  # RTP's, RTCP's
    "AES_CM_128_HMAC_SHA1_80": ("rtp_default", "rtp_default"),
    "AES_CM_128_HMAC_SHA1_32": ("aes_cm_128_hmac_sha1_32", "rtp_default"),
    "AES_256_CM_HMAC_SHA1_80": ("aes_cm_256_hmac_sha1_80", "aes_cm_256_hmac_sha1_80"),
    "AES_256_CM_HMAC_SHA1_32": ("aes_cm_256_hmac_sha1_32", "aes_cm_256_hmac_sha1_80"),
    "AEAD_AES_128_GCM": ("aes_gcm_128_16_auth", "aes_gcm_128_16_auth"),
    "AEAD_AES_256_GCM": ("aes_gcm_256_16_auth", "aes_gcm_256_16_auth"),
}


class _CryptoPolicy(ctypes.Structure):
    _fields_ = (
        ("cipher_type", ctypes.c_uint32),
        ("cipher_key_len", ctypes.c_int),
        ("auth_type", ctypes.c_uint32),
        ("auth_key_len", ctypes.c_int),
        ("auth_tag_len", ctypes.c_int),
        ("sec_serv", ctypes.c_int),
    )


class _MasterKey(ctypes.Structure):
    _fields_ = (
        ("key", ctypes.c_char_p),
        ("mki_id", ctypes.c_char_p),
        ("mki_size", ctypes.c_uint),
    )


class _Policy(ctypes.Structure):
    _fields_ = (
        ("ssrc_type", ctypes.c_int),
        ("ssrc_value", ctypes.c_uint),
        ("rtp", _CryptoPolicy),
        ("rtcp", _CryptoPolicy),
        ("key", ctypes.c_char_p),
        ("keys", ctypes.POINTER(ctypes.POINTER(_MasterKey))),
        ("num_master_keys", ctypes.c_ulong),
        ("deprecated_ekt", ctypes.c_void_p),
        ("window_size", ctypes.c_ulong),
        ("allow_repeat_tx", ctypes.c_int),
        ("enc_xtn_hdr", ctypes.POINTER(ctypes.c_int)),
        ("enc_xtn_hdr_count", ctypes.c_int),
        ("next", ctypes.c_void_p),
    )


def is_as_written() -> bool:
    """Whether libsrtp was built with these structures, as far as pylibsrtp knows them."""
    known = {"rtp": _Policy.rtp, "rtcp": _Policy.rtcp, "key": _Policy.key}
    known |= {"window_size": _Policy.window_size, "allow_repeat_tx": _Policy.allow_repeat_tx}
    return ffi.sizeof("srtp_policy_t") == ctypes.sizeof(_Policy) and all(
        ffi.offsetof("srtp_policy_t", name) == field.offset for name, field in known.items()
    )


class LibsrtpPeer:
    """Sends and hears by several keys of one suite, told apart by MKIs of one length."""

    def __init__(self, *keys: SrtpKeys) -> None:
        self._library = ctypes.CDLL(_binding.__file__)
        self._keys = keys
        self._sessions = {kind: self._create(kind) for kind in (_INBOUND, _OUTBOUND)}

    def _create(self, kind: int) -> ctypes.c_void_p:
        policy, one = _Policy(), self._keys[0]
        for name, part in zip(_SETTERS[one.suite], (policy.rtp, policy.rtcp), strict=True):
            getattr(self._library, f"srtp_crypto_policy_set_{name}")(ctypes.byref(part))
        policy.ssrc_type, policy.window_size = kind, 128
        masters = [_MasterKey(k.key + k.salt, k.mki, len(k.mki)) for k in self._keys]
        pointers = (ctypes.POINTER(_MasterKey) * len(masters))(*map(ctypes.pointer, masters))
        if one.mki:
            policy.keys, policy.num_master_keys = pointers, len(masters)
        else:
            policy.key = one.key + one.salt
        chosen = sorted(one.encrypted_extensions)
        numbers = (ctypes.c_int * max(1, len(chosen)))(*chosen)
        if chosen:
            policy.enc_xtn_hdr, policy.enc_xtn_hdr_count = numbers, len(chosen)
        session = ctypes.c_void_p()
        status = self._library.srtp_create(ctypes.byref(session), ctypes.byref(policy))
        assert status == 0, status
        return session

    def seal(self, packet: bytes, key: int = 0, *, rtcp: bool = False) -> bytes:
        """Protect a packet by one of the keys."""
        function = "srtp_protect_rtcp_mki" if rtcp else "srtp_protect_mki"
        return self._call(function, _OUTBOUND, packet, ctypes.c_uint(key))

    def unseal(self, packet: bytes, *, rtcp: bool = False) -> bytes:
        """Take that back; b"": it is not authentic, or came before."""
        function = "srtp_unprotect_rtcp_mki" if rtcp else "srtp_unprotect_mki"
        return self._call(function, _INBOUND, packet)

    def _call(self, function: str, kind: int, packet: bytes, *more: ctypes.c_uint) -> bytes:
        # libsrtp reads and writes words: the packet has to be aligned
        room = (ctypes.c_uint64 * (1 + (len(packet) + ROOM_BYTES) // 8))()
        ctypes.memmove(room, packet, len(packet))
        length = ctypes.c_int(len(packet))
        by_mki = ctypes.c_uint(bool(self._keys[0].mki))
        status = getattr(self._library, function)(
            self._sessions[kind], room, ctypes.byref(length), by_mki, *more
        )
        return bytes(room)[: length.value] if status == 0 else b""

    def close(self) -> None:
        """Release both sessions."""
        for session in self._sessions.values():
            self._library.srtp_dealloc(session)
