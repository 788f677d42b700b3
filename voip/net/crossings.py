"""What is to be told engines so that streams of several of them hear each other.

Streams keep the engine they were opened in. A stream that sends what another engine's hears, and a
mix with members in several engines, go by links (`voip.media.links`): nothing is here but who is
linked with whom, and commands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import zip_longest

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
    RouteStream,
    SetSource,
    ShapeMix,
    Unlink,
)

__all__ = ["Links", "Mixes", "Plan", "Routes", "Whispers"]

Plan = list[tuple[int, Command]]
"""Commands, and the number of the engine that each is for, in order."""


@dataclass(frozen=True, slots=True)
class Links:
    """Where links come from: `take` returns the number of a new one, `give_back` ends its use."""

    take: Callable[[], int]
    give_back: Callable[[int], None]

    def take_all(self, count: int) -> list[int]:
        """Return so many new ones, or raise what `take` raises and take none."""
        taken: list[int] = []
        try:
            while len(taken) < count:
                taken.append(self.take())
        except MediaError:
            for link in taken:
                self.give_back(link)
            raise
        return taken


@dataclass(frozen=True, slots=True)
class _Route:
    sink: int
    sink_engine: int
    source: int
    source_engine: int
    link: int


class Routes:
    """Streams that send what a stream of another engine hears."""

    def __init__(self, links: Links) -> None:
        self._links = links
        self._routes: dict[int, _Route] = {}  # by who sends

    def begin(self, sink: int, sink_engine: int, source: int, source_engine: int) -> Plan:
        """Let `sink` send what `source` hears; any route it had is to be ended before."""
        link = self._links.take()
        self._routes[sink] = _Route(sink, sink_engine, source, source_engine, link)
        return [
            (sink_engine, RouteStream(sink, None)),
            (source_engine, LinkOut(source, link)),
            (sink_engine, LinkIn(sink, link)),
        ]

    def end(self, sink: int) -> Plan:
        """Let `sink` send what no other engine's stream hears any more."""
        route = self._routes.pop(sink, None)
        if route is None:
            return []
        self._links.give_back(route.link)
        return [
            (route.source_engine, Unlink(route.source, route.link)),
            (route.sink_engine, Unlink(sink, route.link)),
        ]

    def forget(self, stream: int) -> Plan:
        """A stream is gone: end what it sent, and what was sent of it."""
        mine = [one.sink for one in self._routes.values() if stream in (one.sink, one.source)]
        return [
            order
            for sink in mine
            for order in self.end(sink)
            if order[1].stream != stream
        ]  # fmt: skip


@dataclass(slots=True)
class _Mix:
    """A mix: its members by engine, its links by (from, to), and its rings, which `home` serves.

    parts: rings that take what one stream says, and where they are served. speakers: by engine.
    """

    members: dict[int, set[int]] = field(default_factory=dict)
    links: dict[tuple[int, int], int] = field(default_factory=dict)
    home: int | None = None
    source: int | None = None
    sinks: list[tuple[int, bool]] = field(default_factory=list)
    announced: int | None = None
    shape: ShapeMix | None = None
    parts: dict[int, tuple[AddSink, int | None]] = field(default_factory=dict)
    speakers: dict[int, SpeakersChanged] = field(default_factory=dict)
    told: tuple[int, ...] = ()  # of speakers


class Mixes:
    """Mixes whose members are of several engines: each engine that has members has a part."""

    def __init__(self, links: Links) -> None:
        self._links = links
        self._mixes: dict[int, _Mix] = {}
        self._of: dict[int, tuple[int, int]] = {}  # stream -> mix, engine

    def __contains__(self, mix: int) -> bool:
        return mix in self._mixes

    def open(self, mix: int) -> None:
        """Begin a mix; no engine hears of it before it has a member there."""
        self._mixes[mix] = _Mix()

    def close(self, mix: int) -> Plan:
        """End a mix."""
        ended = self._mixes.pop(mix)
        for members in ended.members.values():
            for stream in members:
                del self._of[stream]
        for link in ended.links.values():
            self._links.give_back(link)
        return [(engine, CloseStream(mix)) for engine in ended.members]

    def mix_of(self, stream: int) -> int | None:
        """Return the mix that a stream is in."""
        found = self._of.get(stream)
        return None if found is None else found[0]

    def join(self, stream: int, engine: int, mix: int) -> Plan:
        """Make a stream a member of a mix, and of no other; `MixStream` is to follow."""
        one = self._mixes[mix]
        is_new = engine not in one.members
        taken = self._links.take_all(2 * len(one.members)) if is_new else []
        self._of[stream] = mix, engine
        if not is_new:
            one.members[engine].add(stream)
            return self._place_parts(one)
        plan: Plan = [(engine, OpenMix(mix))]
        if one.shape is not None:
            plan.append((engine, one.shape))
        for other in one.members:
            for ends in ((engine, other), (other, engine)):
                link = one.links[ends] = taken.pop()
                plan += [(ends[0], LinkOut(mix, link)), (ends[1], LinkIn(mix, link))]
        one.members[engine] = {stream}
        return plan + self._settle(mix, one)

    def leave(self, stream: int) -> Plan:
        """A stream is in no mix any more: what is to be done after it has left."""
        mix, engine = self._of.pop(stream, (None, -1))
        if mix is None:
            return []
        one = self._mixes[mix]
        one.members[engine].discard(stream)
        if one.members[engine]:
            return self._place_parts(one)
        return [(engine, CloseStream(mix)), *self._leave_engine(mix, one, engine)]

    def lose(self, engine: int) -> Plan:
        """An engine is gone, with all of its streams."""
        plan: Plan = []
        for mix, one in self._mixes.items():
            if engine in one.members:
                for stream in one.members[engine]:
                    del self._of[stream]
                plan += self._leave_engine(mix, one, engine)
        return plan

    def _leave_engine(self, mix: int, one: _Mix, engine: int) -> Plan:
        del one.members[engine]
        one.speakers.pop(engine, None)
        plan: Plan = []
        for ends in [ends for ends in one.links if engine in ends]:
            link = one.links.pop(ends)
            other = ends[0] if ends[1] == engine else ends[1]
            plan.append((other, Unlink(mix, link)))
            self._links.give_back(link)
        if one.home == engine:
            one.home = None
        return plan + self._settle(mix, one)

    def _settle(self, mix: int, one: _Mix) -> Plan:
        """Let an engine that has members serve the mix's rings, where none does."""
        if one.home is not None or not one.members:
            return self._place_parts(one)
        home = one.home = next(iter(one.members))
        plan: Plan = [(home, AddSink(mix, ring, sent)) for ring, sent in one.sinks]
        if one.source is not None:
            plan.append((home, SetSource(mix, one.source)))
        if one.announced is not None:
            plan.append((home, Announce(mix, one.announced)))
        return plan + self._place_parts(one)

    def _place_parts(self, one: _Mix) -> Plan:
        """Have what a stream says taken where it is, and silence where it would be, by `home`."""
        plan: Plan = []
        for ring, (command, before) in one.parts.items():
            mix, engine = self._of.get(command.part or 0, (None, -1))
            now = engine if mix == command.stream else one.home
            if now == before:
                continue
            if before in one.members:
                plan.append((before, RemoveSink(command.stream, ring)))
            if now is not None:
                plan.append((now, command))
            one.parts[ring] = command, now
        return plan

    def serve(self, command: SetSource | Announce | AddSink | RemoveSink) -> int | None:
        """Note a ring of a mix; return the engine that serves it, None: none does yet."""
        one = self._mixes[command.stream]
        match command:
            case SetSource():
                one.source = command.ring
            case Announce():
                one.announced = command.ring
            case AddSink() if command.part is not None:
                one.parts[command.ring] = command, None
                self._place_parts(one)
                return one.parts[command.ring][1]
            case AddSink():
                one.sinks.append((command.ring, command.sent))
            case RemoveSink():
                one.sinks = [sink for sink in one.sinks if sink[0] != command.ring]
                return one.parts.pop(command.ring, (None, one.home))[1]
        return one.home

    def shape(self, command: ShapeMix) -> list[int]:
        """Note how a mix is to be; return the engines that have parts of it."""
        one = self._mixes[command.stream]
        one.shape = command
        one.speakers.clear()
        one.told = ()
        return list(one.members)

    def speakers(self, engine: int, event: SpeakersChanged) -> SpeakersChanged | None:
        """Return who talks in all parts of a mix, the loudest first; None: that was told last."""
        one = self._mixes.get(event.stream)
        if one is None or engine not in one.members:
            return event
        one.speakers[engine] = event
        found = [
            (level, stream)
            for part in one.speakers.values()
            for stream, level in zip_longest(part.speakers, part.levels, fillvalue=0.0)
        ]
        found.sort(key=lambda one: -one[0])
        told = tuple(int(stream) for _, stream in found)
        if told == one.told:
            return None
        one.told = told
        return SpeakersChanged(event.stream, told, tuple(level for level, _ in found))

    def drained(self, mix: int, ring: int) -> None:
        """What was to be said in a mix has been said."""
        one = self._mixes.get(mix)
        if one is not None and one.source == ring:
            one.source = None
        elif one is not None and one.announced == ring:
            one.announced = None


class Whispers:
    """Members of mixes who are heard by some only, or hear some only, in another engine.

    Each engine leaves them out of its sum, and adds what it has itself; what another has comes by a
    link from stream to stream.
    """

    def __init__(self, links: Links) -> None:
        self._links = links
        self._members: dict[int, tuple[MixStream, int]] = {}  # and their engines
        self._pairs: dict[tuple[int, int], _Route] = {}

    def enter(self, command: MixStream, engine: int) -> Plan:
        """A stream takes part in a mix in another way than before, or begins to."""
        known = self._members.get(command.stream)
        plan = [] if known is None or known[0].mix == command.mix else self.leave(command.stream)
        self._members[command.stream] = command, engine
        return plan + self._settle(command.mix)

    def leave(self, stream: int, *, is_gone: bool = False) -> Plan:
        """A stream takes part in its mix no more; `is_gone`: nor has it any links."""
        known = self._members.pop(stream, None)
        plan = [] if known is None else self._settle(known[0].mix)
        return [order for order in plan if not is_gone or order[1].stream != stream]

    def close(self, mix: int) -> Plan:
        """A mix has ended."""
        plan: Plan = []
        for stream in [one for one, (command, _) in self._members.items() if command.mix == mix]:
            plan += self.leave(stream)
        return plan

    def _settle(self, mix: int | None) -> Plan:
        """Link those of a mix who are to hear each other, and nobody else."""
        members = {
            stream: one for stream, one in self._members.items() if one[0].mix == mix
        }  # fmt: skip
        wanted = _pairs({stream: command for stream, (command, _) in members.items()})
        wanted = {pair for pair in wanted if members[pair[0]][1] != members[pair[1]][1]}
        new = sorted(wanted - self._pairs.keys())
        taken = self._links.take_all(len(new))
        plan: Plan = []
        for pair, route in list(self._pairs.items()):
            if pair in wanted or not self._is_of(route, mix):
                continue
            del self._pairs[pair]
            self._links.give_back(route.link)
            plan += [
                (route.source_engine, Unlink(route.source, route.link)),
                (route.sink_engine, Unlink(route.sink, route.link)),
            ]
        for (source, sink), link in zip(new, taken, strict=True):
            ends = members[source][1], members[sink][1]
            self._pairs[source, sink] = _Route(sink, ends[1], source, ends[0], link)
            plan += [(ends[0], LinkOut(source, link)), (ends[1], LinkIn(sink, link))]
        return plan

    def _is_of(self, route: _Route, mix: int | None) -> bool:
        """Whether a pair is a mix's, or nobody's because one of them is gone."""
        known = self._members.get(route.source), self._members.get(route.sink)
        return any(one is None or one[0].mix == mix for one in known)


def _pairs(members: Mapping[int, MixStream]) -> set[tuple[int, int]]:
    """Return who says something to whom beside the sum, as `voip.media.audience` has it."""
    found = set()
    for stream, one in members.items():
        for other in one.listens_to or ():
            audience = members[other].heard_by if other in members else ()
            if audience is None or stream in audience:
                found.add((other, stream))
        for other in one.heard_by or ():
            if other in members and members[other].listens_to is None:
                found.add((stream, other))
    return {
        (source, sink)
        for source, sink in found
        if source != sink and members[source].gain > 0 and members[sink].hears
    }
