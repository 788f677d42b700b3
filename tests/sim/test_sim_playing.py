"""What `Call.play`, `Call.player` and `Call.play_tone` do, in a simulated world."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from pathlib import Path

import numpy as np
import pytest
from sound_scene import STEADY, Pcm, call_up, level_db, tone

from voip import AudioFileError, CallStateError, ConfigError
from voip.call import Call
from voip.config import MediaConfig
from voip.dsp.melody import melody
from voip.media.wav import WavWriter
from voip.session.playing import Played, StoppedBy
from voip.sounds import asset_path

RATE = 8000


async def heard_while(ear: Call, seconds: float, doing: Awaitable[object] | None = None) -> Pcm:
    """What Bob hears in so many seconds, while something is done."""

    async def listen() -> Pcm:
        async with ear.audio() as reader:
            return await reader.read(seconds)

    async def nothing() -> None: ...

    pcm, _ = await asyncio.gather(listen(), doing or nothing())
    return pcm


def loudness(pcm: Pcm) -> float:
    """RMS, in dB of full scale."""
    return float(10 * np.log10(np.mean((pcm / 32768.0) ** 2) + 1e-12))


def onset(pcm: Pcm, level: int = 3000) -> int:
    return int(np.argmax(np.abs(pcm.astype(int)) > level))


def clicks(pcm: Pcm) -> int:
    """How many jumps there are that no tone of 8000 up to 1 kHz makes: 6.1 k a sample."""
    return int((np.abs(np.diff(pcm.astype(int))) > 7000).sum())


def test_a_file_is_played_to_its_end_and_says_so(tmp_path: Path) -> None:
    async def talk(mine: Call, theirs: Call) -> None:
        with WavWriter(tmp_path / "tone.wav", RATE) as file:
            file.write(tone(500, 1.5))
        pcm = await heard_while(theirs, 3, played_by(mine, tmp_path / "tone.wav"))
        assert abs(np.count_nonzero(pcm) - 1.5 * RATE * 7 / 8) < 400  # a sixteenth is 0, twice

    async def played_by(call: Call, path: Path) -> None:
        played = await call.play(path)
        assert played.stopped_by is StoppedBy.END
        assert played.seconds == pytest.approx(1.5)

    call_up(talk)


def test_a_list_a_loop_and_a_start_within_it() -> None:
    async def talk(mine: Call, theirs: Call) -> None:
        pieces = [tone(400, 0.5), tone(800, 0.5)]
        pcm = await heard_while(theirs, 4, mine.play(pieces, loop=3, start_s=0.25))
        start = onset(pcm)
        sound = pcm[start : start + int(2.75 * RATE)]
        hertz = []
        for at in range(0, len(sound) - 800, 2000):  # a quarter of a second each
            piece = sound[at + 400 : at + 1600].astype(float)
            peak = np.abs(np.fft.rfft(piece * np.hanning(1200))).argmax() * RATE / 1200
            hertz.append(round(float(peak) / 100) * 100)
        assert hertz == [400, 800, 800, 400, 400, 800, 800, 400, 400, 800, 800]
        assert np.abs(pcm[start + int(2.8 * RATE) :]).max() < 200

    call_up(talk)


def test_volume_changes_within_a_tick_and_without_a_click() -> None:
    async def talk(mine: Call, theirs: Call) -> None:
        async def louder() -> None:
            async with mine.player(tone(500, 5), volume_db=-12) as player:
                await asyncio.sleep(1)
                player.volume_db = 0
                changed.append(asyncio.get_running_loop().time())
                await asyncio.sleep(1)
                player.volume_db = -30
                await asyncio.sleep(1)

        pcm = await heard_while(theirs, 4, louder())
        start = onset(pcm, 500)
        levels = [
            level_db(pcm[start + at : start + at + 1600], 500)
            for at in (4000, RATE + 4000, 2 * RATE + 4000)
        ]
        assert levels == pytest.approx([-12, 0, -30], abs=1)
        jump = onset(pcm, 4000) - start
        assert abs(jump - RATE) < 400, "within 50 ms of the wish"
        assert clicks(pcm) == 0

    changed: list[float] = []
    call_up(talk)


def test_a_pause_loses_nothing_and_repeats_nothing() -> None:
    async def talk(mine: Call, theirs: Call) -> None:
        async def pause() -> None:
            async with mine.player(tone(500, 3)) as player:
                await asyncio.sleep(1)
                await player.pause()
                assert player.paused
                await asyncio.sleep(0.1)
                where = player.position
                await asyncio.sleep(1)
                assert player.position == where
                assert 0.95 < where[1] < 1.1
                await player.resume()
                played.append(await player.wait())

        pcm = await heard_while(theirs, 5, pause())
        assert clicks(pcm) == 0
        loud = np.convolve(np.abs(pcm.astype(float)), np.ones(160) / 160, "same") > 1000
        edges = np.flatnonzero(np.diff(loud.astype(int)))
        assert len(edges) == 4
        lengths = np.diff(edges) / RATE
        assert lengths[0] + lengths[2] == pytest.approx(3.0, abs=0.06)
        assert lengths[1] == pytest.approx(1.1, abs=0.06)
        assert mine.stats.source_underrun_ms < 60

    played: list[Played] = []
    call_up(talk)
    assert played[0].stopped_by is StoppedBy.END
    assert played[0].seconds == pytest.approx(3.0)


def test_it_goes_on_from_where_it_is_told_to() -> None:
    steps = np.concatenate([tone(300 + 100 * n, 1.0) for n in range(8)])

    async def talk(mine: Call, theirs: Call) -> None:
        async def jump() -> None:
            async with mine.player([steps, tone(500, 1)]) as player:
                await asyncio.sleep(0.5)
                await player.seek(5.0)
                assert player.position[1] == pytest.approx(5.0, abs=0.05)
                assert player.duration_s == 8.0
                await asyncio.sleep(0.8)
                await player.seek(0.25, item=1)
                played.append(await player.wait())
                with pytest.raises(CallStateError):
                    await player.seek(1)

        pcm = await heard_while(theirs, 3.5, jump())
        assert clicks(pcm) == 0
        start = onset(pcm)
        for at, hertz in ((0.2, 300), (0.9, 800), (1.7, 500)):
            piece = pcm[start + int(at * RATE) : start + int((at + 0.2) * RATE)]
            assert level_db(piece, hertz) > -2, (at, hertz)

    played: list[Played] = []
    call_up(talk)
    assert played[0].seconds == pytest.approx(0.5 + 0.8 + 0.75, abs=0.2)


def test_fades_rise_and_fall_evenly() -> None:
    async def talk(mine: Call, theirs: Call) -> None:
        async def fade() -> None:
            async with mine.player(tone(500, 10), fade_s=1.0) as player:
                await asyncio.sleep(2)
                await player.stop(fade_s=1.0)
                ended.append(await player.wait())

        pcm = await heard_while(theirs, 4, fade())
        start = onset(pcm, 60)
        levels = [
            level_db(pcm[start + int(at * RATE) - 400 : start + int(at * RATE) + 400], 500)
            for at in (0.25, 0.5, 1.5, 2.5, 2.75)
        ]
        assert levels == pytest.approx([-12, -6, 0, -6, -12], abs=1.5)
        assert clicks(pcm) == 0
        assert np.abs(pcm[start + int(3.2 * RATE) :]).max() < 50

    ended: list[Played] = []
    call_up(talk)
    assert ended[0].stopped_by is StoppedBy.STOP
    assert ended[0].seconds == pytest.approx(3.0, abs=0.1)


# ---------------------------------------------------------------- barge-in


def test_a_digit_stops_a_prompt_and_can_be_collected() -> None:
    async def talk(mine: Call, theirs: Call) -> None:
        async def press() -> None:
            await asyncio.sleep(1)
            await theirs.send_dtmf("5")

        played, _ = await asyncio.gather(mine.play(tone(500, 30), barge_in="dtmf"), press())
        assert (played.stopped_by, played.digit) == (StoppedBy.DTMF, "5")
        assert 1 < played.seconds < 1.5
        assert await mine.collect(1, timeout=1) == "5"
        played = await mine.play(tone(500, 0.5), barge_in="any")  # nobody does anything
        assert played.stopped_by is StoppedBy.END

    call_up(talk)


@pytest.mark.parametrize("loss", [0.0, 0.05])
def test_speech_stops_a_prompt(loss: float) -> None:
    from voip.sim import Path as Way

    async def talk(mine: Call, theirs: Call) -> None:
        async def speak() -> None:
            await asyncio.sleep(2)
            with asset_path("speech-8k.wav") as speech:
                await theirs.play(speech)

        played, _ = await asyncio.gather(mine.play(tone(500, 30), barge_in="voice"), speak())
        assert played.stopped_by is StoppedBy.VOICE
        assert 2 < played.seconds < 3.2

    call_up(talk, path=Way(delay_s=0.02, loss=loss))


def test_noise_clicks_and_silence_stop_nothing() -> None:
    async def talk(mine: Call, theirs: Call) -> None:
        random = np.random.default_rng(2)
        noise = (random.normal(0, 150, 4 * RATE)).astype(np.int16)
        noise[::RATE] = 20_000  # a click each second
        played, _ = await asyncio.gather(
            mine.play(tone(500, 5), barge_in="voice"), theirs.play(noise)
        )
        assert played.stopped_by is StoppedBy.END

    call_up(talk)


# ---------------------------------------------------------------- tones and music on hold


def test_a_tone_is_that_of_the_country() -> None:
    async def talk(mine: Call, theirs: Call) -> None:
        pcm = await heard_while(theirs, 3, mine.play_tone("busy", country="de", seconds=2.5))
        start = onset(pcm, 500)
        loud = np.abs(pcm[start:].astype(int)).reshape(-1, len(pcm[start:]))[0] > 500
        first = loud[: int(0.47 * RATE)]
        second = loud[int(0.49 * RATE) : int(0.95 * RATE)]
        assert first.mean() > 0.5 and not second.any()
        assert level_db(pcm[start : start + 3600], 425) > -16
        with pytest.raises(ConfigError, match="no tones of 'xx'"):
            await mine.play_tone("busy", country="xx")
        pcm = await heard_while(theirs, 1, mine.play_tone("600:0.1 0:0.1", seconds=0.5))
        assert level_db(pcm[onset(pcm, 500) :][:700], 600) > -16

    call_up(talk)


def test_the_caller_hears_a_tone_of_ours_before_the_answer() -> None:
    """Ringing by ourselves as early media."""

    async def ring(call: Call) -> None:
        await call.progress()
        await call.play_tone("ringback", country="fr", seconds=2)

    async def talk(mine: Call, theirs: Call) -> None:
        assert mine.stats.packets_received > 80

    call_up(talk, early=ring)


def test_who_is_held_hears_music_until_taken_off_hold() -> None:
    async def talk(mine: Call, theirs: Call) -> None:
        before = await heard_while(theirs, 1)
        await mine.hold()
        first = await heard_while(theirs, 3)
        during = await heard_while(theirs, 2, mine.play(tone(1900, 1)))
        after_that = await heard_while(theirs, 1)
        await mine.resume()
        resumed = await heard_while(theirs, 1.5)
        await mine.hold()
        again = await heard_while(theirs, 2)
        await mine.hangup()
        assert not before.any()
        assert loudness(first) > -35
        assert level_db(during, 1900) > -10, "what is played goes first"
        assert loudness(after_that) > -35, "and the music goes on after it"
        assert not resumed[RATE // 2 :].any()
        assert loudness(again[RATE:]) > -35
        await asyncio.sleep(1)
        assert not mine._session.stack.arena._rings, "every ring is given back"

    call_up(talk, media=MediaConfig(hold_music=True, jitter_min_ms=60, jitter_max_ms=60))


def test_music_may_be_set_for_a_call_while_it_is_held(tmp_path: Path) -> None:
    async def talk(mine: Call, theirs: Call) -> None:
        with WavWriter(tmp_path / "a.wav", RATE) as file:
            file.write(tone(900, 2))
        await mine.hold()
        assert not (await heard_while(theirs, 1)).any()
        await mine.set_hold_music([tmp_path / "a.wav", tone(1100, 1)])
        pcm = await heard_while(theirs, 5)
        assert level_db(pcm[RATE : 2 * RATE], 900) > -3
        assert level_db(pcm[-RATE:], 900) > -10 or level_db(pcm[-RATE:], 1100) > -10
        await mine.set_hold_music(None)
        await asyncio.sleep(0.5)
        assert not (await heard_while(theirs, 1)).any()
        await mine.set_hold_music(tmp_path / "none.wav")  # logged: silence
        assert not (await heard_while(theirs, 1)).any()
        with pytest.raises(ConfigError, match="not played from"):
            await mine.set_hold_music("http://radio.example/stream")

    call_up(talk, media=STEADY)


def test_our_melody_is_gentle_and_has_no_seam() -> None:
    for rate in (8000, 16_000, 48_000):
        pcm = melody(rate)
        assert -30 < loudness(pcm) < -14
        assert np.abs(pcm).max() <= 0.26 * 32768
        seam = abs(int(pcm[0]) - int(pcm[-1]))
        assert seam <= np.abs(np.diff(pcm.astype(int))).max()
        spectrum = np.abs(np.fft.rfft(pcm.astype(float)))
        above = spectrum[int(3500 * pcm.size / rate) :]
        assert (above**2).sum() < 1e-3 * (spectrum**2).sum()


# ---------------------------------------------------------------- the end


def test_playing_ends_with_the_call_and_gives_everything_back() -> None:
    async def talk(mine: Call, theirs: Call) -> None:
        player = mine.player(tone(500, 1), loop=True)
        await player.start()
        waiting = asyncio.create_task(mine.play(tone(600, 1)))  # its turn never comes
        await asyncio.sleep(1)
        await theirs.hangup()
        played = await player.wait()
        assert played.stopped_by is StoppedBy.CALL
        with pytest.raises(CallStateError):
            await waiting
        await asyncio.sleep(1)
        assert not mine._session.stack.arena._rings

    call_up(talk)


@pytest.mark.parametrize(
    ("source", "wish", "says"),
    [
        ([], {}, "0 things"),
        (np.zeros(3, np.float32), {}, "cannot be sent"),
        ("ftp://x/y", {}, "nothing is played from"),
        (np.zeros(3, np.int16), {"volume_db": 30}, "30 dB"),
        (np.zeros(3, np.int16), {"barge_in": "cough"}, "barge_in"),
        (np.zeros(3, np.int16), {"fade_s": 100}, "fade_s"),
        (np.zeros(3, np.int16), {"start_s": -1}, "start_s"),
    ],
)
def test_what_cannot_be_played_is_refused_at_once(
    source: object, wish: dict[str, object], says: str
) -> None:
    async def talk(mine: Call, theirs: Call) -> None:
        with pytest.raises(ConfigError, match=says):
            await mine.play(source, **wish)  # type: ignore[arg-type]
        with pytest.raises(AudioFileError, match="simulated"):
            await mine.play("http://host.example/a.wav")
        await mine.play(tone(500, 0.2))  # and the next has its turn

    call_up(talk)
