"""Calls in which silence is described instead of sent: what is heard, and what it saves."""

from __future__ import annotations

import asyncio
import wave
from pathlib import Path as FilePath

import numpy as np
import pytest
from sound_scene import Pcm, call_up, two_phones
from test_sim_relay import Scene, play

from voip import SrtpKeys
from voip.call import Call
from voip.config import MediaConfig
from voip.dsp.level import rms_dbfs
from voip.events import CallEvent, MediaTrouble
from voip.harness.audio import Sound
from voip.harness.grade import Bar, grade_speech, pesq_installed
from voip.media.answers import StreamStats
from voip.sim import Path
from voip.sounds import asset_path
from voip.types import SeededRandom

RATE = 8000
LONG = 4.0
"""Seconds of the pause after every sentence."""


def conversation(background_dbfs: float, rounds: int = 2) -> Pcm:
    """A sentence of 8 s and a pause, again and again, in a room with noise of low frequencies."""
    with asset_path("speech-8k.wav") as path, wave.open(str(path)) as file:
        sentence = np.frombuffer(file.readframes(file.getnframes()), np.int16)
    once = np.concatenate([np.zeros(RATE), sentence, np.zeros(round(LONG * RATE))])
    sound = np.tile(once, rounds)
    room = np.convolve(np.random.default_rng(4).normal(0, 1, sound.size), np.ones(4) / 2, "same")
    sound += room * 32768 * 10 ** (background_dbfs / 20)
    return np.clip(np.rint(sound), -32768, 32767).astype(np.int16)


class Told:
    """A call with sound one way, and what both sides say of it."""

    def __init__(
        self, tmp_path: FilePath, *, dtx: tuple[bool, bool], path: Path | None = None,
        codec: str = "pcmu", dbfs: float = -55.0, srtp: bool = False,
    ) -> None:  # fmt: skip
        self.said, self.file = conversation(dbfs), tmp_path / "heard.wav"
        self.sent = self.heard = StreamStats(0)
        self.troubles: list[CallEvent] = []
        self._srtp = srtp
        calling, answering = (
            MediaConfig(codecs=(codec,), jitter_min_ms=60, jitter_max_ms=60, dtx=one) for one in dtx
        )
        came = asyncio.Event()
        bobs: list[Call] = []

        async def answer(call: Call) -> None:
            await call.answer()
            bobs.append(call)
            came.set()
            await call.wait_ended()

        async def talk(call: Call) -> None:
            await came.wait()
            await self._talk(call, bobs[0])

        two_phones(talk, calling=calling, answering=answering, answer=answer, path=path)

    async def _talk(self, alice: Call, bob: Call) -> None:
        if self._srtp:
            ours, theirs = (
                SrtpKeys.generate("AES_CM_128_HMAC_SHA1_80", SeededRandom(n)) for n in (1, 2)
            )
            await alice.protect(send=ours, receive=theirs)
            await bob.protect(send=theirs, receive=ours)
        watching = asyncio.ensure_future(self._watch(bob))
        async with bob.record(self.file, channels="heard"):
            await alice.play(self.said)
            await asyncio.sleep(0.3)
        self.sent, self.heard = await alice.measure(), await bob.measure()
        watching.cancel()

    async def _watch(self, call: Call) -> None:
        async for event in call.events():
            if isinstance(event, MediaTrouble):
                self.troubles.append(event)

    @property
    def sound(self) -> Sound:
        return Sound.read(self.file)


def levels(sound: np.ndarray) -> np.ndarray:
    """The level of every half second, dBFS."""
    pcm = sound[: sound.size // 4000 * 4000].astype(np.int16).reshape(-1, 4000)
    return rms_dbfs(pcm)


def test_a_call_costs_half_and_sounds_the_same(tmp_path: FilePath) -> None:
    told = Told(tmp_path, dtx=(True, True))
    sent, heard = told.sent, told.heard
    seconds = told.said.size / RATE
    assert sent.packets_sent < 0.75 * 50 * seconds
    assert 0.3 < (sent.silence_share_sent or 0) < 0.6
    assert 8 <= heard.noise_packets_received == sent.noise_packets_sent <= 40
    assert heard.noise_played_ms == pytest.approx(sent.silence_unsent_ms, abs=400)
    assert (heard.packets_lost, heard.packets_late, heard.dropped_frames) == (0, 0, 0)
    assert heard.accelerated_ms == heard.expanded_ms == 0
    assert told.troubles == []
    quiet = np.sort(levels(told.sound.samples[RATE : -RATE // 2]))
    before = np.sort(levels(told.said))
    assert abs(np.median(quiet[:10]) - np.median(before[:10])) < 1.0


@pytest.mark.parametrize(
    "codec", ["g722", *(pytest.param(one, marks=pytest.mark.long) for one in ("l16/16000", "ilbc"))]
)
def test_other_codecs_do_it_too(tmp_path: FilePath, codec: str) -> None:
    told = Told(tmp_path, dtx=(True, True), codec=codec)
    assert 0.3 < (told.sent.silence_share_sent or 0) < 0.6
    assert told.heard.noise_played_ms == pytest.approx(told.sent.silence_unsent_ms, abs=400)
    assert told.heard.packets_lost == told.heard.packets_late == 0


def test_opus_has_its_own(tmp_path: FilePath) -> None:
    apart = [Told(tmp_path, dtx=(dtx, dtx), codec="opus", dbfs=-80.0).sent for dtx in (False, True)]
    assert apart[1].noise_packets_sent == 0
    assert apart[1].packets_sent < 0.8 * apart[0].packets_sent


@pytest.mark.parametrize("dtx", [(True, False), (False, True), (False, False)])
def test_who_was_not_told_to_sends_everything(tmp_path: FilePath, dtx: tuple[bool, bool]) -> None:
    """Alice offers it if she was told to; whom she calls takes it either way."""
    told = Told(tmp_path, dtx=dtx)
    assert (told.sent.noise_packets_sent > 0) == dtx[0]
    assert told.heard.noise_packets_received == told.sent.noise_packets_sent
    assert (told.heard.packets_sent > 0.95 * 50 * told.said.size / RATE) == (dtx != (True, True))


@pytest.mark.long
def test_protected_calls_do_it_too(tmp_path: FilePath) -> None:
    told = Told(tmp_path, dtx=(True, True), srtp=True)
    assert told.heard.noise_packets_received == told.sent.noise_packets_sent > 0
    assert told.heard.packets_forged == told.heard.packets_lost == 0


@pytest.mark.parametrize("loss", [0.05, pytest.param(0.2, marks=pytest.mark.long)])
def test_descriptions_that_are_lost_are_made_up_for(tmp_path: FilePath, loss: float) -> None:
    told = Told(tmp_path, dtx=(True, True), path=Path(delay_s=0.02, loss=loss))
    assert told.heard.noise_packets_received < told.sent.noise_packets_sent
    pauses = levels(told.sound.samples)[-7:]  # of the last pause
    assert np.abs(np.median(pauses) + 55) < 2.5


@pytest.mark.long
@pytest.mark.skipif(not pesq_installed(), reason="PESQ is not installed (make quality)")
@pytest.mark.parametrize(
    ("dbfs", "loss", "floor"), [(-80, 0.0, 4.1), (-65, 0.0, 3.8), (-80, 0.02, 3.5)]
)
def test_speech_is_hardly_worse_by_pesq(
    tmp_path: FilePath, dbfs: float, loss: float, floor: float
) -> None:
    """Which takes other noise than was sent for a fault, however much it sounds the same."""
    scores = []
    for dtx in (False, True):
        path = Path(delay_s=0.02, jitter_s=0.005, loss=loss)
        told = Told(tmp_path, dtx=(dtx, dtx), path=path, dbfs=dbfs)
        graded = grade_speech(Sound(told.said, RATE), told.sound, bar=Bar(mos_lqo=1.0))
        scores.append(graded.mos_lqo or 0.0)
    assert scores[1] > floor, scores


@pytest.mark.long
def test_no_word_loses_its_beginning_or_its_end(tmp_path: FilePath) -> None:
    """Whatever of the speech is louder than its room comes as it was said."""
    told, speech = Told(tmp_path, dtx=(True, True)), conversation(-200)
    heard = told.sound.samples.astype(float)
    lag = int(np.correlate(heard[: 12 * RATE], told.said[2 * RATE : 4 * RATE], "valid").argmax())
    lag -= 2 * RATE
    frames = range(lag < 0, told.said.size // 160 - 10)
    loud = [n for n in frames if rms_dbfs(speech[160 * n : 160 * n + 160]) > -50]
    assert len(loud) > 400
    for n in loud:
        was, came = told.said[160 * n : 160 * n + 160], heard[160 * n + lag : 160 * n + 160 + lag]
        noise = float(np.sqrt(np.mean((came - was) ** 2)))
        assert noise < 0.05 * float(np.sqrt(np.mean(was.astype(float) ** 2))) + 8, n


@pytest.mark.parametrize("legs", [(), (0,), (0, 1)], ids=["plain", "one", "both"])
def test_comfort_noise_is_relayed_where_both_sides_take_it(legs: tuple[int, ...]) -> None:
    """Whichever of the legs are protected."""

    async def story(scene: Scene) -> None:
        for leg in legs:
            suite = ("AES_CM_128_HMAC_SHA1_80", "AEAD_AES_256_GCM")[leg]
            ours, theirs = (
                SrtpKeys.generate(suite, SeededRandom(10 * leg + side)) for side in (1, 2)
            )
            await scene.legs[leg].protect(send=ours, receive=theirs)
            await scene.ends[leg].protect(send=theirs, receive=ours)
        one, two = scene.legs
        await one.bridge(two)
        await asyncio.sleep(12)
        before = [await end.measure() for end in scene.ends]
        await asyncio.sleep(10)
        after = [await end.measure() for end in scene.ends]
        for start, end in zip(before, after, strict=True):
            assert 4 <= end.noise_packets_received - start.noise_packets_received <= 6
            assert end.packets_received - start.packets_received <= 6, "and nothing else"
            assert end.noise_played_ms - start.noise_played_ms == pytest.approx(10_000, abs=50)
            assert end.packets_lost == 0
        for leg in scene.legs:
            assert (await leg.measure()).noise_played_ms < 1500, "it hears nothing of it"

    play(story, dtx=(True, True, True))


def test_between_two_codecs_it_is_heard_and_told_anew(tmp_path: FilePath) -> None:
    """The bridge hears it on one leg, and describes on the other what that sounds like."""

    async def story(scene: Scene) -> None:
        one, two = scene.legs
        await one.bridge(two)
        async with scene.ends[1].record(tmp_path / "heard.wav", channels="heard"):
            await scene.ends[0].play(conversation(-50, rounds=1))
            await asyncio.sleep(0.3)
        stats = await scene.ends[1].measure()
        assert stats.noise_packets_received >= 3
        assert (await one.measure()).noise_played_ms > 2000
        assert stats.noise_played_ms > 2000
        pause = levels(Sound.read(tmp_path / "heard.wav").samples)[-6:-1]
        assert np.abs(np.median(pause) + 50) < 2.0

    play(story, (("pcmu",), ("pcma",)), dtx=(True, False, True))


@pytest.mark.long
def test_a_silent_call_is_not_taken_for_a_dead_one() -> None:
    async def talk(alice: Call, bob: Call) -> None:
        await asyncio.sleep(150)
        for call in (alice, bob):
            stats = await call.measure()
            assert stats.packets_lost == 0
            assert stats.noise_played_ms > 145_000
            assert stats.packets_sent < 130

    call_up(talk, media=MediaConfig(dtx=True))
