"""Payloads of RED to be spoiled (RFC 2198), and calls that hear them."""

from __future__ import annotations

from functools import cache

import numpy as np

from voip.codecs.red import MAX_BLOCKS, RedBlock, pack, unpack
from voip.errors import CodecError
from voip.media.commands import ConnectStream, OpenStream, PayloadFormat
from voip.media.engine import Engine
from voip.media.io import PacketBatch
from voip.media.red_intake import read_blocks
from voip.rtp.packet import pack_header
from voip.types import Address, SeededRandom

MAX_OCTETS = 1400

PAYLOADS = (
    pack([RedBlock(0, bytes(range(160)), 160), RedBlock(0, bytes(160))]),
    pack([RedBlock(0, bytes(80), 320), RedBlock(8, bytes(80), 160), RedBlock(0, bytes(160))]),
    pack([RedBlock(9, bytes(160), 160), RedBlock(9, bytes(160))]),
    pack([*[RedBlock(0, b"\1", 160 * n) for n in range(15, 0, -1)], RedBlock(0, bytes(160))]),
    pack([RedBlock(101, b"\5\x80\0\xa0", 160), RedBlock(101, b"\5\x80\0\xa0")]),
)
"""Well-formed: one generation and several, of other types, as many as there may be, of digits."""


class _Wire:
    """`PacketIO` that delivers what is put in, at once, and sends nowhere."""

    kernel_timestamps = True

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.waiting: list[tuple[int, bytes]] = []

    def open(self, row: int, host: str) -> tuple[Address, Address]:
        self.rows.append(row)
        return Address(host, 10_000 + 2 * row), Address(host, 10_001 + 2 * row)

    def connect(self, row: int, rtp: Address | None, rtcp: Address | None) -> None: ...

    def close(self, row: int) -> None: ...

    def receive(self, batch: PacketBatch, now: float) -> int:
        for at, (row, packet) in enumerate(self.waiting):
            batch.data[at, : len(packet)] = np.frombuffer(packet, np.uint8)
            batch.slots[at], batch.rows[at], batch.lengths[at] = at, row, len(packet)
            batch.arrival[at], batch.rtcp[at], batch.source[at] = now, False, -1
        count = len(self.waiting)
        self.waiting.clear()
        return count

    def send(self, rows: object, packets: object, lengths: object) -> int:
        return 0

    def send_one(self, row: int, packet: bytes, *, rtcp: bool) -> bool:
        return True


class _Calls:
    """Two calls that hear RED, of G.711 and of G.722, and a clock."""

    def __init__(self) -> None:
        self.wire = _Wire()
        self.engine = Engine(self.wire, random=SeededRandom(1))
        self.now, self.sent = 1.0, 0
        pcmu, pcma = PayloadFormat(0, "pcmu"), PayloadFormat(8, "pcma")
        digits = (PayloadFormat(101, "telephone-event"),)
        red = (PayloadFormat(96, "red"),)
        for stream, format_ in ((1, pcmu), (2, PayloadFormat(9, "g722"))):
            self.engine.submit(OpenStream(stream, "127.0.0.1", "a@b", jitter_min_ms=60))
            self.engine.submit(
                ConnectStream(
                    stream, None, None, format_, (format_, pcmu, pcma), send=False,
                    receive_dtmf=digits, receive_redundancy=red,
                )
            )  # fmt: skip
        self.engine.tick(self.now, self.now)

    def hear(self, payload: bytes) -> None:
        """Let both hear a packet of a talk that goes on, but for every third, and 20 ms pass."""
        self.sent += 1
        self.now += 0.02
        if self.sent % 3:
            header = pack_header(96, self.sent & 0xFFFF, 160 * self.sent & 0xFFFFFFFF, 7)
            self.wire.waiting = [(row, header + payload) for row in self.wire.rows]
        for _ in range(2):
            self.engine.tick(self.now, self.now)
            self.now += 0.005
        self.now -= 0.01
        self.engine.events()
        playout = self.engine._table.playout
        for row in self.wire.rows:
            assert 0 <= playout.ring.count[row] <= 64
            assert playout.recovered[row] <= self.sent * MAX_BLOCKS
        assert playout.ring.pooled <= 128


@cache
def _calls() -> _Calls:
    return _Calls()


def red(data: bytes) -> None:
    """A payload, read as `unpack` reads it and heard in two calls."""
    data = data[:MAX_OCTETS]
    octets = np.frombuffer(data, np.uint8)
    room = np.zeros((1, MAX_OCTETS + 1), np.uint8)
    room[0, : octets.size] = octets
    found = read_blocks(room, np.zeros(1, np.intp), np.zeros(1, np.int64), np.array([octets.size]))
    try:
        blocks = unpack(data)
    except CodecError:
        assert not found.valid[0]
    else:
        assert found.valid[0]
        assert found.count[0] == len(blocks) - 1
        assert found.newest_size[0] == len(blocks[-1].payload)
    _calls().hear(data)
