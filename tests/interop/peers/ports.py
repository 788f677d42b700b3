"""Free ports on loopback, in blocks, so that peers of parallel test runs never meet.

A block is claimed by holding its first TCP port open: no lock file, no clean-up after a crash.
Blocks, and above them single ports, lie between the softphone's own RTP range (10000-19999) and the
kernel's ephemeral one.
"""

from __future__ import annotations

import random
import socket
from pathlib import Path

HOST = "127.0.0.1"
FIRST, LAST, SIZE = 20_000, 28_000, 64
SINGLE = range(28_000, 32_704)
_RTP_OFFSET = 8


class PortBlock:
    """64 ports of 127.0.0.1 that nobody else here uses: 7 for services, 56 for RTP and RTCP."""

    def __init__(self) -> None:
        starts = list(range(FIRST, LAST - SIZE, SIZE))
        random.SystemRandom().shuffle(starts)
        for start in starts:
            claim = _claim(start)
            if claim is None:
                continue
            if all(is_free(port) for port in range(start + 1, start + SIZE)):
                self._claim = claim
                self._start = start
                return
            claim.close()
        raise OSError(f"no free block of {SIZE} ports between {FIRST} and {LAST}")

    def service(self, index: int) -> int:
        """The port, free for UDP and TCP, of service 1 to 7."""
        if not 1 <= index < _RTP_OFFSET:
            raise ValueError(f"service {index} is not between 1 and {_RTP_OFFSET - 1}")
        return self._start + index

    @property
    def rtp(self) -> tuple[int, int]:
        """The first (even) and last (odd) port for media."""
        return self._start + _RTP_OFFSET, self._start + SIZE - 1

    def close(self) -> None:
        """Give the block back."""
        self._claim.close()

    def __enter__(self) -> PortBlock:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def free_port() -> int:
    """A port of 127.0.0.1 that is free for UDP and TCP at this moment, outside the ephemeral range.

    For a socket that the caller opens at once; a peer that runs for a while takes a `PortBlock`,
    in which none of these is: nobody holds them until they are opened.
    """
    chance = random.SystemRandom()
    for port in chance.sample(SINGLE, 1000):
        if is_free(port):
            return port
    raise OSError(f"no free port between {SINGLE.start} and {SINGLE.stop}")


def _claim(port: int) -> socket.socket | None:
    """A listening TCP socket, which nobody else can have at this port; None when taken."""
    claim = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        claim.bind((HOST, port))
        claim.listen(1)
    except OSError:
        claim.close()
        return None
    return claim


def is_free(port: int, host: str = HOST) -> bool:
    """Whether nobody has this port of an address of this machine, UDP or TCP."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        with socket.socket(family, kind) as probe:
            if kind == socket.SOCK_STREAM:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                return False
    return True


def is_taken(port: int) -> bool:
    """Whether anybody here has the port, for UDP or TCP, as the kernel lists it (proc_net(5)).

    To bind it for a look would be in the way of who is about to.
    """
    for table in ("udp", "udp6", "tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            if int(line.split()[1].rpartition(":")[2], 16) == port:
                return True
    return False
