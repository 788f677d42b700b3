"""Two softphones on loopback: calls that work.

On real sockets and engines, but for what takes its time: that is heard in a simulated world
(`virtually`).
"""

from __future__ import annotations

import asyncio
import socket

import numpy as np
import pytest
from callers import answering
from loopback_phones import phone, tone, up, uri, virtually
from stalls import repeated_after_stalls

from voip.call import Call
from voip.config import MediaConfig
from voip.errors import CallError, CallStateError, ConfigError
from voip.events import (
    Answered,
    CallState,
    EarlyMedia,
    EndedBy,
    HeldByRemote,
    Redirected,
    ResumedByRemote,
    Ringing,
)

pytestmark = pytest.mark.realtime


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
    async with phone(media=MediaConfig(codecs=("pcma",))) as alice, phone() as bob:
        calls = answering(bob)
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
        lambda failure, dialog, random, tried_for: 0.1 if dialog.is_caller else 0.02,
    )
    mine, theirs = await up(pair)
    await asyncio.gather(mine.hold(), theirs.hold())
    await asyncio.gather(mine.resume(), theirs.resume())
    assert (mine.state, theirs.state) == (CallState.ACTIVE, CallState.ACTIVE)


@pytest.mark.parametrize("late_offer", [False, True])
async def test_a_caller_that_is_sent_on_calls_there(pair, late_offer):
    alice, bob, calls = pair
    async with phone() as carol:
        answering(carol)
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
