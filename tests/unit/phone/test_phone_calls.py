"""Two softphones on loopback: calls, and everything that can go wrong.

On real sockets and engines, but for what takes its time: that is heard in a simulated world
(`virtually`).
"""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest
from stalls import repeated_after_stalls

from voip.call import Call
from voip.config import MediaConfig, NetworkConfig
from voip.errors import (
    AudioFileError,
    AuthenticationError,
    CallError,
    CallStateError,
    ConfigError,
    MediaError,
    NoAnswerError,
    TransportError,
)
from voip.events import (
    Answered,
    CallbackFailed,
    CallState,
    DtmfReceived,
    EarlyMedia,
    EndedBy,
    HeldByRemote,
    Redirected,
    ResumedByRemote,
    Ringing,
)
from voip.harness.pbx import USERS, EmbeddedPbx
from voip.phone import Softphone
from voip.sim import World
from voip.sip.digest import Credentials

pytestmark = pytest.mark.realtime

HERE = NetworkConfig(bind_host="127.0.0.1")


def phone(**settings: object) -> Softphone:
    return Softphone(network=HERE, **settings)  # type: ignore[arg-type]


def uri(of: Softphone, user: str = "bob") -> str:
    return f"sip:{user}@127.0.0.1:{of.port}"


Pair: TypeAlias = tuple[Softphone, Softphone, asyncio.Queue[Call]]


@asynccontextmanager
async def two_phones() -> AsyncIterator[Pair]:
    """Alice, Bob, and the calls that come to Bob; he answers what he takes from the queue."""
    calls: asyncio.Queue[Call] = asyncio.Queue()
    done = asyncio.Event()
    async with phone() as alice, phone() as bob:

        @bob.on_incoming
        async def taken(call: Call) -> None:
            await calls.put(call)
            await done.wait()

        yield alice, bob, calls
        done.set()


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    async with two_phones() as pair:
        yield pair


def virtually(story: Callable[[Pair, Path], Awaitable[None]]) -> Callable[[Path], None]:
    """Let a test run on a host of a simulated world, where nothing waits, with two phones there."""

    async def main(path: Path) -> None:
        async with two_phones() as pair:
            await story(pair, path)

    def test(tmp_path: Path) -> None:
        world = World()
        world.run(main(tmp_path), on=world.host("192.0.2.1"))

    return test


async def up(pair: Pair) -> tuple[Call, Call]:
    alice, bob, calls = pair
    dialling = asyncio.create_task(alice.dial(uri(bob)))
    theirs = await calls.get()
    await theirs.answer()
    return await dialling, theirs


def tone(seconds: float, hz: float = 440.0) -> np.ndarray:
    t = np.arange(int(8000 * seconds)) / 8000
    return (8000 * np.sin(2 * np.pi * hz * t)).astype(np.int16)


# ---------------------------------------------------------------- what works


async def test_a_call_rings_is_answered_and_hung_up_by_the_caller(pair):
    alice, bob, calls = pair
    dialling = asyncio.create_task(alice.dial(uri(bob), wait="ringing"))
    theirs = await calls.get()
    await theirs.ring()
    mine = await dialling
    assert mine.state is CallState.RINGING
    await theirs.answer()
    await mine.wait_answered(5)
    assert (mine.state, theirs.state) == (CallState.ACTIVE, CallState.ACTIVE)
    assert mine.codec == "pcmu"
    await mine.hangup()
    end = await theirs.wait_ended()
    assert (mine.ended.by, end.by) == (EndedBy.LOCAL, EndedBy.REMOTE)
    kinds = [type(event) async for event in mine.events()]
    assert kinds[:2] == [Ringing, Answered]
    assert alice.calls == []


@repeated_after_stalls
async def test_sound_goes_both_ways_and_the_callee_hangs_up(pair):
    mine, theirs = await up(pair)

    async def heard(call: Call) -> np.ndarray:
        async with call.audio(frame_ms=20) as reader:
            return await reader.read(1.0)

    a, b, *_ = await asyncio.gather(
        heard(mine), heard(theirs), mine.play(tone(1.0, 500)), theirs.send(tone(1.0, 900))
    )
    for pcm, hz in ((a, 900), (b, 500)):
        spectrum = np.abs(np.fft.rfft(pcm[2000:8000].astype(float)))
        assert np.argmax(spectrum) * 8000 / 6000 == pytest.approx(hz, abs=2)
    await theirs.hangup()
    assert (await mine.wait_ended()).by is EndedBy.REMOTE
    assert mine.stats.packets_received > 45
    assert mine.quality.mos > 4


async def test_pcma_alone_is_agreed_on():
    calls: asyncio.Queue[Call] = asyncio.Queue()
    async with phone(media=MediaConfig(codecs=("pcma",))) as alice, phone() as bob:

        @bob.on_incoming
        async def taken(call: Call) -> None:
            await call.answer()
            calls.put_nowait(call)
            await call.wait_ended()

        call = await alice.dial(uri(bob))
        assert call.codec == (await calls.get()).codec == "pcma"


@virtually
async def test_digits_both_ways_and_typed_ahead(pair, tmp_path):
    mine, theirs = await up(pair)
    await asyncio.gather(mine.send_dtmf("12#", duration_ms=60), theirs.send_dtmf("*0", gap_ms=40))
    assert await theirs.collect(4, timeout=2) == "12"
    assert await mine.collect(2, timeout=2) == "*0"
    assert await mine.collect(1, timeout=0.05) == ""


async def test_hold_and_resume_by_either_side(pair):
    mine, theirs = await up(pair)
    await mine.hold()
    assert (mine.state, theirs.state) == (CallState.HELD, CallState.HELD)
    held = (await theirs.measure()).packets_sent
    await asyncio.sleep(0.1)
    assert (await theirs.measure()).packets_sent - held <= 1
    await mine.resume()
    await theirs.hold()
    await theirs.resume()
    assert (mine.state, theirs.state) == (CallState.ACTIVE, CallState.ACTIVE)
    await mine.hangup()
    for call in (mine, theirs):
        kinds = [type(event) async for event in call.events()]
        assert [kind for kind in kinds if kind in (HeldByRemote, ResumedByRemote)] == [
            HeldByRemote,
            ResumedByRemote,
        ]


async def test_both_sides_hold_at_once(pair, monkeypatch):
    # the wait after glare is the protocol's (RFC 3261 section 14.1); its order is what matters
    monkeypatch.setattr(
        "voip.sip.reinvite.wait_after",
        lambda failure, dialog, random: 0.1 if dialog.is_caller else 0.02,
    )
    mine, theirs = await up(pair)
    await asyncio.gather(mine.hold(), theirs.hold())
    await asyncio.gather(mine.resume(), theirs.resume())
    assert (mine.state, theirs.state) == (CallState.ACTIVE, CallState.ACTIVE)


@pytest.mark.parametrize("late_offer", [False, True])
async def test_a_caller_that_is_sent_on_calls_there(pair, late_offer):
    alice, bob, calls = pair
    async with phone() as carol:

        @carol.on_incoming
        async def answer(call: Call) -> None:
            await call.answer()
            await call.wait_ended()

        dialling = asyncio.create_task(alice.dial(uri(bob), late_offer=late_offer))
        theirs = await calls.get()
        await theirs.redirect(f"sip:nobody@127.0.0.1:{free_port()}", uri(carol, "carol"))
        async with await dialling as mine:
            assert mine.state is CallState.ACTIVE
            assert [e.target for e in mine._events if isinstance(e, Redirected)][-1] == uri(
                carol, "carol"
            )
        assert theirs.ended is not None
        assert (theirs.ended.by, theirs.ended.status) == (EndedBy.LOCAL, 302)


async def test_a_caller_that_does_not_want_to_be_sent_on_is_refused(pair):
    alice, bob, calls = pair
    dialling = asyncio.create_task(alice.dial(uri(bob), redirect=False))
    theirs = await calls.get()
    with pytest.raises(CallStateError, match=r"redirect\(\)"):
        await theirs.reject(302)
    with pytest.raises(ConfigError):
        await theirs.redirect()
    await theirs.redirect("sip:carol@127.0.0.1")
    with pytest.raises(CallError, match="302"):
        await dialling


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@virtually
async def test_early_media_is_heard_before_the_answer(pair, tmp_path):
    alice, bob, calls = pair
    dialling = asyncio.create_task(alice.dial(uri(bob), wait="ringing"))
    theirs = await calls.get()
    await theirs.progress()
    mine = await dialling
    assert mine.state is CallState.EARLY
    async with mine.audio() as reader:
        playing = asyncio.create_task(theirs.play(tone(0.5)))
        assert np.abs(await reader.read(0.4)).max() > 4000
        await playing
    await theirs.answer()
    await mine.wait_answered(5)
    kinds = [type(event) for event in mine._events]
    assert kinds == [EarlyMedia, Answered]


@virtually
async def test_a_call_is_recorded_and_played(pair, tmp_path):
    from voip.media.wav import read

    mine, theirs = await up(pair)
    await theirs.echo()
    async with mine.record(tmp_path / "heard.wav") as recording:
        await mine.play(tone(1.0))
        await asyncio.sleep(0.2)
    pcm = read(tmp_path / "heard.wav")
    assert recording.duration_s == pytest.approx(pcm.size / 8000)
    assert pcm.size > 8000
    assert np.abs(pcm).max() > 7000


@virtually
async def test_a_recording_has_the_rate_asked_for(pair, tmp_path):
    from scipy.io import wavfile

    mine, theirs = await up(pair)
    async with mine.record(tmp_path / "wide.wav", rate_hz=48000):
        await theirs.play(tone(0.5, 1000))
    rate, pcm = wavfile.read(tmp_path / "wide.wav")
    assert rate == 48000
    middle = pcm[pcm.size // 2 - 4800 : pcm.size // 2 + 4800].astype(float)
    assert np.argmax(np.abs(np.fft.rfft(middle))) * 48000 / 9600 == pytest.approx(1000, abs=6)
    with pytest.raises(ConfigError):
        mine.record(tmp_path / "odd.wav", rate_hz=96000)


async def test_a_call_of_ours_is_cancelled_while_it_rings(pair):
    alice, bob, calls = pair
    dialling = asyncio.create_task(alice.dial(uri(bob), wait="ringing"))
    theirs = await calls.get()
    await theirs.ring()
    mine = await dialling
    await mine.cancel()
    assert mine.ended.by is EndedBy.LOCAL
    assert (await theirs.wait_ended()).status == 487
    with pytest.raises(CallError):
        await mine.wait_answered()


@virtually
async def test_two_calls_are_bridged(pair, tmp_path):
    _, bob, calls = pair
    first, at_bob = await up(pair)
    async with phone() as carol:
        dialling = asyncio.create_task(carol.dial(uri(bob)))
        second_at_bob = await calls.get()
        await second_at_bob.answer()
        second = await dialling
        await at_bob.bridge(second_at_bob)
        async with second.audio() as reader:
            playing = asyncio.create_task(first.play(tone(0.6)))
            assert np.abs(await reader.read(0.5)).max() > 7000
            await playing
        with pytest.raises(CallStateError):
            await first.bridge(second)


async def test_calls_go_over_tcp(pair):
    alice, bob, calls = pair
    dialling = asyncio.create_task(alice.dial(uri(bob) + ";transport=tcp"))
    theirs = await calls.get()
    await theirs.answer()
    mine = await dialling
    await theirs.hangup()
    assert (await mine.wait_ended()).by is EndedBy.REMOTE


async def test_an_invite_without_an_offer_is_answered_with_ours(pair):
    alice, bob, calls = pair
    flow = await alice._transport.flow_to("127.0.0.1", bob.port)
    alice._agent.invite(
        uri(bob), flow=flow, from_="<sip:alice@127.0.0.1>", to=f"<{uri(bob)}>",
        contact=f"<sip:alice@127.0.0.1:{alice.port}>", now=alice._transport.now(),
    )  # fmt: skip
    alice._transport.flush()
    theirs = await calls.get()
    answering = asyncio.create_task(theirs.answer())
    for _ in range(200):
        await asyncio.sleep(0.005)
        dialogs = alice._agent.dialogs
        if dialogs:
            break
    answer = b"\r\n".join(
        (b"v=0", b"o=- 1 1 IN IP4 127.0.0.1", b"s=-", b"c=IN IP4 127.0.0.1", b"t=0 0",
         b"m=audio 40000 RTP/AVP 8", b"")
    )  # fmt: skip
    alice._agent.ack(
        dialogs[0], body=answer, content_type="application/sdp", now=alice._transport.now()
    )
    alice._transport.flush()
    await asyncio.wait_for(answering, 5)
    assert theirs.codec == "pcma"


# ---------------------------------------------------------------- what goes wrong


async def test_a_busy_callee_is_told_as_busy(pair):
    alice, bob, calls = pair
    dialling = asyncio.create_task(alice.dial(uri(bob)))
    await (await calls.get()).reject()
    with pytest.raises(CallError, match=r"busy here \(486\)") as caught:
        await dialling
    assert caught.value.status == 486


@virtually
async def test_a_callee_that_never_answers_is_cancelled(pair, tmp_path):
    alice, bob, calls = pair
    dialling = asyncio.create_task(alice.dial(uri(bob), timeout=0.3))
    theirs = await calls.get()
    await theirs.ring()
    with pytest.raises(NoAnswerError, match=r"no answer in 0\.3 s"):
        await dialling
    end = await theirs.wait_ended()
    assert (end.by, end.status) == (EndedBy.REMOTE, 487)


async def test_a_silent_callee_ends_with_the_timeout():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
        deaf.bind(("127.0.0.1", 0))
        async with phone() as alice:
            with pytest.raises(NoAnswerError, match="no answer"):
                await alice.dial(f"sip:x@127.0.0.1:{deaf.getsockname()[1]}", timeout=0.2)
            assert alice.calls == []


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_nobody_listening_is_said_at_once(transport):
    async with phone() as alice:
        with pytest.raises((CallError, TransportError), match=r"nobody listens at 127\.0\.0\.1:9"):
            async with asyncio.timeout(1):
                await alice.dial(f"sip:x@127.0.0.1:9;transport={transport}")


async def test_credentials_may_be_looked_up_by_realm():
    asked = []

    def lookup(realm, server):
        asked.append((realm, server))
        return Credentials("1001", USERS["1001"])

    async with EmbeddedPbx() as pbx:
        caller = Softphone(pbx.uri("1001"), credentials=lookup, network=HERE)
        async with caller, await caller.dial("600"):
            assert caller.registered
    assert asked[0] == ("voip", "127.0.0.1")
    assert "secret" not in repr(caller.account)


def test_a_password_and_a_look_up_for_it_are_one_too_many():
    with pytest.raises(ConfigError, match="look-up"):
        Softphone("sip:alice@pbx", password="x", credentials=lambda realm, server: None)


async def test_a_wrong_and_a_missing_password_are_told_apart():
    def ask(request, now):
        return [("WWW-Authenticate", 'Digest realm="pbx", nonce="1234", qop="auth"')]

    async with phone(authorize=ask) as bob:
        bob.on_incoming(lambda call: None)
        async with Softphone(
            "sip:alice@pbx", password="wrong", register=False, network=HERE
        ) as alice:
            with pytest.raises(
                AuthenticationError, match="401 twice: wrong password for alice@pbx"
            ):
                await alice.dial(uri(bob))
        async with Softphone("sip:alice@pbx", register=False, network=HERE) as alice:
            with pytest.raises(AuthenticationError, match="no password was given"):
                await alice.dial(uri(bob))


async def test_a_callee_that_dies_in_the_call_is_noticed(pair, monkeypatch):
    monkeypatch.setattr("voip.media.engine.MEDIA_SILENT_S", 0.2)
    monkeypatch.setattr("voip.media.engine._ROUND_S", 0.05)
    mine, _ = await up(pair)
    bob = pair[1]
    for endpoint in bob._transport._ports.udp.values():  # as if the process had been killed
        endpoint.close()
    await bob._driver.close()
    end = await asyncio.wait_for(mine.wait_ended(), 5)
    assert end.by is EndedBy.FAILURE
    assert "nobody listens" in end.reason


async def test_a_caller_that_gives_up_while_we_answer_ends_the_call(pair):
    alice, bob, calls = pair
    dialling = asyncio.create_task(alice.dial(uri(bob)))
    theirs = await calls.get()
    await theirs.ring()
    dialling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await dialling
    assert (await theirs.wait_ended()).by is EndedBy.REMOTE
    with pytest.raises(CallError):
        await theirs.answer()


@pytest.mark.parametrize("offer", [b"garbage", b"v=0\r\n", b"\xff\xfe" * 50])
async def test_an_offer_that_is_garbage_is_answered_400_or_488(pair, offer):
    await _refused(pair, offer, {400, 488})


async def test_an_offer_without_a_codec_of_ours_is_answered_488_with_a_warning(pair):
    offer = (
        b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
        b"m=audio 40000 RTP/AVP 18\r\na=rtpmap:18 G729/8000\r\n"
    )
    response = await _refused(pair, offer, {488})
    assert "30" in (response.headers.get("Warning") or "")


async def _refused(pair, offer: bytes, statuses: set[int]):
    alice, bob, calls = pair
    flow = await alice._transport.flow_to("127.0.0.1", bob.port)
    failures = []
    original = alice._sessions.on_sip
    alice._sessions.on_sip = lambda event: (failures.append(event), original(event))
    alice._agent.invite(
        uri(bob), flow=flow, from_="<sip:alice@127.0.0.1>", to=f"<{uri(bob)}>",
        contact=f"<sip:alice@127.0.0.1:{alice.port}>", body=offer, content_type="application/sdp",
        now=alice._transport.now(),
    )  # fmt: skip
    alice._transport.flush()
    theirs = await calls.get()
    with pytest.raises(CallError):
        await theirs.answer()
    for _ in range(200):
        await asyncio.sleep(0.005)
        failed = [event for event in failures if type(event).__name__ == "InviteFailed"]
        if failed:
            assert failed[0].status in statuses
            return failed[0].response
    raise AssertionError("no refusal came")


async def test_calls_nobody_takes_are_refused():
    async with phone() as alice, phone() as bob:
        with pytest.raises(CallError, match="480"):
            await alice.dial(uri(bob))


async def test_a_handler_that_fails_refuses_the_call_and_is_told():
    async with phone() as alice, phone() as bob:

        @bob.on_incoming
        async def broken(call: Call) -> None:
            raise ValueError("oops")

        with pytest.raises(CallError, match="500"):
            await alice.dial(uri(bob))
        told = [event for event in bob._events if isinstance(event, CallbackFailed)]
        assert [str(event.error) for event in told] == ["oops"]


async def test_a_callback_that_raises_is_told_and_harms_nothing(pair):
    mine, theirs = await up(pair)

    @mine.on_dtmf
    def broken(event: DtmfReceived) -> None:
        raise RuntimeError("oops")

    await theirs.send_dtmf("5", duration_ms=40)
    assert await mine.collect(1, timeout=2) == "5"
    failed = [event for event in mine._events if isinstance(event, CallbackFailed)]
    assert [str(event.error) for event in failed] == ["oops"]


async def test_files_that_cannot_be_used_are_refused_clearly(pair, tmp_path: Path):
    mine, _ = await up(pair)
    (tmp_path / "no.wav").write_bytes(b"not a wav")
    with pytest.raises(AudioFileError, match=r"missing\.wav"):
        await mine.play(tmp_path / "missing.wav")
    with pytest.raises(AudioFileError, match=r"no\.wav"):
        await mine.play(tmp_path / "no.wav")
    with pytest.raises(AudioFileError):
        async with mine.record(tmp_path / "nowhere" / "x.wav"):
            pass
    await mine.play(tone(0.1))  # and the call goes on


async def test_what_cannot_be_done_is_refused_at_the_call(pair):
    mine, theirs = await up(pair)
    with pytest.raises(ConfigError):
        await mine.send_dtmf("12x")
    with pytest.raises(ConfigError):
        await mine.send(np.zeros((10, 2), np.int16))
    with pytest.raises(CallStateError):
        await mine.answer()
    await mine.hold()
    with pytest.raises(MediaError):
        await theirs.send_dtmf("1")
    await mine.hangup()
    with pytest.raises(CallStateError):
        await mine.hold()
    with pytest.raises(CallStateError):
        await mine.send(tone(2.0))
    await mine.hangup()


@virtually
async def test_a_slow_reader_loses_the_oldest_and_is_told(pair, tmp_path):
    from voip.events import AudioOverrun

    mine, _ = await up(pair)
    reader = mine.audio()
    await reader.read(0.02)
    await asyncio.sleep(1.3)
    await reader.read(0.5)
    lost = [event.lost_ms for event in mine._events if isinstance(event, AudioOverrun)]
    assert len(lost) == 1
    assert 100 < lost[0] < 900
    await reader.aclose()


@pytest.mark.parametrize("bad", ["", "sip:", "sips:x@127.0.0.1", "http://x", "600", "sip:x@[::g]"])
async def test_targets_that_are_no_address_are_refused(bad):
    async with phone() as alice:
        with pytest.raises((ConfigError, CallError, TransportError)):
            await alice.dial(bad, timeout=0.2)
        assert alice.calls == []


# ---------------------------------------------------------------- nothing is left


def _descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def test_nothing_is_left_when_a_phone_closes(tmp_path: Path):
    async def round_of_calls() -> None:
        async with phone(pcap=tmp_path / "x.pcap") as alice, phone() as bob:

            @bob.on_incoming
            async def taken(call: Call) -> None:
                await call.answer()
                async with call.record(tmp_path / "r.wav"):
                    await call.wait_ended()

            calls = await asyncio.gather(*(alice.dial(uri(bob)) for _ in range(10)))
            await asyncio.gather(*(call.play(tone(0.1)) for call in calls))
            for call in calls[:5]:
                await call.hangup()
            engines = [alice._driver._engine, bob._driver._engine]
            arenas = [alice._stack.arena, bob._stack.arena]
            agents = [alice._agent, bob._agent]
            stacks = [alice._stack, bob._stack]
        assert [engine.streams for engine in engines] == [0, 0]
        assert [len(arena) for arena in arenas] == [0, 0]
        assert [len(stack.sessions) for stack in stacks] == [0, 0]
        assert [agent.dialogs for agent in agents] == [[], []]

    await round_of_calls()  # what is loaded lazily is loaded
    gc.collect()
    before = (_descriptors(), threading.active_count(), len(asyncio.all_tasks()))
    for _ in range(3):
        await round_of_calls()
    gc.collect()
    after = (_descriptors(), threading.active_count(), len(asyncio.all_tasks()))
    assert after == before


async def test_closing_in_the_middle_of_everything_leaves_nothing(tmp_path: Path):
    gc.collect()
    before = (_descriptors(), threading.active_count(), len(asyncio.all_tasks()))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
        deaf.bind(("127.0.0.1", 0))
        alice, bob = phone(), phone()
        await alice.start()
        await bob.start()

        @bob.on_incoming
        async def taken(call: Call) -> None:
            await call.ring()
            await asyncio.Event().wait()

        waiting = [
            asyncio.create_task(alice.dial(f"sip:x@127.0.0.1:{deaf.getsockname()[1]}")),
            asyncio.create_task(alice.dial(uri(bob))),
        ]
        await asyncio.sleep(0.1)
        await asyncio.gather(alice.close(), bob.close())
        ended = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(error, CallError) for error in ended), ended
    gc.collect()
    assert (_descriptors(), threading.active_count(), len(asyncio.all_tasks())) == before
