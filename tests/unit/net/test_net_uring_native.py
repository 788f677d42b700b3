"""What C does of a batch's way, and what it leaves to the arrays."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import numpy as np
import pytest

from voip.media.io import SLOT_BYTES, PacketBatch
from voip.net.line import MAX_RTP_READS, Line
from voip.net.uring_carrier import UringCarrier
from voip.net.uring_native import available
from voip.types import Address

HOST = "127.0.0.1"
ROWS = 5


class Lines:
    """Rows of a carrier, in C or in arrays, each connected to a peer of its own."""

    def __init__(self, peers: list[socket.socket], rows: range = range(ROWS)) -> None:
        self.carrier = UringCarrier()
        self.lines = []
        for row, peer in zip(rows, peers, strict=True):
            for rtcp in (False, True):
                own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                own.bind((HOST, 0))
                own.setblocking(False)
                own.setsockopt(socket.SOL_SOCKET, 35, 1)  # SO_TIMESTAMPNS
                line = Line(own, row, rtcp)
                line.connect(Address(*peer.getsockname()))
                self.lines.append(line)
                self.carrier.add(line)
        self.batch = PacketBatch(256)

    def read(self) -> int | None:
        return self.carrier.read_at_once(self.batch, 7.0, 0.0, float("inf"))

    def close(self) -> None:
        for line in self.lines:
            self.carrier.remove(line)
            line.sock.close()
        self.carrier.close()


@pytest.fixture
def peers() -> Iterator[list[socket.socket]]:
    made = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(ROWS)]
    for one in made:
        one.bind((HOST, 0))
        one.settimeout(2.0)
    yield made
    for one in made:
        one.close()


def made(peers: list[socket.socket], *, native: bool = True) -> Lines:
    if native and not available():
        pytest.skip("_uring.c was not built")
    try:
        return Lines(peers)
    except OSError as error:
        pytest.skip(str(error))


@pytest.fixture
def lines(peers: list[socket.socket]) -> Iterator[Lines]:
    one = made(peers)
    assert one.read() is None, "receptions have to begin first"
    assert one.carrier.read(one.batch) is None
    yield one
    one.close()


def send(lines: Lines, peers: list[socket.socket], to: int, data: bytes) -> None:
    peers[to // 2].sendto(data, lines.lines[to].sock.getsockname())


def test_ordinary_packets_are_read_into_all_columns(
    lines: Lines, peers: list[socket.socket]
) -> None:
    compared, batch = 0, lines.batch
    for _ in range(300):  # round the completion queue, and the ring of slots
        before = time.time()
        for number in range(2 * ROWS):
            send(lines, peers, number, bytes([number]) * (1 + number))
        assert lines.read() == 2 * ROWS
        assert sorted(batch.slots[: 2 * ROWS].tolist()) == list(range(2 * ROWS))
        for at in range(2 * ROWS):
            number = 2 * int(batch.rows[at]) + int(batch.rtcp[at])
            assert bytes(batch.packet(at)) == bytes([number]) * (1 + number)
            assert batch.source[at] == -1
            assert before - 0.01 <= batch.arrival[at] <= time.time()
            compared += 1
        assert lines.read() == 0
    assert compared == 3000


def test_arrivals_are_stamps_less_the_offset_and_never_after_the_latest(
    lines: Lines, peers: list[socket.socket]
) -> None:
    carrier, batch, offset = lines.carrier, lines.batch, time.time() - 1000.0
    send(lines, peers, 0, b"one")
    assert carrier.read_at_once(batch, 7.0, offset, 2000.0) == 1
    assert batch.arrival[0] == pytest.approx(1000.0, abs=1.0)
    send(lines, peers, 0, b"two")
    assert carrier.read_at_once(batch, 7.0, offset, 900.0) == 1
    assert batch.arrival[0] == 900.0
    send(lines, peers, 0, b"three")
    assert carrier.read_at_once(batch, 7.0, float("nan"), 2000.0) == 1
    assert batch.arrival[0] == 7.0


@pytest.mark.parametrize("what", ["a stranger", "too long", "too many", "an empty one"])
def test_what_is_not_ordinary_is_left_to_the_arrays_with_all_beside_it(
    lines: Lines, peers: list[socket.socket], what: str
) -> None:
    send(lines, peers, 2, b"ordinary")
    more = 1
    match what:
        case "a stranger":
            peers[1].sendto(b"?", lines.lines[0].sock.getsockname())
        case "too long":
            send(lines, peers, 0, bytes(SLOT_BYTES + 1))
            more = 0
        case "too many":
            for _ in range(MAX_RTP_READS + 1):
                send(lines, peers, 0, b"again")
            more = MAX_RTP_READS
        case "an empty one":
            send(lines, peers, 0, b"")
    assert lines.read() is None
    reads = lines.carrier.read(lines.batch)
    assert reads is not None and reads.tags.size == 1 + more
    assert 2 in reads.tags
    assert len(reads.strangers) == (what == "a stranger")
    send(lines, peers, 4, b"afterwards")
    if what == "too many":  # the rest of them
        assert lines.read() is None
        assert (reads := lines.carrier.read(lines.batch)) is not None
        assert sorted(reads.tags.tolist()) == [0, 4]
    elif what == "an empty one":  # has ended the reception
        assert (reads := lines.carrier.read(lines.batch)) is not None
        assert reads.tags.tolist() == [4]
    else:
        assert lines.read() == 1


def test_packets_are_sent_by_rows_that_are_connected(
    lines: Lines, peers: list[socket.socket]
) -> None:
    packets = np.arange(ROWS * 200, dtype=np.int64).astype(np.uint8).reshape(ROWS, 200)
    rows, lengths = np.array([0, 3, 4], np.int32), np.array([20, 30, 200], np.int32)
    assert lines.carrier.send(rows, packets, lengths).tolist() == [0, 3, 4]
    for row, length in zip(rows.tolist(), lengths.tolist(), strict=True):
        assert peers[row].recv(300) == packets[row, :length].tobytes()
    lines.lines[6].connect(None)
    lines.carrier.connect(lines.lines[6])
    assert lines.carrier.send(rows, packets, lengths).tolist() == [0, 4]
    assert lines.carrier.send(rows[:0], packets, lengths[:0]).size == 0
    assert lines.carrier.counters.send_failed == 0
    one = np.array([3, ROWS], np.int32)  # neither is there
    assert lines.carrier.send(one, packets, lengths[:2]).size == 0


def test_more_than_the_ring_holds_goes_in_parts(peers: list[socket.socket]) -> None:
    many = 1500  # 1,024 go in one
    rows, lines = np.zeros(many, np.int32), made(peers)
    peers[0].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 21)
    packets = np.full((ROWS, 4), 9, np.uint8)
    sent = lines.carrier.send(rows, packets, np.full(many, 4, np.int32))
    assert sent.size == many
    lines.close()


def test_without_c_nothing_is_read_at_once(
    peers: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOIP_NATIVE", "0")
    lines = made(peers, native=False)
    assert lines.carrier.read(lines.batch) is None
    send(lines, peers, 0, b"one")
    assert lines.read() is None
    reads = lines.carrier.read(lines.batch)
    assert reads is not None and reads.tags.tolist() == [0]
    lines.close()
