"""What an engine sends: packets, digits, sound of others and of rings."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from engine_desk import HOST, PCMA, RATE, Desk, Sent, describe, place_of, speech, ulaw

import voip.media.table as table_module
from voip.codecs.g711 import ALAW_ENCODE, ULAW_DECODE
from voip.media.answers import DtmfSent, SourceDrained
from voip.media.commands import (
    AddSink,
    CloseStream,
    MuteStream,
    OpenStream,
    PayloadFormat,
    RemoveSink,
    RouteStream,
    SendDtmf,
    SetSource,
)
from voip.rtp.telephone_event import EventReceiver, parse_events


def audio(desk: Desk, row: int = 0) -> list[Sent]:
    return [packet for packet in desk.io.sent if packet.row == row and packet.payload_type != 101]


def events(desk: Desk, row: int = 0) -> list[Sent]:
    return [packet for packet in desk.io.sent if packet.row == row and packet.payload_type == 101]


def assert_in_step(packets: list[Sent], *, ptime_ms: int = 20) -> None:
    """Sequence numbers without a gap; timestamps that say when a packet was sent."""
    first = packets[0]
    for before, packet in pairwise(packets):
        assert packet.sequence == (before.sequence + 1) & 0xFFFF
    for packet in packets:
        elapsed = (packet.timestamp - first.timestamp) & 0xFFFFFFFF
        assert elapsed == pytest.approx((packet.at - first.at) * RATE, abs=8 * ptime_ms)
        assert packet.ssrc == first.ssrc


# ---------------------------------------------------------------- packets


@pytest.mark.parametrize("ptime_ms", [10, 20, 30, 40, 50, 60, 90, 120])
def test_packets_hold_their_time_of_sound_and_follow_each_other(desk, ptime_ms):
    desk.call(ptime_ms=ptime_ms)
    pcm = speech(3)
    desk.feed(pcm)
    desk.run(2)
    packets = audio(desk)
    assert len(packets) == pytest.approx(2000 / ptime_ms, abs=2)
    assert_in_step(packets, ptime_ms=ptime_ms)
    assert {len(packet.payload) for packet in packets} == {8 * ptime_ms}
    assert [packet.marker for packet in packets] == [True] + [False] * (len(packets) - 1)
    stamps = [packet.timestamp for packet in packets]
    assert {b - a for a, b in pairwise(stamps)} == {8 * ptime_ms}
    assert b"".join(packet.payload for packet in packets) in ulaw(pcm)


def test_a_refreshed_description_in_the_middle_of_a_packet_costs_no_sound(desk):
    desk.call(ptime_ms=60)
    pcm = speech(3)
    desk.feed(pcm)
    for _ in range(20):
        desk.run(0.11)
        desk.do(describe(1, ptime_ms=60))
    packets = audio(desk)
    assert_in_step(packets, ptime_ms=60)
    assert b"".join(packet.payload for packet in packets) in ulaw(pcm)


def test_packet_time_and_encoding_may_change_at_once_in_the_middle_of_a_packet(desk):
    desk.call(ptime_ms=60)
    pcm = speech(4)
    desk.feed(pcm)
    settings = [(30, PCMA), (20, PayloadFormat(0, "pcmu")), (120, PCMA), (10, PCMA)]
    for ptime_ms, encoding in settings:
        desk.run(0.31)
        desk.do(
            describe(1, ptime_ms=20, send=False),
            describe(1, ptime_ms=ptime_ms, send_format=encoding),
        )
        mark = len(audio(desk))
        desk.run(0.31)
        for packet in audio(desk)[mark:]:
            assert packet.payload_type == encoding.payload_type
            assert len(packet.payload) == 8 * ptime_ms
            coded = ulaw(pcm) if encoding.payload_type == 0 else ALAW_ENCODE[pcm.view(np.uint16)]
            assert packet.payload in bytes(coded)
    assert_in_step(audio(desk), ptime_ms=120)


@pytest.mark.parametrize("stall_s", [0.3, 0.5, 2.0])
@pytest.mark.parametrize("ptime_ms", [10, 20, 30, 60])
def test_after_a_stall_packets_go_on_without_a_burst_and_timestamps_are_right(
    desk, stall_s, ptime_ms
):
    desk.call(ptime_ms=ptime_ms)
    pcm = speech(6)
    desk.feed(pcm)
    desk.run(1)
    desk.stall(stall_s)
    before = len(audio(desk))
    resumed = desk.now
    desk.run(1)
    packets = audio(desk)
    assert sum(packet.at < resumed + 0.005 for packet in packets[before:]) <= 2
    assert_in_step(packets, ptime_ms=ptime_ms)
    sent = b"".join(packet.payload for packet in packets)
    assert sent[: len(sent) // 3] in ulaw(pcm)  # the file goes on where it was
    assert desk.engine.skipped_steps > 0


def test_a_short_stall_is_made_up_for_and_loses_nothing(desk):
    desk.call()
    pcm = speech(3)
    desk.feed(pcm)
    desk.say(pcm)
    for _ in range(6):
        desk.run(0.2)
        desk.stall(0.06)
    desk.run(0.04)
    assert len(audio(desk)) == pytest.approx(80, abs=2)
    assert_in_step(audio(desk), ptime_ms=70)
    assert desk.engine.skipped_steps == 0
    heard = desk.heard()
    lag = place_of(pcm[:8000], heard)
    assert np.array_equal(heard[lag : lag + 8000], pcm[:8000])


def test_a_stall_before_the_first_step_hears_what_has_just_begun(desk):
    desk.call()
    desk.run(0.2)
    pcm = speech(1)
    desk.say(pcm, begin=desk.now + 0.29)  # its first packet comes at the end of the stall
    desk.stall(0.3)
    desk.run(1.3)
    heard = desk.heard()
    lag = place_of(pcm, heard)
    assert np.array_equal(heard[lag : lag + 8000], pcm)


def test_hold_sends_nothing_and_resuming_begins_a_talkspurt_where_the_clock_is(desk):
    desk.call()
    desk.run(1)
    desk.do(describe(1, send=False))
    before = len(audio(desk))
    desk.run(3)
    assert len(audio(desk)) == before
    desk.do(describe(1))
    desk.run(1)
    packets = audio(desk)
    assert_in_step(packets)
    assert [n for n, packet in enumerate(packets) if packet.marker] == [0, before]


def test_mute_sends_digital_silence_and_sequence_goes_on(desk):
    desk.call()
    desk.feed(speech(3))
    desk.run(1)
    desk.do(MuteStream(1, True))
    before = len(audio(desk))
    desk.run(1)
    assert len(audio(desk)) - before == 50
    assert {packet.payload for packet in audio(desk)[before:]} == {b"\xff" * 160}
    assert_in_step(audio(desk))


def test_levels_are_of_the_last_second_and_not_of_what_was_sent_before_a_hold(desk):
    desk.call()
    desk.feed(np.full(24_000, 16_384, np.int16))
    desk.run(1.5)
    assert desk.stats().level_sent_dbfs == pytest.approx(-6.02, abs=0.2)
    desk.do(describe(1, send=False))
    desk.run(3)
    assert desk.stats().level_sent_dbfs is None


# ---------------------------------------------------------------- digits


@pytest.mark.parametrize("ptime_ms", [10, 20, 30, 40])
def test_a_digit_is_reported_once_a_packet_time_and_its_end_three_times(desk, ptime_ms):
    desk.call(ptime_ms=ptime_ms)
    desk.run(0.5)
    desk.do(SendDtmf(1, "5", duration_ms=120))
    desk.run(0.6)
    reports = events(desk)
    assert len(reports) == 120 // ptime_ms + 2
    assert [packet.marker for packet in reports] == [True] + [False] * (len(reports) - 1)
    assert len({packet.timestamp for packet in reports}) == 1
    told = [parse_events(packet.payload)[0] for packet in reports]
    durations = [ptime_ms * 8 * (n + 1) for n in range(120 // ptime_ms)]
    assert [event.duration for event in told] == [*durations, 960, 960]
    assert [event.end for event in told] == [False] * (len(told) - 3) + [True] * 3
    sequence = [packet.sequence for packet in desk.io.sent]
    assert sequence == list(range(sequence[0], sequence[0] + len(sequence)))
    lengths = {len(packet.payload) for packet in audio(desk)}
    assert lengths == {8 * ptime_ms}
    assert [event.digits for event in desk.of(DtmfSent)] == ["5"]


def heard_digits(packets: list[Sent]) -> str:
    receiver = EventReceiver()
    digits = []
    for packet in packets:
        digits += receiver.feed(packet.timestamp, packet.marker, packet.payload, packet.at)
    digits += receiver.poll(packets[-1].at + 10)
    return "".join(digit.digit for digit in digits)


def test_digits_go_out_while_muted(desk):
    desk.call()
    desk.do(MuteStream(1, True))
    desk.do(SendDtmf(1, "12#"))
    desk.run(1.5)
    assert heard_digits(events(desk)) == "12#"


def test_the_gap_is_kept_between_digits_that_are_sent_one_by_one(desk):
    desk.call()
    for digit in "123":
        desk.do(SendDtmf(1, digit, duration_ms=100, gap_ms=200))
        while not any(digit in event.digits for event in desk.of(DtmfSent)):
            desk.run(0.02)
        desk.run(0.04)  # whoever sends the next one needs a moment
    desk.run(0.5)
    starts = sorted({packet.timestamp for packet in events(desk)})
    assert len(starts) == 3
    assert all(b - a >= 8 * 300 for a, b in pairwise(starts))


def test_hold_ends_the_digit_on_the_wire_and_the_others_follow_after_it(desk):
    desk.call()
    desk.do(SendDtmf(1, "123", duration_ms=200))
    desk.run(0.1)
    desk.do(describe(1, send=False))
    last = parse_events(events(desk)[-1].payload)[0]
    assert last.end
    assert last.duration <= 8 * 120
    desk.run(4)
    held = len(events(desk))
    desk.do(describe(1))
    desk.run(2)
    assert heard_digits(events(desk)[:held]) == "1"
    assert heard_digits(events(desk)[held:]) == "23"
    assert heard_digits(events(desk)) == "123"
    assert [event.digits for event in desk.of(DtmfSent)] == ["123"]


def test_a_last_digit_that_hold_cuts_short_is_told_of_at_once(desk):
    desk.call()
    desk.do(SendDtmf(1, "1", duration_ms=200))
    desk.run(0.1)
    desk.do(describe(1, send=False))
    assert [event.digits for event in desk.of(DtmfSent)] == ["1"]


def test_another_payload_type_in_the_middle_of_a_digit_is_used_from_then_on(desk):
    desk.call()
    desk.do(SendDtmf(1, "12", duration_ms=200))
    desk.run(0.1)
    desk.do(describe(1, send_dtmf=PayloadFormat(96, "telephone-event")))
    desk.run(1)
    late = [packet for packet in desk.io.sent if packet.payload_type == 96]
    assert len(late) > 10
    assert heard_digits(events(desk) + late) == "12"


def test_events_count_their_own_clock_where_the_peer_has_none_of_the_sounds(desk):
    desk.call(send_dtmf=PayloadFormat(101, "telephone-event", 48_000))
    desk.do(SendDtmf(1, "1", duration_ms=100))
    desk.run(0.5)
    sent = events(desk)
    assert len({packet.timestamp for packet in sent}) == 1
    assert [packet.payload[1] >> 7 for packet in sent[-3:]] == [1, 1, 1]  # the end, three times
    assert int.from_bytes(sent[-1].payload[2:4]) == 4800


def test_digits_cannot_be_queued_without_end_nor_be_anything(desk):
    desk.call()
    assert "256" in desk.refused(SendDtmf(1, "1" * 257))
    assert "'X'" in desk.refused(SendDtmf(1, "1x"))
    assert desk.refused(SendDtmf(1, "1", duration_ms=0))
    desk.do(describe(1, send=False))
    assert "nothing can be sent" in desk.refused(SendDtmf(1, "1"))
    desk.run(0.5)
    assert not events(desk)


def test_sound_before_a_digit_is_whole_and_after_it_goes_on(desk):
    desk.call(ptime_ms=60)
    pcm = speech(3)
    desk.feed(pcm)
    desk.run(0.63)
    desk.do(SendDtmf(1, "7", duration_ms=120))
    desk.run(1.4)
    coded = ulaw(pcm)
    stamps = [packet.timestamp for packet in audio(desk)]
    origin = stamps[0] - coded.index(audio(desk)[0].payload)
    for packet in audio(desk):
        at = packet.timestamp - origin
        assert coded[at : at + 480] == packet.payload


# ---------------------------------------------------------------- rings


def test_a_source_is_sent_whole_and_told_when_it_is_drained(desk):
    desk.call()
    pcm = speech(0.99)
    desk.feed(pcm)
    desk.run(1.2)
    sent = b"".join(packet.payload for packet in audio(desk))
    assert ulaw(pcm) in sent
    assert len(desk.of(SourceDrained)) == 1
    assert desk.stats().source_underrun_ms == 0


def test_a_source_that_has_too_little_in_time_is_counted(desk):
    desk.call()
    number = desk.engine.arena.allocate(RATE)
    desk.engine.arena.ring(number).push(speech(0.1))
    desk.do(SetSource(1, number))
    desk.run(0.5)
    assert desk.stats().source_underrun_ms == pytest.approx(400, abs=20)
    desk.engine.arena.release(number)
    desk.run(0.5)
    assert desk.stats().source_underrun_ms == pytest.approx(400, abs=20)
    assert not desk.of(SourceDrained)


def test_a_ring_that_is_given_back_takes_nothing_from_the_other_sinks(desk):
    desk.call()
    arena = desk.engine.arena
    numbers = [arena.allocate(4 * RATE) for _ in range(3)]
    rings = [arena.ring(number) for number in numbers]
    for number in numbers:
        desk.do(AddSink(1, number))
    pcm = speech(1)
    desk.say(pcm)
    desk.run(0.5)
    arena.release(numbers[0])
    desk.run(1)
    heard = [ring.read(4 * RATE) for ring in rings]
    assert np.array_equal(heard[1], heard[2])
    lag = place_of(pcm, heard[1])
    assert np.array_equal(heard[1][lag : lag + RATE], pcm)
    desk.do(RemoveSink(1, numbers[1]))
    desk.run(0.1)
    assert rings[1].available == 0
    assert rings[2].available == 800


def test_what_is_sent_can_be_recorded_beside_what_is_heard(desk):
    desk.call()
    number = desk.engine.arena.allocate(2 * RATE)
    desk.do(AddSink(1, number, sent=True))
    mine, theirs = speech(1, 1), speech(1, 2)
    desk.feed(mine)
    desk.say(theirs)
    desk.run(1.2)
    sent = desk.engine.arena.ring(number).read(2 * RATE)
    lag = place_of(mine, sent)
    assert np.array_equal(sent[lag : lag + RATE], mine)
    heard = desk.heard()
    lag = place_of(theirs, heard)
    assert np.array_equal(heard[lag : lag + RATE], theirs)


# ---------------------------------------------------------------- routes


def echoed(desk: Desk, row: int) -> np.ndarray:
    coded = b"".join(packet.payload for packet in audio(desk, row))
    return ULAW_DECODE[np.frombuffer(coded, np.uint8)]


def test_an_echo_and_a_ring_together_do_not_overflow(desk):
    desk.call()
    desk.do(RouteStream(1, 1))
    desk.feed(np.full(RATE, 30_000, np.int16))
    desk.say(np.full(RATE, 31_100, np.int16))
    desk.run(1)
    assert echoed(desk, 0).min() >= 0
    assert echoed(desk, 0).max() == 32_124  # the largest µ-law value


@pytest.mark.parametrize("together", [0, 512])
@pytest.mark.parametrize(("one", "other"), [(20, 20), (10, 20), (30, 60), (20, 30), (60, 20)])
def test_a_bridge_passes_every_sample_whatever_the_steps_and_phases(
    desk, one, other, together, monkeypatch
):
    monkeypatch.setattr(table_module, "PHASE_ROWS", together)
    rows = [desk.call(1, ptime_ms=one), desk.call(2, ptime_ms=other)]
    desk.do(RouteStream(1, 2), RouteStream(2, 1))
    sound = {1: speech(3, 1), 2: speech(3, 2)}
    for stream, pcm in sound.items():
        desk.say(pcm, stream=stream, timestamp=1 << 31)
    desk.run(3.6)
    for stream, row in zip((2, 1), rows, strict=True):
        sent = echoed(desk, row)
        lag = place_of(sound[stream], sent)
        assert np.array_equal(sent[lag : lag + 3 * RATE], sound[stream])
        assert lag <= 0.1 * RATE


def test_a_listener_that_was_on_hold_does_not_hear_the_past_afterwards(desk, monkeypatch):
    monkeypatch.setattr(table_module, "PHASE_ROWS", 0)
    desk.call(1)
    row = desk.call(2)  # in the other phase, so that sound waits in between
    desk.do(RouteStream(2, 1))
    before, after = speech(2, 1), speech(2, 2)
    sequence, timestamp = desk.say(before)
    desk.say(after, sequence=sequence, timestamp=timestamp, begin=desk.now + 2)
    desk.run(0.5)
    desk.do(describe(2, send=False))
    desk.run(1.5)
    desk.do(describe(2))
    resumed = len(echoed(desk, row))
    desk.run(2.2)
    sent = echoed(desk, row)[resumed:]
    lag = place_of(after[RATE:], sent) - RATE
    assert np.array_equal(sent[lag + RATE : lag + 2 * RATE], after[RATE:])
    assert lag <= 0.1 * RATE


def test_a_route_from_a_stream_that_has_closed_is_silence(desk):
    desk.call(1)
    row = desk.call(2)
    desk.do(RouteStream(2, 1))
    desk.say(speech(2), stream=1)
    desk.run(1)
    del desk.sinks[1]
    desk.do(CloseStream(1), OpenStream(3, HOST, "x"), describe(3))
    mark = len(echoed(desk, row))
    desk.say(speech(1), stream=3)
    desk.run(1)
    assert not echoed(desk, row)[mark:].any()


def test_three_listen_to_one_and_hear_the_same(desk):
    desk.call(1)
    rows = [desk.call(stream) for stream in (2, 3, 4)]
    for stream in (2, 3, 4):
        desk.do(RouteStream(stream, 1))
    pcm = speech(1)
    desk.say(pcm, stream=1)
    desk.run(1.3)
    for row in rows:
        sent = echoed(desk, row)
        lag = place_of(pcm, sent)
        assert np.array_equal(sent[lag : lag + RATE], pcm)


# ---------------------------------------------------------------- rows come and go


def test_thousands_of_calls_that_come_and_go_leave_nothing_behind(desk):
    rng = np.random.default_rng(1)
    engine, table = desk.engine, desk.engine._table
    open_streams: list[int] = []
    number = 0
    for _ in range(500):
        if len(open_streams) < 3 or rng.random() < 0.5:
            number += 1
            ring = engine.arena.allocate(800)
            ptime = int(rng.choice([10, 20, 30, 60]))
            desk.do(
                OpenStream(number, HOST, "x"),
                describe(number, ptime_ms=ptime),
                AddSink(number, ring),
                SetSource(number, ring),
                RouteStream(number, int(rng.choice([number, *open_streams]))),
                SendDtmf(number, "1"),
            )
            open_streams.append(number)
            engine.arena.release(ring)
            for n in range(3):
                desk.rtp(n, n * 480, b"\x10" * 480, stream=number)
            desk.rtp(3, 0, bytes([1, 0, 0, 80]), stream=number, payload_type=101)
        else:
            desk.do(CloseStream(open_streams.pop(int(rng.integers(len(open_streams))))))
        desk.run(0.01)
        desk.io.sent.clear()
    for stream in open_streams:
        desk.do(CloseStream(stream))
    desk.run(1)
    assert engine.streams == 0
    assert engine.next_due() is None
    assert len(engine.arena) == 0
    assert table.playout.ring.pooled == 0
    assert not table.playout.ring.count.any()
    left = {name: value for name, value in vars(table).items() if isinstance(value, dict) and value}
    assert not left
    assert not desk.engine._digits._hearing
    assert not table.routed.size
    assert sorted(table._free) == list(range(table.active.size))
    assert not desk.io.peers


@pytest.mark.parametrize(("room", "shares"), [(0, [10, 10]), (12, [12, 8]), (512, [20])])
def test_rows_fill_a_phase_before_the_next_however_many_came_and_went(
    desk, room, shares, monkeypatch
):
    monkeypatch.setattr(table_module, "PHASE_ROWS", room)
    rng = np.random.default_rng(2)
    open_streams: list[int] = []
    for number in range(600):
        if len(open_streams) > 20:
            desk.do(CloseStream(open_streams.pop(int(rng.integers(len(open_streams))))))
        desk.do(OpenStream(number, HOST, "x"))
        desk.do(describe(number, ptime_ms=int(rng.choice([20, 20, 30]))))
        open_streams.append(number)
        desk.run(0.01 * int(rng.integers(1, 4)))
        desk.io.sent.clear()
    for stream in open_streams:
        desk.do(CloseStream(stream))
    for number in range(1000, 1020):
        desk.do(OpenStream(number, HOST, "x"), describe(number))
    desk.run(0.1)
    desk.io.sent.clear()
    desk.run(0.02)
    times = [packet.at for packet in desk.io.sent]
    assert len(times) == 20
    assert sorted((times.count(at) for at in set(times)), reverse=True) == shares
