"""PJSIP, the most used SIP stack: a process of its own that sends back what it hears, or plays."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from peers.inbox import Inbox
from peers.ports import HOST, PortBlock
from peers.process import leashed

PROGRAM = Path(__file__).with_name("pjsua_peer.py")
START_S = 10.0
ANSWER_S = 5.0


@dataclass(frozen=True, slots=True)
class PjsuaEvent:
    """What PJSIP reported: `kind` is ready, registration, incoming, state, media, dtmf or presence.

    `text` is the state (CALLING, EARLY, CONFIRMED, DISCONNECTED), the media status (ACTIVE,
    REMOTE_HOLD, ...), the digit, the caller's URI or UNKNOWN, ONLINE, OFFLINE; `status` a SIP
    status where there is one.
    """

    kind: str
    call: int
    text: str
    status: int
    reason: str


class Pjsua:
    """A running PJSIP with one account and at most four calls; `async with` starts and stops it.

    Call it at `uri`. With a `registrar` (`host:port`) it registers there as `user`. It offers
    Speex, iLBC, GSM, PCMU, PCMA and G.722, and takes what is answered, or `codecs` ("iLBC/8000/1")
    alone; its SDP names the machine's own address and not 127.0.0.1, from which its packets come
    all the same. With a file to `play` (WAV, over and over) it records what it hears, at `rate_hz`.
    """

    host = HOST

    def __init__(
        self,
        python: Path,
        directory: Path,
        *,
        user: str = "pjsip",
        registrar: str | None = None,
        password: str = "",
        transport: Literal["udp", "tcp"] = "udp",
        codecs: Sequence[str] = (),
        ilbc_mode: Literal[20, 30] = 30,
        play: Path | None = None,
        rate_hz: int = 8000,
        vad: bool = False,
    ) -> None:
        """`python`: the interpreter that has `pjsua2`. `directory` takes its log."""
        self._python = python
        self._directory = directory.resolve()
        self._settings: dict[str, Any] = {
            "host": self.host,
            "user": user,
            "registrar": registrar,
            "password": password,
            "transport": transport,
            "codecs": list(codecs),
            "ilbc_mode": ilbc_mode,
            "play": str(play.resolve()) if play else "",
            "rate_hz": rate_hz,
            "vad": vad,
        }
        self._ports: PortBlock | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._ids = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._inbox: Inbox[PjsuaEvent] = Inbox("PJSIP")
        self.log = self._directory / "pjsua.log"

    # -- life ---------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the process and wait until it is ready."""
        self._directory.mkdir(parents=True, exist_ok=True)
        self._ports = PortBlock()
        settings = json.dumps({**self._settings, "port": self.port})
        # -u: PJSIP's log, from which codec() reads, is written line by line
        command = [str(self._python), "-u", str(PROGRAM), settings]
        with self.log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *leashed(command),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                cwd=self._directory,
            )
        self._reader = asyncio.create_task(self._read(self._process))
        try:
            await self.wait_for("ready", timeout=START_S)
        except TimeoutError:
            tail = self.log.read_text(errors="replace")[-2000:]
            await self.stop()
            raise RuntimeError(f"PJSIP did not start:\n{tail}") from None

    async def stop(self) -> None:
        """End its calls, its registration and the process."""
        if self._process is not None:
            if self._process.stdin is not None:
                self._process.stdin.close()
            try:
                async with asyncio.timeout(5):
                    await self._process.wait()
            except TimeoutError:
                self._process.kill()
                await self._process.wait()
            self._process = None
        if self._reader is not None:
            await self._reader
            self._reader = None
        if self._ports is not None:
            self._ports.close()
            self._ports = None

    def send_signal(self, number: signal.Signals) -> None:
        """Stop, continue or kill its process, without a word to anybody."""
        if self._process is None:
            raise RuntimeError("PJSIP is not running")
        self._process.send_signal(number)

    async def __aenter__(self) -> Pjsua:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    # -- where it is --------------------------------------------------------------------------

    @property
    def port(self) -> int:
        """Its SIP port, UDP and TCP."""
        if self._ports is None:
            raise RuntimeError("PJSIP is not running")
        return self._ports.service(1)

    @property
    def uri(self) -> str:
        """Where it can be called without a registrar."""
        return f"sip:{self._settings['user']}@{self.host}:{self.port}"

    # -- what it does -------------------------------------------------------------------------

    async def registered(self, timeout: float = 5.0) -> None:
        """Wait for the registrar's 200; raises RuntimeError when it refused."""
        event = await self.wait_for("registration", timeout=timeout)
        if event.status != 200:
            raise RuntimeError(f"PJSIP could not register: {event.status} {event.reason}")

    async def call(self, uri: str, **headers: str) -> int:
        """Call `uri`, with more headers in the INVITE; the number of the call."""
        answer = await self.command("call", uri=uri, headers=headers)
        return int(answer["call"])

    async def incoming(self, timeout: float = 5.0) -> int:
        """Wait for a call to come in; its number."""
        return (await self.wait_for("incoming", timeout=timeout)).call

    async def answer(self, call: int, status: int = 200) -> None:
        """Answer a call that came in; 180 rings, 486 rejects."""
        await self.command("answer", call=call, status=status)

    async def send_on(self, call: int, uri: str) -> None:
        """Answer a call that came in by 302, to `uri`."""
        await self.command("answer", call=call, status=302, contact=uri)

    async def established(self, call: int, timeout: float = 5.0) -> None:
        """Wait until it is answered and its audio is looped; RuntimeError when it ended instead."""
        event = await self._inbox.take(
            lambda event: (
                (event.kind, event.call) == ("state", call)
                and event.text in ("CONFIRMED", "DISCONNECTED")
            ),
            f"call {call} to be answered",
            timeout,
        )
        if event.text == "DISCONNECTED":
            raise RuntimeError(f"PJSIP's call ended: {event.status} {event.reason}")
        await self.wait_for("media", call=call, text="ACTIVE", timeout=timeout)

    async def hangup(self, call: int, status: int = 0) -> None:
        """End a call; `status` rejects one that is not answered (0: 603)."""
        await self.command("hangup", call=call, status=status)

    async def closed(self, call: int, timeout: float = 10.0) -> PjsuaEvent:
        """Wait until the call has ended; `status` and `reason` say how."""
        return await self.wait_for("state", call=call, text="DISCONNECTED", timeout=timeout)

    async def dtmf(self, call: int, digits: str) -> None:
        """Send digits by RFC 4733, 200 ms each."""
        await self.command("dtmf", call=call, digits=digits)

    async def hold(self, call: int) -> None:
        """Put the call on hold by re-INVITE."""
        await self.command("hold", call=call)

    async def resume(self, call: int) -> None:
        """Take the call off hold."""
        await self.command("resume", call=call)

    async def speak(self, *codecs: str, call: int = 0) -> None:
        """Use these codecs alone from now on; in a `call`, too, by re-INVITE."""
        await self.command("codecs", codecs=codecs, call=call)

    async def transfer(self, call: int, uri: str) -> None:
        """Ask the other side of a call to call `uri` (REFER)."""
        await self.command("transfer", call=call, uri=uri)

    async def replace(self, call: int, by: int) -> None:
        """Ask the other side of a call to take our place in the call `by` (REFER, Replaces)."""
        await self.command("replace", call=call, by=by)

    async def watch(self, uri: str) -> None:
        """Watch somebody's presence, which comes as events of kind `presence`."""
        await self.command("watch", uri=uri)

    def digits(self, call: int) -> str:
        """The digits that were heard in a call so far."""
        heard = [event for event in self._inbox.seen if event.kind == "dtmf"]
        return "".join(event.text for event in heard if event.call == call)

    def recordings(self, call: int) -> list[Path]:
        """What was heard in a call that has ended, of a peer that plays: WAV, mono 16 bit.

        One for each time that a session description began or changed what is heard.
        """
        return sorted(self._directory.glob(f"heard-{call}-*.wav"))

    def codec(self) -> str:
        """The codec of the newest stream, as its log says it: `PCMU`; empty when there was none."""
        log = self.log.read_text(errors="replace")
        found = re.findall(r"Audio updated, stream #\d+: (\S+)", log)
        return found[-1] if found else ""

    @property
    def events(self) -> list[PjsuaEvent]:
        """Everything it has reported."""
        return self._inbox.seen

    # -- its pipe -----------------------------------------------------------------------------

    async def command(self, do: str, **values: Any) -> dict[str, Any]:
        """One command of `pjsua_peer.py`; raises RuntimeError with PJSIP's own words."""
        if self._process is None or self._process.stdin is None:
            raise RuntimeError("PJSIP is not running")
        number = next(self._ids)
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._answers[number] = future
        line = json.dumps({"id": number, "do": do, **values}) + "\n"
        self._process.stdin.write(line.encode())
        await self._process.stdin.drain()
        async with asyncio.timeout(ANSWER_S):
            answer = await future
        if not answer["ok"]:
            raise RuntimeError(f"PJSIP refused {do}: {answer['error']}")
        return answer

    async def wait_for(
        self, kind: str, *, call: int | None = None, text: str | None = None, timeout: float = 5.0
    ) -> PjsuaEvent:
        """Wait for the first such event that no earlier call has returned."""
        return await self._inbox.take(
            lambda event: (
                event.kind == kind
                and (call is None or event.call == call)
                and (text is None or event.text == text)
            ),
            f"{kind} {text or ''} of call {call}" if call is not None else kind,
            timeout,
        )

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        if process.stdout is None:
            raise RuntimeError("PJSIP was started without a pipe")
        async for line in process.stdout:
            data = json.loads(line)
            if "id" in data:
                answer = self._answers.pop(data["id"], None)
                if answer is not None and not answer.done():
                    answer.set_result(data)
                continue
            event = PjsuaEvent(
                kind=data["event"],
                call=data["call"],
                text=data["text"],
                status=data["status"],
                reason=data["reason"],
            )
            await self._inbox.put(event)
        await self._inbox.end()
