"""Session descriptions as values (RFC 8866), and their bytes.

What offer/answer needs is typed; every other attribute and line is kept as it was read. Reading
is `voip.sdp.parser`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum

from voip.errors import SdpError
from voip.ip import address_of
from voip.sdp.format import RtpFormat, spelled
from voip.types import Address

__all__ = [
    "Attribute",
    "Connection",
    "Direction",
    "MediaDescription",
    "Origin",
    "RtcpAddress",
    "SessionDescription",
    "Timing",
]

_SESSION_ORDER = "vosiuepcbtrzka"
_MEDIA_ORDER = "micbka"

_SECRET_ATTRIBUTES = frozenset({"crypto", "key-mgmt", "ice-pwd"})

_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")
_MAX_HOST_NAME = 253
_MAX_PORT = 65_535


class Direction(Enum):
    """Which way media flows, as the side that wrote it sees it."""

    SENDRECV = "sendrecv"
    SENDONLY = "sendonly"
    RECVONLY = "recvonly"
    INACTIVE = "inactive"

    @classmethod
    def of(cls, *, send: bool, receive: bool) -> Direction:
        """Return the direction of a side that sends and receives as given."""
        if send:
            return cls.SENDRECV if receive else cls.SENDONLY
        return cls.RECVONLY if receive else cls.INACTIVE

    @property
    def sends(self) -> bool:
        """Whether the side that wrote it sends."""
        return self in (Direction.SENDRECV, Direction.SENDONLY)

    @property
    def receives(self) -> bool:
        """Whether the side that wrote it receives."""
        return self in (Direction.SENDRECV, Direction.RECVONLY)

    @property
    def mirrored(self) -> Direction:
        """The same flow, as the other side sees it."""
        return Direction.of(send=self.receives, receive=self.sends)

    def __and__(self, other: Direction) -> Direction:
        """Return what both directions allow."""
        return Direction.of(
            send=self.sends and other.sends, receive=self.receives and other.receives
        )


@dataclass(frozen=True, slots=True)
class Attribute:
    """An a= line: `name` or `name:value`. Keys are kept out of its repr."""

    name: str
    value: str | None = None

    def __str__(self) -> str:
        return self.name if self.value is None else f"{self.name}:{self.value}"

    def __repr__(self) -> str:
        value = "..." if self.name.lower() in _SECRET_ATTRIBUTES else self.value
        return f"Attribute({self.name!r}, {value!r})"


@dataclass(frozen=True, slots=True)
class Connection:
    """A c= line without its "IN": an address literal, a host name, or a multicast group."""

    address: str
    family: int = 4

    @classmethod
    def of(cls, host: str) -> Connection:
        """Return the connection of an address literal. Raises ValueError for anything else."""
        return cls(host, address_of(host).version)

    @property
    def valid(self) -> bool:
        """Whether the address is a literal of its family or could be a host name."""
        host, _, _ = self.address.partition("/")
        try:
            literal = address_of(host)
        except ValueError:
            last_label = host.rstrip(".").rpartition(".")[2]
            return (
                len(host) <= _MAX_HOST_NAME
                and _HOST_NAME.fullmatch(host) is not None
                and not last_label.isdigit()
            )
        return literal.version == self.family and "%" not in host

    @property
    def multicast(self) -> bool:
        """Whether the address is a multicast group."""
        host, slash, _ = self.address.partition("/")
        try:
            return address_of(host).is_multicast
        except ValueError:
            return bool(slash)

    @property
    def unspecified(self) -> bool:
        """Whether nothing can be sent there: 0.0.0.0 (RFC 3264, 8.4), ::, .invalid (RFC 6157)."""
        try:
            return address_of(self.address).is_unspecified
        except ValueError:
            return self.address.rstrip(".").lower().endswith(".invalid")

    def __str__(self) -> str:
        return f"IN IP{self.family} {self.address}"


@dataclass(frozen=True, slots=True)
class Origin:
    """An o= line: who made the session, and how often it changed since."""

    username: str
    session_id: int
    version: int
    connection: Connection

    def __str__(self) -> str:
        return f"{self.username} {self.session_id} {self.version} {self.connection}"


@dataclass(frozen=True, slots=True)
class Timing:
    """A t= line: NTP seconds; a call has no bounds."""

    start: int = 0
    stop: int = 0

    def __str__(self) -> str:
        return f"{self.start} {self.stop}"


@dataclass(frozen=True, slots=True)
class RtcpAddress:
    """An a=rtcp line (RFC 3605): where RTCP goes when not to the port after RTP's.

    `connection` None: the host that RTP goes to.
    """

    port: int
    connection: Connection | None = None

    def __str__(self) -> str:
        return f"{self.port}" if self.connection is None else f"{self.port} {self.connection}"


@dataclass(frozen=True, slots=True)
class MediaDescription:
    """An m= line and what belongs to it.

    `formats` are the words of the m= line, in order of preference; `encodings` say what those
    of them mean that are payload types with an a=rtpmap or a static meaning. `direction` and
    `connection` None: as the session says. `attributes` and `lines` (i=, b=, k=) hold what
    nothing here understood. Times in milliseconds.
    """

    kind: str
    port: int
    protocol: str
    formats: tuple[str, ...]
    port_count: int = 1
    encodings: tuple[RtpFormat, ...] = ()
    ptime_ms: int | None = None
    maxptime_ms: int | None = None
    direction: Direction | None = None
    connection: Connection | None = None
    rtcp: RtcpAddress | None = None
    attributes: tuple[Attribute, ...] = ()
    lines: tuple[str, ...] = field(default=(), repr=False)

    def rejected(self) -> MediaDescription:
        """Return the m= line that refuses this one: port 0, its formats kept (RFC 3264, 6)."""
        return MediaDescription(self.kind, 0, self.protocol, self.formats)

    def _lines(self) -> list[str]:
        count = "" if self.port_count == 1 else f"/{self.port_count}"
        lines = [f"m={self.kind} {self.port}{count} {self.protocol} {' '.join(self.formats)}"]
        if self.connection is not None:
            lines.append(f"c={self.connection}")
        for encoding in self.encodings:
            channels = "" if encoding.channels == 1 else f"/{encoding.channels}"
            number = encoding.payload_type
            lines.append(
                f"a=rtpmap:{number} {spelled(encoding.name)}/{encoding.clock_rate}{channels}"
            )
            if encoding.fmtp:
                lines.append(f"a=fmtp:{number} {encoding.fmtp}")
        if self.ptime_ms is not None:
            lines.append(f"a=ptime:{self.ptime_ms}")
        if self.maxptime_ms is not None:
            lines.append(f"a=maxptime:{self.maxptime_ms}")
        if self.rtcp is not None:
            lines.append(f"a=rtcp:{self.rtcp}")
        if self.direction is not None:
            lines.append(f"a={self.direction.value}")
        lines += [f"a={attribute}" for attribute in self.attributes]
        return _ordered([*lines, *self.lines], _MEDIA_ORDER)


@dataclass(frozen=True, slots=True)
class SessionDescription:
    """A whole session description. `lines` holds i=, u=, e=, p=, b=, r=, z= and k= as read."""

    origin: Origin
    name: str = "-"
    connection: Connection | None = None
    timing: Timing = Timing()
    media: tuple[MediaDescription, ...] = ()
    direction: Direction | None = None
    attributes: tuple[Attribute, ...] = ()
    lines: tuple[str, ...] = field(default=(), repr=False)

    def direction_of(self, media: MediaDescription) -> Direction:
        """Return the direction of an m= line: its own, the session's, or sendrecv."""
        return media.direction or self.direction or Direction.SENDRECV

    def connection_of(self, media: MediaDescription) -> Connection | None:
        """Return the c= line that holds for an m= line: its own, or the session's."""
        return media.connection or self.connection

    def rtp_address(self, media: MediaDescription) -> Address | None:
        """Return where RTP of an m= line goes, None where nothing can be sent (0.0.0.0, port 0).

        `host` is as it was written: a peer may write a host name, which is for the caller to
        resolve before a packet is sent.
        """
        connection = self.connection_of(media)
        if media.port == 0 or connection is None or connection.unspecified:
            return None
        return Address(connection.address, media.port)

    def rtcp_address(self, media: MediaDescription) -> Address | None:
        """Return where RTCP of an m= line goes: a=rtcp, or the port after RTP's (RFC 3605).

        None where nothing can be sent, also where RTP and RTCP are not of one family.
        """
        rtp = self.rtp_address(media)
        if rtp is None:
            return None
        if media.rtcp is None:
            return Address(rtp.host, rtp.port + 1) if rtp.port < _MAX_PORT else None
        connection = media.rtcp.connection
        if connection is None:
            return Address(rtp.host, media.rtcp.port)
        family = (self.connection_of(media) or connection).family
        if connection.unspecified or connection.family != family:
            return None
        return Address(connection.address, media.rtcp.port)

    def to_bytes(self) -> bytes:
        """Return the description as it goes on the wire, lines in RFC 8866's order.

        Raises SdpError where a value holds a line break and would become another line.
        """
        lines = ["v=0", f"o={self.origin}", f"s={self.name}", f"t={self.timing}"]
        if self.connection is not None:
            lines.append(f"c={self.connection}")
        if self.direction is not None:
            lines.append(f"a={self.direction.value}")
        lines += [f"a={attribute}" for attribute in self.attributes]
        lines = _ordered([*lines, *self.lines], _SESSION_ORDER)
        for media in self.media:
            lines += media._lines()
        text = "".join(lines)
        if any(character in text for character in "\r\n\0"):
            raise SdpError(
                "a value of the session description holds a line break",
                hint="give names and addresses of one line",
            )
        try:
            return "".join(f"{line}\r\n" for line in lines).encode("utf-8", "surrogateescape")
        except UnicodeEncodeError as error:
            raise SdpError("a value of the session description is not text") from error


def _ordered(lines: list[str], order: str) -> list[str]:
    """Sort lines by their letter; those of one letter keep their order."""
    return sorted(lines, key=lambda line: order.find(line[:1]))
