"""Sockets of others on loopback, and ports of ours, for tests of packets."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from voip.net.ports import PortRange
from voip.types import Address

HOST = "127.0.0.1"
RANGE = PortRange(21000, 22999)


def another(host: str = HOST) -> socket.socket:
    """A socket that is not ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    one = socket.socket(family, socket.SOCK_DGRAM)
    one.bind((host, 0))
    one.settimeout(2.0)
    return one


def address_of(one: socket.socket) -> Address:
    return Address(*one.getsockname()[:2])


def free_ports(count: int) -> PortRange:
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


def rows_of(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int32)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
