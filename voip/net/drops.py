"""What the kernel threw away because nobody had read it."""

from __future__ import annotations

import contextlib
import socket
import struct

__all__ = ["socket_drops"]

_SO_MEMINFO = 55  # asm-generic/socket.h, Linux 4.12; the last of its nine counters is drops
_MEMINFO = struct.Struct("9I")


def socket_drops(sock: socket.socket) -> int:
    """Return the datagrams dropped since `sock` was opened, its buffer being full.

    0 also where the kernel does not tell.
    """
    with contextlib.suppress(OSError):
        answer = sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
        if len(answer) == _MEMINFO.size:
            drops: int = _MEMINFO.unpack(answer)[-1]
            return drops
    return 0
