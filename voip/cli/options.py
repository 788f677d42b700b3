"""Options that several commands share, and what they are turned into."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from voip.cli.run import LogLevel, warn
from voip.config import (
    HEADER_EXTENSIONS,
    TRANSPORTS,
    CallConfig,
    MediaConfig,
    NetworkConfig,
    TlsConfig,
    check_media_timeout,
    check_ping,
)
from voip.devices.device import AudioDevice
from voip.errors import AudioFileError, ConfigError
from voip.media.files import Octets
from voip.media.play.opening import open_reader
from voip.media.record.plan import plan_of

__all__ = [
    "AuthUser",
    "Bind",
    "CodecList",
    "Device",
    "Dns",
    "Dtx",
    "FromUri",
    "Instance",
    "JsonFlag",
    "LogAt",
    "LogJson",
    "Login",
    "MediaTimeout",
    "MetricsAt",
    "Microphone",
    "Outbound",
    "Password",
    "PasswordFile",
    "PcapFile",
    "Ping",
    "Proxy",
    "PublicAddress",
    "Redundancy",
    "RtpPorts",
    "TlsCa",
    "TlsCert",
    "TlsInsecure",
    "TlsKey",
    "TraceFlag",
    "Transport",
    "WsPath",
    "WsPort",
    "WssPort",
    "call_config",
    "check_files",
    "first_line",
    "host_port",
    "media_config",
    "network_config",
    "sound_device",
    "tls_config",
]

PLAYED_HZ: Final = 8000
"""Sample rate of what is played."""

Device = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Speak and listen by this sound device: a part of its name, or 'default'.",
    ),
]
Microphone = Annotated[str | None, typer.Option(metavar="NAME", help="Another device to speak by.")]
FromUri = Annotated[
    str | None, typer.Option("--from", metavar="URI", help="Who we are: sip:alice@pbx.example.")
]
AuthUser = Annotated[
    str | None, typer.Option(metavar="NAME", help="Name for digest, where it is not our user.")
]
Password = Annotated[
    str | None,
    typer.Option(
        metavar="P", help="Password. Others on this machine can read it: rather one of the next."
    ),
]
PasswordFile = Annotated[
    Path | None,
    typer.Option(metavar="F", help="File whose first line is the password. Or set VOIP_PASSWORD."),
]
Proxy = Annotated[
    list[str] | None,
    typer.Option(
        metavar="URI", help="Where every request goes first. Several: registered by at once."
    ),
]
Outbound = Annotated[
    bool,
    typer.Option("--outbound", help="Register the connection, not an address (RFC 5626)."),
]
Instance = Annotated[
    str | None,
    typer.Option(metavar="UUID", help="Which phone this is; implies --outbound."),
]
Bind = Annotated[
    str, typer.Option(metavar="HOST[:PORT]", help="Where to listen. Default: every address.")
]
PublicAddress = Annotated[
    str | None,
    typer.Option(metavar="HOST", help="Address others reach us by, behind one-to-one NAT."),
]
RtpPorts = Annotated[str, typer.Option(metavar="A-B", help="Ports for RTP and RTCP.")]
Transport = Annotated[
    str | None,
    typer.Option(metavar="|".join(TRANSPORTS), help="How SIP is carried. Default: as DNS says."),
]
Dns = Annotated[
    list[str] | None,
    typer.Option(metavar="ADDR", help="DNS server to ask instead of the system's; several: again."),
]
WsPort = Annotated[
    int | None, typer.Option(min=0, max=65535, metavar="N", help="Answer WebSockets here too.")
]
WssPort = Annotated[
    int | None,
    typer.Option(min=0, max=65535, metavar="N", help="The same over TLS, with --tls-cert."),
]
WsPath = Annotated[str, typer.Option(metavar="PATH", help="What a WebSocket server is asked for.")]
TlsCa = Annotated[
    Path | None,
    typer.Option(metavar="F", help="Authorities to trust instead of this machine's (PEM)."),
]
TlsCert = Annotated[
    Path | None, typer.Option(metavar="F", help="Our certificate, and its key if it is there too.")
]
TlsKey = Annotated[Path | None, typer.Option(metavar="F", help="The key of our certificate.")]
TlsInsecure = Annotated[
    bool, typer.Option("--tls-insecure", help="Believe every certificate. Not outside a lab.")
]
CodecList = Annotated[
    str, typer.Option("--codec", metavar="LIST", help="Codecs, the preferred one first.")
]
Dtx = Annotated[
    bool, typer.Option("--dtx", help="Send nothing in silence but how it sounds (comfort noise).")
]
Redundancy = Annotated[
    int,
    typer.Option(
        metavar="N", help="Packets before it that each packet repeats (RFC 2198), 0 to 4."
    ),
]
HeaderExtensionList = Annotated[
    str,
    typer.Option(
        "--header-extensions",
        metavar="LIST",
        help=f"What packets say beside sound (RFC 8285), of {', '.join(HEADER_EXTENSIONS)}.",
    ),
]
MediaTimeout = Annotated[
    float, typer.Option(min=0, metavar="S", help="End a call after so much silence; 0: never.")
]
Ping = Annotated[
    float, typer.Option(min=0, metavar="S", help="Ask so often whether the peer is there; 0: no.")
]
PcapFile = Annotated[
    Path | None,
    typer.Option(metavar="F", help="Write SIP and RTP to this capture file, digests masked."),
]
TraceFlag = Annotated[
    bool, typer.Option("--trace", help="Print every SIP message on stderr, digests masked.")
]
MetricsAt = Annotated[
    str | None,
    typer.Option("--metrics", metavar="HOST:PORT", help="Answer Prometheus there."),
]
LogAt = Annotated[
    LogLevel | None,
    typer.Option("--log-level", help="Write what happens to stderr; secrets are masked."),
]
LogJson = Annotated[
    bool, typer.Option("--log-json", help="Everything on stderr is one JSON object a line.")
]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]


@dataclass(frozen=True, slots=True)
class Login:
    """Account options as given; `settings` are those of `Softphone`."""

    uri: str | None
    auth_user: str | None
    password: str | None = field(repr=False)
    proxy: Sequence[str]

    @classmethod
    def of(
        cls,
        uri: str | None,
        auth_user: str | None,
        password: str | None,
        password_file: Path | None,
        proxy: Sequence[str] | None,
    ) -> Login:
        """Find the password where it was given: option, file, or VOIP_PASSWORD."""
        given = password is not None or password_file is not None
        if given and uri is None and auth_user is None:
            raise ConfigError("a password, and nobody whose it is", hint="--from or --auth-user")
        if password is not None:
            warn(
                "warning: others can read a password on the command line; "
                "use --password-file or VOIP_PASSWORD"
            )
        elif password_file is not None:
            password = first_line(password_file)
        else:
            password = os.environ.get("VOIP_PASSWORD") or None
        return cls(uri, auth_user, password, tuple(proxy or ()))

    def settings(self, domain: str | None = None) -> dict[str, Any]:
        """Return arguments of `Softphone`; `domain` is that of a user known by name only."""
        uri = self.uri
        if uri is None and self.auth_user is not None and domain is not None:
            uri = f"sip:{self.auth_user}@{domain}"
        return {
            "uri": uri,
            "auth_user": self.auth_user,
            "password": self.password,
            "proxy": self.proxy,
        }


def network_config(
    bind: str,
    public_address: str | None,
    rtp_ports: str,
    transport: str | None,
    tls: TlsConfig,
    *,
    port: int = 0,
    dns: Sequence[str] | None = None,
    ws_port: int | None = None,
    wss_port: int | None = None,
    ws_path: str = "/ws",
) -> NetworkConfig:
    """Read the network options; raises `ConfigError` that names the option.

    `port` is where to listen when --bind names none.
    """
    if wss_port is not None and tls.certificate is None:
        raise ConfigError("--wss-port needs a certificate", hint="--tls-cert F")
    if not ws_path.startswith("/"):
        raise ConfigError(f"--ws-path {ws_path} is no path", hint="such as /ws")
    host, bound = host_port(bind)
    low, dash, high = rtp_ports.partition("-")
    if not dash or not _is_number(low) or not _is_number(high):
        raise ConfigError(f"--rtp-ports {rtp_ports} is no range", hint="such as 10000-19999")
    return NetworkConfig(
        host,
        port if bound is None else bound,
        public_address,
        (int(low), int(high)),
        transport and transport.lower(),
        tls,
        dns_servers=tuple(dns or ()),
        ws_port=ws_port,
        wss_port=wss_port,
        ws_path=ws_path,
    )


def tls_config(
    ca: Path | None, certificate: Path | None, key: Path | None, insecure: bool
) -> TlsConfig:
    """Read the --tls options; believing everybody earns a warning."""
    if insecure:
        warn("warning: --tls-insecure checks no certificate: anybody may be at the other end")
    return TlsConfig(_text(ca), _text(certificate), _text(key), insecure=insecure)


def media_config(
    codecs: str, *, dtx: bool = False, redundancy: int = 0, header_extensions: str = ""
) -> MediaConfig:
    """Read --codec, --dtx, --redundancy and --header-extensions."""
    return MediaConfig(
        codecs=_names(codecs),
        dtx=dtx,
        redundancy=redundancy,
        header_extensions=_names(header_extensions),
    )


def _names(listed: str) -> tuple[str, ...]:
    return tuple(name.strip().lower() for name in listed.split(",") if name.strip())


def call_config(media_timeout: float, ping: float) -> CallConfig:
    """Read --media-timeout and --ping; raises `ConfigError` that names the option."""
    return CallConfig(
        media_timeout_s=_seconds("--media-timeout", media_timeout, check_media_timeout),
        ping_s=_seconds("--ping", ping, check_ping),
    )


def check_files(play: Path | None, record: Path | None) -> None:
    """Raise `AudioFileError` for sound that cannot be read or written, before anybody is called."""
    if play is not None:
        open_reader(play, PLAYED_HZ, _no_url).close()
    if record is None:
        return
    plan_of(record)  # its suffix may need what is not installed
    if not record.parent.is_dir():
        raise AudioFileError(f"{record} cannot be written: there is no folder {record.parent}")
    if play is not None and record.exists() and record.samefile(play):
        raise AudioFileError(f"{record} is what is to be played", hint="record to another file")
    if (
        record.is_fifo()
        or record.is_dir()
        or not os.access(record if record.exists() else record.parent, os.W_OK)
    ):
        raise AudioFileError(f"{record} cannot be written", hint="name a file in a folder of yours")


def _no_url(url: str) -> Octets:
    raise AudioFileError(f"{url} is no file")


def host_port(bind: str, option: str = "--bind") -> tuple[str, int | None]:
    """Read HOST, HOST:PORT or :PORT; raises `ConfigError` that names the option."""
    if bind.startswith("["):
        host, _, rest = bind[1:].partition("]")
        port = rest.removeprefix(":")
    elif bind.count(":") > 1:
        host, port = bind, ""
    else:
        host, _, port = bind.partition(":")
    if port and not _is_number(port):
        raise ConfigError(f"{option} {bind}: {port!r} is no port", hint="HOST or HOST:PORT")
    return host, int(port) if port else None


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _seconds(option: str, seconds: float, check: Callable[[float | None], None]) -> float | None:
    """Return seconds, None for 0, which is never; raises `ConfigError` where `check` does."""
    try:
        check(seconds or None)
    except ConfigError as error:
        hint = error.hint.replace("None", "0")
        raise ConfigError(f"{option} {seconds:g} cannot be kept", hint=hint) from None
    return seconds or None


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10


def first_line(path: Path) -> str:
    """Return the password in a file; raises `ConfigError` where there is none."""
    try:
        return path.read_text().splitlines()[0]
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is no text", hint="its first line is the password") from error
    except IndexError:
        raise ConfigError(f"{path} is empty", hint="its first line is the password") from None


def sound_device(name: str | None, microphone: str | None) -> AudioDevice | None:
    """Return the device that --device and --microphone name, None where neither is given."""
    if name is None and microphone is None:
        return None
    from voip.devices.system import SystemDevices  # here: other commands start without it

    name, microphone = (None if one == "default" else one for one in (name, microphone))
    return SystemDevices().open(name, microphone=microphone)
