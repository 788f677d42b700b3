"""Sockets connected to peers beside the ones that hear everybody, at one port."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import numpy as np
import pytest

from voip.media.io import PacketBatch
from voip.net.packets import UdpPacketIO
from voip.net.ports import PortRange
from voip.net.uring import Ring
from voip.net.uring_files import FixedFiles
from voip.types import Address, SeededRandom

HOST = "127.0.0.1"


@pytest.fixture
def io() -> Iterator[UdpPacketIO]:
    try:
        one = UdpPacketIO(SeededRandom(5), ports=PortRange(27000, 27199), batched=True)
    except OSError as error:
        pytest.skip(f"io_uring: {error}")
    yield one
    one.close_all()


@pytest.fixture
def peers() -> Iterator[list[socket.socket]]:
    made = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
    for one in made:
        one.bind((HOST, 0))
        one.settimeout(2)
    yield made
    for one in made:
        one.close()


def address(one: socket.socket) -> Address:
    return Address(*one.getsockname())


def send(io: UdpPacketIO, row: int, text: bytes) -> int:
    packets = np.zeros((row + 1, 32), np.uint8)
    packets[row, : len(text)] = list(text)
    return io.send(np.array([row], np.int32), packets, np.array([len(text)], np.int32))


def test_both_the_peer_and_strangers_are_heard_and_told_apart(
    io: UdpPacketIO, peers: list[socket.socket]
) -> None:
    rtp, _ = io.open(0, HOST)
    batch, (peer, stranger) = PacketBatch(16), peers
    peer.sendto(b"before", rtp)
    io.connect(0, address(peer), None)
    peer.sendto(b"peer", rtp)
    stranger.sendto(b"stranger", rtp)
    count = io.receive(batch, time.monotonic())
    heard = {
        batch.packet(i).tobytes(): (int(batch.rows[i]), int(batch.source[i])) for i in range(count)
    }
    assert heard == {b"before": (0, -1), b"peer": (0, -1), b"stranger": (0, 0)}
    assert batch.strangers == [address(stranger)]
    assert not batch.rtcp[:count].any()
    assert (np.abs(batch.arrival[:count] - time.monotonic()) < 1).all()


def test_a_peer_that_moves_is_sent_to_and_heard_at_its_new_place(
    io: UdpPacketIO, peers: list[socket.socket]
) -> None:
    rtp, _ = io.open(0, HOST)
    batch, (first, second) = PacketBatch(16), peers
    for peer in (first, second, first):
        io.connect(0, address(peer), None)
        assert send(io, 0, b"hello") == 1
        data, source = peer.recvfrom(100)
        assert (data, source[1]) == (b"hello", rtp.port)
        peer.sendto(b"answer", rtp)
        assert io.receive(batch, time.monotonic()) == 1
        assert batch.source[0] == -1
    io.connect(0, None, None)
    assert send(io, 0, b"hello") == 0


def test_the_port_is_nobody_elses_and_free_when_the_row_is_closed(
    io: UdpPacketIO, peers: list[socket.socket]
) -> None:
    rtp, _ = io.open(0, HOST)
    io.connect(0, address(peers[0]), None)
    for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.setsockopt(socket.SOL_SOCKET, option, 1)
            with pytest.raises(OSError, match="in use"):
                other.bind((HOST, rtp.port))
    io.close(0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind((HOST, rtp.port))


def test_a_peer_whose_port_is_closed_for_a_while_is_sent_to_all_the_same(
    io: UdpPacketIO, peers: list[socket.socket]
) -> None:
    """Only a connected socket hears that nobody is there; it is no failure of ours."""
    rtp, _ = io.open(0, HOST)
    batch = PacketBatch(16)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
        gone.bind((HOST, 0))
        place = gone.getsockname()
    io.connect(0, Address(*place), None)
    for _ in range(5):
        send(io, 0, b"anybody?")
        assert io.receive(batch, time.monotonic()) == 0
    assert io.counters.send_failed == io.counters.receive_failed == 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as back:
        back.bind(place)
        back.settimeout(2)
        io.receive(batch, time.monotonic())
        assert send(io, 0, b"there") == 1
        assert back.recv(100) == b"there"
        back.sendto(b"here", rtp)
        assert io.receive(batch, time.monotonic()) == 1


def test_files_are_known_by_number_however_many_there_are(peers: list[socket.socket]) -> None:
    try:
        ring = Ring(8)
    except OSError as error:
        pytest.skip(str(error))
    files = FixedFiles(ring)
    numbers = (0, 255, 256, 1000, 255)
    assert files.usable and all(files.set(number, peers[0].fileno()) for number in numbers)
    assert files.set(1000, -1)
    ring.close()
    assert not files.set(0, peers[0].fileno())
