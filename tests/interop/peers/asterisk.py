"""Asterisk, the PBX: started from the unpacked Debian system that `make peers` keeps.

It runs with that system's own dynamic loader and libraries in place of a chroot, so any user can
start it, its files have the same names inside and outside, and several run at once.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from certificates import Authority

from peers.ports import HOST, PortBlock
from peers.process import end, leashed, log_end, log_since
from voip.sounds import asset

CONF = Path(__file__).parent / "asterisk_conf"
BOOT_S = 30.0
SERVICES = {"tls": 2, "ws": 3, "wss": 4}


@dataclass(frozen=True, slots=True)
class HeardDigit:
    """A digit as Asterisk logged its end: the channel that sent it, and how long it lasted."""

    channel: str
    digit: str
    duration_ms: int


class Asterisk:
    """A running Asterisk with the numbers of `asterisk_conf/extensions.conf`.

    600 echo, 601 1004 Hz, 603 prompt then BYE, 604 reads four digits, 605 sends `1234*0#`,
    606 early media then echo, 607 busy, 608 congestion, 609 rings for ever, 610 BYE after a
    second, 612 records both directions and echoes, 614 records what it hears, 615 is a conference,
    620b... says whether it hears a busy tone (a, c, p: others), 621425 counts how often 425 Hz.
    1001 to 1004 register with digest (passwords `secret1001`, ...) and can be dialled; 1003 by
    SHA-256, 1004 by whatever it prefers, SHA-512-256 first. 1005 and 1006 speak Opus, G.722, GSM
    and Speex beside G.711. +12155550121 and +12155550131 call with a signature alone, and are
    called with one (RFC 8224).
    """

    host = HOST

    def __init__(self, root: Path, run: Path) -> None:
        """`root`: the unpacked system with Asterisk in it. `run`: a directory for its files."""
        self._root = root
        self._library = next(root.glob("usr/lib/*/libc.so.6")).parent
        self._modules = next(
            path
            for path in (self._library / "asterisk/modules", root / "usr/lib/asterisk/modules")
            if path.exists()
        )
        self.run = run.resolve()
        self.log = self.run / "full"
        self.providers: Authority
        """Who signs for whose signatures of calls it takes, its own among them."""
        self.signing: Path
        """What it signs calls with: a certificate, and its key."""
        self._process: subprocess.Popen[bytes] | None = None
        self._ports: PortBlock | None = None

    # -- life ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Write the configuration and boot; raises RuntimeError with the log's end."""
        self.run.mkdir(parents=True, exist_ok=True)
        self._ports = PortBlock()
        self._configure(self._ports)
        with (self.run / "stdout").open("wb") as output:
            self._process = subprocess.Popen(
                leashed([*self._program(), "-f", *self._config()]),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + BOOT_S
        while self._process.poll() is None and time.monotonic() < deadline:
            if (self.run / "asterisk.ctl").exists() and self._booted():
                return
            time.sleep(0.05)
        tail = (self.run / "stdout").read_text(errors="replace")[-2000:]
        self.stop()
        raise RuntimeError(f"Asterisk did not boot:\n{tail}")

    def stop(self) -> None:
        """Stop it by pid and give its ports back. Nothing happens when it is not running."""
        if self._process is not None:
            end(self._process)
            self._process = None
        if self._ports is not None:
            self._ports.close()
            self._ports = None

    def __enter__(self) -> Asterisk:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def reset(self) -> None:
        """End every call and forget every registration and digit."""
        self.cli("channel request hangup all")
        for family in ("registrar", "digits", "tones"):
            self.cli(f"database deltree {family}")
        deadline = time.monotonic() + 5
        while self.calls():
            if time.monotonic() > deadline:
                raise TimeoutError("Asterisk does not end its calls")
            time.sleep(0.05)

    # -- where it is --------------------------------------------------------------------------

    @property
    def port(self) -> int:
        """The SIP port, UDP and TCP."""
        if self._ports is None:
            raise RuntimeError("Asterisk is not running")
        return self._ports.service(1)

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"{self.host}:{self.port}"

    def address_of(self, transport: str) -> str:
        """`host:port` of tls, ws or wss; the certificate is for the host."""
        if self._ports is None:
            raise RuntimeError("Asterisk is not running")
        return f"{self.host}:{self._ports.service(SERVICES[transport])}"

    @property
    def ca_file(self) -> Path:
        """Who has signed its certificate."""
        return self.run / "Laboratory.pem"

    def uri(self, number: str) -> str:
        """The SIP URI of one of its numbers or phones."""
        return f"sip:{number}@{self.address}"

    def password(self, user: str) -> str:
        """The digest password of a phone."""
        return f"secret{user}"

    def knows_sha256(self) -> bool:
        """Whether 1003 is there: Asterisk 16 knows no digest but MD5."""
        return "1003" in self.cli("pjsip show auths")

    def sound(self, name: str) -> Path:
        """A WAV file (8 kHz) that Asterisk plays: `demo-thanks` (603), `privacy-prompt` (606)..."""
        return self.run / "share/sounds/en" / f"{name}.wav"

    # -- what it saw --------------------------------------------------------------------------

    def cli(self, command: str) -> str:
        """The output of a console command (about 15 ms)."""
        done = subprocess.run(
            [*self._program(), *self._config(), "-rx", command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=10,
            check=False,
        )
        return done.stdout

    def version(self) -> str:
        """As `asterisk -V` says it."""
        done = subprocess.run(
            [*self._program(), "-V"], capture_output=True, text=True, timeout=10, check=True
        )
        return done.stdout.strip()

    def contacts(self, user: str) -> list[str]:
        """The contact URIs under which `user` is registered at this moment."""
        pattern = rf"^/registrar/contact/{re.escape(user)};\S+\s*: (\{{.*\}})"
        stored = re.findall(pattern, self.cli("database show registrar"), re.MULTILINE)
        return [json.loads(contact)["uri"] for contact in stored]

    def calls(self) -> int:
        """How many channels are up."""
        found = re.search(r"(\d+) active channel", self.cli("core show channels count"))
        return int(found[1]) if found else 0

    async def idle(self, timeout: float = 5.0) -> None:
        """Wait until no channel is up; raises TimeoutError."""
        await self._until(lambda: self.calls() == 0, timeout, "channels to go")

    async def digits(self, caller: str, timeout: float = 10.0) -> str:
        """The digits that 604 read from `caller` (1001 or 1002); forgets them.

        604 is done after four digits, or a second or two without another one.
        """
        key = f"digits {caller}"
        digits = ""

        def read() -> bool:
            nonlocal digits
            found = re.search(r"Value: (.*)", self.cli(f"database get {key}"))
            digits = found[1].strip() if found else ""
            return found is not None

        await self._until(read, timeout, f"604 to read the digits of {caller}")
        self.cli(f"database del {key}")
        return digits

    async def tone(self, number: str, timeout: float = 10.0) -> str:
        """What 620... or 621... made of the tone that was sent to it: "yes", "no", or a number."""
        found: list[str] = []

        def read() -> bool:
            found[:] = re.findall(r"Value: (.*)", self.cli(f"database get tones {number}"))
            return bool(found)

        await self._until(read, timeout, f"{number} to hear its tone")
        return found[0].strip()

    def knows_tones(self) -> bool:
        """Whether 620... and 621... are of use: Asterisk 16 detects none."""
        return "TONE_DETECT" in self.cli("core show functions")

    def heard_digits(self, since: int = 0) -> list[HeardDigit]:
        """Every digit whose end is in the log after byte `since` (see `mark`)."""
        pattern = r"DTMF end '(.)' received on (\S+), duration (\d+) ms"
        return [
            HeardDigit(channel, digit, int(duration))
            for digit, channel, duration in re.findall(pattern, self.log_since(since))
        ]

    async def recording(self, number: str, timeout: float = 5.0) -> Path:
        """The newest recording (WAV, 8 kHz; 616: 16 kHz) of a number, once no call is up."""
        return (await self.recordings(number, timeout))[-1]

    async def recordings(self, number: str, timeout: float = 5.0) -> list[Path]:
        """All that were made at a number, the newest last, once no call is up."""
        await self.idle(timeout)
        found = sorted(self.run.glob(f"{number}-*.wav*"), key=lambda path: path.stat().st_mtime_ns)
        if not found:
            raise FileNotFoundError(f"Asterisk recorded nothing at {number}")
        return found

    async def mail(self, mailbox: str, timeout: float = 5.0) -> Path:
        """The newest message (WAV, 8 kHz) that was left in a mailbox, once no call is up."""
        await self.idle(timeout)
        inbox = self.run / "voicemail/default" / mailbox / "INBOX"
        found = sorted(inbox.glob("msg*.wav"), key=lambda path: path.stat().st_mtime_ns)
        if not found:
            raise FileNotFoundError(f"Asterisk has no mail for {mailbox}")
        return found[-1]

    # -- its log ------------------------------------------------------------------------------

    def mark(self) -> int:
        """The present end of the log: what `log_since` takes."""
        return log_end(self.log)

    def log_since(self, mark: int) -> str:
        """What was logged (SIP messages included) after `mark`."""
        return log_since(self.log, mark)

    # -- within -------------------------------------------------------------------------------

    def _program(self) -> list[str]:
        loader = next(self._library.glob("ld-linux-*.so.*"))
        libraries = f"{self._library}:{self._root / 'usr/lib'}"
        asterisk = self._root / "usr/sbin/asterisk"
        return [str(loader), "--library-path", libraries, str(asterisk)]

    def _config(self) -> list[str]:
        return ["-C", str(self.run / "etc/asterisk.conf")]

    def _booted(self) -> bool:
        return "fully booted" in self.cli("core waitfullybooted")

    def _configure(self, ports: PortBlock) -> None:
        rtp_first, rtp_last = ports.rtp
        self.providers = Authority(self.run, "Providers")
        self.signing = self.providers.issue(common_name="SHAKEN 1234", provider="1234")
        (self.run / "certificates").mkdir(exist_ok=True)
        values = {
            "RUN": self.run,
            "MODULES": self._modules,
            "HOST": self.host,
            "SIP": ports.service(1),
            "TLS": ports.service(2),
            "WS": ports.service(3),
            "WSS": ports.service(4),
            "CERTIFICATE": Authority(self.run).issue(self.host),
            "PROVIDERS": self.providers.file,
            "SIGNING_KEY": self.signing,
            "RTP_FIRST": rtp_first,
            "RTP_LAST": rtp_last,
        }
        shutil.rmtree(self.run / "etc", ignore_errors=True)
        (self.run / "etc").mkdir()
        for template in CONF.glob("*.conf"):
            text = template.read_text()
            for name, value in values.items():
                text = text.replace(f"@{name}@", str(value))
            (self.run / "etc" / template.name).write_text(text)
        (self.run / "speech.wav").write_bytes(asset("speech-8k.wav"))
        share = self.run / "share"
        (share / "sounds").mkdir(parents=True, exist_ok=True)
        system = self._root / "usr/share/asterisk"
        sounds = next((system / "sounds").glob("*/demo-thanks.wav")).parent
        for link, target in (
            (share / "documentation", system / "documentation"),
            (share / "sounds/en", sounds),
        ):
            link.unlink(missing_ok=True)
            link.symlink_to(target)

    async def _until(self, true: Callable[[], bool], timeout: float, what: str) -> None:
        deadline = time.monotonic() + timeout
        while not await asyncio.to_thread(true):
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited {timeout:g} s for {what}")
            await asyncio.sleep(0.05)
