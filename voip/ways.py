"""The ways to one place, and when to leave one that leads nowhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

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
        self._looking: asyncio.Task[Way | None] | None = None

    async def next(self) -> Way | None:
        """Return the next one, connected where it is a connection; None where there is none."""
        looking, self._looking = self._looking, None
        return await (self._find() if looking is None else looking)

    async def lead_around(self, request: ClientInvite | ClientRequest) -> bool:
        """Wait until `request` has had its time; whether nobody answers it and there is a next way.

        Without one there is nothing better to do than to go on waiting.
        """
        if self._failover_s is None:
            return False
        await asyncio.sleep(self._failover_s)
        if request.heard:
            return False
        if self._looking is None:  # it goes on, whoever waits no longer for it
            self._looking = asyncio.get_running_loop().create_task(self._find())
        return await asyncio.shield(self._looking) is not None and not request.heard

    async def aclose(self) -> None:
        """Look for no more."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        await self._found.aclose()

    async def _find(self) -> Way | None:
        return await anext(self._found, None)
