"""The processes of the benchmarks, and how the one that leads talks to them.

A worker reads a line of JSON (`{"do": NAME, ...}`) and answers it with one. Run as
`python -m voip.harness.bench.worker ROLE`; the roles are at the end.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import asdict
from types import TracebackType
from typing import Any, Self

import numpy as np

from voip.errors import MediaError, VoipError
from voip.harness.bench.engine_side import EngineSide
from voip.harness.bench.flood_side import FloodedRole, FloodPeerRole, FloodRole
from voip.harness.bench.load import Load
from voip.harness.bench.sip_roles import SipLoadRole, SipPhoneRole, SipSpeedRole

__all__ = ["Worker"]

Message = dict[str, Any]

_SLEEP_STEP_S = 0.010
_END_TIMEOUT_S = 5.0


class Worker:
    """A worker process. `tell` asks without waiting; `answer` waits; `ask` does both."""

    def __init__(self, role: str) -> None:
        self._role = role
        self._process = subprocess.Popen(
            [sys.executable, "-m", "voip.harness.bench.worker", role],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self._process.kill()
        with suppress(OSError, subprocess.TimeoutExpired):
            self._process.communicate(timeout=_END_TIMEOUT_S)
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()  # and its pipes are closed

    def tell(self, do: str, **arguments: Any) -> None:
        """Send a request."""
        if self._process.stdin is None:
            raise MediaError(f"the benchmark's {self._role} process takes no orders")
        with suppress(BrokenPipeError):  # `answer` says what happened
            self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self._process.stdin.flush()

    def answer(self) -> Message:
        """Wait for the answer; raises `MediaError` with the worker's words when it failed."""
        line = self._process.stdout.readline() if self._process.stdout is not None else ""
        if not line:
            raise MediaError(
                f"the benchmark's {self._role} process ended with status {self._process.wait()}"
            )
        message: Message = json.loads(line)
        if "error" in message:
            raise MediaError(f"{self._role}: {message['error']}", hint=message.get("hint", ""))
        return message

    def ask(self, do: str, **arguments: Any) -> Message:
        """Send a request and wait for its answer."""
        self.tell(do, **arguments)
        return self.answer()


# ---------------------------------------------------------------- inside a worker


async def _serve(handle: Callable[[Message], Awaitable[Message]]) -> None:
    """Answer requests from standard input until it ends."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=1 << 24)
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    try:
        while line := await reader.readline():
            try:
                reply = await handle(json.loads(line))
            except VoipError as error:
                reply = {"error": error.message, "hint": error.hint}
            print(json.dumps(reply), flush=True)
    finally:
        transport.close()


def _pairs(ports: list[list[int]]) -> list[tuple[int, int]]:
    return [(rtp, rtcp) for rtp, rtcp in ports]


async def _engine() -> None:
    side: EngineSide | None = None

    async def handle(request: Message) -> Message:
        nonlocal side
        match request["do"]:
            case "open":
                side = EngineSide(**{name: request[name] for name in request if name != "do"})
                return {"ports": await side.open()}
            case "connect" if side is not None:
                await side.connect(_pairs(request["ports"]))
            case "mark" if side is not None:
                measured = await side.mark()
                return {} if measured is None else asdict(measured)
            case "swell" if side is not None:
                return await side.swell(request["rows"], request["seconds"])
            case "close" if side is not None:
                return asdict(await side.close())
            case other:
                return {"error": f"not now: {other}"}
        return {}

    await _serve(handle)


async def _load() -> None:
    load: Load | None = None
    connected = asyncio.Event()

    async def listen() -> None:
        """Receive between requests: the engine speaks as soon as it is connected."""
        await connected.wait()
        while load is not None and connected.is_set():
            load.listen(0.0)
            await asyncio.sleep(0.002)

    async def handle(request: Message) -> Message:
        nonlocal load
        match request["do"]:
            case "open":
                load = Load(
                    request["calls"], request["seed"], request["codec"], request.get("srtp")
                )
                return {"ports": load.addresses()}
            case "connect" if load is not None:
                load.connect(_pairs(request["ports"]))
                connected.set()
            case "run" if load is not None:
                load.run(request["seconds"])
            case "listen" if load is not None:
                load.listen(request["seconds"])
            case "finish" if load is not None:
                connected.clear()
                return asdict(load.finish())
            case other:
                return {"error": f"not now: {other}"}
        return {}

    listening = asyncio.create_task(listen())
    await _serve(handle)
    listening.cancel()


async def _sleep() -> None:
    async def handle(request: Message) -> Message:
        return _bare_sleep(request["seconds"])

    await _serve(handle)


def _bare_sleep(seconds: float) -> Message:
    """Measure how late a loop that does nothing but sleep wakes up, in milliseconds."""
    late: list[float] = []
    begun = time.monotonic()
    for number in range(1, round(seconds / _SLEEP_STEP_S) + 1):
        deadline = begun + number * _SLEEP_STEP_S
        time.sleep(max(0.0, deadline - time.monotonic()))
        late.append(1000 * (time.monotonic() - deadline))
    p50, p99, most = np.percentile(late, (50, 99, 100)).tolist()
    return {"p50": p50, "p99": p99, "max": most}


if __name__ == "__main__":
    roles: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
        "engine": _engine,
        "load": _load,
        "sleep": _sleep,
        "sip-phone": lambda: _serve(SipPhoneRole()),
        "sip-load": lambda: _serve(SipLoadRole()),
        "sip-speed": lambda: _serve(SipSpeedRole()),
        "flooded": lambda: _serve(FloodedRole()),
        "flood-peer": lambda: _serve(FloodPeerRole()),
        "flood": lambda: _serve(FloodRole()),
    }
    with suppress(KeyboardInterrupt):  # the one that leads ends us
        asyncio.run(roles[sys.argv[1]]())
