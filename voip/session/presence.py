"""Whether the peer of a call is still there: its sound, its reports, its answers.

A peer that falls silent is asked (OPTIONS in the dialog), and so is one every `ping_s`, silent or
not. No answer, 408, 481, or silence for `media_timeout_s` all the same, and the call is over: a BYE
says why (RFC 3326) for the case that somebody gets it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from voip.config import check_media_timeout, check_ping
from voip.errors import MediaError, VoipError
from voip.events import PeerHeard, PeerSilent
from voip.media.answers import MediaSilent
from voip.media.commands import WatchStream
from voip.sip.client_request import ClientRequest
from voip.sip.events import Cause, RequestDone, RequestFailed

if TYPE_CHECKING:
    from voip.session.session import CallSession

__all__ = ["Presence"]

ASKED_AFTER_S: Final = 5.0
"""A peer is asked after so much silence, and again after so much more (decision 0010)."""
_TOLD_AFTER: Final = 2
"""The application is told when the peer has been asked so often: a pause between two reports of a
peer that sends nothing while nobody speaks is no news."""
_TIMES: Final = 4
"""How often a peer is asked at least before its silence ends the call."""


class Presence:
    """Watches the peer of one call from the moment it is up until it is over."""

    def __init__(self, session: CallSession) -> None:
        self._session = session
        self._stack = session.stack
        self._media_timeout_s = session.stack.calling.media_timeout_s
        self._ping_s = session.stack.calling.ping_s
        self._asking: ClientRequest | None = None
        self._asked_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._told = 0  # 1: that it is silent, 2: that its reports have stopped

    @property
    def media_timeout_s(self) -> float | None:
        """See `CallConfig`; counted anew when it is set."""
        return self._media_timeout_s

    @media_timeout_s.setter
    def media_timeout_s(self, seconds: float | None) -> None:
        check_media_timeout(seconds)
        self._media_timeout_s = seconds
        self._watch()

    @property
    def ping_s(self) -> float | None:
        """See `CallConfig`; counted anew when it is set."""
        return self._ping_s

    @ping_s.setter
    def ping_s(self, seconds: float | None) -> None:
        check_ping(seconds)
        self._ping_s = seconds
        self._wait_to_ping(seconds)

    def begin(self) -> None:
        """The call is up."""
        self._watch()
        self._wait_to_ping(self._ping_s)

    def end(self) -> None:
        """The call is over."""
        self._stack.sessions.pop(self._asking, None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # ------------------------------------------------------------ sound and reports

    @property
    def _patience_s(self) -> float:
        """After how much silence the peer is asked; the timeout is a multiple of it."""
        timeout = self._media_timeout_s
        if timeout is None:
            return ASKED_AFTER_S
        return timeout / max(_TIMES, -(-timeout // ASKED_AFTER_S))

    def _watch(self) -> None:
        session = self._session
        self._told = 0
        if session.is_up and session.media.is_open:
            try:
                self._stack.driver.post(WatchStream(session.media.stream, self._patience_s))
            except MediaError as error:  # it has stopped: the call goes on without it
                session.log.debug("watching the other side: %s", error)

    def on_silent(self, event: MediaSilent) -> None:
        """Neither RTP nor RTCP comes."""
        session = self._session
        if not session.is_up:
            return
        if session.media.held_by_remote and not event.reports_stopped:
            self.ask()  # many a telephone says nothing to whom it holds, not even by RTCP
            return
        seconds = event.seconds
        news = 2 if event.reports_stopped else int(seconds >= _TOLD_AFTER * self._patience_s - 1e-6)
        if news > self._told:
            self._told = news
            session.emit(PeerSilent(round(seconds, 3), reports_stopped=event.reports_stopped))
        timeout = self._media_timeout_s  # the application may have thought better of it
        if timeout is None or seconds < timeout - 1e-6:
            self.ask()
            return
        listening = session.media.agreed is not None and session.media.agreed.can_receive
        what = "neither RTP nor RTCP" if listening else "no RTCP"
        session.lose(f"media timeout: {what} for {int(seconds + 0.01)} s", 408)

    def on_heard(self) -> None:
        """Something comes again."""
        if self._told and self._session.is_up:
            self._told = 0
            self._session.emit(PeerHeard())

    # ------------------------------------------------------------ answers

    def ask(self) -> None:
        """Send OPTIONS in the dialog: no answer, and the agent ends the dialog."""
        session = self._session
        if session.dialog is None or not session.is_up or self._asking is not None:
            return
        now = self._stack.signalling.now()
        try:
            self._asking = self._stack.agent.dialog_request(session.dialog, "OPTIONS", now=now)
        except VoipError as error:
            session.log.debug("the other side cannot be asked whether it is there: %s", error)
            return
        self._asked_at = now
        self._stack.sessions[self._asking] = session
        self._stack.signalling.flush()

    def on_asked(self, event: RequestDone | RequestFailed) -> None:
        """The peer has answered, or is gone; 408 and 481 have ended the dialog already."""
        self._stack.sessions.pop(self._asking, None)
        self._asking = None
        if isinstance(event, RequestFailed) and event.cause is Cause.TRANSPORT:
            self._session.lose(event.reason, event.status)

    def _wait_to_ping(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if seconds is not None and self._session.is_up:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._ping)

    def _ping(self) -> None:
        """Ask; who has not answered in the time between two questions does not any more."""
        self._timer, every_s = None, self._ping_s
        if every_s is None:
            return
        now = self._stack.signalling.now()
        waited = now - self._asked_at
        if self._asking is None:
            self.ask()
        elif waited < every_s - 1e-3:  # asked meanwhile because it is silent
            self._wait_to_ping(every_s - waited)
            return
        else:
            self._asking.give_up(now)
            self._stack.signalling.flush()
        self._wait_to_ping(every_s)
