"""Digits by all ways there are: events, INFO and tones, in whatever mixture, each told once."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import numpy as np
import pytest
from sound_scene import two_phones

from voip.call import Call
from voip.config import MediaConfig
from voip.errors import CallStateError, ConfigError
from voip.events import DtmfReceived
from voip.sim import Path

Way = Literal["rfc4733", "info", "in-band"]
WAYS: tuple[Way, ...] = ("rfc4733", "info", "in-band")


class Listener:
    """Who is called: notes the digits that come, and how."""

    def __init__(self) -> None:
        self.heard: list[DtmfReceived] = []

    async def __call__(self, call: Call) -> None:
        call.on_dtmf(self.heard.append)
        await call.answer()
        await call.wait_ended()

    @property
    def digits(self) -> str:
        return "".join(event.digit for event in self.heard)

    @property
    def ways(self) -> set[str]:
        return {event.way for event in self.heard}


@pytest.mark.parametrize("codec", ["pcmu", "pcma", "g722", "l16/16000"])
@pytest.mark.parametrize("way", WAYS)
def test_V04_all_three_ways_yield_one_event_for_each_digit(codec: str, way: Way) -> None:
    listener = Listener()

    async def talk(call: Call) -> None:
        await asyncio.sleep(0.5)
        await call.send_dtmf("1159*0#D", mode=way)
        await asyncio.sleep(0.5)

    media = MediaConfig(codecs=(codec,), tones_heard="always")
    two_phones(talk, calling=media, answering=media, answer=listener)
    assert listener.digits == "1159*0#D"
    assert listener.ways == {way}
    if way == "in-band":
        assert all(abs(event.duration_ms - 100) < 15 for event in listener.heard)


def test_V04_a_key_that_is_sent_by_all_ways_at_once_is_told_once() -> None:
    listener = Listener()

    async def talk(call: Call) -> None:
        await asyncio.sleep(0.5)
        for digit in "5577":
            await asyncio.gather(*(call.send_dtmf(digit, mode=way) for way in WAYS))
            await asyncio.sleep(0.4)
        await call.send_dtmf("7")  # and again by one of them, and by another for itself
        await asyncio.sleep(1.5)
        await call.send_dtmf("7", mode="info")
        await asyncio.sleep(0.5)

    media = MediaConfig(tones_heard="always")
    path = Path(delay_s=0.03, loss=0.02)
    two_phones(talk, calling=media, answering=media, answer=listener, path=path)
    assert listener.digits == "557777"


def test_tones_are_not_listened_for_where_digits_come_beside_the_sound() -> None:
    listener = Listener()

    async def talk(call: Call) -> None:
        await asyncio.sleep(0.5)
        await call.send_dtmf("123", mode="in-band")
        await call.send_dtmf("4")
        await asyncio.sleep(0.5)

    two_phones(talk, calling=MediaConfig(), answering=MediaConfig(), answer=listener)
    assert listener.digits == "4"


@pytest.mark.parametrize("heard", ["auto", "never"])
def test_tones_are_listened_for_where_the_other_side_has_no_events(
    monkeypatch: pytest.MonkeyPatch, heard: Literal["auto", "never"]
) -> None:
    from voip.session import stack

    whole = stack.capabilities
    monkeypatch.setattr(
        stack,
        "capabilities",
        lambda *of, **more: tuple(
            one for one in whole(*of, **more) if one.name != "telephone-event"
        ),
    )
    listener = Listener()

    async def talk(call: Call) -> None:
        await asyncio.sleep(0.5)
        await call.send_dtmf("0815", mode="in-band")
        await call.hold()
        await call.resume()
        await call.send_dtmf("42", mode="in-band")
        await asyncio.sleep(0.5)

    answering = MediaConfig(tones_heard=heard)
    two_phones(talk, calling=MediaConfig(), answering=answering, answer=listener)
    assert listener.digits == ("081542" if heard == "auto" else "")


def test_tones_that_go_on_to_another_side_are_told_as_such() -> None:
    listener = Listener()

    async def echo(call: Call) -> None:
        await asyncio.gather(listener(call), echo_when_up(call))

    async def echo_when_up(call: Call) -> None:
        await call.wait_answered()
        await call.echo()

    async def talk(call: Call) -> None:
        await asyncio.sleep(0.5)
        await call.send_dtmf("8", mode="in-band")
        await asyncio.sleep(0.5)

    media = MediaConfig(tones_heard="always")
    two_phones(talk, calling=media, answering=media, answer=echo)
    assert [(event.digit, event.relayed) for event in listener.heard] == [("8", True)]


def test_a_call_that_ends_while_tones_are_played_says_so() -> None:
    async def hangs_up(call: Call) -> None:
        await call.answer()
        await asyncio.sleep(1)
        await call.hangup()

    async def talk(call: Call) -> None:
        with pytest.raises(CallStateError, match="before all digits"):
            await call.send_dtmf("1234567890" * 4, mode="in-band")

    two_phones(talk, calling=MediaConfig(), answering=MediaConfig(), answer=hangs_up)


@pytest.mark.parametrize(
    "bad",
    [
        {"mode": "pulse"},
        {"mode": "in-band", "duration_ms": 0},
        {"mode": "in-band", "duration_ms": 10**9},
        {"mode": "in-band", "gap_ms": -1},
        {"digits": "1" * 5000},
        {"digits": ""},
    ],
)
def test_what_cannot_be_sent_is_refused_at_once(bad: dict[str, Any]) -> None:
    async def talk(call: Call) -> None:
        with pytest.raises(ConfigError):
            await call.send_dtmf(**{"digits": "1", **bad})
        with pytest.raises(ConfigError, match="a list cannot be sent"):
            await call.send([1, 2, 3])  # type: ignore[arg-type]

    two_phones(talk, calling=MediaConfig(), answering=MediaConfig(), answer=Listener())


def test_there_are_three_ways_to_listen() -> None:
    with pytest.raises(ConfigError, match="tones_heard"):
        MediaConfig(tones_heard="sometimes")  # type: ignore[arg-type]


def test_speech_and_noise_press_nothing() -> None:
    listener = Listener()

    async def talk(call: Call) -> None:
        noise = np.random.default_rng(4).normal(0, 3000, 5 * call.rate).astype(np.int16)
        await call.play(noise)

    media = MediaConfig(tones_heard="always")
    two_phones(talk, calling=media, answering=media, answer=listener)
    assert listener.digits == ""
