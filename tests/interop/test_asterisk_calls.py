"""How calls begin and end at Asterisk, and between two phones through it."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from callers import answering
from peers.asterisk import Asterisk
from phones import (
    TAIL_S,
    echo_of,
    ended,
    require_speech,
    shipped,
    softphone,
    until,
)
from stalls import repeated_after_stalls

from voip.call import Call
from voip.errors import AuthenticationError, CallError, NoAnswerError
from voip.events import CallEnded, CallState, EndedBy, Ringing
from voip.harness.audio import Sound
from voip.sip.endpoint.trace import SipTraceRecord

REFUSALS = {
    "607": (486, "busy here (486)"),
    "608": (503, "service unavailable (503)"),
    "999": (404, "not found (404)"),
}


async def test_F014_refusals_say_why(asterisk: Asterisk, artifacts: Path) -> None:
    async with softphone(asterisk, "1001", artifacts) as phone:
        errors = await asyncio.gather(
            *(phone.dial(number) for number in REFUSALS), return_exceptions=True
        )
        assert phone.calls == []
    found = {
        number: (error.status, str(error)) if isinstance(error, CallError) else error
        for number, error in zip(REFUSALS, errors, strict=True)
    }
    assert found == REFUSALS
    await asterisk.idle()


async def test_a_wrong_or_missing_password_is_named(asterisk: Asterisk, artifacts: Path) -> None:
    async with (
        softphone(asterisk, "1001", artifacts, password="secret1002") as wrong,
        softphone(asterisk, "1002", artifacts, password=None) as missing,
    ):
        with pytest.raises(AuthenticationError, match="401 twice: wrong password for 1001@") as no:
            await wrong.dial("600")
        assert no.value.status == 401
        with pytest.raises(AuthenticationError, match="401 but no password was given for 1002@"):
            await missing.dial("600")
    assert asterisk.calls() == 0


async def test_F013_what_nobody_answers_is_cancelled(asterisk: Asterisk, artifacts: Path) -> None:
    mark = asterisk.mark()
    async with softphone(asterisk, "1001", artifacts) as phone:
        ringing = await phone.dial("609", wait="ringing")
        assert ringing.state is CallState.RINGING
        with pytest.raises(NoAnswerError, match=r"no answer in 0\.5 s"):
            await phone.dial("609", timeout=0.5)
        await ringing.hangup()
        assert ringing.ended is not None
        assert ringing.ended.by is EndedBy.LOCAL
        assert [event async for event in ringing.events()] == [Ringing(), ringing.ended]
    await asterisk.idle()
    log = asterisk.log_since(mark)
    assert len(re.findall(r"^CANCEL sip:609@", log, re.MULTILINE)) == 2
    assert len(re.findall(r"^SIP/2.0 487 ", log, re.MULTILINE)) == 2
    assert not re.search(r"^BYE ", log, re.MULTILINE)


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_610_hangs_up(asterisk: Asterisk, artifacts: Path, transport: str) -> None:
    async with softphone(asterisk, "1001", artifacts, transport=transport) as phone:
        call = await phone.dial("610")
        assert call.state is CallState.ACTIVE
        assert await ended(call) == CallEnded(EndedBy.REMOTE, "hung up by the other side")
        assert phone.calls == []


@repeated_after_stalls
async def test_a_call_over_tcp(asterisk: Asterisk, artifacts: Path) -> None:
    prompt = shipped("prompt-8k.wav")
    seen: list[SipTraceRecord] = []
    async with softphone(asterisk, "1001", artifacts, trace=seen.append) as phone:
        async with await phone.dial(f"{asterisk.uri('600')};transport=tcp") as call:
            await call.hold()
            await call.resume()
            require_speech(prompt, await echo_of(call, prompt, artifacts / "echo.wav"))
        assert call.ended == CallEnded(EndedBy.LOCAL, "hung up", 200)
    assert {record.flow.transport for record in seen} == {"tcp"}
    requests = [record.data.split(b" ", 1)[0].decode() for record in seen if record.sent]
    assert requests == ["INVITE", "ACK"] * 4 + ["BYE"]  # refused, with digest, hold, resume


@repeated_after_stalls
async def test_F006_F084_two_phones_hear_each_other_through_asterisk(
    asterisk: Asterisk, artifacts: Path
) -> None:
    speech, prompt = shipped("speech-8k.wav"), shipped("prompt-8k.wav")
    async with (
        softphone(asterisk, "1001", artifacts, register=True, codecs=("pcmu",)) as alice,
        softphone(asterisk, "1002", artifacts, register=True, codecs=("pcma",)) as bob,
    ):
        answered = answering(bob)
        outgoing = await alice.dial("1002")
        incoming = await answered.get()
        assert re.match("sip:1001@", incoming.remote)
        assert incoming.remote_name == "Alice"
        assert (outgoing.codec, incoming.codec) == ("pcmu", "pcma")

        async with (
            outgoing.record(artifacts / "alice.wav"),
            incoming.record(artifacts / "bob.wav"),
        ):
            await asyncio.gather(outgoing.play(speech.samples), incoming.play(prompt.samples))
            await asyncio.sleep(TAIL_S)
        await asyncio.gather(outgoing.send_dtmf("19*"), incoming.send_dtmf("#0"))
        assert await incoming.collect(3, timeout=3, terminator=None) == "19*"
        assert await outgoing.collect(2, timeout=3, terminator=None) == "#0"
        await incoming.hangup()
        assert (await ended(outgoing)).by is EndedBy.REMOTE

    require_speech(speech, Sound.read(artifacts / "bob.wav"), what="Bob hears")
    require_speech(prompt, Sound.read(artifacts / "alice.wav"), what="Alice hears")


async def test_F013_F014_a_phone_refuses_and_a_caller_gives_up(
    asterisk: Asterisk, artifacts: Path
) -> None:
    async with (
        softphone(asterisk, "1001", artifacts) as alice,
        softphone(asterisk, "1002", artifacts, register=True) as bob,
    ):
        bob.on_incoming(lambda call: call.reject(486))
        with pytest.raises(CallError, match="busy here") as busy:
            await alice.dial("1002")
        assert busy.value.status == 486

        rung: list[Call] = []

        @bob.on_incoming
        async def ring(call: Call) -> None:
            rung.append(call)
            await call.ring()
            await call.wait_ended()

        call = await alice.dial("1002", wait="ringing")
        assert call.state is CallState.RINGING
        await until(lambda: bool(rung), "Bob's phone to ring")
        await call.hangup()
        end = await ended(rung[0])
        assert (end.by, end.status) == (EndedBy.REMOTE, 487)


async def test_one_of_two_phones_of_an_account_answers_and_the_other_stops_ringing(
    asterisk: Asterisk, artifacts: Path
) -> None:
    async with (
        softphone(asterisk, "1001", artifacts) as alice,
        softphone(asterisk, "1002", artifacts, register=True) as desk,
        softphone(asterisk, "1002", artifacts / "mobile", register=True) as mobile,
    ):
        ringing: asyncio.Queue[Call] = asyncio.Queue()

        @mobile.on_incoming
        async def ring(call: Call) -> None:
            await call.ring()
            ringing.put_nowait(call)
            await call.wait_ended()

        @desk.on_incoming
        async def answer(call: Call) -> None:
            await call.ring()
            ringing.put_nowait(await ringing.get())  # answered when the other one rings, too
            await call.answer()

        async with await alice.dial("1002", timeout=10) as call:
            other = await ringing.get()
            end = await ended(other)
            assert (end.by, end.status) == (EndedBy.REMOTE, 487)
            assert call.state is CallState.ACTIVE
