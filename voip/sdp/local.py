"""Where we receive, checked before a peer is told of it."""

from __future__ import annotations

from dataclasses import dataclass

from voip.errors import ConfigError
from voip.sdp.description import Connection, RtcpAddress
from voip.types import Address

__all__ = ["LocalAddress"]

_MAX_PORT = 65_535


@dataclass(frozen=True, slots=True)
class LocalAddress:
    """Our addresses for RTP and RTCP, and the c= line that says so."""

    rtp: Address
    rtcp: Address
    connection: Connection

    @classmethod
    def of(cls, rtp: Address, rtcp: Address | None) -> LocalAddress:
        """Return addresses of ours; `rtcp` None: the port after RTP's.

        Raises ConfigError for what a peer could not send to.
        """
        rtcp = rtcp or Address(rtp.host, rtp.port + 1)
        for address in (rtp, rtcp):
            try:
                connection = Connection.of(address.host)
            except ValueError as error:
                raise ConfigError(
                    f"{address.host!r} is no IP address", hint="give a literal, not a name"
                ) from error
            if not connection.valid or connection.unspecified or connection.multicast:
                raise ConfigError(
                    f"a peer cannot send to {address.host}",
                    hint="give the address the kernel uses towards the peer",
                )
            if not 1 <= address.port <= _MAX_PORT:
                raise ConfigError(f"{address.port} is no port", hint="1 to 65535")
        return cls(rtp, rtcp, Connection.of(rtp.host))

    @property
    def rtcp_attribute(self) -> RtcpAddress | None:
        """The a=rtcp line, None where RTCP is where everybody looks for it."""
        if self.rtcp == Address(self.rtp.host, self.rtp.port + 1):
            return None
        if self.rtcp.host == self.rtp.host:
            return RtcpAddress(self.rtcp.port)
        return RtcpAddress(self.rtcp.port, Connection.of(self.rtcp.host))
