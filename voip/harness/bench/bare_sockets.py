"""What the kernel asks for a call's packets alone: a send and a read each, without an engine.

No engine with one UDP socket per call can be much below this; what it costs more is its own.
"""

from __future__ import annotations

import socket
import statistics
import time
from contextlib import ExitStack

__all__ = ["bare_sockets_us"]

_OCTETS = 172  # 20 ms of G.711 and its RTP header
_REPEATS = 15
_PAUSE_S = 0.02  # other work meanwhile has the caches, as between two ticks


def bare_sockets_us(calls: int) -> float:
    """Measure sending and reading a packet on each of `calls` sockets: microseconds of CPU time.

    Connected sockets, nobody waits for them, no address is looked at and no time of arrival: the
    least that can be asked of the kernel by `send` and `recv_into`. The median of several times.
    """
    payload, buffer = bytes(_OCTETS), bytearray(2048)
    measured: list[float] = []
    with ExitStack() as stack:
        near, far = ([stack.enter_context(_bound()) for _ in range(calls)] for _ in ("near", "far"))
        for one, other in zip(near, far, strict=True):
            one.connect(other.getsockname())
        for _ in range(_REPEATS):
            time.sleep(_PAUSE_S)
            begun = time.process_time()
            for one in near:
                one.send(payload)
            for other in far:
                other.recv_into(buffer)
            measured.append((time.process_time() - begun) / calls)
    return 1e6 * statistics.median(measured)


def _bound() -> socket.socket:
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    one.bind(("127.0.0.1", 0))
    one.settimeout(1.0)  # a packet that is lost fails the benchmark, and does not hang it
    return one
