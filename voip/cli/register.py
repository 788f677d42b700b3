"""`voip register`: keep an account registered, or register it once."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from voip.cli import options
from voip.cli.accounts import AccountFiles, check_alone, read_accounts
from voip.cli.observing import Metered
from voip.cli.run import Interrupted, fail, print_json, print_trace, run, unless_stopped, warn
from voip.errors import RegistrationError, VoipError
from voip.events import Registered, RegistrationFailed
from voip.phone import Softphone

__all__ = ["register"]


def register(
    uri: Annotated[
        str | None, typer.Argument(metavar="[URI]", help="The account: sip:alice@pbx.example.")
    ] = None,
    account: AccountFiles = None,
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

    Or several: --account names files of them. With --json the object comes at the end.
    """
    if (uri is None) == (not account):
        raise typer.BadParameter("either the URI of an account or --account")

    async def command(stop: asyncio.Event) -> dict[str, Any]:
        metered = Metered(metrics)
        tls = options.tls_config(tls_ca, tls_cert, tls_key, tls_insecure)
        phone = Softphone(
            **_settings(uri, account, auth_user, password, password_file, proxy, expires),
            outbound=outbound or instance is not None,
            instance=instance,
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
            pcap=pcap,
            trace=print_trace if trace else None,
            metrics=metered.metrics,
        )
        phone.unregister_on_close = False  # nothing is to be removed yet
        async with metered.serving(), phone:
            granted = await unless_stopped(
                stop, _register(phone, timeout), "the registrar answered"
            )
            report = _report(phone, granted, several=bool(account))
            if not as_json:
                _print(report)
            if once:
                return report
            phone.unregister_on_close = True
            await _stay(phone, stop)
            return report

    report = run(command, as_json=as_json, failed=_failed, log_level=log_level, log_json=log_json)
    fault = "" if report["registered"] else "not all accounts are registered"
    if as_json:
        print_json({**report, "error": fault} if fault else report)
    if fault:
        fail(fault)


def _settings(
    uri: str | None,
    files: Sequence[Path] | None,
    auth_user: str | None,
    password: str | None,
    password_file: Path | None,
    proxy: Sequence[str] | None,
    expires_s: int,
) -> dict[str, Any]:
    """Return the account that is written out, or those of files, as arguments of `Softphone`."""
    if not files:
        login = options.Login.of(uri, auth_user, password, password_file, proxy)
        return {**login.settings(), "expires_s": expires_s}
    check_alone(
        files, auth_user=auth_user, password=password, password_file=password_file, proxy=proxy
    )
    return {"accounts": read_accounts(files)}


def _report(phone: Softphone, granted: Registered, *, several: bool) -> dict[str, Any]:
    """Say what was granted; of several accounts for each, and whether for all that want it."""
    if not several:
        uri = str(phone.account.uri)
        return {"registered": True, "uri": uri, "expires_s": granted.expires_s}
    accounts = []
    for account in phone.accounts:
        if account.register:
            status = phone.registration(account)
            failed = None if status.failure is None else status.failure.reason
            expires_s = None if status.expires_in_s is None else round(status.expires_in_s)
            accounts.append(
                {
                    "uri": account.uri,
                    "registered": status.registered,
                    "expires_s": expires_s,
                    "error": failed,
                }
            )
    return {"registered": all(one["registered"] for one in accounts), "accounts": accounts}


def _print(report: dict[str, Any]) -> None:
    for one in report.get("accounts", [report]):
        if one["registered"]:
            print(f"registered {one['uri']} for {one['expires_s']:g} s", flush=True)
        else:
            warn(f"{one['uri']} is not registered: {one['error'] or 'no answer yet'}")


async def _register(phone: Softphone, timeout: float) -> Registered:
    try:
        async with asyncio.timeout(timeout):
            return await phone.register()
    except TimeoutError:
        raise RegistrationError(
            f"no answer to REGISTER {phone.account.uri} in {timeout:g} s", hint="check the address"
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
            case RegistrationFailed(reason, status, None) if not _may_be(phone):
                raise RegistrationError(reason, status=status)
            case RegistrationFailed(reason, _, None):
                warn(reason)
            case RegistrationFailed(reason, _, retry_in_s):
                warn(f"{reason}; next try in {retry_in_s:.0f} s")
            case _:
                pass


def _may_be(phone: Softphone) -> bool:
    """Whether an account is registered, or is to be tried again."""
    stands = [phone.registration(one) for one in phone.accounts if one.register]
    return any(
        one.registered or one.failure is None or one.failure.retry_in_s is not None
        for one in stands
    )


def _failed(message: str, error: VoipError) -> dict[str, Any]:
    return {"registered": False, "error": message, "code": error.code, "status": error.status}
