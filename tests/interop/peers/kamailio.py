"""Kamailio, the registrar and proxy, with rtpengine relaying the sound: both on free ports."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from peers.ports import HOST, PortBlock, is_taken
from peers.process import end, leashed, log_end, log_since

CONF = Path(__file__).parent / "kamailio_conf"
BOOT_S = 20.0


class Kamailio:
    """A running Kamailio: users 2001 to 2004 with passwords `secret2001` ...

    REGISTER and whatever begins something is asked for a digest (MD5); a user's contacts are all
    rung at once; who is not registered is 480. For users of other domains it is the edge: it puts
    itself into the Path of their REGISTER.
    """

    host = HOST

    def __init__(self, programs: tuple[Path, Path, Path], run: Path) -> None:
        """`programs`: kamailio, rtpengine and kamcmd. `run`: a directory for its files."""
        self._kamailio, self._rtpengine, self._kamcmd = programs
        self.run = run.resolve()
        self.log = self.run / "kamailio.log"
        self._processes: list[subprocess.Popen[bytes]] = []
        self._ports: PortBlock | None = None

    # -- life ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Write the configuration and boot; raises RuntimeError with the log's end."""
        self.run.mkdir(parents=True, exist_ok=True)
        self._ports = ports = PortBlock()
        self._configure(ports)
        self._run([str(self._rtpengine), f"--config-file={self.run / 'rtpengine.conf'}"], "media")
        # Kamailio asks for its relay once when it starts, and then only every minute
        self._wait(lambda: is_taken(ports.service(5)), "media")
        command = [str(self._kamailio), "-DD", "-E", "-f", str(self.run / "kamailio.cfg")]
        command += ["-Y", str(self.run), "-P", str(self.run / "pid")]
        self._run(command, "kamailio")
        self._wait(lambda: "uptime" in self.command("core.uptime"), "kamailio")

    def stop(self) -> None:
        """Stop both by pid and give the ports back. Nothing happens when they are not running."""
        for process in reversed(self._processes):
            end(process)
        self._processes.clear()
        if self._ports is not None:
            self._ports.close()
            self._ports = None

    def __enter__(self) -> Kamailio:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def reset(self) -> None:
        """Forget every registration."""
        for user in ("2001", "2002", "2003", "2004"):
            self.command("ul.rm", "location", f"s:{user}")

    # -- where it is, and what it saw ---------------------------------------------------------

    @property
    def port(self) -> int:
        """The SIP port, UDP and TCP."""
        return self._service(1)

    @property
    def tls_port(self) -> int:
        """The port of SIP over TLS."""
        return self._service(2)

    @property
    def ws_port(self) -> int:
        """The port of SIP over WebSocket."""
        return self._service(3)

    @property
    def certificate(self) -> Path:
        """Its certificate (PEM), signed by itself, for 127.0.0.1 and localhost."""
        return self.run / "certificate.pem"

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"{self.host}:{self.port}"

    def uri(self, user: str) -> str:
        """The SIP URI of a user."""
        return f"sip:{user}@{self.address}"

    def password(self, user: str) -> str:
        """The digest password of 2001 to 2004."""
        return f"secret{user}"

    def command(self, *words: str) -> str:
        """The answer to a command (`s:2001` is no number); empty while it does not run."""
        done = subprocess.run(
            [str(self._kamcmd), "-s", f"unix:{self.run / 'ctl'}", *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=10,
            check=False,
        )
        return done.stdout

    def contacts(self, user: str) -> list[str]:
        """The contact URIs under which `user` is registered at this moment."""
        lines = self.command("ul.lookup", "location", f"s:{user}").splitlines()
        return [
            line.split(":", 1)[1].strip() for line in lines if line.strip().startswith("Address:")
        ]

    def mark(self) -> int:
        """The present end of the log: what `log_since` takes."""
        return log_end(self.log)

    def log_since(self, mark: int) -> str:
        """What was logged after `mark`."""
        return log_since(self.log, mark)

    # -- within -------------------------------------------------------------------------------

    def _service(self, index: int) -> int:
        if self._ports is None:
            raise RuntimeError("Kamailio is not running")
        return self._ports.service(index)

    def _configure(self, ports: PortBlock) -> None:
        first, last = ports.rtp
        values = {
            "RUN": self.run,
            "HOST": self.host,
            "SIPS": ports.service(2),
            "SIP": ports.service(1),
            "WS": ports.service(3),
            "NG": ports.service(5),
            "RTP_FIRST": first,
            "RTP_LAST": last,
        }
        for template in CONF.iterdir():
            text = template.read_text()
            for name, value in values.items():
                text = text.replace(f"@{name}@", str(value))
            (self.run / template.name).write_text(text)
        openssl = shutil.which("openssl")
        if openssl is None:
            raise RuntimeError("openssl is not installed (make peers)")
        request = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30"]
        names = ["-subj", f"/CN={self.host}"]
        names += ["-addext", f"subjectAltName=IP:{self.host},DNS:localhost"]
        files = ["-keyout", str(self.run / "key.pem"), "-out", str(self.certificate)]
        subprocess.run([openssl, *request, *names, *files], check=True, capture_output=True)

    def _run(self, command: Sequence[str], name: str) -> None:
        with (self.run / f"{name}.log").open("wb") as output:
            self._processes.append(
                subprocess.Popen(
                    leashed(command),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    cwd=self.run,
                )
            )

    def _wait(self, true: Callable[[], bool], name: str) -> None:
        deadline = time.monotonic() + BOOT_S
        while not true():
            if self._processes[-1].poll() is not None or time.monotonic() > deadline:
                tail = (self.run / f"{name}.log").read_text(errors="replace")[-2000:]
                raise RuntimeError(f"{name} did not boot:\n{tail}")
            time.sleep(0.05)
