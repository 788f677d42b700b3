"""Sessions of events for a jitter buffer, by others, with limits that each must keep.

An event is a letter: P a packet arrives, G the next 20 ms are asked for, L a packet was lost on its
way, D a packet comes twice, O one comes that is long past, J sequence numbers jump by 20, R they
begin anew. The engine is given the session's mode and bounds, packets of real speech at the time of
each P, and a step for each G. Counted in frames of 20 ms: discarded is what was left out to shorten
the delay, lost are gaps before a packet that waited, empty those before none; delay is the mean of
how many wait: how long one waits, on average.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from engine_desk import Desk, ulaw

from voip.harness.audio import Sound
from voip.sounds import asset_path

FRAME = 160
JUMP = 20


@dataclass
class Session:
    """One session of the file."""

    title: str
    fixed: bool = False
    bounds: tuple[int, ...] = ()  # initial, minimum and maximum; or the one that is fixed
    limits: dict[str, int] = field(default_factory=dict)
    events: str = ""


def sessions(path: Path) -> list[Session]:
    """Read the file: `=` begins a session, `%` sets its mode, `!` a limit, `.` ends it."""
    found: list[Session] = []
    within = False
    for line in path.read_text().splitlines():
        if line.startswith("=") and not within:
            found.append(Session(line[1:].strip()))
        elif line.startswith("=") and not found[-1].events:
            found[-1].title += " " + line[1:].strip()
        elif line.startswith("%"):
            mode, *numbers = line[1:].split()
            found[-1].fixed, found[-1].bounds = mode == "fixed", tuple(map(int, numbers))
        elif line.startswith("!"):
            name, limit = line[1:].split()[:2]
            found[-1].limits[name] = int(limit)
        elif found and not line.startswith((".", "#")):
            found[-1].events += "".join(re.findall("[PGLRJDO]", line))
    return [session for session in found if session.events]


@dataclass
class Figures:
    """What a session came to, in frames."""

    burst: int
    discard: float
    lost: int
    empty: int
    delay: float
    delay_min: float


def play(session: Session, sound: np.ndarray) -> Figures:
    """Let an engine hear a session."""
    desk = Desk()
    row = desk.call()
    playout = desk.engine._table.playout
    low, high = session.bounds * 2 if session.fixed else session.bounds[1:]
    playout.bound(row, low * 0.02, high * 0.02)  # beyond 600 ms, too
    sequence, number = 1000, 0
    lost = empty = puts = gets = burst = 0
    waiting = []

    def put(sequence: int, number: int) -> None:
        place = number * FRAME % (sound.size - FRAME)
        payload = ulaw(sound[place : place + FRAME])
        at = desk.engine.next_due()  # a step takes place, and then 20 ms pass
        desk.rtp(sequence & 0xFFFF, number * FRAME, payload, at=at)

    for event in session.events:
        if event == "G":
            silent = int(playout.silent[row])
            held = playout.ring.count[row] + playout.pcm.fill[row] / FRAME + puts
            waiting.append(max(0.0, held - 1))  # the one that is heard in this step waits no more
            due = desk.engine.next_due()
            assert due is not None
            desk.now = max(desk.now, due)
            desk.tick()
            if playout.decoded[row] > playout.first[row] and playout.silent[row] > 0:
                began = playout.silent[row] > silent or silent >= 1 << 40
                lost += bool(began and playout.ring.count[row])
                empty += bool(began and not playout.ring.count[row])
            puts, gets = 0, gets + 1
        else:
            if event == "J":
                sequence, number = sequence + JUMP, number + JUMP
            elif event == "R":
                sequence, number = 1, 1_000_000
            elif event == "L":
                sequence, number = sequence + 1, number + 1
                continue
            if event == "D":
                put(sequence - 1, number - 1)
                continue
            if event == "O":
                put(sequence - 50, number - 50)
                continue
            put(sequence, number)
            sequence, number = sequence + 1, number + 1
            puts, gets = puts + 1, 0
        burst = max(burst, puts, gets)
    discard = playout.accelerated[row] / FRAME
    return Figures(burst, discard, lost, empty, float(np.mean(waiting)), float(min(waiting)))


@pytest.mark.reference
def test_every_session_keeps_its_limits(reference_data: Path) -> None:
    found = sessions(reference_data / "jitterbuffer" / "Jbtest-half.dat")
    assert len(found) == 8
    with asset_path("speech-8k.wav") as path:
        sound = Sound.read(path).samples
    compared, beyond = 0, []
    for session in found:
        figures = play(session, sound)
        print(session.title, session.limits, figures)  # the burst is reported: it is the session's
        for name, limit in session.limits.items():
            if name == "burst":
                continue
            value = getattr(figures, name)
            compared += 1
            if value > limit:
                beyond.append(f"{session.title}: {name} is {value:.1f}, at most {limit}")
    assert not beyond
    assert compared == 32
