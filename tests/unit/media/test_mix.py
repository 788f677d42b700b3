"""Mixes: who hears whom, against a sum that is written out row by row."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from engine_desk import RATE, Desk, describe, place_of, speech, ulaw_round_trip

import voip.media.table as table_module
from voip.codecs.g711 import ULAW_DECODE
from voip.media.answers import SourceDrained, StreamStats
from voip.media.commands import (
    AddSink,
    CloseStream,
    MixStream,
    MuteStream,
    OpenMix,
    RouteStream,
    SetSource,
)
from voip.media.control import MAX_GAIN
from voip.media.mix import Mixer
from voip.media.mix_layout import Part
from voip.media.rings import RingArena
from voip.media.router import Step
from voip.media.table import Group

MIX = 1000


# ---------------------------------------------------------------- the arithmetic


def said_by(rows: np.ndarray, heard: np.ndarray, rate_hz: int = RATE) -> Part:
    """What rows have heard in a step, as a mixer is told of it."""
    return Part(rows, rate_hz, heard, np.square(heard).mean(axis=1))


@pytest.mark.parametrize("seed", range(4))
def test_any_rows_in_any_mixes_hear_what_a_plain_sum_says(seed: int) -> None:
    """Rows join, leave, are muted, deafened and made louder at random, in up to 40 mixes at once;
    every step any of them take part in is compared with a sum over the others, row by row.
    """
    rng = np.random.default_rng(seed)
    rows = 150
    mixer, arena = Mixer(rows), RingArena()
    open_mixes: list[int] = []
    of: dict[int, tuple[int, float, bool]] = {}  # row -> mix, gain, hears
    compared = 0
    for _ in range(60):
        if not open_mixes or rng.random() < 0.1:
            open_mixes.append(MIX + len(open_mixes) * 3 if len(open_mixes) < 40 else MIX)
            if not mixer.is_open(open_mixes[-1]):
                mixer.open(open_mixes[-1])
            else:
                open_mixes.pop()
        for row in rng.integers(rows, size=int(rng.integers(12))).tolist():
            if row in of and rng.random() < 0.4:
                mixer.leave(row)
                del of[row]
            else:
                gain = float(rng.choice([0.0, 0.5, 1.0, 2.0]))
                of[row] = (int(rng.choice(open_mixes)), gain, bool(rng.random() < 0.9))
                mixer.join(row, of[row][0], gain, hears=of[row][2])
        assert mixer.is_idle == (not of)
        due = np.flatnonzero(rng.random(rows) < rng.choice([0.3, 1.0]))
        heard = rng.normal(0, 0.02, (due.size, 80)).astype(np.float32)
        mixer.hear([said_by(due, heard)], arena)
        speakers = due[rng.random(due.size) < 0.9]
        base = rng.normal(0, 0.03, (speakers.size, 80)).astype(np.float32)
        sound = base.copy()
        mixer.add(speakers, sound, RATE)
        said = dict(zip(due.tolist(), heard.astype(float), strict=True))
        for at, row in enumerate(speakers.tolist()):
            wanted = base[at].astype(float)
            if row in of and of[row][2]:
                for other, (mix, gain, _) in of.items():
                    if other != row and mix == of[row][0] and other in said:
                        wanted = wanted + gain * said[other]
            np.testing.assert_allclose(sound[at], wanted, atol=2e-6)
            compared += 1
    assert compared > 2_000


def test_one_who_is_alone_hears_nobody_and_not_itself() -> None:
    mixer = Mixer(4)
    mixer.open(MIX)
    mixer.join(2, MIX, 1.0, hears=True)
    rows = np.array([1, 2, 3])
    sound = np.zeros((3, 80), np.float32)
    mixer.hear([said_by(rows, np.full((3, 80), 0.7, np.float32))], RingArena())
    mixer.add(rows, sound, RATE)
    assert not sound.any()


def test_what_one_says_is_not_heard_by_itself_however_loud_the_others_are() -> None:
    """A sum less its own part is rounded twice: what is left of it is 120 dB below."""
    mixer = Mixer(100)
    mixer.open(MIX)
    for row in range(100):
        mixer.join(row, MIX, 1.0, hears=True)
    rng = np.random.default_rng(1)
    heard = rng.uniform(-1, 1, (100, 80)).astype(np.float32)
    mixer.hear([said_by(np.arange(100), heard)], RingArena())
    exact = heard.astype(float).sum(axis=0) - heard.astype(float)
    assert np.abs(exact).max() > 5  # it would not fit
    np.testing.assert_allclose(mixer.others(np.arange(100), RATE), exact, atol=1e-5)


# ---------------------------------------------------------------- in the engine


class Party:
    """A stream of the desk, with rings that take what it hears and what is sent on it."""

    def __init__(self, desk: Desk, stream: int, **more: object) -> None:
        self.desk, self.stream = desk, stream
        self.row = desk.call(stream, **more)
        self.rings: list[int] = []

    def listen(self) -> list[AddSink]:
        """What to tell the engine; all of it at once, so that the rings begin together."""
        arena = self.desk.engine.arena
        self.rings = [arena.allocate(4 * RATE), arena.allocate(4 * RATE)]
        said, sent = self.rings
        return [AddSink(self.stream, said), AddSink(self.stream, sent, sent=True)]

    def said(self) -> np.ndarray:
        return self._read(0)

    def sent(self) -> np.ndarray:
        return self._read(1)

    def _read(self, which: int) -> np.ndarray:
        return self.desk.engine.arena.ring(self.rings[which]).read(4 * RATE).astype(np.int64)


@pytest.mark.parametrize("together", [0, 512])
@pytest.mark.parametrize("ptimes", [(20, 20, 20), (10, 20, 30), (60, 20, 40), (120, 10, 20)])
def test_each_hears_the_sum_of_the_others_whatever_the_packet_times_and_phases(
    desk: Desk, ptimes: tuple[int, ...], together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_module, "PHASE_ROWS", together)
    parties = [Party(desk, n, ptime_ms=ptime) for n, ptime in enumerate(ptimes, 1)]
    desk.do(OpenMix(MIX), *(MixStream(party.stream, MIX) for party in parties))
    for party in parties:
        desk.say(speech(3, party.stream), stream=party.stream)
    desk.run(0.3)
    desk.do(*(sink for party in parties for sink in party.listen()))
    desk.run(2)
    said = [party.said() for party in parties]
    size = min(map(len, said))
    assert size > 1.9 * RATE
    total = sum(one[:size] for one in said)
    for party, own in zip(parties, said, strict=True):
        assert np.abs(own).max() > 5000
        wanted = np.clip(total - own[:size], -32768, 32767)
        assert np.abs(party.sent()[:size] - wanted).max() <= 1
        packets = [packet for packet in desk.io.sent if packet.row == party.row]
        assert {len(packet.payload) for packet in packets[2:]} == {8 * ptimes[party.stream - 1]}


def part(sound: np.ndarray, slot: int) -> np.ndarray:
    """The 10 ms that a ring has of a slot, counted from its first."""
    assert 0 <= slot < sound.size // 80
    return sound[80 * slot : 80 * slot + 80]


@pytest.mark.parametrize("seed", range(3))
def test_whoever_comes_and_goes_each_is_sent_what_the_others_said_in_that_step(
    desk: Desk, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Streams open, close, join, move, are muted and leave at random, in either phase.

    Of every step it is written down which rows took it and in which mix they were; what was sent
    on each is then compared with what the others said, sample by sample.
    """
    monkeypatch.setattr(table_module, "PHASE_ROWS", 0)
    rng, table = np.random.default_rng(seed), desk.engine._table
    steps: list[tuple[list[int], list[int], int]] = []
    shares: dict[int, tuple[int, float]] = {}  # stream -> mix, gain
    taken: list[dict[int, tuple[int, float]]] = []
    hear = desk.engine._hear

    def noted(group: Group) -> Step:
        rows = group.rows
        steps.append((table.stream[rows].tolist(), table.slot[rows].tolist(), group.samples))
        taken.append(dict(shares))
        return hear(group)

    monkeypatch.setattr(desk.engine, "_hear", noted)
    desk.do(*(OpenMix(MIX + n) for n in range(3)))
    parties: dict[int, Party] = {}
    marks: dict[int, int] = {}  # the first step that a party's rings may have
    sounds: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for number in range(1, 120):
        choice = rng.random()
        if len(parties) < 4 or choice < 0.15:
            party = parties[number] = Party(desk, number, ptime_ms=int(rng.choice([10, 20, 30])))
            marks[number] = len(steps)
            desk.do(*party.listen())
            desk.say(speech(2.5, number), stream=number)
        elif choice < 0.25:
            gone = int(rng.choice(list(parties)))
            sounds[gone] = parties[gone].said(), parties[gone].sent()
            shares.pop(gone, None)
            desk.do(CloseStream(gone))
            del parties[gone], desk.sinks[gone]
        else:
            stream = int(rng.choice(list(parties)))
            if stream in shares and choice < 0.45:
                del shares[stream]
                desk.do(MixStream(stream, None))
            else:
                mix, gain = MIX + int(rng.integers(3)), float(rng.choice([1.0, 1.0, 0.5, 0.0]))
                shares[stream] = mix, gain
                desk.do(MixStream(stream, mix, gain))
        desk.run(0.01 * int(rng.integers(0, 6)))
    for stream, party in parties.items():
        sounds[stream] = party.said(), party.sent()
    begins = {  # the slot of the first sample in a party's rings
        stream: next(
            slots[streams.index(stream)] for streams, slots, _ in steps[mark:] if stream in streams
        )
        for stream, mark in marks.items()
        if sounds[stream][0].size
    }
    compared = loud = 0
    for (streams, slots, samples), members in zip(steps, taken, strict=True):
        slot_of = dict(zip(streams, slots, strict=True))
        here = [stream for stream in streams if stream in members]
        assert samples == 80 or not here
        said = {one: part(sounds[one][0], slot_of[one] - begins[one]) for one in here}
        for stream in here:
            wanted = np.zeros(80)
            for other in here:
                if other != stream and members[other][0] == members[stream][0]:
                    wanted += members[other][1] * said[other]
            sent = part(sounds[stream][1], slot_of[stream] - begins[stream])
            assert np.abs(sent - np.clip(wanted, -32768, 32767)).max() <= 1
            compared += 1
            loud += bool(np.abs(wanted).max() > 1000)
    assert compared > 500
    assert loud > 100


@pytest.mark.parametrize("ptime", [10, 20, 30, 40, 120])
def test_who_joins_and_leaves_at_any_moment_sends_every_sample_once(desk: Desk, ptime: int) -> None:
    """Steps become shorter and longer again in the middle of packets, and no timestamp jumps."""
    row = desk.call(1, ptime_ms=ptime)
    desk.call(2)
    desk.do(OpenMix(MIX), MixStream(2, MIX))
    pcm = speech(12)
    desk.feed(pcm)
    rng = np.random.default_rng(ptime)
    for _ in range(30):
        desk.do(MixStream(1, MIX))
        desk.run(0.01 * int(rng.integers(1, 20)))
        desk.do(MixStream(1, None))
        desk.run(0.01 * int(rng.integers(1, 20)))
    packets = [packet for packet in desk.io.sent if packet.row == row]
    assert sum(len(packet.payload) for packet in packets) > 3 * RATE
    lost = 0
    for before, packet in pairwise(packets):
        assert packet.sequence == (before.sequence + 1) & 0xFFFF
        gap = (packet.timestamp - before.timestamp) % (1 << 32) - len(before.payload)
        assert gap in (0, 80)
        lost += gap
    assert lost == 0 or ptime == 120
    if not lost:
        coded = b"".join(packet.payload for packet in packets)
        sent = ULAW_DECODE[np.frombuffer(coded, np.uint8)]
        assert np.array_equal(sent[400:], ulaw_round_trip(pcm)[400 : sent.size])


def test_what_is_too_loud_together_is_cut_and_does_not_turn_over(desk: Desk) -> None:
    parties = [Party(desk, n) for n in (1, 2, 3)]
    desk.do(OpenMix(MIX), *(MixStream(n, MIX) for n in (1, 2, 3)))
    for n in (1, 2):
        desk.say(np.full(RATE, 30_000, np.int16), stream=n)
    desk.run(0.3)
    desk.do(*parties[2].listen())
    desk.run(0.3)
    assert parties[2].sent().min() == 32767
    assert desk.stats(3).level_sent_dbfs <= 0


def test_muted_in_the_mix_deaf_and_louder(desk: Desk) -> None:
    parties = [Party(desk, n) for n in (1, 2, 3)]
    desk.do(
        OpenMix(MIX),
        MixStream(1, MIX, gain=0.0),
        MixStream(2, MIX, gain=0.5),
        MixStream(3, MIX, hears=False),
    )
    for n in (1, 2, 3):
        desk.say(speech(2, n), stream=n)
    desk.run(0.3)
    desk.do(*(sink for party in parties for sink in party.listen()))
    desk.run(1)
    said = [party.said() for party in parties]
    sent = [party.sent() for party in parties]
    assert np.abs(sent[0] - (said[1] * 0.5 + said[2])).max() <= 1
    assert np.abs(sent[1] - said[2]).max() <= 1
    assert not sent[2].any()
    desk.do(MuteStream(2, True))  # the stream itself: it is sent silence, and is still heard
    desk.run(1)
    assert not parties[1].sent()[80:].any()
    assert np.abs(parties[0].sent()).max() > 1000


def test_who_is_not_listened_to_says_nothing_and_hears_the_rest(desk: Desk) -> None:
    """What a peer sends that the session does not let through is in nobody's mix."""
    parties = [Party(desk, n) for n in (1, 2)]
    desk.do(OpenMix(MIX), MixStream(1, MIX), MixStream(2, MIX))
    desk.do(describe(1, receive=False))
    for n in (1, 2):
        desk.say(speech(2, n), stream=n)
    desk.run(0.3)
    desk.do(*(sink for party in parties for sink in party.listen()))
    desk.run(1)
    assert not parties[1].sent().any()
    assert np.array_equal(parties[0].sent(), parties[1].said())


def test_a_mix_has_a_voice_and_an_ear_of_its_own(desk: Desk) -> None:
    """Whoever holds the conference speaks and listens by rings, and does not hear itself."""
    parties = [Party(desk, n) for n in (1, 2)]
    arena = desk.engine.arena
    ear, mouth, own = (arena.allocate(4 * RATE) for _ in range(3))
    voice = speech(1, 9)
    arena.ring(mouth).push(voice)
    arena.ring(mouth).close()
    desk.do(OpenMix(MIX), MixStream(1, MIX), MixStream(2, MIX))
    for n in (1, 2):
        desk.say(speech(3, n), stream=n)
    desk.run(0.3)
    desk.do(
        AddSink(MIX, ear),
        AddSink(MIX, own, sent=True),
        SetSource(MIX, mouth),
        *(sink for party in parties for sink in party.listen()),
    )
    desk.run(2)
    said = [party.said() for party in parties]
    heard, spoken = (arena.ring(n).read(4 * RATE).astype(np.int64) for n in (ear, own))
    assert np.abs(heard - np.clip(said[0] + said[1], -32768, 32767)).max() <= 1
    assert np.array_equal(spoken[:RATE], voice)
    assert not spoken[RATE:].any()
    for party, other in zip(parties, reversed(said), strict=True):
        assert np.abs(party.sent() - np.clip(other + spoken, -32768, 32767)).max() <= 1
    assert desk.of(SourceDrained) == [SourceDrained(MIX, mouth)]
    arena.release(ear)  # a reader that is gone is let go of
    desk.run(0.1)
    assert desk.engine._table.mixer.sinks == {MIX: [(own, True)]}


def test_a_row_may_be_routed_to_besides(desk: Desk) -> None:
    parties = [Party(desk, n) for n in (1, 2, 3)]
    desk.do(OpenMix(MIX), MixStream(1, MIX), MixStream(2, MIX), RouteStream(1, 3))
    for n in (2, 3):
        desk.say(speech(2, n), stream=n)
    desk.run(0.3)
    desk.do(*(sink for party in parties for sink in party.listen()))
    desk.run(1)
    sent = parties[0].sent()
    for n in (2, 3):
        lag = place_of(speech(2, n)[RATE : RATE + 2000], sent)
        assert 0 <= lag < sent.size


def test_what_is_not_there_cannot_be_mixed(desk: Desk) -> None:
    desk.call(1)
    assert "no mix 7" in desk.refused(MixStream(1, 7))
    assert "no stream 7" in desk.refused(MixStream(7, None))
    assert "open already" in desk.refused(OpenMix(1))
    desk.do(OpenMix(MIX))
    assert "open already" in desk.refused(OpenMix(MIX))
    assert "gain" in desk.refused(MixStream(1, MIX, gain=MAX_GAIN * 1.01))
    assert "gain" in desk.refused(MixStream(1, MIX, gain=float("nan")))
    assert desk.engine._table.mixer.is_idle


def test_a_mix_that_is_closed_lets_its_streams_go_on(desk: Desk) -> None:
    row = desk.call(1)
    desk.call(2)
    desk.do(OpenMix(MIX), MixStream(1, MIX), MixStream(2, MIX))
    desk.do(CloseStream(2))
    assert desk.do(CloseStream(MIX)) == StreamStats(MIX)
    table = desk.engine._table
    assert table.mixer.is_idle
    assert table.step[row] == 160
    assert desk.do(CloseStream(MIX)) == StreamStats(MIX)  # what is not open stays so
    desk.do(OpenMix(MIX))  # the number is free again
    desk.io.sent.clear()
    desk.run(0.2)
    assert len(desk.io.sent) == pytest.approx(10, abs=1)


def test_without_a_conference_nothing_is_mixed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("a step without mixes must cost nothing")

    monkeypatch.setattr(Mixer, "hear", never)
    monkeypatch.setattr(Mixer, "add", never)
    desk.call(1)
    desk.do(OpenMix(MIX), MixStream(1, MIX), MixStream(1, None))
    desk.run(1)
    assert desk.stats(1).packets_sent > 40
