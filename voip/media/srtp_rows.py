"""What the loop in C knows of protected rows: their keys, and how far they have come.

AES-CM is done in the loop itself, on the columns that are here; AES-GCM is done by libsrtp, whose
session a column names (decision 0118). Contexts of `voip.rtp.srtp` take over what is rare, and get
the position of a row back before they are asked anything.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from voip.media.columns import ColumnSpec, Ints, Rows, grow, make, reset
from voip.media.io import HEAD_BYTES, PacketBatch
from voip.optional_c import c_is_wanted
from voip.rtp.srtp import openssl
from voip.rtp.srtp.context import Looped, Windowed
from voip.rtp.srtp.keys import SrtpKeys
from voip.rtp.srtp.stream import has_library
from voip.rtp.srtp.suites import AES_256_CM_HMAC_SHA1_80, AES_CM_128_HMAC_SHA1_80

try:
    from voip.media import _srtp
except ImportError:  # there was no compiler
    _srtp = None  # type: ignore[assignment]

__all__ = [
    "COUNTER",
    "LIBRARY",
    "MAX_LOOPED_MKI_BYTES",
    "PLAIN",
    "SINGLY",
    "Way",
    "available",
    "functions",
    "has_counter_mode",
    "is_looped_by_us",
]

PLAIN, SINGLY, LIBRARY, COUNTER = range(4)
"""How a row's packets are treated: not at all, one by one, and in C, by libsrtp or in AES-CM.
`_srtp.c` has them, too."""
MAX_LOOPED_MKI_BYTES = 20
"""Longer ones are treated one by one."""
_LOW = (1 << 64) - 1
_KEY, _SALT, _STATES, _LENGTHS, _MKI, _END = 0, 32, 48, 88, 92, 112  # in a row of `material`


def available() -> bool:
    """Whether there is a loop in C, and what it calls; VOIP_NATIVE=0 does without it."""
    wanted = _srtp is not None and c_is_wanted()
    return wanted and (has_library() or has_counter_mode())


@cache
def functions() -> npt.NDArray[np.uint64]:
    """Return where the functions are that the loop calls: libsrtp's, and OpenSSL's; 0: nowhere."""
    found = np.zeros(2 + len(openssl.NAMES), np.uint64)
    if has_library():
        from voip.rtp.srtp.library import PROTECT, UNPROTECT

        found[:2] = PROTECT, UNPROTECT
    if find_spec("cryptography") is not None and (addresses := openssl.addresses()):
        found[2:] = addresses
    return found


@cache
def has_counter_mode() -> bool:
    """Whether the loop does AES-CM as our other implementation does: a packet by each says so."""
    if _srtp is None or not functions()[2:].all():
        return False
    from voip.rtp.srtp.own import OwnSender

    packet = bytes.fromhex("80000001000000a0cafebabe") + bytes(range(40))
    for suite in (AES_CM_128_HMAC_SHA1_80, AES_256_CM_HMAC_SHA1_80):
        keys = SrtpKeys(
            suite.name, bytes(range(suite.key_bytes)), bytes(range(100, 100 + suite.salt_bytes))
        )
        one, way = OwnSender(keys, {0xCAFEBABE: 0}), Way()
        way.room_for(0, 1)
        way.change(0, one, keys, native=True)
        way.follow(0, 0xCAFEBABE)
        ours = np.frombuffer(packet + bytes(20), np.uint8)[None].copy()
        lengths, verdicts = np.array([len(packet)], np.int32), np.zeros(1, np.uint8)
        left = way.protect(functions(), np.zeros(1, np.int32), ours, lengths, verdicts)
        theirs = memoryview(bytearray(packet + bytes(20)))
        length = one.protect(theirs, len(packet))
        if left or lengths[0] != length or ours[0, :length].tobytes() != theirs[:length]:
            return False
    return True


def is_looped_by_us(keys: SrtpKeys | None) -> bool:
    """Whether packets by these keys are of those that the loop treats without libsrtp."""
    return (
        keys is not None
        and not keys.transform.aead
        and not keys.encrypted_extensions
        and len(keys.mki) <= MAX_LOOPED_MKI_BYTES
    )


class Way:
    """One direction of all rows, as `_srtp.c` sees it."""

    mode: npt.NDArray[np.uint8]
    session: npt.NDArray[np.uint64]
    ssrc: Ints
    index: Ints
    seen: npt.NDArray[np.uint64]
    material: npt.NDArray[np.uint8]

    COLUMNS: ClassVar[ColumnSpec] = {
        "mode": (np.uint8, PLAIN, ()),
        "session": (np.uint64, 0, ()),  # libsrtp's, where the loop in C may use it
        "ssrc": (np.int64, -1, ()),  # of the source whose packets it may take
        "index": (np.int64, 0, ()),  # the highest of that source's
        "seen": (np.uint64, 0, (2,)),  # which of the 128 up to that have come: bit 0 of the first
        "material": (np.uint8, 0, (_END,)),  # session keys: `Material` in C
    }

    def __init__(self) -> None:
        make(self, 0)
        self.contexts: dict[int, Looped | Windowed] = {}  # of the rows that may be treated in C
        self.verdicts: npt.NDArray[np.uint8] = np.zeros(0, np.uint8)

    def room_for(self, row: int, rows: int) -> None:
        """Make room for a row, of so many in all."""
        if row >= self.mode.size:
            grow(self, max(rows, row + 1))

    def judge(self, count: int) -> npt.NDArray[np.uint8]:
        """Return room for the verdicts on so many packets."""
        if self.verdicts.size < count:
            self.verdicts = np.zeros(2 * count, np.uint8)
        return self.verdicts[:count]

    def protect(
        self,
        called: npt.NDArray[np.uint64],
        rows: npt.NDArray[np.int32],
        packets: npt.NDArray[np.uint8],
        lengths: npt.NDArray[np.int32],
        verdicts: npt.NDArray[np.uint8],
    ) -> int:
        """Protect packets (table, width) of `rows` (k,) in C; return how many did not pass."""
        return _srtp.protect(
            called, self.mode, self.session, self.ssrc, self.index, self.seen, self.material,
            rows, packets, packets.shape[1], lengths, verdicts,
        )  # fmt: skip

    def unprotect(
        self,
        called: npt.NDArray[np.uint64],
        batch: PacketBatch,
        rows: Rows,
        verdicts: npt.NDArray[np.uint8],
    ) -> int:
        """Unprotect the first packets of a batch, of `rows` (k,), in C; return likewise."""
        return _srtp.unprotect(
            called, self.mode, self.session, self.ssrc, self.index, self.seen, self.material,
            rows, batch.rtcp, batch.memory, HEAD_BYTES, batch.slots, batch.lengths, verdicts,
        )  # fmt: skip

    def settle(self, row: int) -> None:
        """Tell the context of a row what was done in C, before it is asked anything."""
        context, ssrc = self.contexts.get(row), int(self.ssrc[row])
        if context is None or ssrc < 0:
            return
        if isinstance(context, Looped):
            context.indexes[ssrc] = int(self.index[row])
        else:
            window, (low, high) = context.windows[ssrc], self.seen[row].tolist()
            window.highest, window.seen = int(self.index[row]), high << 64 | low

    def change(self, row: int, context: object, keys: SrtpKeys | None, *, native: bool) -> None:
        """Treat a row by another context, of these keys; None: by none that C knows."""
        self.contexts.pop(row, None)
        reset(self, row)
        self.mode[row] = SINGLY
        if not native or keys is None:
            return
        if isinstance(context, Looped) and not keys.mki:
            self.contexts[row] = context
            self.mode[row], self.session[row] = LIBRARY, context.handle
        elif isinstance(context, Windowed) and is_looped_by_us(keys) and functions()[2:].all():
            self.contexts[row] = context
            self.mode[row], self.material[row] = COUNTER, _material(keys)

    def follow(self, row: int, ssrc: int) -> None:
        """Let C take the packets of this source, which the context has got to know."""
        context = self.contexts.get(row)
        if isinstance(context, Looped):
            if ssrc in context.indexes:
                self.ssrc[row], self.index[row] = ssrc, context.indexes[ssrc]
        elif context is not None and (window := context.windows.get(ssrc)) is not None:
            self.ssrc[row], self.index[row] = ssrc, window.highest or 0
            self.seen[row] = window.seen & _LOW, window.seen >> 64

    def forget(self, row: int) -> None:
        """Treat a row not at all: it is another one's now."""
        if row < self.mode.size:
            self.contexts.pop(row, None)
            reset(self, row)


def _material(keys: SrtpKeys) -> npt.NDArray[np.uint8]:
    """Return what the loop needs of keys, uint8 (112,)."""
    from voip.rtp.srtp.derivation import RTP, session_keys

    session = session_keys(keys, RTP)
    row = bytearray(_END)
    row[_KEY : _KEY + len(session.cipher)] = session.cipher
    row[_SALT : _SALT + len(session.salt)] = session.salt
    row[_STATES:_LENGTHS] = _srtp.midstates(functions(), session.authentication)
    row[_LENGTHS : _LENGTHS + 3] = len(session.cipher), keys.transform.tag_bytes, len(keys.mki)
    row[_MKI : _MKI + len(keys.mki)] = keys.mki
    return np.frombuffer(row, np.uint8)
