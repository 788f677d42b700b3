"""Conferences of ours with baresip, PJSIP and Asterisk in them: what they hear, by their own ears.

baresip says 440 Hz and records what it hears, Asterisk's 601 says 1004 Hz, 600 sends back and 614
records what it hears; PJSIP says again what it hears.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from callers import answering
from direct import Ladder, desk
from peers.asterisk import Asterisk
from peers.baresip import Baresip
from peers.pjsua import Pjsua
from phones import ended, softphone, until

from voip.call import Call
from voip.conference import Conference
from voip.events import CallState
from voip.harness.audio import Sound

StartBaresip = Callable[..., Awaitable[Baresip]]
StartPjsua = Callable[..., Awaitable[Pjsua]]

RATE = 8000
BARESIP, ASTERISK = 440, 1004
OURS = 1700
THERE_DB, NOT_THERE_DB = -30.0, -60.0
"""Of full scale. The tones have -10 to -20, own voices must be 40 dB below them."""


def loudness_db(pcm: npt.NDArray[np.int16], hertz: int) -> float:
    """How loud a frequency is in the loudest whole second, in dB of full scale."""
    seconds = [pcm[at : at + RATE] for at in range(0, pcm.size - RATE + 1, RATE // 4)]
    assert seconds, f"{pcm.size} samples were heard"
    window = np.hanning(RATE)
    spectra = [np.abs(np.fft.rfft(one * window)) / (32768 * RATE / 4) for one in seconds]
    loudest = max(float(spectrum[hertz - 2 : hertz + 3].max()) for spectrum in spectra)
    return 20 * float(np.log10(max(loudest, 1e-9)))


def require(pcm: npt.NDArray[np.int16], *there: int, without: int | None = None, who: str) -> None:
    """Hold what somebody heard against what was to be heard, and what was not."""
    heard = {hertz: loudness_db(pcm, hertz) for hertz in (BARESIP, ASTERISK, OURS)}
    for hertz in there:
        assert heard[hertz] > THERE_DB, f"{who} does not hear {hertz} Hz: {heard}"
    if without is not None:
        assert heard[without] < NOT_THERE_DB, f"{who} hears {without} Hz: {heard}"


async def heard(ear: Call | Conference, seconds: float = 3.0) -> npt.NDArray[np.int16]:
    async with ear.audio() as reader:
        return await reader.read(seconds)


async def test_F026_baresip_hears_asterisk_s_tone_and_asterisk_both(
    asterisk: Asterisk, baresip: StartBaresip, artifacts: Path
) -> None:
    peer = await baresip(answer="auto", tone_hz=BARESIP)
    ladder = Ladder(artifacts / "phone.sip")
    async with softphone(asterisk, "1001", artifacts, trace=ladder) as phone:
        tone, recorder = await phone.dial("601"), await phone.dial("614")
        async with await phone.conference(tone, recorder) as conference:
            assert "isfocus" in ladder.header("> INVITE", "Contact")  # by re-INVITE
            party = await conference.add(peer.uri)
            assert f"{conference.user}@" in ladder.header("> INVITE", "Contact")
            _, ours = await asyncio.gather(
                conference.play(np.rint(6000 * np.sin(
                    2 * np.pi * OURS / RATE * np.arange(4 * RATE))).astype(np.int16)),
                heard(conference, 3.5),
            )  # fmt: skip
            assert party.state is tone.state is recorder.state is CallState.ACTIVE
        recording = await peer.recording()
    theirs = Sound.read(recording.received).samples
    recorded = Sound.read(await asterisk.recording("614")).samples
    require(theirs, ASTERISK, OURS, without=BARESIP, who="baresip")
    require(recorded, ASTERISK, BARESIP, OURS, who="Asterisk's recorder")
    require(ours, ASTERISK, BARESIP, without=OURS, who="the host")
    await asterisk.idle()


async def test_F026_what_baresip_says_comes_back_by_asterisk_s_echo(
    asterisk: Asterisk, baresip: StartBaresip, artifacts: Path
) -> None:
    """Who hears itself in a conference hears another party that says it again."""
    peer = await baresip(answer="auto", tone_hz=BARESIP)
    async with softphone(asterisk, "1001", artifacts) as phone:
        echo = await phone.dial("600")
        async with await phone.conference(echo) as conference:
            await conference.add(peer.uri)
            back = await heard(echo, 4)
            await conference.mute(echo)
            await asyncio.sleep(0.5)
            muted = await heard(conference, 1.5)
        recording = await peer.recording()
    require(back, BARESIP, who="the echo")
    require(muted, BARESIP, without=ASTERISK, who="the host")
    require(Sound.read(recording.received).samples, BARESIP, who="baresip")
    await asterisk.idle()


async def test_F027_F101_pjsip_joins_a_call_of_baresip_and_both_hear_each_other(
    baresip: StartBaresip, pjsua: StartPjsua, artifacts: Path
) -> None:
    """PJSIP sends the INVITE with Join; unasked it is refused, and the call goes on as it was."""
    first, third = await baresip(answer="auto", tone_hz=BARESIP), await pjsua()
    async with desk(artifacts) as us:
        call = await us.phone.dial(first.uri)
        dialog = call._session.dialog
        assert dialog is not None
        named = f"{dialog.call_id};to-tag={dialog.local.tag};from-tag={dialog.remote.tag}"
        number = await third.call(us.uri(), Join=named)
        assert (await third.closed(number)).status == 403
        number = await third.call(us.uri(), Join="nothing;to-tag=a;from-tag=b")
        assert (await third.closed(number)).status == 481
        assert call.conference is None

        us.phone.on_join(lambda request: request.parties == (call,))
        number = await third.call(us.uri(), Join=named)
        await third.established(number)
        await until(lambda: call.conference is not None, "the conference")
        conference = call.conference
        await until(lambda: len(conference.parties) == 2, "PJSIP in it")
        assert "isfocus" in us.ladder.header("> 180 INVITE", "Contact")
        assert "isfocus" in us.ladder.header("> 200 INVITE", "Contact")
        assert "isfocus" in us.ladder.header("> INVITE", "Contact")
        joined = conference.parties[1]
        # what comes from PJSIP is what it hears: baresip, and not itself again and again
        again, all_of_it = await asyncio.gather(heard(joined), heard(conference))
        require(again, BARESIP, without=ASTERISK, who="PJSIP")
        require(all_of_it, BARESIP, who="the host")
        await third.hangup(number)
        assert (await ended(joined)).by is not None
        assert conference.parties == [call]
        require(await heard(call, 2), BARESIP, who="the host, alone with baresip")
        await conference.close()
        await first.wait_for("CALL_CLOSED")


async def humming_at(asterisk: Asterisk, baresip: StartBaresip) -> Baresip:
    """A baresip that is 1001 at Asterisk, answers, and says its tone."""
    peer = await baresip(
        user="1001", registrar=asterisk.address, password=asterisk.password("1001"),
        answer="auto", tone_hz=BARESIP,
    )  # fmt: skip
    await peer.registered()
    return peer


async def test_F026_asterisk_s_calls_go_on_with_each_other_when_the_host_leaves(
    asterisk: Asterisk, baresip: StartBaresip, artifacts: Path
) -> None:
    """Asterisk is asked to let Bob's phone take our place in baresip's call (Replaces)."""
    await humming_at(asterisk, baresip)
    async with (
        softphone(asterisk, "1009", artifacts) as alice,
        softphone(asterisk, "1002", artifacts, register=True) as bob,
    ):
        calls = answering(bob)
        first = await alice.dial("1002")
        theirs = await calls.get()
        second = await alice.dial("1001")
        conference = await alice.conference(first, second)
        require(await heard(theirs), BARESIP, who="Bob in the conference")
        await conference.hand_over()
        assert alice.calls == []
        assert theirs.ended is None
        await asyncio.sleep(1)
        require(await heard(theirs), BARESIP, who="Bob, without the host")
        await theirs.hangup()
    await asterisk.idle()


async def test_F026_a_conference_is_handed_over_to_asterisk_s(
    asterisk: Asterisk, baresip: StartBaresip, artifacts: Path
) -> None:
    """All are sent to a mixer of somebody else's, and hear each other there without us."""
    peer = await humming_at(asterisk, baresip)
    async with (
        softphone(asterisk, "1009", artifacts) as alice,
        softphone(asterisk, "1002", artifacts, register=True) as bob,
    ):
        calls = answering(bob)
        first = await alice.dial("1002")
        theirs = await calls.get()
        second = await alice.dial("1001")
        tone = await alice.dial("601")
        conference = await alice.conference(first, second, tone)
        require(await heard(theirs), BARESIP, ASTERISK, who="Bob in our conference")
        await tone.hangup()  # it could not go anywhere
        await conference.hand_over("615")
        assert alice.calls == []
        await asyncio.sleep(1)
        require(await heard(theirs), BARESIP, without=ASTERISK, who="Bob in Asterisk's")
        assert theirs.ended is None
        await theirs.hangup()
        await peer.command("hangup")
    await asterisk.idle()
