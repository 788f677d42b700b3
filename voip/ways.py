"""Other ways for what is under way: looked for when nobody answers by the first one."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from voip.desk import Desk
from voip.errors import VoipError
from voip.line import Line
from voip.sip.dialog import Dialog
from voip.sip.failover import Seek, Sought, Way
from voip.sip.flow import Flow
from voip.sip.locating import Where, transport_of
from voip.sip.uri import SipUri

__all__ = ["look_up_within", "seek"]


def seek(desk: Desk, line: Line, uri: SipUri, contact: Callable[[Flow], str] | None = None) -> Seek:
    """Return who finds further ways of a line to `uri` (RFC 3263 section 4.3).

    `contact` says how we are reached by a flow, for a request that names us.
    """

    async def ways(sought: Sought) -> AsyncGenerator[Way]:
        async with aclosing(line.ways(uri, without=sought.tried)) as found:
            async for registrar, flow in found:
                named = None if contact is None else contact(flow)
                yield Way(flow, tuple(registrar.route()), named)

    return lambda sought: desk.spawn(_look(desk, ways(sought), sought))


def look_up_within(desk: Desk, dialog: Dialog, sought: Sought) -> None:
    """Find the way, or another one, for a request within a dialog: to the next hop that it names.

    What nobody else could read does not go on where anybody can.
    """

    async def ways() -> AsyncGenerator[Way]:
        hop, left = dialog.next_hop, sought.left
        if hop is None:
            return
        transport = transport_of(hop) or (left.transport if left.secure else None)
        where = Where(hop.host, hop.port, transport, hop.scheme == "sips")
        flows = desk.stack.signalling.flows(where, without=sought.tried)
        async with aclosing(flows):
            async for flow in flows:
                if flow.secure or not left.secure:
                    yield Way(flow)

    desk.spawn(_look(desk, ways(), sought))


async def _look(desk: Desk, ways: AsyncGenerator[Way], sought: Sought) -> None:
    signalling = desk.stack.signalling
    if sought.failed:
        signalling.avoid(sought.left)
    try:
        async with aclosing(ways):
            way = await anext(ways, None)
    except VoipError:
        way = None
    if way is None:
        sought.lost(signalling.now())
    elif sought.found(way, signalling.now()) and sought.leaves:
        signalling.avoid(sought.left)
    signalling.flush()
