"""Two softphones on loopback: everything that can go wrong with a call."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import numpy as np
import pytest
from loopback_phones import HERE, phone, tone, up, uri, virtually

from voip.call import Call
from voip.errors import (
    AudioFileError,
    AuthenticationError,
    CallError,
    CallStateError,
    ConfigError,
    MediaError,
    NoAnswerError,
    RegistrationError,
    RequestError,
    TransportError,
    UnreachableError,
)
from voip.events import CallbackFailed, DtmfReceived, EndedBy
from voip.harness.pbx import USERS, EmbeddedPbx
from voip.phone import Softphone
from voip.sip.digest import Credentials

pytestmark = pytest.mark.realtime


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
@pytest.mark.parametrize("what", ["dial", "options", "message", "register"])
async def test_nobody_listening_is_said_at_once_and_alike(transport, what):
    uri = f"sip:x@127.0.0.1:9;transport={transport}"
    settings = {"uri": uri, "register": False} if what == "register" else {}
    async with phone(**settings) as alice:
        asked = {
            "dial": lambda: alice.dial(uri),
            "options": lambda: alice.options(uri),
            "message": lambda: alice.message(uri, "hello"),
            "register": lambda: alice.register(),
        }
        with pytest.raises(UnreachableError, match=r"nobody listens at 127\.0\.0\.1:9 ") as caught:
            async with asyncio.timeout(5):
                await asked[what]()
        error = caught.value
        assert (error.code, error.status) == ("unreachable", 503)
        assert error.hint == "check the address and the transport"
        kinds = (CallError, TransportError, RequestError, RegistrationError)
        assert all(isinstance(error, kind) for kind in kinds)
        assert alice.calls == []


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


async def test_a_callee_that_dies_in_the_call_is_noticed(pair):
    mine, _ = await up(pair)
    mine.media_timeout_s = 2.0
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


async def test_an_offer_of_sound_to_where_we_cannot_send_is_answered_488(pair):
    offer = (
        b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP6 2001:db8::1\r\nt=0 0\r\n"
        b"m=audio 40000 RTP/AVP 0\r\n"
    )
    await _refused(pair, offer, {488})


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
