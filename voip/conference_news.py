"""What happens in a conference, told to its application: who comes, who goes, who speaks.

The engine is asked who speaks only while somebody wants to know.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable

from voip.call import Call
from voip.callbacks import Callback, Callbacks, Spawn
from voip.events import ActiveSpeaker, ConferenceEvent
from voip.logs.lines import CallLog
from voip.session.event_log import EventLog

__all__ = ["ConferenceNews"]

_KEPT = 64
"""Events that a slow listener may be late by."""


class ConferenceNews:
    """Events of one conference. `wanted` is called once, when somebody wants to hear of any."""

    def __init__(self, spawn: Spawn, log: CallLog, wanted: Callable[[], None]) -> None:
        self._log: EventLog[ConferenceEvent] = EventLog(_KEPT)
        self._callbacks = Callbacks(spawn, lambda _: None, log)
        self._wanted = wanted
        self.is_wanted = False
        self._speakers: tuple[Call, ...] = ()

    @property
    def speakers(self) -> tuple[Call, ...]:
        """Who speaks now, the loudest first, as it was told last."""
        return self._speakers

    def follow(self) -> AsyncIterator[ConferenceEvent]:
        """Yield what happens from now on, until the conference is over."""
        self._want()
        return self._log.follow(len(self._log))

    def call_back(self, callback: Callback) -> None:
        """Call back with what happens from now on."""
        self._want()
        self._callbacks.add(None, callback)

    def _want(self) -> None:
        if not self.is_wanted:
            self.is_wanted = True
            self._wanted()

    def tell(self, event: ConferenceEvent) -> None:
        """Tell of an event."""
        if self.is_wanted:
            self._log.add(event)
            self._callbacks.tell(event)

    def speak(self, streams: Iterable[int], parties: Iterable[Call]) -> None:
        """Take it that `streams` of the engine speak now, which are some of the parties'."""
        calls = {call._session.media.stream: call for call in parties}
        found = tuple(calls[stream] for stream in streams if stream in calls)
        if found != self._speakers:
            self._speakers = found
            self.tell(ActiveSpeaker(found))

    def fall_silent(self, call: Call) -> None:
        """Take it that a party has gone, and speaks no more."""
        if call in self._speakers:
            self._speakers = tuple(one for one in self._speakers if one is not call)
            self.tell(ActiveSpeaker(self._speakers))

    def end(self) -> None:
        """Say that nothing more will come."""
        self._log.end()
