"""What an engine hears, packet by packet: every kind that comes, and none that harms."""

from __future__ import annotations

import numpy as np
import pytest
from engine_desk import HOST, PCMA, PCMU, RATE, assert_heard, describe, peer, place_of, speech, ulaw

from voip.codecs.g711 import ALAW_DECODE, ALAW_ENCODE, ULAW_DECODE
from voip.errors import TransportError
from voip.media.answers import MediaSilent, Refused, SourceLearned, StreamRefused
from voip.media.commands import CloseStream, OpenStream, PayloadFormat, WatchStream
from voip.media.control import MAX_DELAY_MS
from voip.rtp.rtcp import Bye, ReceiverReport, SenderReport, build_compound
from voip.types import Address

# ---------------------------------------------------------------- sizes


def test_packets_of_any_length_are_played(desk):
    sizes = (16, 80, 160, 176, 177, 240, 480, 960, 1488, 1524)
    sent = {size: speech(2)[: 2 * RATE // size * size] for size in sizes}
    for size in sizes:  # each in a stream of its own
        desk.call(size)
        desk.say(sent[size], size=size, stream=size)
    desk.run(2.6)
    for size in sizes:
        assert_heard(desk, sent[size], size, at_most_s=0.3)
        stats = desk.stats(size)
        assert stats.packets_received == sent[size].size // size
        assert (stats.packets_lost, stats.packets_late) == (0, 0)
        assert stats.buffer_overrun_count == 0


@pytest.mark.parametrize(
    ("ptime_ms", "size"), [(10, 80), (10, 160), (20, 160), (20, 80), (30, 240)]
)
def test_what_one_stream_lacks_changes_nothing_but_there(desk, ptime_ms, size):
    sent = {stream: speech(2, stream)[: 2 * RATE // size * size] for stream in range(1, 9)}
    for stream in sent:
        desk.call(stream, ptime_ms=ptime_ms)
    lost = {1: [40, 60, 61], 2: [50, 51, 52], 5: [50]}  # packets
    for stream, pcm in sent.items():
        for number in range(pcm.size // size):
            if number not in lost.get(stream, []):
                begin = number * size
                payload, at = ulaw(pcm[begin : begin + size]), desk.now + begin / RATE
                desk.rtp(100 + number, 16_000 + begin, payload, at=at, stream=stream)
    desk.run(2.6)
    for stream, pcm in sent.items():
        heard = desk.heard(stream)
        lag = place_of(pcm, heard)
        intact = np.ones(pcm.size, np.bool_)
        for number in lost.get(stream, []):  # and 4 ms in which concealment is led out of
            intact[number * size : (number + 1) * size + 32] = False
        assert np.array_equal(heard[lag : lag + pcm.size][intact], pcm[intact])
        assert desk.stats(stream).packets_lost == len(lost.get(stream, []))
        assert desk.stats(stream).concealed_ms >= 1000 * len(lost.get(stream, [])) * size / RATE


def test_packets_of_one_sample_cost_a_bounded_time_and_harm_nothing(desk):
    desk.call()
    for burst in range(25):  # 30 samples of the 160 that there should be
        for n in range(30):
            number = burst * 30 + n
            desk.rtp(number, burst * 160 + n, b"\x10", at=desk.now + burst * 0.02)
    desk.run(0.6)
    held = 80  # samples for which concealment is as loud as what it repeats
    assert 19 * 25 <= np.count_nonzero(desk.heard() == ULAW_DECODE[0x10]) <= (30 + held) * 25
    sent = speech(1, 2)
    desk.say(sent, sequence=750, timestamp=31 * 160)
    desk.run(1.5)
    assert_heard(desk, sent, at_most_s=0.7)


def test_packets_of_no_bytes_count_and_are_not_heard(desk):
    desk.call()
    for n in range(5):  # what keeps a NAT open
        desk.rtp(n, 0, b"", at=desk.now + n * 0.02)
    sent = speech(1)
    desk.say(sent, sequence=5, timestamp=70_000, begin=desk.now + 0.1)
    desk.run(1.5)
    assert_heard(desk, sent, at_most_s=0.2)
    assert desk.stats().packets_received == 55
    assert desk.stats().late_packet_count == 0


def test_header_extension_sources_and_padding_are_looked_past(desk):
    desk.call()
    sent = speech(1)
    for n in range(50):
        payload = ulaw(sent[n * 160 : (n + 1) * 160])
        head = bytes([0x80 | 0x10 * (n % 2) | 0x20 * (n % 3 == 0) | n % 4, 0])
        head += (n + 7).to_bytes(2, "big") + (n * 160).to_bytes(4, "big") + bytes(4 + 4 * (n % 4))
        head += bytes.fromhex("bede0001 00000000") if n % 2 else b""
        tail = b"\0\0\x03" if n % 3 == 0 else b""
        desk.put(head + payload + tail, at=desk.now + n * 0.02)
    desk.run(1.3)
    assert_heard(desk, sent)


# ---------------------------------------------------------------- batches


def test_many_packets_of_one_row_in_one_batch_are_taken_in_order(desk):
    desk.call()
    sent = speech(2)
    desk.say(sent)
    for _ in range(11):
        desk.stall(0.18)
        desk.run(0.02)
    desk.run(0.2)
    assert_heard(desk, sent)
    assert (desk.stats().packets_reordered, desk.stats().packets_late) == (0, 0)


def flooded(desk, rows, packets):
    for stream in range(rows):
        desk.do(OpenStream(stream, HOST, "x", jitter_min_ms=400, jitter_max_ms=400))
        desk.do(describe(stream))
        for n in range(packets):
            desk.rtp(n, n * 160, b"\x55" * 160, at=desk.now + 1.0, stream=stream)
    desk.stall(1.0)
    desk.tick()


def test_more_packets_than_a_batch_holds_are_heard_by_the_same_tick(desk):
    """A tick that was late finds what came in time for it: it is not late for that."""
    flooded(desk, 200, 25)
    assert not desk.io.queue
    assert sum(desk.stats(stream).packets_received for stream in range(200)) == 5000


def test_still_more_packets_wait_for_the_next_tick_and_are_not_lost(desk):
    flooded(desk, 300, 30)
    assert 0 < len(desk.io.queue) < 9000 - 6000
    desk.run(0.1)
    assert not desk.io.queue
    assert sum(desk.stats(stream).packets_received for stream in range(300)) == 9000


def test_one_batch_may_hold_many_rows_with_many_packets_each(desk):
    sent = {stream: speech(0.4, stream + 1) for stream in range(8)}
    for stream, pcm in sent.items():
        desk.call(stream)
        desk.say(pcm, stream=stream, timestamp=stream * 7777)
    for _ in range(6):
        desk.stall(0.11)
        desk.run(0.01)
    for stream, pcm in sent.items():
        assert_heard(desk, pcm, stream)


def test_a_row_that_is_used_again_in_the_same_tick_hears_nothing_of_the_last_call(desk):
    row = desk.call(1)
    desk.say(speech(1))
    desk.run(0.5)
    desk.sinks.clear()
    desk.do(CloseStream(1), OpenStream(2, HOST, "x"), describe(2))
    assert desk.row(2) == row
    desk.sinks[2], desk.pcm[2] = desk.engine.arena.allocate(RATE), []
    desk.run(0.5)
    stats = desk.stats(2)
    assert (stats.packets_received, stats.played_ms, stats.concealed_ms) == (0, 0, 0)
    assert (stats.packets_lost, stats.current_frames, stats.jitter_ms) == (0, 0, None)
    assert stats.level_received_dbfs is None


# ---------------------------------------------------------------- session descriptions


def test_both_encodings_are_understood_at_once_and_at_a_change(desk):
    desk.call(receive_formats=(PCMU, PCMA))
    sent = speech(2)
    alaw = ALAW_DECODE[ALAW_ENCODE[sent.view(np.uint16)]]
    expected = sent.copy()
    for n in range(100):
        piece = slice(n * 160, (n + 1) * 160)
        if n % 3 == 0:
            expected[piece] = alaw[piece]
            payload, kind = ALAW_ENCODE[sent[piece].view(np.uint16)].tobytes(), 8
        else:
            payload, kind = ulaw(sent[piece]), 0
        desk.rtp(n, n * 160, payload, payload_type=kind, at=desk.now + n * 0.02)
    for _ in range(8):
        desk.do(describe(1, receive_formats=(PCMU, PCMA)))  # refreshed: nothing changes
        desk.run(0.25)
    assert desk.stats().concealed_ms == 0
    desk.run(0.2)
    assert_heard(desk, expected)


def test_what_is_not_negotiated_any_more_is_not_played(desk):
    desk.call(receive_formats=(PCMU,))
    desk.do(describe(1, receive_formats=(PCMA,)))
    desk.say(speech(0.5))
    desk.run(0.7)
    assert not desk.heard().any()
    assert desk.stats().packets_discarded == 25


def test_a_row_that_is_not_to_hear_counts_packets_and_plays_none(desk):
    desk.call(receive=False)
    sequence, timestamp = desk.say(speech(0.5))
    desk.run(0.5)
    assert not desk.heard().any()
    assert desk.stats().packets_received == 25
    desk.do(describe(1))
    sent = speech(1, 2)
    desk.say(sent, sequence=sequence, timestamp=timestamp)
    desk.run(1.2)
    assert_heard(desk, sent, at_most_s=0.6)
    desk.do(describe(1, receive=False))
    desk.pcm[1].clear()
    desk.run(0.5)
    assert not desk.heard().any()


def test_a_description_that_cannot_be_applied_changes_nothing(desk):
    row = desk.call()
    for wrong in (
        {"rtp": Address("2001:db8::1", 4000), "rtcp": None},
        {"ptime_ms": 15},
        {"ptime_ms": 130},
        {"receive_formats": (PCMU, type(PCMU)(128, "pcmu"))},
        {"send_format": type(PCMU)(15, "g728")},
        {"send_format": type(PCMU)(128, "pcma"), "rtp": Address("192.0.2.9", 4000)},
        {"receive_dtmf": (PayloadFormat(-1, "telephone-event"),)},
    ):
        assert desk.refused(describe(1, **wrong))
    assert desk.io.peers[row][0] == peer(1)
    assert desk.stats().remote == peer(1)
    other = Address("192.0.2.77", 7)
    for n in range(200):  # and nothing of it comes back later
        desk.rtp(n, n * 160, b"\x20" * 160, at=desk.now + 3 + n * 0.02, source=other)
    desk.run(8)
    assert [event.address for event in desk.of(SourceLearned)] == [other]
    assert not desk.of(Refused)[7:]


@pytest.mark.parametrize(
    ("low", "high"), [(-1, 100), (100, 50), (0, MAX_DELAY_MS + 1), (float("nan"), 100)]
)
def test_a_jitter_buffer_that_cannot_be_is_refused(desk, low, high):
    said = desk.refused(OpenStream(1, HOST, "x", jitter_min_ms=low, jitter_max_ms=high))
    assert "jitter buffer" in said
    assert desk.engine.streams == 0


@pytest.mark.parametrize("size", [80, 160, 480])
def test_the_smallest_and_the_largest_buffer_play_what_comes_in_time(desk, size):
    sent = speech(3)[: 3 * RATE // size * size]
    delays_ms = (0.0, 20.0, 200.0, float(MAX_DELAY_MS))
    for stream, delay_ms in enumerate(delays_ms):
        settings = {"jitter_min_ms": delay_ms, "jitter_max_ms": float(MAX_DELAY_MS)}
        desk.call(stream, settings=settings)
        desk.say(sent, size=size, stream=stream)
    desk.run(sent.size / RATE)
    stats = [desk.stats(stream) for stream in range(len(delays_ms))]
    desk.run(1)
    for stream, delay_ms in enumerate(delays_ms):
        assert_heard(desk, sent, stream, at_most_s=delay_ms / 1000 + 0.04 + size / RATE)
        assert stats[stream].packets_late == stats[stream].buffer_overrun_count == 0, delay_ms
        assert stats[stream].concealed_ms == 0, delay_ms


# ---------------------------------------------------------------- sources


def test_the_source_may_change_in_the_middle_and_is_heard_on(desk):
    desk.call()
    before, after = speech(1, 1), speech(1, 2)
    desk.say(before)
    desk.say(after, sequence=60_000, timestamp=5, ssrc=77, begin=desk.now + 1.2)
    desk.run(2.5)
    heard = desk.heard()
    for sent, missing in ((before, 0), (after, 160)):  # its first packet could be a stray
        lag = place_of(sent, heard)
        piece = sent[missing:]
        assert np.array_equal(heard[lag + missing : lag + sent.size], piece)
    assert desk.stats().packets_lost == 0
    assert desk.stats().packets_received == 99


def test_our_own_ssrc_in_packets_of_the_peer_harms_nothing(desk):
    desk.call()
    desk.run(0.1)
    ours = desk.io.sent[-1].ssrc
    sent = speech(1)
    desk.say(sent, ssrc=ours)
    desk.run(7)
    assert_heard(desk, sent, at_most_s=0.2)
    desk.put(build_compound([ReceiverReport(ours, ()), Bye((ours,))]), rtcp=True)
    desk.run(0.1)
    assert len({packet.ssrc for packet in desk.io.sent}) == 2
    assert desk.io.sent[-1].ssrc != ours


def test_timestamps_that_jump_are_followed_within_half_a_second(desk):
    jumps_s = (-3600, -2.5, -1, 1, 2.5, 3600, 200_000)
    sent = speech(3, 2)
    for stream, jump_s in enumerate(jumps_s):
        desk.call(stream)
        sequence, timestamp = desk.say(speech(2, 1), stream=stream)
        jumped = timestamp + int(jump_s * RATE)
        desk.say(sent, sequence=sequence, timestamp=jumped, begin=desk.now + 2, stream=stream)
    desk.run(6)
    for stream, jump_s in enumerate(jumps_s):
        heard = desk.heard(stream)[2 * RATE :]
        tail = sent[RATE // 2 :]
        lag = place_of(tail, heard)
        assert np.array_equal(heard[lag : lag + tail.size], tail), jump_s
        assert lag <= 0.8 * RATE, jump_s


@pytest.mark.parametrize("pause_s", [0.3, 1.0, 5.0])
def test_a_sender_whose_clock_stands_still_in_pauses_is_heard_again(desk, pause_s):
    sent = [speech(1, seed) for seed in range(4)]
    for marked in (False, True):  # each is a stream
        desk.call(marked)
        sequence, timestamp, begin = 100, 0, desk.now
        for pcm in sent:
            first = ulaw(pcm[:160])
            desk.rtp(sequence, timestamp, first, marker=marked, at=begin, stream=marked)
            sequence, timestamp = desk.say(
                pcm[160:],
                sequence=sequence + 1,
                timestamp=timestamp + 160,
                begin=begin + 0.02,
                stream=marked,
            )
            begin += 1 + pause_s
    desk.run(4 * (1 + pause_s) + 1)
    for marked in (False, True):
        heard = desk.heard(marked)
        for pcm in sent:
            missing = 0 if marked or pause_s > 2 else 10 * 160
            lag = place_of(pcm, heard)
            assert np.array_equal(heard[lag + missing : lag + pcm.size], pcm[missing:]), marked
    assert desk.stats(True).packets_late == 0


def test_a_sender_that_marks_every_packet_is_heard_as_well(desk):
    desk.call()
    sent = speech(2)
    desk.say(sent, marker=True)
    desk.run(2.5)
    assert_heard(desk, sent)


def test_a_first_packet_that_took_very_long_delays_the_rest_for_a_moment_only(desk):
    late_s = (0.1, 0.35, 1.5)
    sent = speech(4)
    begin = desk.now
    for stream, late in enumerate(late_s):
        desk.call(stream)
        for n in range(200):
            at = begin + max(n * 0.02, late)  # all up to then come in a burst
            desk.rtp(n, n * 160, ulaw(sent[n * 160 : (n + 1) * 160]), at=at, stream=stream)
    desk.run(5)
    for stream, late in enumerate(late_s):
        heard = desk.heard(stream)
        tail = sent[3 * RATE :]
        lag = place_of(tail, heard) - 3 * RATE
        assert np.array_equal(heard[lag + 3 * RATE : lag + 4 * RATE], tail), late
        assert lag <= 0.12 * RATE + 4, late
        assert desk.stats(stream).current_delay_ms <= 120, late


def test_a_stream_that_cannot_be_opened_as_the_table_grows_disturbs_nobody(desk, monkeypatch):
    desk.call(0)
    while desk.engine.streams < desk.engine._table.active.size:
        desk.do(OpenStream(desk.engine.streams, HOST, "x"))

    def refuse(row: int, host: str) -> None:
        raise TransportError("no ports")

    monkeypatch.setattr(desk.io, "open", refuse)
    desk.refused(OpenStream(1000, HOST, "x"))
    desk.run(6)
    assert [event.stream for event in desk.of(MediaSilent)] == [0]


def test_what_cannot_be_done_of_an_agreement_is_told_to_the_call(desk):
    desk.call()
    evs = PayloadFormat(111, "evs", 16000)
    assert "no codec for evs/16000" in desk.refused(describe(send_format=evs))
    desk.refused(describe(rtp=Address("2001:db8::1", 9)))
    codec, address = desk.of(StreamRefused)
    assert "evs" in codec.message
    assert "2001:db8::1" in address.message
    desk.refused(WatchStream(1, 0.0))
    assert len(desk.of(StreamRefused)) == 2  # nobody's agreement


# ---------------------------------------------------------------- strangers


def test_a_learned_peer_is_heard_from_the_same_batch_on(desk):
    desk.call()
    desk.run(0.4)
    other = Address("203.0.113.5", 999)
    for n in range(12):  # all at once
        desk.rtp(n, n * 160, b"\x20" * 160, source=other)
    desk.run(0.02)
    stats = desk.stats()
    assert stats.remote == other
    assert stats.packets_received == 9  # from the fourth on
    assert stats.packets_from_strangers == 4


def test_reports_from_another_port_of_the_peer_are_believed_and_from_elsewhere_not(desk):
    desk.call()
    desk.say(speech(1))
    desk.run(0.5)
    report = SenderReport(0xABCD, 0x1234567800000000, 0, 1, 160)
    moved = Address(peer(1).host, 33333)
    desk.put(build_compound([report]), rtcp=True, source=moved)
    desk.run(0.02)
    assert desk.io.peers[desk.row()][1] == moved
    desk.put(build_compound([report]), rtcp=True, source=Address("203.0.113.9", 1))
    desk.run(0.02)
    assert desk.io.peers[desk.row()][1] == moved
