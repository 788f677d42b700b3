"""`voip answer`: wait for calls, answer them, echo, play or record."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from time import monotonic
from typing import Annotated, Any, Final

import typer

from voip.call import Call
from voip.cli import options
from voip.cli.accounts import AccountFiles, check_alone, read_accounts
from voip.cli.observing import Metered
from voip.cli.report import call_report, print_call
from voip.cli.run import (
    Interrupted,
    fail,
    print_json,
    print_trace,
    run,
    unless_stopped,
    warn,
    warn_of_recording,
)
from voip.errors import VoipError
from voip.phone import Softphone

__all__ = ["answer"]

SIP_PORT: Final = 5060


@dataclass(slots=True)
class _Desk:
    """What is done with calls, and the reports of those that are over."""

    echo: bool
    play: Path | None
    record: Path | None
    duration: float | None
    wanted: int | None
    quiet: bool
    devices: tuple[str | None, str | None] = (None, None)
    serial: count[int] = field(default_factory=lambda: count(1))
    under_way: int = 0
    reports: list[dict[str, Any]] = field(default_factory=list)
    done: asyncio.Event = field(default_factory=asyncio.Event)

    def report(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return {"answered": len(self.reports), "calls": self.reports}


def answer(
    bind: options.Bind = "",
    echo: Annotated[bool, typer.Option("--echo", help="Send back what is heard.")] = False,
    play: Annotated[Path | None, typer.Option(metavar="F.wav", help="Play this file.")] = None,
    record: Annotated[
        Path | None,
        typer.Option(metavar="F.wav", help="Record what is heard; further calls to F-2.wav ..."),
    ] = None,
    device: options.Device = None,
    microphone: options.Microphone = None,
    duration: Annotated[
        float | None, typer.Option(min=0, metavar="S", help="Hang up after so many seconds.")
    ] = None,
    calls: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="End after so many calls.")
    ] = None,
    from_: options.FromUri = None,
    account: AccountFiles = None,
    auth_user: options.AuthUser = None,
    password: options.Password = None,
    password_file: options.PasswordFile = None,
    proxy: options.Proxy = None,
    outbound: options.Outbound = False,
    instance: options.Instance = None,
    public_address: options.PublicAddress = None,
    rtp_ports: options.RtpPorts = "10000-19999",
    transport: options.Transport = None,
    tls_ca: options.TlsCa = None,
    tls_cert: options.TlsCert = None,
    tls_key: options.TlsKey = None,
    tls_insecure: options.TlsInsecure = False,
    dns: options.Dns = None,
    ws_port: options.WsPort = None,
    wss_port: options.WssPort = None,
    ws_path: options.WsPath = "/ws",
    timeout: Annotated[
        float | None,
        typer.Option(min=0, metavar="S", help="End when no call has come for so long."),
    ] = None,
    codec: options.CodecList = "pcmu,pcma",
    dtx: options.Dtx = False,
    redundancy: options.Redundancy = 0,
    header_extensions: options.HeaderExtensionList = "",
    media_timeout: options.MediaTimeout = 60.0,
    ping: options.Ping = 0.0,
    pcap: options.PcapFile = None,
    trace: options.TraceFlag = False,
    metrics: options.MetricsAt = None,
    log_level: options.LogAt = None,
    log_json: options.LogJson = False,
    as_json: options.JsonFlag = False,
) -> None:
    """Answer calls until Ctrl-C, or as many as --calls says.

    With --from the account is registered, with --account those of files; else calls to --bind
    (default: port 5060) are taken.

    A call lasts until the caller hangs up. With --play alone it ends when the file is over.
    """
    if echo and play is not None:
        raise typer.BadParameter("--echo and --play exclude each other")
    if echo and (device or microphone):
        raise typer.BadParameter("--echo and --device exclude each other")
    desk = _Desk(echo, play, record, duration, calls, as_json, (device, microphone))

    async def command(stop: asyncio.Event) -> None:
        metered = Metered(metrics)
        tls = options.tls_config(tls_ca, tls_cert, tls_key, tls_insecure)
        if account:
            check_alone(
                account,
                **{"from": from_},
                auth_user=auth_user,
                password=password,
                password_file=password_file,
                proxy=proxy,
            )
            settings: dict[str, Any] = {"accounts": read_accounts(account)}
        else:
            settings = options.Login.of(from_, auth_user, password, password_file, proxy).settings()
        options.check_files(play, record)
        options.sound_device(device, microphone)  # now, and not with the first call
        port = 0 if from_ or account else SIP_PORT
        phone = Softphone(
            **settings,
            outbound=outbound or instance is not None,
            instance=instance,
            network=options.network_config(
                bind,
                public_address,
                rtp_ports,
                transport,
                tls,
                port=port,
                dns=dns,
                ws_port=ws_port,
                wss_port=wss_port,
                ws_path=ws_path,
            ),
            media=options.media_config(
                codec, dtx=dtx, redundancy=redundancy, header_extensions=header_extensions
            ),
            calling=options.call_config(media_timeout, ping),
            pcap=pcap,
            trace=print_trace if trace else None,
            metrics=metered.metrics,
        )
        phone.on_incoming(lambda call: _serve(call, desk))
        phone.unregister_on_close = False  # nothing is to be removed yet
        async with metered.serving():
            try:
                await unless_stopped(stop, phone.start(), "the account was registered")
                phone.unregister_on_close = True
                for kind, address in phone.addresses:
                    warn(f"listening on {kind} {address}")
                with suppress(Interrupted):  # that is how it ends
                    await unless_stopped(stop, _enough(desk, timeout), "the last call")
            finally:
                await phone.close()

    def failed(message: str, error: VoipError) -> dict[str, Any]:
        return {**desk.report(), "error": message, "code": error.code}

    run(command, as_json=as_json, failed=failed, log_level=log_level, log_json=log_json)
    fault = ""
    if calls is not None and len(desk.reports) < calls:
        fault = f"{len(desk.reports)} of {calls} calls were answered"
    elif timeout is not None and not desk.reports:
        fault = f"no call came in {timeout:g} s"
    if as_json:
        print_json({**desk.report(), "error": fault} if fault else desk.report())
    if fault:
        fail(fault)


async def _enough(desk: _Desk, timeout: float | None) -> None:
    """Return when as many calls as are wanted are over, or none has come for `timeout` s."""
    while not desk.done.is_set():
        seen = len(desk.reports)
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await desk.done.wait()
        if seen == len(desk.reports) and not desk.under_way:
            return


async def _serve(call: Call, desk: _Desk) -> None:
    if desk.wanted is not None and len(desk.reports) + desk.under_way >= desk.wanted:
        await call.reject(486)
        return
    desk.under_way += 1
    heard: list[str] = []
    call.on_dtmf(lambda event: heard.append(event.digit))
    call.on_event(warn_of_recording)
    began = monotonic()
    try:
        await call.answer()
        answered = monotonic()
        path = None if desk.record is None else _numbered(desk.record, next(desk.serial))
        async with AsyncExitStack() as recording:
            if path is not None:
                await recording.enter_async_context(call.record(path))
            device = options.sound_device(*desk.devices)
            if device is not None:
                await recording.enter_async_context(call.attach(device))
            await _entertain(call, desk)
        await call.hangup()
        report = call_report(
            call, setup_s=answered - began, dtmf_heard="".join(heard), recording=path
        )
        desk.reports.append(report)
        if not desk.quiet:
            print_call(report, f"call from {call.remote}")
    except VoipError as error:
        warn(f"a call from {call.remote}: {error}")
        await call.hangup()
    finally:
        desk.under_way -= 1
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


def _numbered(path: Path, number: int) -> Path:
    return path if number == 1 else path.with_stem(f"{path.stem}-{number}")
