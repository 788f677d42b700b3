"""Marks what a socket sends, so that routers may know voice and signalling (DSCP, RFC 2474)."""

from __future__ import annotations

import logging
import socket

__all__ = ["Marker"]

log = logging.getLogger(__name__)


class Marker:
    """Marks sockets with one code point; where the system forbids it, says so once.

    dscp: 0 to 63; 0: as everything else.
    """

    def __init__(self, dscp: int) -> None:
        self.dscp = dscp
        self._refused = False

    def mark(self, sock: socket.socket) -> None:
        """Mark what `sock`, of either family, sends from now on."""
        if not self.dscp:
            return
        traffic_class = self.dscp << 2  # the other two bits are congestion notification
        try:
            if sock.family is socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, traffic_class)
            else:
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, traffic_class)
        except OSError as error:
            if not self._refused:
                self._refused = True
                log.warning("packets go without DSCP %d: %s", self.dscp, error)
