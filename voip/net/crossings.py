"""What is to be told engines so that streams of several of them hear each other.

Streams keep the engine they were opened in. A stream that sends what another engine's hears, and a
mix with members in several engines, go by links (`voip.media.links`): nothing is here but who is
linked with whom, and commands.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from voip.errors import MediaError
from voip.media.commands import (
    AddSink,
    CloseStream,
    Command,
    LinkIn,
    LinkOut,
    OpenMix,
    RemoveSink,
    RouteStream,
    SetSource,
    Unlink,
)

__all__ = ["Links", "Mixes", "Plan", "Routes"]

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
    """A mix: its members by engine, its links by (from, to), and its rings, which `home` serves."""

    members: dict[int, set[int]] = field(default_factory=dict)
    links: dict[tuple[int, int], int] = field(default_factory=dict)
    home: int | None = None
    source: int | None = None
    sinks: list[tuple[int, bool]] = field(default_factory=list)


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
            return []
        plan: Plan = [(engine, OpenMix(mix))]
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
            return []
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
        plan: Plan = []
        for ends in [ends for ends in one.links if engine in ends]:
            link = one.links.pop(ends)
            other = ends[0] if ends[1] == engine else ends[1]
            plan.append((other, Unlink(mix, link)))
            self._links.give_back(link)
        if one.home == engine:
            one.home = None
            plan += self._settle(mix, one)
        return plan

    def _settle(self, mix: int, one: _Mix) -> Plan:
        """Let an engine that has members serve the mix's rings, where none does."""
        if one.home is not None or not one.members:
            return []
        home = one.home = next(iter(one.members))
        plan: Plan = [(home, AddSink(mix, ring, sent)) for ring, sent in one.sinks]
        if one.source is not None:
            plan.append((home, SetSource(mix, one.source)))
        return plan

    def serve(self, command: SetSource | AddSink | RemoveSink) -> int | None:
        """Note a ring of a mix; return the engine that serves it, None: none does yet."""
        one = self._mixes[command.stream]
        match command:
            case SetSource():
                one.source = command.ring
            case AddSink():
                one.sinks.append((command.ring, command.sent))
            case RemoveSink():
                one.sinks = [sink for sink in one.sinks if sink[0] != command.ring]
        return one.home

    def drained(self, mix: int, ring: int) -> None:
        """What was to be said in a mix has been said."""
        one = self._mixes.get(mix)
        if one is not None and one.source == ring:
            one.source = None
