"""Messages out of a byte stream: framing by Content-Length (RFC 3261 section 18.3)."""

from __future__ import annotations

import re
from typing import Final

from voip.errors import SipError
from voip.sip.limits import MAX_LINE_CHARS, MAX_MESSAGE_BYTES, MAX_PINGS

__all__ = ["PONG", "StreamFramer"]

PONG: Final = b"\r\n"
"""What answers a ping (RFC 5626 section 3.5.1)."""

_END: Final = b"\r\n\r\n"
_PING: Final = b"\r\n\r\n"
_START: Final = re.compile(
    rb"(?:SIP/[0-9]|[^ \r\n]++ [^\r\n]*SIP/[0-9.]++[ \t]*+\r\n)", re.IGNORECASE
)
_LENGTH: Final = re.compile(
    rb"\r\n(?:content-length|l)[ \t]*+:(?:[ \t]|\r\n[ \t])*+([^\r\n]*+)", re.IGNORECASE
)
_TLS: Final = b"\x16\x03"
"""How a ClientHello begins: its record type and version (RFC 8446 section 5.1)."""
_DIGITS: Final = re.compile(rb"([0-9]{1,9})[ \t]*+")


class StreamFramer:
    """Cuts what one connection brings into messages, and counts its keep-alives.

    The cost is linear in the bytes however they are sliced, and never more than one message is
    held. How long half a message may be waited for is the shell's affair.
    """

    def __init__(self, max_message: int = MAX_MESSAGE_BYTES) -> None:
        self._max_message = max_message
        self._buffer = bytearray()
        self._searched = 0  # up to here the end of the headers is not
        self._needed = 0  # length of the message being received, 0 until its headers are there
        self._pings = 0
        self._broken: SipError | None = None

    @property
    def broken(self) -> SipError | None:
        """Why nobody can tell where the next message begins; None while all is well."""
        return self._broken

    @property
    def buffered(self) -> int:
        """Bytes held of what is not complete."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        """Take what has arrived; return the messages it completed, in order.

        When no next message can be found (no SIP, no single Content-Length, too long) SipError
        (400 or 513) is raised, by this call or, if it still has messages to return, by the next;
        `broken` tells at once. The last message returned may then be the headers alone of the one
        that broke the stream: parsing it gives the error to answer before the connection is closed.
        """
        broken = self._broken
        if broken is not None:
            raise broken
        self._buffer += data
        messages: list[bytes] = []
        while (message := self._next()) is not None:
            messages.append(message)
        if self._broken is not None:
            self._buffer.clear()
            if not messages:
                raise self._broken
        return messages

    def take_pings(self) -> int:
        """Return how many pings came since the last call, at most MAX_PINGS; answer each."""
        pings, self._pings = self._pings, 0
        return pings

    def _next(self) -> bytes | None:
        """Return the next message, None when it is not complete or the stream is broken."""
        if self._broken is not None:
            return None
        if not self._needed:
            self._skip_blank_lines()
            end = self._buffer.find(_END, max(self._searched - 3, 0))
            self._broken = self._endless(end)
            if self._broken is not None:
                return None
            if end < 0:
                self._searched = len(self._buffer)
                return None
            head = bytes(self._buffer[: end + 4])
            if not _START.match(head):
                self._broken = SipError("what came over the connection is not SIP", status=400)
                return None
            length = _body_length(head)
            if length is None:
                self._broken = SipError("no single Content-Length can be read", status=400)
                return head
            if len(head) + length > self._max_message:
                self._broken = SipError(f"a message of {len(head) + length} bytes", status=513)
                return head
            self._needed = len(head) + length
        if len(self._buffer) < self._needed:
            return None
        message = bytes(self._buffer[: self._needed])
        del self._buffer[: self._needed]
        self._needed = self._searched = 0
        return message

    def _skip_blank_lines(self) -> None:
        """Drop the blank lines before a message, and count the pings among them.

        A CRLF that is all there is stays: it may be the first half of a ping.
        """
        while self._buffer.startswith(b"\r\n") and len(self._buffer) > 3:
            if self._buffer.startswith(_PING):
                self._pings = min(self._pings + 1, MAX_PINGS)
                del self._buffer[:4]
            else:
                del self._buffer[:2]

    def _endless(self, end: int) -> SipError | None:
        """Say what is wrong with headers that end there, or (-1) not yet.

        The same whether they have come at once or byte by byte.
        """
        size = len(self._buffer) if end < 0 else end + len(_END)
        if self._buffer.startswith(_TLS):
            return SipError("what came over the connection is TLS", status=400)
        if size > MAX_LINE_CHARS and self._buffer.find(b"\r\n", 0, MAX_LINE_CHARS) < 0:
            return SipError("what came over the connection is not SIP", status=400)
        if size > self._max_message:
            return SipError("headers that do not end", status=513)
        return None


def _body_length(head: bytes) -> int | None:
    """Return the Content-Length, 0 where there is none; None when it cannot be relied on."""
    lengths = _LENGTH.findall(head)
    if not lengths:
        return 0
    digits = _DIGITS.fullmatch(lengths[0])
    return int(digits[1]) if digits and len(lengths) == 1 else None
