"""Asterisk's endpoint 1008, which demands 100rel and session timers of 90 s."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from direct import Ladder
from peers.asterisk import Asterisk
from phones import echo_of, ended, require_speech, shipped, softphone
from stalls import repeated_after_stalls

from voip.config import CallConfig
from voip.errors import CallError
from voip.events import CallState, EarlyMedia, EndedBy

SHORT = CallConfig(session_expires_s=90)


@repeated_after_stalls
async def test_F085_F089_a_reliable_183_of_asterisk_is_acknowledged(
    asterisk: Asterisk, artifacts: Path
) -> None:
    prompt = shipped("prompt-8k.wav")
    ladder = Ladder(artifacts / "sip.txt")
    async with softphone(asterisk, "1008", artifacts, trace=ladder) as phone:
        async with await phone.dial("606") as call:
            assert EarlyMedia() in list(call._events)
            require_speech(prompt, await echo_of(call, prompt, artifacts / "echo.wav"))
        assert call.ended is not None
        assert call.ended.by is EndedBy.LOCAL
    assert ladder.header("< 183 INVITE", "Require") == "100rel"
    assert re.fullmatch(r"\d+", ladder.header("< 183 INVITE", "RSeq"))
    lines = ladder.lines
    assert lines.index("> PRACK") < lines.index("< 200 PRACK") < lines.index("> ACK", 5)


async def test_F096_asterisk_and_we_agree_on_a_session_timer(
    asterisk: Asterisk, artifacts: Path
) -> None:
    ladder = Ladder(artifacts / "sip.txt")
    async with (
        softphone(asterisk, "1008", artifacts, trace=ladder, calling=SHORT) as phone,
        await phone.dial("600") as call,
    ):
        assert call.state is CallState.ACTIVE
        agreed = ladder.header("< 200 INVITE", "Session-Expires")
        assert re.fullmatch(r"90;refresher=ua[cs]", agreed)
        assert "timer" in ladder.header("< 200 INVITE", "Require")


async def test_F085_asterisk_demands_reliable_responses_of_a_phone_it_calls(
    asterisk: Asterisk, artifacts: Path
) -> None:
    ladder = Ladder(artifacts / "sip.txt")
    async with (
        softphone(asterisk, "1001", artifacts) as alice,
        softphone(asterisk, "1008", artifacts, register=True, trace=ladder) as dora,
    ):

        @dora.on_incoming
        async def answer(call):  # type: ignore[no-untyped-def]
            await call.ring()
            await call.progress()
            await asyncio.sleep(0.3)
            await call.answer()
            await call.wait_ended()

        async with await alice.dial("1008", timeout=10) as call:
            assert call.state is CallState.ACTIVE
            await asyncio.sleep(0.2)
    assert "100rel" in ladder.header("< INVITE", "Require")
    lines = ladder.lines
    assert lines.count("< PRACK") == lines.count("> 200 PRACK") == 2  # 180 and 183
    assert lines.index("> 183 INVITE") < lines.index("> 200 INVITE")
    assert "Session-Expires" in ladder.text("> 200 INVITE")


@pytest.mark.matrix
@pytest.mark.parametrize("refresher", ["us", "them"])
async def test_F096_a_call_with_asterisk_outlives_its_timer(
    asterisk: Asterisk, artifacts: Path, refresher: str
) -> None:
    """Two minutes of real time: the session would be over after 90 s."""
    ladder = Ladder(artifacts / "sip.txt")
    config = CallConfig(session_expires_s=90, refresher=refresher)  # type: ignore[arg-type]
    async with (
        softphone(asterisk, "1008", artifacts, trace=ladder, calling=config) as phone,
        await phone.dial("600") as call,
    ):
        await asyncio.sleep(120)
        assert call.state is CallState.ACTIVE
    refreshes = [line for line in ladder.lines if line in ("> UPDATE", "< UPDATE", "< INVITE")]
    assert refreshes == (["> UPDATE"] * 2 if refresher == "us" else refreshes[:1] * 2)
    assert len(refreshes) == 2


@pytest.mark.parametrize("left_out", ["reliable", "session_timer"])
async def test_F085_F096_without_them_asterisk_refuses_with_421(
    asterisk: Asterisk, artifacts: Path, left_out: str
) -> None:
    config = CallConfig(**{left_out: "off"})  # type: ignore[arg-type]
    async with softphone(asterisk, "1008", artifacts, calling=config) as phone:
        with pytest.raises(CallError) as refused:
            await phone.dial("600")
    assert refused.value.status == 421


async def test_F012_F094_asterisk_takes_our_changes_with_timers_on(
    asterisk: Asterisk, artifacts: Path
) -> None:
    async with softphone(asterisk, "1008", artifacts, calling=SHORT) as phone:
        call = await phone.dial("600")
        await call.hold()
        assert call.state is CallState.HELD
        await call.resume()
        assert call.state is CallState.ACTIVE
        await call.hangup()
        assert (await ended(call)).by is EndedBy.LOCAL
