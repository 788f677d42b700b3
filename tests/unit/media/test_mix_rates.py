"""Mixes of several rates, limits to who hears whom, the limiter, and who talks: by plain models."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from engine_desk import RATE, Desk, speech
from test_mix import MIX, Party, said_by

import voip.media.mix as mix_module
import voip.media.table as table_module
from voip.dsp.bank import ResamplerBank
from voip.dsp.resample import Resampler
from voip.errors import ConfigError
from voip.media.answers import SourceDrained, SpeakersChanged
from voip.media.commands import (
    AddSink,
    Announce,
    CloseStream,
    MixStream,
    OpenMix,
    RemoveSink,
    SetSource,
    ShapeMix,
)
from voip.media.limiter import Limiter
from voip.media.mix import Mixer
from voip.media.rings import RingArena
from voip.media.talkers import HANGOVER_STEPS, ONSET_STEPS, TELL_STEPS, Talkers

RATES = (8000, 16000, 48000)


# ---------------------------------------------------------------- rates


@pytest.mark.parametrize(
    ("rate_in", "rate_out"),
    [
        (8000, 16000), (8000, 48000), (16000, 8000), (16000, 48000), (48000, 8000),
        (48000, 16000), (44100, 48000), (8000, 44100), (24000, 32000),
    ],
)  # fmt: skip
def test_a_bank_converts_as_a_resampler_does_whoever_comes_and_goes(
    rate_in: int, rate_out: int
) -> None:
    rng, size = np.random.default_rng(rate_in), rate_in // 100
    bank = ResamplerBank(rate_in, rate_out, size)
    single: dict[int, Resampler] = {}
    compared = 0
    for step in range(1, 60):
        here = np.sort(rng.choice(9, int(rng.integers(1, 9)), replace=False))
        block = rng.normal(0, 0.1, (here.size, size)).astype(np.float32)
        block[rng.random(here.size) < 0.2] = 0
        out = bank.process(here, block, step)
        for number in set(single) - set(here.tolist()):
            del single[number]  # it begins anew when it is back
        for at, number in enumerate(here.tolist()):
            known = single.setdefault(number, Resampler(rate_in, rate_out))
            np.testing.assert_allclose(out[at], known.process(block[at]), atol=2e-6)
            compared += 1
    assert compared > 150


def test_a_bank_refuses_blocks_that_do_not_fit() -> None:
    with pytest.raises(ConfigError, match="no whole number"):
        ResamplerBank(8000, 11025, 80)


class Model:
    """What each row of a mix hears, written out: sums of one rate, converted one by one."""

    def __init__(self) -> None:
        self.known: dict[tuple[int, int, int], tuple[int, Resampler]] = {}

    def converted(self, mix: int, rate: int, to: int, sound: np.ndarray, step: int) -> np.ndarray:
        last, resampler = self.known.get((mix, rate, to), (0, None))
        if resampler is None or last != step - 1:
            resampler = Resampler(rate, to)
        self.known[mix, rate, to] = step, resampler
        return resampler.process(sound.astype(np.float32)).astype(float)


@pytest.mark.parametrize("seed", range(3))
def test_rows_of_any_rate_hear_the_exact_sum_of_theirs_and_the_others_converted(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mixer, arena, model = Mixer(60), RingArena(), Model()
    rate_of = rng.choice(RATES, 60)
    of: dict[int, tuple[int, float, bool]] = {}
    for mix in range(4):
        mixer.open(MIX + mix)
    compared = 0
    for step in range(1, 50):
        for row in rng.integers(60, size=4).tolist():
            if row in of and rng.random() < 0.3:
                mixer.leave(row)
                del of[row]
            else:
                of[row] = (
                    MIX + int(rng.integers(4)), float(rng.choice([0, 0.5, 1, 1])), True
                )  # fmt: skip
                mixer.join(row, of[row][0], of[row][1], hears=True)
        parts, said = [], {}
        for rate in RATES:
            rows = np.flatnonzero(rate_of == rate)
            for some in (rows[::2], rows[1::2]):  # as groups of one rate may be several
                heard = rng.normal(0, 0.01, (some.size, rate // 100)).astype(np.float32)
                heard[rng.random(some.size) < 0.3] = 0
                parts.append(said_by(some, heard, rate))
                said |= dict(zip(some.tolist(), heard.astype(float), strict=True))
        mixer.hear(parts, arena)
        there = {(mix, int(rate_of[row])) for row, (mix, _, _) in of.items()}
        sums = {(mix, rate): np.zeros(rate // 100) for mix, rate in sorted(there)}
        for row, (mix, gain, _) in of.items():
            sums[mix, int(rate_of[row])] += gain * said[row]
        elsewhere = {
            (mix, rate, to): model.converted(mix, rate, to, sound, step)
            for (mix, rate), sound in sums.items()
            for to in RATES
            if to != rate and (mix, to) in there
        }
        for row, (mix, gain, _) in of.items():
            rate = int(rate_of[row])
            wanted = sums[mix, rate] - gain * said[row]
            for (same, _, to), sound in elsewhere.items():
                if same == mix and to == rate:
                    wanted = wanted + sound
            heard = mixer.others(np.array([row]), rate)[0]
            np.testing.assert_allclose(heard, wanted, atol=3e-6)
            compared += 1
    assert compared > 800


def test_V07_who_says_nothing_is_not_summed_up() -> None:
    mixer, rows = Mixer(100), np.arange(100)
    mixer.open(MIX)
    for row in range(100):
        mixer.join(row, MIX, 1.0, hears=True)
    heard = np.zeros((100, 80), np.float32)
    heard[[7, 41]] = np.random.default_rng(1).normal(0, 0.1, (2, 80))
    for _ in range(2):
        mixer.hear([said_by(rows, heard)], RingArena())
        assert np.flatnonzero(mixer.own >= 0).tolist() == [7, 41]
        sound = np.zeros((100, 80), np.float32)
        mixer.add(rows, sound, RATE)
        assert np.array_equal(sound[7], heard[41]) or np.allclose(sound[7], heard[41], atol=1e-7)
        assert np.allclose(sound[[0, 99]], heard[7] + heard[41], atol=1e-7)
    idle = heard.copy()
    idle[[0, 99]] = 8 / 32768  # A-law's silence, which would add up to a lot of nothing
    idle[50] = np.tile([8 / 32768, -8 / 32768], 40)  # the faintest sound
    mixer.hear([said_by(rows, idle)], RingArena())
    assert np.flatnonzero(mixer.own >= 0).tolist() == [7, 41, 50]
    heard[:] = 0.01  # and all of them again
    mixer.hear([said_by(rows, heard)], RingArena())
    assert np.allclose(mixer.others(rows, RATE), 0.99, atol=1e-5)


def test_calls_beside_a_mix_do_not_have_it_laid_out_anew(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They take their steps of 20 ms in two phases, the mix one every 10 ms."""
    monkeypatch.setattr(table_module, "PHASE_ROWS", 0)
    laid_out = []
    lay_out = mix_module.lay_out

    def noted(*arguments: object) -> object:
        laid_out.append(desk.now)
        return lay_out(*arguments)

    monkeypatch.setattr(mix_module, "lay_out", noted)
    for stream in range(1, 9):
        desk.call(stream)
    desk.do(OpenMix(MIX), *(MixStream(stream, MIX) for stream in (1, 2, 3)))
    desk.run(1)
    assert 1 <= len(laid_out) <= 2  # those of the other phase take their first step later
    desk.do(MixStream(4, MIX))
    desk.run(1)
    assert 2 <= len(laid_out) <= 4


# ---------------------------------------------------------------- who hears whom


@pytest.mark.parametrize("seed", range(3))
def test_whispers_and_choices_reach_those_they_are_for_and_nobody_else(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = 24
    streams = {1000 + row: row for row in range(rows)}
    mixer, arena = Mixer(rows, streams), RingArena()
    limits: dict[int, tuple[int, tuple[int, ...] | None, tuple[int, ...] | None]] = {}
    mixer.open(MIX)
    mixer.open(MIX + 1)
    compared = whispered = 0
    for _ in range(60):
        for row in rng.integers(rows, size=3).tolist():
            heard_by, listens_to = (
                tuple(rng.choice(list(streams), int(rng.integers(4)), replace=False).tolist())
                if rng.random() < 0.3 else None
                for _ in range(2)
            )  # fmt: skip
            limits[row] = MIX + int(rng.integers(2)), heard_by, listens_to
            mixer.join(row, limits[row][0], 1.0, hears=True)
            mixer.audience.limit(row, heard_by, listens_to)
        heard = rng.normal(0, 0.01, (rows, 80)).astype(np.float32)
        mixer.hear([said_by(np.arange(rows), heard)], arena)
        for row, (mix, _, listens_to) in limits.items():
            wanted = np.zeros(80)
            for other, (there, heard_by, _) in limits.items():
                if other == row or there != mix:
                    continue
                if heard_by is not None and 1000 + row not in heard_by:
                    continue
                if listens_to is not None and 1000 + other not in listens_to:
                    continue
                wanted = wanted + heard[other]
                whispered += heard_by is not None
            np.testing.assert_allclose(mixer.others(np.array([row]), RATE)[0], wanted, atol=1e-6)
            compared += 1
    assert compared > 500
    assert whispered > 50


# ---------------------------------------------------------------- too loud


def test_what_fits_is_left_alone_to_the_bit() -> None:
    limiter, rng = Limiter(4), np.random.default_rng(1)
    for _ in range(20):
        sound = rng.uniform(-1, 1, (3, 80)).astype(np.float32)
        before = sound.copy()
        limiter.limit(np.arange(3), sound)
        assert np.array_equal(sound, before)


def test_what_is_too_loud_is_brought_down_without_a_click_and_let_go_of_again() -> None:
    """A 100 Hz sine, 12 dB too loud for half a second: no step of it is steeper than the sine."""
    limiter = Limiter(2)
    t = np.arange(4 * RATE) / RATE
    loud = np.where((t > 1) & (t < 1.5), 2.0, 0.5)
    sound = (loud * np.sin(2 * np.pi * 100 * t)).astype(np.float32)
    out = sound.copy().reshape(-1, 80)
    for step in out:
        both = np.stack((step, np.zeros(80, np.float32)))
        limiter.limit(np.arange(2), both)
        step[:] = both[0]
        assert not both[1].any()  # another row has nothing to do with it
    out = out.ravel()
    assert np.abs(out).max() <= 1.0
    steepest = 2.0 * 2 * np.pi * 100 / RATE
    assert np.abs(np.diff(out)).max() < 1.2 * steepest
    held = np.abs(out[int(1.1 * RATE) : int(1.4 * RATE)]).reshape(-1, 80).max(axis=1)
    assert held.min() > 0.9  # it uses the room there is
    assert np.array_equal(out[int(3.5 * RATE) :], sound[int(3.5 * RATE) :])
    assert np.array_equal(out[:RATE], sound[:RATE])


# ---------------------------------------------------------------- who talks


def power_of(dbfs: float) -> float:
    return float(10 ** (dbfs / 10))


def test_onset_and_hangover_are_waited_for_and_noise_does_not_talk() -> None:
    talkers, row = Talkers(2), np.arange(2)

    def steps(count: int, dbfs: float) -> list[bool]:
        seen = []
        for _ in range(count):
            talkers.measure(row, np.array([power_of(dbfs), power_of(-45)], np.float32))
            seen.append(bool(talkers.talks[0]))
        return seen

    steps(1500, -70)
    assert not talkers.talks[1]  # a hum of -45 dBFS has become its noise
    loud = steps(20, -25)
    assert loud.index(True) == ONSET_STEPS - 1
    quiet = steps(100, -70)
    assert quiet.index(False) == HANGOVER_STEPS - 1
    steps(ONSET_STEPS - 1, -25)  # a knock
    assert not talkers.talks[0]


def test_the_loudest_are_chosen_with_hysteresis_and_along_a_line() -> None:
    mixer, rows = Mixer(6), np.arange(6)
    mixer.open(MIX)
    for row in range(6):
        mixer.join(row, MIX, 1.0, hears=True)
    mixer.talkers.shape(MIX, 2, speakers=False)
    heard_by_last: list[np.ndarray] = []

    def steps(count: int, *dbfs: float) -> set[int]:
        for _ in range(count):
            levels = np.array([*dbfs, -100.0], np.float32)
            sound = np.repeat(10 ** (levels[:, None] / 20), 80, axis=1).astype(np.float32)
            mixer.hear([said_by(rows, sound)], RingArena())
            heard_by_last.append(mixer.others(np.array([5]), RATE)[0])
        return set(np.flatnonzero(mixer.talkers.chosen).tolist())

    assert steps(30, -20, -30, -40, -40, -40) == {0, 1}
    assert steps(30, -20, -30, -28, -40, -40) == {0, 1}  # 2 dB are not enough
    heard_by_last.clear()
    assert steps(60, -20, -30, -26, -40, -40) == {0, 2}
    along_a_line = np.abs(np.diff(np.concatenate(heard_by_last))).max()
    assert 0 < along_a_line < 10 ** (-26 / 20) / 70  # of 80 samples
    assert steps(60, -60, -30, -26, -40, -40) == {0, 2}  # it may only have taken a breath
    assert steps(40, -60, -30, -26, -40, -40) == {1, 2}
    mixer.talkers.shape(MIX, None, speakers=False)
    assert steps(2, -20, -30, -40, -40, -40) == {0, 1, 2, 3, 4, 5}
    expected = sum(10 ** (dbfs / 20) for dbfs in (-20, -30, -40, -40, -40))
    assert heard_by_last[-1] == pytest.approx(expected, rel=1e-4)


def test_the_engine_tells_who_talks_the_loudest_first_a_few_times_a_second(desk: Desk) -> None:
    for stream in (1, 2, 3):
        desk.call(stream)
    desk.do(OpenMix(MIX), *(MixStream(stream, MIX) for stream in (1, 2, 3)))
    desk.do(ShapeMix(MIX, speakers=True))
    told: list[tuple[float, tuple[int, ...]]] = []
    desk.say(speech(2, 1), stream=1)
    desk.say(speech(2, 2) // 4, stream=2, begin=desk.now + 1.0)
    for _ in range(450):
        desk.run(0.01)
        for event in desk.of(SpeakersChanged):
            assert event.stream == MIX
            told.append((desk.now, event.speakers))
        desk.events.clear()
    assert [speakers for _, speakers in told] == [(1,), (1, 2), (2,), ()]
    gaps = [after - before for (before, _), (after, _) in pairwise(told)]
    assert min(gaps) > TELL_STEPS / 100 - 0.02
    desk.do(ShapeMix(MIX))
    desk.say(speech(1, 1), stream=1, sequence=400, timestamp=90_000)
    desk.run(1)
    assert not desk.of(SpeakersChanged)
    assert desk.engine._table.mixer.talkers.is_idle


# ---------------------------------------------------------------- rings


def test_an_announcement_is_heard_by_all_and_parts_make_up_what_the_ear_hears(desk: Desk) -> None:
    parties = [Party(desk, n) for n in (1, 2)]
    arena = desk.engine.arena
    ear, wide, one, two, nobody, said = (
        arena.allocate(4 * rate, rate) for rate in (RATE, 16000, RATE, RATE, RATE, RATE)
    )
    voice = speech(1, 9)
    arena.ring(said).push(voice)
    arena.ring(said).close()
    desk.do(OpenMix(MIX), MixStream(1, MIX), MixStream(2, MIX, gain=0.5))
    for n in (1, 2):
        desk.say(speech(3, n), stream=n)
    desk.run(0.3)
    desk.do(
        AddSink(MIX, ear),
        AddSink(MIX, wide),
        AddSink(MIX, one, part=1),
        AddSink(MIX, two, part=2),
        AddSink(MIX, nobody, part=77),
        *(sink for party in parties for sink in party.listen()),
    )
    desk.run(0.5)
    desk.do(Announce(MIX, said))
    desk.run(1.3)
    heard, first, second, third = (
        arena.ring(number).read(4 * RATE).astype(np.int64) for number in (ear, one, two, nobody)
    )
    assert heard.size == first.size == second.size == third.size > 1.5 * RATE
    assert arena.ring(wide).available == 2 * heard.size
    assert not third.any()
    announced = heard - first - second
    begins = int(np.flatnonzero(np.abs(announced) > 3)[0])
    begins -= int(np.flatnonzero(voice)[0])
    assert np.abs(announced[begins : begins + RATE] - voice).max() <= 2
    assert np.abs(announced[begins + RATE :]).max() <= 2
    for party, other in zip(parties, (second, first), strict=True):
        sent = party.sent()[: heard.size]
        assert np.abs(sent - (other + announced)).max() <= 3
    assert desk.of(SourceDrained) == [SourceDrained(MIX, said)]
    rings = desk.engine._table.mixer.rings
    desk.do(RemoveSink(MIX, one), RemoveSink(MIX, ear))
    arena.release(two)  # whoever is gone is let go of
    desk.run(0.1)
    assert rings.parts == {MIX: {nobody: 77}}
    assert rings.sinks == {MIX: [(wide, False)]}
    desk.do(CloseStream(MIX))
    assert not rings


def test_what_a_mix_cannot_do_is_refused(desk: Desk) -> None:
    odd = desk.engine.arena.allocate(100, 11025)
    assert "no mix 7" in desk.refused(ShapeMix(7))
    assert "no mix 7" in desk.refused(Announce(7, None))
    desk.do(OpenMix(MIX))
    assert "0 loudest" in desk.refused(ShapeMix(MIX, loudest=0))
    for command in (AddSink(MIX, odd), SetSource(MIX, odd), Announce(MIX, odd)):
        assert "11025 Hz" in desk.refused(command)
    assert "no audio ring" in desk.refused(AddSink(MIX, 99, part=1))
    desk.do(Announce(MIX, None))


def test_the_loudest_are_those_of_all_rates_together_and_what_rows_hear_is_left_alone() -> None:
    mixer = Mixer(4)
    mixer.open(MIX)
    for row in range(4):
        mixer.join(row, MIX, 1.0, hears=True)
    mixer.talkers.shape(MIX, 2, speakers=False)
    narrow, wide = np.array([0, 1]), np.array([2, 3])
    sounds = {
        8000: np.repeat(np.float32([[0.3], [0.2]]), 80, axis=1),
        16000: np.repeat(np.float32([[0.1], [0.05]]), 160, axis=1),
    }
    for _ in range(60):
        given = {rate: sound.copy() for rate, sound in sounds.items()}
        parts = [said_by(narrow, given[8000], 8000), said_by(wide, given[16000], 16000)]
        mixer.hear(parts, RingArena())
        for rate, sound in sounds.items():
            assert np.array_equal(given[rate], sound)
    assert mixer.talkers.chosen.tolist() == [True, True, False, False]
    assert np.abs(mixer.others(np.array([1]), 8000) - 0.3).max() < 1e-3
