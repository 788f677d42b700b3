"""A call whose peer speaks, and describes its silences, in whatever order and however badly."""

from __future__ import annotations

from functools import cache
from itertools import count

import numpy as np
import numpy.typing as npt

from voip.media.commands import AddSink, CloseStream, ConnectStream, OpenStream, PayloadFormat
from voip.media.engine import Engine
from voip.media.io import PacketBatch
from voip.rtp.packet import pack_header
from voip.types import Address, SeededRandom

_HOST, _PEER = "127.0.0.1", Address("192.0.2.1", 20000)
_PCMU, _CN = PayloadFormat(0, "pcmu"), PayloadFormat(13, "cn")
_NUMBERS = count(1)
_MOST = 120
"""Packets of an input that are sent, one in 10 ms at most."""

SEEDS = (
    b"\x00\x00\x00" * 8 + b"\x41\x05\x28\x60\x80\x7f\x7f" + b"\x10\x00\x00" * 4,
    b"\x41\x00" + b"\x41\x01\x7f" + b"\x41\x22" + bytes(range(34)) + b"\x00\x00\x00" * 3,
    b"\x41\x21\x00" + bytes([254, 0] * 16) + b"\x45\x02\xff\xff" + b"\xc1\x03\x80\xff\x01",
)


class _Wire:
    """`PacketIO` with one packet at a time on it, and nobody at the other end."""

    kernel_timestamps = True

    def __init__(self) -> None:
        self.packet: bytes | None = None

    def open(self, row: int, host: str) -> tuple[Address, Address]:
        return Address(host, 10000), Address(host, 10001)

    def connect(self, row: int, rtp: Address | None, rtcp: Address | None) -> None:
        pass

    def close(self, row: int) -> None:
        pass

    def receive(self, batch: PacketBatch, now: float) -> int:
        batch.strangers.clear()
        packet, self.packet = self.packet, None
        if packet is None:
            return 0
        batch.data[0, : len(packet)] = np.frombuffer(packet, np.uint8)
        batch.slots[0] = batch.rows[0] = 0
        batch.lengths[0], batch.arrival[0] = len(packet), now
        batch.rtcp[0], batch.source[0] = False, -1
        batch.count = 1
        return 1

    def send(
        self,
        rows: npt.NDArray[np.int32],
        packets: npt.NDArray[np.uint8],
        lengths: npt.NDArray[np.int32],
    ) -> int:
        return rows.size

    def send_one(self, row: int, packet: bytes, *, rtcp: bool) -> bool:
        return True


class _Bench:
    """An engine whose calls follow each other."""

    def __init__(self, native: bool | None) -> None:
        self.wire, self.now = _Wire(), 100.0
        self.engine = Engine(self.wire, random=SeededRandom(1), native=native)

    def call(self, packets: list[bytes]) -> npt.NDArray[np.int16]:
        """Let packets come, one in 10 ms; return what is heard until a while later."""
        engine, stream = self.engine, next(_NUMBERS)
        ring = engine.arena.allocate(4 * 8000)
        engine.submit(OpenStream(stream, _HOST, "a@b"))
        engine.submit(
            ConnectStream(
                stream, _PEER, None, _PCMU, (_PCMU,), receive_noise=(_CN,), send_noise=_CN, dtx=True
            )
        )
        engine.submit(AddSink(stream, ring))
        for packet in [b"", *packets, *[b""] * 20]:
            self.wire.packet = packet or None
            self.now += 0.01
            engine.tick(self.now, 1e9 + self.now)
        heard = engine.arena.ring(ring).read(4 * 8000)
        row = engine._table.rows[stream]
        assert 0 <= engine._table.playout.ring.count[row] <= 64
        assert 0 <= engine._table.playout.pcm.fill[row] < 48 * 240
        assert np.isfinite(engine._table.playout.comfort.state[row]).all()
        engine.submit(CloseStream(stream))
        engine.tick(self.now, 1e9 + self.now)
        engine.arena.release(ring)
        engine.events()
        assert engine.streams == 0
        return heard


@cache
def _benches() -> tuple[_Bench, ...]:
    return _Bench(None), _Bench(False)


def silence(data: bytes) -> None:
    """Records: what and how long, then octets. As much is heard as time goes by."""
    packets: list[bytes] = []
    sequence, stamp, at = 65_500, 2**32 - 4000, 0
    while at + 1 < len(data) and len(packets) < _MOST:
        what, size = data[at], data[at + 1]
        payload = data[at + 2 : at + 2 + size]
        at += 2 + size
        noise = bool(what & 1)
        sequence += (1, 1, 1, 2, 0, -1, 1, 5)[what >> 1 & 7]
        stamp += (160, 0, 80, -160, 1600, 100_000, 160, 320)[what >> 4 & 7]
        header = pack_header(13 if noise else 0, sequence, stamp, 7, marker=what > 127)
        packets += [header + (payload if noise else payload.ljust(160, b"\x80")), b""]
    for bench in _benches():
        heard = bench.call(packets)
        assert abs(heard.size - 80 * (len(packets) + 21)) <= 480
