"""The embedded PBX between its users, bridged or by its proxy.

What they hear of each other is heard in virtual time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from pbx_callers import PATIENT, TAIL_S, TONE, ended, in_virtual_time, phone_of, refusal

from voip.call import Call
from voip.events import EarlyMedia, EndedBy, Ringing
from voip.harness.audio import Sound
from voip.harness.grade import grade_tone
from voip.harness.pbx import EmbeddedPbx
from voip.phone import Softphone
from voip.sip.reason import Reason

pytestmark = [pytest.mark.realtime, pytest.mark.xdist_group("pbx")]


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


async def test_it_is_idle_when_nothing_is_left_of_a_user_it_stopped_calling(users: Users) -> None:
    (contact,) = users.pbx.contacts("1002")
    dialling = asyncio.ensure_future(users.pbx._dial(contact, "1001", []))
    while not users.pbx.calls():
        await asyncio.sleep(0)
    dialling.cancel()

    await users.pbx.idle()
    assert users.pbx.calls() == 0
