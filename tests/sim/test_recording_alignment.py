"""Recordings of both sides lie by RTP time to the sample, whatever is lost, paused or held.

What comes in is injected packet by packet: an impulse lies at its packet's RTP timestamp plus its
place in it. What goes out is read off the packets sent, in the same way. So the judge of
either channel is RTP, and the recording is a WAV file read by the standard library.
"""

from __future__ import annotations

import wave
from pathlib import Path as FilePath

import numpy as np
import numpy.typing as npt
import pytest
from world import START, WALL, Host, World, joined

from voip.codecs import g711
from voip.media.answers import Opened
from voip.media.commands import AddPairSink, CloseStream, MuteStream, RemoveSink, RouteStream
from voip.media.pairs import _among
from voip.media.record.plan import plan_of
from voip.media.record.sink import RecordingSink
from voip.rtp.packet import pack_header
from voip.types import Address

RATE, FRAME = 8000, 160
PEER = Opened(Address("172.16.0.9", 4000), Address("172.16.0.9", 4001))
LOUD = 20_000
SEAM = 80
"""What was made up for a loss is led over into what comes after it."""
SILENCE = bytes([0xFF]) * FRAME


def clicks_in(channel: npt.NDArray[np.int16]) -> list[int]:
    """Where impulses are: each one sample, everything else is silent or concealed."""
    return [int(at) for at in np.flatnonzero(np.abs(channel.astype(int)) > LOUD // 2)]


class Fixture:
    """A peer that is a list of packets, and a host whose both sides are recorded."""

    def __init__(
        self, directory: FilePath, *, ring_samples: int = 2 * 2 * RATE, **plan: object
    ) -> None:
        self.world = World()
        self.host: Host = self.world.host("10.0.0.1")
        self.world.open(self.host, jitter_min_ms=60, jitter_max_ms=60)
        self.sent: list[bytes] = []
        engine = self.host.engine
        send = engine._io.send

        def tapped(rows: npt.NDArray[np.int32], packets: npt.NDArray[np.uint8], lengths) -> int:  # type: ignore[no-untyped-def]
            self.sent += [packets[row, : lengths[at]].tobytes() for at, row in enumerate(rows)]
            return send(rows, packets, lengths)

        engine._io.send = tapped  # type: ignore[method-assign]
        self.world.connect(self.host, PEER)
        number = engine.arena.allocate(ring_samples, RATE)
        self.ring = engine.arena.ring(number)
        self.number = number
        self.path = directory / "both.wav"
        self.sink = RecordingSink(
            self.ring,
            plan_of(self.path, channels="stereo", **plan),  # type: ignore[arg-type]
            pairs=True,
            wall=lambda: WALL + self.world.now - START,
        )
        self.world.do(self.host, AddPairSink(1, number))
        self.sink.service(0.0)
        self.rtp: dict[int, int] = {}  # injected clicks: number -> RTP timestamp
        self.lost: list[int] = []  # RTP timestamps
        self._timestamp, self._sequence = 1_000, 65_000  # the sequence number wraps on the way

    def pass_by(self, *, packet: bytes | None, marker: bool = False) -> None:
        """Let 20 ms pass; `packet`: what the peer sends at their beginning, None: nothing (DTX)."""
        if packet is not None:
            header = pack_header(0, self._sequence, self._timestamp, 7, marker=marker)
            self.world.inject(PEER.rtp, self.host.opened[1].rtp, header + packet)
            self._sequence += 1
        self._timestamp += FRAME
        self.world.run(0.02)

    def lose(self, packet: bytes) -> None:
        """As `pass_by`, but the packet never arrives; what is made up for it is not looked at."""
        self.lost.append(self._timestamp)
        self._sequence += 1
        self._timestamp += FRAME
        self.world.run(0.02)

    def click(self, number: int) -> bytes:
        """A packet with one impulse, whose RTP time is noted."""
        pcm = np.zeros(FRAME, np.int16)
        at = (37 * number) % FRAME
        pcm[at] = LOUD
        self.rtp[number] = self._timestamp + at
        return g711.encode(pcm, g711.Law.ULAW).tobytes()

    def say(self, number: int) -> None:
        """Let the host send one impulse from its next step on."""
        pcm = np.zeros(FRAME, np.int16)
        pcm[(53 * number) % FRAME] = LOUD
        self.world.feed(self.host, pcm)

    def said(self) -> list[int]:
        """RTP times of the impulses in the packets that went out, relative to the first."""
        found = []
        for packet in self.sent:
            pcm = g711.decode(np.frombuffer(packet[12:], np.uint8), g711.Law.ULAW)
            timestamp = int.from_bytes(packet[4:8], "big")
            found += [timestamp + at for at in clicks_in(pcm)]
        return [(at - found[0]) % 2**32 for at in found]

    def recorded(self) -> npt.NDArray[np.int16]:
        self.sink.service(0.0)
        self.sink.close()
        with wave.open(str(self.path)) as file:
            assert (file.getnchannels(), file.getframerate()) == (2, RATE)
            octets = file.readframes(file.getnframes())
        return np.frombuffer(octets, "<i2").reshape(-1, 2)

    def serve(self) -> None:
        self.sink.service(0.0)


def assert_in_step(fixture: Fixture, expected: int) -> None:
    """Each channel's impulses are as far apart as their RTP times: deviation 0 samples."""
    sound = fixture.recorded()
    heard, sent = clicks_in(sound[:, 0]), clicks_in(sound[:, 1])
    rtp = list(fixture.rtp.values())
    assert len(rtp) >= expected
    made_up = {start + at for start in fixture.lost for at in range(FRAME + SEAM)}
    at_rtp = [at - heard[0] + rtp[0] for at in heard]
    assert [at for at in at_rtp if at in rtp or at not in made_up] == rtp
    said = fixture.said()
    assert len(sent) == len(said) >= expected
    assert [at - sent[0] for at in sent] == said


def test_V01_both_sides_lie_by_rtp_time_to_the_sample(tmp_path: FilePath) -> None:
    fixture = Fixture(tmp_path)
    for number in range(60):  # 60 impulses either way, in 12 s
        fixture.say(number)
        for frame in range(10):
            fixture.pass_by(packet=fixture.click(number) if frame == 4 else SILENCE)
        fixture.serve()
    assert_in_step(fixture, 59)


def test_V01_loss_is_silence_of_the_same_length(tmp_path: FilePath) -> None:
    random = np.random.default_rng(5)
    fixture, lost = Fixture(tmp_path), 0
    for number in range(60):
        fixture.say(number)
        for frame in range(10):
            if frame != 4 and random.random() < 0.2:
                fixture.lose(SILENCE)
                lost += 1
            else:
                fixture.pass_by(packet=fixture.click(number) if frame == 4 else SILENCE)
        fixture.serve()
    assert lost > 80
    assert_in_step(fixture, 59)


def test_V01_a_pause_of_the_peer_is_silence_of_the_same_length(tmp_path: FilePath) -> None:
    """Discontinuous transmission: nothing comes for 1.3 s, and RTP time goes on."""
    fixture = Fixture(tmp_path)
    for number in range(20):
        fixture.say(number)
        fixture.pass_by(packet=SILENCE, marker=True)
        for frame in range(15):
            fixture.pass_by(packet=fixture.click(number) if frame == 7 else SILENCE)
        fixture.serve()
        for _ in range(65):
            fixture.pass_by(packet=None)
        fixture.serve()
    assert_in_step(fixture, 20)


def test_V01_hold_and_mute_are_silence_of_the_same_length(tmp_path: FilePath) -> None:
    """On hold nothing is sent and nothing is heard; muted, silence is sent."""
    fixture = Fixture(tmp_path)
    for number in range(12):
        fixture.say(number)
        for frame in range(20):
            fixture.pass_by(packet=fixture.click(number) if frame == 12 else SILENCE)
        fixture.serve()
        fixture.world.connect(fixture.host, PEER, send=False, receive=False)
        for _ in range(33):
            fixture.pass_by(packet=None)
        fixture.serve()
        fixture.world.connect(fixture.host, PEER)
        fixture.world.do(fixture.host, MuteStream(1, True))
        fixture.pass_by(packet=SILENCE, marker=True)
        fixture.world.do(fixture.host, MuteStream(1, False))
    assert_in_step(fixture, 12)


@pytest.mark.parametrize("odd", [0, 8, 11])
def test_V01_what_a_full_ring_loses_is_silence_of_the_same_length(
    tmp_path: FilePath, odd: int
) -> None:
    """The disk does nothing for 4 s, twice as long as the ring: both channels stay in step.

    Whatever the ring's size: an eighth of it may be an odd number of samples.
    """
    fixture = Fixture(tmp_path, ring_samples=2 * 2 * RATE + odd)
    lost: list[int] = []
    fixture.sink._on_lost = lost.append
    for number in range(30):
        if number not in range(10, 22):
            fixture.say(number)
        for frame in range(20):
            click = frame == 4 and number not in range(10, 22)
            fixture.pass_by(packet=fixture.click(number) if click else SILENCE)
        if number not in range(10, 20):
            fixture.serve()
    assert sum(lost) > 2 * RATE
    assert_in_step(fixture, 17)


def test_V01_steps_that_the_engine_left_out_are_silence_of_the_same_length(
    tmp_path: FilePath,
) -> None:
    """The machine stops for 1.5 s, and the engine leaves those steps out."""
    fixture = Fixture(tmp_path)
    for number in range(10):
        fixture.say(number)
        for frame in range(20):
            fixture.pass_by(packet=fixture.click(number) if frame == 4 else SILENCE)
        fixture.serve()
        if number == 4:
            for _ in range(75):  # nobody ticks
                fixture._timestamp += FRAME
                fixture._sequence += 1
            fixture.world.now += 1.5
    assert fixture.host.engine.skipped_steps > 50
    sound = fixture.recorded()
    heard, sent = clicks_in(sound[:, 0]), clicks_in(sound[:, 1])
    rtp = list(fixture.rtp.values())
    assert [at - heard[0] for at in heard] == [at - rtp[0] for at in rtp]
    assert [at - sent[0] for at in sent] == fixture.said()


def test_a_paused_recording_leaves_out_exactly_the_steps_meanwhile(tmp_path: FilePath) -> None:
    fixture = Fixture(tmp_path, sidecar=True)
    for number in range(20):
        fixture.say(number)
        if number == 5:
            fixture.sink.pause()
        if number == 10:
            fixture.sink.resume()
        for frame in range(10):
            fixture.pass_by(packet=fixture.click(number) if frame == 0 else SILENCE)
        fixture.serve()
    sound = fixture.recorded()
    (pause,) = fixture.sink.journal.pauses
    assert pause[1] == 5 * 10 * FRAME
    sent = clicks_in(sound[:, 1])
    kept = [at for n, at in enumerate(fixture.said()) if n not in range(5, 10)]
    assert len(sent) == 15
    shifted = [at - (pause[1] if n >= 5 else 0) for n, at in enumerate(kept)]
    assert [at - sent[0] for at in sent] == shifted


@pytest.mark.parametrize("rotate_s", [1.0, 1.37])
def test_files_that_follow_each_other_have_no_seam(tmp_path: FilePath, rotate_s: float) -> None:
    fixture = Fixture(tmp_path, rotate_s=rotate_s)
    for number in range(40):
        fixture.say(number)
        for frame in range(10):
            fixture.pass_by(packet=fixture.click(number) if frame == 4 else SILENCE)
        fixture.serve()
    fixture.sink.service(0.0)
    fixture.sink.close()
    pieces = []
    for path in sorted(tmp_path.glob("both-*.wav")):
        with wave.open(str(path)) as file:
            pieces.append(np.frombuffer(file.readframes(1 << 30), "<i2").reshape(-1, 2))
    assert {len(piece) for piece in pieces[:-1]} == {round(rotate_s * RATE)}
    assert len(pieces) >= 5
    sound = np.concatenate(pieces)
    heard, rtp = clicks_in(sound[:, 0]), list(fixture.rtp.values())
    assert [at - heard[0] for at in heard] == [at - rtp[0] for at in rtp]
    sent = clicks_in(sound[:, 1])
    assert [at - sent[0] for at in sent] == fixture.said()[: len(sent)]


def test_a_ring_that_nobody_wants_any_more_is_written_no_more(tmp_path: FilePath) -> None:
    fixture = Fixture(tmp_path)
    table = fixture.host.engine._table
    fixture.world.run(0.1)
    fixture.world.do(fixture.host, RemoveSink(1, fixture.number))
    written = fixture.ring.written
    fixture.world.run(0.1)
    assert fixture.ring.written == written > 0
    fixture.world.do(fixture.host, AddPairSink(1, fixture.number))
    fixture.host.engine.arena.release(fixture.number)  # and given back without a word
    fixture.world.run(0.1)
    assert not table.pair_sinks
    fixture.world.do(fixture.host, CloseStream(1))
    fixture.sink.close()


def test_both_channels_are_of_the_same_step(tmp_path: FilePath) -> None:
    """What is sent back at once lies in both channels at the same sample."""
    fixture = Fixture(tmp_path)
    fixture.world.do(fixture.host, RouteStream(1, 1))
    for number in range(20):
        for frame in range(10):
            fixture.pass_by(packet=fixture.click(number) if frame == 4 else SILENCE)
        fixture.serve()
    sound = fixture.recorded()
    assert len(clicks_in(sound[:, 0])) == 20
    assert np.array_equal(sound[:, 0], sound[:, 1])


def test_rows_are_found_among_those_that_are_recorded() -> None:
    """Whatever rows are due, and whichever are recorded."""
    random = np.random.default_rng(4)
    compared = 0
    for _ in range(300):
        rows = np.flatnonzero(random.random(12) < 0.5)
        wanted = {int(row): None for row in random.permutation(14)[: random.integers(0, 8)]}
        found = [int(rows[at]) for at in _among(rows, wanted)]
        assert found == sorted(set(rows.tolist()) & set(wanted))
        compared += len(found)
    assert compared > 300


def test_each_of_many_rows_is_recorded_by_itself() -> None:
    """Four streams, each with a level of its own; two are recorded, one of these on hold."""
    world = World()
    a, b = joined(world, 4)
    rings = {}
    for stream in (2, 4):
        number = a.engine.arena.allocate(4 * RATE, RATE)
        world.do(a, AddPairSink(stream, number))
        rings[stream] = a.engine.arena.ring(number)
    world.connect(a, b.opened[2], 2, send=False)
    for stream in range(1, 5):
        world.feed(a, np.full(2 * RATE, 1000 * stream, np.int16), stream)
        world.feed(b, np.full(2 * RATE, -1000 * stream, np.int16), stream)
    world.run(1.0)
    for stream, ring in rings.items():
        pairs = ring.read(4 * RATE).reshape(-1, 2)[-RATE // 2 :].astype(int)
        said = 0 if stream == 2 else 1000 * stream
        assert np.abs(pairs[:, 0] + 1000 * stream).max() <= 128, stream
        assert np.abs(pairs[:, 1] - said).max() <= 128, stream
    assert rings[2].written == rings[4].written


def test_a_ring_of_another_rate_has_both_sides_at_that_rate() -> None:
    """As after a change of codec: both are converted alike, and stay in step."""
    world = World()
    a, b = joined(world)
    number = a.engine.arena.allocate(2 * 2 * 16_000, 16_000)
    world.do(a, AddPairSink(1, number))
    world.do(a, RouteStream(1, 1))
    t = np.arange(2 * RATE) / RATE
    world.feed(b, (8000 * np.sin(2 * np.pi * 500 * t)).astype(np.int16))
    world.run(1.5)
    pairs = a.engine.arena.ring(number).read(1 << 20).reshape(-1, 2)
    assert abs(len(pairs) - 1.5 * 16_000) <= 320
    assert np.array_equal(pairs[:, 0], pairs[:, 1])
    spectrum = np.abs(np.fft.rfft(pairs[-16_000:, 0].astype(float)))
    assert spectrum.argmax() == 500
    assert 20 * np.log10(spectrum[500] / (8000 * 8000)) == pytest.approx(0, abs=0.3)
