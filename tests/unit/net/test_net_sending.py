"""UdpPacketIO against real sockets on loopback: what it sends, and what others hear."""

from __future__ import annotations

import socket

import numpy as np
import pytest
from socket_peers import HOST, address_of, another, rows_of

from voip.errors import TransportError
from voip.media.io import PacketBatch
from voip.net.packets import UdpPacketIO
from voip.types import Address


def test_send_takes_packets_by_row_and_lengths_by_position(
    io: UdpPacketIO, peers: list[socket.socket]
) -> None:
    for row, peer in enumerate(peers):
        io.open(row, HOST)
        io.connect(row, address_of(peer), None)
    packets = np.zeros((4, 64), np.uint8)
    packets[0, :3] = list(b"000")
    packets[2, :5] = list(b"22222")
    assert io.send(rows_of(2, 0), packets, rows_of(5, 3)) == 2
    assert peers[2].recv(100) == b"22222"
    assert peers[0].recv(100) == b"000"

    packets[2, :5] = list(b"other")  # the same array, other contents and another length
    assert io.send(rows_of(2), packets, rows_of(4)) == 1
    assert peers[2].recv(100) == b"othe"

    grown = np.zeros((8, 64), np.uint8)
    grown[2, :4] = list(b"grow")
    assert io.send(rows_of(2), grown, rows_of(4)) == 1
    assert peers[2].recv(100) == b"grow"


def test_packets_leave_from_the_port_that_was_announced(
    io: UdpPacketIO, peers: list[socket.socket]
) -> None:
    rtp, rtcp = io.open(0, HOST)
    io.connect(0, address_of(peers[0]), address_of(peers[1]))
    io.send(rows_of(0), np.zeros((1, 16), np.uint8), rows_of(12))
    assert io.send_one(0, b"rr", rtcp=True)
    assert io.send_one(0, b"dtmf", rtcp=False)
    assert io.send_one(0, b"probe", rtcp=True, to=address_of(peers[2]))
    assert peers[0].recvfrom(100) == (bytes(12), rtp)
    assert peers[0].recvfrom(100) == (b"dtmf", rtp)
    assert peers[1].recvfrom(100) == (b"rr", rtcp)
    assert peers[2].recvfrom(100) == (b"probe", rtcp)


def test_voice_is_marked_expedited_forwarding(io: UdpPacketIO, peers: list[socket.socket]) -> None:
    peers[0].setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
    io.open(0, HOST)
    io.connect(0, address_of(peers[0]), None)
    io.send(rows_of(0), np.zeros((1, 16), np.uint8), rows_of(12))
    _, control, _, _ = peers[0].recvmsg(100, 64)
    assert [(level, kind, data[0]) for level, kind, data in control] == [
        (socket.IPPROTO_IP, socket.IP_TOS, 0xB8)
    ]


def test_sending_never_raises_for_what_the_network_does(io: UdpPacketIO) -> None:
    packets = np.zeros((4, 16), np.uint8)
    for row in range(3):
        io.open(row, HOST)
    io.connect(1, Address("255.255.255.255", 9), Address("255.255.255.255", 9))  # forbidden
    with another() as gone:
        dead = address_of(gone)
    io.connect(2, dead, dead)
    assert io.send(rows_of(0), packets, rows_of(12)) == 0  # nobody to send to yet
    assert io.send(rows_of(1), packets, rows_of(12)) == 0
    assert io.send(rows_of(3, 99), packets, rows_of(12, 12)) == 0  # not open
    assert not io.send_one(1, b"x", rtcp=True)
    assert not io.send_one(0, b"x", rtcp=True)
    assert not io.send_one(50, b"x", rtcp=True)
    assert not io.send_one(2, b"x", rtcp=True, to=Address("::1", 9))  # the other family
    assert io.counters.send_failed == 3
    for _ in range(3):
        assert io.send(rows_of(2), packets, rows_of(12)) == 1  # ICMP refusals do not come back here
        assert io.receive(PacketBatch(4), 0.0) == 0


def test_a_peer_that_cannot_be_reached_from_the_row_is_refused(io: UdpPacketIO) -> None:
    io.open(0, HOST)
    for peer in (Address("::1", 4000), Address("pbx.example", 4000), Address(HOST, 0)):
        with pytest.raises(TransportError):
            io.connect(0, peer, None)
    with pytest.raises(TransportError, match="not open"):
        io.connect(5, None, None)


def test_the_tap_sees_both_directions(io: UdpPacketIO, peers: list[socket.socket]) -> None:
    seen: list[tuple[bool, int, Address, Address, bytes]] = []
    io.tap = lambda sent, row, local, remote, packet, _now: seen.append(
        (sent, row, local, remote, bytes(packet))
    )
    rtp, rtcp = io.open(0, HOST)
    friend, stranger = address_of(peers[0]), address_of(peers[1])
    io.connect(0, friend, friend)
    peers[0].sendto(b"in", rtp)
    peers[1].sendto(b"strange", rtcp)
    io.receive(PacketBatch(8), 0.0)
    io.send(rows_of(0), np.full((1, 16), 7, np.uint8), rows_of(12))
    io.send_one(0, b"bye", rtcp=True)
    assert sorted(seen[:2]) == sorted(
        [(False, 0, rtp, friend, b"in"), (False, 0, rtcp, stranger, b"strange")]
    )
    assert seen[2:] == [(True, 0, rtp, friend, b"\7" * 12), (True, 0, rtcp, friend, b"bye")]
