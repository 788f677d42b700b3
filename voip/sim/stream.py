"""Streams like TCP between simulated hosts, for asyncio programs: in order, with delay and resets.

A loss is a delay: what does not get through is sent again after 0.2 s, then after twice as long
each time, and nothing that comes after it is delivered before. There is no congestion control.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections import deque
from collections.abc import Callable
from contextvars import Context
from typing import TYPE_CHECKING, Any, Final, Literal, cast

import numpy as np

from voip.sim.datagrams import SimSocket, as_tuple
from voip.types import Address

if TYPE_CHECKING:
    from voip.sim.host import Host
    from voip.sim.loop import SimLoop
    from voip.sim.network import Way

__all__ = ["SimStream", "os_error"]

SEGMENT_BYTES: Final = 1460
FIRST_RETRY_S: Final = 0.2
LONGEST_RETRY_S: Final = 120.0
GIVE_UP_S: Final = 924.6
"""How long data is tried, as Linux does by default (tcp_retries2)."""
KERNEL_BYTES: Final = 65_536
"""What the sending and the receiving side keep without the program noticing."""
HIGH_WATER: Final = 65_536

_Kind = Literal["open", "data", "end"]


class SimStream(asyncio.Transport):
    """One side of a connection."""

    _start_tls_compatible = True

    def __init__(
        self,
        loop: SimLoop,
        host: Host,
        local: Address,
        peer: Address,
        protocol: asyncio.BaseProtocol,
        context: Context,
        way: Way,
        gone: Callable[[], None] | None = None,
    ) -> None:
        sock = SimSocket(socket.SOCK_STREAM, local, peer)
        super().__init__({"socket": sock, "sockname": as_tuple(local), "peername": as_tuple(peer)})
        self.host = host
        self.local = local
        self.remote = peer
        self.other: SimStream | None = None
        self._loop = loop
        self._protocol = protocol
        self._context = context
        self._way = way
        self._on_gone = gone
        self._made = False
        self._gone = False  # connection_lost is called or will be
        self._closing = False
        self._ended = False  # no more is written
        self._unacknowledged = 0
        self._high = HIGH_WATER
        self._pausing = False
        self._paused = False
        self._sent = 0
        self._next = 0
        self._early: dict[int, tuple[_Kind, bytes]] = {}
        self._unread: deque[bytes] = deque()
        self._unread_bytes = 0
        self._owed = 0  # came, and is not acknowledged
        self._peer_ended = False

    # ------------------------------------------------------------ asyncio's side: writing

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes."""
        if self._ended:
            raise RuntimeError("Cannot call write() after write_eof()")
        if self._gone or self._closing or not data:
            return
        whole = bytes(data)
        self._unacknowledged += len(whole)
        for start in range(0, len(whole), SEGMENT_BYTES):
            self._post("data", whole[start : start + SEGMENT_BYTES])
        if self.get_write_buffer_size() > self._high and not self._pausing:
            self._pausing = True
            cast(Any, self._protocol).pause_writing()

    def write_eof(self) -> None:
        """Say that nothing more will be sent."""
        if not self._ended:
            self._ended = True
            self._post("end", b"")

    def can_write_eof(self) -> bool:
        """Return True."""
        return True

    def get_write_buffer_size(self) -> int:
        """Return how many bytes wait that a kernel would not have taken."""
        return max(0, self._unacknowledged - KERNEL_BYTES)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set when the protocol is asked to pause."""
        self._high = HIGH_WATER if high is None else high

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return (low, high)."""
        return (self._high // 4, self._high)

    def _acknowledged(self, count: int) -> None:
        self._unacknowledged -= count
        if self._pausing and self.get_write_buffer_size() <= self._high // 4:
            self._pausing = False
            if not self._gone:
                self._call(cast(Any, self._protocol).resume_writing)
        if self._closing and not self.get_write_buffer_size():
            self._lose(None)

    # ------------------------------------------------------------ asyncio's side: the rest

    def pause_reading(self) -> None:
        """Keep what comes."""
        self._paused = True

    def resume_reading(self) -> None:
        """Hand on what came meanwhile, and what comes."""
        if self._paused:
            self._paused = False
            self._loop.call_soon(self._read, context=self._context)

    def is_reading(self) -> bool:
        """Whether what comes is handed on."""
        return not self._paused and not self._closing

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Hand what comes to another protocol."""
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return the protocol."""
        return self._protocol

    def is_closing(self) -> bool:
        """Whether it is closed or being closed."""
        return self._closing or self._gone

    def close(self) -> None:
        """Send what was written, and close."""
        if self._closing or self._gone:
            return
        if not self._ended:
            self.write_eof()
        self._closing = True
        if not self.get_write_buffer_size():
            self._lose(None)

    def abort(self) -> None:
        """Reset the connection."""
        if not self._gone:
            self._reset_other()
        self._lose(None)

    def _force_close(self, error: BaseException | None) -> None:
        """End it at once: what asyncio's TLS asks of its transport."""
        if not self._gone:
            self._reset_other()
        self._lose(error if isinstance(error, OSError) else None)

    def hosts(self) -> tuple[Host, ...]:
        """Return the hosts at both ends."""
        return (self.host,) if self.other is None else (self.host, self.other.host)

    def break_both(self) -> None:
        """Reset both sides at once, as something in the middle may do."""
        for side in (self, self.other):
            if side is not None:
                side._lose(os_error(errno.ECONNRESET))

    def close_both(self) -> None:
        """Close both sides at once."""
        for side in (self, self.other):
            if side is not None:
                side._lose(None)

    # ------------------------------------------------------------ segments on their way

    def _post(self, kind: _Kind, data: bytes) -> None:
        number, self._sent = self._sent, self._sent + 1
        self._try(number, kind, data, self._loop.world_time(), FIRST_RETRY_S)

    def open_other(self) -> None:
        """Let the other side begin: the last step of the handshake."""
        self._post("open", b"")

    def _try(self, number: int, kind: _Kind, data: bytes, since: float, wait: float) -> None:
        """Send a segment, and once more after `wait` seconds where it does not get through."""
        now, arrival = self._loop.world_time(), self._loop.world_time()
        if self._way.link is not None:
            carried = self._way.link.carry(now, np.array([len(data)], np.int32))
            if not carried:
                if now - since > GIVE_UP_S:
                    self._lose(os_error(errno.ETIMEDOUT))
                    return
                again = min(2 * wait, LONGEST_RETRY_S)
                self._loop.at(now + wait, self._try, number, kind, data, since, again)
                return
            arrival = float(carried[0].arrival[0])
        if data:
            for tap in self._loop.world.network.taps:
                tap("tcp", arrival, self._way.source, self.remote, data)
        if self.other is not None:
            self._loop.at(arrival, self.other._arrive, number, kind, data)

    def _arrive(self, number: int, kind: _Kind, data: bytes) -> None:
        """Take a segment, and those after it that came before it."""
        if self._gone:
            self._reset_other()
            return
        self._early[number] = (kind, data)
        while self._next in self._early:
            kind, data = self._early.pop(self._next)
            self._next += 1
            if kind == "open":
                self._make()
            elif kind == "end":
                self._peer_ended = True
            else:
                self._unread.append(data)
                self._unread_bytes += len(data)
                self._owed += len(data)
        if self._paused:
            self._acknowledge()
        else:
            self._context.run(self._read)

    def _read(self) -> None:
        """Hand the protocol what came."""
        while self._unread and not self._paused and not self._gone:
            data = self._unread.popleft()
            self._unread_bytes -= len(data)
            _feed(self._protocol, data)
        self._acknowledge()
        if self._peer_ended and not self._unread and not self._paused and not self._gone:
            self._peer_ended = False
            if not cast(Any, self._protocol).eof_received():
                self.close()

    def _acknowledge(self) -> None:
        """Tell the other side what a kernel would have taken, whether it was read or not."""
        taken = self._owed - max(0, self._unread_bytes - KERNEL_BYTES)
        if taken > 0 and self.other is not None:
            self._owed -= taken
            self.other._acknowledged(taken)

    def _make(self) -> None:
        if not self._made:
            self._made = True
            self._context.run(self._protocol.connection_made, self)

    def made(self) -> None:
        """The client's side is connected; its protocol is told by the caller."""
        self._made = True

    # ------------------------------------------------------------ the end

    def _reset_other(self) -> None:
        """Let a reset travel to the other side, if it gets there."""
        now, other = self._loop.world_time(), self.other
        if other is None or other._gone:
            return
        arrival = now
        if self._way.link is not None:
            carried = self._way.link.carry(now, np.zeros(1, np.int32))
            if not carried:
                return
            arrival = float(carried[0].arrival[0])
        self._loop.at(arrival, other._lose, os_error(errno.ECONNRESET))

    def _lose(self, error: OSError | None) -> None:
        if self._gone:
            return
        self._gone = self._closing = self._ended = True
        self._unread.clear()
        self._early.clear()
        self._loop.world.network.forget_stream(self)
        if self._on_gone is not None:
            self._on_gone()
        if self._made:
            self._call(self._protocol.connection_lost, error)

    def _call(self, callback: Callable[..., object], *args: object) -> None:
        self._loop.call_soon(callback, *args, context=self._context)


def _feed(protocol: asyncio.BaseProtocol, data: bytes) -> None:
    if not isinstance(protocol, asyncio.BufferedProtocol):
        cast(asyncio.Protocol, protocol).data_received(data)
        return
    while data:
        buffer = memoryview(protocol.get_buffer(len(data)))
        count = min(len(buffer), len(data))
        buffer[:count] = data[:count]
        protocol.buffer_updated(count)
        data = data[count:]


def os_error(number: int) -> OSError:
    """Return the error of that number, as the kernel would tell it."""
    return OSError(number, os.strerror(number))
