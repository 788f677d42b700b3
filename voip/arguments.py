"""What applications pass that ends up in SIP messages: checked where it comes in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final
from uuid import UUID

from voip.errors import ConfigError, SipError
from voip.sip.config import AgentConfig
from voip.sip.headers import Headers, NameAddr
from voip.sip.server_request import ServerRequest
from voip.types import Random

__all__ = ["RequestHandler", "agent_config", "caller_address", "instance_urn", "invite_headers"]

RequestHandler = Callable[[ServerRequest], None]

_OWN_HEADERS: Final = (
    *("Via", "Route", "From", "To", "Call-ID", "CSeq", "Max-Forwards", "Contact", "Allow"),
    *("Supported", "Authorization", "Proxy-Authorization", "Content-Type", "Content-Length"),
)


def agent_config(user_agent: str, requests: Mapping[str, RequestHandler]) -> AgentConfig:
    """Return the agent's settings; `ConfigError` for what could not stand in a message."""
    if not user_agent.isprintable():
        raise ConfigError(f"{user_agent!r} cannot be a phone's name", hint="printable characters")
    own = AgentConfig().allow
    for method in requests:
        if not (method.isascii() and method.isalpha() and method.isupper()) or method in own:
            raise ConfigError(
                f"{method!r} cannot be handled", hint=f"another method than {', '.join(own)}"
            )
    return AgentConfig(user_agent=user_agent, allow=(*own, *requests))


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


def instance_urn(text: str | None, random: Random) -> str:
    """Return the URN of a phone's instance, one that nobody else has where none is given.

    Raises `ConfigError` for what is no UUID.
    """
    try:
        given = UUID((text or random.token(32)).removeprefix("urn:uuid:"))
    except ValueError:
        raise ConfigError(f"the instance {text!r} is no UUID", hint="str(uuid.uuid4())") from None
    return given.urn
