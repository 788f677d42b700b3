"""What applications pass that ends up in SIP messages: checked where it comes in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from voip.config import CallConfig
from voip.errors import ConfigError, SipError
from voip.sip.config import AgentConfig
from voip.sip.headers import Headers, NameAddr
from voip.sip.server_request import ServerRequest

__all__ = ["RequestHandler", "agent_config", "caller_address", "invite_headers"]

RequestHandler = Callable[[ServerRequest], None]

_OWN_HEADERS: Final = (
    *("Via", "Route", "From", "To", "Call-ID", "CSeq", "Max-Forwards", "Contact", "Allow"),
    *("Supported", "Authorization", "Proxy-Authorization", "Content-Type", "Content-Length"),
    *("Require", "Session-Expires", "Min-SE"),
)


def agent_config(
    user_agent: str, requests: Mapping[str, RequestHandler], calls: CallConfig
) -> AgentConfig:
    """Return the agent's settings; `ConfigError` for what could not stand in a message."""
    if not user_agent.isprintable():
        raise ConfigError(f"{user_agent!r} cannot be a phone's name", hint="printable characters")
    own = AgentConfig().allow
    for method in requests:
        if not (method.isascii() and method.isalpha() and method.isupper()) or method in own:
            raise ConfigError(
                f"{method!r} cannot be handled", hint=f"another method than {', '.join(own)}"
            )
    extensions = {"100rel": calls.reliable, "timer": calls.session_timer}
    return AgentConfig(
        user_agent=user_agent,
        allow=(
            *(method for method in own if method != "PRACK" or calls.reliable != "off"),
            *requests,
        ),
        supported=(*(tag for tag, use in extensions.items() if use != "off"), "199"),
        required=tuple(tag for tag, use in extensions.items() if use == "required"),
        session_expires=None if calls.session_timer == "off" else calls.session_expires_s,
        min_session_expires=calls.session_min_s,
        refresher=calls.refresher,
    )


def invite_headers(headers: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return headers for an INVITE; `ConfigError` for those that are not the caller's to set."""
    try:
        lines = Headers(headers.items())
    except SipError as error:
        raise ConfigError(error.message, hint="a name and a value on one line") from error
    taken = [name for name in _OWN_HEADERS if name in lines]
    if taken:
        raise ConfigError(f"{taken[0]} is set by the phone itself", hint="leave it out")
    return list(lines)


def caller_address(text: str) -> NameAddr:
    """Return whom an INVITE is from; `ConfigError` where that is no SIP address."""
    try:
        caller = NameAddr.parse(text)
        _ = caller.sip_uri
    except SipError as error:
        raise ConfigError(error.message, hint="from_='sip:alice@pbx.example'") from error
    return caller
