"""The embedded PBX as its callers hear it: every number, users, strangers, and nothing left.

Calls take as long as what is heard in them. Those to the numbers go on at once, and each test
awaits its own: `calls` starts them. What users hear of each other is heard in virtual time.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from voip.call import Call
from voip.config import MediaConfig, NetworkConfig
from voip.errors import AuthenticationError, CallError, ConfigError
from voip.events import Answered, CallEnded, CallState, DtmfReceived, EarlyMedia, EndedBy, Ringing
from voip.harness.audio import Sound, is_silence
from voip.harness.grade import Bar, grade_tone, grade_waveform
from voip.harness.pbx import EmbeddedPbx
from voip.phone import Softphone
from voip.sim import World as SimulatedWorld
from voip.sip.endpoint.trace import SipTraceRecord
from voip.sip.event_server import EventConfig
from voip.sip.message import Request, parse_message
from voip.sip.packages.presence import CONTENT_TYPE as PIDF
from voip.sip.packages.presence import Presence, PresenceTuple
from voip.sip.reason import Reason
from voip.sounds import asset_path

pytestmark = [pytest.mark.realtime, pytest.mark.xdist_group("pbx")]

BUSY_MACHINE = Bar(seconds=0.4, allowed=0.4)
"""Sound is judged by what is heard, not by how punctual a machine with other tests was."""
PATIENT = MediaConfig(jitter_min_ms=200.0)
TAIL_S = 0.8
"""What is still on its way when playing has ended lasts less than this."""
MILLIWATT = Sound.sine(1004.0, 1.0, 8000, -6.15)
TONE = Sound.sine(700.0, 1.4, 8000, -20.0)

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


def phone_of(pbx: EmbeddedPbx, user: str = "1001", **options: Any) -> Softphone:
    return Softphone(pbx.uri(user), **{"password": pbx.password(user), "media": PATIENT, **options})


async def refusal(call: Awaitable[object]) -> CallError:
    with pytest.raises(CallError) as raised:
        await call
    return raised.value


async def ended(call: Call) -> CallEnded:
    async with asyncio.timeout(20):
        return await call.wait_ended()


def in_virtual_time(work: Coroutine[Any, Any, None]) -> None:
    """Do it on a simulated host, where nobody waits and no machine is busy."""
    world = SimulatedWorld()
    world.run(work, on=world.host("192.0.2.1"))


# ---------------------------------------------------------------- the numbers


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


# ---------------------------------------------------------------- who may


async def test_users_register_with_digest_and_are_forgotten_when_they_leave() -> None:
    async with EmbeddedPbx() as pbx:
        async with phone_of(pbx) as phone, phone_of(pbx):
            assert phone.registered
            assert len(pbx.contacts("1001")) == 2
            assert f"sip:1001@127.0.0.1:{phone.port}" in pbx.contacts("1001")
        assert pbx.contacts("1001") == []


async def test_a_wrong_password_neither_registers_nor_calls() -> None:
    async with EmbeddedPbx() as pbx:
        message = f"401 twice: wrong password for 1001@{pbx.address}"
        with pytest.raises(AuthenticationError) as raised:
            async with phone_of(pbx, password="guess"):
                pass
        assert str(raised.value) == message
        assert pbx.contacts("1001") == []

        async with phone_of(pbx, password="guess", register=False) as phone:
            assert str(await refusal(phone.dial("600"))) == message


async def test_a_user_cannot_call_as_another() -> None:
    async with EmbeddedPbx() as pbx:
        password = pbx.password("1001")
        async with phone_of(
            pbx, "1002", auth_user="1001", password=password, register=False
        ) as phone:
            assert isinstance(await refusal(phone.dial("600")), AuthenticationError)


async def test_users_are_whom_it_was_given() -> None:
    async with (
        EmbeddedPbx(users={"alice": "wonderland"}) as pbx,
        Softphone(pbx.uri("alice"), password="wonderland") as phone,
    ):
        assert len(pbx.contacts("alice")) == 1
        with pytest.raises(ConfigError):
            pbx.password("1001")
        async with await phone.dial("600") as call:
            assert call.codec == "pcmu"


# ---------------------------------------------------------------- calls between users


@dataclass
class Users:
    """Two users of a PBX; `rung` gets the calls that come to 1002."""

    pbx: EmbeddedPbx
    alice: Softphone
    bob: Softphone
    rung: asyncio.Queue[Call]

    def bob_takes(self, take: Callable[[Call], Awaitable[None]], phone: Softphone | None = None):
        @(phone or self.bob).on_incoming
        async def incoming(call: Call) -> None:
            self.rung.put_nowait(call)
            await take(call)


HOW = ("bridged", "proxied")


@asynccontextmanager
async def users_of(how: str) -> AsyncIterator[Users]:
    async with AsyncExitStack() as stack:
        proxied = how == "proxied"
        pbx = await stack.enter_async_context(EmbeddedPbx(media=PATIENT, proxy=proxied))
        alice = await stack.enter_async_context(phone_of(pbx, "1001", register=False))
        bob = await stack.enter_async_context(phone_of(pbx, "1002"))
        yield Users(pbx, alice, bob, asyncio.Queue())
        await pbx.idle(timeout=15)


@pytest.fixture(params=HOW)
async def users(request: pytest.FixtureRequest) -> AsyncIterator[Users]:
    async with users_of(request.param) as users:
        yield users


@pytest.mark.parametrize("how", HOW)
def test_users_hear_each_other_and_each_others_digits(how: str, tmp_path: Path) -> None:
    in_virtual_time(hear_each_other(how, tmp_path))


async def hear_each_other(how: str, tmp_path: Path) -> None:
    async def take(call: Call) -> None:
        await call.ring()
        await call.answer()
        await call.send_dtmf("9")  # at once: nothing is lost while the caller is connected
        await call.echo()

    async with users_of(how) as users:
        users.bob_takes(take)
        async with await users.alice.dial("1002") as call:
            bobs = await users.rung.get()
            async with call.record(tmp_path / "alice.wav"):
                await call.play(TONE.samples)
                await asyncio.sleep(TAIL_S)
            assert await call.collect(1) == "9"
            await call.send_dtmf("7")
            assert await bobs.collect(1) == "7"

        assert bobs.remote == users.pbx.uri("1001")
        assert Ringing() in [event async for event in call.events()]
        assert (await ended(bobs)).by is EndedBy.REMOTE
        grade_tone(TONE, Sound.read(tmp_path / "alice.wav")).require()


async def test_the_one_who_is_called_may_hang_up(users: Users) -> None:
    users.bob_takes(lambda call: call.answer())
    call = await users.alice.dial("1002")
    await (await users.rung.get()).hangup()

    assert (await ended(call)).by is EndedBy.REMOTE


async def test_why_somebody_hangs_up_or_refuses_reaches_the_other(users: Users) -> None:
    why = {"Reason": 'Q.850;cause=16;text="Terminated"'}
    users.bob_takes(lambda call: call.answer())
    call = await users.alice.dial("1002")
    bobs = await users.rung.get()
    await call.hangup(why)
    await ended(bobs)
    assert bobs.end_reasons == [Reason("Q.850", 16, "Terminated")]

    users.bob_takes(lambda call: call.reject(486, headers={"Reason": "Q.850;cause=17"}))
    mine = await users.alice.dial("1002", wait="started")
    await ended(mine)
    assert mine.end_reasons == [Reason("Q.850", 17)]


async def test_headers_that_concern_the_callee_reach_it(users: Users) -> None:
    users.bob_takes(lambda call: call.reject())
    headers = {"Subject": "tea", "X-Ticket": "7", "P-Asserted-Identity": "<sip:queen@example.org>"}
    await refusal(users.alice.dial("1002", headers=headers))
    bobs = await users.rung.get()
    assert (bobs.headers.get("Subject"), bobs.headers.get("X-Ticket")) == ("tea", "7")
    # whatever stands there now, it is not what the caller has claimed
    assert "queen" not in "".join(bobs.headers.get_all("P-Asserted-Identity"))


@pytest.mark.parametrize("how", HOW)
def test_sound_before_the_answer_is_heard(how: str, tmp_path: Path) -> None:
    in_virtual_time(hear_before_the_answer(how, tmp_path))


async def hear_before_the_answer(how: str, tmp_path: Path) -> None:
    async def take(call: Call) -> None:
        await call.progress()
        await call.play(TONE.samples)
        await asyncio.sleep(TAIL_S)
        await call.reject(486)

    async with users_of(how) as users:
        users.bob_takes(take)
        call = await users.alice.dial("1002", wait="ringing")
        async with call.record(tmp_path / "early.wav"):
            await ended(call)
        assert EarlyMedia() in [event async for event in call.events()]
        grade_tone(TONE, Sound.read(tmp_path / "early.wav")).require()


async def test_nobody_calls_past_the_proxy(users: Users) -> None:
    inner = users.pbx._phone.port
    uri = f"sip:600@127.0.0.1:{inner}"
    async with Softphone("sip:1001@127.0.0.1", register=False) as stranger:
        named = {"P-Asserted-Identity": "<sip:1001@127.0.0.1>"}
        for headers in ({}, named):
            assert (await refusal(stranger.dial(uri, headers=headers))).status == 401


async def test_a_caller_who_gives_up_stops_the_ringing(users: Users) -> None:
    users.bob_takes(ring_on)
    call = await users.alice.dial("1002", wait="ringing")
    await call.hangup()

    end = await ended(await users.rung.get())
    assert (end.by, end.status) == (EndedBy.REMOTE, 487)


@pytest.mark.parametrize(("refused", "told"), [(486, 486), (603, 603), (488, 480)])
async def test_a_refusal_reaches_the_caller(users: Users, refused: int, told: int) -> None:
    users.bob_takes(lambda call: call.reject(refused))

    through_a_proxy = users.pbx._proxy is not None  # which changes nothing
    expected = refused if through_a_proxy else told
    assert (await refusal(users.alice.dial("1002"))).status == expected


async def test_all_places_of_a_user_ring_and_the_first_to_answer_has_the_call(
    users: Users,
) -> None:
    users.bob_takes(ring_on)
    async with phone_of(users.pbx, "1002") as other:
        ringing = asyncio.Event()

        async def take(call: Call) -> None:
            await ringing.wait()
            await call.answer()

        users.bob_takes(take, other)
        dialling = asyncio.ensure_future(users.alice.dial("1002"))
        rung = {await users.rung.get(), await users.rung.get()}
        ringing.set()
        call = await dialling
        ends = [asyncio.ensure_future(ended(one)) for one in rung]
        over, talking = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        assert (len(over), len(talking)) == (1, 1)
        assert over.pop().result().by is EndedBy.REMOTE  # given up, or hung up as soon as answered
        await call.hangup()
        await asyncio.wait(talking)


async def test_a_place_that_is_gone_does_not_keep_others_from_ringing(users: Users) -> None:
    gone = phone_of(users.pbx, "1002")
    async with gone:
        port = gone.port
        gone.unregister_on_close = False  # its line is cut
    assert any(f":{port}" in uri for uri in users.pbx.contacts("1002"))

    users.bob_takes(lambda call: call.answer())
    async with await users.alice.dial("1002") as call:
        assert call.codec == "pcmu"


async def ring_on(call: Call) -> None:
    await call.ring()
    await call.wait_ended()


# ---------------------------------------------------------------- robustness


@pytest.mark.parametrize("number", ["600", "606", "609"])
async def test_who_is_cancelled_while_dialling_leaves_no_call_on_either_side(number: str) -> None:
    """With each message, as it goes or comes: INVITE, 401, ACK, INVITE, and what is answered."""
    seen: Counter[str] = Counter()
    dialling: asyncio.Future[Call]

    def cancel_in_time(record: SipTraceRecord) -> None:
        call_id = parse_message(record.data).call_id
        seen[call_id] += 1
        if seen[call_id] == len(seen) == moment:
            dialling.cancel()

    async with (
        EmbeddedPbx() as pbx,
        phone_of(pbx, register=False, trace=cancel_in_time) as phone,
    ):
        moment, cancelled = 0, True
        while cancelled:
            moment += 1
            dialling = asyncio.ensure_future(phone.dial(number, wait="ringing"))
            await asyncio.wait({dialling})
            cancelled = dialling.cancelled()
            if not cancelled:
                await dialling.result().hangup()
            async with asyncio.timeout(10):
                while phone.calls:
                    await phone.calls[0].wait_ended()
            await pbx.idle()

    assert moment > 5  # it went through all of them


async def test_it_is_idle_when_nothing_is_left_of_a_user_it_stopped_calling(users: Users) -> None:
    (contact,) = users.pbx.contacts("1002")
    dialling = asyncio.ensure_future(users.pbx._dial(contact, "1001", []))
    while not users.pbx.calls():
        await asyncio.sleep(0)
    dialling.cancel()

    await users.pbx.idle()
    assert users.pbx.calls() == 0


def test_options_of_the_proxy_want_a_proxy() -> None:
    for options in ({"max_redirects": 1}, {"hides_users": False}, {"events": EventConfig()}):
        with pytest.raises(ConfigError, match="proxy"):
            EmbeddedPbx(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(("max_redirects", "answered"), [(0, False), (1, True)])
def test_its_proxy_follows_phones_that_send_calls_on(max_redirects: int, answered: bool) -> None:
    async def work() -> None:
        async with EmbeddedPbx("192.0.2.1", proxy=True, max_redirects=max_redirects) as pbx:
            own = NetworkConfig(bind_host="192.0.2.1", bind_port=0)
            async with (
                phone_of(pbx, "1001", network=own) as alice,
                phone_of(pbx, "1002", network=own) as bob,
            ):
                bob.on_incoming(lambda call: call.redirect(pbx.uri("600")))
                if answered:
                    async with await alice.dial("1002", redirect=False) as call:
                        assert call.state is CallState.ACTIVE
                else:
                    assert (await refusal(alice.dial("1002", redirect=False))).status == 302

    in_virtual_time(work())


@pytest.mark.parametrize("hides_users", [True, False])
def test_its_proxy_tells_strangers_who_is_there_where_it_may(hides_users: bool) -> None:
    async def work() -> None:
        async with EmbeddedPbx("192.0.2.1", proxy=True, hides_users=hides_users) as pbx:
            own = NetworkConfig(bind_host="192.0.2.1", bind_port=0)
            async with Softphone("sip:x@elsewhere.example", register=False, network=own) as x:
                found = [(await refusal(x.dial(pbx.uri(who)))).status for who in ("1001", "999")]
                assert found == ([480, 480] if hides_users else [480, 404])

    in_virtual_time(work())


def test_its_users_publish_presence_and_watch_it() -> None:
    async def work() -> None:
        async with EmbeddedPbx("192.0.2.1", proxy=True) as pbx:
            assert pbx.proxy is not None
            own = NetworkConfig(bind_host="192.0.2.1", bind_port=0)
            async with (
                phone_of(pbx, "1001", network=own) as alice,
                phone_of(pbx, "1002", network=own) as bob,
                await alice.watch("1002", "presence") as watch,
            ):
                told = watch.notifications()
                assert not (await anext(told)).value.open
                here = Presence(pbx.uri("1002"), (PresenceTuple("t", True),)).to_bytes()
                async with await bob.publish("presence", here, PIDF):
                    assert (await anext(told)).value.open
                assert not (await anext(told)).value.open

    in_virtual_time(work())


async def test_nothing_is_left_running_even_when_it_closes_during_calls() -> None:
    threads, tasks = threading.active_count(), len(asyncio.all_tasks())
    async with AsyncExitStack() as stack:
        phone = await stack.enter_async_context(Softphone("sip:1001@127.0.0.1", register=False))
        async with EmbeddedPbx() as pbx:
            caller = await stack.enter_async_context(phone_of(pbx, register=False))
            ringing = await caller.dial("609", wait="ringing")
            calls = [await caller.dial(number) for number in ("600", "601", "604", "612")]
            assert pbx.calls() == 5
        ends = [await ended(call) for call in calls]
        assert [end.by for end in ends] == [EndedBy.REMOTE] * 4
        assert (await ended(ringing)).status == 603
        assert phone.calls == caller.calls == []

    assert (threading.active_count(), len(asyncio.all_tasks())) == (threads, tasks)


async def test_strangers_messages_are_answered_or_dropped() -> None:
    loop = asyncio.get_running_loop()
    answers: asyncio.Queue[bytes] = asyncio.Queue()

    class Stranger(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: object) -> None:
            answers.put_nowait(data)

    async with EmbeddedPbx() as pbx:
        transport, _ = await loop.create_datagram_endpoint(
            Stranger, remote_addr=(pbx.host, pbx.port)
        )
        try:
            rng = np.random.default_rng(1)
            for _ in range(30):  # fewer than a stranger may send at once
                transport.sendto(rng.bytes(int(rng.integers(1, 300))))
            for from_, authorization in (
                ("<tel:+15551234>", ""),
                ("<sip:1001@x>", "Digest nonsense"),
                ("<sip:1001@x>", 'Digest username="1001", realm="voip", nonce="", uri="", '
                 'response=""'),
            ):  # fmt: skip
                transport.sendto(invite(pbx, from_, authorization))
                async with asyncio.timeout(5):
                    assert (await answers.get()).startswith(b"SIP/2.0 401 ")
        finally:
            transport.close()
        async with phone_of(pbx) as phone:
            assert phone.registered


def invite(pbx: EmbeddedPbx, from_: str, authorization: str) -> bytes:
    request = Request("INVITE", pbx.uri("600"))
    branch = f"z9hG4bK{abs(hash((from_, authorization)))}"
    for name, value in (
        ("Via", f"SIP/2.0/UDP 127.0.0.1:9;branch={branch};rport"),
        ("From", f"{from_};tag=1"),
        ("To", f"<{pbx.uri('600')}>"),
        ("Call-ID", branch),
        ("CSeq", "1 INVITE"),
        ("Contact", "<sip:stranger@127.0.0.1:9>"),
        ("Max-Forwards", "70"),
        ("Content-Length", "0"),
    ):
        request.headers.add(name, value)
    if authorization:
        request.headers.add("Authorization", authorization)
    return request.to_bytes()
