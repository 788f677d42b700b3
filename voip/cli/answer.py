"""`voip answer`: wait for calls, answer them, echo, play or record."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Annotated, Any

import typer

from voip.call import Call
from voip.cli import options
from voip.cli.report import call_report, print_call
from voip.cli.run import fail, print_json, print_trace, run
from voip.errors import CallError, VoipError
from voip.phone import Softphone

__all__ = ["answer"]


@dataclass(slots=True)
class _Desk:
    """What is done with calls, and the reports of those that are over."""

    echo: bool
    play: Path | None
    record: Path | None
    duration: float | None
    wanted: int | None
    quiet: bool
    taken: int = 0
    reports: list[dict[str, Any]] = field(default_factory=list)
    done: asyncio.Event = field(default_factory=asyncio.Event)


def answer(
    bind: options.Bind = "",
    echo: Annotated[bool, typer.Option("--echo", help="Send back what is heard.")] = False,
    play: Annotated[Path | None, typer.Option(metavar="F.wav", help="Play this file.")] = None,
    record: Annotated[
        Path | None,
        typer.Option(metavar="F.wav", help="Record what is heard; further calls to F-2.wav ..."),
    ] = None,
    duration: Annotated[
        float | None, typer.Option(min=0, metavar="S", help="Hang up after so many seconds.")
    ] = None,
    calls: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="End after so many calls.")
    ] = None,
    from_: options.FromUri = None,
    auth_user: options.AuthUser = None,
    password: options.Password = None,
    password_file: options.PasswordFile = None,
    proxy: options.Proxy = None,
    public_address: options.PublicAddress = None,
    rtp_ports: options.RtpPorts = "10000-19999",
    transport: options.Transport = "udp",
    codec: options.CodecList = "pcmu,pcma",
    pcap: options.PcapFile = None,
    trace: options.TraceFlag = False,
    as_json: options.JsonFlag = False,
) -> None:
    """Answer calls until Ctrl-C, or as many as --calls says.

    With --from the account is registered; else calls to --bind (default: port 5060) are taken.
    """
    if echo and play is not None:
        raise typer.BadParameter("--echo and --play exclude each other")

    async def command(stop: asyncio.Event) -> list[dict[str, Any]]:
        login = options.Login.of(from_, auth_user, password, password_file, proxy)
        where = bind if from_ or ":" in bind.rpartition("]")[2] else f"{bind}:5060"
        desk = _Desk(echo, play, record, duration, calls, as_json)
        phone = Softphone(
            **login.settings(),
            network=options.network_config(where, public_address, rtp_ports, transport),
            media=options.media_config(codec),
            pcap=pcap,
            trace=print_trace if trace else None,
        )
        phone.on_incoming(lambda call: _serve(call, desk))
        async with phone:
            for kind, address in phone.addresses:
                print(f"listening on {kind} {address}", file=sys.stderr, flush=True)
            await _either(stop, desk.done)
        return desk.reports

    reports = run(command, as_json=as_json, failed=_failed)
    if as_json:
        print_json({"answered": len(reports), "calls": reports})
    if calls is not None and len(reports) < calls:
        fail(f"{len(reports)} of {calls} calls were answered")


def _failed(message: str, error: VoipError) -> dict[str, Any]:
    return {"answered": 0, "calls": [], "error": message, "code": error.code}


async def _serve(call: Call, desk: _Desk) -> None:
    desk.taken += 1
    number = desk.taken
    if desk.wanted is not None and number > desk.wanted:
        await call.reject(486)
        return
    heard: list[str] = []
    call.on_dtmf(lambda event: heard.append(event.digit))
    began = monotonic()
    path = None if desk.record is None else _numbered(desk.record, number)
    try:
        await call.answer()
        answered = monotonic()
        async with AsyncExitStack() as recording:
            if path is not None:
                await recording.enter_async_context(call.record(path))
            await _entertain(call, desk)
        await call.hangup()
        report = call_report(
            call, setup_s=answered - began, dtmf_heard="".join(heard), recording=path
        )
        desk.reports.append(report)
        if not desk.quiet:
            print_call(report, f"call from {call.remote}")
    except CallError as error:
        desk.taken -= 1
        print(f"voip: a call from {call.remote}: {error}", file=sys.stderr)
    finally:
        if len(desk.reports) == desk.wanted:
            desk.done.set()


async def _entertain(call: Call, desk: _Desk) -> None:
    """Do what is to be done until the call is over, or its time is up."""
    with suppress(TimeoutError):
        async with asyncio.timeout(desk.duration):
            if desk.echo:
                await call.echo()
            elif desk.play is not None:
                await call.play(desk.play)
                if desk.duration is None and desk.record is None:
                    return
            await call.wait_ended()


async def _either(*events: asyncio.Event) -> None:
    tasks = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _numbered(path: Path, number: int) -> Path:
    return path if number == 1 else path.with_stem(f"{path.stem}-{number}")
