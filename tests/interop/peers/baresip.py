"""baresip, the independent user agent: headless, scripted over its control socket."""

from __future__ import annotations

import asyncio
import itertools
import json
import shutil
import signal
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from peers.inbox import Inbox
from peers.ports import HOST, PortBlock
from peers.process import start, stop
from peers.sound import write_looped, write_tone

MODULES = ("g711", "aufile", "aubridge", "sndfile")
CODEC_MODULES = {
    "g722": "g722",
    "gsm": "gsm",
    "l16": "l16",
    "opus": "opus",
}
"""Those of codecs that are not always loaded; names as SDP has them, in lower case."""
PROGRAM_MODULES = ("menu", "ctrl_tcp", "debug_cmd")
START_S = 10.0
ANSWER_S = 5.0


@dataclass(frozen=True, slots=True)
class BaresipEvent:
    """What baresip reported: `kind` such as CALL_ESTABLISHED, CALL_CLOSED, REGISTER_OK."""

    kind: str
    param: str
    peer_uri: str
    call_id: str


@dataclass(frozen=True, slots=True)
class Recording:
    """Both directions of one call as baresip saw them, WAV, 16 bit, as its codec is.

    `sent` is what it gave to its encoder, `received` what came out of its decoder. `received` ends
    with the first re-INVITE: baresip 1.0 takes that recorder down and does not set it up again.
    """

    sent: Path
    received: Path


class Baresip:
    """A running baresip with one account; `async with` starts and stops it.

    Call it at `uri`. With a `registrar` (`host:port`) it registers there as `user`, which
    `registered()` waits for. It plays `play` (WAV, mono 16 bit, looped) or a tone of `tone_hz`,
    both at `rate_hz`, and records both directions of every call. `codecs` are in order of
    preference, "PCMU" or "L16/16000/1"; what it sends at a rate is resampled for one of another.
    """

    host = HOST

    def __init__(
        self,
        program: Path,
        directory: Path,
        *,
        user: str = "baresip",
        registrar: str | None = None,
        password: str = "",
        transport: Literal["udp", "tcp", "tls"] = "udp",
        codecs: Sequence[str] = ("PCMU", "PCMA"),
        answer: Literal["auto", "manual"] = "manual",
        play: Path | None = None,
        tone_hz: float = 440.0,
        rate_hz: int = 8000,
        ptime_ms: int = 20,
        account: str = "",
        certificate: Path | None = None,
        ca_file: Path | None = None,
        modules: Sequence[str] = (),
        contacts: Sequence[str] = (),
        rtcp_mux: bool = False,
        audio_level: bool = False,
    ) -> None:
        """`directory` takes its files; `account` is appended to the account line.

        `certificate`: with its key, for TLS; `ca_file`: whose certificates it believes. `modules`:
        more of its modules, such as "uuid", which gives it an instance id. `contacts`: lines of
        its contact list, such as `"Bob" <sip:bob@host>;presence=p2p` with the module "presence".
        """
        self._program = program
        self._directory = directory.resolve()
        self._user = user
        self._registrar = registrar
        self._password = password
        self._transport = transport
        self._codecs = tuple(codecs)
        self._answer = answer
        self._play = play
        self._tone_hz = tone_hz
        self._rate_hz = rate_hz
        self._ptime_ms = ptime_ms
        self._account = account
        self._modules = tuple(modules)
        self._contacts = tuple(contacts)
        self._rtcp_mux = "yes" if rtcp_mux else "no"
        self._audio_level = "yes" if audio_level else "no"
        self._tls = {"sip_certificate": certificate, "sip_cafile": ca_file}
        self._ports: PortBlock | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._tokens = itertools.count(1)
        self._answers: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._inbox: Inbox[BaresipEvent] = Inbox("baresip")
        self.log = self._directory / "baresip.log"

    # -- life ---------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start it, connect to its control socket, and make its account."""
        self._directory.mkdir(parents=True, exist_ok=True)
        self._ports = PortBlock()
        self._configure(self._ports)
        command = [str(self._program), "-s", "-f", str(self._directory)]
        self._process = await start(command, self.log, self._directory)
        try:
            reader = await self._connect(self._ports.service(3))
            self._reader = asyncio.create_task(self._read(reader))
            await self.command("uanew", self._account_line())
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop it by pid: its calls are ended and its account unregistered."""
        if self._process is not None:
            await stop(self._process)
            self._process = None
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
            self._reader = None
        if self._ports is not None:
            self._ports.close()
            self._ports = None

    def send_signal(self, number: signal.Signals) -> None:
        """Stop, continue or kill its process, without a word to anybody."""
        if self._process is None:
            raise RuntimeError("baresip is not running")
        self._process.send_signal(number)

    async def __aenter__(self) -> Baresip:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    # -- where it is --------------------------------------------------------------------------

    @property
    def port(self) -> int:
        """Its SIP port, UDP and TCP."""
        if self._ports is None:
            raise RuntimeError("baresip is not running")
        return self._ports.service(1)

    @property
    def uri(self) -> str:
        """Where it can be called without a registrar."""
        return f"sip:{self._user}@{self.host}:{self.port}"

    # -- what it does -------------------------------------------------------------------------

    async def registered(self, timeout: float = 5.0) -> None:
        """Wait for the registrar's 200; raises RuntimeError when it refused."""
        event = await self.wait_for("REGISTER_OK", "REGISTER_FAIL", timeout=timeout)
        if event.kind == "REGISTER_FAIL":
            raise RuntimeError(f"baresip could not register: {event.param}")

    async def dial(self, uri: str) -> None:
        """Call `uri`; `established()` waits for the answer."""
        self._inbox.drop(lambda event: event.kind.startswith("CALL_"))
        await self.command("dial", uri)

    async def incoming(self, timeout: float = 5.0) -> BaresipEvent:
        """Wait for a call to come in; `peer_uri` says who calls."""
        event = await self.wait_for("CALL_INCOMING", timeout=timeout)
        self._inbox.drop(lambda other: other.call_id not in ("", event.call_id))
        return event

    async def accept(self) -> None:
        """Answer the call that came in."""
        await self.command("accept")

    async def established(self, timeout: float = 5.0) -> BaresipEvent:
        """Wait until the call is answered; raises RuntimeError when it ended instead."""
        event = await self.wait_for("CALL_ESTABLISHED", "CALL_CLOSED", timeout=timeout)
        if event.kind == "CALL_CLOSED":
            raise RuntimeError(f"baresip's call ended: {event.param}")
        return event

    async def hangup(self) -> None:
        """End the current call, or reject it before it is answered (486)."""
        await self.command("hangup")

    async def closed(self, timeout: float = 10.0) -> BaresipEvent:
        """Wait until the call has ended; `param` is the reason (`486 Busy Here`)."""
        return await self.wait_for("CALL_CLOSED", timeout=timeout)

    async def dtmf(self, digits: str) -> None:
        """Send digits by RFC 4733, one after the other."""
        await self.command("sndcode", digits)

    async def hold(self) -> None:
        """Put the call on hold by re-INVITE."""
        await self.command("hold")

    async def resume(self) -> None:
        """Take the call off hold."""
        await self.command("resume")

    async def transfer(self, uri: str) -> None:
        """Refer the other side to `uri`."""
        await self.command("transfer", uri)

    async def callstat(self) -> str:
        """The state of the current call in baresip's own words."""
        return await self.command("callstat")

    def digits(self) -> str:
        """The digits that were heard so far."""
        return "".join(event.param for event in self.events if event.kind == "CALL_DTMF_START")

    @property
    def events(self) -> list[BaresipEvent]:
        """Everything it has reported."""
        return self._inbox.seen

    async def recording(self, timeout: float = 3.0) -> Recording:
        """The recording of the last call, once the call has ended and the files are closed."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while True:
            sent = sorted(self._directory.glob("dump-*-enc.wav"))
            received = sorted(self._directory.glob("dump-*-dec.wav"))
            if sent and received and _complete(sent[-1]) and _complete(received[-1]):
                return Recording(sent[-1], received[-1])
            if loop.time() > deadline:
                raise TimeoutError(f"baresip recorded nothing: {sent + received}")
            await asyncio.sleep(0.05)

    # -- its control socket -------------------------------------------------------------------

    async def command(self, name: str, params: str = "") -> str:
        """A command of baresip's menu (`/help` lists them); what it answered."""
        if self._writer is None:
            raise RuntimeError("baresip is not running")
        token = str(next(self._tokens))
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._answers[token] = answer
        text = json.dumps({"command": name, "params": params, "token": token}).encode()
        self._writer.write(b"%d:%s," % (len(text), text))
        await self._writer.drain()
        async with asyncio.timeout(ANSWER_S):
            data = await answer
        if not data.get("ok"):
            raise RuntimeError(f"baresip refused {name} {params}: {data.get('data')}")
        return str(data.get("data", ""))

    async def wait_for(self, *kinds: str, timeout: float = 5.0) -> BaresipEvent:
        """Wait for the first event of these kinds that no earlier call has returned."""
        return await self._inbox.take(
            lambda event: event.kind in kinds, " or ".join(kinds), timeout
        )

    async def _connect(self, port: int) -> asyncio.StreamReader:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + START_S
        while True:
            try:
                reader, self._writer = await asyncio.open_connection(self.host, port)
            except OSError:
                ended = self._process is None or self._process.returncode is not None
                if ended or loop.time() > deadline:
                    tail = self.log.read_text(errors="replace")[-2000:]
                    raise RuntimeError(f"baresip did not start:\n{tail}") from None
                await asyncio.sleep(0.02)
            else:
                return reader

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                length = int((await reader.readuntil(b":"))[:-1])
                data = json.loads((await reader.readexactly(length + 1))[:-1])
                await self._take(data)
        except (asyncio.IncompleteReadError, ConnectionError):
            await self._inbox.end()

    async def _take(self, data: dict[str, Any]) -> None:
        if data.get("response"):
            answer = self._answers.pop(str(data.get("token")), None)
            if answer is not None and not answer.done():
                answer.set_result(data)
            return
        event = BaresipEvent(
            kind=str(data.get("type", "")),
            param=str(data.get("param", "")),
            peer_uri=str(data.get("peeruri", "")),
            call_id=str(data.get("id", "")),
        )
        await self._inbox.put(event)

    # -- its files ----------------------------------------------------------------------------

    def _account_line(self) -> str:
        where = self._registrar or f"{self.host}:{self.port}"
        line = f"<sip:{self._user}@{where};transport={self._transport}>"
        line += f";answermode={self._answer};audio_codecs={','.join(self._codecs)}"
        line += f";ptime={self._ptime_ms}"
        line += f";auth_user={self._user};auth_pass={self._password}" if self._password else ""
        line += ";regint=60" if self._registrar else ";regint=0"
        return f"{line};{self._account}" if self._account else line

    def _configure(self, ports: PortBlock) -> None:
        play = self._directory / "play.wav"
        if self._play is None:
            write_tone(play, self._tone_hz, self._rate_hz)
        else:
            write_looped(play, self._play, self._rate_hz)
        rtp_first, rtp_last = ports.rtp
        spoken = {codec.partition("/")[0].lower() for codec in self._codecs}
        modules = [*MODULES, *sorted({CODEC_MODULES[name] for name in spoken & {*CODEC_MODULES}})]
        # File names are relative, because it cuts them off at 128 characters; its TLS listener
        # takes the port after the SIP port.
        settings = [
            f"sip_listen {self.host}:{ports.service(1)}",
            f"ctrl_tcp_listen {self.host}:{ports.service(3)}",
            f"net_interface {self.host}",
            f"dns_server {self.host}:53",
            f"rtp_ports {rtp_first}-{rtp_last}",
            "rtp_stats yes",
            f"rtcp_mux {self._rtcp_mux}",
            f"audio_level {self._audio_level}",
            "call_local_timeout 120",
            "call_max_calls 8",
            f"audio_source aufile,{play.name}",
            "audio_player aubridge,sink",
            "audio_alert aubridge,alert",
            f"ausrc_srate {self._rate_hz}",
            f"auplay_srate {self._rate_hz}",
            "ausrc_channels 1",
            "auplay_channels 1",
            "audio_telev_pt 101",
            "audio_buffer 20-160",
            "jitter_buffer_type fixed",
            "jitter_buffer_delay 1-5",
            "snd_path .",
            "statmode_default off",
            f"module_path {_module_path()}",
            *(f"module {name}.so" for name in modules),
            "opus_bitrate 32000",
            "opus_stereo no",
            "opus_sprop_stereo no",
            "module_tmp account.so",
            *(f"module_app {name}.so" for name in (*PROGRAM_MODULES, *self._modules)),
        ]
        for setting, file in self._tls.items():
            if file is not None:
                shutil.copy(file, self._directory / f"{setting}.pem")
                settings.append(f"{setting} {setting}.pem")
        (self._directory / "config").write_text("\n".join(settings) + "\n")
        (self._directory / "accounts").write_text("")
        (self._directory / "contacts").write_text("".join(f"{one}\n" for one in self._contacts))


def _module_path() -> Path:
    for path in (Path("/usr/lib/baresip/modules"), Path("/usr/local/lib/baresip/modules")):
        if path.exists():
            return path
    raise FileNotFoundError("baresip has no modules under /usr/lib or /usr/local/lib")


def _complete(path: Path) -> bool:
    """Whether the header counts all samples that are in the file, and there are some."""
    try:
        with wave.open(str(path)) as wav:
            size: int = wav.getnframes() * wav.getnchannels() * 2
    except (wave.Error, EOFError):
        return False
    return size > 0 and size + 44 == path.stat().st_size
