"""UdpPacketIO against real sockets on loopback."""

from __future__ import annotations

import os
import resource
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from voip.errors import ConfigError, TransportError
from voip.media.io import SLOT_BYTES, PacketBatch, PacketIO
from voip.net.packets import UdpPacketIO
from voip.net.ports import PortRange
from voip.net.uring import Ring
from voip.types import Address, SeededRandom

HOST = "127.0.0.1"
RANGE = PortRange(21000, 22999)


class ShiftedClock:
    """The system's clocks, with a wall clock that a test can set."""

    def __init__(self) -> None:
        self.shift = 0.0

    def monotonic(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time() + self.shift


@pytest.fixture(params=["sockets", "io_uring", "io_uring without C"])
def batched(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Each test runs over both carriers, io_uring in arrays and in C."""
    if request.param == "sockets":
        return False
    try:
        Ring(8).close()
    except OSError as error:
        pytest.skip(str(error))
    if request.param == "io_uring without C":
        monkeypatch.setenv("VOIP_NATIVE", "0")
    return True


@pytest.fixture
def io(batched: bool) -> Iterator[UdpPacketIO]:
    one = UdpPacketIO(SeededRandom(os.getpid()), ports=RANGE, batched=batched)
    assert one.batched == batched
    yield one
    one.close_all()


@pytest.fixture
def peers() -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        yield [stack.enter_context(_peer()) for _ in range(3)]


def _peer(host: str = HOST) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    one = socket.socket(family, socket.SOCK_DGRAM)
    one.bind((host, 0))
    one.settimeout(2.0)
    return one


def _address(one: socket.socket) -> Address:
    return Address(*one.getsockname()[:2])


def _free_ports(count: int) -> PortRange:
    """A range of ports of which every one could just be bound."""
    first = 28000 + 2 * (os.getpid() % 1500)
    while True:
        with ExitStack() as stack:
            try:
                for port in range(first, first + count):
                    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                    stack.enter_context(one).bind((HOST, port))
                return PortRange(first, first + count - 1)
            except OSError:
                first += count


def _rows(*rows: int) -> np.ndarray:
    return np.array(rows, np.int32)


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_it_is_a_packet_io(io: UdpPacketIO) -> None:
    carrier: PacketIO = io
    assert carrier.receive(PacketBatch(4), 0.0) == 0


@pytest.mark.parametrize("host", [HOST, "::1"])
def test_ports_are_adjacent_even_and_odd_and_in_the_range(io: UdpPacketIO, host: str) -> None:
    seen = set()
    for row in range(10):
        rtp, rtcp = io.open(row, host)
        assert rtp.host == rtcp.host == host
        assert rtp.port % 2 == 0 and rtcp.port == rtp.port + 1
        assert RANGE.first <= rtp.port < RANGE.last
        seen.add(rtp.port)
    assert len(seen) == 10


def test_two_engines_begin_at_different_ports() -> None:
    starts = set()
    for seed in range(5):
        one = UdpPacketIO(SeededRandom(seed), ports=RANGE)
        starts.add(one.open(0, HOST)[0].port)
        one.close_all()
    assert len(starts) > 1


def test_ports_in_use_are_stepped_over_and_an_exhausted_range_says_so() -> None:
    ports = _free_ports(8)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind((HOST, ports.first + 3))  # the RTCP port of the second pair
        one = UdpPacketIO(SeededRandom(1), ports=ports)
        got = {one.open(row, HOST)[0].port for row in range(3)}
        assert got == {ports.first, ports.first + 4, ports.first + 6}
        with pytest.raises(TransportError, match=f"{ports.first}-{ports.last}") as caught:
            one.open(3, HOST)
        assert "widen" in caught.value.hint
        one.close(1)
        assert one.open(3, HOST)[0].port in got  # what was closed can be had again
        one.close_all()


def test_a_range_without_a_pair_is_refused() -> None:
    for first, last in ((10001, 10002), (10000, 10000), (0, 100), (20000, 10000), (65534, 65536)):
        with pytest.raises(ConfigError):
            PortRange(first, last)
    assert PortRange(10001, 10003).pairs == 1


def test_an_address_of_another_machine_cannot_be_bound(io: UdpPacketIO) -> None:
    with pytest.raises(TransportError, match=r"192\.0\.2\.7") as caught:
        io.open(0, "192.0.2.7")
    assert "not an address of this machine" in caught.value.hint
    with pytest.raises(TransportError, match="not an IP address"):
        io.open(0, "localhost")


@pytest.mark.parametrize("host", [HOST, "::1"])
def test_a_packet_arrives_with_its_row_port_length_and_source(io: UdpPacketIO, host: str) -> None:
    batch = PacketBatch(16)
    addresses = [io.open(row, host) for row in range(3)]
    with _peer(host) as media, _peer(host) as control:
        for row in range(3):
            io.connect(row, _address(media), _address(control))
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
    assert batch.strangers == [_address(early)] and batch.source[0] == 0

    io.connect(0, _address(friend), _address(friend))
    for sender in (friend, stranger, friend, early, stranger):
        sender.sendto(b"x", rtp)
    stranger.sendto(b"y", rtcp)
    assert io.receive(batch, 0.0) == 6
    heard = [
        batch.strangers[source] if source >= 0 else _address(friend)
        for source in batch.source[:6].tolist()
    ]
    assert sorted(heard) == sorted(
        [*map(_address, (friend, stranger, friend, early, stranger)), _address(stranger)]
    )
    assert len(batch.strangers) == len(set(batch.strangers)) == 2

    io.connect(0, _address(stranger), None)
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


def test_a_port_can_be_had_again_as_soon_as_it_is_closed(batched: bool) -> None:
    ports = _free_ports(2)
    one = UdpPacketIO(SeededRandom(8), ports=ports, batched=batched)
    batch = PacketBatch(8)
    with _peer() as peer:
        for number in range(5):
            rtp, _ = one.open(0, HOST)
            assert one.receive(batch, 0.0) == 0  # nothing of the one before
            peer.sendto(bytes([number]), rtp)
            assert one.receive(batch, 0.0) == 1
            assert bytes(batch.packet(0)) == bytes([number])
            peer.sendto(b"too late", rtp)
            one.close(0)
    one.close_all()


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


def test_send_takes_packets_by_row_and_lengths_by_position(
    io: UdpPacketIO, peers: list[socket.socket]
) -> None:
    for row, peer in enumerate(peers):
        io.open(row, HOST)
        io.connect(row, _address(peer), None)
    packets = np.zeros((4, 64), np.uint8)
    packets[0, :3] = list(b"000")
    packets[2, :5] = list(b"22222")
    assert io.send(_rows(2, 0), packets, _rows(5, 3)) == 2
    assert peers[2].recv(100) == b"22222"
    assert peers[0].recv(100) == b"000"

    packets[2, :5] = list(b"other")  # the same array, other contents and another length
    assert io.send(_rows(2), packets, _rows(4)) == 1
    assert peers[2].recv(100) == b"othe"

    grown = np.zeros((8, 64), np.uint8)
    grown[2, :4] = list(b"grow")
    assert io.send(_rows(2), grown, _rows(4)) == 1
    assert peers[2].recv(100) == b"grow"


def test_packets_leave_from_the_port_that_was_announced(
    io: UdpPacketIO, peers: list[socket.socket]
) -> None:
    rtp, rtcp = io.open(0, HOST)
    io.connect(0, _address(peers[0]), _address(peers[1]))
    io.send(_rows(0), np.zeros((1, 16), np.uint8), _rows(12))
    assert io.send_one(0, b"rr", rtcp=True)
    assert io.send_one(0, b"dtmf", rtcp=False)
    assert io.send_one(0, b"probe", rtcp=True, to=_address(peers[2]))
    assert peers[0].recvfrom(100) == (bytes(12), rtp)
    assert peers[0].recvfrom(100) == (b"dtmf", rtp)
    assert peers[1].recvfrom(100) == (b"rr", rtcp)
    assert peers[2].recvfrom(100) == (b"probe", rtcp)


def test_voice_is_marked_expedited_forwarding(io: UdpPacketIO, peers: list[socket.socket]) -> None:
    peers[0].setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
    io.open(0, HOST)
    io.connect(0, _address(peers[0]), None)
    io.send(_rows(0), np.zeros((1, 16), np.uint8), _rows(12))
    _, control, _, _ = peers[0].recvmsg(100, 64)
    assert [(level, kind, data[0]) for level, kind, data in control] == [
        (socket.IPPROTO_IP, socket.IP_TOS, 0xB8)
    ]


def test_sending_never_raises_for_what_the_network_does(io: UdpPacketIO) -> None:
    packets = np.zeros((4, 16), np.uint8)
    for row in range(3):
        io.open(row, HOST)
    io.connect(1, Address("255.255.255.255", 9), Address("255.255.255.255", 9))  # forbidden
    with _peer() as gone:
        dead = _address(gone)
    io.connect(2, dead, dead)
    assert io.send(_rows(0), packets, _rows(12)) == 0  # nobody to send to yet
    assert io.send(_rows(1), packets, _rows(12)) == 0
    assert io.send(_rows(3, 99), packets, _rows(12, 12)) == 0  # not open
    assert not io.send_one(1, b"x", rtcp=True)
    assert not io.send_one(0, b"x", rtcp=True)
    assert not io.send_one(50, b"x", rtcp=True)
    assert not io.send_one(2, b"x", rtcp=True, to=Address("::1", 9))  # the other family
    assert io.counters.send_failed == 3
    for _ in range(3):
        assert io.send(_rows(2), packets, _rows(12)) == 1  # ICMP refusals do not come back here
        assert io.receive(PacketBatch(4), 0.0) == 0


def test_a_peer_that_cannot_be_reached_from_the_row_is_refused(io: UdpPacketIO) -> None:
    io.open(0, HOST)
    for peer in (Address("::1", 4000), Address("pbx.example", 4000), Address(HOST, 0)):
        with pytest.raises(TransportError):
            io.connect(0, peer, None)
    with pytest.raises(TransportError, match="not open"):
        io.connect(5, None, None)


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


def test_the_tap_sees_both_directions(io: UdpPacketIO, peers: list[socket.socket]) -> None:
    seen: list[tuple[bool, int, Address, Address, bytes]] = []
    io.tap = lambda sent, row, local, remote, packet, _now: seen.append(
        (sent, row, local, remote, bytes(packet))
    )
    rtp, rtcp = io.open(0, HOST)
    friend, stranger = _address(peers[0]), _address(peers[1])
    io.connect(0, friend, friend)
    peers[0].sendto(b"in", rtp)
    peers[1].sendto(b"strange", rtcp)
    io.receive(PacketBatch(8), 0.0)
    io.send(_rows(0), np.full((1, 16), 7, np.uint8), _rows(12))
    io.send_one(0, b"bye", rtcp=True)
    assert sorted(seen[:2]) == sorted(
        [(False, 0, rtp, friend, b"in"), (False, 0, rtcp, stranger, b"strange")]
    )
    assert seen[2:] == [(True, 0, rtp, friend, b"\7" * 12), (True, 0, rtcp, friend, b"bye")]


def test_nothing_is_left_open(batched: bool) -> None:
    before, threads = _open_files(), threading.active_count()
    one = UdpPacketIO(SeededRandom(4), ports=RANGE, batched=batched)
    without_rows = _open_files()
    for row in range(20):
        one.open(row, HOST)
    one.close(3)
    one.close(3)  # closing what is closed does nothing
    one.close(77)
    one.open(4, HOST)  # opening an open row replaces it
    one.receive(PacketBatch(8), 0.0)
    assert _open_files() == without_rows + 19 * 2
    one.close_all()
    one.close_all()
    assert _open_files() == before
    assert threading.active_count() == threads
    with pytest.raises(TransportError):
        one.connect(0, None, None)


def test_where_io_uring_is_not_allowed_packets_are_carried_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def forbidden() -> Ring:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr("voip.net.uring_carrier.Ring", forbidden)
    before = _open_files()
    one = UdpPacketIO(SeededRandom(6), ports=RANGE)
    assert not one.batched
    one.close_all()
    with pytest.raises(OSError, match="not permitted"):
        UdpPacketIO(SeededRandom(6), ports=RANGE, batched=True)
    assert _open_files() == before


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
    with _peer() as v4, _peer("::1") as v6:
        for each in (v4, v6):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        for row, host in enumerate(hosts):
            peer = _address(v4 if host == HOST else v6)
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
        assert one.send(np.arange(rows, dtype=np.int32), packets, _rows(*[12] * rows)) == rows
        got: dict[bool, list[int]] = {False: [], True: []}
        for host in hosts:
            data = (v4 if host == HOST else v6).recv(100)
            assert len(data) == 12
            got[host == HOST].append(int.from_bytes(data[:2]))
        assert got[True] == [row for row in range(rows) if row % 3]
        assert got[False] == [row for row in range(rows) if not row % 3]
    one.close_all()


def test_a_failed_open_leaves_nothing_open(batched: bool) -> None:
    ports = _free_ports(2)
    one = UdpPacketIO(SeededRandom(5), ports=ports, batched=batched)
    before = _open_files()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind((HOST, ports.last))
        with pytest.raises(TransportError):
            one.open(0, HOST)
        assert _open_files() == before + 1
    assert one.open(0, HOST)[0].port == ports.first
    one.close_all()


def test_who_waits_is_woken_by_a_packet_and_reads_it_and_what_came_before(
    io: UdpPacketIO, peers: list[socket.socket]
) -> None:
    ports = [io.open(row, HOST)[0] for row in (0, 1)]
    for row in (0, 1):
        io.connect(row, _address(peers[row]), None)
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
    io.connect(1, _address(peers[0]), None)
    begun = time.monotonic()
    later = threading.Timer(0.01, lambda: peers[0].sendto(bytes(20), tuple(port)))
    later.start()
    io.wait(60.0)
    later.join()
    assert time.monotonic() - begun < 30
    assert io.receive(batch, time.monotonic()) == 1
    assert batch.rows[0] == 1
