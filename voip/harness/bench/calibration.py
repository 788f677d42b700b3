"""How fast is this machine now? Three fixed loops, compared with reference figures.

A benchmark's figure divided by the machine factor can be compared across machines, and across
hours on a machine that is shared with others.
"""

from __future__ import annotations

import math
import socket
import statistics
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

__all__ = ["REFERENCE", "REFERENCE_MACHINE", "Calibration", "calibrate"]

Clock: TypeAlias = Callable[[], float]

_ONE_SECOND = struct.pack("ll", 1, 0)  # struct timeval: a read that waits fails, and never hangs


@dataclass(frozen=True, slots=True)
class Calibration:
    """Seconds that each of the three loops took (smaller is faster)."""

    python_s: float
    numpy_s: float
    loopback_s: float

    def factor(self, reference: Calibration) -> float:
        """Return how many times slower than `reference`: geometric mean of the three ratios."""
        ratios = (
            self.python_s / reference.python_s,
            self.numpy_s / reference.numpy_s,
            self.loopback_s / reference.loopback_s,
        )
        return math.prod(ratios) ** (1.0 / len(ratios))

    def python_factor(self, reference: Calibration) -> float:
        """Return the same for what the interpreter does alone, without arrays and the kernel."""
        return self.python_s / reference.python_s


REFERENCE_MACHINE = "2 cores of an Intel Xeon at 2.50 GHz, Linux 6.18, CPython 3.11.7, NumPy 2.4.6"
REFERENCE = Calibration(python_s=0.0205, numpy_s=0.0193, loopback_s=0.0181)
"""Medians of 21 runs on `REFERENCE_MACHINE`, the lowest of fifteen sets: it was shared."""


def calibrate(repeats: int = 5, clock: Clock = time.perf_counter) -> Calibration:
    """Run each loop `repeats` times (about 25 ms each) and return the medians.

    `clock`: `time.process_time` beside figures that are CPU time, too.
    """
    return Calibration(
        python_s=_median(_python_loop, repeats, clock),
        numpy_s=_median(_numpy_loop, repeats, clock),
        loopback_s=_median(_loopback_loop, repeats, clock),
    )


def _median(loop: Callable[[Clock], float], repeats: int, clock: Clock) -> float:
    return statistics.median(loop(clock) for _ in range(repeats))


def _python_loop(clock: Clock) -> float:
    """Time dicts, lists and integers: what an interpreter does all day."""
    table = {number: number * 7 for number in range(64)}
    begun = clock()
    total = 0
    kept: list[int] = []
    for number in range(150_000):
        total += table[number & 63] ^ number
        if not number & 1023:
            kept.append(total)
    taken = clock() - begun
    if not total or len(kept) != 147:
        raise ArithmeticError("the calibration loop did not run")
    return taken


def _numpy_loop(clock: Clock) -> float:
    """Time look-ups and float32 arithmetic over (500, 160) blocks, like one tick of 500 streams."""
    table = np.arange(256, dtype=np.float32) / 256.0
    codes = np.arange(500 * 160, dtype=np.uint8).reshape(500, 160)
    pcm = np.empty((500, 160), np.float32)
    begun = clock()
    for _ in range(100):
        np.take(table, codes, out=pcm, mode="clip")
        np.multiply(pcm, 0.5, out=pcm)
        np.square(pcm, out=pcm)
        pcm.mean(axis=1)
    return clock() - begun


def _loopback_loop(clock: Clock) -> float:
    """Time one 172-byte datagram after the other to ourselves: calls into the kernel."""
    payload = bytes(172)
    buffer = bytearray(2048)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _ONE_SECOND)
        address = one.getsockname()
        begun = clock()
        for _ in range(5_000):
            one.sendto(payload, address)
            one.recvfrom_into(buffer)
        return clock() - begun
