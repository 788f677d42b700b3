"""The example of RFC 4733 section 5: "911", pressed for 200, 250 and 220 ms, as others hear it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import groupby, pairwise
from pathlib import Path

import pytest
from direct import Desk, desk
from dissector import fields
from peers.asterisk import Asterisk
from peers.baresip import Baresip
from peers.pjsua import Pjsua
from phones import softphone, until
from test_baresip import connect as connect_baresip
from test_pjsua import connect as connect_pjsip

from voip.call import Call
from voip.events import DtmfReceived

StartBaresip = Callable[..., Awaitable[Baresip]]
StartPjsua = Callable[..., Awaitable[Pjsua]]

EXAMPLE = (("9", 200), ("1", 250), ("1", 220))
"""Each key, and for how many ms it is pressed."""


async def press(call: Call) -> None:
    for key, duration_ms in EXAMPLE:
        await call.send_dtmf(key, duration_ms=duration_ms)


def heard_of(call: Call) -> list[DtmfReceived]:
    return [event for event in call._events if isinstance(event, DtmfReceived)]


def dissected(path: Path) -> list[dict[str, int]]:
    """What tshark finds in a capture of the telephone events that were sent, packet by packet."""
    columns = [f"rtpevent.{name}" for name in ("event_id", "duration", "end_of_event")]
    columns += [f"rtp.{name}" for name in ("timestamp", "seq", "marker")]
    rows = fields(path, *columns, options=("-Y", "rtpevent"))
    names = [column.partition(".")[2] for column in columns]
    return [dict(zip(names, map(int, row), strict=True)) for row in rows]


async def test_F109_asterisk_hears_each_digit_as_long_as_it_is_pressed(
    asterisk: Asterisk, artifacts: Path
) -> None:
    mark = asterisk.mark()
    async with (
        softphone(asterisk, "1001", artifacts) as phone,
        await phone.dial("604") as call,
    ):
        await press(call)
        assert await asterisk.digits("1001") == "911"
    heard = [(one.digit, one.duration_ms) for one in asterisk.heard_digits(mark)]
    assert [digit for digit, _ in heard] == ["9", "1", "1"]
    for (_, pressed), (_, lasted) in zip(EXAMPLE, heard, strict=True):
        assert lasted == pytest.approx(pressed, abs=1), heard  # by what the packets say


async def test_F109_pjsip_hears_them_and_tshark_sees_the_packets_of_the_example(
    pjsua: StartPjsua, artifacts: Path
) -> None:
    peer = await pjsua()
    async with desk(artifacts) as us:
        call, number = await connect_pjsip(us, peer, "us")
        await press(call)
        await until(lambda: len(peer.digits(number)) >= 3, "PJSIP to hear the digits")
        await call.hangup()
    assert peer.digits(number) == "911"
    packets = dissected(artifacts / "desk.pcap")
    events = [list(group) for _, group in groupby(packets, lambda packet: packet["timestamp"])]
    assert [event[0]["event_id"] for event in events] == [9, 1, 1]
    for (_, pressed), event in zip(EXAMPLE, events, strict=True):
        *going_on, first, second, third = event
        # the marker is of an event's first packet, and of no other (section 2.5.1.1)
        assert [packet["marker"] for packet in event] == [1] + [0] * (len(event) - 1)
        # as it goes on it grows longer, and its end is said three times (2.5.1.4)
        assert [packet["end_of_event"] for packet in event] == [0] * len(going_on) + [1, 1, 1]
        assert all(a["duration"] < b["duration"] for a, b in pairwise(going_on))
        assert {end["duration"] for end in (first, second, third)} == {8 * pressed}
    for one, other in pairwise(packets):  # and nothing else comes in between
        assert other["seq"] - one["seq"] == 1 or other["marker"]
    for (_, pressed), (one, other) in zip(EXAMPLE, pairwise(events), strict=False):
        assert other[0]["timestamp"] - one[0]["timestamp"] >= 8 * pressed


@pytest.mark.parametrize("who", ["baresip", "PJSIP"])
async def test_F109_each_of_their_digits_is_heard_once_and_as_long_as_they_say(
    baresip: StartBaresip,
    pjsua: StartPjsua,
    artifacts: Path,
    who: str,
) -> None:
    """How long that is tshark says, of the packets that came."""
    async with desk(artifacts) as us:
        call = await pressed_by(who, us, baresip, pjsua)
        assert await call.collect(3, timeout=5, terminator=None) == "911"
        assert await call.collect(1, timeout=0.3, terminator=None) == ""
        heard = heard_of(call)
        await call.hangup()
    packets = dissected(artifacts / "desk.pcap")
    ends = {packet["timestamp"]: packet for packet in packets if packet["end_of_event"]}
    assert [one.digit for one in heard] == ["9", "1", "1"]
    assert [packet["event_id"] for packet in ends.values()] == [9, 1, 1]
    said = [packet["duration"] / 8 for packet in ends.values()]
    assert [one.duration_ms for one in heard] == said


async def pressed_by(who: str, us: Desk, baresip: StartBaresip, pjsua: StartPjsua) -> Call:
    """A call whose other side presses the keys."""
    if who == "baresip":
        phone = await baresip()
        call = await connect_baresip(us, phone, "us")
        await phone.dtmf("911")
        return call
    peer = await pjsua()
    call, number = await connect_pjsip(us, peer, "us")
    await peer.dtmf(number, "911")
    return call
