"""The ports of UdpPacketIO: which it opens, and that none is left open."""

from __future__ import annotations

import socket
import threading

import pytest
from socket_peers import HOST, RANGE, another, free_ports, open_files

from voip.errors import ConfigError, TransportError
from voip.media.io import PacketBatch
from voip.net.packets import UdpPacketIO
from voip.net.ports import PortRange
from voip.net.uring import Ring
from voip.types import SeededRandom


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
    ports = free_ports(8)
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


def test_a_port_can_be_had_again_as_soon_as_it_is_closed(batched: bool) -> None:
    ports = free_ports(2)
    one = UdpPacketIO(SeededRandom(8), ports=ports, batched=batched)
    batch = PacketBatch(8)
    with another() as peer:
        for number in range(5):
            rtp, _ = one.open(0, HOST)
            assert one.receive(batch, 0.0) == 0  # nothing of the one before
            peer.sendto(bytes([number]), rtp)
            assert one.receive(batch, 0.0) == 1
            assert bytes(batch.packet(0)) == bytes([number])
            peer.sendto(b"too late", rtp)
            one.close(0)
    one.close_all()


def test_nothing_is_left_open(batched: bool) -> None:
    before, threads = open_files(), threading.active_count()
    one = UdpPacketIO(SeededRandom(4), ports=RANGE, batched=batched)
    without_rows = open_files()
    for row in range(20):
        one.open(row, HOST)
    one.close(3)
    one.close(3)  # closing what is closed does nothing
    one.close(77)
    one.open(4, HOST)  # opening an open row replaces it
    one.receive(PacketBatch(8), 0.0)
    assert open_files() == without_rows + 19 * 2
    one.close_all()
    one.close_all()
    assert open_files() == before
    assert threading.active_count() == threads
    with pytest.raises(TransportError):
        one.connect(0, None, None)


def test_where_io_uring_is_not_allowed_packets_are_carried_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def forbidden() -> Ring:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr("voip.net.uring_carrier.Ring", forbidden)
    before = open_files()
    one = UdpPacketIO(SeededRandom(6), ports=RANGE)
    assert not one.batched
    one.close_all()
    with pytest.raises(OSError, match="not permitted"):
        UdpPacketIO(SeededRandom(6), ports=RANGE, batched=True)
    assert open_files() == before


def test_a_failed_open_leaves_nothing_open(batched: bool) -> None:
    ports = free_ports(2)
    one = UdpPacketIO(SeededRandom(5), ports=ports, batched=batched)
    before = open_files()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind((HOST, ports.last))
        with pytest.raises(TransportError):
            one.open(0, HOST)
        assert open_files() == before + 1
    assert one.open(0, HOST)[0].port == ports.first
    one.close_all()
