"""The keys of a call's sound (SRTP), set by the application."""

from __future__ import annotations

from voip.rtp.srtp.keys import SrtpKeys
from voip.session.session import CallSession

__all__ = ["Protecting"]


class Protecting:
    """Of one call."""

    def __init__(self, session: CallSession) -> None:
        self._session = session

    async def protect(self, *, send: SrtpKeys | None, receive: SrtpKeys | None) -> None:
        """Send and hear by SRTP only, with these keys from now on; other keys may follow.

        None: nothing is sent, or heard, as long as there are no keys. It cannot be undone. Keys
        are the application's to agree on: the offer and answer of a call do not carry them yet.
        Before a call is answered is the time: `dial(wait="started")`, or an incoming call before
        `answer`. Raises `MediaError` where nothing installed has the suite, `CallStateError` where
        the call is over.
        """
        await self._session.media.protect(send, receive)
