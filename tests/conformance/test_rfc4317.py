"""The offer/answer examples of RFC 4317 and of RFC 3264, section 10, played from both sides.

A negotiator takes the part of Alice, then of Bob: it is fed what the other one says, as printed,
and what it says must be what is printed, as far as one audio stream goes. Adapted, since it has
one audio stream and no video: streams that it could not offer are taken out of the answers it
is fed, and where it answers, streams that are not its audio must have port 0.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from voip.sdp import (
    AgreedAudio,
    AudioCapability,
    Direction,
    Negotiator,
    SessionDescription,
    parse,
)
from voip.types import Address, SeededRandom

pytestmark = pytest.mark.reference

RFC_4317 = "rfc4317_sdp_offer_answer_examples.txt"
RFC_3264 = "rfc3264_10_examples.txt"
SECTIONS = {
    RFC_4317: [
        *("2.1", "2.2", "2.3", "2.4", "2.5", "2.6", "2.7", "2.8", "3.1", "3.2"),
        *("4.1", "4.2", "4.3", "5.1", "5.2", "5.3"),
    ],
    RFC_3264: ["10.1", "10.2"],
}
SCENES = [
    (file, section, who)
    for file, sections in SECTIONS.items()
    for section in sections
    for who in ("alice", "bob")
    if (section, who) != ("5.1", "alice")  # she offers no stream; a negotiator offers its audio
]

FLOWS = dict(zip(SECTIONS[RFC_4317], range(62, 78), strict=True))
"""The numbers of RFC 4317's flows."""

Turn = tuple[str, str, int]
"""A section, who speaks, and how often before."""

WANTS: dict[Turn, Direction] = {  # what the user wants; where nothing is said, sendrecv
    ("3.1", "bob", 0): Direction.SENDONLY,
    ("3.2", "bob", 1): Direction.SENDONLY,
    ("10.2", "alice", 0): Direction.INACTIVE,
}
OTHER_NUMBERS: dict[Turn, list[str]] = {
    # iLBC is offered as 97 and answered as 99; the same number SHOULD be used (RFC 3264, 6.1)
    ("2.3", "bob", 0): ["97"],
    # a format that was not offered is answered; an answerer MAY, we do not (RFC 3264, 6.1)
    ("3.2", "alice", 1): ["97"],
}
OTHER_DIRECTIONS: dict[Turn, Direction] = {
    # sendonly is answered without a direction, so sendrecv; it MUST be recvonly or inactive
    ("3.2", "alice", 1): Direction.RECVONLY,
}
OTHER_VERSIONS: dict[Turn, int] = {  # what changes is a stream beside the audio: not ours
    ("2.7", "alice", 1): 0,  # a format of the video
    ("4.1", "bob", 1): 0,  # a second audio
    ("4.2", "alice", 1): 0,  # a video
    ("4.3", "alice", 1): 0,  # the end of the video, which never was
    ("4.3", "bob", 1): 0,
}

STATIC = {"0": "pcmu", "4": "g723", "8": "pcma", "18": "g729"}


@dataclass(frozen=True)
class Printed:
    """A description as the RFC prints it, read here and by nothing that is under test."""

    head: tuple[str, ...]
    streams: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, lines: list[str]) -> Printed:
        starts = [n for n, line in enumerate(lines) if line.startswith("m=")] + [len(lines)]
        streams = [tuple(lines[a:b]) for a, b in pairwise(starts)]
        return cls(tuple(lines[: starts[0]]), tuple(streams))

    def text(self, streams: list[int]) -> str:
        lines = [*self.head, *(line for index in streams for line in self.streams[index])]
        return "".join(f"{line}\r\n" for line in lines)

    @property
    def author(self) -> str:
        return self.head[1].split()[0].removeprefix("o=")

    @property
    def version(self) -> int:
        return int(self.head[1].split()[2])

    @property
    def audio(self) -> int | None:
        """Which stream is the first audio in use."""
        found = [n for n, s in enumerate(self.streams) if re.match("m=audio [1-9]", s[0])]
        return found[0] if found else None

    def port(self, stream: int) -> int:
        return int(self.streams[stream][0].split()[1])

    def numbers(self, stream: int) -> list[str]:
        return self.streams[stream][0].split()[3:]

    def names(self, stream: int) -> list[str]:
        mapped = dict(re.findall(r"a=rtpmap:(\d+) ([^/]+)", "\n".join(self.streams[stream])))
        return [
            mapped.get(number, STATIC.get(number, "")).lower() for number in self.numbers(stream)
        ]

    def host(self, stream: int) -> str:
        lines = (*self.streams[stream], *self.head)
        return next(line.split()[2] for line in lines if line.startswith("c="))

    def direction(self, stream: int) -> Direction:
        said = [d for d in Direction if f"a={d.value}" in self.streams[stream]]
        return said[0] if said else Direction.SENDRECV


def exchanges(path: Path, section: str) -> list[tuple[Printed, Printed]]:
    """Return the pairs of offer and answer of a section."""
    text = path.read_text()
    start = re.search(rf"^{re.escape(section)}\.? +\S.*$", text, re.MULTILINE)
    assert start is not None, f"{path.name} has no section {section}"
    body = re.split(r"^\d+(?:\.\d+)?\.? +[A-Z]", text[start.end() :], flags=re.MULTILINE)[0]
    found: list[list[str]] = []
    for line in re.findall(r"^ +([a-z]=.*?) *$", body, re.MULTILINE):
        if line == "v=0":
            found.append([])
        found[-1].append(line)
    printed = [Printed.of(lines) for lines in found]
    assert printed
    assert len(printed) % 2 == 0
    return list(zip(printed[::2], printed[1::2], strict=True))


class Part:
    """One side of a scene, played by a negotiator."""

    def __init__(self, section: str, who: str, scene: list[tuple[Printed, Printed]]) -> None:
        self.section, self.who = section, who
        self.offered_first = scene[0][0].author == who
        self.first_streams = len(scene[0][0].streams)
        place = next(answer.audio for _, answer in scene if answer.audio is not None)
        self.place = place  # of the audio, as printed
        self.index = 0 if self.offered_first else place  # of the audio, in what we say
        everything = [printed for pair in scene for printed in pair]
        self.mine = [printed for printed in everything if printed.author == who]
        hosts = {p.host(n) for p in everything for n in range(len(p.streams))}
        self.literals = {host: f"192.0.2.{n}" for n, host in enumerate(sorted(hosts), 1)}
        self.said: list[SessionDescription] = []
        self.compared = 0
        first = next(printed for printed in self.mine if printed.streams)
        self.side = Negotiator(
            self.capabilities(first), address=self.address(first), random=SeededRandom(1)
        )

    def same(self, what: str, ours: object, printed: object) -> None:
        self.compared += 1
        assert ours == printed, f"{self.section}, {self.who}, turn {len(self.said)}: {what}"

    def capabilities(self, printed: Printed) -> list[AudioCapability]:
        return [
            AudioCapability(name, payload_type=None if number in STATIC else int(number))
            for name, number in zip(
                printed.names(self.place), printed.numbers(self.place), strict=True
            )
        ]

    def address(self, printed: Printed) -> Address:
        return Address(self.literals[printed.host(self.place)], printed.port(self.place))

    def fed(self, printed: Printed, at_most: int | None = None) -> SessionDescription:
        streams = list(range(len(printed.streams)))
        if self.offered_first and streams:
            streams = [self.place, *streams[self.first_streams :]]
        return parse(printed.text(streams[:at_most]))

    def play(self, offer: Printed, answer: Printed) -> None:
        mine, theirs = (offer, answer) if offer.author == self.who else (answer, offer)
        assert (mine.author, theirs.author) in (("alice", "bob"), ("bob", "alice"))
        turn = (self.section, self.who, len(self.said))
        if mine.streams:
            self.side.set_capabilities(self.capabilities(mine))
            self.side.set_address(self.address(mine))
        self.side.set_direction(WANTS.get(turn, Direction.SENDRECV))
        if mine is offer:
            made = self.side.create_offer()
            self.side.receive_answer(self.fed(theirs, at_most=len(made.media)))
        else:
            heard = self.fed(theirs)
            self.side.receive_offer(heard)
            made = self.side.create_answer()
            self.same("streams", [m.kind for m in made.media], [m.kind for m in heard.media])
            self.same("formats", *([m.formats for m in s.media[1:]] for s in (made, heard)))
        self.compare_said(turn, made, mine)
        assert self.side.agreed is not None
        self.compare_agreed(self.side.agreed, offer, answer, theirs)

    def compare_said(self, turn: Turn, made: SessionDescription, mine: Printed) -> None:
        rest = [media for index, media in enumerate(made.media) if index != self.index]
        self.same("rejected streams", [media.port for media in rest], [0] * len(rest))
        if mine.streams:
            media = made.media[self.index]
            self.same("audio", (media.kind, media.protocol), ("audio", "RTP/AVP"))
            self.same("address", made.rtp_address(media), self.address(mine))
            numbers = OTHER_NUMBERS.get(turn, mine.numbers(self.place))
            self.same("payload types", list(media.formats), numbers)
            named = dict(zip(mine.numbers(self.place), mine.names(self.place), strict=True))
            names = [named.get(number, "ilbc") for number in numbers]
            self.same("codecs", [f.name for f in media.encodings], names)
            direction = OTHER_DIRECTIONS.get(turn, mine.direction(self.place))
            self.same("direction", made.direction_of(media), direction)
        if self.said:
            before = self.mine[len(self.said) - 1]
            step = OTHER_VERSIONS.get(turn, mine.version - before.version)
            self.same("version", made.origin.version - self.said[-1].origin.version, step)
            self.same("session", made.origin.session_id, self.said[-1].origin.session_id)
        self.said.append(made)

    def compare_agreed(
        self, agreed: AgreedAudio, offer: Printed, answer: Printed, theirs: Printed
    ) -> None:
        self.same("active", agreed.active, bool(answer.streams))
        if not agreed.active:
            return
        host = theirs.host(self.place)
        address = None if host == "0.0.0.0" else Address(host, theirs.port(self.place))
        self.same("where to", agreed.remote_rtp, address)
        offered = offer.names(self.place)
        name = next(name for name in answer.names(self.place) if name in offered)
        number = theirs.numbers(self.place)[theirs.names(self.place).index(name)]
        assert agreed.send_format is not None
        self.same(
            "what to send",
            (agreed.send_format.name, agreed.send_format.payload_type),
            (name, int(number)),
        )
        heard = theirs.direction(self.place)
        said = self.said[-1].media[self.index].direction or Direction.SENDRECV
        self.same("sending", agreed.can_send, said.sends and heard.receives and host != "0.0.0.0")
        self.same("receiving", agreed.can_receive, said.receives and heard.sends)
        told = theirs is offer or said.sends
        self.same("hold", agreed.remote_hold, (told and not heard.receives) or host == "0.0.0.0")
        events = "telephone-event"
        if events in offered and events in answer.names(self.place):
            number = theirs.numbers(self.place)[theirs.names(self.place).index(events)]
            assert agreed.send_events is not None
            self.same("events", agreed.send_events.payload_type, int(number))
        else:
            self.same("events", agreed.send_events, None)


def _scene(file: str, section: str, who: str) -> Any:
    flow = f"F{FLOWS[section]:03}" if file == RFC_4317 else "F121"
    mark = pytest.mark.rfc(file[3:7], section, flow)
    return pytest.param(file, section, who, id=f"{flow}-{section}-{who}", marks=mark)


@pytest.mark.parametrize(("file", "section", "who"), [_scene(*scene) for scene in SCENES])
def test_example_is_played_as_printed(
    reference_data: Path, file: str, section: str, who: str
) -> None:
    scene = exchanges(reference_data / "rfc-examples" / file, section)
    part = Part(section, who, scene)
    for offer, answer in scene:
        part.play(offer, answer)
    with_audio = sum(bool(answer.streams) for _, answer in scene)
    assert part.compared >= 12 * with_audio > 0, f"only {part.compared} things were compared"


@pytest.mark.parametrize("file", SECTIONS)
def test_every_section_with_an_example_is_played(reference_data: Path, file: str) -> None:
    text = (reference_data / "rfc-examples" / file).read_text()
    parts = re.split(r"^(\d+\.\d+)\.? +[A-Z]", text, flags=re.MULTILINE)
    printed = {
        section for section, body in zip(parts[1::2], parts[2::2], strict=True) if "v=0" in body
    }
    assert printed == set(SECTIONS[file])
