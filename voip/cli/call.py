"""`voip call`: place a call, play, record, press digits, and say how it was."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Annotated, Any, Final

import typer

from voip.account import Account
from voip.call import Call
from voip.cli import options
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
from voip.devices.device import AudioDevice
from voip.digits import DIGITS
from voip.errors import CallError, CallStateError, ConfigError, NoAnswerError, VoipError
from voip.events import Answered, DeviceLost, DtmfReceived, EarlyMedia, EndedBy, Ringing
from voip.phone import Softphone
from voip.sip.uri import format_host

__all__ = ["call"]

LINGER_S: Final = 0.5
"""How long a call goes on after what was to be played: what comes back is heard."""
GAP_S: Final = 0.06
"""Silence between two digits."""
_GAVE_UP: Final = 487
"""The status of a call that we gave up."""
_GONE: Final = (408, 481, 503)
"""What a BYE comes to where nobody is there any more, or nobody who knows of the call."""


@dataclass(slots=True)
class _Plan:
    """What to do in the call, and how much of it is done."""

    uri: str
    timeout: float
    play: Path | None
    record: Path | None
    dtmf: str
    duration: float | None
    quiet: bool
    device: AudioDevice | None = None
    answered: bool = False
    played: bool = False
    pressed: str = ""

    @property
    def is_done(self) -> bool:
        """Whether everything has been played and pressed."""
        return (self.played or self.play is None) and self.pressed == self.dtmf


def call(
    uri: Annotated[
        str,
        typer.Argument(
            metavar="URI", help="Whom to call: sip:600@pbx.example, or 600 with --from."
        ),
    ],
    from_: options.FromUri = None,
    auth_user: options.AuthUser = None,
    password: options.Password = None,
    password_file: options.PasswordFile = None,
    proxy: options.Proxy = None,
    bind: options.Bind = "",
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
        float, typer.Option(min=0, metavar="S", help="Seconds until an answer.")
    ] = 30.0,
    play: Annotated[Path | None, typer.Option(metavar="F.wav", help="Play this file.")] = None,
    record: Annotated[
        Path | None,
        typer.Option(metavar="F.wav", help="Record what is heard; .flac, .opus and .mp3 too."),
    ] = None,
    device: options.Device = None,
    microphone: options.Microphone = None,
    dtmf: Annotated[str, typer.Option(metavar="12#", help="Press these digits.")] = "",
    duration: Annotated[
        float | None,
        typer.Option(min=0, metavar="S", help="Hang up so many seconds after the answer."),
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
    """Place a call.

    It ends after --duration, or when the other side hangs up, or with Ctrl-C; without --duration
    also when what is to be played and pressed is over.

    Exit status 0: the call was answered, and all was played and pressed unless we hung up before;
    when we did, the other side was still there.
    """
    plan = _Plan(uri, timeout, play, record, dtmf, duration, as_json)

    async def command(stop: asyncio.Event) -> dict[str, Any]:
        metered = Metered(metrics)
        tls = options.tls_config(tls_ca, tls_cert, tls_key, tls_insecure)
        login = options.Login.of(from_, auth_user, password, password_file, proxy)
        options.check_files(play, record)
        plan.device = options.sound_device(device, microphone)
        if bad := "".join(sorted(set(dtmf.upper()) - set(DIGITS))):
            raise ConfigError(f"--dtmf {dtmf}: there is no key {bad!r}", hint=DIGITS)
        phone = Softphone(
            **login.settings(_domain(uri)),
            register=False,
            network=options.network_config(
                bind,
                public_address,
                rtp_ports,
                transport,
                tls,
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
        async with metered.serving(), phone:
            return await _converse(phone, plan, stop)

    def failed(message: str, error: VoipError) -> dict[str, Any]:
        reasons = {"error": message, "code": error.code, "status": error.status}
        return {"answered": plan.answered, **reasons}

    report = run(command, as_json=as_json, failed=failed, log_level=log_level, log_json=log_json)
    fault = _fault(report, plan)
    if as_json:
        print_json({**report, "error": fault} if fault else report)
    else:
        print_call(report, f"call to {uri}")
    if fault:
        fail(fault)


def _domain(uri: str) -> str | None:
    """Return where `uri` is, of which a telephone number says nothing."""
    if uri[:4].lower() == "tel:":
        return None
    target = Account(uri).aor
    return format_host(target.host, target.port)


def _fault(report: dict[str, Any], plan: _Plan) -> str:
    """Return what was wrong with a call that had been answered, "" for nothing."""
    by, reason = report["ended_by"], report["reason"]
    if by == EndedBy.FAILURE.value:
        return f"the call broke: {reason}"
    if by == EndedBy.LOCAL.value and report["status"] in _GONE:
        return f"the other side was gone when we hung up: {reason}"
    if by == EndedBy.REMOTE.value and not plan.is_done:
        return "the other side hung up before all was played and pressed"
    return ""


async def _converse(phone: Softphone, plan: _Plan, stop: asyncio.Event) -> dict[str, Any]:
    began = monotonic()
    # until somebody rings: a server that says nothing is left for the next one meanwhile
    dialling = phone.dial(plan.uri, wait="ringing", timeout=plan.timeout)
    call = await unless_stopped(stop, dialling, "the answer")
    heard: list[str] = []
    call.on_dtmf(lambda event: heard.append(event.digit))
    call.on_event(warn_of_recording)
    stopping = asyncio.ensure_future(_hang_up_on(stop, call))
    try:
        async with AsyncExitStack() as recording:
            left = max(0.0, plan.timeout - (monotonic() - began))
            answered_at = await _until_answered(call, plan, recording, stop, left)
            await _act(call, plan, answered_at)
        await call.hangup()
    finally:
        stopping.cancel()
        await asyncio.gather(stopping, return_exceptions=True)
    return call_report(
        call,
        setup_s=answered_at - began,
        dtmf_sent=plan.pressed,
        dtmf_heard="".join(heard),
        recording=plan.record,
    )


async def _hang_up_on(stop: asyncio.Event, call: Call) -> None:
    await stop.wait()
    await call.hangup()


async def _until_answered(
    call: Call, plan: _Plan, recording: AsyncExitStack, stop: asyncio.Event, left: float
) -> float:
    """Follow the call until it is up; the recording begins with the first sound."""
    waiting = asyncio.ensure_future(call.wait_answered(left))
    try:
        async for event in call.events():
            _say(event, plan)
            if isinstance(event, EarlyMedia | Answered):
                plan.answered = isinstance(event, Answered)
                if plan.record is not None:
                    await recording.enter_async_context(call.record(plan.record))
                if plan.device is not None:
                    await recording.enter_async_context(call.attach(plan.device))
                break
        await waiting
        plan.answered = True
    except CallError as error:
        if stop.is_set():
            raise Interrupted("given up before the answer") from None
        if isinstance(error, NoAnswerError) and error.status == _GAVE_UP:  # in all, not since then
            error.message = f"no answer in {plan.timeout:g} s"
        raise
    finally:
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    return monotonic()


async def _act(call: Call, plan: _Plan, answered_at: float) -> None:
    """Play and press what is to be played and pressed; stay as long as is wanted."""
    over = asyncio.ensure_future(call.wait_ended())
    doing = asyncio.ensure_future(_play_and_press(call, plan))
    left = None if plan.duration is None else plan.duration - (monotonic() - answered_at)
    try:
        done, _ = await asyncio.wait(
            {over, doing}, timeout=left, return_when=asyncio.FIRST_COMPLETED
        )
        if over in done:
            await doing  # ends with the call
        elif doing in done:
            doing.result()
            if plan.duration is None and (plan.play or plan.dtmf):
                left = LINGER_S
            elif plan.duration is not None:
                left = max(0.0, plan.duration - (monotonic() - answered_at))
            await asyncio.wait({over}, timeout=left)
    finally:
        for task in (over, doing):
            task.cancel()
        await asyncio.gather(over, doing, return_exceptions=True)


async def _play_and_press(call: Call, plan: _Plan) -> None:
    if plan.play is not None:
        with suppress(CallStateError):  # hung up before it began
            await call.play(plan.play)
        plan.played = call.ended is None
    for digit in plan.dtmf:  # one by one: what was pressed is known, whatever happens
        if call.ended is not None:
            return
        plan.pressed += digit
        with suppress(CallStateError):  # hung up in the middle of it
            await call.send_dtmf(digit)
        await asyncio.sleep(GAP_S)


def _say(event: object, plan: _Plan) -> None:
    """Tell a person what happens, on stderr where that is a terminal."""
    if plan.quiet or not sys.stderr.isatty():
        return
    match event:
        case Ringing():
            warn("ringing ...")
        case EarlyMedia():
            warn("sound before the answer ...")
        case Answered(codec):
            warn(f"answered ({codec})")
        case DeviceLost(device, reason):
            warn(f"the sound device {device} is gone: {reason}")
        case DtmfReceived(digit, _):
            warn(f"digit {digit}")
        case _:
            pass
