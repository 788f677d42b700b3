"""Running one command: its event loop, Ctrl-C, errors on one line, and exit status."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, NoReturn, TypeVar

import typer

from voip.errors import ConfigError, VoipError, hint_for_files
from voip.events import CallEvent, RecordingFailed
from voip.logs import log_to
from voip.sip.endpoint.trace import SipTraceRecord

__all__ = [
    "INTERRUPTED",
    "Interrupted",
    "LogLevel",
    "fail",
    "interruptible",
    "print_json",
    "print_trace",
    "printable",
    "run",
    "telling",
    "unless_stopped",
    "warn",
    "warn_of_recording",
]

_T = TypeVar("_T")

_NOTES: Final = logging.getLogger("voip.cli")
"""What is said in one line on stderr, where everything there is JSON."""

_FILES_OF_A_LOOP: Final = 3
"""What it waits with, and a pair of sockets that wakes it."""

INTERRUPTED: Final = 130
"""Exit status after Ctrl-C where nothing came of it, as a shell has it: 128 + SIGINT."""


class Interrupted(VoipError):  # noqa: N818 (nothing is wrong)
    """Ctrl-C came before the thing had happened."""

    code = "interrupted"


class LogLevel(StrEnum):
    """What is logged: that and what is worse."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def run(
    command: Callable[[asyncio.Event], Coroutine[Any, Any, _T]],
    *,
    as_json: bool = False,
    failed: Callable[[str, VoipError], dict[str, Any]] | None = None,
    log_level: LogLevel | None = None,
    log_json: bool = False,
) -> _T:
    """Run `command(stop)` in an event loop; SIGINT, SIGTERM and SIGHUP set `stop`, twice cancels.

    A `VoipError` becomes one line on stderr and exit status 1 (130 after Ctrl-C), with `as_json`
    also an object on stdout, made by `failed`. log_level: what is logged on stderr, errors where
    it is None. log_json: everything on stderr is JSON then, `warn` too.
    """
    _log(log_level, log_json)
    # a full collection of everything that was imported would hold up the engine's thread, and with
    # it a call's sound, for tens of milliseconds
    gc.collect()
    gc.freeze()
    with telling(as_json=as_json, failed=failed):
        _look_for_files()
        return asyncio.run(interruptible(command))


@contextmanager
def telling(
    *, as_json: bool, failed: Callable[[str, VoipError], dict[str, Any]] | None = None
) -> Iterator[None]:
    """Turn a `VoipError` and Ctrl-C into a line on stderr, an object with `as_json`, and a status.

    As `run` says, which uses it; for commands without an event loop.
    """
    try:
        yield
        return
    except VoipError as caught:
        error = caught
    except (asyncio.CancelledError, KeyboardInterrupt):
        error = Interrupted("interrupted")
    except BrokenPipeError:
        raise typer.Exit(1) from None
    except Exception as bug:
        if isinstance(bug, OSError) and (hint := hint_for_files(bug)):
            error = ConfigError(bug.strerror or str(bug), hint=hint)
        elif as_json:
            print_json({"error": f"{type(bug).__name__}: {bug}", "code": "bug"})
            raise
        else:
            raise
    message = str(error)
    if as_json:
        print_json(failed(message, error) if failed else {"error": message, "code": error.code})
    fail(message, INTERRUPTED if isinstance(error, Interrupted) else 1)


def _look_for_files() -> None:
    """Raise OSError where there are too few for an event loop, which falls to pieces over that."""
    with ExitStack() as opened:
        for _ in range(_FILES_OF_A_LOOP):
            opened.callback(os.close, os.open(os.devnull, os.O_RDONLY))


def _log(level: LogLevel | None, as_json: bool) -> None:
    if level is None and not as_json:
        logging.basicConfig(level=logging.ERROR, format="voip: %(message)s")
        return
    log_to(level=level or LogLevel.INFO, as_json=as_json)
    # notes are said at whatever level, and so are faults of tasks
    notes = (_NOTES.name,) if as_json else ()
    log_to(level=LogLevel.WARNING, as_json=as_json, loggers=("asyncio", *notes))
    _NOTES.propagate = False


async def interruptible(command: Callable[[asyncio.Event], Awaitable[_T]]) -> _T:
    """Run `command` with an event that Ctrl-C sets; a second Ctrl-C cancels it.

    So do SIGTERM and the end of the terminal, SIGHUP, unless that is ignored (nohup).
    """
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    stop = asyncio.Event()

    def interrupt() -> None:
        if stop.is_set() and task is not None:
            task.cancel()
        stop.set()

    signals = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signals.append(signal.SIGHUP)
    for number in signals:
        loop.add_signal_handler(number, interrupt)
    try:
        return await command(stop)
    finally:
        for number in signals:
            loop.remove_signal_handler(number)


async def unless_stopped(stop: asyncio.Event, work: Coroutine[Any, Any, _T], before: str) -> _T:
    """Return what `work` returns; cancel it and raise `Interrupted` where `stop` is set first.

    `before` names what has not happened then.
    """
    working = asyncio.ensure_future(work)
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise Interrupted(f"given up before {before}")
    finally:
        for task in (working, stopping):
            task.cancel()
        await asyncio.gather(working, stopping, return_exceptions=True)


def fail(message: str, status: int = 1) -> NoReturn:
    """Say in one line on stderr what went wrong, and end with `status`."""
    warn(message)
    raise typer.Exit(status)


def warn_of_recording(event: CallEvent) -> None:
    """Say that a recording has ended before its call; the call goes on."""
    if isinstance(event, RecordingFailed):
        warn(f"the recording ended: {event.reason}")


def warn(message: str) -> None:
    """Say something in one line on stderr."""
    if _NOTES.handlers:
        _NOTES.warning("%s", message)
        return
    print("voip:", printable(" ".join(message.split())), file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    """Print one JSON object on stdout."""
    print(json.dumps(value, default=_plain, ensure_ascii=False), flush=True)


def print_trace(record: SipTraceRecord) -> None:
    """Print a SIP message on stderr."""
    at = datetime.fromtimestamp(record.wall_s, UTC).strftime("%H:%M:%S.%f")[:-3]
    way = "sent to" if record.sent else "received from"
    text = record.data.decode("utf-8", "replace").replace("\r\n", "\n").rstrip()
    body = "\n".join(map(printable, text.split("\n")))
    print(f"--- {at} {way} {record.flow.transport} {record.flow.remote}\n{body}\n", file=sys.stderr)


def printable(text: str) -> str:
    """Return `text` without what would command a terminal: some of it comes from the network."""
    return "".join(
        c if c.isprintable() or c in "\t\n" else "\N{REPLACEMENT CHARACTER}" for c in text
    )


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return str(value)
