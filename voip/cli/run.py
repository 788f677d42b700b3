"""Running one command: its event loop, Ctrl-C, errors on one line, and exit status."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from typing import Any, NoReturn, TypeVar

import typer

from voip.errors import VoipError
from voip.net.sip_transport import SipTraceRecord

__all__ = ["fail", "interruptible", "print_json", "print_trace", "run"]

_T = TypeVar("_T")


def run(
    command: Callable[[asyncio.Event], Coroutine[Any, Any, _T]],
    *,
    as_json: bool = False,
    failed: Callable[[str, VoipError], dict[str, Any]] | None = None,
) -> _T:
    """Run `command(stop)` in an event loop; SIGINT and SIGTERM set `stop`, twice cancels.

    A `VoipError` becomes one line on stderr and exit status 1, with `as_json` also an object on
    stdout, made by `failed`.
    """
    logging.basicConfig(level=logging.ERROR, format="%(levelname)s %(name)s: %(message)s")
    try:
        return asyncio.run(interruptible(command))
    except VoipError as error:
        if as_json:
            print_json(failed(str(error), error) if failed else {"error": str(error)})
        fail(str(error))
    except asyncio.CancelledError:
        fail("interrupted", 130)
    except BrokenPipeError:
        raise typer.Exit(1) from None


async def interruptible(command: Callable[[asyncio.Event], Awaitable[_T]]) -> _T:
    """Run `command` with an event that Ctrl-C sets; a second Ctrl-C cancels it."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    stop = asyncio.Event()

    def interrupt() -> None:
        if stop.is_set() and task is not None:
            task.cancel()
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupt)
    try:
        return await command(stop)
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def fail(message: str, status: int = 1) -> NoReturn:
    """Say in one line on stderr what went wrong, and end with `status`."""
    print(" ".join(f"voip: {message}".split()), file=sys.stderr)
    raise typer.Exit(status)


def print_json(value: Any) -> None:
    """Print one JSON object on stdout."""
    print(json.dumps(value, default=_plain, ensure_ascii=False))


def print_trace(record: SipTraceRecord) -> None:
    """Print a SIP message on stderr."""
    at = datetime.fromtimestamp(record.wall_s, UTC).strftime("%H:%M:%S.%f")[:-3]
    way = "sent to" if record.sent else "received from"
    body = record.data.decode("utf-8", "replace").replace("\r\n", "\n").rstrip()
    print(f"--- {at} {way} {record.flow.transport} {record.flow.remote}\n{body}\n", file=sys.stderr)


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return str(value)
