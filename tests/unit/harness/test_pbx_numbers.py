"""The embedded PBX as its callers hear it: every number.

Calls take as long as what is heard in them. They go on at once, and each test awaits its own:
`calls` starts them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from pbx_callers import PATIENT, TAIL_S, TONE, ended, in_virtual_time, phone_of, refusal

from voip.call import Call
from voip.events import Answered, CallEnded, CallState, DtmfReceived, EarlyMedia, EndedBy, Ringing
from voip.harness.audio import Sound, is_silence
from voip.harness.grade import Bar, grade_tone, grade_waveform
from voip.harness.pbx import EmbeddedPbx
from voip.phone import Softphone
from voip.sounds import asset_path

pytestmark = [pytest.mark.realtime, pytest.mark.xdist_group("pbx")]

BUSY_MACHINE = Bar(seconds=0.4, allowed=0.4)
"""Sound is judged by what is heard, not by how punctual a machine with other tests was."""
MILLIWATT = Sound.sine(1004.0, 1.0, 8000, -6.15)

Scenario = Callable[["World"], Awaitable[None]]
NUMBERS: dict[str, Scenario] = {}


@dataclass
class World:
    """A PBX, a caller of it, and a directory for recordings."""

    pbx: EmbeddedPbx
    phone: Softphone
    path: Path

    async def dial(self, number: str, **options: Any) -> Call:
        return await self.phone.dial(number, **options)


def requirement(scenario: Scenario) -> Scenario:
    NUMBERS[scenario.__name__] = scenario
    return scenario


def shipped(name: str) -> Sound:
    with asset_path(name) as path:
        return Sound.read(path)


@requirement
async def number_600_sends_back_what_it_hears(world: World) -> None:
    heard = world.path / "600.wav"
    async with await world.dial("600") as call, call.record(heard):
        await call.play(TONE.samples)
        await asyncio.sleep(TAIL_S)

    grade_tone(TONE, Sound.read(heard), bar=BUSY_MACHINE).require()


@requirement
async def number_601_is_a_milliwatt_of_1004_hz(world: World) -> None:
    heard = world.path / "601.wav"
    async with await world.dial("601") as call, call.record(heard):
        await asyncio.sleep(2.3)  # longer than the second of tone that is sent again and again

    grade = grade_tone(MILLIWATT, Sound.read(heard), bar=BUSY_MACHINE).require()
    assert grade.seconds > 1.5
    assert grade.gain_db == pytest.approx(0.0, abs=0.3)


@requirement
async def number_603_says_its_prompt_and_hangs_up(world: World) -> None:
    heard = world.path / "603.wav"
    async with await world.dial("603") as call, call.record(heard):
        end = await ended(call)

    assert end.by is EndedBy.REMOTE
    prompt = shipped("prompt-8k.wav")
    grade_waveform(prompt, Sound.read(heard), bar=BUSY_MACHINE).require()


@requirement
async def number_604_beeps_and_reads_four_digits(world: World) -> None:
    heard = world.path / "604.wav"
    async with await world.dial("604") as call, call.record(heard):
        await asyncio.sleep(1.6)
        await call.send_dtmf("4711")
        digits = await world.pbx.digits("1001")
        end = await ended(call)

    assert digits == "4711"
    assert end.by is EndedBy.REMOTE
    beep = shipped("enter-digits-8k.wav")
    grade_waveform(beep, Sound.read(heard), bar=BUSY_MACHINE).require()


@requirement
async def number_605_presses_its_digits_150_ms_each_and_hangs_up(world: World) -> None:
    async with await world.dial("605") as call:
        end = await ended(call)

    assert end.by is EndedBy.REMOTE
    digits = [event async for event in call.events() if isinstance(event, DtmfReceived)]
    assert "".join(event.digit for event in digits) == "1234*0#"
    assert {event.duration_ms for event in digits} == {150.0}


@requirement
async def number_606_speaks_before_it_answers_and_echoes_then(world: World) -> None:
    early, late = world.path / "606-early.wav", world.path / "606-late.wav"
    async with await world.dial("606", wait="ringing") as call:
        async with call.record(early):
            await call.wait_answered()
        async with call.record(late):
            await call.play(TONE.samples)
            await asyncio.sleep(TAIL_S)

    told = [type(event) async for event in call.events()]
    assert told.index(EarlyMedia) < told.index(Answered)
    assert Ringing not in told
    prompt = shipped("prompt-8k.wav")
    grade_waveform(prompt, Sound.read(early), bar=BUSY_MACHINE).require()
    grade_tone(TONE, Sound.read(late), bar=BUSY_MACHINE).require()


@requirement
async def number_607_is_busy(world: World) -> None:
    error = await refusal(world.dial("607"))

    assert (error.status, str(error)) == (486, "busy here (486)")


@requirement
async def number_608_has_no_circuit(world: World) -> None:
    assert (await refusal(world.dial("608"))).status == 503


@requirement
async def number_609_rings_until_the_caller_gives_up(world: World) -> None:
    call = await world.dial("609", wait="ringing")
    await call.hangup()

    assert [type(event) async for event in call.events()] == [Ringing, CallEnded]
    assert call.ended is not None
    assert call.ended.by is EndedBy.LOCAL


@requirement
async def number_610_answers_and_hangs_up(world: World) -> None:
    async with await world.dial("610") as call:
        end = await ended(call)

    assert end.by is EndedBy.REMOTE


@requirement
async def a_number_there_is_not_is_refused(world: World) -> None:
    assert (await refusal(world.dial("999"))).status == 404


@requirement
async def a_user_who_has_not_registered_is_not_available(world: World) -> None:
    assert (await refusal(world.dial("1002"))).status == 480


@requirement
async def nobody_is_called_because_a_caller_says_so(world: World) -> None:
    async with await world.dial("600") as call:
        assert (await refusal(call.transfer("sip:somebody@192.0.2.9"))).status == 603
        assert call.state is CallState.ACTIVE


@requirement
async def digits_are_heard_whatever_the_number(world: World) -> None:
    before = world.pbx.mark()
    async with await world.dial("600") as call:
        await call.send_dtmf("*9D")
        await asyncio.sleep(TAIL_S)

    since = world.pbx.heard_digits(before)
    channels = {item.channel for item in since if item.digit in "*9D"}
    assert len(channels) == 1
    assert "1001" in channels.pop()
    assert "".join(item.digit for item in since if item.digit in "*9D") == "*9D"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def calls(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[dict[str, asyncio.Task[None]]]:
    """Every scenario, under way."""

    async def carry_out(scenario: Scenario, world: World) -> None:
        await scenario(world)

    async with EmbeddedPbx(media=PATIENT) as pbx, phone_of(pbx, register=False) as phone:
        world = World(pbx, phone, tmp_path_factory.mktemp("pbx"))
        tasks = {
            name: asyncio.create_task(carry_out(scenario, world))
            for name, scenario in NUMBERS.items()
        }
        yield tasks
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
        await pbx.idle(timeout=15)
        assert pbx.calls() == 0


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("scenario", NUMBERS)
async def test_pbx(calls: dict[str, asyncio.Task[None]], scenario: str) -> None:
    await calls[scenario]


def test_612_records_and_echoes_and_614_records_in_silence(tmp_path: Path) -> None:
    in_virtual_time(record_612_and_614(tmp_path))


async def record_612_and_614(tmp_path: Path) -> None:
    async def call(number: str) -> None:
        async with await phone.dial(number) as call, call.record(tmp_path / f"{number}-us.wav"):
            await call.play(TONE.samples)
            await asyncio.sleep(TAIL_S)

    (tmp_path / "pbx").mkdir()
    recordings = tmp_path / "pbx"
    async with (
        EmbeddedPbx(recordings=recordings, media=PATIENT) as pbx,
        phone_of(pbx, register=False) as phone,
    ):
        await asyncio.gather(call("612"), call("614"))
        recorded = {number: await pbx.recording(number) for number in ("612", "614")}
        with pytest.raises(FileNotFoundError):
            await pbx.recording("613")

    for path in recorded.values():
        assert path.parent == recordings
        grade_tone(TONE, Sound.read(path)).require()
    grade_tone(TONE, Sound.read(tmp_path / "612-us.wav")).require()
    assert is_silence(Sound.read(tmp_path / "614-us.wav"))
