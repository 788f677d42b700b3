"""Who may call a phone: its registrar may, for its account, and whom else the phone was told."""

from __future__ import annotations

from collections.abc import Callable, Collection

from voip.account import Account
from voip.config import CallConfig, NetworkConfig
from voip.errors import SipError
from voip.sip.flow import Flow
from voip.sip.message import Request
from voip.sip.uri import SipUri, uri_scheme

__all__ = ["Strangers"]


class Strangers:
    """Tells calls nobody could expect from others, as `CallConfig.strangers` says.

    account: None for a phone that answers whatever comes to its port. registrars: returns the hosts
    that the phone has registered at, None where it does not register.
    """

    def __init__(
        self,
        account: Account | None,
        calling: CallConfig,
        network: NetworkConfig,
        registrars: Callable[[], Collection[str] | None],
    ) -> None:
        self._account = account
        self._accepts = calling.strangers == "accept"
        self._trusted = frozenset(network.trusted)
        self._registrars = registrars

    def refuses(self, request: Request, flow: Flow) -> bool:
        """Whether an INVITE is for somebody else, or comes from where no call of ours comes from.

        A Request-URI without a user names nobody else.
        """
        account, host = self._account, flow.remote.host
        if account is None or self._accepts or host in self._trusted:
            return False
        registrars = self._registrars()
        if registrars is not None and host not in registrars:
            return True
        return _user(request) not in (None, account.user)


def _user(request: Request) -> str | None:
    if uri_scheme(request.uri) not in ("sip", "sips"):
        return ""
    try:
        return SipUri.parse(request.uri).user
    except SipError:
        return ""
