"""What `Call.record` does, in a simulated world: sides, formats, pauses, beeps, events."""

from __future__ import annotations

import asyncio
import json
import wave
from pathlib import Path

import numpy as np
import pytest
from sound_scene import call_up, level_db, tone

from voip.call import Call
from voip.config import MediaConfig
from voip.errors import AudioFileError, ConfigError, VoipError
from voip.events import RecordingFailed
from voip.harness.audio import Sound
from voip.media.record.encoders import WavEncoder
from voip.media.record.plan import Beep

ALICE, BOB = 500, 1300


async def both_talk(mine: Call, theirs: Call, seconds: float) -> None:
    await asyncio.gather(
        mine.play(tone(ALICE, seconds, mine.rate)), theirs.play(tone(BOB, seconds, theirs.rate))
    )


def read(path: Path) -> tuple[np.ndarray, int]:
    """What a WAV file holds, by the standard library: int16 (samples, channels), and its rate."""
    with wave.open(str(path)) as file:
        pcm = np.frombuffer(file.readframes(1 << 30), "<i2").reshape(-1, file.getnchannels())
        return pcm, file.getframerate()


def loudest(pcm: np.ndarray, rate: int = 8000) -> int:
    """The loudest frequency of a piece, in Hz, to the nearest 5."""
    spectrum = np.abs(np.fft.rfft(pcm.astype(float) * np.hanning(len(pcm))))
    return round(float(spectrum.argmax()) * rate / len(pcm) / 5) * 5


@pytest.mark.parametrize(
    ("channels", "there"),
    [("heard", {BOB}), ("sent", {ALICE}), ("mono", {ALICE, BOB})],
)
def test_a_recording_of_one_channel_has_the_sides_asked_for(
    tmp_path: Path, channels: str, there: set[int]
) -> None:
    async def talk(mine: Call, theirs: Call) -> None:
        async with mine.record(tmp_path / "out.wav", channels=channels):
            await both_talk(mine, theirs, 2)

    call_up(talk)
    pcm, rate = read(tmp_path / "out.wav")
    assert (rate, pcm.shape[1]) == (8000, 1)
    piece = pcm[4000:12000, 0]
    found = {hertz for hertz in (ALICE, BOB) if level_db(piece, hertz) > -3}
    assert found == there


def test_stereo_has_the_other_side_left_and_ours_right(tmp_path: Path) -> None:
    async def talk(mine: Call, theirs: Call) -> None:
        async with mine.record(tmp_path / "out.wav", channels="stereo") as recording:
            await both_talk(mine, theirs, 2)
        assert recording.files == [tmp_path / "out.wav"]
        assert abs(recording.duration_s - 2) < 0.3

    call_up(talk)
    pcm, _ = read(tmp_path / "out.wav")
    assert (loudest(pcm[4000:12000, 0]), loudest(pcm[4000:12000, 1])) == (BOB, ALICE)
    assert level_db(pcm[4000:12000, 0], ALICE) < -60


def test_each_side_may_have_a_file_of_its_own(tmp_path: Path) -> None:
    async def talk(mine: Call, theirs: Call) -> None:
        async with mine.record(tmp_path / "out.wav", channels="separate"):
            await both_talk(mine, theirs, 2)

    call_up(talk)
    remote, local = read(tmp_path / "out-remote.wav")[0], read(tmp_path / "out-local.wav")[0]
    assert len(remote) == len(local) > 15000
    assert (loudest(remote[4000:12000, 0]), loudest(local[4000:12000, 0])) == (BOB, ALICE)


@pytest.mark.parametrize("codec", ["pcmu", "g722", "opus"])
@pytest.mark.parametrize("suffix", ["wav", "flac", "opus", "mp3"])
def test_every_format_of_every_rate_sounds_and_is_as_long(
    tmp_path: Path, suffix: str, codec: str
) -> None:
    av = pytest.importorskip("av")

    async def talk(mine: Call, theirs: Call) -> None:
        async with mine.record(tmp_path / f"out.{suffix}", channels="stereo") as recording:
            await both_talk(mine, theirs, 2)
        lengths.append(recording.duration_s)

    lengths: list[float] = []
    call_up(talk, media=MediaConfig(codecs=(codec,), jitter_min_ms=60, jitter_max_ms=60))
    with av.open(str(tmp_path / f"out.{suffix}")) as container:
        frames = [frame.to_ndarray() for frame in container.decode(audio=0)]
        rate = container.streams.audio[0].rate
    planar = frames[0].shape[0] == 2
    joined = np.concatenate(frames, axis=1)
    pcm = joined.T if planar else joined.reshape(-1, 2)
    assert abs(len(pcm) / rate - lengths[0]) < 1e-3, "no sample is missing"
    piece = slice(rate // 2, rate // 2 + rate)
    assert (loudest(pcm[piece, 0], rate), loudest(pcm[piece, 1], rate)) == (BOB, ALICE)


def test_another_rate_is_the_same_sound_at_the_same_time(tmp_path: Path) -> None:
    """The resampler's delay is taken out at the beginning and its tail is not lost."""

    async def talk(mine: Call, theirs: Call) -> None:
        own = mine.record(tmp_path / "own.wav", channels="sent")
        other = mine.record(tmp_path / "other.wav", channels="sent", rate_hz=16000)
        async with own, other:
            await mine.play(tone(ALICE, 1))

    call_up(talk)
    own, other = read(tmp_path / "own.wav"), read(tmp_path / "other.wav")
    assert (own[1], other[1]) == (8000, 16000)
    onset = [int(np.argmax(np.abs(pcm[:, 0]) > 4000)) / rate for pcm, rate in (own, other)]
    assert abs(onset[0] - onset[1]) < 0.021  # they begin and end in steps of their own
    length = [len(pcm) / rate for pcm, rate in (own, other)]
    assert abs(length[0] - length[1]) < 0.041


def test_a_pause_is_left_out_and_told_of(tmp_path: Path) -> None:
    async def talk(mine: Call, theirs: Call) -> None:
        async with mine.record(tmp_path / "out.wav", channels="sent", sidecar=True) as recording:
            await mine.play(tone(500, 1))
            recording.pause()
            await mine.play(tone(900, 2))
            recording.resume()
            await mine.play(tone(1300, 1))
            assert recording.error is None

    call_up(talk)
    pcm, rate = read(tmp_path / "out.wav")
    told = json.loads((tmp_path / "out.wav.json").read_text())
    (pause,) = told["pauses"]
    assert abs(pause["seconds"] - 2) < 0.1
    assert abs(told["duration_s"] - len(pcm) / rate) < 1e-6
    at = int(pause["at_s"] * rate)
    assert loudest(pcm[at - 4000 : at - 800, 0]) == 500
    assert loudest(pcm[at + 800 : at + 4000, 0]) == 1300
    assert level_db(pcm[:, 0], 900) < -40


def test_the_sidecar_tells_all_about_it(tmp_path: Path) -> None:
    async def talk(mine: Call, theirs: Call) -> None:
        record = mine.record(
            tmp_path / "out.opus", channels="stereo", sidecar=True, beep=True, rotate_s=1.0
        )
        async with record:
            await both_talk(mine, theirs, 2.5)
        ids.append(mine.id)

    ids: list[str] = []
    pytest.importorskip("av")
    call_up(talk)
    told = json.loads((tmp_path / "out.opus.json").read_text())
    assert told["call_id"] == ids[0]
    assert told["sip_call_id"]
    assert (told["local"], told["remote"]) == ("sip:alice@10.0.0.1", "sip:bob@10.0.0.2")
    assert (told["direction"], told["codec"]) == ("outgoing", "pcmu")
    assert (told["format"], told["rate_hz"]) == ("opus", 8000)
    assert told["channels"] == ["remote", "local"]
    assert told["beep"]["frequency_hz"] == 1400
    assert told["failure"] is None and told["pauses"] == [] and told["gaps"] == []
    names = [file["name"] for file in told["files"]]
    assert names == ["out-001.opus", "out-002.opus", "out-003.opus"]
    assert [file["start_s"] for file in told["files"]] == [0, 1, 2]
    assert sum(file["frames"] for file in told["files"]) == told["frames"]
    for file in told["files"]:
        assert (tmp_path / file["name"]).stat().st_size == file["bytes"]
    assert told["started"] < told["ended"] and told["started"].endswith("+00:00")


def test_a_new_file_begins_before_one_is_too_large(tmp_path: Path) -> None:
    async def talk(mine: Call, theirs: Call) -> None:
        async with mine.record(tmp_path / "out.wav", rotate_mb=0.05) as recording:
            await both_talk(mine, theirs, 10)
        made.extend(recording.files)

    made: list[Path] = []
    call_up(talk)
    sizes = [path.stat().st_size for path in made]
    assert len(made) >= 4 and max(sizes) <= 50_100
    assert min(sizes[:-1]) > 45_000


def test_a_recording_may_begin_before_it_was_asked_for(tmp_path: Path) -> None:
    async def talk(mine: Call, theirs: Call) -> None:
        with pytest.raises(ConfigError, match="no sound has been kept"):
            await mine.record(tmp_path / "none.wav", pre_roll_s=1).start()
        await mine.keep_sound(3)
        await both_talk(mine, theirs, 5)  # more than is kept
        record = mine.record(tmp_path / "out.wav", channels="stereo", pre_roll_s=3.0, sidecar=True)
        async with record:
            await mine.play(tone(900, 1))
        async with mine.record(tmp_path / "again.wav", channels="sent", pre_roll_s=0.5):
            await asyncio.sleep(0.1)

    call_up(talk)
    pcm, rate = read(tmp_path / "out.wav")
    told = json.loads((tmp_path / "out.wav.json").read_text())
    assert told["pre_roll_s"] == 3.0
    assert abs(len(pcm) / rate - 4.0) < 0.3
    assert loudest(pcm[: int(1.5 * rate), 1]) == ALICE
    assert loudest(pcm[: int(1.5 * rate), 0]) == BOB
    assert loudest(pcm[int(3.3 * rate) : int(3.9 * rate), 1]) == 900
    start = int(1.0 * rate)
    seam = pcm[start : start + rate, 1].astype(int)  # no seam where the wish came
    assert np.abs(np.diff(seam)).max() < 4000
    again, _ = read(tmp_path / "again.wav")
    assert loudest(again[400:3600, 0]) == 900


@pytest.mark.parametrize(
    ("to", "heard_by"),
    [("both", {"bob", "alice"}), ("remote", {"bob"}), ("file", set())],
)
def test_V01_a_beep_says_that_people_are_recorded(
    tmp_path: Path, to: str, heard_by: set[str]
) -> None:
    async def talk(mine: Call, theirs: Call) -> None:
        async with mine.audio() as mine_ear, theirs.audio() as their_ear:
            beep = Beep(every_s=5, to=to)
            recording = mine.record(tmp_path / "out.wav", channels="mono", beep=beep)
            async with recording:
                mine_pcm, their_pcm = await asyncio.gather(mine_ear.read(12), their_ear.read(12))
            after = await their_ear.read(6)
        assert level_db(after, 1400) < -60
        heard.update(alice=mine_pcm, bob=their_pcm)

    heard: dict[str, np.ndarray] = {}
    call_up(talk)
    amplitude = 32768 * 10 ** ((-20 - 6.15) / 20) * 2**0.5
    for who, pcm in heard.items():
        loud = np.array(
            [
                level_db(pcm[at : at + 800], 1400, amplitude=amplitude) > -1
                for at in range(0, 88_000, 800)
            ]
        )
        starts = np.flatnonzero(np.diff(loud.astype(int), prepend=0) == 1)
        if who in heard_by:
            assert len(starts) in (2, 3), starts  # at the start, and every 5 s
            assert abs(np.diff(starts) - 50).max() <= 1
            assert 4 <= loud[starts[1] : starts[1] + 10].sum() <= 5  # half a second
        else:
            assert not loud.any()
    pcm, _ = read(tmp_path / "out.wav")
    assert level_db(pcm[400:3600, 0], 1400, amplitude=amplitude) > -1, "it is recorded too"


def test_V01_a_full_disk_is_an_event_and_not_a_dead_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def talk(mine: Call, theirs: Call) -> None:
        failed: list[RecordingFailed] = []
        mine.on_event(lambda event: isinstance(event, RecordingFailed) and failed.append(event))
        async with mine.record(tmp_path / "out.wav", sidecar=True) as recording:
            await both_talk(mine, theirs, 3)
            full.append(True)
            await both_talk(mine, theirs, 2)
        assert isinstance(recording.error, AudioFileError)
        assert [event.path for event in failed] == [str(tmp_path / "out.wav")]
        assert "No space left" in failed[0].reason
        async with theirs.audio() as ear:  # and the call goes on
            pcm, _ = await asyncio.gather(ear.read(1), mine.play(tone(ALICE, 1.5)))
        assert loudest(pcm[4000:]) == ALICE

    full: list[bool] = []
    write = WavEncoder.write

    def no_room(self: WavEncoder, pcm: np.ndarray) -> None:
        if full:
            raise AudioFileError(f"{tmp_path} cannot be written: No space left on device")
        write(self, pcm)

    monkeypatch.setattr(WavEncoder, "write", no_room)
    call_up(talk)
    sound = Sound.read(tmp_path / "out.wav")
    assert sound.samples.size > 2 * 8000
    assert "No space" in json.loads((tmp_path / "out.wav.json").read_text())["failure"]


def test_a_recording_ends_with_its_call_and_is_whole(tmp_path: Path) -> None:
    async def talk(mine: Call, theirs: Call) -> None:
        recording = mine.record(tmp_path / "out.wav", channels="stereo", sidecar=True)
        await recording.start()
        await both_talk(mine, theirs, 1)
        await mine.hangup()
        await asyncio.sleep(1)
        assert not mine._session.stack.arena._rings, "every ring is given back"

    call_up(talk)
    assert json.loads((tmp_path / "out.wav.json").read_text())["ended"] is not None
    assert len(read(tmp_path / "out.wav")[0]) > 7000


@pytest.mark.parametrize(
    ("wish", "says"),
    [
        ({"channels": "quad"}, "no recording has 'quad'"),
        ({"format": "aac"}, "no recordings in 'aac'"),
        ({"format": "opus", "rate_hz": 44100}, "cannot have 44100 Hz"),
        ({"rate_hz": 4000}, "cannot have 4000 Hz"),
        ({"pre_roll_s": 100}, "are not kept"),
        ({"rotate_s": 0.1}, "no new file every"),
        ({"rotate_mb": 0}, "no new file every"),
    ],
)
def test_what_cannot_be_is_refused_at_once(
    tmp_path: Path, wish: dict[str, object], says: str
) -> None:
    async def talk(mine: Call, theirs: Call) -> None:
        with pytest.raises(VoipError, match=says):
            mine.record(tmp_path / "x.wav", **wish)  # type: ignore[arg-type]

    call_up(talk)


def test_two_recordings_do_not_share_a_file_and_the_next_may_have_it(tmp_path: Path) -> None:
    async def talk(mine: Call, theirs: Call) -> None:
        async with mine.record(tmp_path / "out.wav"):
            for call in (mine, theirs):
                with pytest.raises(ConfigError, match="is being recorded to already"):
                    await call.record(tmp_path / "out.wav").start()
            await both_talk(mine, theirs, 1)
        with pytest.raises(AudioFileError):
            await mine.record(tmp_path / "none" / "out.wav").start()
        with pytest.raises(AudioFileError):
            await mine.record(tmp_path / "none" / "out.wav").start()
        async with theirs.record(tmp_path / "out.wav"):
            await both_talk(mine, theirs, 1)

    call_up(talk)


def test_a_suffix_of_sound_that_is_not_written_is_refused(tmp_path: Path) -> None:
    async def talk(mine: Call, theirs: Call) -> None:
        with pytest.raises(ConfigError, match=r"no \.m4a is written"):
            mine.record(tmp_path / "out.m4a")
        async with mine.record(tmp_path / "out.m4a", format="wav"):
            await both_talk(mine, theirs, 0.5)

    call_up(talk)
