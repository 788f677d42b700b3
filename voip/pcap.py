"""Capture files without root: what we sent and received, as Wireshark opens it.

Classic pcap (microseconds, big-endian) with link type RAW: every record is an IPv4 or IPv6 packet
built here around a payload that a socket call saw, with right lengths and checksums. TCP has
synthesised sequence numbers, so that Wireshark puts a SIP message together again.

Standard library only. Adding is cheap and may be done by any thread; writing is `flush`, for an
I/O thread.
"""

from __future__ import annotations

import re
import socket
import struct
import threading
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import BinaryIO, NamedTuple, Self

__all__ = ["LINKTYPE_RAW", "MAX_CONNECTIONS", "PcapWriter", "redact"]

LINKTYPE_RAW = 101
"""Link type of the file: records begin with the IP header."""

MAX_CONNECTIONS = 4096
"""TCP connections whose sequence numbers are kept; past it the oldest starts anew."""

_MAGIC_MICROSECONDS = 0xA1B2C3D4
_UDP = socket.IPPROTO_UDP
_TCP = socket.IPPROTO_TCP
_MAX_UDP_PAYLOAD = 0xFFFF - 8 - 20
_TCP_SEGMENT = 1440  # what an Ethernet carries of TCP over IPv6
_FIRST_SEQUENCE = 1
_DATA_OFFSET = 5 << 4  # no options
_PSH_ACK = 0x18
_WINDOW = 0xFFFF
_UDP_CHECKSUM_AT = 6
_TCP_CHECKSUM_AT = 16

_End = tuple[str, int]
_Ip = IPv4Address | IPv6Address


# ---------------------------------------------------------------- secrets

# A header is its line and the folded lines after it (RFC 3261, 7.3.1).
_CREDENTIALS = re.compile(
    rb"^(?:(?:proxy-)?authorization|authentication-info)[ \t]*:[^\r\n]*(?:\r?\n[ \t][^\r\n]*)*",
    re.IGNORECASE | re.MULTILINE,
)
_PROOF = re.compile(
    rb"(\b(?:response|rspauth)[ \t]*=[ \t]*\"?|:[ \t]*basic[ \t]+)([^\",\s]+)", re.IGNORECASE
)


def redact(payload: bytes) -> bytes:
    """Mask what proves a password in a SIP message: the same message, byte for byte as long.

    Covers `response` and `rspauth` of a digest and the token of Basic, in Authorization,
    Proxy-Authorization and Authentication-Info (RFC 3261, 22 and 25.1), folded or not. `payload`
    is whole messages: a header cut in two by the caller is not recognised. Linear in its input.
    """
    if not payload or payload[0] >= 0x80:  # RTP and RTCP: version 2 in the top bits
        return payload
    return _CREDENTIALS.sub(lambda header: _PROOF.sub(_masked, header[0]), payload)


def _masked(match: re.Match[bytes]) -> bytes:
    return match[1] + b"x" * len(match[2])


# ---------------------------------------------------------------- packets


def _checksum(data: bytes) -> int:
    """Return the Internet checksum of RFC 1071; a remainder by 0xFFFF is its carry-folded sum."""
    if len(data) % 2:
        data += b"\0"
    return (0xFFFF - int.from_bytes(data, "big") % 0xFFFF) % 0xFFFF


def _ip(source: _Ip, destination: _Ip, protocol: int, identification: int, body: bytes) -> bytes:
    if isinstance(source, IPv6Address):
        head = struct.pack("!IHBB", 6 << 28, len(body), protocol, 64)
        return head + source.packed + destination.packed + body
    length = 20 + len(body)
    dont_fragment = 0x4000
    head = struct.pack("!BBHHHBB", 0x45, 0, length, identification, dont_fragment, 64, protocol)
    addresses = source.packed + destination.packed
    checksum = _checksum(head + addresses)
    return head + checksum.to_bytes(2, "big") + addresses + body


def _pseudo_header(source: _Ip, destination: _Ip, protocol: int, length: int) -> bytes:
    """RFC 768 and RFC 8200 8.1 in one: their further words are zero and change no sum."""
    return source.packed + destination.packed + struct.pack("!HH", protocol, length)


class _Record(NamedTuple):
    """One payload as it was seen, waiting to be written."""

    wall_s: float
    protocol: int
    source: _End
    destination: _End
    payload: bytes


class PcapWriter:
    """Writes one capture file.

    `target` is a path, or a binary stream that stays open when the writer closes. `udp` and `tcp`
    only queue, at most `queue_records` and `queue_bytes` at a time: what does not fit is counted in
    `dropped`, as is what no IP packet can carry. `flush` writes; `close` flushes. Records longer
    than `snaplen` bytes are cut, as in any capture. `secrets=True` writes digests unmasked.

    Raises OSError where the file cannot be opened or written.
    """

    def __init__(
        self,
        target: str | Path | BinaryIO,
        *,
        snaplen: int = 0xFFFF,
        secrets: bool = False,
        queue_records: int = 100_000,
        queue_bytes: int = 32 << 20,
    ) -> None:
        self._owned = isinstance(target, str | Path)
        self._stream: BinaryIO
        if isinstance(target, str | Path):
            self._stream = Path(target).open("wb")  # noqa: SIM115 (close closes it)
        else:
            self._stream = target
        self._snaplen = snaplen
        self._secrets = secrets
        self._queue_records = queue_records
        self._queue_bytes = queue_bytes
        self._queue: list[_Record] = []
        self._queued_bytes = 0
        self._queue_lock = threading.Lock()
        self._write_lock = threading.Lock()
        self._sequences: dict[tuple[_End, _End], int] = {}
        self._identification = 0
        self._written = 0
        self._dropped = 0
        self._closed = False
        header = struct.pack("!IHHiIII", _MAGIC_MICROSECONDS, 2, 4, 0, 0, snaplen, LINKTYPE_RAW)
        self._stream.write(header)

    @property
    def written(self) -> int:
        """Packets in the file."""
        return self._written

    @property
    def dropped(self) -> int:
        """Payloads that are not in the file: the queue was full, or no IP packet can carry them."""
        return self._dropped

    def udp(
        self,
        wall_s: float,
        source: tuple[str, int],
        destination: tuple[str, int],
        payload: bytes | bytearray | memoryview,
    ) -> None:
        """Queue one datagram seen at `wall_s` (seconds since 1970). Copies; never blocks on I/O."""
        self._add(_Record(wall_s, _UDP, source, destination, bytes(payload)))

    def tcp(
        self,
        wall_s: float,
        source: tuple[str, int],
        destination: tuple[str, int],
        payload: bytes | bytearray | memoryview,
    ) -> None:
        """Queue bytes of a TCP connection, in the order they were sent. Whole messages, please."""
        self._add(_Record(wall_s, _TCP, source, destination, bytes(payload)))

    def _add(self, record: _Record) -> None:
        size = len(record.payload)
        with self._queue_lock:
            if (
                self._closed
                or len(self._queue) >= self._queue_records
                or self._queued_bytes + size > self._queue_bytes
            ):
                self._dropped += 1
                return
            self._queue.append(record)
            self._queued_bytes += size

    def flush(self) -> None:
        """Write what is queued. For one I/O thread; a second one waits."""
        with self._write_lock:
            with self._queue_lock:
                records, self._queue = self._queue, []
                self._queued_bytes = 0
            tried = 0
            try:
                for record in records:
                    tried += 1
                    self._write(record)
                if records:
                    self._stream.flush()
            except OSError:
                self._drop(len(records) - tried + 1)
                raise

    def close(self) -> None:
        """Flush, and close the file where a path was given. Closing twice does nothing."""
        with self._queue_lock:
            closed, self._closed = self._closed, True
        if closed:
            return
        try:
            self.flush()
        finally:
            if self._owned:
                self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # ------------------------------------------------------------ writing

    def _write(self, record: _Record) -> None:
        source, destination = _address(record.source), _address(record.destination)
        if source is None or destination is None or source.version != destination.version:
            self._drop(1)
            return
        payload = record.payload if self._secrets else redact(record.payload)
        if record.protocol == _TCP:
            for start in range(0, len(payload), _TCP_SEGMENT):
                segment = self._tcp_segment(
                    record.source, record.destination, payload[start : start + _TCP_SEGMENT]
                )
                self._packet(record, source, destination, segment, _TCP_CHECKSUM_AT)
        elif len(payload) > _MAX_UDP_PAYLOAD:
            self._drop(1)
        else:
            ports = struct.pack(
                "!HHHH", record.source[1], record.destination[1], 8 + len(payload), 0
            )
            self._packet(record, source, destination, ports + payload, _UDP_CHECKSUM_AT)

    def _drop(self, count: int) -> None:
        with self._queue_lock:
            self._dropped += count

    def _packet(
        self, record: _Record, source: _Ip, destination: _Ip, body: bytes, checksum_at: int
    ) -> None:
        """Fill in the checksum of `body` (0 so far), wrap it in IP, write the record."""
        checksum = _checksum(_pseudo_header(source, destination, record.protocol, len(body)) + body)
        if record.protocol == _UDP:
            checksum = checksum or 0xFFFF  # RFC 768: 0 means that there is none
        body = body[:checksum_at] + checksum.to_bytes(2, "big") + body[checksum_at + 2 :]
        self._identification = (self._identification + 1) & 0xFFFF
        packet = _ip(source, destination, record.protocol, self._identification, body)
        seconds, microseconds = divmod(round(record.wall_s * 1e6), 1_000_000)
        kept = packet[: self._snaplen]
        header = struct.pack("!IIII", seconds & 0xFFFFFFFF, microseconds, len(kept), len(packet))
        self._stream.write(header + kept)
        self._written += 1

    def _tcp_segment(self, source: _End, destination: _End, segment: bytes) -> bytes:
        sequence = self._sequences.pop((source, destination), _FIRST_SEQUENCE)
        acknowledged = self._sequences.get((destination, source), _FIRST_SEQUENCE)
        if len(self._sequences) >= 2 * MAX_CONNECTIONS:
            del self._sequences[next(iter(self._sequences))]  # the one that was silent longest
        self._sequences[source, destination] = (sequence + len(segment)) & 0xFFFFFFFF
        return (
            struct.pack(
                "!HHIIBBHHH",
                source[1],
                destination[1],
                sequence,
                acknowledged,
                _DATA_OFFSET,
                _PSH_ACK,
                _WINDOW,
                0,  # the checksum, later
                0,  # no urgent data
            )
            + segment
        )


def _address(end: _End) -> _Ip | None:
    """Read an IP literal; an IPv6 zone is dropped, an IPv4-mapped address is IPv4."""
    host, port = end
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    if not 0 <= port <= 0xFFFF:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
