"""Who is told what, so that streams of several engines hear each other; there is no engine here."""

from __future__ import annotations

from itertools import count

import numpy as np
import pytest

from voip.errors import MediaError
from voip.media.answers import SpeakersChanged
from voip.media.commands import (
    AddSink,
    Announce,
    CloseStream,
    Command,
    LinkIn,
    LinkOut,
    MixStream,
    OpenMix,
    RemoveSink,
    SetSource,
    ShapeMix,
    Unlink,
)
from voip.net.crossings import Links, Mixes, Plan, Routes, Whispers


class Told:
    """Engines that only note which links and mixes they have."""

    def __init__(self) -> None:
        self.free = count(1)
        self.used: set[int] = set()
        self.ends: dict[tuple[int, int, str], tuple[int, int]] = {}
        self.mixes: set[tuple[int, int]] = set()
        self.links = Links(self._take, self.used.remove)

    def _take(self) -> int:
        number = next(self.free)
        self.used.add(number)
        return number

    def tell(self, plan: Plan) -> None:
        for engine, command in plan:
            self._tell(engine, command)

    def _tell(self, engine: int, command: Command) -> None:
        stream = command.stream
        match command:
            case LinkOut() | LinkIn():
                key = (engine, command.link, type(command).__name__)
                assert key not in self.ends
                self.ends[key] = (stream, command.link)
            case Unlink():
                gone = [key for key in self.ends if key[:2] == (engine, command.link)]
                assert len(gone) == 1, "a link that is not there"
                del self.ends[gone[0]]
            case OpenMix():
                assert (engine, stream) not in self.mixes
                self.mixes.add((engine, stream))
            case CloseStream():
                self.mixes.remove((engine, stream))
                self.lose(engine, stream)

    def lose(self, engine: int, stream: int | None = None) -> None:
        """A stream, a mix, or a whole engine is gone, and its ends of links with it."""
        self.ends = {
            key: end
            for key, end in self.ends.items()
            if key[0] != engine or (stream is not None and end[0] != stream)
        }
        if stream is None:
            self.mixes = {one for one in self.mixes if one[0] != engine}

    def pairs(self, mix: int) -> set[tuple[int, int]]:
        """From which engine to which a mix is linked."""
        out = {k[1]: k[0] for k, end in self.ends.items() if end[0] == mix and k[2] == "LinkOut"}
        into = {k[1]: k[0] for k, end in self.ends.items() if end[0] == mix and k[2] == "LinkIn"}
        assert out.keys() == into.keys()
        return {(out[link], into[link]) for link in out}


@pytest.mark.parametrize("seed", range(5))
def test_mixes_and_routes_leave_no_link_too_many_and_none_too_few(seed: int) -> None:
    """Streams of four engines are routed, mixed, closed and lost at random; after each step every
    engine that has members of a mix is linked with every other that has, both ways, and no link is
    in use beside these and those of routes.
    """
    rng = np.random.default_rng(seed)
    told = Told()
    routes, mixes = Routes(told.links), Mixes(told.links)
    open_mixes: set[int] = set()
    streams: dict[int, int] = {}
    of: dict[int, int] = {}
    routed: dict[int, int] = {}
    numbers = count(1)
    compared = 0

    def forget(stream: int) -> None:
        told.tell(routes.forget(stream))
        for sink in [s for s in routed if stream in (s, routed[s])]:
            del routed[sink]
        told.lose(streams[stream], stream)

    for _ in range(400):
        pick = int(rng.integers(100))
        names = list(streams)
        some = int(rng.choice(names)) if names else None
        if pick < 25 or some is None:
            streams[next(numbers)] = int(rng.integers(4))
        elif pick < 35:
            mixes.open(mix := next(numbers))
            open_mixes.add(mix)
        elif pick < 65 and open_mixes:
            mix = int(rng.choice(sorted(open_mixes)))
            if of.get(some) != mix:
                told.tell(mixes.leave(some))
                told.tell(mixes.join(some, streams[some], mix))
                of[some] = mix
        elif pick < 75:
            told.tell(mixes.leave(some))
            of.pop(some, None)
        elif pick < 85:
            other = int(rng.choice(names))
            told.tell(routes.end(some))
            routed.pop(some, None)
            if streams[some] != streams[other]:
                told.tell(routes.begin(some, streams[some], other, streams[other]))
                routed[some] = other
        elif pick < 92:
            forget(some)
            told.tell(mixes.leave(some))
            of.pop(some, None)
            del streams[some]
        elif pick < 96 and open_mixes:
            mix = int(rng.choice(sorted(open_mixes)))
            told.tell(mixes.close(mix))
            open_mixes.remove(mix)
            of = {stream: one for stream, one in of.items() if one != mix}
        else:
            engine = int(rng.integers(4))
            told.lose(engine)
            for stream in [s for s in streams if streams[s] == engine]:
                forget(stream)
                of.pop(stream, None)
                del streams[stream]
            told.tell([order for order in mixes.lose(engine) if order[0] != engine])

        wanted_links = len(routed)
        for mix in open_mixes:
            having = {streams[stream] for stream in of if of[stream] == mix}
            wanted = {(one, other) for one in having for other in having if one != other}
            assert told.pairs(mix) == wanted
            assert {engine for engine, one in told.mixes if one == mix} == having
            wanted_links += len(wanted)
            compared += 1
        assert len(told.used) == wanted_links
    assert compared > 500


def test_the_rings_of_a_mix_are_served_where_it_has_members() -> None:
    told = Told()
    mixes = Mixes(told.links)
    mixes.open(50)
    assert mixes.serve(AddSink(50, 7)) is None  # nobody is there
    plan = mixes.join(1, 2, 50)
    assert plan == [(2, OpenMix(50)), (2, AddSink(50, 7))]
    assert mixes.serve(SetSource(50, 8)) == 2
    mixes.join(2, 0, 50)
    assert mixes.leave(1)[-2:] == [(0, AddSink(50, 7)), (0, SetSource(50, 8))]
    mixes.drained(50, 8)
    assert mixes.join(3, 1, 50)[0] == (1, OpenMix(50))
    assert mixes.lose(0)[-1:] == [(1, AddSink(50, 7))]


def test_a_mix_is_shaped_announced_to_and_taken_apart_wherever_its_members_are() -> None:
    told = Told()
    mixes = Mixes(told.links)
    mixes.open(50)
    shape, one_part = ShapeMix(50, 3, speakers=True), AddSink(50, 9, part=2)
    assert mixes.shape(shape) == []
    assert mixes.serve(Announce(50, 7)) is None
    assert mixes.serve(one_part) is None
    plan = mixes.join(1, 0, 50)
    assert plan == [(0, OpenMix(50)), (0, shape), (0, Announce(50, 7)), (0, one_part)]
    plan = mixes.join(2, 1, 50)  # whose part is wanted: it is silent no more
    assert plan[:2] == [(1, OpenMix(50)), (1, shape)]
    assert plan[-2:] == [(0, RemoveSink(50, 9)), (1, one_part)]
    alone = mixes.speakers(0, SpeakersChanged(50, (1,)))
    assert alone is not None and alone.speakers == (1,)
    both = mixes.speakers(1, SpeakersChanged(50, (2,)))
    assert both is not None and both.speakers == (1, 2)
    louder = mixes.speakers(1, SpeakersChanged(50, (2,), (0.01,)))
    assert louder is not None and louder.speakers == (2, 1)
    assert mixes.speakers(1, SpeakersChanged(50, (2,), (0.02,))) is None
    assert mixes.shape(shape) == [0, 1]
    assert mixes.leave(2)[-1] == (0, one_part)
    assert mixes.serve(RemoveSink(50, 9)) == 0
    mixes.drained(50, 7)
    assert mixes.join(3, 1, 50)[0] == (1, OpenMix(50))
    assert not any(isinstance(order, Announce) for _, order in mixes.leave(1))


@pytest.mark.parametrize("seed", range(4))
def test_whispers_are_linked_between_engines_exactly_where_somebody_hears_them(seed: int) -> None:
    """Streams of three engines join two mixes with any audience, leave and are closed at random;
    after each step, who is linked with whom is compared with the rule, pair by pair.
    """
    rng = np.random.default_rng(seed)
    told = Told()
    whispers = Whispers(told.links)
    engine = {stream: int(rng.integers(3)) for stream in range(1, 11)}
    members: dict[int, MixStream] = {}

    def some() -> tuple[int, ...] | None:
        if rng.random() < 0.4:
            return None
        return tuple(rng.choice(10, int(rng.integers(4)), replace=False) + 1)

    def hears(listener: MixStream, speaker: MixStream) -> bool:
        picked = listener.listens_to is not None and speaker.stream in listener.listens_to
        meant = speaker.heard_by is not None and listener.stream in speaker.heard_by
        beside = (picked and (speaker.heard_by is None or meant)) or (
            meant and listener.listens_to is None
        )
        return beside and listener.mix == speaker.mix and speaker.gain > 0 and listener.hears

    compared = 0
    for _ in range(800):
        stream = int(rng.integers(1, 11))
        if stream in members and rng.random() < 0.3:
            is_gone = rng.random() < 0.5
            told.tell(whispers.leave(stream, is_gone=is_gone))
            if is_gone:
                told.lose(engine[stream], stream)
            del members[stream]
        elif rng.random() < 0.03:
            told.tell(whispers.close(100))
            members = {s: one for s, one in members.items() if one.mix != 100}
        else:
            members[stream] = one = MixStream(
                stream, int(rng.choice([100, 200])), float(rng.choice([0, 1])),
                bool(rng.random() < 0.8), some(), some(),
            )  # fmt: skip
            told.tell(whispers.enter(one, engine[stream]))
        wanted = {
            (speaker, listener)
            for speaker in members
            for listener in members
            if speaker != listener
            and engine[speaker] != engine[listener]
            and hears(members[listener], members[speaker])
        }
        out = {key[1]: end[0] for key, end in told.ends.items() if key[2] == "LinkOut"}
        into = {key[1]: end[0] for key, end in told.ends.items() if key[2] == "LinkIn"}
        assert out.keys() == into.keys() == told.used
        assert {(out[link], into[link]) for link in out} == wanted
        compared += len(wanted)
    assert compared > 100


def test_without_memory_for_links_nothing_is_begun_and_nothing_kept() -> None:
    told, left = Told(), 3

    def take() -> int:
        nonlocal left
        left -= 1
        if left < 0:
            raise MediaError("the memory for audio rings is full")
        return told.links.take()

    mixes = Mixes(Links(take, told.links.give_back))
    mixes.open(50)
    told.tell(mixes.join(1, 0, 50))
    told.tell(mixes.join(2, 1, 50))
    with pytest.raises(MediaError, match="full"):
        mixes.join(3, 2, 50)
    assert mixes.mix_of(3) is None and len(told.used) == 2
    told.tell(mixes.leave(1))
    assert not told.used and told.mixes == {(1, 50)}
