"""The other side of the SIP benchmark: a caller of many calls, or a registrar, on one socket.

It shares no code with what it measures: messages are templates, and answers are searched for the
few words that matter.
"""

from __future__ import annotations

import re
import selectors
import socket
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Final

from voip.errors import VoipError

__all__ = ["CallLoad", "CallTotals", "RegistrarLoad", "RegistrarTotals"]

HOST: Final = "127.0.0.1"
T1_S: Final = 0.5
GIVE_UP_S: Final = 32.0
_BUFFER_BYTES: Final = 1 << 22
_READS: Final = 64

_SDP: Final = (
    b"v=0\r\no=load 1 1 IN IP4 192.0.2.8\r\ns=-\r\nc=IN IP4 192.0.2.8\r\nt=0 0\r\n"
    b"m=audio 40000 RTP/AVP 0 8 101\r\na=rtpmap:101 telephone-event/8000\r\na=ptime:20\r\n"
)
_REQUEST: Final = (
    b"%(method)b sip:bench@127.0.0.1:%(port)d SIP/2.0\r\n"
    b"Via: SIP/2.0/UDP 127.0.0.1:%(own)d;branch=z9hG4bK%(method)b%(call)d\r\n"
    b"Max-Forwards: 70\r\n"
    b"From: <sip:load@127.0.0.1:%(own)d>;tag=l%(call)d\r\n"
    b"To: <sip:bench@127.0.0.1:%(port)d>%(tag)b\r\n"
    b"Call-ID: %(call)d@load\r\n"
    b"CSeq: %(cseq)d %(method)b\r\n"
    b"Contact: <sip:load@127.0.0.1:%(own)d>\r\n"
)
_NO_BODY: Final = b"Content-Length: 0\r\n\r\n"
_ANSWER: Final = re.compile(
    rb"SIP/2\.0 ([0-9]{3}).*?\r\nTo:[^\r]*?(;tag=[^;\r]+)?\r\n.*?"
    rb"Call-ID: ([0-9]+)@load\r\n.*?CSeq: [0-9]+ ([A-Z]+)",
    re.DOTALL,
)


@dataclass(slots=True)
class _Call:
    """`step` is the method whose answer is waited for."""

    begun: float
    sent: bytes
    sent_at: float
    interval: float = T1_S
    step: str = "INVITE"
    tag: bytes = b""
    rang: bool = False


@dataclass(frozen=True, slots=True)
class CallTotals:
    """What the caller saw. `retransmissions`: by either side."""

    completed: int
    held: int
    failed: int
    retransmissions: int
    rang: int
    wall_s: float
    reasons: dict[str, int]


class CallLoad:
    """Calls a phone at 127.0.0.1: `window` calls are under way at any time."""

    def __init__(self, port: int) -> None:
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        self._sock.bind((HOST, 0))
        self._sock.setblocking(False)
        self._sock.connect((HOST, port))
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._sock, selectors.EVENT_READ)
        self._ports = {b"port": port, b"own": self._sock.getsockname()[1]}
        self._calls: dict[int, _Call] = {}
        self._order: deque[tuple[float, int]] = deque()  # when to look after a call again
        self._next = 1
        self._held: list[int] = []
        self._tags: dict[int, bytes] = {}  # the phone's, of the calls that are held
        self._reset()

    def _reset(self) -> None:
        self._completed = self._failed = self._again = self._rang = 0
        self._reasons: dict[str, int] = {}

    def run(self, seconds: float, window: int) -> CallTotals:
        """Make complete calls for so long, as many as the phone answers; then let them end."""
        begun = time.perf_counter()
        until = begun + seconds
        self._reset()
        while (now := time.perf_counter()) < until:
            while len(self._calls) < window:
                self._invite(now)
            self._turn(hold=False)
        return self._finish(begun)

    def hold(self, count: int, window: int) -> CallTotals:
        """Make calls and do not hang up."""
        begun = time.perf_counter()
        self._reset()
        left = count
        while left or self._calls:
            while left and len(self._calls) < window:
                self._invite(time.perf_counter())
                left -= 1
            self._turn(hold=True)
        return self._totals(begun)

    def hang_up(self, window: int) -> CallTotals:
        """End the calls that were held."""
        begun = time.perf_counter()
        self._reset()
        while self._held or self._calls:
            while self._held and len(self._calls) < window:
                self._bye(self._held.pop(), time.perf_counter())
            self._turn(hold=False)
        return self._totals(begun)

    def close(self) -> None:
        """Close the socket."""
        self._selector.close()
        self._sock.close()

    def _finish(self, begun: float) -> CallTotals:
        wall = time.perf_counter()
        while self._calls:
            self._turn(hold=False)
        return self._totals(begun, wall)

    def _totals(self, begun: float, ended: float | None = None) -> CallTotals:
        return CallTotals(
            self._completed,
            len(self._held),
            self._failed,
            self._again,
            self._rang,
            (ended or time.perf_counter()) - begun,
            self._reasons,
        )

    def _turn(self, *, hold: bool) -> None:
        """Read what has come, and repeat what was not answered in time."""
        if self._selector.select(0.01):
            for _ in range(_READS):
                try:
                    data = self._sock.recv(65535)
                except BlockingIOError:
                    break
                except OSError as error:
                    raise VoipError(f"the phone is gone: {error}") from error
                self._take(data, hold)
        now = time.perf_counter()
        while self._order and self._order[0][0] <= now:
            self._look_after(self._order.popleft()[1], now)

    def _look_after(self, number: int, now: float) -> None:
        call = self._calls.get(number)
        if call is None:
            return
        if now - call.begun > GIVE_UP_S:
            self._fail(number, f"no answer to {call.step}")
        elif now - call.sent_at >= call.interval:
            self._again += 1
            call.interval *= 2
            self._send(call, now)
        self._order.append((now + T1_S, number))

    def _take(self, data: bytes, hold: bool) -> None:
        found = _ANSWER.match(data)
        if found is None:
            self._note("what came is no answer")
            return
        status, number, method = int(found[1]), int(found[3]), found[4].decode()
        call = self._calls.get(number)
        if call is None or call.step != method:
            self._again += status >= 200
            return
        if status < 200:
            if status == 180:
                self._again += call.rang
                call.rang = True
        elif status >= 300:
            self._fail(number, f"{status} to {method}")
        elif method == "BYE":
            self._completed += 1
            del self._calls[number]
        else:
            self._answered(number, call, found[2] or b"", hold)

    def _answered(self, number: int, call: _Call, tag: bytes, hold: bool) -> None:
        self._rang += call.rang
        call.tag = tag
        self._sock.send(self._request(b"ACK", number, 1, tag) + _NO_BODY)
        if hold:
            self._held.append(number)
            self._tags[number] = tag
            del self._calls[number]
        else:
            self._bye(number, time.perf_counter())

    def _invite(self, now: float) -> None:
        number, self._next = self._next, self._next + 1
        head = self._request(b"INVITE", number, 1, b"")
        body = b"Content-Type: application/sdp\r\nContent-Length: %d\r\n\r\n" % len(_SDP) + _SDP
        self._calls[number] = call = _Call(now, head + body, now)
        self._order.append((now + T1_S, number))
        self._send(call, now)

    def _bye(self, number: int, now: float) -> None:
        call = self._calls.get(number)
        tag = self._tags.pop(number, b"") if call is None else call.tag
        data = self._request(b"BYE", number, 2, tag) + _NO_BODY
        self._calls[number] = call = _Call(now, data, now, step="BYE")
        self._order.append((now + T1_S, number))
        self._send(call, now)

    def _request(self, method: bytes, number: int, cseq: int, tag: bytes) -> bytes:
        words = {b"method": method, b"call": number, b"cseq": cseq, b"tag": tag}
        return _REQUEST % {**words, **self._ports}

    def _send(self, call: _Call, now: float) -> None:
        call.sent_at = now
        try:
            self._sock.send(call.sent)
        except BlockingIOError:
            self._note("the socket was full")

    def _fail(self, number: int, reason: str) -> None:
        self._failed += 1
        self._note(reason)
        del self._calls[number]

    def _note(self, reason: str) -> None:
        self._reasons[reason] = self._reasons.get(reason, 0) + 1


@dataclass(frozen=True, slots=True)
class RegistrarTotals:
    """What the registrar saw."""

    registers: int
    users: int
    retransmissions: int


class RegistrarLoad:
    """Grants every binding for `expires_s`, in a thread, until it is closed."""

    def __init__(self, expires_s: int) -> None:
        self._expires_s = expires_s
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        self._sock.bind((HOST, 0))
        self._sock.settimeout(0.1)
        self.port: int = self._sock.getsockname()[1]
        self._seen: dict[bytes, bytes] = {}  # by Call-ID: the last CSeq
        self._registers = self._again = 0
        self._closing = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._closing:
            try:
                data, source = self._sock.recvfrom(65535)
            except TimeoutError:
                continue
            self._sock.sendto(self._answer(data), source)

    def _answer(self, data: bytes) -> bytes:
        wanted = (b"Via:", b"From:", b"To:", b"Call-ID:", b"CSeq:", b"Contact:")
        lines = dict.fromkeys(wanted, b"")
        for line in data.split(b"\r\n"):
            name = line[: line.find(b":") + 1]
            if name in lines:
                lines[name] = line
        self._registers += 1
        self._again += self._seen.get(lines[b"Call-ID:"]) == lines[b"CSeq:"]
        self._seen[lines[b"Call-ID:"]] = lines[b"CSeq:"]
        lines[b"To:"] += b";tag=registrar"
        lines[b"Contact:"] += b";expires=%d" % self._expires_s
        return b"\r\n".join([b"SIP/2.0 200 OK", *lines.values(), b"Content-Length: 0\r\n\r\n"])

    def close(self) -> RegistrarTotals:
        """Stop, and say what came."""
        self._closing = True
        self._thread.join()
        self._sock.close()
        return RegistrarTotals(self._registers, len(self._seen), self._again)
