"""Reliable provisional responses: numbered, repeated until PRACK comes (RFC 3262 section 3).

What is asked of the other side, the sending of PRACK, is in `prack`.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from voip.errors import CallStateError, SipError
from voip.sip.core import Core
from voip.sip.grammar import TOKEN
from voip.sip.limits import MAX_CSEQ, MAX_SECONDS
from voip.sip.message import Request, Response
from voip.sip.timers import Timer

__all__ = ["OPTION", "RAck", "ReliableResponses", "has_option", "response_number", "supports"]

OPTION: Final = "100rel"
MAX_QUEUED: Final = 8
"""Responses that wait for the PRACK of the one before."""

_FIRST: Final = 2**31 - 1
_RSEQ: Final = re.compile(r"0*([1-9][0-9]{0,9})[ \t]*+")
_RACK: Final = re.compile(rf"0*([0-9]{{1,10}})[ \t]++0*([0-9]{{1,10}})[ \t]++({TOKEN})[ \t]*+")


@dataclass(frozen=True, slots=True)
class RAck:
    """What a PRACK acknowledges: RSeq of the response, CSeq of its request (section 7.2)."""

    response: int
    cseq: int
    method: str

    @classmethod
    def parse(cls, text: str | None) -> RAck:
        """Read it; SipError (400) when it is none."""
        match = _RACK.fullmatch(text or "")
        if match is None or int(match[1]) > MAX_SECONDS or int(match[2]) > MAX_CSEQ:
            raise SipError(f"not a RAck: {(text or '')[:80]!r}", status=400)
        return cls(int(match[1]), int(match[2]), match[3])

    def __str__(self) -> str:
        return f"{self.response} {self.cseq} {self.method}"


def response_number(response: Response) -> int | None:
    """Return the RSeq of a provisional response that asks for PRACK, None where it does not."""
    if response.status <= 100 or not has_option(response, "Require", OPTION):
        return None
    match = _RSEQ.fullmatch(response.headers.get("RSeq") or "")
    return int(match[1]) if match and int(match[1]) <= MAX_SECONDS else None


def supports(request: Request, option: str) -> bool:
    """Whether the sender of a request knows an extension (Supported, or Require)."""
    return has_option(request, "Supported", option) or has_option(request, "Require", option)


def has_option(message: Request | Response, name: str, option: str) -> bool:
    """Whether a header lists an option tag: a token, so in whatever case (section 7.3.1)."""
    return any(value.lower() == option for value in message.headers.values(name))


class ReliableResponses:
    """The reliable provisional responses to one INVITE: one on its way at a time.

    `transmit` sends one (again). `give_up` is called when one is not acknowledged in 64*T1.
    """

    def __init__(
        self,
        core: Core,
        transmit: Callable[[Response, float], object],
        give_up: Callable[[float], None],
    ) -> None:
        self.described = False
        """Whether one of them carries a session description: the answer, or the offer."""
        self._core = core
        self._transmit = transmit
        self._give_up = give_up
        self._number = core.random.below(_FIRST)
        self._sent: Response | None = None  # not acknowledged
        self._queue: deque[Response] = deque()
        self._interval = 0.0
        self._repeat: Timer | None = None
        self._limit: Timer | None = None

    @property
    def description_pending(self) -> bool:
        """Whether a session description has not been acknowledged: a 2xx waits for that."""
        sent = self._sent
        return bool(sent and sent.body) or any(response.body for response in self._queue)

    @property
    def exchanged(self) -> bool:
        """Whether a session description of ours has been sent: another offer may follow it."""
        return self.described and not any(response.body for response in self._queue)

    def send(self, response: Response, now: float) -> None:
        """Send one, or keep it until the one before is acknowledged."""
        if self._sent is not None and len(self._queue) >= MAX_QUEUED:
            raise CallStateError(
                f"{MAX_QUEUED} provisional responses wait for a PRACK", hint="send fewer of them"
            )
        self.described = self.described or bool(response.body)
        self._queue.append(response)
        self.proceed(now)

    def proceed(self, now: float) -> None:
        """Send the next one, unless one is on its way."""
        if self._sent is not None or not self._queue:
            return
        response = self._sent = self._queue.popleft()
        self._number += 1
        response.headers.add("Require", OPTION)
        response.headers.add("RSeq", str(self._number))
        self._transmit(response, now)
        self.resume(now)

    def unacknowledged(self, number: int) -> Response | None:
        """Return the response that a PRACK belongs to, None where it belongs to none."""
        return self._sent if number == self._number else None

    def pause(self) -> None:
        """Take it that the one on its way has arrived; whether its PRACK is taken is not known."""
        self._stop()

    def resume(self, now: float) -> None:
        """Repeat the one on its way until its PRACK comes: the last one was refused."""
        if self._sent is None:
            return
        self._interval = self._core.durations.t1
        self._start(now)
        limit = now + self._core.durations.timeout
        self._limit = self._core.timers.start(limit, self._on_limit)

    def acknowledge(self) -> None:
        """Take it that the one on its way has arrived."""
        self._stop()
        self._sent = None

    def stop(self) -> None:
        """Repeat no more, send no more: there is a final response. A PRACK may still come."""
        self._stop()
        self._queue.clear()

    def _start(self, now: float) -> None:
        """Repeat at T1, doubled without end: PRACK is repeated by its own transaction."""

        def again(at: float) -> None:
            if self._sent is not None:
                self._core.transactions.repeated += 1
                self._transmit(self._sent, at)
                self._interval *= 2
                self._start(at)

        self._repeat = self._core.timers.start(now + self._interval, again)

    def _on_limit(self, now: float) -> None:
        self._limit = None
        self._stop()
        self._give_up(now)

    def _stop(self) -> None:
        for timer in (self._repeat, self._limit):
            if timer is not None:
                timer.cancel()
        self._repeat = self._limit = None
