"""What tests of packets share: our sockets, over both carriers, and those of others."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from socket_peers import RANGE, another

from voip.net.packets import UdpPacketIO
from voip.net.uring import Ring
from voip.types import SeededRandom


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
        yield [stack.enter_context(another()) for _ in range(3)]
