"""Which parties of a conference are heard by some only, and which hear some only.

What is whispered to one who has left stays unheard; who takes its place hears it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from voip.call import Call
from voip.session.media import Share

__all__ = ["Circles"]


class Circles:
    """Limits to who hears whom, by call."""

    def __init__(self) -> None:
        self._heard_by: dict[Call, tuple[Call, ...]] = {}
        self._listens_to: dict[Call, tuple[Call, ...]] = {}

    def whisper(self, call: Call, listeners: Iterable[Call]) -> None:
        """Let a call be heard by some only; by all where there are none."""
        self._limit(self._heard_by, call, listeners)

    def listen(self, call: Call, speakers: Iterable[Call]) -> None:
        """Let a call hear some only; all where there are none."""
        self._limit(self._listens_to, call, speakers)

    @staticmethod
    def _limit(limits: dict[Call, tuple[Call, ...]], call: Call, others: Iterable[Call]) -> None:
        if found := tuple(others):
            limits[call] = found
        else:
            limits.pop(call, None)

    def within(self, call: Call, share: Share) -> Share:
        """Return a call's share with its limits."""
        return replace(
            share,
            heard_by=_streams(self._heard_by.get(call)),
            listens_to=_streams(self._listens_to.get(call)),
        )

    def forget(self, call: Call) -> None:
        """Take it that a call has left, and hears and says nothing any more."""
        self._heard_by.pop(call, None)
        self._listens_to.pop(call, None)

    def succeed(self, old: Call, new: Call) -> list[Call]:
        """Let a call have the place of another; return the others whose limits name it."""
        named = []
        for limits in (self._heard_by, self._listens_to):
            if old in limits:
                limits[new] = limits.pop(old)
            for call, others in limits.items():
                if old in others:
                    limits[call] = tuple(new if one is old else one for one in others)
                    named.append(call)
        return list(dict.fromkeys(named))


def _streams(calls: tuple[Call, ...] | None) -> tuple[int, ...] | None:
    return None if calls is None else tuple(call._session.media.stream for call in calls)
