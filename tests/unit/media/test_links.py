"""Links: engines that hear each other, on desks whose clocks are turned by hand."""

from __future__ import annotations

import numpy as np
import pytest
from engine_desk import RATE, START, Desk, describe, place_of, speech, ulaw_round_trip

from voip.codecs.g711 import ULAW_DECODE
from voip.errors import MediaError
from voip.media.answers import SpeakersChanged
from voip.media.commands import (
    AddSink,
    CloseStream,
    LinkIn,
    LinkOut,
    MixStream,
    MuteStream,
    OpenMix,
    OpenStream,
    SetSource,
    ShapeMix,
    Unlink,
)
from voip.media.engine import Engine
from voip.media.links import LINK_BYTES, MAX_LAG, Incoming, LinkRing
from voip.media.rings import RingArena
from voip.net.ring_memory import MemfdMemory
from voip.types import SeededRandom

MIX = 1000


class Desks:
    """Engines whose ticks are due at the same times, in any order, and the rings they share."""

    def __init__(self, count: int = 2) -> None:
        memory = MemfdMemory(1 << 24)
        self.arena = RingArena(memory=memory)
        self.desks = [Desk() for _ in range(count)]
        for number, desk in enumerate(self.desks):
            desk.engine = Engine(
                desk.io, random=SeededRandom(number), arena=RingArena(memory=memory)
            )
            desk.engine.arena = self.arena  # which a desk allocates from
        self.late_s = [0.0] * count

    def link(self) -> int:
        return self.arena.take(LINK_BYTES)

    def run(self, seconds: float, order: list[int] | None = None) -> None:
        """Let time pass; `late_s`: how long after it was due each engine ticks."""
        end = max(desk.now for desk in self.desks) + seconds
        order = order or list(range(len(self.desks)))
        while True:
            due = [
                (round(when + self.late_s[number], 6), place, number)
                for place, number in enumerate(order)
                if (when := self.desks[number].engine.next_due()) is not None
            ]
            at, _, number = min(due)
            if at > end + 1e-9:
                break
            desk = self.desks[number]
            desk.now = max(desk.now, at)
            desk.tick()
        for desk in self.desks:
            desk.now = end


def spoken(desk: Desk, stream: int) -> np.ndarray:
    """What a stream has sent, int16."""
    row = desk.row(stream)
    data = b"".join(packet.payload for packet in desk.io.sent if packet.row == row)
    return ULAW_DECODE[np.frombuffer(data, np.uint8)]


def sent_at(desk: Desk, stream: int) -> float:
    return next(packet.at for packet in desk.io.sent if packet.row == desk.row(stream))


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
@pytest.mark.parametrize("phase", [0, 1])
def test_a_row_sends_what_a_row_of_another_engine_hears_one_step_later(
    order: list[int], phase: int
) -> None:
    desks = Desks()
    a, b = desks.desks
    a.call(1)
    b.stall(0.01 * phase)  # steps begin in the same tick, or in the one between
    b.call(2)
    link = desks.link()
    a.do(LinkOut(1, link))
    b.do(LinkIn(2, link))
    said = speech(1.5)
    a.say(said, begin=START + 0.1)
    desks.run(2.0, order)
    heard = spoken(b, 2)
    lag = place_of(said, heard)
    assert np.array_equal(heard[lag : lag + said.size], said)
    # the engine's own listener has it when the jitter buffer gives it out
    buffered = START + place_of(said, a.heard(1)) / RATE
    sent = sent_at(b, 2) + lag / RATE
    assert sent - buffered == pytest.approx(0.02, abs=0.0201)  # a step, and where packets begin


def test_an_engine_that_is_late_for_once_leaves_no_hole_and_a_muted_row_is_silent() -> None:
    desks = Desks()
    a, b = desks.desks
    a.call(1)
    b.call(2)
    link = desks.link()
    a.do(LinkOut(1, link))
    b.do(LinkIn(2, link))
    said = speech(4.0) // 2 + 500
    a.say(said, begin=START + 0.1)
    desks.run(1.0)
    desks.late_s[0] = 0.045  # later than its listener can wait for, from now on
    desks.run(2.0)
    heard = spoken(b, 2)
    busy = heard[int(0.5 * RATE) :]
    assert np.count_nonzero(busy == 0) < 0.01 * busy.size, "there is a hole"
    b.do(MuteStream(2, True))
    desks.run(0.5)
    assert not spoken(b, 2)[-int(0.4 * RATE) :].any()


def test_delay_that_is_not_needed_any_more_goes_at_a_quiet_step() -> None:
    memory = memoryview(bytearray(LINK_BYTES))
    ring = LinkRing(memory)
    link = Incoming(ring)
    loud = np.full(80, 0.5, np.float32)
    for slot in range(100, 110):
        ring.write(slot, loud, RATE)
        link.read(slot + 1, 1, RATE)
    assert link.lag == 1
    assert np.array_equal(link.read(113, 1, RATE), loud)  # who writes is late
    assert link.lag == 4
    for slot in range(110, 113):  # what it has made up for
        ring.write(slot, loud, RATE)
    for slot in range(113, 500):
        ring.write(slot, loud, RATE)
        assert np.array_equal(link.read(slot, 1, RATE), loud)
    assert link.lag == 4  # all of it is heard
    for slot in range(500, 1600):
        ring.write(slot, 0 * loud, RATE)
        link.read(slot, 1, RATE)
    assert link.lag == 1  # nothing is to spare
    assert not link.read(2000, 1, RATE).any() and link.lag == 1  # nobody writes any more
    ring.write(3000, loud, RATE)
    for slot in range(3002, 3019):
        link.read(slot, 1, RATE)
    assert link.lag == MAX_LAG


@pytest.mark.parametrize("engines", [2, 3])
def test_members_of_a_mix_in_several_engines_hear_the_sum_of_all_others(engines: int) -> None:
    """Two members to an engine; each hears a sum that is written out here, once each is aligned."""
    desks = Desks(engines)
    links = {
        (one, other): desks.link()
        for one in range(engines)
        for other in range(engines)
        if one != other
    }
    said: dict[int, np.ndarray] = {}
    for number, desk in enumerate(desks.desks):
        desk.do(OpenMix(MIX))
        for ends, link in links.items():
            if number == ends[0]:
                desk.do(LinkOut(MIX, link))
            if number == ends[1]:
                desk.do(LinkIn(MIX, link))
        for member in (0, 1):
            stream = 10 * number + member
            desk.call(stream)
            desk.do(MixStream(stream, MIX))
            said[stream] = ulaw_round_trip(speech(2.0, seed=stream) // 4)
            desk.say(said[stream], begin=START + 0.2, stream=stream)
    desks.run(2.5)
    compared = 0
    for number, desk in enumerate(desks.desks):
        for member in (0, 1):
            stream = 10 * number + member
            heard = spoken(desk, stream).astype(float)
            for other, sound in said.items():
                lag = place_of(sound, heard.astype(np.int16))
                part = heard[lag : lag + sound.size].astype(float)
                share = float(part @ sound[: part.size]) / float(sound.astype(float) @ sound)
                wanted = 0.0 if other == stream else 1.0
                assert share == pytest.approx(wanted, abs=0.1), (stream, other)
                compared += 1
    assert compared == (2 * engines) ** 2


def test_a_mix_says_its_own_voice_to_other_engines_and_writes_what_all_say() -> None:
    desks = Desks()
    a, b = desks.desks
    there, back = desks.link(), desks.link()
    for desk, out, into in ((a, there, back), (b, back, there)):
        desk.do(OpenMix(MIX), LinkOut(MIX, out), LinkIn(MIX, into))
    a.call(1)
    b.call(2)
    a.do(MixStream(1, MIX))
    b.do(MixStream(2, MIX))
    voice, said = ulaw_round_trip(speech(1.0, 7) // 2), ulaw_round_trip(speech(1.0, 8) // 2)
    ear = desks.arena.allocate(4 * RATE)
    a.do(AddSink(MIX, ear))
    a.feed(voice, MIX)
    b.say(said, begin=START + 0.1, stream=2)
    desks.run(2.0)
    heard = spoken(b, 2)
    lag = place_of(voice, heard)
    assert np.array_equal(heard[lag : lag + voice.size], voice)
    recorded = desks.arena.ring(ear).read(4 * RATE)
    lag = place_of(said, recorded)
    assert np.abs(recorded[lag : lag + said.size] - said.astype(int)).max() <= 1


def test_links_of_what_is_closed_are_let_go_of() -> None:
    desks = Desks(1)
    (desk,) = desks.desks
    desk.call(1)
    desk.do(OpenMix(MIX))
    link = desks.link()
    desk.do(LinkOut(1, link), LinkIn(1, link), LinkOut(MIX, link), LinkIn(MIX, link))
    table = desk.engine._table
    assert len(table.links) == len(table.mixer.links) == 2
    desk.do(Unlink(1, link), Unlink(1, link))
    assert len(table.links) == 0
    desk.do(LinkIn(1, link), CloseStream(1), CloseStream(MIX))
    assert len(table.links) == len(table.mixer.links) == 0
    desks.arena.give_back(link)
    desk.do(OpenStream(2, "127.0.0.1", "x"), describe(2))
    assert "no block" in desk.refused(LinkIn(2, link))
    assert "no stream 1" in desk.refused(LinkIn(1, link))


def test_an_engine_whose_rings_nobody_else_sees_has_no_links(desk: Desk) -> None:
    desk.call(1)
    assert "no block" in desk.refused(LinkIn(1, 5))
    with pytest.raises(MediaError, match="seen by no other"):
        desk.engine.arena.take(LINK_BYTES)
    desk.do(SetSource(1, None))


def in_a_mix_of_two_engines(loudest: int | None, *, speakers: bool = False) -> Desks:
    desks = Desks()
    a, b = desks.desks
    there, back = desks.link(), desks.link()
    for desk, out, into in ((a, there, back), (b, back, there)):
        desk.do(OpenMix(MIX), LinkOut(MIX, out), LinkIn(MIX, into))
        desk.do(ShapeMix(MIX, loudest, speakers=speakers))
    for stream, desk in ((1, a), (2, a), (11, b), (12, b)):
        desk.call(stream)
        desk.do(MixStream(stream, MIX))
    return desks


@pytest.mark.parametrize("loudest", [1, 2, 3])
def test_the_loudest_of_a_mix_are_those_of_all_its_engines(loudest: int) -> None:
    """Levels 6 dB apart, taking turns between the engines: the sum tells who is heard."""
    desks = in_a_mix_of_two_engines(loudest)
    said: dict[int, np.ndarray] = {}
    for place, stream in enumerate((11, 1, 12, 2)):
        said[stream] = ulaw_round_trip(speech(3.0, seed=stream) // 2 ** (place + 1))
        desk = desks.desks[stream > 10]
        desk.say(said[stream], begin=START + 0.2, stream=stream)
    desks.run(3.4)
    heard_of: dict[tuple[int, int], float] = {}
    for listener in said:
        heard = spoken(desks.desks[listener > 10], listener).astype(float)
        for speaker, sound in said.items():
            if speaker != listener:
                lag = place_of(sound, heard.astype(np.int16))
                part, late = heard[lag + RATE : lag + sound.size], sound[RATE:].astype(float)
                share = float(part @ late[: part.size]) / float(late @ late)
                heard_of[listener, speaker] = share
    for (listener, speaker), share in heard_of.items():
        rank = (11, 1, 12, 2).index(speaker)
        if rank < loudest:
            assert share > 0.6, (listener, speaker, share)
        elif rank > loudest:  # who comes next is 6 dB below: it may be let in between two words
            assert share < 0.3, (listener, speaker, share)


def test_who_has_nothing_to_say_any_more_in_another_engine_keeps_nobody_out() -> None:
    desks = in_a_mix_of_two_engines(1)
    a, b = desks.desks
    a.say(speech(1.0, 1), begin=START + 0.1, stream=1)
    quiet = ulaw_round_trip(speech(4.0, 2) // 8)
    b.say(quiet, begin=START + 0.1, stream=11)
    desks.run(1.0)
    for stream in (1, 2):  # all are held: nothing is summed up here, nothing told any more
        a.do(CloseStream(stream))
    desks.run(3.2)
    heard = spoken(b, 12)
    lag = place_of(quiet[2 * RATE : 3 * RATE], heard)
    assert np.array_equal(heard[lag : lag + RATE], quiet[2 * RATE : 3 * RATE])


def test_each_engine_tells_how_loud_those_are_who_talk_and_tells_anew_when_that_changes() -> None:
    desks = in_a_mix_of_two_engines(None, speakers=True)
    a, _ = desks.desks
    a.say(speech(1.5, 1) // 16, begin=START + 0.1, stream=1)
    a.say(speech(1.5, 1), begin=START + 1.6, stream=1)
    desks.run(3.0)
    told = [event for event in a.of(SpeakersChanged) if event.speakers == (1,)]
    assert len(told) >= 2
    assert max(event.levels[0] for event in told) > 30 * min(event.levels[0] for event in told)
