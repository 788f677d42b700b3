"""UdpPacketIO against real sockets on loopback: what comes, whence and when."""

from __future__ import annotations

import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from socket_peers import HOST, RANGE, address_of, another, rows_of

from voip.media.io import SLOT_BYTES, PacketBatch, PacketIO
from voip.net.packets import UdpPacketIO
from voip.net.ports import PortRange
from voip.types import SeededRandom


class ShiftedClock:
    """The system's clocks, with a wall clock that a test can set."""

    def __init__(self) -> None:
        self.shift = 0.0

    def monotonic(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time() + self.shift


def test_it_is_a_packet_io(io: UdpPacketIO) -> None:
    carrier: PacketIO = io
    assert carrier.receive(PacketBatch(4), 0.0) == 0


@pytest.mark.parametrize("host", [HOST, "::1"])
def test_a_packet_arrives_with_its_row_port_length_and_source(io: UdpPacketIO, host: str) -> None:
    batch = PacketBatch(16)
    addresses = [io.open(row, host) for row in range(3)]
    with another(host) as media, another(host) as control:
        for row in range(3):
            io.connect(row, address_of(media), address_of(control))
        media.sendto(b"to row two", addresses[2][0])
        control.sendto(b"report", addresses[1][1])
        assert io.receive(batch, 0.0) == batch.count == 2
        got = {
            (int(batch.rows[i]), bool(batch.rtcp[i])): (
                bytes(batch.packet(i)),
                int(batch.source[i]),
            )
            for i in range(2)
        }
    assert got == {(2, False): (b"to row two", -1), (1, True): (b"report", -1)}
    assert batch.strangers == []


def test_strangers_are_told_apart_by_their_address(
    io: UdpPacketIO, peers: list[socket.socket]
) -> None:
    batch = PacketBatch(16)
    rtp, rtcp = io.open(0, HOST)
    early, friend, stranger = peers
    early.sendto(b"before anybody is expected", rtp)
    assert io.receive(batch, 0.0) == 1
    assert batch.strangers == [address_of(early)] and batch.source[0] == 0

    io.connect(0, address_of(friend), address_of(friend))
    for sender in (friend, stranger, friend, early, stranger):
        sender.sendto(b"x", rtp)
    stranger.sendto(b"y", rtcp)
    assert io.receive(batch, 0.0) == 6
    heard = [
        batch.strangers[source] if source >= 0 else address_of(friend)
        for source in batch.source[:6].tolist()
    ]
    assert sorted(heard) == sorted(
        [*map(address_of, (friend, stranger, friend, early, stranger)), address_of(stranger)]
    )
    assert len(batch.strangers) == len(set(batch.strangers)) == 2

    io.connect(0, address_of(stranger), None)
    stranger.sendto(b"x", rtp)
    assert io.receive(batch, 0.0) == 1 and batch.source[0] == -1 and not batch.strangers


def test_a_flood_on_one_row_takes_nothing_from_another(
    io: UdpPacketIO, peers: list[socket.socket]
) -> None:
    batch = PacketBatch(256)
    flooded, quiet = io.open(0, HOST), io.open(1, HOST)
    for number in range(80):
        peers[0].sendto(number.to_bytes(2), flooded[0])
        if number < 10:
            peers[0].sendto(number.to_bytes(2), flooded[1])
    peers[1].sendto(b"hi", quiet[0])

    order: list[int] = []
    counts = []
    while count := io.receive(batch, 0.0):
        assert count < 60
        rows, rtcp = batch.rows[:count], batch.rtcp[:count]
        counts.append(
            tuple(
                int(np.sum(part)) for part in ((rows == 0) & ~rtcp, (rows == 0) & rtcp, rows == 1)
            )
        )
        order += [
            int.from_bytes(batch.packet(i)[:2])
            for i in range(count)
            if rows[i] == 0 and not rtcp[i]
        ]
    assert counts == [(32, 4, 1), (32, 4, 0), (16, 2, 0)]
    assert order == list(range(80))


def test_empty_datagrams_keep_nobody_from_being_heard(
    io: UdpPacketIO, peers: list[socket.socket]
) -> None:
    batch = PacketBatch(256)
    rtp, _ = io.open(0, HOST)
    for _ in range(20):
        peers[0].sendto(b"", rtp)
    peers[1].sendto(b"speech", rtp)
    assert io.receive(batch, 0.0) == 21
    assert bytes(batch.packet(20)) == b"speech"
    assert batch.lengths[:20].tolist() == [0] * 20


def test_a_row_that_is_closed_takes_nothing_of_the_others_with_it(
    io: UdpPacketIO, peers: list[socket.socket]
) -> None:
    batch = PacketBatch(64)
    addresses = [io.open(row, HOST)[0] for row in range(4)]
    assert io.receive(batch, 0.0) == 0
    for row, address in enumerate(addresses):
        for _ in range(40 if row == 3 else 2):
            peers[0].sendto(bytes([row]), address)
    io.close(1)
    io.open(1, HOST)
    heard: list[int] = []
    while count := io.receive(batch, 0.0):
        heard += [batch.packet(i)[0] for i in range(count)]
        if count > 30:
            io.close(3)  # with some of its packets still waiting
    assert sorted(heard)[:4] == [0, 0, 2, 2]
    assert 1 not in heard
    assert 30 < heard.count(3) <= 32


def test_a_full_batch_leaves_the_rest_queued(io: UdpPacketIO, peers: list[socket.socket]) -> None:
    batch = PacketBatch(8)
    addresses = [io.open(row, HOST)[0] for row in range(12)]
    for address in addresses:
        peers[0].sendto(b"x", address)
    seen: list[int] = []
    while count := io.receive(batch, 0.0):
        assert count <= 8
        seen += batch.rows[:count].tolist()
    assert sorted(seen) == list(range(12))


def test_what_does_not_fit_a_slot_is_dropped_and_counted(
    io: UdpPacketIO, peers: list[socket.socket]
) -> None:
    batch = PacketBatch(8)
    rtp, _ = io.open(0, HOST)
    peers[0].sendto(bytes(SLOT_BYTES + 1), rtp)
    peers[0].sendto(bytes(SLOT_BYTES), rtp)
    peers[0].sendto(b"", rtp)
    assert io.receive(batch, 0.0) == 2
    assert batch.lengths[:2].tolist() == [SLOT_BYTES, 0]
    assert io.counters.oversize == 1


def test_arrival_is_the_kernels_time_stamp_on_the_monotonic_clock(
    io: UdpPacketIO, peers: list[socket.socket]
) -> None:
    batch = PacketBatch(8)
    rtp, _ = io.open(0, HOST)
    assert io.kernel_timestamps
    before = time.monotonic()
    peers[0].sendto(b"x", rtp)
    after = time.monotonic()
    assert io.receive(batch, now=after + 1e6) == 1
    assert before - 1e-3 <= batch.arrival[0] <= after + 1e-3  # the clocks are read apart
    assert io.counters.clock_jumps == 0


def test_without_kernel_stamps_arrival_is_the_time_of_reading(
    batched: bool, peers: list[socket.socket]
) -> None:
    one = UdpPacketIO(SeededRandom(2), ports=RANGE, kernel_timestamps=False, batched=batched)
    batch = PacketBatch(8)
    rtp, _ = one.open(0, HOST)
    peers[0].sendto(b"x", rtp)
    assert one.receive(batch, now=1234.5) == 1
    assert batch.arrival[0] == 1234.5
    assert not one.kernel_timestamps
    one.close_all()


def test_a_wall_clock_that_is_set_is_counted_and_moves_no_arrival(
    batched: bool, peers: list[socket.socket]
) -> None:
    clock = ShiftedClock()
    one = UdpPacketIO(SeededRandom(3), ports=RANGE, clock=clock, batched=batched)
    batch = PacketBatch(8)
    rtp, _ = one.open(0, HOST)
    for shift, jumps in ((0.0, 0), (3600.0, 1), (0.0, 2)):
        clock.shift = shift
        now = time.monotonic()
        peers[0].sendto(b"x", rtp)
        assert one.receive(batch, now) == 1
        assert abs(batch.arrival[0] - now) < 1.0
        assert one.counters.clock_jumps == jumps
    one.close_all()


def test_drops_of_a_few_lines_at_a_time_come_to_the_same_in_the_end(
    io: UdpPacketIO, peers: list[socket.socket]
) -> None:
    rtp, *_ = [io.open(row, HOST)[0] for row in range(3)]  # the first is the last in turn
    for _ in range(1000):
        peers[0].sendto(bytes(1200), rtp)
    told = [io.counted(2)["kernel_drops"] for _ in range(3)]  # two of six lines each time
    assert told[:2] == [0, 0]
    assert told[2] == io.kernel_drops() > 0


def test_the_table_of_open_files_has_room_before_there_are_calls() -> None:
    program = (
        "from voip.net.file_table import make_room_for_files\n"
        "import resource\n"
        "_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (700, hard))\n"
        "for wanted in (500, 100_000):\n"  # the second: no more than are allowed
        "    make_room_for_files(wanted)\n"
        "    print(open('/proc/self/status').read().split('FDSize:')[1].split()[0])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    first, second = map(int, done.stdout.split())
    assert 500 <= first < second and second >= 700


def test_what_the_kernel_drops_is_known_even_after_closing(
    io: UdpPacketIO, peers: list[socket.socket]
) -> None:
    rtp, _ = io.open(0, HOST)
    assert io.kernel_drops() == 0
    sent = 1000
    for _ in range(sent):
        peers[0].sendto(bytes(1200), rtp)
    batch = PacketBatch(2048)
    received = 0
    while count := io.receive(batch, 0.0):
        received += count
    dropped = io.kernel_drops()
    assert dropped > 0
    assert received + dropped == sent
    io.close(0)
    assert io.kernel_drops() == dropped


@pytest.fixture
def many_files() -> Iterator[None]:
    """As many open files as we may have: the limit of a login is often 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_files")
def test_many_rows_and_full_queues_keep_everything_in_order(batched: bool) -> None:
    """More rows and packets than fit one batch or one ring, IPv4 and IPv6, each to its own row."""
    rows = 700
    one = UdpPacketIO(SeededRandom(7), ports=PortRange(24000, 26999), batched=batched)
    batch = PacketBatch(300)
    hosts = [HOST if row % 3 else "::1" for row in range(rows)]
    with another() as v4, another("::1") as v6:
        for each in (v4, v6):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        for row, host in enumerate(hosts):
            peer = address_of(v4 if host == HOST else v6)
            rtp, _ = one.open(row, host)
            one.connect(row, peer, None)
            (v4 if host == HOST else v6).sendto(row.to_bytes(2), rtp)
        seen: list[int] = []
        while count := one.receive(batch, 0.0):
            assert (batch.source[:count] == -1).all() and not batch.strangers
            contents = [int.from_bytes(batch.packet(i)) for i in range(count)]
            assert contents == batch.rows[:count].tolist()
            seen += contents
        assert sorted(seen) == list(range(rows))

        packets = np.zeros((rows, 32), np.uint8)
        packets[:, 0], packets[:, 1] = np.divmod(np.arange(rows), 256)
        assert one.send(np.arange(rows, dtype=np.int32), packets, rows_of(*[12] * rows)) == rows
        got: dict[bool, list[int]] = {False: [], True: []}
        for host in hosts:
            data = (v4 if host == HOST else v6).recv(100)
            assert len(data) == 12
            got[host == HOST].append(int.from_bytes(data[:2]))
        assert got[True] == [row for row in range(rows) if row % 3]
        assert got[False] == [row for row in range(rows) if not row % 3]
    one.close_all()


def test_who_waits_is_woken_by_a_packet_and_reads_it_and_what_came_before(
    io: UdpPacketIO, peers: list[socket.socket]
) -> None:
    ports = [io.open(row, HOST)[0] for row in (0, 1)]
    for row in (0, 1):
        io.connect(row, address_of(peers[row]), None)
    batch = PacketBatch(16)
    io.wait(0.01)  # nothing has been read yet
    for turn in range(5):  # more often than the slots of a batch are gone through
        assert io.receive(batch, time.monotonic()) == 0
        io.wait(0.002)
        begun = time.monotonic()
        later = threading.Timer(0.01, lambda: peers[0].sendto(b"\x80" + bytes(40), tuple(ports[0])))
        later.start()
        io.wait(60.0)
        later.join()
        assert time.monotonic() - begun < 30
        peers[1].sendto(b"\x80" + bytes(30), tuple(ports[1]))
        while (count := io.receive(batch, time.monotonic())) == 0:
            assert time.monotonic() - begun < 30
        read = [(int(batch.rows[n]), int(batch.lengths[n])) for n in range(count)]
        while len(read) < 2:
            io.wait(60.0)
            count = io.receive(batch, time.monotonic())
            read += [(int(batch.rows[n]), int(batch.lengths[n])) for n in range(count)]
        assert sorted(read) == [(0, 41), (1, 31)], turn


def test_a_row_that_is_opened_is_waited_for_without_a_read_between(
    io: UdpPacketIO, peers: list[socket.socket]
) -> None:
    io.open(0, HOST)
    batch = PacketBatch(4)
    io.receive(batch, time.monotonic())
    port, _ = io.open(1, HOST)
    io.connect(1, address_of(peers[0]), None)
    begun = time.monotonic()
    later = threading.Timer(0.01, lambda: peers[0].sendto(bytes(20), tuple(port)))
    later.start()
    io.wait(60.0)
    later.join()
    assert time.monotonic() - begun < 30
    assert io.receive(batch, time.monotonic()) == 1
    assert batch.rows[0] == 1
