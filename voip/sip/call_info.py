"""References that go with a call: Call-Info and Alert-Info (RFC 3261 20.4 and 20.9), Geolocation.

Geolocation is RFC 6442's.
"""

from __future__ import annotations

from dataclasses import dataclass

from voip.sip.grammar import Params, find_param
from voip.sip.headers import Headers, NameAddr

__all__ = ["Geolocation", "Reference", "alert_info", "call_info"]

_MAX_REFERENCES = 16


@dataclass(frozen=True, slots=True)
class Reference:
    """A URI and what is said of it, such as `purpose=icon` or `info=alert-autoanswer`."""

    uri: str
    params: Params = ()

    def param(self, name: str) -> str | None:
        """Return a parameter's value unquoted: "" without one, None when it is not there."""
        return find_param(self.params, name)

    def __str__(self) -> str:
        return str(NameAddr("", self.uri, self.params))


@dataclass(frozen=True, slots=True)
class Geolocation:
    """Where the caller is (RFC 6442): URIs of location objects, the newest last.

    `cid:` URIs name a body part of the message itself. `routing`: whether proxies may use it to
    route the call; they may not where nothing is said (section 4.2.1).
    """

    locations: tuple[str, ...] = ()
    routing: bool = False

    @classmethod
    def of(cls, headers: Headers) -> Geolocation:
        """Read a message's; what cannot be read is passed over."""
        allowed = (headers.get("Geolocation-Routing") or "").strip(" \t").lower() == "yes"
        return cls(tuple(entry.uri for entry in _references(headers, "Geolocation")), allowed)

    def headers(self) -> list[tuple[str, str]]:
        """Return it as header lines for a request."""
        lines = [("Geolocation", f"<{uri}>") for uri in self.locations]
        return [*lines, ("Geolocation-Routing", "yes" if self.routing else "no")]


def call_info(headers: Headers) -> list[Reference]:
    """Return the Call-Info values that can be read."""
    return _references(headers, "Call-Info")


def alert_info(headers: Headers) -> list[Reference]:
    """Return the Alert-Info values that can be read."""
    return _references(headers, "Alert-Info")


def _references(headers: Headers, name: str) -> list[Reference]:
    found = headers.readable(name, NameAddr.parse, _MAX_REFERENCES)
    return [Reference(address.uri, address.params) for address in found]
