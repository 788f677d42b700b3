"""What tests of the command line share: runs of `voip`, and a PBX in a thread to call."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest

from voip.config import MediaConfig
from voip.harness.audio import Sound, find_offset
from voip.harness.pbx import EmbeddedPbx
from voip.phone import Softphone
from voip.sip.endpoint.trace import SipTraceRecord

PATIENCE_S = 40.0
PROGRAM = [sys.executable, "-W", "error", "-c", "from voip.cli.main import main; main()"]
SECRETS = {"1001": "correct-horse-1001", "1002": "battery-staple-1002"}
LIKE = 0.5
"""Two different pieces of speech reach 0.1; one with a gap of an eighth of a second 0.6."""
FURNITURE = re.compile("[\x1b\u2500-\u259f]")
"""Escape codes and the lines of tables: what rich would print on a terminal."""

_T = TypeVar("_T")


def begin_early(request: pytest.FixtureRequest, awaited: str, begun: str) -> None:
    """Set up the fixture `begun` before a module's tests, if any that was selected has `awaited`.

    It goes on beside them until it is awaited.
    """
    if any(awaited in getattr(item, "fixturenames", ()) for item in request.session.items):
        request.getfixturevalue(begun)


@dataclass(frozen=True, slots=True)
class Done:
    """What a run left: exit status, stdout, stderr."""

    status: int | None
    stdout: str
    stderr: str

    @property
    def json(self) -> dict[str, Any]:
        """The one object on stdout."""
        assert self.stdout.count("\n") == 1, self.stdout
        found = json.loads(self.stdout)
        assert isinstance(found, dict)
        return found

    @property
    def complaint(self) -> str:
        """The one line on stderr, without the program's name."""
        assert self.stderr.count("\n") == 1, self.stderr
        assert self.stderr.startswith("voip: ")
        return self.stderr.removeprefix("voip: ").rstrip()


class Program:
    """`voip ...` as a process, for what signals do."""

    def __init__(self, *arguments: object, cwd: Path | None = None, **environment: str) -> None:
        self.process = subprocess.Popen(
            [*PROGRAM, *map(str, arguments)],
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **environment},
            text=True,
        )

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()

    def interrupted(self) -> Done:
        """Press Ctrl-C, and return what it left."""
        self.process.send_signal(signal.SIGINT)
        return self.ended()

    def ended(self) -> Done:
        """Wait for its end, and return what it left."""
        stdout, stderr = self.process.communicate(timeout=PATIENCE_S)
        return Done(self.process.returncode, stdout, stderr)


def start_demo(directory: Path, *options: str) -> subprocess.Popen[str]:
    """Start `voip demo` in a directory."""
    return subprocess.Popen(
        [*PROGRAM, "demo", *options],
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


class PbxThread:
    """The embedded PBX in a thread of its own, and the requests that came to it."""

    def __init__(self, media: MediaConfig | None = None) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._seen: list[SipTraceRecord] = []
        self.server = EmbeddedPbx(users=SECRETS, trace=self._seen.append, media=media)

    def __enter__(self) -> PbxThread:
        self._thread.start()
        self.do(self.server.__aenter__())
        return self

    def __exit__(self, *exc: object) -> None:
        self.do(self.server.__aexit__())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def do(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Do `work` in the PBX's event loop."""
        return self.soon(work)(PATIENCE_S)

    def soon(self, work: Coroutine[Any, Any, _T]) -> Callable[[float], _T]:
        """Begin `work` there; return what waits for its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result

    # ------------------------------------------------------------ what it is asked

    def uri(self, number: str) -> str:
        return self.server.uri(number)

    def account(self, user: str = "1001") -> tuple[str, str]:
        """Options of a command that is `user`."""
        return "--from", self.uri(user)

    def phone(self, user: str = "1001") -> Softphone:
        """Return a phone of `user`, to be used in the PBX's event loop."""
        return Softphone(
            self.uri(user),
            password=SECRETS[user],
            media=MediaConfig(jitter_min_ms=200),
            register=False,
        )

    async def registered(self, user: str) -> None:
        while not self.server.contacts(user):
            await asyncio.sleep(0.02)

    def contacts(self, user: str) -> list[str]:
        async def ask() -> list[str]:
            return self.server.contacts(user)

        return self.do(ask())

    def forget(self) -> None:
        """Forget the requests that came."""
        self._seen.clear()

    @property
    def methods(self) -> list[str]:
        """Methods of the requests that came, retransmissions left out."""
        requests = [item.data for item in list(self._seen) if not item.sent]
        return [
            data.split(b" ")[0].decode()
            for data in dict.fromkeys(requests)
            if not data.startswith(b"SIP/2.0")
        ]

    def until(self, what: Callable[[], object]) -> None:
        """Wait until something is so."""
        deadline = time.monotonic() + PATIENCE_S
        while not what():
            assert time.monotonic() < deadline, self.methods
            time.sleep(0.02)


def is_of(heard: Path, sent: Path) -> bool:
    """Whether a recording is of a sound. How good it is, is graded where machines are idle."""
    place = find_offset(Sound.read(sent), Sound.read(heard))
    return place is not None and place.likeness > LIKE


def seconds_of(path: Path) -> float:
    """Length of a recording of 8000 Hz, 16 bit, mono."""
    return (path.stat().st_size - 44) / 16000
