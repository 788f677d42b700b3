"""What a user of `SipAgent` does with subscriptions: watch, refer (RFC 6665, RFC 3515)."""

from __future__ import annotations

from collections.abc import Iterable

from voip.errors import CallStateError, SipError
from voip.sip.core import Core
from voip.sip.dialog import Dialog, DialogState
from voip.sip.digest import CredentialSource
from voip.sip.event_headers import EventType
from voip.sip.failover import Seek
from voip.sip.flow import Flow
from voip.sip.headers import Headers, NameAddr
from voip.sip.refer import SIPFRAG
from voip.sip.subscription import Subscription, Wanted
from voip.sip.uri import SipUri

__all__ = ["Subscriptions"]


class Subscriptions:
    """Subscriptions of ours; the peers' come as `SubscribeReceived` and `ReferReceived`.

    `len()` counts both sides' that are not over.
    """

    def __init__(self, core: Core) -> None:
        self._core = core

    def __len__(self) -> int:
        return len(self._core.subscriptions)

    def subscribe(
        self,
        uri: str | SipUri,
        event: str,
        *,
        flow: Flow,
        from_: NameAddr | str,
        to: NameAddr | str,
        contact: NameAddr | str,
        accept: Iterable[str],
        expires_s: int = 3600,
        keep: bool = False,
        forks: bool = False,
        route: Iterable[str] = (),
        headers: Iterable[tuple[str, str]] = (),
        credentials: CredentialSource | None = None,
        seek: Seek | None = None,
        now: float,
    ) -> Subscription:
        """Ask to be told of an event; see `Subscription`. `seek`: as of `SipAgent.request`."""
        wanted = Wanted(
            str(uri),
            flow,
            _address(from_),
            _address(to),
            str(contact),
            EventType.parse(event),
            tuple(accept),
            expires_s,
            route=tuple(route),
            headers=tuple(Headers(headers)),
            credentials=credentials,
            seek=seek,
        )
        return self._start(Subscription(self._core, wanted, keep=keep, forks=forks), now)

    def subscribe_in(
        self,
        dialog: Dialog,
        event: str,
        *,
        accept: Iterable[str],
        expires_s: int = 3600,
        now: float,
    ) -> Subscription:
        """Ask the peer of a call for an event in the dialog of the call (RFC 5057)."""
        wanted = self._in_dialog(dialog, EventType.parse(event), tuple(accept), expires_s)
        return self._start(Subscription(self._core, wanted, dialog), now)

    def refer(
        self,
        dialog: Dialog,
        refer_to: str,
        *,
        headers: Iterable[tuple[str, str]] = (),
        subscribe: bool = True,
        now: float,
    ) -> Subscription:
        """Ask the peer of a call to call `refer_to`, a Refer-To value.

        How that goes comes as `Notified` with a sipfrag, until `SubscriptionEnded`, whose status
        says so where the REFER was refused. `subscribe` False: only whether it was accepted
        (RFC 4488).
        """
        lines = [("Refer-To", refer_to), *([] if subscribe else [("Refer-Sub", "false")])]
        wanted = self._in_dialog(
            dialog,
            EventType("refer"),
            (SIPFRAG,),
            method="REFER",
            headers=tuple(Headers([*lines, *headers])),
        )
        return self._start(Subscription(self._core, wanted, dialog), now)

    def refer_outside(
        self,
        uri: str | SipUri,
        refer_to: str,
        *,
        flow: Flow,
        from_: NameAddr | str,
        to: NameAddr | str,
        contact: NameAddr | str,
        route: Iterable[str] = (),
        headers: Iterable[tuple[str, str]] = (),
        credentials: CredentialSource | None = None,
        seek: Seek | None = None,
        now: float,
    ) -> Subscription:
        """The same outside of any call: a dialog of its own is made."""
        wanted = Wanted(
            str(uri),
            flow,
            _address(from_),
            _address(to),
            str(contact),
            EventType("refer"),
            (SIPFRAG,),
            method="REFER",
            route=tuple(route),
            headers=tuple(Headers([("Refer-To", refer_to), *headers])),
            credentials=credentials,
            seek=seek,
        )
        return self._start(Subscription(self._core, wanted), now)

    def _in_dialog(
        self,
        dialog: Dialog,
        event: EventType,
        accept: tuple[str, ...],
        expires_s: int = 3600,
        *,
        method: str = "SUBSCRIBE",
        headers: tuple[tuple[str, str], ...] = (),
    ) -> Wanted:
        if dialog.state not in (DialogState.CONFIRMED, DialogState.EARLY):
            raise CallStateError("the call is ending")
        return Wanted(
            dialog.remote_target,
            dialog.flow,
            dialog.local,
            dialog.remote,
            dialog.contact,
            event,
            accept,
            expires_s,
            method,
            headers=headers,
            credentials=dialog.credentials,
        )

    def _start(self, subscription: Subscription, now: float) -> Subscription:
        core = self._core
        core.transactions.check_room()
        if len(core.subscriptions) >= core.config.max_subscriptions:
            raise SipError(
                f"{core.config.max_subscriptions} subscriptions are open already",
                status=503,
                hint="end some, or raise max_subscriptions",
            )
        subscription.start(now)
        return subscription


def _address(value: NameAddr | str) -> NameAddr:
    return NameAddr.parse(value) if isinstance(value, str) else value
