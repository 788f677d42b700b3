"""Transferring a call: REFER and what is told of it (RFC 3515, RFC 5589).

Ours: the peer is asked to call somebody, and says how that goes. Theirs: `Progress` says it to who
asked us.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

from voip.errors import CallError, CallStateError, NoAnswerError, SipError
from voip.events import TransferProgress
from voip.session.session import CallSession
from voip.session.stack import Stack
from voip.sip.dialog import Dialog
from voip.sip.events import Notified, SipEvent, SubscriptionEnded
from voip.sip.headers import NameAddr
from voip.sip.identity import ANONYMOUS
from voip.sip.notifier import Notifier
from voip.sip.refer import SIPFRAG, read_sipfrag, sipfrag
from voip.sip.replaces import place_of
from voip.sip.subscription import Subscription
from voip.sip.uri import SipUri

__all__ = ["Beside", "Progress", "attended", "follow", "in_our_place", "refer"]

GOODBYE_S: Final = 5.0
"""How long a transferred call may stay before it is hung up."""
Beside = Callable[[Dialog, SipUri], Awaitable[Subscription]]
"""Makes a REFER to the peer of a call to call a URI, in a dialog of its own."""
_UNREACHED: Final = frozenset((404, 408, 410, 480, 481, 484, 485, 500, 502, 503, 504, 604))
"""What a transferee reports where it did not find the target by the address it was given."""


async def refer(
    session: CallSession,
    target: SipUri,
    beside: Beside,
    *,
    timeout: float,
    tell: Callable[[TransferProgress], None],
) -> None:
    """Ask the peer of `session` to call `target`; returns when it says that it has.

    In the call's dialog, but `beside` it where the peer takes that. Raises `CallError` with the
    status it reports where that came to nothing: the call goes on.
    """
    dialog = session.dialog
    if dialog is None or not session.is_up:
        raise CallStateError(
            f"the call is {session.state.value}", hint="transfer a call that is up"
        )
    stack = session.stack
    if _takes_beside(session, dialog):
        handle = await beside(dialog, target)
    else:
        by = NameAddr("", dialog.local.uri)
        handle = stack.agent.subscriptions.refer(
            dialog,
            str(NameAddr("", str(target))),
            headers=[("Referred-By", str(by))],
            now=stack.signalling.now(),
        )
    await follow(stack, handle, session.remote.uri, timeout=timeout, tell=tell)


def _takes_beside(session: CallSession, dialog: Dialog) -> bool:
    """Whether a REFER finds the peer, and the peer the call, outside of the dialog.

    Its Contact is a GRUU, and it knows Target-Dialog (RFC 5589 section 5, RFC 6665 section 4.5.2).
    Who is anonymous stays in the dialog: outside of it servers ask who that is.
    """
    said = session.answer_response if session.outgoing else session.invite_request
    if said is None or "tdialog" not in said.headers.values("Supported"):
        return False
    if dialog.local.uri == ANONYMOUS.uri:
        return False
    try:
        return SipUri.parse(dialog.remote_target).param("gr") is not None
    except SipError:  # no SIP URI
        return False


async def follow(
    stack: Stack,
    handle: Subscription,
    whom: str,
    *,
    timeout: float,
    tell: Callable[[TransferProgress], None],
) -> None:
    """Send a REFER that the agent has made; returns when `whom` says that it has called.

    Raises as `refer`.
    """
    outcome = _Outcome(tell)
    stack.watchers[handle] = outcome.on_event
    stack.signalling.flush()
    try:
        async with asyncio.timeout(timeout):
            status, reason = await outcome.result
    except TimeoutError:
        raise NoAnswerError(
            f"{whom} has not said in {timeout:g} s what became of the transfer", status=408
        ) from None
    finally:
        if not outcome.over:
            _let_go(stack, handle)
        else:
            stack.watchers.pop(handle, None)
    if status >= 300:
        raise CallError(f"the transfer failed: {reason or 'refused'} ({status})", status=status)


def _let_go(stack: Stack, handle: Subscription) -> None:
    """Give the subscription up, and remember it until it is over."""

    def on_event(event: SipEvent) -> None:
        if isinstance(event, SubscriptionEnded):
            stack.watchers.pop(handle, None)

    stack.watchers[handle] = on_event
    handle.unsubscribe(stack.signalling.now())
    stack.signalling.flush()


class _Outcome:
    """What becomes of a REFER of ours."""

    def __init__(self, tell: Callable[[TransferProgress], None]) -> None:
        self.result: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()
        self.over = False
        self._tell = tell

    def on_event(self, event: SipEvent) -> None:
        match event:
            case Notified(_, request):
                told = read_sipfrag(request.body)
                if told is not None:
                    self._tell(TransferProgress(*told))
                    if told[0] >= 200:
                        self._settle(*told)
            case SubscriptionEnded(_, reason, status):
                self.over = True
                # without a word: nobody says what became of it
                self._settle(status or 500, reason)
            case _:
                pass

    def _settle(self, status: int, reason: str) -> None:
        if not self.result.done():
            self.result.set_result((status, reason))


async def attended(
    session: CallSession,
    other: CallSession,
    beside: Beside,
    *,
    timeout: float,
    tell: Callable[[TransferProgress], None],
) -> None:
    """Ask the peer of `session` to take our place in the call with `other`'s peer (section 7).

    By the target's Contact first; where that leads the transferee nowhere and is no GRUU, by its
    address of record, with `Require: replaces` so that nobody else answers (section 7.5).
    """
    if session is other:
        raise CallStateError("a call cannot be transferred to itself")
    if other.dialog is None or not other.is_up:
        raise CallStateError(f"the other call is {other.state.value}", hint="wait for its answer")

    async def ask(target: SipUri) -> None:
        await refer(session, target, beside, timeout=timeout, tell=tell)

    await in_our_place(other.dialog, ask, lambda: session.is_up and other.is_up)


async def in_our_place(
    dialog: Dialog, ask: Callable[[SipUri], Awaitable[None]], goes_on: Callable[[], bool]
) -> None:
    """Have somebody call the peer of `dialog` in our place: by `ask`, with the URI and a Replaces.

    By another address where that leads nowhere, as long as our calls go on.
    """
    for last, target in _ways_to(dialog):
        try:
            await ask(target)
        except NoAnswerError:  # it may be calling still
            raise
        except CallError as error:
            if last or error.status not in _UNREACHED or not goes_on():
                raise
        else:
            return


def _ways_to(dialog: Dialog) -> list[tuple[bool, SipUri]]:
    by_contact = place_of(dialog)
    address, contact = dialog.remote.sip_uri, replace(by_contact, headers=())
    if contact.param("gr") is not None or address.equivalent(contact):
        return [(True, by_contact)]
    by_address = replace(address, headers=(*by_contact.headers, ("Require", "replaces")))
    return [(False, by_contact), (True, by_address)]


class Progress:
    """Tells a referrer how the call that it asked us for goes."""

    def __init__(self, notifier: Notifier, now: Callable[[], float]) -> None:
        self._notifier = notifier
        self._now = now
        self._told = 100

    def accept(self, contact: str) -> None:
        """Take the REFER up (202), before anybody is asked."""
        self._notifier.accept(
            contact=contact, body=sipfrag(100), content_type=SIPFRAG, now=self._now()
        )

    def tell(self, status: int, reason: str | None = None) -> None:
        """Say how far it has come; a final status ends the telling."""
        if status >= 200:
            self._notifier.terminate("noresource", sipfrag(status, reason), now=self._now())
        elif status != self._told:
            self._told = status
            self._notifier.notify(sipfrag(status, reason), SIPFRAG, now=self._now())
