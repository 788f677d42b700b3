"""Protected packets to be spoiled, and who must not take them: SRTP and SRTCP of every suite."""

from __future__ import annotations

from functools import cache

import numpy as np

from voip.media import srtp_rows
from voip.media.io import HEAD_BYTES, SLOT_BYTES, PacketBatch
from voip.media.srtp_rows import Way
from voip.rtp.packet import pack_header
from voip.rtp.srtp.keys import ROOM_BYTES, SrtpKeys
from voip.rtp.srtp.stream import Inbound, Outbound, make_receiver
from voip.rtp.srtp.suites import SUITES
from voip.types import SeededRandom

_EXTENDED = (
    b"\x90\x00\x00\x09\x00\x00\x00\x09\x00\x00\xab\xcd\xbe\xde\x00\x02\x10\xff\x21\xee\xdd\0\0\0"
)
_PLAIN = (
    pack_header(0, 7, 7, 0xABCD) + bytes(range(40)),
    _EXTENDED + bytes(20),
    b"\x80\xc9\x00\x01\x00\x00\xab\xcd\x81\xca\x00\x03\x00\x00\xab\xcd\x01\x03a@b\0\0\0",
)


def _keys() -> list[SrtpKeys]:
    random = SeededRandom(5)
    found = [SrtpKeys.generate(suite, random, mki) for suite in SUITES for mki in (b"", b"\1\2")]
    one = SrtpKeys.generate(found[0].suite, random)
    return [*found, SrtpKeys(one.suite, one.key, one.salt, b"", frozenset({1, 2}))]


@cache
def protected_packets() -> dict[bytes, bytes]:
    """What was protected, and what it was before."""
    found = {}
    for keys in _keys():
        sender = Outbound()
        sender.rekey(keys)
        for plain in _PLAIN:
            room = memoryview(bytearray(plain + bytes(ROOM_BYTES)))
            length = sender.protect(room, len(plain), rtcp=plain[1] == 0xC9)
            found[bytes(room[:length])] = plain
    return found


@cache
def _receivers() -> tuple[Inbound, ...]:
    found = []
    for keys in _keys():
        for library in (True, False):
            receiver = Inbound(library=library)
            receiver.rekey(keys, 0.0)
            found.append(receiver)
    both = Inbound()  # that has changed its keys
    for keys in _keys()[:3]:
        both.rekey(keys, 0.0)
    return (*found, both)


def srtp(data: bytes) -> None:
    """A packet for every suite, MKI and implementation: nothing but what was protected is taken."""
    for receiver in _receivers():
        for rtcp in (False, True):
            room = memoryview(bytearray(data + bytes(16)))
            length = receiver.unprotect(room, len(data), 1.0, rtcp=rtcp)
            assert length in (-1, -2) or bytes(room[:length]) == protected_packets().get(data)
    if srtp_rows.available() and len(data) <= SLOT_BYTES:
        _by_the_loop(data)


@cache
def _looped() -> tuple[Way, PacketBatch]:
    """A row for every set of keys, whose source has been heard: what seems to be its is for C."""
    way, rows = Way(), len(_keys())
    way.room_for(rows - 1, rows)
    for row, keys in enumerate(_keys()):
        library = None if keys.transform.aead else False
        receiver = make_receiver(keys, {0xABCD: 0}, {}, library)
        way.change(row, receiver, keys, native=True)
        way.follow(row, 0xABCD)
    batch = PacketBatch(rows)
    batch.slots[:], batch.rtcp[:] = np.arange(rows), False
    return way, batch


def _by_the_loop(data: bytes) -> None:
    """The same by the loop in C; each time from where it began."""
    way, batch = _looped()
    rows = np.arange(way.mode.size)
    packets = batch.memory[:, HEAD_BYTES:]
    packets[:, : len(data)] = np.frombuffer(data, np.uint8)
    batch.lengths[:] = len(data)
    verdicts = np.zeros(rows.size, np.uint8)
    before = way.index.copy(), way.seen.copy()
    way.unprotect(srtp_rows.functions(), batch, rows, verdicts)
    for row, verdict in enumerate(verdicts.tolist()):
        if verdict == 0:
            length = batch.lengths[row]
            assert packets[row, :length].tobytes() == protected_packets().get(data)
        elif way.mode[row] == srtp_rows.COUNTER and verdict != 1:
            assert packets[row, : len(data)].tobytes() == data  # it is left as it was
    ours = way.mode == srtp_rows.COUNTER
    way.index[ours], way.seen[ours] = before[0][ours], before[1][ours]
