"""Many datagrams in one system call (Linux sendmmsg and recvmmsg), so that a load costs little.

The engine under test uses plain sockets; this is for what plays the other side.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket

import numpy as np
import numpy.typing as npt

from voip.errors import TransportError

__all__ = ["BatchSocket"]

_MSG_DONTWAIT = int(socket.MSG_DONTWAIT)
_ADDRESS_BYTES = 16

# struct sockaddr_in, struct iovec and struct mmsghdr of 64-bit Linux
_ADDRESS = np.dtype([("family", "u2"), ("port", ">u2"), ("host", "u1", 4), ("zero", "u1", 8)])
_IOVEC = np.dtype([("base", "u8"), ("length", "u8")])
_HEADER = np.dtype(
    {
        "names": ["name", "name_length", "iovec", "iovecs", "length"],
        "formats": ["u8", "u4", "u8", "u8", "u4"],
        "offsets": [0, 8, 16, 24, 56],
        "itemsize": 64,
    }
)


class _Slots:
    """Memory for `count` datagrams of at most `width` bytes, described to the kernel once."""

    def __init__(self, count: int, width: int) -> None:
        self.data = np.zeros((count, width), np.uint8)
        self.addresses = np.zeros(count, _ADDRESS)
        self.iovecs = np.zeros(count, _IOVEC)
        self.headers = np.zeros(count, _HEADER)
        each = np.arange(count, dtype=np.uint64)
        self.iovecs["base"] = self.data.ctypes.data + each * np.uint64(width)
        self.iovecs["length"] = width
        self.headers["name"] = self.addresses.ctypes.data + each * np.uint64(_ADDRESS_BYTES)
        self.headers["name_length"] = _ADDRESS_BYTES
        self.headers["iovec"] = self.iovecs.ctypes.data + each * np.uint64(_IOVEC.itemsize)
        self.headers["iovecs"] = 1
        self._base = int(self.headers.ctypes.data)
        # field access looks a field up by name each time: these are used for every batch
        self.ports = self.addresses["port"]
        self.lengths = self.headers["length"]
        self.name_lengths = self.headers["name_length"]

    def pointer(self, position: int) -> ctypes.c_void_p:
        """Where the header of a slot lies."""
        return ctypes.c_void_p(self._base + position * _HEADER.itemsize)


class BatchSocket:
    """A UDP socket on 127.0.0.1 that sends and receives up to `slots` datagrams at once.

    Raises `TransportError` where the machine has no such system calls, or no port is left.
    """

    def __init__(self, *, slots: int = 512, width: int = 256, buffer_bytes: int = 4 << 20) -> None:
        library = ctypes.CDLL(None, use_errno=True)
        if not hasattr(library, "sendmmsg") or ctypes.sizeof(ctypes.c_void_p) != 8:
            raise TransportError("the load needs sendmmsg", hint="run it on 64-bit Linux")
        self._send = library.sendmmsg
        self._out_length: int | None = width
        self._receive = library.recvmmsg
        self.slots = slots
        self._out = _Slots(slots, width)
        self._in = _Slots(slots, width)
        self._out.addresses["family"] = socket.AF_INET
        self._out.addresses["host"] = (127, 0, 0, 1)
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self.sock.bind(("127.0.0.1", 0))
            for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                self.sock.setsockopt(socket.SOL_SOCKET, option, buffer_bytes)
        except OSError as error:
            self.sock.close()
            raise TransportError(f"the load has no socket: {error.strerror}") from error
        self.port: int = self.sock.getsockname()[1]

    def send(
        self,
        packets: npt.NDArray[np.uint8],
        ports: npt.NDArray[np.uint16],
        lengths: npt.NDArray[np.int64] | None = None,
    ) -> int:
        """Send packets[i], uint8 (n, length), to 127.0.0.1:ports[i]; return how many went out.

        `lengths` (n,): how much of each is sent; None: all of it.
        """
        sent = 0
        slots = len(self._out.headers)
        for begin in range(0, len(packets), slots):
            part = packets[begin : begin + slots]
            count, length = part.shape
            self._out.data[:count, :length] = part
            if lengths is not None:
                self._out.iovecs["length"][:count] = lengths[begin : begin + slots]
                self._out_length = None
            elif length != self._out_length:
                self._out.iovecs["length"] = self._out_length = length
            self._out.ports[:count] = ports[begin : begin + slots]
            sent += self._send_slots(count)
        return sent

    def _send_slots(self, count: int) -> int:
        sent = 0
        while sent < count:
            done = self._send(
                self.sock.fileno(), self._out.pointer(sent), count - sent, _MSG_DONTWAIT
            )
            if done <= 0:
                number = ctypes.get_errno()
                if number != errno.EINTR:
                    break
            else:
                sent += done
        return sent

    def receive(
        self,
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return what has arrived, at most `slots` datagrams: (data (n, width), lengths, ports).

        The data is overwritten by the next call.
        """
        slots = self._in
        slots.name_lengths[:] = _ADDRESS_BYTES
        count = self._receive(self.sock.fileno(), slots.pointer(0), self.slots, _MSG_DONTWAIT, None)
        if count < 0:
            number = ctypes.get_errno()
            if number not in (errno.EAGAIN, errno.EINTR):
                raise TransportError(f"the load cannot receive: {os.strerror(number)}")
            count = 0
        return (
            slots.data[:count],
            slots.lengths[:count].astype(np.int64),
            slots.ports[:count].astype(np.int64),
        )

    def close(self) -> None:
        """Close the socket."""
        self.sock.close()
