"""The figures of a stream (row J05) against what the simulated network really did.

What was heard is found out by ear: every packet holds sound of its own, which is looked for in
what came out.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

import numpy as np
import pytest
from world import START, Host, World, joined

from voip.codecs.g711 import ULAW_DECODE
from voip.media.answers import StreamStats
from voip.sim.path import Path
from voip.types import Address

RATE = 8000
CLEAN = Path(delay_s=0.03)
SEED = 11


@dataclass(frozen=True)
class Heard:
    """By ear: which packets were heard whole, and when they began to sound."""

    numbers: list[int]
    times: list[float]


@dataclass
class Ground:
    """What happened to the packets of one stream, by sequence number from the first one on."""

    sent: int
    arrivals: list[tuple[float, int, bytes]]
    lost: set[int]
    duplicates: int
    overtaken: int
    stats: StreamStats
    heard: Heard


def noise(seconds: float, seed: int) -> np.ndarray:
    """Loud everywhere, and nowhere the same."""
    return np.random.default_rng(seed).normal(0, 4000, int(seconds * RATE)).astype(np.int16)


def listen(world: World, host: Host, stream: int, packets: dict[int, bytes]) -> Heard:
    """Look for the middle of each packet in what was heard."""
    pcm = world.heard(host, stream)
    ended = host.engine.next_due()  # when the next sample would be heard
    assert ended is not None
    raw = pcm.tobytes()
    numbers, times = [], []
    for number, payload in packets.items():
        sound = ULAW_DECODE[np.frombuffer(payload, np.uint8)]
        at = raw.find(sound[40:].tobytes())  # the first 5 ms may be a blend
        if at >= 0:
            numbers.append(number)
            times.append(ended - (pcm.size - at // 2 + 40) / RATE)
    return Heard(numbers, times)


def ground(path: Path, *, seconds: float = 6, streams: int = 6, **settings: float):
    """Send noise over `path`, with a clean second before and after it; tell what happened."""
    world = World(SEED, CLEAN)
    a, b = joined(world, streams, **settings)
    taken: dict[Address, list[tuple[float, bytes]]] = {}
    world.network.taps.append(
        lambda _, at, source, to, packet: taken.setdefault(source, []).append((at, packet))
    )
    for stream in a.opened:
        world.feed(a, noise(seconds + 3, 100 * SEED + stream), stream)
    world.run(1)
    world.set_path(a, b, path)
    world.run(seconds)
    world.set_path(a, b, CLEAN)
    world.run(1)
    for stream in a.opened:
        world.connect(a, b.opened[stream], stream, send=False)
    world.run(1)
    for stream in a.opened:
        address = a.opened[stream].rtp
        truth = world.network.counts_of(address)
        arrivals = [(at, int.from_bytes(p[2:4], "big"), p[12:]) for at, p in taken[address]]
        arrivals.sort(key=lambda one: one[0])
        first = min(number for _, number, _ in arrivals)
        arrivals = [(at, number - first, payload) for at, number, payload in arrivals]
        packets = {number: payload for _, number, payload in arrivals}
        lost = set(range(truth.sent)) - set(packets)
        assert len(lost) == truth.lost
        highest, overtaken = -1, 0
        for _, number, _ in arrivals:
            overtaken += number < highest
            highest = max(highest, number)
        yield Ground(
            truth.sent,
            arrivals,
            lost,
            len(arrivals) - len(packets),
            overtaken,
            world.stats(b, stream),
            listen(world, b, stream, packets),
        )


def runs(numbers: set[int]) -> list[int]:
    """Lengths of runs of consecutive numbers."""
    return [
        len(list(run))
        for _, run in groupby(enumerate(sorted(numbers)), lambda pair: pair[1] - pair[0])
    ]


def test_what_was_lost_is_counted_to_the_packet_and_concealed_to_the_sample():
    for truth in ground(Path(delay_s=0.03, loss=0.1)):
        stats = truth.stats
        assert len(truth.lost) > 10
        assert stats.packets_received == truth.sent - len(truth.lost)
        assert stats.packets_lost == len(truth.lost)
        assert stats.estimated_loss_rate == pytest.approx(len(truth.lost) / truth.sent)
        assert set(truth.heard.numbers) == set(range(truth.sent)) - truth.lost
        gaps = [*runs(truth.lost), 100]  # and the silence after the last packet
        assert stats.concealed_ms == sum(min(20 * run, 60) for run in gaps)
        assert (stats.late_packet_count, stats.dropped_frames) == (0, 0)
        assert (stats.accelerated_ms, stats.expanded_ms) == (0, 0)


def test_every_packet_that_came_is_either_heard_or_counted_as_dropped():
    path = Path(delay_s=0.03, loss=0.03, jitter_s=0.09, reorder=0.03, reorder_s=0.1)
    late = 0
    for truth in ground(path):
        stats = truth.stats
        assert stats.packets_lost == len(truth.lost)
        assert stats.packets_reordered == truth.overtaken > 0
        heard = len(truth.heard.numbers)
        assert truth.sent - len(truth.lost) - heard == stats.dropped_frames
        assert stats.late_packet_count <= stats.dropped_frames
        assert stats.dropped_frames <= stats.late_packet_count + stats.accelerated_ms / 20 + 1
        assert stats.concealed_ms >= 20 * stats.expanded_ms / 20
        late += stats.late_packet_count
    assert late > 0


def test_late_packets_are_those_that_came_after_their_time():
    for truth in ground(Path(delay_s=0.03, reorder=0.05, reorder_s=0.15), jitter_max_ms=40):
        times = dict(zip(truth.heard.numbers, truth.heard.times, strict=True))
        delay = times[0] - truth.arrivals[0][0]
        late = {
            number for at, number, _ in truth.arrivals if at > START + 0.02 * number + delay + 0.1
        }
        missed = {number for _, number, _ in truth.arrivals} - set(truth.heard.numbers)
        assert late <= missed
        assert truth.stats.late_packet_count == len(missed) > 5


def test_copies_are_counted_and_heard_once():
    for truth in ground(Path(delay_s=0.03, loss=0.05, duplicate=0.1), jitter_min_ms=80):
        stats = truth.stats
        assert stats.packets_duplicate == truth.duplicates > 10
        assert stats.packets_received == len(truth.arrivals)
        assert stats.packets_lost == len(truth.lost) - truth.duplicates  # RFC 3550, A.3
        assert stats.estimated_loss_rate == pytest.approx(len(truth.lost) / truth.sent)
        assert len(truth.heard.numbers) == truth.sent - len(truth.lost)


def test_the_delay_told_is_the_delay_heard_and_frames_are_those_that_wait():
    for truth in ground(Path(delay_s=0.03, jitter_s=0.03)):
        arrival = {number: at for at, number, _ in reversed(truth.arrivals)}
        waits = [
            at - arrival[number]
            for number, at in zip(truth.heard.numbers, truth.heard.times, strict=True)
        ]
        transit = min(at - 0.02 * number for number, at in arrival.items())
        quickest = [
            at - (transit + 0.02 * number)
            for number, at in zip(truth.heard.numbers, truth.heard.times, strict=True)
        ]
        stats = truth.stats
        assert min(waits) >= -0.011
        assert stats.average_delay_ms == pytest.approx(1000 * np.mean(quickest), abs=12)
        assert stats.current_delay_ms == pytest.approx(1000 * quickest[-1], abs=12)
        events = [(at, 1) for at in arrival.values()]
        events += [(at, -1) for at in truth.heard.times]
        waiting = np.cumsum([change for _, change in sorted(events)])
        assert abs(stats.peak_frames - waiting.max()) <= 1
        assert stats.current_frames == 0
        assert stats.buffer_overrun_count == 0
