"""Two engines joined by a virtual network, driven through virtual time by one test, no thread."""

from __future__ import annotations

import numpy as np
import pytest
from world import START, World, joined

from voip.media.answers import (
    Applied,
    DtmfReceived,
    DtmfSent,
    Refused,
    SourceLearned,
    StreamEnded,
    StreamStats,
)
from voip.media.commands import CloseStream, MuteStream, OpenStream, RouteStream, SendDtmf
from voip.rtp.packet import pack_header
from voip.sim.path import Path
from voip.types import Address

RATE = 8000


def speechlike(seconds: float, seed: int = 7) -> np.ndarray:
    """Noise in syllables: loud and quiet by turns, so that pauses exist."""
    rng = np.random.default_rng(seed)
    n = int(seconds * RATE)
    envelope = 0.5 + 0.5 * np.sin(2 * np.pi * 1.5 * np.arange(n) / RATE)
    return (rng.normal(0, 3000, n) * (envelope > 0.3)).astype(np.int16)


def ulaw_round_trip(pcm: np.ndarray) -> np.ndarray:
    from voip.codecs.g711 import ULAW_DECODE, ULAW_ENCODE

    return ULAW_DECODE[ULAW_ENCODE[pcm.view(np.uint16)]]


def offset_of(sent: np.ndarray, heard: np.ndarray) -> int:
    """Samples by which `heard` is later than `sent`, by correlation."""
    n = 1 << (sent.size + heard.size - 1).bit_length()
    spectrum = np.fft.rfft(heard.astype(float), n) * np.conj(np.fft.rfft(sent.astype(float), n))
    lag = int(np.fft.irfft(spectrum, n).argmax())
    return lag - n if lag > n // 2 else lag


@pytest.mark.long
def test_sixty_seconds_both_ways_on_a_clean_path_arrive_sample_for_sample():
    world = World()
    a, b = joined(world)
    speech = {a.name: speechlike(60, 1), b.name: speechlike(60, 2)}
    world.feed(a, speech[a.name])
    world.feed(b, speech[b.name])
    world.run(60)
    for host, sender in ((a, b), (b, a)):
        sent, heard = ulaw_round_trip(speech[sender.name]), world.heard(host)
        lag = offset_of(sent, heard)
        assert 0 < lag <= 0.08 * RATE
        compared = min(sent.size, heard.size - lag)
        assert compared > 59 * RATE
        assert np.array_equal(heard[lag : lag + compared], sent[:compared])
        stats = world.stats(host)
        assert stats.packets_received >= 2990
        assert (stats.packets_lost, stats.packets_late, stats.concealed_ms) == (0, 0, 0.0)
        assert stats.rtt_ms == pytest.approx(0.0, abs=0.1)
        assert stats.remote_packets_lost == 0
        assert stats.kernel_timestamps is False or stats.kernel_timestamps is True
    assert world.now == START + 60


def test_loss_jitter_and_reordering_are_counted_as_they_happened():
    path = Path(loss=0.05, delay_s=0.04, jitter_s=0.02, reorder=0.02, reorder_s=0.03)
    world = World(1, path)
    a, b = joined(world, streams=6)
    for stream in a.opened:
        world.feed(a, speechlike(20, stream), stream)
    world.run(20)
    late = sent = 0
    for stream in a.opened:
        truth = world.network.counts_of(a.opened[stream].rtp)
        stats = world.stats(b, stream)
        assert truth.sent >= 990
        assert truth.lost > 25
        assert abs(stats.packets_lost - truth.lost) <= 4  # some are still under way
        assert stats.packets_reordered > 0
        assert stats.estimated_loss_rate == pytest.approx(truth.lost / truth.sent, abs=0.005)
        late, sent = late + stats.late_packet_count, sent + truth.sent
        assert 20 * truth.lost * 0.7 <= stats.concealed_ms <= 20 * truth.lost * 1.3
        assert 77 < world.stats(a, stream).rtt_ms < 183
        assert world.stats(a, stream).remote_fraction_lost == pytest.approx(0.05, abs=0.05)
    assert late <= 0.01 * sent


def test_the_same_seed_repeats_to_the_bit():
    def heard() -> bytes:
        world = World(5, Path(loss=0.03, delay_s=0.03, jitter_s=0.04, reorder=0.05))
        a, b = joined(world)
        world.feed(a, speechlike(5))
        world.run(5)
        return world.heard(b).tobytes()

    assert heard() == heard()


def test_any_packet_order_within_the_buffer_comes_out_sorted():
    world = World(3, Path(delay_s=0.01, reorder=0.3, reorder_s=0.035))
    a, b = joined(world, jitter_min_ms=80)
    speech = speechlike(10)
    world.feed(a, speech)
    world.run(10)
    sent, heard = ulaw_round_trip(speech), world.heard(b)
    lag = offset_of(sent, heard)
    compared = min(sent.size, heard.size - lag)
    assert compared > 9 * RATE
    assert np.array_equal(heard[lag : lag + compared], sent[:compared])
    assert world.stats(b).packets_reordered > 50


def test_delay_follows_jitter_up_and_comes_down_again():
    world = World(4, Path(delay_s=0.02))
    a, b = joined(world)
    world.feed(a, speechlike(40))
    world.run(5)
    calm = world.stats(b).current_delay_ms
    world.set_path(a, b, Path(delay_s=0.02, jitter_s=0.12))
    world.run(8)
    rough = world.stats(b)
    world.set_path(a, b, Path(delay_s=0.02))
    world.run(24)
    after = world.stats(b)
    assert 35 <= calm <= 60
    assert 80 <= rough.current_delay_ms <= 200
    assert after.current_delay_ms < rough.current_delay_ms - 15
    assert after.late_packet_count - rough.late_packet_count == 0


def test_sequence_numbers_and_timestamps_wrap_around():
    world = World()
    a, b = joined(world)
    transmitter = a.engine._table.transmitter
    transmitter.sequence[0] = 65530
    transmitter.origin[0] += (1 << 32) - 8000 - transmitter.timestamp(0, world.now)
    speech = speechlike(4)
    world.feed(a, speech)
    world.run(4)
    stats = world.stats(b)
    assert stats.packets_received > 190
    assert (stats.packets_lost, stats.packets_late, stats.concealed_ms) == (0, 0, 0.0)
    sent, heard = ulaw_round_trip(speech), world.heard(b)
    lag = offset_of(sent, heard)
    assert np.array_equal(heard[lag : lag + 3 * RATE], sent[: 3 * RATE])


@pytest.mark.parametrize("ptime", [10, 20, 30, 40, 60])
def test_every_packet_time_is_played(ptime):
    world = World()
    a, b = joined(world)
    world.connect(a, b.opened[1], ptime_ms=ptime, codec="pcma")
    speech = speechlike(5)
    world.feed(a, speech)
    world.run(5)
    heard = world.heard(b)
    stats = world.stats(b)
    assert stats.packets_received == pytest.approx(5000 / ptime, abs=4)
    lag = offset_of(speech, heard)
    compared = min(speech.size, heard.size - lag) - RATE // 2
    error = heard[lag : lag + compared].astype(float) - speech[:compared]
    assert compared > 4 * RATE
    assert 10 * np.log10((speech[:compared].astype(float) ** 2).mean() / (error**2).mean()) > 30
    assert stats.concealed_ms == 0


def test_digits_arrive_once_each_even_when_packets_are_lost():
    world = World(9, Path(loss=0.2, delay_s=0.02, duplicate=0.1))
    a, b = joined(world)
    world.do(a, SendDtmf(1, "0123456789*#ABCD"))
    world.run(8)
    digits = "".join(event.digit for event in b.events if isinstance(event, DtmfReceived))
    assert digits == "0123456789*#ABCD"
    assert [event.digits for event in a.events if isinstance(event, DtmfSent)] == [digits]


def test_echo_sends_back_what_was_heard():
    world = World()
    a, b = joined(world)
    world.do(b, RouteStream(1, 1))
    speech = speechlike(5)
    world.feed(a, speech)
    world.run(5)
    sent, heard = ulaw_round_trip(speech), world.heard(a)
    lag = offset_of(sent, heard)
    assert 0.04 * RATE <= lag <= 0.2 * RATE
    assert np.array_equal(heard[lag : lag + 4 * RATE], sent[: 4 * RATE])


def test_two_streams_of_one_engine_are_bridged_whatever_their_steps():
    world = World()
    a, b, middle = world.host("10.0.0.1"), world.host("10.0.0.2"), world.host("10.0.0.3")
    for stream, host, ptime in ((1, a, 20), (2, b, 30)):
        world.open(host, 1)
        world.listen(host)
        world.open(middle, stream)
        world.connect(host, middle.opened[stream], ptime_ms=ptime)
        world.connect(middle, host.opened[1], stream)
    world.do(middle, RouteStream(1, 2))
    world.do(middle, RouteStream(2, 1))
    speech = {a.name: speechlike(5, 1), b.name: speechlike(5, 2)}
    world.feed(a, speech[a.name])
    world.feed(b, speech[b.name])
    world.run(5)
    for host, other in ((a, b), (b, a)):
        sent, heard = ulaw_round_trip(speech[other.name]), world.heard(host)
        lag = offset_of(sent, heard)
        assert 0 < lag < 0.25 * RATE
        assert np.array_equal(heard[lag : lag + 4 * RATE], sent[: 4 * RATE])


def test_mute_sends_silence_and_packets_go_on():
    world = World()
    a, b = joined(world)
    world.feed(a, speechlike(5))
    world.run(1)
    world.do(a, MuteStream(1, True))
    world.run(0.5)
    before = world.stats(b).packets_received
    world.forget(b)
    world.run(1)
    assert world.stats(b).packets_received - before == 50
    assert not world.heard(b).any()
    assert world.heard(b).size > 0.9 * RATE


def test_hold_stops_packets_and_resume_goes_on_where_the_clock_is():
    world = World()
    a, b = joined(world)
    world.feed(a, speechlike(10))
    world.run(2)
    world.connect(a, b.opened[1], send=False)
    world.run(0.1)
    held = world.stats(b).packets_received
    world.run(3)
    assert world.stats(b).packets_received == held
    world.connect(a, b.opened[1])
    world.run(2)
    stats = world.stats(b)
    assert stats.packets_received - held == pytest.approx(100, abs=2)
    assert stats.packets_lost == 0
    assert stats.late_packet_count == 0


def test_bye_of_the_peer_is_an_event_and_closing_gives_the_last_figures():
    world = World()
    a, b = joined(world)
    world.feed(a, speechlike(2))
    world.run(2)
    last = world.do(a, CloseStream(1))
    assert last.packets_sent == pytest.approx(100, abs=2)
    assert a.engine.streams == 0
    assert a.engine.next_due() is None
    world.run(0.1)
    assert [event.stream for event in b.events if isinstance(event, StreamEnded)] == [1]


def test_commands_that_cannot_be_done_are_refused_with_a_reason():
    world = World()
    a = world.host("10.0.0.1")
    world.open(a)
    for command, said in (
        (OpenStream(1, a.name, "x"), "open already"),
        (MuteStream(7, True), "no stream 7"),
        (SendDtmf(1, "1"), "telephone-event"),
    ):
        token = a.engine.submit(command)
        world._tick(a)
        refused = [e for e in a.events if isinstance(e, Refused) and e.token == token]
        assert len(refused) == 1
        assert said in refused[0].message
    assert not [e for e in a.events if isinstance(e, Applied) and e.token > 1]
    assert world.do(a, CloseStream(7)) == StreamStats(7)  # what is not open stays closed


def test_the_table_grows_and_rows_are_used_again():
    world = World()
    a = world.host("10.0.0.1")
    for _ in range(2):
        for stream in range(100):
            world.open(a, stream)
        assert a.engine.streams == 100
        for stream in range(100):
            world.do(a, CloseStream(stream))
        assert a.engine.streams == 0
    assert a.engine._table.active.size == 128


# ---------------------------------------------------------------- whom to believe


STRANGER = Address("10.9.9.9", 5555)


def stranger(world, target, rate, *, source=STRANGER, payload=b"\x10" * 160):
    """Send RTP of the right payload type at `rate` packets/s from a third party, for ever."""
    state = {"seq": 100, "next": world.now}

    def send() -> None:
        while state["next"] <= world.now:
            packet = pack_header(0, state["seq"], state["seq"] * 160, 0xBAD) + payload
            world.inject(source, target, packet)
            state["seq"] += 1
            state["next"] += 1 / rate

    return send


@pytest.mark.parametrize("rate", [50, 500])
def test_a_third_party_is_never_heard_before_and_during_a_call(rate):
    world = World()
    a, b = world.host("10.0.0.1"), world.host("10.0.0.2")
    for host in (a, b):
        world.open(host)
        world.listen(host)
    attack = stranger(world, b.opened[1].rtp, rate)
    for _ in range(50):  # before: b knows of no peer yet
        world.run(0.01)
        attack()
    world.connect(b, a.opened[1])
    for _ in range(10):  # b has its answer, a is 100 ms later
        world.run(0.01)
        attack()
    world.connect(a, b.opened[1])
    speech = speechlike(5)
    world.feed(a, speech)
    for _ in range(500):
        world.run(0.01)
        attack()
    stats = world.stats(b)
    assert stats.remote == a.opened[1].rtp
    assert stats.packets_from_strangers >= rate * 4
    assert stats.strangers[0][0] == Address("10.9.9.9", 5555)
    assert not [event for event in b.events if isinstance(event, SourceLearned)]
    sent, heard = ulaw_round_trip(speech), world.heard(b)
    lag = offset_of(sent, heard)
    assert np.array_equal(heard[lag : lag + 4 * RATE], sent[: 4 * RATE])
    assert not heard[:lag].any()


def test_a_peer_behind_a_nat_is_learned_after_four_packets_and_answered_there():
    world = World()
    a, b = joined(world)
    other = Address("192.0.2.7", 40000)
    world.connect(a, b.opened[1], send=False)
    world.connect(b, type(a.opened[1])(Address("172.16.0.1", 9), Address("172.16.0.1", 10)))
    for n in range(30):
        packet = pack_header(0, n, n * 160, 0x77) + b"\x20" * 160
        world.inject(other, b.opened[1].rtp, packet)
        world.run(0.02)
    learned = [event.address for event in b.events if isinstance(event, SourceLearned)]
    assert learned == [other]
    assert world.stats(b).remote == other
    assert world.heard(b).any()


def test_after_two_seconds_of_silence_another_source_is_learned_and_the_old_one_comes_back():
    world = World()
    a, b = joined(world)
    world.feed(a, speechlike(20))
    world.run(1)
    attack = stranger(world, b.opened[1].rtp, 50)
    world.connect(a, b.opened[1], send=False)
    for _ in range(190):
        world.run(0.01)
        attack()
    assert world.stats(b).remote == a.opened[1].rtp
    for _ in range(60):
        world.run(0.01)
        attack()
    assert world.stats(b).remote == Address("10.9.9.9", 5555)
    world.connect(a, b.opened[1])
    world.run(0.2)
    assert world.stats(b).remote == a.opened[1].rtp


def test_strangers_are_counted_by_name_up_to_eight():
    world = World()
    a, b = joined(world)
    world.feed(a, speechlike(5))
    world.run(0.5)
    for n in range(20):
        packet = pack_header(0, 1, 1, 1) + b"x" * 160
        world.inject(Address("10.1.1.1", n), b.opened[1].rtp, packet)
    world.run(0.1)
    stats = world.stats(b)
    assert stats.packets_from_strangers == 20
    assert len(stats.strangers) == 8


def test_garbage_is_counted_and_harms_nothing():
    world = World()
    a, b = joined(world)
    speech = speechlike(4)
    world.feed(a, speech)
    rng = np.random.default_rng(1)
    for _ in range(200):
        garbage = rng.integers(0, 256, rng.integers(0, 200)).astype(np.uint8).tobytes()
        for port in (b.opened[1].rtp, b.opened[1].rtcp):
            world.inject(a.opened[1].rtp, port, garbage)
        world.run(0.01)
    world.run(2)
    stats = world.stats(b)
    assert stats.packets_discarded > 100
    sent, heard = ulaw_round_trip(speech), world.heard(b)
    lag = offset_of(sent, heard)
    assert np.array_equal(heard[lag : lag + 3 * RATE], sent[: 3 * RATE])
