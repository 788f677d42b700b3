"""GStreamer's command line: pipelines that are run to their end, or beside a call."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NoReturn

from voip.types import Address

__all__ = ["Pipeline", "gst_launch", "run_pipeline"]

LEVEL = re.compile(r"(?:reading|writing) ext \(level: (\d+) voice: (\d+)\)")


def gst_launch(missing: Callable[[str], NoReturn], *elements: str) -> str:
    """Return what runs pipelines; `missing` where it, or one of `elements`, is not there."""
    tools = [shutil.which(f"gst-{name}-1.0") for name in ("launch", "inspect")]
    if None in tools:
        missing("GStreamer is not installed (make peers)")
    for element in elements:
        if subprocess.run([str(tools[1]), element], capture_output=True).returncode:
            missing(f"GStreamer has no {element} (make peers)")
    return str(tools[0])


def run_pipeline(program: str, *pipeline: str) -> None:
    """Run a pipeline to its end."""
    done = subprocess.run(
        [program, "-q", *" ! ".join(pipeline).split()], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


class Pipeline:
    """One that runs beside a call, and writes down which levels (RFC 6464) it reads and writes."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.levels: list[tuple[int, bool]] = []
        self.log: list[str] = []

    @classmethod
    @asynccontextmanager
    async def running(cls, program: str, *pipeline: str) -> AsyncIterator[Pipeline]:
        process = await asyncio.create_subprocess_exec(
            program,
            *" ! ".join(pipeline).split(),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=os.environ | {"GST_DEBUG": "rtphdrext*:LOG", "GST_DEBUG_NO_COLOR": "1"},
        )
        one = cls(process)
        reading = asyncio.create_task(one._read())
        try:
            yield one
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()
            await reading

    @property
    def is_running(self) -> bool:
        """Whether it has not come to its end."""
        return self._process.returncode is None

    async def listening(self, address: Address) -> None:
        """Return when somebody, who can only be it, is bound to an address."""
        while True:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
                try:
                    one.bind(address)
                except OSError:
                    return
            assert self.is_running, self.log
            await asyncio.sleep(0.02)

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            text = line.decode(errors="replace").rstrip()
            self.log.append(text)
            if found := LEVEL.search(text):
                self.levels.append((int(found[1]), found[2] == "1"))
