"""A phone of ours that is called and calls without a server, and what crossed its wire."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

from phones import CODECS

from voip.call import Call
from voip.config import MediaConfig, NetworkConfig, TroubleConfig
from voip.phone import Softphone
from voip.sip.endpoint.trace import SipTraceRecord

HOST = "127.0.0.1"
JITTER_MS = 200.0
"""Held back of what is heard, as the test run, its phones and its peers may share one processor."""


class Ladder:
    """SIP as it crossed, one line a message: `> INVITE`, `< 180 INVITE`; all of it goes to `log`.

    What is sent again stands here once, and 100 (Trying), which depends on how quick the other
    side is, not at all.
    """

    def __init__(self, log: Path) -> None:
        self._log = log
        self._messages: dict[tuple[bool, bytes], str] = {}
        self.resent = 0

    def __call__(self, record: SipTraceRecord) -> None:
        """Take a message: what `Softphone(trace=...)` calls."""
        text = record.data.decode(errors="replace")
        with self._log.open("a") as log:
            log.write(f"{record.wall_s:.3f} {'>' if record.sent else '<'} {record.flow}\n{text}\n")
        first, _, _ = text.partition("\r\n")
        status = re.match(r"SIP/2\.0 (\d{3})", first)
        method = _header(text, "CSeq").split()[-1]
        if status is None or status[1] != "100":
            line = f"{'>' if record.sent else '<'} {f'{status[1]} ' if status else ''}{method}"
            self.resent += (record.sent, record.data) in self._messages
            self._messages.setdefault((record.sent, record.data), line)

    @property
    def lines(self) -> list[str]:
        """Every message, in order."""
        return list(self._messages.values())

    def header(self, line: str, name: str) -> str:
        """A header of the last message that is written as `line`."""
        return _header(self._texts(line)[-1], name)

    def text(self, line: str) -> str:
        """The last message that is written as `line`."""
        return self._texts(line)[-1]

    def directions(self) -> list[str]:
        """What each session description said: `> INVITE sendonly`, `< 200 INVITE recvonly`."""
        found = []
        for (_, data), line in self._messages.items():
            direction = re.search(rb"a=(sendrecv|sendonly|recvonly|inactive)\r", data)
            if direction is not None:
                found.append(f"{line} {direction[1].decode()}")
        return found

    def _texts(self, line: str) -> list[str]:
        return [
            data.decode(errors="replace")
            for (_, data), written in self._messages.items()
            if written == line
        ]


class Desk:
    """A softphone without an account, what crossed its wire, and the calls that come to it."""

    def __init__(self, phone: Softphone, ladder: Ladder) -> None:
        self.phone = phone
        self.ladder = ladder
        self._calls: asyncio.Queue[Call] = asyncio.Queue()
        phone.on_incoming(self._take)

    def uri(self, transport: str = "udp") -> str:
        """Where it can be called."""
        return f"sip:desk@{HOST}:{self.phone.port};transport={transport}"

    async def incoming(self, timeout: float = 5.0) -> Call:
        """The next call that comes in, neither ringing nor answered."""
        async with asyncio.timeout(timeout):
            return await self._calls.get()

    async def _take(self, call: Call) -> None:
        self._calls.put_nowait(call)
        await call.wait_ended()


@asynccontextmanager
async def desk(
    artifacts: Path,
    *,
    name: str = "desk",
    host: str = HOST,
    codecs: tuple[str, ...] = CODECS,
    ptime_ms: int = 20,
    troubles: TroubleConfig | None = None,
    engine: Literal["auto", "thread", "process"] = "auto",
    **settings: Any,
) -> AsyncIterator[Desk]:
    """Start a phone; `<name>.pcap` takes its SIP and RTP, `<name>.sip` its SIP to be read."""
    ladder = Ladder(artifacts / f"{name}.sip")
    async with Softphone(
        network=NetworkConfig(bind_host=host, trusted=(host,)),
        media=MediaConfig(
            codecs=codecs,
            ptime_ms=ptime_ms,
            jitter_min_ms=JITTER_MS,
            jitter_policy="fixed",
            troubles=troubles or TroubleConfig(),
            engine=engine,
        ),
        pcap=artifacts / f"{name}.pcap",
        trace=ladder,
        **settings,
    ) as phone:
        yield Desk(phone, ladder)


def _header(text: str, name: str) -> str:
    found = re.search(rf"(?im)^{re.escape(name)}\s*:\s*(.*?)\r?$", text)
    return found[1] if found else ""
