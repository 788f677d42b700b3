"""How many messages came and went: requests by method, responses by class.

Methods are those that have a name here; what strangers invent is counted as one.
"""

from __future__ import annotations

from typing import Final

from voip.sip.message import Request, Response

__all__ = ["METHODS", "OTHER", "MessageCounts", "Traffic"]

METHODS: Final = (
    "INVITE", "ACK", "BYE", "CANCEL", "REGISTER", "OPTIONS", "PRACK", "UPDATE", "INFO",
    "SUBSCRIBE", "NOTIFY", "REFER", "MESSAGE", "PUBLISH",
)  # fmt: skip
OTHER: Final = "other"
_METHOD_OF: Final = {method.encode(): method for method in METHODS}
_RESPONSE: Final = b"SIP/2.0 "
_ZERO: Final = ord("0")


class MessageCounts:
    """The messages of one direction; `responses` has them by the first digit of their status."""

    __slots__ = ("requests", "responses")

    def __init__(self) -> None:
        self.requests = dict.fromkeys((*METHODS, OTHER), 0)
        self.responses = dict.fromkeys(range(1, 7), 0)

    def add(self, message: Request | Response) -> None:
        """Count a message that was read."""
        if isinstance(message, Response):
            self.responses[message.status // 100] += 1
        else:
            method = message.method
            self.requests[method if method in self.requests else OTHER] += 1

    def add_bytes(self, data: bytes) -> None:
        """Count a message of ours as it is sent."""
        if data[:8] == _RESPONSE:
            self.responses[data[8] - _ZERO] += 1
        else:
            self.requests[_METHOD_OF.get(data[: data.find(b" ")], OTHER)] += 1


class Traffic:
    """The messages of an agent that could be read, and those that it sent, repetitions too."""

    __slots__ = ("received", "sent")

    def __init__(self) -> None:
        self.received = MessageCounts()
        self.sent = MessageCounts()
