"""How a phone names itself as one of its accounts: in From, and in Contact."""

from __future__ import annotations

from voip.account import Account
from voip.registrars import Registrars
from voip.sip.flow import Flow
from voip.sip.headers import NameAddr
from voip.sip.uri import SipUri, format_host

__all__ = ["Contacts"]


class Contacts:
    """The names of one account towards the other end of a flow; not `named`: it has none.

    mark: tells the account's Contact from those of other accounts with the same user: the
    parameter `line`. `registrars` is there once the phone is started.
    """

    registrars: Registrars

    def __init__(self, account: Account, *, named: bool, mark: str | None = None) -> None:
        self._account = account
        self._named = named
        self._mark = mark

    def identity(self, flow: Flow) -> NameAddr:
        """Return who we are."""
        if self._named:
            return self._account.identity()
        return NameAddr("", f"sip:anonymous@{format_host(flow.local.host)}")

    def of_dialog(self, flow: Flow, *, secure: bool = False, anonymous: bool = False) -> str:
        """Return the Contact of a dialog: our GRUU where we have one (RFC 5627 section 4.4).

        Else where we are, and that what comes should come by this flow (RFC 5626 section 4.3).
        """
        registrar = self.registrars.of(flow)
        gruu = registrar.terms.temp_gruu if anonymous else registrar.gruu
        secure = secure and flow.secure
        if gruu is not None:  # whatever its scheme, the other one is granted with it (RFC 5630)
            return f"<{'sips' if secure else 'sip'}:{gruu.partition(':')[2]}>"
        contact = self.at(flow, secure=secure, anonymous=anonymous)
        return f"{contact[:-1]};ob>" if registrar.terms.outbound else contact

    def at(self, flow: Flow, *, secure: bool | None = None, anonymous: bool = False) -> str:
        """Return where we are reached; by sips: where that was asked for (RFC 3261, 8.1.1.8).

        `secure` None: as the address of record is, for a registration; in a dialog it is as it was
        begun, for who called sip: may have no sips: (RFC 5630 section 5.1.1.2).
        """
        secure = self._account.aor.scheme == "sips" if secure is None else secure
        user = self._account.user if self._named and not anonymous else None
        if flow.secure and secure:
            uri = SipUri("sips", user, None, *flow.sent_by)
            if flow.transport != "tls":
                uri = uri.with_params(transport="ws")
        else:
            uri = SipUri("sip", user, None, *flow.sent_by)
            if flow.transport != "udp":
                uri = uri.with_params(transport="ws" if flow.transport == "wss" else flow.transport)
        return f"<{uri if self._mark is None else uri.with_params(line=self._mark)}>"
