"""Options that several commands share, and what they are turned into."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from voip.config import MediaConfig, NetworkConfig
from voip.errors import ConfigError

__all__ = [
    "AuthUser",
    "Bind",
    "CodecList",
    "FromUri",
    "JsonFlag",
    "Login",
    "Password",
    "PasswordFile",
    "PcapFile",
    "Proxy",
    "PublicAddress",
    "RtpPorts",
    "TraceFlag",
    "Transport",
    "media_config",
    "network_config",
]

FromUri = Annotated[
    str | None, typer.Option("--from", metavar="URI", help="Who we are: sip:alice@pbx.example.")
]
AuthUser = Annotated[
    str | None, typer.Option(metavar="NAME", help="Name for digest, where it is not our user.")
]
Password = Annotated[
    str | None,
    typer.Option(metavar="P", help="Password. Others on this machine can read it there."),
]
PasswordFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="File whose first line is the password.")
]
Proxy = Annotated[str | None, typer.Option(metavar="URI", help="Where every request goes first.")]
Bind = Annotated[
    str, typer.Option(metavar="HOST[:PORT]", help="Where to listen. Default: every address.")
]
PublicAddress = Annotated[
    str | None,
    typer.Option(metavar="HOST", help="Address others reach us by, behind one-to-one NAT."),
]
RtpPorts = Annotated[str, typer.Option(metavar="A-B", help="Ports for RTP and RTCP.")]
Transport = Annotated[str, typer.Option(metavar="udp|tcp", help="How SIP is carried.")]
CodecList = Annotated[
    str, typer.Option("--codec", metavar="LIST", help="Codecs in order of preference.")
]
PcapFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Write SIP and RTP to this capture file.")
]
TraceFlag = Annotated[bool, typer.Option("--trace", help="Print every SIP message on stderr.")]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]


@dataclass(frozen=True, slots=True)
class Login:
    """Account options as given; `settings` are those of `Softphone`."""

    uri: str | None
    auth_user: str | None
    password: str | None
    proxy: str | None

    @classmethod
    def of(
        cls,
        uri: str | None,
        auth_user: str | None,
        password: str | None,
        password_file: Path | None,
        proxy: str | None,
    ) -> Login:
        """Find the password where it was given: option, file, or VOIP_PASSWORD."""
        if password is not None:
            print(
                "warning: others can read a password on the command line; "
                "use --password-file or VOIP_PASSWORD",
                file=sys.stderr,
            )
        elif password_file is not None:
            password = _first_line(password_file)
        else:
            password = os.environ.get("VOIP_PASSWORD")
        return cls(uri, auth_user, password, proxy)

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
    bind: str, public_address: str | None, rtp_ports: str, transport: str
) -> NetworkConfig:
    """Read the network options; raises `ConfigError` that names the option."""
    host, port = _host_port(bind)
    low, dash, high = rtp_ports.partition("-")
    if not dash or not low.isdigit() or not high.isdigit():
        raise ConfigError(f"--rtp-ports {rtp_ports} is no range", hint="such as 10000-19999")
    return NetworkConfig(host, port, public_address, (int(low), int(high)), transport.lower())


def media_config(codecs: str) -> MediaConfig:
    """Read --codec."""
    names = tuple(name.strip().lower() for name in codecs.split(",") if name.strip())
    return MediaConfig(codecs=names)


def _host_port(bind: str) -> tuple[str, int]:
    if not bind:
        return "", 0
    if bind.startswith("["):
        host, _, rest = bind[1:].partition("]")
        port = rest.removeprefix(":")
    elif bind.count(":") > 1:
        host, port = bind, ""
    else:
        host, _, port = bind.partition(":")
    if port and not port.isdigit():
        raise ConfigError(f"--bind {bind}: {port!r} is no port", hint="HOST or HOST:PORT")
    return host, int(port or 0)


def _first_line(path: Path) -> str:
    try:
        return path.read_text().splitlines()[0]
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except IndexError:
        raise ConfigError(f"{path} is empty", hint="its first line is the password") from None
