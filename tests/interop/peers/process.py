"""What all peers need to run as child processes."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path


def leashed(command: Sequence[str]) -> list[str]:
    """The command, killed by the kernel should the test run die without stopping it."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", *command] if setpriv else list(command)


async def start(command: Sequence[str], log: Path, cwd: Path) -> asyncio.subprocess.Process:
    """Run a command whose output goes to `log`."""
    with log.open("wb") as output:
        return await asyncio.create_subprocess_exec(
            *leashed(command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
            cwd=cwd,
        )


async def stop(process: asyncio.subprocess.Process, grace_s: float = 3.0) -> int:
    """Ask it to end, then make it; its exit status."""
    if process.returncode is None:
        process.terminate()
        try:
            async with asyncio.timeout(grace_s):
                await process.wait()
        except TimeoutError:
            process.kill()
    return await process.wait()


def end(process: subprocess.Popen[bytes], grace_s: float = 5.0) -> None:
    """The same for a server that was started without a loop."""
    process.terminate()
    try:
        process.wait(grace_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def log_end(log: Path) -> int:
    """The present end of a log: what `log_since` takes."""
    return log.stat().st_size if log.exists() else 0


def log_since(log: Path, mark: int) -> str:
    """What a log got after `mark`."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(mark)
        return file.read().decode(errors="replace")
