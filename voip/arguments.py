"""What applications pass that ends up in SIP messages: checked where it comes in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final
from uuid import UUID

from voip.config import CallConfig, NetworkConfig
from voip.errors import ConfigError, SipError
from voip.session.info import Info
from voip.sip.config import AgentConfig
from voip.sip.headers import Headers, NameAddr
from voip.sip.server_request import ServerRequest
from voip.sip.tel import TelUri
from voip.sip.uri import SipUri, uri_scheme

__all__ = [
    "HeaderLines",
    "RequestHandler",
    "agent_config",
    "caller_address",
    "header_lines",
    "headers_of_uri",
    "instance_urn",
]

RequestHandler = Callable[[ServerRequest], None]
HeaderLines = Mapping[str, str] | Iterable[tuple[str, str]]
"""Headers to be added to a message: a mapping, or pairs where a name stands more than once."""

METHODS: Final = ("SUBSCRIBE", "NOTIFY", "REFER", "MESSAGE", "INFO")
SUPPORTED: Final = ("replaces", "norefersub", "tdialog", "gruu")
EVENTS: Final = ("refer", "dialog")
MIXING: Final = ("join",)
MIXED: Final = ("conference",)
"""What a phone does beyond the agent's own: methods, extensions and packages, and those of them
that need a mixer. Who knows GRUUs says so in whatever it sends (RFC 5627 sections 4.1 and 4.4), and
not only where it has asked for one by its instance."""
REPLACEABLE: Final = ("MESSAGE", "INFO")
"""Those that an application may handle itself."""

_OWN_HEADERS: Final = (
    *("Via", "Route", "Record-Route", "From", "To", "Call-ID", "CSeq", "Max-Forwards"),
    *("Contact", "Allow"),
    *("Supported", "Authorization", "Proxy-Authorization", "Content-Type", "Content-Length"),
    *("Require", "Session-Expires", "Min-SE"),
)
_URI_HEADERS: Final = ("Replaces", "Join", "Subject", "Priority")


def agent_config(
    user_agent: str,
    requests: Mapping[str, RequestHandler],
    calls: CallConfig,
    network: NetworkConfig,
    info_packages: Sequence[str] = (),
    *,
    mixes: bool = True,
) -> AgentConfig:
    """Return the agent's settings; `ConfigError` for what could not stand in a message.

    `mixes`: whether calls can be joined with each other. A handler for MESSAGE or INFO takes the
    place of the phone's own.
    """
    if not user_agent.isprintable():
        raise ConfigError(f"{user_agent!r} cannot be a phone's name", hint="printable characters")
    own = (*AgentConfig().allow, *METHODS)
    for package in info_packages:
        _ = Info(package)  # ConfigError where it is no word
    for method in requests:
        if method in REPLACEABLE:
            continue
        if not (method.isascii() and method.isalpha() and method.isupper()) or method in own:
            raise ConfigError(
                f"{method!r} cannot be handled", hint=f"another method than {', '.join(own)}"
            )
    extensions = {"100rel": calls.reliable, "timer": calls.session_timer}
    methods = [method for method in own if method != "PRACK" or calls.reliable != "off"]
    return AgentConfig(
        user_agent=user_agent,
        allow=tuple(dict.fromkeys((*methods, *requests))),
        supported=(
            *(tag for tag, use in extensions.items() if use != "off"),
            *("199", *SUPPORTED, *(MIXING if mixes else ())),
        ),
        required=tuple(tag for tag, use in extensions.items() if use == "required"),
        session_expires=None if calls.session_timer == "off" else calls.session_expires_s,
        min_session_expires=calls.session_min_s,
        refresher=calls.refresher,
        events=(*EVENTS, *(MIXED if mixes else ())),
        unsolicited=("message-summary",),
        info_packages=tuple(info_packages),
        failover_s=network.failover_s,
        stranger_rate=network.stranger_rate,
        known_hosts=network.trusted,
    )


def header_lines(headers: HeaderLines) -> list[tuple[str, str]]:
    """Return headers for a message; `ConfigError` for those that are not the caller's to set."""
    if not headers:
        return []
    try:
        lines = Headers(headers.items() if isinstance(headers, Mapping) else headers)
    except SipError as error:
        raise ConfigError(error.message, hint="a name and a value on one line") from error
    taken = [name for name in _OWN_HEADERS if name in lines]
    if taken:
        raise ConfigError(f"{taken[0]} is set by the phone itself", hint="leave it out")
    return list(lines)


def headers_of_uri(uri: SipUri) -> list[tuple[str, str]]:
    """Return those of a URI's headers that an INVITE to it has (RFC 3261 section 19.1.5).

    Who has written the URI may say whose place is taken and what it is about, and nothing else:
    not who calls, or by which way. `ConfigError` for what could not stand in a message.
    """
    lines = [(name, value) for name, value in uri.headers if name.title() in _URI_HEADERS]
    if any(name.lower() == "require" and value == "replaces" for name, value in uri.headers):
        lines.append(("Require", "replaces"))
    try:
        return list(Headers(lines))
    except SipError as error:
        raise ConfigError(error.message, hint="another URI") from error


def caller_address(text: str) -> NameAddr:
    """Return whom an INVITE is from; `ConfigError` where that is no SIP address."""
    try:
        caller = NameAddr.parse(text)
        if uri_scheme(caller.uri) == "tel":
            TelUri.parse(caller.uri)
        else:
            _ = caller.sip_uri
    except SipError as error:
        raise ConfigError(error.message, hint="from_='sip:alice@pbx.example'") from error
    return caller


def instance_urn(text: str) -> str:
    """Return the URN of a phone's instance; raises `ConfigError` for what is no UUID."""
    try:
        return UUID(text.removeprefix("urn:uuid:")).urn
    except ValueError:
        raise ConfigError(f"the instance {text!r} is no UUID", hint="str(uuid.uuid4())") from None
