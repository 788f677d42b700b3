"""An engine on a desk: packets are put in by hand, time is turned by hand, all is written down."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pytest

from voip.codecs.g711 import ULAW_DECODE, ULAW_ENCODE
from voip.errors import TransportError
from voip.media import native
from voip.media.answers import Applied, EngineEvent, Opened, Refused, StreamStats
from voip.media.commands import (
    AddSink,
    Command,
    ConnectStream,
    OpenStream,
    PayloadFormat,
    ReadStats,
    SetSource,
)
from voip.media.engine import Engine
from voip.media.io import PacketBatch
from voip.rtp.packet import HEADER_BYTES, pack_header
from voip.types import Address, SeededRandom

HOST = "127.0.0.1"
RATE = 8000
START = 500.0
PCMU, PCMA = PayloadFormat(0, "pcmu"), PayloadFormat(8, "pcma")
DTMF = PayloadFormat(101, "telephone-event")
MAX_RTP_READS, MAX_RTCP_READS = 32, 4


WAYS = (
    pytest.param(
        True, marks=pytest.mark.skipif(not native.available(), reason="no C"), id="native"
    ),
    pytest.param(False, marks=pytest.mark.long, id="arrays"),
)
"""Of doing a tick. That both come to the same is proven in short (test_native.py) and at length."""


def peer(stream: int) -> Address:
    """Where the other side of a stream is said to be."""
    return Address("192.0.2.1", 20000 + 2 * stream)


def speech(seconds: float, seed: int = 1) -> npt.NDArray[np.int16]:
    """Loud noise in syllables, int16 (samples,); no two pieces are equal."""
    rng = np.random.default_rng(seed)
    n = int(seconds * RATE)
    loud = np.sin(2 * np.pi * 1.5 * np.arange(n) / RATE) > -0.4
    return ulaw_round_trip((rng.normal(0, 3000, n) * loud).astype(np.int16))


def ulaw(pcm: npt.NDArray[np.int16]) -> bytes:
    return ULAW_ENCODE[pcm.view(np.uint16)].tobytes()


def ulaw_round_trip(pcm: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
    return ULAW_DECODE[ULAW_ENCODE[pcm.view(np.uint16)]]


@dataclass(frozen=True)
class Sent:
    """An RTP packet that the engine sent, taken apart by hand."""

    at: float
    row: int
    marker: bool
    payload_type: int
    sequence: int
    timestamp: int
    ssrc: int
    payload: bytes
    extension: bytes = b""  # with its head


class FakeIO:
    """`PacketIO` that delivers what was put in and keeps what comes out."""

    kernel_timestamps = True

    def __init__(self) -> None:
        self.now = START
        self.queue: list[tuple[float, int, int, bool, bytes, Address | None]] = []
        self._serial = 0
        self.sent: list[Sent] = []
        self.reports: list[tuple[float, int, bytes]] = []
        self.peers: dict[int, tuple[Address | None, Address | None]] = {}

    def open(self, row: int, host: str) -> tuple[Address, Address]:
        assert row not in self.peers
        self.peers[row] = (None, None)
        return Address(host, 10000 + 2 * row), Address(host, 10001 + 2 * row)

    def connect(self, row: int, rtp: Address | None, rtcp: Address | None) -> None:
        for address in (rtp, rtcp):
            if address is not None and ":" in address.host:
                raise TransportError(f"{address} cannot be reached from here")
        self.peers[row] = (rtp, rtcp)

    def close(self, row: int) -> None:
        self.peers.pop(row, None)
        self.queue = [item for item in self.queue if item[2] != row]
        heapq.heapify(self.queue)

    def put(
        self, row: int, packet: bytes, at: float, *, rtcp: bool, source: Address | None
    ) -> None:
        """Let a packet arrive; `source` None: from whom the row expects it."""
        self._serial += 1
        heapq.heappush(self.queue, (at, self._serial, row, rtcp, packet, source))

    def receive(self, batch: PacketBatch, now: float) -> int:
        self.now = now
        batch.strangers.clear()
        reads: dict[tuple[int, bool], int] = {}
        later, count = [], 0
        while self.queue and self.queue[0][0] <= now and count < batch.capacity:
            item = heapq.heappop(self.queue)
            at, _, row, rtcp, packet, source = item
            reads[row, rtcp] = reads.get((row, rtcp), 0) + 1
            if reads[row, rtcp] > (MAX_RTCP_READS if rtcp else MAX_RTP_READS):
                later.append(item)
                continue
            batch.data[count, : len(packet)] = np.frombuffer(packet, np.uint8)
            batch.slots[count] = count
            batch.lengths[count] = len(packet)
            batch.rows[count] = row
            batch.arrival[count] = at
            batch.rtcp[count] = rtcp
            batch.source[count] = -1
            if source is not None and source != self.peers[row][rtcp]:
                if source not in batch.strangers:
                    batch.strangers.append(source)
                batch.source[count] = batch.strangers.index(source)
            count += 1
        for item in later:
            heapq.heappush(self.queue, item)
        batch.count = count
        return count

    def send(
        self,
        rows: npt.NDArray[np.int32],
        packets: npt.NDArray[np.uint8],
        lengths: npt.NDArray[np.int32],
    ) -> int:
        for row, length in zip(rows.tolist(), lengths.tolist(), strict=True):
            self._keep(row, packets[row, :length].tobytes())
        return rows.size

    def send_one(self, row: int, packet: bytes, *, rtcp: bool) -> bool:
        if rtcp:
            self.reports.append((self.now, row, packet))
        else:
            self._keep(row, packet)
        return True

    def _keep(self, row: int, packet: bytes) -> None:
        assert packet[0] in (0x80, 0x90)
        number, begin = int.from_bytes, HEADER_BYTES
        if packet[0] == 0x90:
            begin += 4 + 4 * number(packet[begin + 2 : begin + 4], "big")
        self.sent.append(
            Sent(
                self.now,
                row,
                bool(packet[1] & 0x80),
                packet[1] & 0x7F,
                number(packet[2:4], "big"),
                number(packet[4:8], "big"),
                number(packet[8:12], "big"),
                packet[begin:],
                packet[HEADER_BYTES:begin],
            )
        )


@dataclass
class Desk:
    """The engine, and a clock that is turned by `run`."""

    native: bool | None = None
    engine: Engine = field(init=False)
    io: FakeIO = field(default_factory=FakeIO)
    now: float = START
    events: list[EngineEvent] = field(default_factory=list)
    sinks: dict[int, int] = field(default_factory=dict)
    pcm: dict[int, list[npt.NDArray[np.int16]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.engine = Engine(self.io, random=SeededRandom(1), native=self.native)

    def tick(self) -> list[EngineEvent]:
        """Tick now; return what happened."""
        self.engine.tick(self.now, 1e9 + self.now)
        events = self.engine.events()
        self.events += events
        for stream, number in self.sinks.items():
            heard = self.engine.arena.ring(number).read(RATE)
            if heard.size:
                self.pcm[stream].append(heard)
        return events

    def run(self, seconds: float) -> None:
        """Let time pass, ticking whenever the engine asks for it."""
        end = self.now + seconds + 1e-9
        while (due := self.engine.next_due()) is not None and due <= end:
            self.now = max(self.now, due)
            self.tick()
        self.now = end

    def stall(self, seconds: float) -> None:
        """Let time pass without a tick."""
        self.now += seconds

    def do(self, *commands: Command) -> Opened | StreamStats | None:
        """Apply commands in one tick; return the result of the last."""
        tokens = [self.engine.submit(command) for command in commands]
        answers = {
            event.token: event for event in self.tick() if isinstance(event, Applied | Refused)
        }
        for token in tokens:
            assert isinstance(answers[token], Applied), answers[token]
        last = answers[tokens[-1]]
        assert isinstance(last, Applied)
        return last.result

    def refused(self, command: Command) -> str:
        """Submit a command that cannot be applied; return why."""
        token = self.engine.submit(command)
        answer = next(e for e in self.tick() if isinstance(e, Refused) and e.token == token)
        return answer.message

    def call(self, stream: int = 1, *, settings: dict[str, float] | None = None, **more: object):
        """Open and connect a stream and listen to it; return its row."""
        self.do(OpenStream(stream, HOST, f"{stream}@{HOST}", **(settings or {})))  # type: ignore[arg-type]
        self.do(describe(stream, **more))
        number = self.engine.arena.allocate(2 * RATE)
        self.do(AddSink(stream, number))
        self.sinks[stream], self.pcm[stream] = number, []
        return self.row(stream)

    def row(self, stream: int = 1) -> int:
        return self.engine._table.rows[stream]

    def feed(self, pcm: npt.NDArray[np.int16], stream: int = 1) -> None:
        """Give the stream sound to send."""
        number = self.engine.arena.allocate(pcm.size)
        self.engine.arena.ring(number).push(pcm)
        self.engine.arena.ring(number).close()
        self.do(SetSource(stream, number))

    def heard(self, stream: int = 1) -> npt.NDArray[np.int16]:
        return np.concatenate([np.zeros(0, np.int16), *self.pcm[stream]])

    def stats(self, stream: int = 1) -> StreamStats:
        stats = self.do(ReadStats(stream))
        assert isinstance(stats, StreamStats)
        return stats

    def of(self, kind: type) -> list:
        return [event for event in self.events if isinstance(event, kind)]

    def rtp(
        self,
        sequence: int,
        timestamp: int,
        payload: bytes,
        *,
        at: float | None = None,
        stream: int = 1,
        payload_type: int = 0,
        ssrc: int = 0xABCD,
        marker: bool = False,
        source: Address | None = None,
        extension: bytes = b"",
    ) -> None:
        """Let an RTP packet arrive for `stream`, now if not `at` a time."""
        header = pack_header(payload_type, sequence, timestamp, ssrc, marker=marker)
        if extension:
            header = bytes((header[0] | 0x10,)) + header[1:] + extension
        self.put(header + payload, at=at, stream=stream, source=source)

    def put(
        self,
        packet: bytes,
        *,
        at: float | None = None,
        stream: int = 1,
        rtcp: bool = False,
        source: Address | None = None,
    ) -> None:
        row = self.row(stream)
        self.io.put(row, packet, self.now if at is None else at, rtcp=rtcp, source=source)

    def say(
        self,
        pcm: npt.NDArray[np.int16],
        *,
        sequence: int = 100,
        timestamp: int = 16_000,
        size: int = 160,
        begin: float | None = None,
        stream: int = 1,
        **more: object,
    ) -> tuple[int, int]:
        """Let µ-law packets of `pcm` arrive from `begin` on at their pace.

        Returns the sequence number and timestamp that would follow.
        """
        begin = self.now if begin is None else begin
        for n in range(pcm.size // size):
            payload = ulaw(pcm[n * size : (n + 1) * size])
            at = begin + n * size / RATE
            self.rtp(sequence + n, timestamp + n * size, payload, at=at, stream=stream, **more)  # type: ignore[arg-type]
        return sequence + n + 1, timestamp + (n + 1) * size


def describe(stream: int = 1, **more: object) -> ConnectStream:
    """A session description: G.711 both ways, DTMF, 20 ms."""
    at = peer(stream)
    settings: dict[str, object] = {
        "send_format": PCMU,
        "receive_formats": (PCMU, PCMA),
        "send_dtmf": DTMF,
        "receive_dtmf": (PayloadFormat(101, "telephone-event"),),
    }
    settings |= {"rtp": at, "rtcp": Address(at.host, at.port + 1)} | more
    return ConnectStream(stream, **settings)  # type: ignore[arg-type]


def place_of(sent: npt.NDArray[np.int16], heard: npt.NDArray[np.int16]) -> int:
    """Samples by which `sent` begins later in `heard`, by correlation."""
    n = 1 << (sent.size + heard.size - 1).bit_length()
    spectrum = np.fft.rfft(heard.astype(float), n) * np.conj(np.fft.rfft(sent.astype(float), n))
    lag = int(np.fft.irfft(spectrum, n).argmax())
    return lag - n if lag > heard.size else lag


def assert_heard(
    desk: Desk, sent: npt.NDArray[np.int16], stream: int = 1, *, at_most_s: float = 0.1
) -> None:
    """All of `sent` was heard, sample for sample, and soon enough."""
    heard = desk.heard(stream)
    lag = place_of(sent, heard)
    part = heard[lag : lag + sent.size]
    assert np.array_equal(part, sent), f"{part.size} of {sent.size} samples, or others"
    assert lag / RATE <= at_most_s, f"heard after {lag / RATE} s"
