"""Transfers, parking, mail that waits and lamps at Asterisk."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
from callers import answering
from direct import Ladder
from peers.asterisk import Asterisk
from phones import TAIL_S, echo_of, require_speech, shipped, softphone, until
from stalls import repeated_after_stalls

from voip.call import Call
from voip.events import CallState, MessageWaiting, TransferProgress, Transferred
from voip.harness.audio import Sound
from voip.phone import Softphone
from voip.watching import Watch

PATIENCE_S = 15
BEEP_S = 1.5
"""How long it takes until a mailbox records: it beeps."""


async def hears_1004_hz(call: Call) -> bool:
    """Whether a second of what is heard has its peak at the tone of 601."""
    async with call.audio() as reader:
        heard = await reader.read(1.0)
    spectrum = np.abs(np.fft.rfft(heard[: call.rate].astype(float)))
    return abs(int(np.argmax(spectrum)) - 1004) <= 3 and float(np.max(spectrum)) > 1e5


async def bridged(alice: Softphone, bob: Softphone) -> tuple[Call, Call]:
    """Let Alice call Bob, and wait until Asterisk has joined the two.

    Before, it answers a REFER with 202 and then 400.
    """
    calls = answering(bob)
    call = await alice.dial("1002")
    theirs = await calls.get()
    await until(lambda: call.stats.packets_received > 0, "sound from the other phone")
    return call, theirs


async def one_more(watch: Watch, before: int) -> None:
    """Wait until one more message waits than before."""
    async with asyncio.timeout(PATIENCE_S):
        async for told in watch.notifications():
            if told.value is not None and told.value.of().new == before + 1:
                break


async def until_it_hears(call: Call) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not await hears_1004_hz(call):
            pass


async def test_F020_a_blind_transfer_connects_the_other_phone_with_a_number(
    asterisk: Asterisk, artifacts: Path
) -> None:
    async with (
        softphone(asterisk, "1001", artifacts) as alice,
        softphone(asterisk, "1002", artifacts, register=True) as bob,
    ):
        call, theirs = await bridged(alice, bob)
        await call.transfer("601")
        assert call.state is CallState.ENDED
        progress = [e.status for e in call._events if isinstance(e, TransferProgress)]
        assert progress[-1] == 200
        await until_it_hears(theirs)
        await theirs.hangup()
    await asterisk.idle()


async def test_F021_an_attended_transfer_joins_both_calls(
    asterisk: Asterisk, artifacts: Path
) -> None:
    """Both calls are to one phone, which hears in one of them what it says in the other."""
    async with (
        softphone(asterisk, "1001", artifacts) as alice,
        softphone(asterisk, "1002", artifacts, register=True) as bob,
    ):
        calls = answering(bob)
        first = await alice.dial("1002")
        his_first = await calls.get()
        await first.hold()
        second = await alice.dial("1002")
        his_second = await calls.get()
        await first.transfer(second)
        assert first.state is second.state is CallState.ENDED
        prompt = shipped("prompt-8k.wav")
        async with his_second.record(artifacts / "heard.wav"):
            await his_first.play(prompt.samples)
            await asyncio.sleep(TAIL_S)
        require_speech(prompt, Sound.read(artifacts / "heard.wav"), what="across both calls")
        await his_first.hangup()
        async with asyncio.timeout(PATIENCE_S):
            await his_second.wait_ended()
    await asterisk.idle()


async def test_F020_a_server_that_refers_us_is_followed(
    asterisk: Asterisk, artifacts: Path
) -> None:
    async with softphone(asterisk, "1001", artifacts) as alice:
        call = await alice.dial("613")
        async with asyncio.timeout(PATIENCE_S):
            while not [e for e in call._events if isinstance(e, Transferred)]:
                await asyncio.sleep(0.05)
        (event,) = [e for e in call._events if isinstance(e, Transferred)]
        new: Call = event.call
        assert new.remote == asterisk.uri("600")
        await call.wait_ended()
        prompt = shipped("prompt-8k.wav")
        require_speech(
            prompt, await echo_of(new, prompt, artifacts / "heard.wav"), what="after the transfer"
        )
        await new.hangup()
    await asterisk.idle()


async def test_F031_a_call_is_parked_and_picked_up_by_another_phone(
    asterisk: Asterisk, artifacts: Path
) -> None:
    async with (
        softphone(asterisk, "1001", artifacts) as alice,
        softphone(asterisk, "1002", artifacts, register=True) as bob,
    ):
        call, theirs = await bridged(alice, bob)
        await call.transfer("750")
        async with asyncio.timeout(PATIENCE_S):
            while "751" not in asterisk.cli("parking show default"):
                await asyncio.sleep(0.1)
        picked_up = await alice.dial("751")
        await asyncio.sleep(0.5)
        assert theirs.state is CallState.ACTIVE
        await picked_up.hangup()
        async with asyncio.timeout(PATIENCE_S):
            await theirs.wait_ended()
    await asterisk.idle()


async def test_F102_mail_is_told_to_who_watches_and_to_who_is_registered(
    asterisk: Asterisk, artifacts: Path
) -> None:
    async with (
        softphone(asterisk, "1001", artifacts) as alice,
        softphone(asterisk, "1002", artifacts, register=True) as bob,
    ):
        async with await alice.watch(None, "message-summary") as watch:
            before = watch.latest.value.of().new
            for number in ("901", "902"):
                call = await alice.dial(number)
                await call.play(shipped("prompt-8k.wav").samples)
                await call.hangup()
            await one_more(watch, before)
            assert watch.latest.value.waiting
            async with asyncio.timeout(PATIENCE_S):
                async for event in bob.events():
                    if isinstance(event, MessageWaiting) and event.waiting:
                        break
        assert watch.state == "terminated"
    await asterisk.idle()


@repeated_after_stalls
async def test_F102_mail_that_is_left_is_told_of_and_is_what_was_said(
    asterisk: Asterisk, artifacts: Path
) -> None:
    prompt = shipped("prompt-8k.wav")
    async with (
        softphone(asterisk, "1001", artifacts) as alice,
        await alice.watch(None, "message-summary") as watch,
    ):
        before = watch.latest.value.of().new
        call = await alice.dial("901")
        await asyncio.sleep(BEEP_S)
        await call.play(prompt.samples)
        await asyncio.sleep(TAIL_S)
        await call.hangup()
        await one_more(watch, before)
    require_speech(prompt, Sound.read(await asterisk.mail("1001")), what="in the mailbox")


async def test_F012_F017_asterisk_tells_by_reinvite_what_the_other_side_holds(
    asterisk: Asterisk, artifacts: Path
) -> None:
    ladder = Ladder(artifacts / "erin.sip")
    async with (
        softphone(asterisk, "1001", artifacts) as alice,
        softphone(asterisk, "1009", artifacts, register=True, trace=ladder) as erin,
    ):
        calls = answering(erin)
        call = await alice.dial("1009")
        theirs = await calls.get()
        await call.hold()
        await until(lambda: theirs.state is CallState.HELD, "Erin to be told of the hold")
        await call.resume()
        await until(lambda: theirs.state is CallState.ACTIVE, "Erin to be told that it is over")
        await theirs.hold()
        await theirs.resume()
        await call.hangup()
        async with asyncio.timeout(PATIENCE_S):
            await theirs.wait_ended()
    lines = ladder.lines
    assert (lines.count("< INVITE"), lines.count("> INVITE")) == (3, 2)
    assert lines.count("> 200 INVITE") == 3
    await asterisk.idle()


async def test_F104_a_lamp_follows_another_phone(asterisk: Asterisk, artifacts: Path) -> None:
    async with (
        softphone(asterisk, "1001", artifacts) as alice,
        softphone(asterisk, "1002", artifacts, register=True) as bob,
        await alice.watch("1002", "dialog") as watch,
    ):
        assert watch.state == "active"
        call = await bob.dial("600")
        async with asyncio.timeout(PATIENCE_S):
            while not [one for one in watch.dialogs if one.state == "confirmed"]:
                await asyncio.sleep(0.05)
        await call.hangup()
        async with asyncio.timeout(PATIENCE_S):
            while watch.dialogs:
                await asyncio.sleep(0.05)
    await asterisk.idle()
