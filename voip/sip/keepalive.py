"""Keeping a flow alive, and noticing that it is dead (RFC 5626 section 4.4), without I/O.

Connections are pinged by a double CRLF, UDP flows by STUN Binding Requests, but those only where
the other side has said that it answers them. Elsewhere two CRLFs keep a NAT's binding, and nobody
waits for an answer.
"""

from __future__ import annotations

from typing import Final

from voip.nat.stun import BINDING, Kind, StunMessage
from voip.sip.flow import Flow
from voip.types import Address, Random

__all__ = ["PING", "KeepAlive"]

PING: Final = b"\r\n\r\n"
STREAM_S: Final = 120.0
DATAGRAM_S: Final = 29.0
"""Longest time between two keep-alives where the registrar names none."""
_LEAST: Final = 0.8
"""Each time is between this part of the longest and all of it, so that clients spread out."""
MIN_S: Final = 5.0
"""A Flow-Timer below this is not followed."""
PONG_S: Final = 10.0
_RTO_S: Final = 0.5
_REPEATS: Final = 7
_LAST_WAIT: Final = 16
"""STUN over UDP (RFC 8489 section 6.2.1): repeated at RTO doubled, given up 16*RTO after that."""


class KeepAlive:
    """The keep-alives of one flow. `failed` says why it is dead, None while it is not.

    `answers`: the other side has promised to answer. Whoever answers a ping without a promise is
    held to it from then on. `flow_timer_s`: what the registrar's Flow-Timer says. The caller sends
    what `handle_timer` returns.
    """

    def __init__(
        self,
        flow: Flow,
        random: Random,
        now: float,
        *,
        answers: bool = False,
        flow_timer_s: int | None = None,
    ) -> None:
        self.flow = flow
        self.failed: str | None = None
        self._random = random
        self._answers = answers
        self._longest = STREAM_S if flow.reliable else DATAGRAM_S
        if flow_timer_s is not None:
            self._longest = max(float(flow_timer_s), MIN_S)
        self._waiting = False
        self._request = b""
        self._transaction_id = b""
        self._repeats = 0
        self._mapped: Address | None = None
        self._due = now + self._interval()

    def next_timer(self) -> float | None:
        """Return when `handle_timer` wants to be called."""
        return None if self.failed is not None else self._due

    def handle_timer(self, now: float) -> bytes | None:
        """Return the ping that is due; None where none is, or where the flow has `failed`."""
        if self.failed is not None or now < self._due:
            return None
        if self._waiting:
            return self._not_answered(now)
        if self.flow.reliable or not self._answers:
            self._waiting = self._answers
            self._due = now + (PONG_S if self._answers else self._interval())
            return PING
        self._transaction_id = bytes.fromhex(self._random.token(24))
        self._request = StunMessage(Kind.REQUEST, BINDING, self._transaction_id).to_bytes()
        self._waiting, self._repeats = True, 0
        self._due = now + _RTO_S
        return self._request

    def heard(self, now: float, *, pong: bool = False) -> None:
        """Take it that something came by the connection; that is as good as a pong."""
        self._answers = self._answers or pong
        if self._waiting:
            self._rest(now)

    def receive(self, message: StunMessage, now: float) -> bool:
        """Take a STUN response; False when it is not to our request."""
        if not self._waiting or message.transaction_id != self._transaction_id:
            return False
        mapped = message.mapped_address
        if message.kind is not Kind.SUCCESS or mapped is None:
            self._fail(f"{self.flow.remote} refuses keep-alives")
        elif self._mapped not in (None, mapped):
            self._fail(f"a NAT has given us another address towards {self.flow.remote}")
        else:
            self._mapped = mapped
            self._rest(now)
        return True

    def _not_answered(self, now: float) -> bytes | None:
        if self.flow.reliable or self._repeats == _REPEATS - 1:
            self._fail(f"{self.flow.remote} does not answer keep-alives any more")
            return None
        self._repeats += 1
        last = self._repeats == _REPEATS - 1
        self._due = now + _RTO_S * (_LAST_WAIT if last else 2**self._repeats)
        return self._request

    def _rest(self, now: float) -> None:
        self._waiting = False
        self._due = now + self._interval()

    def _interval(self) -> float:
        return self._random.uniform(_LEAST * self._longest, self._longest)

    def _fail(self, why: str) -> None:
        self.failed = why
