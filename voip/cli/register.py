"""`voip register`: keep an account registered, or register it once."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated, Any

import typer

from voip.cli import options
from voip.cli.observing import Metered
from voip.cli.run import Interrupted, print_json, print_trace, run, unless_stopped, warn
from voip.errors import RegistrationError, VoipError
from voip.events import Registered, RegistrationFailed
from voip.phone import Softphone

__all__ = ["register"]


def register(
    uri: Annotated[str, typer.Argument(metavar="URI", help="The account: sip:alice@pbx.example.")],
    expires: Annotated[int, typer.Option(min=1, metavar="S", help="Seconds to ask for.")] = 300,
    once: Annotated[
        bool, typer.Option("--once", help="Register and leave it at that: no renewal, no removal.")
    ] = False,
    auth_user: options.AuthUser = None,
    password: options.Password = None,
    password_file: options.PasswordFile = None,
    proxy: options.Proxy = None,
    outbound: options.Outbound = False,
    instance: options.Instance = None,
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
        float, typer.Option(min=0, metavar="S", help="Seconds until the registrar answers.")
    ] = 32.0,
    pcap: options.PcapFile = None,
    trace: options.TraceFlag = False,
    metrics: options.MetricsAt = None,
    log_level: options.LogAt = None,
    log_json: options.LogJson = False,
    as_json: options.JsonFlag = False,
) -> None:
    """Register an account, keep it registered until Ctrl-C, then unregister.

    With --json the object comes at the end.
    """

    async def command(stop: asyncio.Event) -> dict[str, Any]:
        metered = Metered(metrics)
        tls = options.tls_config(tls_ca, tls_cert, tls_key, tls_insecure)
        login = options.Login.of(uri, auth_user, password, password_file, proxy)
        phone = Softphone(
            **login.settings(),
            outbound=outbound or instance is not None,
            instance=instance,
            register=False,
            expires_s=expires,
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
            pcap=pcap,
            trace=print_trace if trace else None,
            metrics=metered.metrics,
        )
        phone.unregister_on_close = False  # nothing is to be removed yet
        async with metered.serving(), phone:
            granted = await unless_stopped(
                stop, _register(phone, uri, timeout), "the registrar answered"
            )
            report = {"registered": True, "uri": uri, "expires_s": granted.expires_s}
            if once:
                return report
            phone.unregister_on_close = True
            if not as_json:
                print(f"registered {uri} for {granted.expires_s:g} s", flush=True)
            await _stay(phone, stop)
            return report

    report = run(command, as_json=as_json, failed=_failed, log_level=log_level, log_json=log_json)
    if as_json:
        print_json(report)
    elif once:
        print(f"registered {uri} for {report['expires_s']:g} s")


async def _register(phone: Softphone, uri: str, timeout: float) -> Registered:
    try:
        async with asyncio.timeout(timeout):
            return await phone.register()
    except TimeoutError:
        raise RegistrationError(
            f"no answer to REGISTER {uri} in {timeout:g} s", hint="check the address"
        ) from None


async def _stay(phone: Softphone, stop: asyncio.Event) -> None:
    """Return when told to stop; raises when the registrar will not have us any more."""
    try:
        await unless_stopped(stop, _watch(phone), "the end")
    except Interrupted:  # that is how it ends
        return


async def _watch(phone: Softphone) -> None:
    async for event in phone.events():
        match event:
            case Registered(expires_s) if sys.stderr.isatty():
                warn(f"registered for {expires_s:g} s")
            case RegistrationFailed(reason, status, None):
                raise RegistrationError(reason, status=status)
            case RegistrationFailed(reason, _, retry_in_s):
                warn(f"{reason}; next try in {retry_in_s:.0f} s")
            case _:
                pass


def _failed(message: str, error: VoipError) -> dict[str, Any]:
    return {"registered": False, "error": message, "code": error.code, "status": error.status}
