"""Who is heard by some only: as calls, which go, and whose place others take."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from voip.call import Call
from voip.circles import Circles
from voip.session.media import Share


def call(stream: int) -> Call:
    found: Any = SimpleNamespace(_session=SimpleNamespace(media=SimpleNamespace(stream=stream)))

    class Hashable(SimpleNamespace):
        __hash__ = object.__hash__

    return cast(Call, Hashable(**vars(found)))


COACH, AGENT, CUSTOMER, NEW = (call(n) for n in (1, 2, 3, 4))
SHARE = Share(9, gain=0.5)


def test_limits_are_streams_and_end_when_nobody_is_named() -> None:
    circles = Circles()
    assert circles.within(COACH, SHARE) == SHARE
    circles.whisper(COACH, (AGENT,))
    circles.listen(COACH, (AGENT, CUSTOMER))
    assert circles.within(COACH, SHARE) == Share(9, 0.5, True, (2,), (2, 3))
    assert circles.within(AGENT, SHARE) == SHARE
    circles.whisper(COACH, ())
    circles.listen(COACH, ())
    assert circles.within(COACH, SHARE) == SHARE


def test_who_takes_anothers_place_has_its_limits_and_is_in_those_of_others() -> None:
    circles = Circles()
    circles.whisper(COACH, (AGENT,))
    circles.listen(AGENT, (COACH, CUSTOMER))
    assert circles.succeed(AGENT, NEW) == [COACH]
    assert circles.within(COACH, SHARE).heard_by == (4,)
    assert circles.within(NEW, SHARE).listens_to == (1, 3)
    assert circles.within(AGENT, SHARE) == SHARE


def test_what_was_whispered_to_one_who_has_gone_stays_unheard() -> None:
    circles = Circles()
    circles.whisper(COACH, (AGENT,))
    circles.forget(AGENT)
    assert circles.within(COACH, SHARE).heard_by == (2,)  # a stream that is no more
    circles.forget(COACH)
    assert circles.within(COACH, SHARE) == SHARE
