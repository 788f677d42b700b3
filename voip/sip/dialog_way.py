"""The way of what is sent within a dialog, where it is to be found first (RFC 3261 section 8.1.2).

A peer whose INVITE came by UDP may name another transport in its Contact, and so may the proxy next
to us in its Record-Route. Then names are looked up and a connection is opened before anything is
sent; what cannot be reached so is still reached as the dialog was begun.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from voip.ip import literal
from voip.sip.core import Core
from voip.sip.dialog import Dialog
from voip.sip.failover import Seek, Sought, Way
from voip.sip.flow import Flow

__all__ = ["by_way_of", "seek_within"]


def by_way_of(core: Core, dialog: Dialog, send: Callable[[float], None], now: float) -> None:
    """Call `send` when the way of `dialog` is known: at once, or in turn when it is found."""
    if not dialog.seeks_way:
        send(now)
        return
    dialog.waiting.append(send)
    if len(dialog.waiting) == 1:
        _look_for_way(core, dialog, now)


def seek_within(core: Core, dialog: Dialog) -> Seek | None:
    """Return who finds other ways for a request in `dialog`: to those that its next hop names.

    An address is one way only. But where the peer has opened the connection, and it is gone, the
    address is another way than that (section 18): it is where the peer accepts connections.
    None where nobody looks, or for a peer that only its flow reaches.
    """
    look_up, hop = core.look_up, dialog.next_hop
    if look_up is None or hop is None or dialog.stay_on_flow:
        return None
    if not literal(hop.host):
        return partial(look_up, dialog)
    if not dialog.flow.reliable or not dialog.is_elsewhere:
        return None

    def seek(sought: Sought) -> None:
        if sought.failed:
            look_up(dialog, sought)
        else:  # it is silent, but there
            sought.lost(sought.now)

    return seek


def _look_for_way(core: Core, dialog: Dialog, now: float) -> None:
    hop = dialog.next_hop

    def end(flow: Flow | None, now: float) -> None:
        if dialog.next_hop == hop:
            dialog.seeks_way = False
            dialog.flow = flow or dialog.flow
        elif dialog.seeks_way:  # the peer has moved meanwhile
            _look_for_way(core, dialog, now)
            return
        waiting, dialog.waiting = dialog.waiting, []
        for send in waiting:
            send(now)

    def found(way: Way, now: float) -> bool:
        end(way.flow, now)
        return True

    if core.look_up is None:
        end(dialog.straight, now)
    else:
        sought = Sought(
            frozenset(), dialog.flow, False, now, found, lambda now: end(None, now), leaves=False
        )
        core.look_up(dialog, sought)
