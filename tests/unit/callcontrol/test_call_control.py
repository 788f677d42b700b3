"""Services of a phone between our own agents (RFC 5359), without loss and with 20 %."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from callers import answering
from phone_scene import Network, flow, in_virtual_time, quiet, uri

from voip.answering import Answering, Intercom, intercom
from voip.call import Call
from voip.config import CallConfig
from voip.errors import CallError, ConfigError, NoAnswerError
from voip.events import CallState, Replaced
from voip.phone import Softphone
from voip.sip.headers import NameAddr
from voip.sip.message import Request, Response, parse_message
from voip.sip.retargeting import diversions, history


async def reached(phone: Softphone, target: str) -> Call:
    """Call somebody, and whomever a 302 names instead, as a proxy would (RFC 5359 section 2.7)."""
    for _ in range(10):
        call = await phone.dial(target, wait="started")
        await call._session.settled()
        if call.ended is None:
            return call
        await call.wait_ended()
        if call.ended.status != 302:
            raise CallError(call.ended.reason, status=call.ended.status)
        target = NameAddr.parse(call.headers.get("Contact") or "").uri
    raise CallError("a loop")


def redirections(net: Network) -> list[Response]:
    found = {m.to.tag: m for _, m, _ in net.wire if isinstance(m, Response) and m.status == 302}
    return list(found.values())


# ---------------------------------------------------------------- forwarding


@flow
async def test_F023_F130_call_forwarding_unconditional(net: Network) -> None:
    alice, carol = net.phone("alice"), net.phone("carol")
    bob = net.phone("bob", answering=Answering(forward_always=uri(carol)))
    async with alice, bob, carol:
        to_bob, to_carol = answering(bob), answering(carol)
        call = await reached(alice, uri(bob))
        assert (await to_carol.get()).remote == uri(alice)
        assert to_bob.empty()
        (told,) = redirections(net)
        (diversion,) = diversions(told.headers)
        assert (diversion.address.uri, diversion.reason) == (uri(bob), "unconditional")
        came, goes = history(told.headers)
        assert (came.address.uri.partition("?")[0], came.index) == (uri(bob), (1,))
        assert (goes.address.uri, goes.index, goes.mp) == (uri(carol), (1, 1), (1,))
        assert came.reasons[0].cause == 302
        (invite,) = net.requests("INVITE", to=carol)
        assert diversions(invite.headers) == diversions(told.headers)
        assert history(invite.headers) == history(told.headers)
        await call.hangup()
        await quiet(alice, bob, carol)


@flow
async def test_F024_call_forwarding_busy(net: Network) -> None:
    alice, carol, dave = net.phone("alice"), net.phone("carol"), net.phone("dave")
    rules = Answering(busy_at=1, forward_busy=uri(carol))
    bob = net.phone("bob", answering=rules)
    async with alice, bob, carol, dave:
        to_bob, to_carol = answering(bob), answering(carol)
        first = await reached(dave, uri(bob))
        await to_bob.get()
        second = await reached(alice, uri(bob))
        assert (await to_carol.get()).remote == uri(alice)
        assert diversions(redirections(net)[0].headers)[0].reason == "user-busy"
        bob.answering = Answering(busy_at=1)
        with pytest.raises(CallError) as busy:
            await alice.dial(uri(bob))
        assert busy.value.status == 486
        await first.hangup()
        await second.hangup()
        await quiet(alice, bob, carol, dave)


@flow
async def test_F025_call_forwarding_no_answer(net: Network) -> None:
    alice, carol = net.phone("alice"), net.phone("carol")
    bob = net.phone("bob", answering=Answering(forward_no_answer=uri(carol), no_answer_s=12))
    async with alice, bob, carol:

        @bob.on_incoming
        async def rings(call: Call) -> None:
            await call.ring()
            await call.wait_ended()

        to_carol = answering(carol)
        call = await reached(alice, uri(bob))
        await to_carol.get()
        assert diversions(redirections(net)[0].headers)[0].reason == "no-answer"
        assert history(redirections(net)[0].headers)[0].reasons[0].cause == 408
        await call.hangup()
        await quiet(alice, bob, carol)


@flow
async def test_F025_a_call_that_is_answered_in_time_is_not_sent_on(net: Network) -> None:
    alice, carol = net.phone("alice"), net.phone("carol")
    bob = net.phone("bob", answering=Answering(forward_no_answer=uri(carol), no_answer_s=12))
    async with alice, bob, carol:
        to_bob = answering(bob, after=5)
        call = await reached(alice, uri(bob))
        await to_bob.get()
        await asyncio.sleep(60)
        assert call.state is CallState.ACTIVE
        await call.hangup()
        await quiet(alice, bob, carol)


@flow
async def test_F028_find_me_one_phone_after_the_other(net: Network) -> None:
    alice, mobile = net.phone("alice"), net.phone("mobile")
    home = net.phone("home", answering=Answering(forward_no_answer=uri(mobile), no_answer_s=8))
    desk = net.phone("desk", answering=Answering(forward_no_answer=uri(home), no_answer_s=8))
    async with alice, desk, home, mobile:
        for phone in (desk, home):

            @phone.on_incoming
            async def rings(call: Call) -> None:
                await call.ring()
                await call.wait_ended()

        to_mobile = answering(mobile, after=2)
        call = await reached(alice, uri(desk))
        assert (await to_mobile.get()).remote == uri(alice)
        assert len(redirections(net)) == 2
        await call.hangup()
        await quiet(alice, desk, home, mobile)


def test_F130_a_call_that_was_sent_on_too_often_goes_round_in_circles() -> None:
    async def run(net: Network) -> None:
        alice = net.phone("alice")
        bob = net.phone("bob", answering=Answering(forward_always="sip:carol@192.0.2.9"))
        async with alice, bob:
            again = [("Diversion", f"<sip:x{n}@y>;reason=unconditional") for n in range(3)]
            call = await alice.dial(uri(bob), wait="started", headers=again)
            await call.wait_ended()
            assert len(diversions(call.headers)) == 4
            again.append(("Diversion", "<sip:x9@y>;reason=unconditional;counter=2"))
            with pytest.raises(CallError) as loop:
                await alice.dial(uri(bob), headers=again)
            assert loop.value.status == 482

    in_virtual_time(run)


@flow
async def test_a_phone_that_is_not_to_be_disturbed_is_busy(net: Network) -> None:
    alice, bob = net.phone("alice"), net.phone("bob", answering=Answering(do_not_disturb=True))
    async with alice, bob:
        to_bob = answering(bob)
        with pytest.raises(CallError) as busy:
            await alice.dial(uri(bob))
        assert busy.value.status == 486
        bob.answering = Answering()
        call = await alice.dial(uri(bob))
        await to_bob.get()
        await call.hangup()
        await quiet(alice, bob)


# ---------------------------------------------------------------- screening


@flow
async def test_F029_incoming_calls_are_screened(net: Network) -> None:
    async with net.phone("alice") as alice, net.phone("bob") as bob, net.phone("mallory") as bad:
        heard: list[Call] = []

        @bob.on_incoming
        async def screen(call: Call) -> None:
            if call.remote == uri(bad):
                await call.reject(403)
                return
            await call.answer()
            heard.append(call)
            await call.wait_ended()

        with pytest.raises(CallError) as refused:
            await bad.dial(uri(bob))
        assert refused.value.status == 403
        call = await alice.dial(uri(bob))
        await asyncio.sleep(35)
        assert [one.remote for one in heard] == [uri(alice)]
        await call.hangup()
        await quiet(alice, bob, bad)


@flow
async def test_F030_outgoing_calls_are_screened_by_the_server_they_go_by(net: Network) -> None:
    """A server lets some destinations through only for a caller that has a reason."""
    async with (
        net.phone("alice") as alice,
        net.phone("server", calling=CallConfig(strangers="accept")) as server,
    ):

        @server.on_incoming
        async def screen(call: Call) -> None:
            if "900" in call.dialled and call.header("X-Account-Code") != "1234":
                await call.reject(403, "Account code required")
                return
            await call.answer()
            await call.wait_ended()

        number = f"sip:900@{server.network.bind_host}"
        with pytest.raises(CallError, match="account code required") as refused:
            await alice.dial(number)
        assert refused.value.status == 403
        call = await alice.dial(number, headers={"X-Account-Code": "1234"})
        await call.hangup()
        await quiet(alice, server)


# ---------------------------------------------------------------- answered by itself


@pytest.mark.parametrize(
    "header",
    [
        ("Call-Info", "<sip:x@y>;answer-after=0"),
        ("Alert-Info", "<http://www.example.com>;info=alert-autoanswer"),
        ("Alert-Info", "info=intercom"),
        ("Answer-Mode", "Auto"),
    ],
)
def test_a_phone_answers_by_itself_where_that_is_allowed(header: tuple[str, str]) -> None:
    async def run(net: Network) -> None:
        async with net.phone("alice") as alice, net.phone("bob") as bob:
            with pytest.raises(CallError) as refused:
                await alice.dial(uri(bob), headers=[header])
            assert refused.value.status == 480  # it rings as for everybody: nobody is there
            bob.answering = Answering(auto_answer=True)
            call = await alice.dial(uri(bob), headers=[header])
            assert [one.auto_answered for one in bob.calls] == [True]
            await call.hangup()
            with pytest.raises(CallError):
                await alice.dial(uri(bob))  # without the header it is a call like any other
            await quiet(alice, bob)

    in_virtual_time(run)


@flow
async def test_a_phone_answers_by_itself_after_the_time_it_is_given(net: Network) -> None:
    alice, bob = net.phone("alice"), net.phone("bob", answering=Answering(auto_answer=True))
    async with alice, bob:
        heard: list[CallState] = []
        bob.on_incoming(lambda call: heard.append(call.state))
        loop = asyncio.get_running_loop()
        began = loop.time()
        call = await alice.dial(
            uri(bob), headers={"Call-Info": "<sip:x@y>;answer-after=7"}, timeout=60
        )
        assert loop.time() - began >= 7
        await asyncio.sleep(40)
        assert heard == [CallState.ACTIVE]  # the application has it then
        await call.hangup()
        await quiet(alice, bob)


def test_who_demands_it_is_refused_where_it_is_not_allowed() -> None:
    async def run(net: Network) -> None:
        async with net.phone("alice") as alice, net.phone("bob") as bob:
            answering(bob)
            with pytest.raises(CallError) as refused:
                await alice.dial(uri(bob), headers={"Answer-Mode": "Auto;require"})
            assert refused.value.status == 403

    in_virtual_time(run)


@pytest.mark.parametrize(
    ("line", "asks"),
    [
        ("Call-Info: <sip:a@b>;purpose=icon", None),
        ("Call-Info: <sip:a@b>;answer-after=99999", None),
        ("Call-Info: <sip:a@b>;answer-after=100", Intercom(60.0)),
        ("Alert-Info: <http://x/ring.wav>", None),
        ("Alert-Info: Auto Answer", Intercom(0.0)),
        ("Alert-Info: <urn:x>;info=Ring Answer", Intercom(0.0)),
        ("Answer-Mode: Manual", None),
        ("Priv-Answer-Mode: AUTO ; Require", Intercom(0.0, True)),
        ("Subject: intercom", None),
    ],
)
def test_what_asks_for_an_answer_by_itself(line: str, asks: Intercom | None) -> None:
    invite = parse_message(f"INVITE sip:a@b SIP/2.0\r\n{line}\r\n\r\n".encode())
    assert isinstance(invite, Request)
    assert intercom(invite) == asks


def test_rules_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ConfigError):
        Answering(busy_at=0)
    with pytest.raises(ConfigError):
        Answering(no_answer_s=0)


# ---------------------------------------------------------------- park and pick-up


def orbit_of(net: Network) -> Softphone:
    """A place to park calls at: it does what it is asked to, and lets everybody look."""
    orbit = net.phone("orbit")
    orbit.on_transfer(lambda request: True)
    orbit.on_watch(lambda request: True)
    return orbit


@flow
async def test_F031_call_park_and_retrieval(net: Network) -> None:
    alice, bob, carol = net.phone("alice"), net.phone("bob"), net.phone("carol")
    orbit = orbit_of(net)
    async with alice, bob, carol, orbit:
        to_bob = answering(bob)
        call = await alice.dial(uri(bob))
        bobs = await to_bob.get()
        await bob.park(bobs, uri(orbit))
        assert bobs.state is CallState.ENDED
        await asyncio.sleep(5)
        assert call.replaced_by is not None  # Alice goes on with the orbit
        assert [one.remote for one in orbit.calls] == [f"{uri(alice)}:5060"]  # by her Contact
        async with await carol.watch(uri(orbit), "dialog") as watch:
            await asyncio.sleep(35)
            (parked,) = watch.dialogs
            assert parked.remote == f"{uri(alice)}:5060"
            mine = await carol.pick_up(parked)
            await asyncio.sleep(35)
            assert watch.dialogs == []
        assert mine.state is CallState.ACTIVE
        assert orbit.calls == []
        (left,) = alice.calls
        assert left is call.replaced_by.replaced_by
        assert left.remote == uri(carol)
        await mine.hangup()
        await quiet(alice, bob, carol, orbit)


@flow
async def test_F032_call_pickup_of_a_call_that_rings_elsewhere(net: Network) -> None:
    alice, bob, carol = net.phone("alice"), net.phone("bob"), net.phone("carol")
    async with alice, bob, carol:
        bob.on_watch(lambda request: True)

        @bob.on_incoming
        async def rings(call: Call) -> None:
            await call.ring()
            await call.wait_ended()

        async with await carol.watch(uri(bob), "dialog") as watch:
            await asyncio.sleep(20)
            dialling = asyncio.ensure_future(alice.dial(uri(bob), timeout=120))
            async with asyncio.timeout(100):
                while not [one for one in watch.dialogs if one.state == "early"]:
                    await asyncio.sleep(0.5)
                while alice.calls[0].state is not CallState.RINGING:  # she may hear it later
                    await asyncio.sleep(0.5)
            mine = await carol.pick_up(watch.dialogs[0])
            call = await dialling  # the one who dialled gets who has picked up
            assert call.state is mine.state is CallState.ACTIVE
            assert call.remote == uri(carol)
            await asyncio.sleep(35)
            assert bob.calls == []
            assert [one.remote for one in alice.calls] == [uri(carol)]
        await mine.hangup()
        await quiet(alice, bob, carol)


@flow
async def test_F032_what_cannot_be_picked_up_says_so(net: Network) -> None:
    alice, bob, carol = net.phone("alice"), net.phone("bob"), net.phone("carol")
    async with alice, bob, carol:
        bob.on_watch(lambda request: True)
        to_bob = answering(bob)
        async with await carol.watch(uri(bob), "dialog") as watch:
            call = await alice.dial(uri(bob))
            await to_bob.get()
            async with asyncio.timeout(100):
                while not [one for one in watch.dialogs if one.state == "confirmed"]:
                    await asyncio.sleep(0.5)
            (seen,) = watch.dialogs
            await call.hangup()
            await asyncio.sleep(40)
            with pytest.raises(CallError) as gone:
                await carol.pick_up(seen)
            assert gone.value.status in (481, 603)
        await quiet(alice, bob, carol)


# ---------------------------------------------------------------- redial, click-to-dial, 3-way


@flow
async def test_F033_automatic_redial_when_the_callee_is_free(net: Network) -> None:
    alice, carol = net.phone("alice"), net.phone("carol")
    bob = net.phone("bob", answering=Answering(busy_at=1))
    async with alice, bob, carol:
        bob.on_watch(lambda request: True)
        to_bob = answering(bob)
        other = await carol.dial(uri(bob))
        await to_bob.get()
        loop = asyncio.get_running_loop()
        loop.call_later(300, lambda: alice._tasks.spawn(other.hangup()))
        began = loop.time()
        call = await alice.dial_when_free(uri(bob))
        assert 300 <= loop.time() - began < 400
        assert (await to_bob.get()).remote == uri(alice)
        await call.hangup()
        await quiet(alice, bob, carol)


@flow
async def test_F033_who_stays_busy_is_not_waited_for_forever(net: Network) -> None:
    alice, carol = net.phone("alice"), net.phone("carol")
    bob = net.phone("bob", answering=Answering(busy_at=1))
    async with alice, bob, carol:
        bob.on_watch(lambda request: True)
        answering(bob)
        other = await carol.dial(uri(bob))
        with pytest.raises(NoAnswerError, match="was busy for 600 s"):
            await alice.dial_when_free(uri(bob), timeout=600)
        await other.hangup()
        await quiet(alice, bob, carol)


@flow
async def test_F034_click_to_dial_a_program_lets_a_phone_call_somebody(net: Network) -> None:
    program, alice, bob = net.phone("program"), net.phone("alice"), net.phone("bob")
    async with program, alice, bob:
        to_bob = answering(bob)
        with pytest.raises(CallError) as refused:
            await program.refer(uri(alice), uri(bob))
        assert refused.value.status == 603  # nobody lets it
        alice.on_transfer(lambda request: request.referred_by == f"<{uri(program)}>")
        await program.refer(uri(alice), uri(bob))
        assert (await to_bob.get()).remote == uri(alice)
        (call,) = alice.calls
        assert call.outgoing
        await call.hangup()
        await quiet(program, alice, bob)


@flow
async def test_F026_F027_a_call_of_three_is_handed_over_to_a_mixer(net: Network) -> None:
    """Alice brings the other sides of both her calls to a conference, and joins it herself."""
    alice, bob, carol, mixer = (net.phone(name) for name in ("alice", "bob", "carol", "mixer"))
    async with alice, bob, carol, mixer:
        to_bob, to_carol, joined = answering(bob), answering(carol), answering(mixer)
        first = await alice.dial(uri(bob))
        await to_bob.get()
        await first.hold()
        second = await alice.dial(uri(carol))
        await to_carol.get()
        mine = await alice.dial(uri(mixer))
        await second.transfer(uri(mixer))
        await first.transfer(uri(mixer))
        await asyncio.sleep(40)
        parties = {(await joined.get()).remote for _ in range(3)}
        assert parties == {uri(alice), uri(bob), uri(carol)}
        assert len(mixer.calls) == 3
        assert alice.calls == [mine]
        for call in list(mixer.calls):
            await call.hangup()
        await quiet(alice, bob, carol, mixer)


def test_a_replaced_call_is_told_who_took_its_place() -> None:
    async def run(net: Network) -> None:
        alice, bob, orbit = net.phone("alice"), net.phone("bob"), orbit_of(net)
        async with alice, bob, orbit:
            told: list[Any] = []
            to_bob = answering(bob)
            call = await alice.dial(uri(bob))
            call.on_event(told.append)
            await bob.park(await to_bob.get(), uri(orbit))
            await asyncio.sleep(5)
            assert [event for event in told if isinstance(event, Replaced)] == [
                Replaced(call.replaced_by)
            ]
            await call.replaced_by.hangup()

    in_virtual_time(run)
