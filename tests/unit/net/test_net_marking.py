"""What routers see of our packets: the code point (DSCP), as the receiving kernel has it."""

from __future__ import annotations

import asyncio
import logging
import socket

import numpy as np
import pytest

from voip.config import NetworkConfig
from voip.errors import ConfigError
from voip.net.marking import Marker
from voip.net.packets import UdpPacketIO
from voip.net.ports import PortRange
from voip.net.sip_network import KernelNetwork
from voip.types import Address, SeededRandom

IPV4, IPV6 = "127.0.0.1", "::1"
_RECVTOS, _IPV6_RECVTCLASS = 13, 66  # linux/in.h, linux/in6.h


def _listener(host: str) -> socket.socket:
    v6 = ":" in host
    one = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM)
    one.bind((host, 0))
    one.settimeout(2.0)
    level, name = (socket.IPPROTO_IPV6, _IPV6_RECVTCLASS) if v6 else (socket.IPPROTO_IP, _RECVTOS)
    one.setsockopt(level, name, 1)
    return one


def _dscp_of_next(one: socket.socket) -> int:
    _, control, _, _ = one.recvmsg(1500, 64)
    ((_, _, data),) = control
    return int.from_bytes(data, "little") >> 2


def _option(sock: socket.socket) -> int:
    if sock.family is socket.AF_INET6:
        return sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS)
    return sock.getsockopt(socket.IPPROTO_IP, socket.IP_TOS)


@pytest.mark.parametrize("host", [IPV4, IPV6])
@pytest.mark.parametrize(("settings", "seen"), [({}, 46), ({"dscp": 34}, 34), ({"dscp": 0}, 0)])
def test_rtp_and_rtcp_are_marked(host: str, settings: dict[str, int], seen: int) -> None:
    io = UdpPacketIO(SeededRandom(1), ports=PortRange(24000, 25999), **settings)  # type: ignore[arg-type]
    with _listener(host) as peer:
        io.open(0, host)
        address = Address(host, peer.getsockname()[1])
        io.connect(0, address, address)
        io.send(np.array([0], np.int32), np.zeros((1, 200), np.uint8), np.array([172], np.int32))
        io.send_one(0, b"report", rtcp=True)
        assert [_dscp_of_next(peer), _dscp_of_next(peer)] == [seen, seen]
    io.close_all()


@pytest.mark.parametrize("host", [IPV4, IPV6])
@pytest.mark.parametrize(("settings", "seen"), [({}, 24), ({"dscp": 40}, 40)])
async def test_sip_is_marked_over_udp_and_tcp(
    host: str, settings: dict[str, int], seen: int
) -> None:
    network = KernelNetwork(**settings)  # type: ignore[arg-type]
    with _listener(host) as peer:
        udp = network.udp(host, 0, received=lambda *_: None, unreachable=lambda *_: None)
        udp.send(b"OPTIONS", Address(host, peer.getsockname()[1]))
        assert await asyncio.to_thread(_dscp_of_next, peer) == seen
        udp.close()
    accepted: asyncio.Queue[asyncio.BaseTransport] = asyncio.Queue()

    class Taker(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            accepted.put_nowait(transport)

    listener = await network.listen(Taker, host, 0)
    ours, _ = await network.connect(asyncio.Protocol, listener.local)
    theirs = await accepted.get()
    for transport in (ours, theirs):
        assert _option(transport.get_extra_info("socket")) >> 2 == seen
        transport.close()
    listener.close()
    network.close()


class Forbidding(socket.socket):
    """A socket of a system that lets nobody mark anything."""

    def setsockopt(self, *args: object) -> None:  # type: ignore[override]
        raise PermissionError(1, "Operation not permitted")


def test_a_system_that_forbids_it_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    marker = Marker(46)
    with caplog.at_level(logging.WARNING), Forbidding(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for _ in range(3):
            marker.mark(sock)
    (record,) = caplog.records
    assert "DSCP 46" in record.getMessage()


def test_what_fits_no_code_point_is_refused() -> None:
    assert (NetworkConfig().dscp_sip, NetworkConfig().dscp_rtp) == (24, 46)
    for settings in ({"dscp_sip": 64}, {"dscp_rtp": -1}):
        with pytest.raises(ConfigError, match="dscp_"):
            NetworkConfig(**settings)
