"""An edge proxy's policy: in front of a home proxy, and keeping phones' flows (RFC 5626 section 5).

Phones register by it. It writes the flow that a REGISTER came by into its Path (RFC 3327), sealed,
so that the home proxy's requests find back by that flow, and nothing has to be remembered.
"""

from __future__ import annotations

from collections.abc import Callable

from voip.sip.flow import Flow
from voip.sip.proxy_policy import (
    FLOW_FAILED,
    Decision,
    Forward,
    Incoming,
    Refuse,
    Serve,
    Target,
)
from voip.sip.server_request import ServerRequest
from voip.sip.uri import SipUri

__all__ = ["EdgePolicy"]


class EdgePolicy:
    """Sends all that phones ask to `home`, and what comes by a Path of ours to its phone.

    home: the URI of the proxy and registrar behind, which asks for passwords and knows users.
    `is_open(flow)` says whether a flow still leads somewhere. Nothing is forwarded to anybody else:
    whoever uses the edge reaches the home proxy, or who has registered by the edge.
    """

    def __init__(self, home: str, is_open: Callable[[Flow], bool]) -> None:
        uri = SipUri.parse(home)
        self._home = f"<{uri.with_params(lr=None)}>"
        self._home_at = uri.host.lower(), uri.port or 5060
        self._is_open = is_open

    def decide(self, incoming: Incoming, now: float) -> Decision:
        """Say what becomes of a request."""
        request, to_phone = incoming.request, incoming.path_flow
        if incoming.in_dialog:
            return Forward(((Target(request.uri),),))
        if to_phone is not None and to_phone != incoming.flow:  # section 5.3.1
            if not self._is_open(to_phone):
                return Refuse(FLOW_FAILED)
            return Forward(((Target(request.uri, flow=to_phone, lost=FLOW_FAILED),),))
        if request.method == "OPTIONS" and incoming.ours and _user(incoming) is None:
            return Serve()
        if tuple(incoming.flow.remote) == self._home_at:
            return Refuse(404)  # from home, and to nobody that has registered by us
        add = (("Path", incoming.path),) if request.method == "REGISTER" and incoming.path else ()
        return Forward(((Target(request.uri, (self._home,)),),), add=add)

    def serve(self, request: ServerRequest, now: float) -> None:
        """Say that we are here."""
        request.reply(200, now=now)

    def lose(self, flow: Flow) -> None:
        """Nothing is known of a connection that is gone."""


def _user(incoming: Incoming) -> str | None:
    return incoming.uri.user if isinstance(incoming.uri, SipUri) else incoming.uri.digits
