"""The io_uring under the packets, where this kernel allows it."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from voip.net.uring import OP_SEND, SKIP_SUCCESS, Ring


@pytest.fixture
def ring() -> Iterator[Ring]:
    try:
        one = Ring(8)
    except OSError as error:
        pytest.skip(str(error))
    yield one
    one.close()


def _send(ring: Ring, position: int, one: socket.socket, data: np.ndarray) -> None:
    sqe = ring.sqes[position : position + 1]
    sqe["opcode"] = OP_SEND
    sqe["flags"] = SKIP_SUCCESS
    sqe["user_data"] = position
    sqe["fd"] = one.fileno()
    sqe["addr"] = data.ctypes.data
    sqe["length"] = data.size
    sqe["msg_flags"] = int(socket.MSG_DONTWAIT)


def test_results_belong_to_their_operations_round_after_round(ring: Ring) -> None:
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    data = np.arange(8, dtype=np.uint8)
    with left, right:
        for number in range(1000):  # many times round both queues
            count = number % ring.entries + 1
            for position in range(count):
                _send(ring, position, left, data[: position + 1])
            assert not ring.run(count).size
            for position in range(count):
                assert right.recv(100) == bytes(range(position + 1))


def test_a_failed_operation_has_its_error_and_the_others_their_results(ring: Ring) -> None:
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    gone, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    data = np.zeros(5, np.uint8)
    with left, right, gone:
        other.close()
        for position, one in enumerate((left, gone, left)):
            _send(ring, position, one, data)
        assert ring.run(3).tolist() == [[1, errno.ECONNREFUSED]]


def test_what_the_kernel_will_not_take_is_a_result_and_leaves_the_ring_usable(
    ring: Ring, monkeypatch: pytest.MonkeyPatch
) -> None:
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    data = np.zeros(5, np.uint8)
    with left, right:
        _send(ring, 0, left, data)
        _send(ring, 1, left, data)
        with monkeypatch.context() as patch:
            patch.setattr(ring, "enter", lambda submit, complete: -errno.ENOMEM)
            assert ring.run(2).tolist() == [[0, errno.ENOMEM], [1, errno.ENOMEM]]
        interrupted = iter([-errno.EINTR])
        really = ring.enter
        monkeypatch.setattr(
            ring,
            "enter",
            lambda submit, complete: next(interrupted, None) or really(submit, complete),
        )
        assert not ring.run(2).size
        assert right.recv(100) == right.recv(100) == bytes(5)


def test_closing_releases_everything() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    try:
        one = Ring(8)
    except OSError as error:
        pytest.skip(str(error))
    one.close()
    one.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert "io_uring" not in Path("/proc/self/maps").read_text()
