"""What a process and the engine it has started say to each other, over a pair of sockets.

Values are pickled: both ends are ours, of one version, and the sockets have no name by which
anybody else could get at them.
"""

from __future__ import annotations

import pickle
import socket
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from voip.media.answers import EngineEvent
from voip.media.commands import Command
from voip.media.stats import StatsSnapshot
from voip.types import Address

__all__ = [
    "MAX_UNSENT_BYTES",
    "Channel",
    "EngineSettings",
    "Orders",
    "Report",
    "ReportedFigures",
    "SeenPacket",
]

MAX_UNSENT_BYTES = 32 << 20
"""What may wait for the other end; what is beyond it is dropped, and counted."""

_LENGTH_BYTES = 4
_READ_BYTES = 1 << 18

SeenPacket = tuple[bool, int, Address, Address, bytes, float]
"""What a `PacketTap` is told."""


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """How an engine is to be made: the first message to it."""

    ports: tuple[int, int]
    dscp: int
    tapped: bool  # report every packet
    log_level: int
    parent: int  # its process id
    nice: int | None = None  # the priority to ask for


@dataclass(frozen=True, slots=True)
class Orders:
    """To the engine. Commands are numbered by how many came before, from 1 on.

    ticks: whether to report every tick from now on; None: as before. asked: report figures at
    once, under this number.
    """

    commands: tuple[Command, ...] = ()
    ticks: bool | None = None
    asked: int = 0


@dataclass(frozen=True, slots=True)
class ReportedFigures:
    """What the engine has counted; lateness_s, late, failures: since the last of these.

    asked: the number under which that was asked for, 0 otherwise.
    """

    snapshot: StatsSnapshot | None
    lateness_s: npt.NDArray[np.float64]
    late: int
    failures: int
    io: Mapping[str, int]
    asked: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """From the engine, after a tick: at most one, and none where there is nothing to tell.

    streams: how many are open. failed: the tick raised. log: fields of log records. packets: of a
    capture.
    """

    events: tuple[EngineEvent, ...] = ()
    ticked: bool = False
    failed: bool = False
    streams: int = 0
    figures: ReportedFigures | None = None
    log: tuple[Mapping[str, Any], ...] = ()
    packets: tuple[SeenPacket, ...] = ()


class Channel:
    """One end: sends and receives whole messages, and never blocks."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.dropped = 0
        """Messages that were not sent, because the other end did not read."""
        self.ended = False
        """The other end is gone, or has said its last word."""
        self._unsent: deque[memoryview] = deque()
        self._unsent_bytes = 0
        self._received = bytearray()

    @property
    def is_clogged(self) -> bool:
        """Whether so much waits that only what is needed should be sent."""
        return self._unsent_bytes > MAX_UNSENT_BYTES // 4

    @property
    def has_unsent(self) -> bool:
        """Whether anything waits for room."""
        return bool(self._unsent)

    def send(self, message: object) -> None:
        """Send a message, now or by the next `flush`."""
        data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
        if self._unsent_bytes + len(data) > MAX_UNSENT_BYTES:
            self.dropped += 1
            return
        self._unsent.append(memoryview(len(data).to_bytes(_LENGTH_BYTES, "little") + data))
        self._unsent_bytes += _LENGTH_BYTES + len(data)
        self.flush()

    def flush(self) -> None:
        """Send what there is room for."""
        while self._unsent:
            head = self._unsent[0]
            try:
                sent = self.sock.send(head)
            except BlockingIOError:
                return
            except OSError:  # nobody is there: `receive` says so
                self._unsent.clear()
                self._unsent_bytes = 0
                return
            self._unsent_bytes -= sent
            if sent == len(head):
                self._unsent.popleft()
            else:
                self._unsent[0] = head[sent:]

    def receive(self) -> list[Any]:
        """Return the messages that have come, in order."""
        while not self.ended:
            try:
                data = self.sock.recv(_READ_BYTES)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            self._received += data
            self.ended = not data
        return self._messages() if self._received else []

    def _messages(self) -> list[Any]:
        found, begin, received = [], 0, self._received
        while len(received) - begin >= _LENGTH_BYTES:
            end = begin + _LENGTH_BYTES
            length = int.from_bytes(received[begin:end], "little")
            if len(received) - end < length:
                break
            found.append(pickle.loads(received[end : end + length]))
            begin = end + length
        del received[:begin]
        return found

    def say_no_more(self) -> None:
        """Let the other end see that nothing more will come."""
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Let go of the socket."""
        self.sock.close()
