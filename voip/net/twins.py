"""A second socket at a row's port, connected to the row's peer: what is sent there costs less.

A connected socket keeps its route: the kernel need not look for one with each packet. But it hears
nobody else than its peer. So there are two at one port: the kernel gives what the peer sends to
the connected one, whose address fits better, and what strangers send to the first.
"""

from __future__ import annotations

import contextlib
import socket

from voip.ip import SocketAddress

__all__ = ["twin_of"]

_TIMESTAMPNS = 35  # SO_TIMESTAMPNS of asm-generic/socket.h; the socket module has no name for it


def twin_of(one: socket.socket, peer: SocketAddress) -> socket.socket:
    """Return a socket at the port of `one`, connected to `peer`, with the same options.

    The port is shared between the two and nobody else: it is given free for as long as it takes.
    Raises OSError where the system allows none of it, or has no way to the peer.
    """
    with contextlib.ExitStack() as undo:
        twin = undo.enter_context(socket.socket(one.family, socket.SOCK_DGRAM))
        twin.setblocking(False)
        kernel_doubles = 2
        room = one.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // kernel_doubles
        twin.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        stamped = one.getsockopt(socket.SOL_SOCKET, _TIMESTAMPNS)
        twin.setsockopt(socket.SOL_SOCKET, _TIMESTAMPNS, stamped)
        if one.family is socket.AF_INET6:
            level: int = socket.IPPROTO_IPV6
            options = [int(socket.IPV6_V6ONLY), int(socket.IPV6_TCLASS)]
        else:
            level, options = socket.IPPROTO_IP, [int(socket.IP_TOS)]
        for option in options:
            with contextlib.suppress(OSError):  # as in `SocketPairs`: voice may go unmarked
                twin.setsockopt(level, option, one.getsockopt(level, option))
        both = (one, twin)
        try:
            for each in both:
                each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            twin.bind(one.getsockname())
        finally:
            for each in both:
                each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        twin.connect(peer)
        undo.pop_all()
    return twin
