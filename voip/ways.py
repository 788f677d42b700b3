"""The ways to one place, and when to leave one that leads nowhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from voip.registration import Registrar
from voip.sip.client_invite import ClientInvite
from voip.sip.client_request import ClientRequest
from voip.sip.flow import Flow

__all__ = ["Way", "Ways"]

Way = tuple[Registrar, Flow]
"""A flow, and the registration it belongs to."""


class Ways:
    """The ways to one place, taken one after the other (RFC 3263 section 4.3)."""

    def __init__(self, found: AsyncGenerator[Way], failover_s: float | None) -> None:
        self._found = found
        self._failover_s = failover_s
        self._next: Way | None = None

    async def next(self) -> Way | None:
        """Return the next one, connected where it is a connection; None where there is none."""
        way, self._next = self._next, None
        return way or await anext(self._found, None)

    async def lead_around(
        self, request: ClientInvite | ClientRequest, outcome: asyncio.Future[Any]
    ) -> bool:
        """Whether nobody has answered `request` in time and there is a next way.

        Without one there is nothing better to do than to go on waiting for `outcome`.
        """
        if self._failover_s is None:
            return False
        await asyncio.wait({outcome}, timeout=self._failover_s)
        if request.heard or outcome.done():
            return False
        self._next = await anext(self._found, None)  # may take as long as connecting does
        return self._next is not None and not request.heard and not outcome.done()
