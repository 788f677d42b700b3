"""Judging codecs: paths that lose packets, remedies, what is made of scores; a part for real."""

from __future__ import annotations

import wave
from collections.abc import Callable
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import NoReturn

import numpy as np
import numpy.typing as npt
import pytest
from codec_quality import SETS, ilbc_program

from voip.codecs.ilbc.codec import ilbc_codec
from voip.codecs.ilbc.mode import MODE_20
from voip.codecs.opus.codec import OpusCodec
from voip.codecs.registry import default_registry
from voip.dsp.conceal import HISTORY_S, conceal
from voip.errors import CodecError, ConfigError
from voip.harness.audio import Sound
from voip.harness.bench.codec_sides import formats
from voip.harness.codec_quality.clean import CleanScore, coded, packets_of, variants, working
from voip.harness.codec_quality.grid import run
from voip.harness.codec_quality.ilbc_program import IlbcProgram
from voip.harness.codec_quality.loss import (
    BURST,
    Cell,
    Kind,
    Remedy,
    heard,
    lossy_codecs,
    lost_packets,
)
from voip.harness.codec_quality.report import FILE_BAR, MEAN_BAR, QualityReport
from voip.harness.codec_quality.speech import Band, SpeechSet, score
from voip.harness.grade import pesq_installed
from voip.sounds import asset_path

Pcm = npt.NDArray[np.int16]
RANDOM, IN_BURSTS = Kind.RANDOM.value, Kind.BURST.value


@pytest.fixture(scope="module")
def speech() -> Pcm:
    with asset_path("speech-8k.wav") as path:
        return Sound.read(path).samples[:16_000]


# ---------------------------------------------------------------- paths


def test_the_same_seed_loses_the_same_packets_and_another_others() -> None:
    for kind in (RANDOM, IN_BURSTS):
        one = lost_packets(Cell(kind, 10, 3), 500, recording=2)
        assert np.array_equal(one, lost_packets(Cell(kind, 10, 3), 500, recording=2))
        for other in (
            lost_packets(Cell(kind, 10, 4), 500, 2),
            lost_packets(Cell(kind, 10, 3), 500, 1),
            lost_packets(Cell(kind, 20, 3), 500, 2),
        ):
            assert not np.array_equal(one, other)
    assert not lost_packets(Cell(RANDOM, 0, 0), 500, 0).any()


@pytest.mark.parametrize("loss", [1, 5, 20])
def test_a_path_loses_what_it_says_in_bursts_as_long_as_it_says(loss: int) -> None:
    for kind, length in ((RANDOM, 1 / (1 - loss / 100)), (IN_BURSTS, BURST)):
        lost = lost_packets(Cell(kind, loss, 0), 200_000, 0)
        assert lost.mean() == pytest.approx(loss / 100, rel=0.1)
        bursts = [sum(1 for _ in run) for gone, run in groupby(lost.tolist()) if gone]
        assert np.mean(bursts) == pytest.approx(length, rel=0.1)


# ---------------------------------------------------------------- remedies


def gaps(packets: int, *lost: int) -> npt.NDArray[np.bool_]:
    return np.isin(np.arange(packets), lost)


def test_silence_repetition_and_concealment_are_what_they_say(speech: Pcm) -> None:
    packets = packets_of(speech, ilbc_codec(MODE_20).info)
    lost = gaps(len(packets), 30, 31, 50)
    plain = gaps(len(packets))
    remedies = (Remedy.GENERIC, Remedy.REPETITION, Remedy.SILENCE)
    found = dict(heard("pcmu", speech, [(0, plain), (5, lost)], remedies))
    sent = found[Remedy.SILENCE][0].reshape(-1, 160)
    for remedy, (whole, holed) in found.items():
        assert np.array_equal(whole, sent.ravel()), remedy
        frames = holed.reshape(-1, 160)
        assert np.array_equal(frames[:30], sent[:30])
        assert np.array_equal(frames[33:50], sent[33:50])
    silent, again, made = (found[r][1].reshape(-1, 160) for r in (Remedy.SILENCE, *remedies[1::-1]))
    assert not silent[lost].any()
    assert np.array_equal(again[30], sent[29] // 2)
    assert np.array_equal(again[31], again[30] // 2)
    past = sent[:30].reshape(1, -1)[:, -round(HISTORY_S * 8000) :] / np.float32(32768)
    expected = np.rint(conceal(past, np.zeros(1, np.int64), 320)[0] * 32768)
    assert np.abs(made[30:32].ravel() - expected).max() <= 1
    assert not np.array_equal(made[32], sent[32]), "the first good samples are blended"
    assert np.array_equal(made[32, 40:], sent[32, 40:])


def test_of_ilbc_all_paths_at_once_are_what_one_codec_does(speech: Pcm) -> None:
    codec = ilbc_codec(MODE_20)
    packets = packets_of(speech[:8000], codec.info)
    payloads = [codec.encode(packet) for packet in packets]
    lost = [gaps(len(packets), 5, 6, 20), gaps(len(packets), 0, 11, 49), gaps(len(packets))]
    paths = [(5, which) for which in lost]
    found = dict(heard("ilbc", speech[:8000], paths, (Remedy.OWN, Remedy.SILENCE)))
    for number, which in enumerate(lost):
        own, silent = ilbc_codec(MODE_20), ilbc_codec(MODE_20)
        for remedy, frames in (
            (
                Remedy.OWN,
                [
                    own.conceal(160) if n else own.decode(p)
                    for n, p in zip(which, payloads, strict=True)
                ],
            ),
            (
                Remedy.SILENCE,
                [
                    np.zeros(160, np.int16) if n else silent.decode(p)
                    for n, p in zip(which, payloads, strict=True)
                ],
            ),
        ):
            assert np.array_equal(np.concatenate(frames), found[remedy][number]), remedy


def test_every_codec_of_the_registry_has_remedies_and_new_ones_come_by_themselves() -> None:
    judged = lossy_codecs()
    for name, format_ in formats(default_registry()).items():
        # as another, or wider than the speech
        if format_.name in ("pcma", "l16") or default_registry().info(format_).sample_rate == 32000:
            assert name not in judged
            continue
        try:
            working(partial(default_registry().create, format_))
        except CodecError:
            continue
        assert len(judged[name]) > 1, name
    assert judged["ilbc"][0] is Remedy.OWN
    assert judged["pcmu"][0] is Remedy.GENERIC
    assert {one.format.name for one in variants().values()} >= {"pcmu", "pcma", "ilbc"}


def test_what_is_heard_of_opus_is_not_late(speech: Pcm) -> None:
    try:
        codec = OpusCodec(8000)
    except CodecError as error:
        pytest.skip(str(error))
    sound = coded(codec, speech)[: speech.size].astype(float)
    likeness = [
        np.corrcoef(speech[100:-100], np.roll(sound, by)[100:-100])[0, 1] for by in range(-40, 41)
    ]
    assert abs(int(np.argmax(likeness)) - 40) <= 1


# ---------------------------------------------------------------- speech


def test_short_and_silent_recordings_are_left_out(tmp_path: Path) -> None:
    tone = (8000 * np.sin(np.arange(8000 * 3) / 5)).astype("<i2")
    for name, samples in {"a": tone, "b": tone[:8000], "c": np.zeros_like(tone)}.items():
        with wave.open(str(tmp_path / f"{name}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(8000)
            file.writeframes(samples.tobytes())
    found = SpeechSet.of(tmp_path)
    assert [path.name for path in found.files] == ["a.wav"]
    assert list(found.of_band(Band.WIDE)) == []
    (tmp_path / "a.wav").unlink()
    with pytest.raises(ConfigError, match="no WAV files to judge by"):
        SpeechSet.of(tmp_path)


# ---------------------------------------------------------------- what is made of scores


def report(ours: list[float], redundancy: list[float]) -> QualityReport:
    """Two recordings of a codec that another plays at 4.0; redundancy beside own at 3.0."""
    names = ["a", "b"]
    cells = [Cell(kind, 10, 0) for kind in (RANDOM, IN_BURSTS)]
    return QualityReport(
        seeds=1,
        bands={"x": Band.NARROW},
        clean={
            ("x", "set"): {
                name: CleanScore(score, 4.0, "another")
                for name, score in zip(names, ours, strict=True)
            }
        },
        lossy={
            ("x", Remedy.OWN): {cell: dict.fromkeys(names, 3.0) for cell in cells},
            ("x", Remedy.REDUNDANCY): {
                cell: dict(zip(names, redundancy, strict=True)) for cell in cells
            },
        },
    )


def test_means_differences_and_their_errors() -> None:
    figures = report([4.2, 3.96], [3.5, 3.7]).to_json()
    (clean,) = figures["clean"]
    assert (clean["ours"], clean["theirs"], clean["difference"]) == (4.08, 4.0, 0.08)
    assert clean["worst"] == -0.04
    assert [one["remedy"] for one in figures["lossy"]] == ["redundancy", "own"]
    assert figures["lossy"][0]["burst"] == {"10": 3.6}
    burst, random = figures["differences"]
    assert (burst["kind"], random["kind"]) == (IN_BURSTS, RANDOM)
    assert (random["difference"], random["error"], random["pairs"]) == (0.6, 0.1, 2)


@pytest.mark.parametrize(
    ("ours", "redundancy", "missed"),
    [
        ([4.0, 4.0], [3.1, 3.1], set()),
        ([3.96, 3.97], [3.1, 3.1], {"clean_mean"}),
        ([4.2, 3.94], [3.1, 3.1], {"clean_recording"}),
        ([4.0, 4.0], [3.0, 3.0], {"redundancy_from_10_percent"}),
    ],
)
def test_a_bar_is_missed_where_it_is(
    ours: list[float], redundancy: list[float], missed: set[str]
) -> None:
    bars = report(ours, redundancy).bars()
    assert {name for name, one in bars.items() if one["met"] is False} == missed
    assert QualityReport().bars()["clean_mean"]["met"] is None, "nothing was judged"


def test_concealment_is_asked_for_codec_by_codec() -> None:
    cells = [Cell(RANDOM, 10, 0)]
    scores = {Remedy.OWN: 3.0, Remedy.REPETITION: 3.1, Remedy.GENERIC: 3.2, Remedy.SILENCE: 2.0}
    found = QualityReport(
        bands={"x": Band.NARROW, "y": Band.NARROW},
        lossy={
            (codec, remedy): {cell: {"a": scores[remedy]} for cell in cells}
            for codec, remedies in {
                "x": (Remedy.OWN, Remedy.REPETITION, Remedy.SILENCE),
                "y": (Remedy.GENERIC, Remedy.REPETITION, Remedy.SILENCE),
            }.items()
            for remedy in remedies
        },
    )
    bars = found.bars()
    assert bars["own_concealment_of_x"] == {"figure": -0.1, "bar": 0.0, "met": False}
    assert bars["generic_concealment_of_y"] == {"figure": 0.1, "bar": 0.0, "met": True}


# ---------------------------------------------------------------- a part of the grid, for real


@pytest.fixture
def judge(missing: Callable[[str], NoReturn]) -> None:
    if not pesq_installed():
        missing("the package pesq is not installed")


@pytest.mark.long
@pytest.mark.reference
@pytest.mark.usefixtures("judge")
def test_codecs_are_as_good_as_others_and_remedies_in_their_order(reference_data: Path) -> None:
    """A part of what `make codec-quality` judges: one loss, two passes, half of the speech."""
    every = SpeechSet.of(reference_data / SETS[0])
    some = SpeechSet(every.name, every.files[::2])
    found = run([some], seeds=2, losses=[10], program=ilbc_program(), processes=0)
    figures = found.to_json()
    compared = {one["codec"]: one for one in figures["clean"] if one["theirs"] is not None}
    assert len(compared) >= 2, "by FFmpeg, if by nobody else"
    for codec, one in compared.items():
        assert one["difference"] >= MEAN_BAR, codec
        assert one["worst"] >= FILE_BAR, codec
    floors = {"pcmu": 4.3, "pcma": 4.3, "ilbc mode=20": 3.75, "ilbc mode=30": 3.7, "g722": 4.0}
    for one in figures["clean"]:
        assert one["ours"] > floors.get(one["codec"], 1.0), one
    shown = {(one["codec"], one["than"], one["kind"]): one for one in figures["differences"]}
    for codec, than in (
        ("opus", "own"),
        ("ilbc", "silence"),
        ("ilbc", "repetition"),
        ("pcmu", "silence"),
    ):
        for kind in (RANDOM, IN_BURSTS):
            if codec in lossy_codecs():
                one = shown[codec, than, kind]
                assert one["difference"] > 2 * one["error"] > 0, one
    # so much of a score is no chance: the very same again
    again = run([some], seeds=2, losses=[10], codecs=["ilbc"], processes=0)
    assert again.to_json()["lossy"] == [one for one in figures["lossy"] if one["codec"] == "ilbc"]


@pytest.mark.long
@pytest.mark.reference
@pytest.mark.usefixtures("judge")
def test_ilbc_is_as_good_as_the_published_streams(reference_data: Path) -> None:
    folder = reference_data / "ilbc-rfc3951"
    sent = np.fromfile(folder / "iLBC.INP", "<i2")[: 474 * 160]
    theirs = np.fromfile(folder / "iLBC_20ms_clean.OUT", "<i2")
    ours = coded(ilbc_codec(MODE_20), sent)
    bars = [score(sent, sound, 8000, Band.NARROW) for sound in (ours, theirs)]
    assert bars[0] >= bars[1] + MEAN_BAR, bars
    assert bars[1] > 3.5


@pytest.mark.reference
@pytest.mark.peer
def test_the_program_of_rfc_3951_is_what_the_published_streams_come_of(
    reference_data: Path, missing: Callable[[str], NoReturn]
) -> None:
    library = ilbc_program() or missing("PJSIP is not installed (make peers)")
    program = IlbcProgram(library, MODE_20)
    folder = reference_data / "ilbc-rfc3951"
    sent = np.fromfile(folder / "iLBC.INP", "<i2")[: 474 * 160].reshape(474, -1)
    payloads = np.fromfile(folder / "iLBC_20ms.BIT", np.uint8).reshape(474, -1)
    heard_of = np.fromfile(folder / "iLBC_20ms_clean.OUT", "<i2").reshape(474, -1)
    same = sum(
        program.encode(frame) == payload.tobytes()
        for frame, payload in zip(sent, payloads, strict=True)
    )
    assert same > 460
    sound = np.stack([program.decode(payload.tobytes()) for payload in payloads])
    assert np.abs(sound.astype(int) - heard_of).max() <= 3
