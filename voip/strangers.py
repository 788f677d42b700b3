"""Who may call a phone: its registrars may, for its accounts, and whom else the phone was told."""

from __future__ import annotations

from voip.config import CallConfig, NetworkConfig
from voip.lines import Lines
from voip.sip.flow import Flow
from voip.sip.message import Request

__all__ = ["Strangers"]


class Strangers:
    """Tells calls nobody could expect from others, as `CallConfig.strangers` says.

    A phone without an account answers whatever comes to its port.
    """

    def __init__(self, lines: Lines, calling: CallConfig, network: NetworkConfig) -> None:
        self._lines = lines
        self._accepts = calling.strangers == "accept"
        self._trusted = frozenset(network.trusted)

    def refuses(self, request: Request, flow: Flow) -> bool:
        """Whether an INVITE is for nobody here, or comes from where no call of ours comes from."""
        host = flow.remote.host
        if self._accepts or host in self._trusted:
            return False
        return not self._lines.called(request, flow).expects(request, host)
