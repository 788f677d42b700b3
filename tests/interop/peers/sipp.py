"""SIPp: call flows written by others, many calls at once, a verdict in its exit status."""

from __future__ import annotations

import asyncio
import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from peers.ports import HOST, PortBlock, is_taken
from peers.process import start, stop

START_S = 5.0


@dataclass(frozen=True, slots=True)
class SippResult:
    """What SIPp counted. `reasons` are the kinds of failure with their counts."""

    exit_status: int
    successful: int
    failed: int
    retransmissions: int
    unexpected_out_of_call: int
    reasons: dict[str, int]
    errors: str

    def require(self, calls: int) -> None:
        """Raise AssertionError unless exactly `calls` calls succeeded and none failed."""
        verdict = (self.exit_status, self.successful, self.failed)
        if verdict != (0, calls, 0):
            raise AssertionError(
                f"SIPp: exit status {self.exit_status}, {self.successful} of {calls} calls"
                f" succeeded, {self.failed} failed {self.reasons}\n{self.errors[-3000:]}"
            )


class Sipp:
    """One run of SIPp; `async with` starts it, `finished()` waits for its verdict.

    `scenario` is a built-in one (`uac`, `uas`) or a file. With `remote` (`host:port`) it calls
    there, `calls` times at `rate` a second, each for `duration_ms`; without, it waits for that
    many calls at `uri`. SIPp gives up after `timeout_s`, and then every open call has failed.

    The built-in `uas` keeps a call for 4 s after its BYE; over TCP a caller that closes its
    connection sooner has a failed call counted there (`FailedTcpClosed`).
    """

    def __init__(
        self,
        program: Path,
        directory: Path,
        scenario: str | Path,
        *,
        host: str = HOST,
        remote: str | None = None,
        calls: int = 1,
        rate: float = 10,
        concurrent: int | None = None,
        duration_ms: int = 0,
        transport: Literal["udp", "tcp"] = "udp",
        service: str = "service",
        credentials: tuple[str, str] | None = None,
        users: Path | None = None,
        rtp_echo: bool = False,
        timeout_s: int = 60,
        extra: Sequence[str] = (),
    ) -> None:
        """`host`: its address. `service`: the user it calls. `users`: a CSV file for `[field0]`.

        `extra`: options.
        """
        self.host = host
        self._program = program
        self._directory = directory.resolve()
        self._ports: PortBlock | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._service = service
        self._transport = transport
        self._waits = remote is None
        self.log = self._directory / "messages.log"
        built_in = isinstance(scenario, str)
        self._arguments = ["-sn" if built_in else "-sf", str(scenario), "-s", service]
        self._arguments += ["-m", str(calls), "-r", f"{rate:g}", "-d", str(duration_ms)]
        self._arguments += ["-t", "t1" if transport == "tcp" else "u1"]
        self._arguments += ["-timeout", f"{timeout_s}s", "-timeout_error"]
        if remote is not None:
            self._arguments.insert(0, remote)
        if concurrent is not None:
            self._arguments += ["-l", str(concurrent)]
        if credentials is not None:
            self._arguments += ["-au", credentials[0], "-ap", credentials[1]]
        if users is not None:
            self._arguments += ["-inf", str(users.resolve())]
        if rtp_echo:
            self._arguments.append("-rtp_echo")
        self._arguments += extra

    # -- life ---------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start it; one that waits for calls is ready to take them afterwards."""
        self._directory.mkdir(parents=True, exist_ok=True)
        self._ports = PortBlock()
        rtp_first, _ = self._ports.rtp
        options = ["-i", self.host, "-bind_local", "-p", str(self.port), "-nostdin"]
        options += ["-mi", self.host, "-mp", str(rtp_first), "-cp", str(self._ports.service(2))]
        options += ["-trace_stat", "-stf", "statistics.csv", "-fd", "1"]
        options += ["-trace_err", "-error_file", "errors.log"]
        options += ["-trace_msg", "-message_file", self.log.name]
        command = [str(self._program), *self._arguments, *options]
        self._process = await start(command, self._directory / "screen.log", self._directory)
        if self._waits:
            async with asyncio.timeout(START_S):
                while self._process.returncode is None and not is_taken(self.port):
                    await asyncio.sleep(0.02)
            if self._process.returncode is not None:
                raise AssertionError(f"SIPp ended before anybody called it: {self._errors()}")

    async def stop(self) -> None:
        """Stop it by pid, if it has not finished."""
        if self._process is not None:
            await stop(self._process)
            self._process = None
        if self._ports is not None:
            self._ports.close()
            self._ports = None

    async def __aenter__(self) -> Sipp:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    # -- where it is, and what it says --------------------------------------------------------

    @property
    def port(self) -> int:
        """Its SIP port."""
        if self._ports is None:
            raise RuntimeError("SIPp is not running")
        return self._ports.service(1)

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def uri(self) -> str:
        """Where a scenario that waits can be called."""
        suffix = ";transport=tcp" if self._transport == "tcp" else ""
        return f"sip:{self._service}@{self.address}{suffix}"

    async def finished(self, timeout: float = 90.0) -> SippResult:
        """Wait for the end of the run."""
        if self._process is None:
            raise RuntimeError("SIPp is not running")
        async with asyncio.timeout(timeout):
            status = await self._process.wait()
        counts = self._counts()
        reasons = {
            name.removesuffix("(C)"): count
            for name, count in counts.items()
            if name.startswith("Failed") and name.endswith("(C)") and count
        }
        reasons.pop("FailedCall", None)
        return SippResult(
            exit_status=status,
            successful=counts.get("SuccessfulCall(C)", 0),
            failed=counts.get("FailedCall(C)", 0),
            retransmissions=counts.get("Retransmissions(C)", 0),
            unexpected_out_of_call=counts.get("OutOfCallMsgs(C)", 0),
            reasons=reasons,
            errors=self._errors(),
        )

    def _counts(self) -> dict[str, int]:
        """The last row of the statistics, as far as it consists of whole numbers."""
        path = self._directory / "statistics.csv"
        if not path.exists():
            return {}
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file, delimiter=";"))
        if not rows:
            return {}
        return {name: int(value) for name, value in rows[-1].items() if (value or "").isdigit()}

    def _errors(self) -> str:
        names = ("errors.log", "screen.log")
        paths = [self._directory / name for name in names]
        texts = [path.read_text(errors="replace") for path in paths if path.exists()]
        return next((text for text in texts if text), "")
