"""Messages in what carries them: cut out of a stream (RFC 3261 section 18.3), without I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from voip.errors import SipError
from voip.sip.keepalive import PING
from voip.sip.stream import PONG, StreamFramer

__all__ = ["Framing", "Heard", "StreamFraming"]


@dataclass(slots=True)
class Heard:
    """What bytes of a connection's brought: messages, what is to be sent at once, and its end.

    `broken` says what the other side did so that nothing more can be read; `closed`: it took its
    leave.
    """

    messages: list[bytes] = field(default_factory=list)
    answer: bytes = b""
    pong: bool = False
    broken: str | None = None
    closed: bool = False


class Framing(Protocol):
    """How one connection carries messages."""

    @property
    def is_ready(self) -> bool:
        """Whether messages may be sent."""
        ...

    @property
    def has_part(self) -> bool:
        """Whether a message has begun to come and is not complete."""
        ...

    def open(self) -> bytes:
        """Return what is sent first."""
        ...

    def feed(self, data: bytes) -> Heard:
        """Take what has come; never raises."""
        ...

    def frame(self, message: bytes) -> bytes:
        """Return a message as it is sent."""
        ...

    def ping(self) -> bytes:
        """Return what asks whether the other side is there."""
        ...

    def close(self) -> bytes:
        """Return what is sent last."""
        ...


class StreamFraming:
    """SIP on TCP and TLS: one message after the other, CRLFs between them for keep-alive."""

    is_ready = True

    def __init__(self) -> None:
        self._framer = StreamFramer()

    @property
    def has_part(self) -> bool:
        """Whether a message has begun; a CRLF alone is none."""
        return self._framer.buffered > len(PONG)

    def open(self) -> bytes:
        """Return nothing: whoever has something to say begins."""
        return b""

    def feed(self, data: bytes) -> Heard:
        """Take what has come."""
        try:
            messages = self._framer.feed(data)
        except SipError:
            messages = []
        pongs = PONG * self._framer.take_pings()
        broken = self._framer.broken
        why = None if broken is None else f"sent what is not SIP: {broken.message}"
        return Heard(messages, pongs, data == PONG, why)

    def frame(self, message: bytes) -> bytes:
        """Return the message: it says its length itself."""
        return message

    def ping(self) -> bytes:
        """Return a double CRLF (RFC 5626 section 3.5.1)."""
        return PING

    def close(self) -> bytes:
        """Return nothing."""
        return b""
