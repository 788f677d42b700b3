"""Digits to Asterisk and from it: by RFC 4733, and as tones in the sound."""

from __future__ import annotations

from pathlib import Path

import pytest
from peers.asterisk import Asterisk
from phones import CODECS, ended, softphone

from voip.events import DtmfReceived, EndedBy

SENT_MS = 120


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_604_reads_our_digits(asterisk: Asterisk, artifacts: Path, transport: str) -> None:
    mark = asterisk.mark()
    async with (
        softphone(asterisk, "1001", artifacts, transport=transport) as phone,
        await phone.dial("604") as call,
    ):
        await call.send_dtmf("4711", duration_ms=SENT_MS)
        assert await asterisk.digits("1001") == "4711"
    heard = asterisk.heard_digits(mark)
    assert [digit.digit for digit in heard] == list("4711"), heard
    for digit in heard:  # Asterisk goes by the duration in the packets, not by its clock
        assert digit.duration_ms == pytest.approx(SENT_MS, abs=20), heard


@pytest.mark.parametrize("codec", CODECS)
async def test_605_sends_digits_that_we_hear_once_each_and_in_order(
    asterisk: Asterisk, artifacts: Path, codec: str
) -> None:
    async with softphone(asterisk, "1002", artifacts, codecs=(codec,)) as phone:
        call = await phone.dial("605")
        assert await call.collect(7, timeout=5, terminator=None) == "1234*0#"
        end = await ended(call)
        heard = [event async for event in call.events() if isinstance(event, DtmfReceived)]
    assert end.by is EndedBy.REMOTE
    assert "".join(event.digit for event in heard) == "1234*0#"
    assert all(event.duration_ms >= 100 for event in heard), heard  # 150, more on a busy machine


@pytest.mark.parametrize("codec", CODECS)
async def test_V04_605_sends_tones_that_we_hear_once_each_where_it_knows_no_events(
    asterisk: Asterisk, artifacts: Path, codec: str
) -> None:
    async with softphone(asterisk, "1010", artifacts, codecs=(codec,)) as phone:
        call = await phone.dial("605")
        assert await call.collect(7, timeout=5, terminator=None) == "1234*0#"
        end = await ended(call)
        heard = [event async for event in call.events() if isinstance(event, DtmfReceived)]
    assert end.by is EndedBy.REMOTE
    assert [(event.digit, event.way) for event in heard] == [(d, "in-band") for d in "1234*0#"]
    assert all(event.duration_ms >= 80 for event in heard), heard


async def test_V04_604_reads_our_tones(asterisk: Asterisk, artifacts: Path) -> None:
    async with (
        softphone(asterisk, "1010", artifacts) as phone,
        await phone.dial("604") as call,
    ):
        await call.send_dtmf("4711", duration_ms=SENT_MS, mode="in-band")
        assert await asterisk.digits("1010") == "4711"
