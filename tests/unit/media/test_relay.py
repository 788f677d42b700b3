"""Payloads that go from one stream to another as they came, and when they do not."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from engine_desk import (
    DTMF,
    HOST,
    PCMA,
    PCMU,
    RATE,
    WAYS,
    Desk,
    Sent,
    describe,
    ulaw,
    ulaw_round_trip,
)

from voip.codecs.g711 import ULAW_DECODE
from voip.dsp.dtmf import dtmf
from voip.dsp.pcm import to_int16
from voip.media.answers import DtmfReceived
from voip.media.commands import (
    AddPairSink,
    AddSink,
    CloseStream,
    MuteStream,
    OpenStream,
    PayloadFormat,
    RemoveSink,
    RouteStream,
    SendDtmf,
    SetBeep,
)
from voip.media.relay import POLL_S

G722 = PayloadFormat(9, "g722", 8000)


@pytest.fixture(params=WAYS)
def desk(request: pytest.FixtureRequest) -> Desk:
    return Desk(native=request.param)


def talk(seconds: float, seed: int = 1) -> np.ndarray:
    """Loud noise without a pause: no packet of it is like one of silence."""
    noise = np.random.default_rng(seed).normal(0, 3000, int(seconds * RATE))
    return ulaw_round_trip(noise.astype(np.int16))


def join(desk: Desk, one: dict | None = None, two: dict | None = None) -> tuple[int, int]:
    """Streams 1 and 2, each sending what the other hears; return their rows."""
    for stream, settings in ((1, one), (2, two)):
        desk.do(OpenStream(stream, HOST, f"{stream}@{HOST}"))
        desk.do(describe(stream, **(settings or {})))
    desk.do(RouteStream(1, 2, relay=True), RouteStream(2, 1, relay=True))
    return desk.row(1), desk.row(2)


def sent_on(desk: Desk, row: int) -> list[Sent]:
    return [packet for packet in desk.io.sent if packet.row == row]


def relayed(desk: Desk, row: int) -> list[Sent]:
    """What is no silence of our own."""
    return [packet for packet in sent_on(desk, row) if set(packet.payload) != {0xFF}]


def tell_apart(pcm: np.ndarray, size: int = 160) -> list[bytes]:
    return [ulaw(pcm[at : at + size]) for at in range(0, pcm.size - size + 1, size)]


def assert_continuous(packets: list[Sent]) -> None:
    """Numbers one by one, timestamps that never run back, one source."""
    assert len(packets) > 1
    for before, after in itertools.pairwise(packets):
        assert (after.sequence - before.sequence) & 0xFFFF == 1
        ahead = (after.timestamp - before.timestamp) & 0xFFFFFFFF
        assert ahead < 1 << 31, (before, after)
        if before.payload_type == after.payload_type:
            assert ahead >= len(before.payload)
    assert len({packet.ssrc for packet in packets}) == 1


def test_payloads_go_on_as_they_are_within_a_few_milliseconds(desk):
    _, two = join(desk)
    sound = talk(2)
    desk.run(0.5)
    begin = desk.now
    desk.say(sound, begin=begin + 0.0033)
    desk.run(2.5)
    packets = relayed(desk, two)
    assert [packet.payload for packet in packets] == tell_apart(sound)
    late = [packet.at - (begin + 0.0033 + 0.02 * n) for n, packet in enumerate(packets)]
    assert len(late) == 100
    assert max(late) <= POLL_S + 1e-6
    assert_continuous(sent_on(desk, two))
    assert packets[0].marker
    assert not any(packet.marker for packet in packets[1:])


@pytest.mark.parametrize("needed", [False, True])
def test_what_is_relayed_is_decoded_for_tones_only_where_that_is_asked_for(desk, needed):
    _, two = join(desk, {"hear_tones": True, "decode_for_tones": needed})
    desk.run(0.5)
    tones = ulaw_round_trip(to_int16(np.tile(dtmf("1159", gap_ms=60), 2)))
    desk.say(tones)
    desk.run(2.5)
    assert [p.payload for p in relayed(desk, two)] == [
        payload for payload in tell_apart(tones) if set(payload) != {0xFF}
    ]
    heard = [(event.digit, event.relayed, event.in_band) for event in desk.of(DtmfReceived)]
    assert heard == [(digit, True, True) for digit in "11591159"] * needed
    assert (desk.stats(1).played_ms > 1000) == needed


def test_nothing_is_decoded_of_what_is_relayed(desk):
    join(desk)
    desk.say(talk(2))
    desk.run(2)
    stats = desk.stats(1)
    assert stats.packets_received == 100
    assert stats.played_ms <= 20
    assert desk.stats(2).packets_sent >= 100


def test_numbers_keep_the_gaps_of_what_was_lost_and_the_order_of_what_came(desk):
    _, two = join(desk)
    pieces = tell_apart(talk(1))
    order = [0, 1, 2, 5, 4, 6, 6, 7, 9, 8, 20, 21, 3]
    for place, n in enumerate(order):
        desk.rtp(100 + n, 16_000 + 160 * n, pieces[n], at=desk.now + 0.02 * place)
    desk.run(0.5)
    packets = relayed(desk, two)
    base = packets[0].sequence
    assert [(packet.sequence - base) & 0xFFFF for packet in packets] == list(dict.fromkeys(order))
    for packet in packets:
        n = (packet.sequence - base) & 0xFFFF
        assert packet.payload == pieces[n]
        assert (packet.timestamp - packets[0].timestamp) & 0xFFFFFFFF == 160 * n
    assert desk.stats(2).packets_sent == len(sent_on(desk, two))


def test_several_packets_of_one_tick_all_go_on(desk):
    _, two = join(desk)
    pieces = tell_apart(talk(0.5))
    for n in range(10):
        desk.rtp(n, 160 * n, pieces[n])
    desk.run(0.01)
    assert [packet.payload for packet in relayed(desk, two)] == pieces[:10]


def test_payload_types_are_those_of_the_other_leg(desk):
    elaw = PayloadFormat(97, "pcmu")
    events = PayloadFormat(110, "telephone-event")
    _, two = join(desk, two={"send_format": elaw, "send_dtmf": events})
    desk.say(talk(0.2))
    desk.run(0.3)
    begin = bytes((5, 0x0A, 0, 160)), bytes((5, 0x8A, 1, 64))
    for n, payload in enumerate((begin[0], begin[0], begin[1], begin[1], begin[1])):
        desk.rtp(110 + n, 17_600, payload, payload_type=101, marker=not n, at=desk.now + 0.02 * n)
    desk.run(0.3)
    packets = relayed(desk, two)
    assert [packet.payload_type for packet in packets] == [97] * 10 + [110] * 5
    digits = packets[10:]
    assert [packet.payload for packet in digits] == [begin[0]] * 2 + [begin[1]] * 3
    assert [packet.marker for packet in digits] == [True] + [False] * 4
    assert {(one.timestamp - packets[0].timestamp) & 0xFFFFFFFF for one in digits} == {1600}
    assert desk.of(DtmfReceived) == [DtmfReceived(1, "5", 40.0, relayed=True)]


def test_a_digit_is_told_as_relayed_only_if_it_was(desk):
    """The end of the one before, which comes three times, is no sign of the next one."""
    _, two = join(desk)
    desk.say(talk(0.5))
    desk.run(0.5)
    for n in range(3):
        desk.rtp(125 + n, 20_000, bytes((5, 0x8A, 1, 64)), payload_type=101)
    desk.run(0.1)
    desk.do(MuteStream(2, True))
    for n in range(3):
        desk.rtp(128 + n, 21_000, bytes((6, 0x8A, 1, 64)), payload_type=101)
    desk.run(0.1)
    told = [(event.digit, event.relayed) for event in desk.of(DtmfReceived)]
    assert told == [("5", True), ("6", False)]
    assert len([packet for packet in sent_on(desk, two) if packet.payload_type == 101]) == 3


def test_digits_that_the_other_leg_has_no_type_for_are_told_and_not_relayed(desk):
    _, two = join(desk, two={"send_dtmf": None})
    desk.say(talk(0.2))
    desk.run(0.3)
    for n in range(3):
        desk.rtp(110 + n, 17_600, bytes((5, 0x8A, 1, 64)), payload_type=101, at=desk.now)
    desk.run(0.3)
    assert {packet.payload_type for packet in sent_on(desk, two)} == {0}
    assert desk.of(DtmfReceived) == [DtmfReceived(1, "5", 40.0)]


@pytest.mark.parametrize(
    "two",
    [
        {"send_format": PCMA},
        {"send_format": G722, "receive_formats": (G722,)},
        {"ptime_ms": 30},
    ],
    ids=["a-law", "g722", "30 ms"],
)
def test_other_codecs_and_packet_times_are_coded_anew(desk, two):
    _, row = join(desk, two=two)
    desk.say(talk(2))
    desk.run(2.2)
    assert desk.stats(1).played_ms > 1500
    assert_continuous(sent_on(desk, row))
    assert not set(tell_apart(talk(2))) & {packet.payload for packet in sent_on(desk, row)}


def test_wideband_goes_on_undecoded_too(desk):
    sides = {"send_format": G722, "receive_formats": (G722, PCMU)}
    _, two = join(desk, one=sides, two=sides)
    payloads = [bytes([n + 1]) * 160 for n in range(50)]
    for n, payload in enumerate(payloads):
        desk.rtp(n, 160 * n, payload, payload_type=9, at=desk.now + 0.02 * n)
    desk.run(1.2)
    packets = [packet for packet in sent_on(desk, two) if packet.payload in payloads]
    assert [packet.payload for packet in packets] == payloads
    assert_continuous(sent_on(desk, two))
    # now the peer speaks µ-law, as it may
    desk.say(talk(1), sequence=50, timestamp=8_000)
    desk.run(1.2)
    assert_continuous(sent_on(desk, two))
    assert {packet.payload_type for packet in sent_on(desk, two)} == {9}
    assert desk.stats(1).played_ms > 500


def test_a_tap_hears_what_is_relayed_and_changes_nothing_of_it(desk):
    _, two = join(desk)
    sound = talk(3)
    desk.say(sound)
    desk.run(1)
    ring = desk.engine.arena.allocate(4 * RATE)
    desk.do(AddSink(1, ring))
    desk.run(1)
    heard = desk.engine.arena.ring(ring).read(4 * RATE)
    desk.do(RemoveSink(1, ring))
    desk.run(1.2)
    assert np.count_nonzero(heard) > 3000
    assert [packet.payload for packet in relayed(desk, two)] == tell_apart(sound)
    assert desk.stats(1).played_ms < 1100


def test_what_is_sent_can_be_recorded_beside_relaying(desk):
    _, two = join(desk)
    sound = talk(2)
    ring = desk.engine.arena.allocate(4 * RATE)
    desk.do(AddSink(2, ring, sent=True))
    desk.say(sound)
    desk.run(2.2)
    heard = desk.engine.arena.ring(ring).read(4 * RATE)
    assert np.count_nonzero(heard) > 6000
    assert [packet.payload for packet in relayed(desk, two)] == tell_apart(sound)


def test_both_sides_can_be_recorded_beside_relaying(desk):
    _, two = join(desk)
    sound = talk(2)
    ring = desk.engine.arena.allocate(8 * RATE)
    desk.do(AddPairSink(2, ring))
    desk.say(sound)
    desk.run(2.2)
    pairs = desk.engine.arena.ring(ring).read(8 * RATE).reshape(-1, 2)
    assert len(pairs) / RATE == pytest.approx(2.2, abs=0.03)
    heard, sent = np.count_nonzero(pairs, axis=0)
    assert heard == 0
    assert sent > 1.8 * RATE
    assert [packet.payload for packet in relayed(desk, two)] == tell_apart(sound)


@pytest.mark.parametrize("stream", [1, 2])
def test_who_is_recorded_with_a_beep_is_not_relayed_without_it(desk, stream):
    """The beep is for whom the recorded one speaks with, too."""
    _, two = join(desk)
    sound = talk(3)
    desk.say(sound)
    desk.run(1)
    desk.do(SetBeep(stream, 1400.0, 0.9, 1.0))
    before = len(sent_on(desk, two))
    desk.run(1)
    beeping = sent_on(desk, two)[before + 8 :]  # what was heard before is played first
    assert len(set(tell_apart(sound)) & {packet.payload for packet in beeping}) < 10
    desk.do(SetBeep(stream, None))
    desk.run(0.1)
    before = len(sent_on(desk, two))
    desk.run(0.5)
    assert {packet.payload for packet in sent_on(desk, two)[before:]} <= set(tell_apart(sound))
    assert_continuous(sent_on(desk, two))


def test_what_is_played_makes_pcm_of_it_and_what_follows_is_relayed_again(desk):
    _, two = join(desk)
    sound = talk(6)
    pieces = tell_apart(sound)
    desk.say(sound)
    desk.run(2)
    before = len(sent_on(desk, two))
    desk.feed(talk(1, seed=2), stream=2)
    desk.run(1)
    mixed = sent_on(desk, two)[before:]
    assert len(mixed) >= 49
    assert len(set(pieces) & {packet.payload for packet in mixed}) < 10
    desk.run(1.1)  # looked at once a second
    after = len(sent_on(desk, two))
    desk.run(1.5)
    assert {packet.payload for packet in sent_on(desk, two)[after:]} <= set(pieces)
    assert_continuous(sent_on(desk, two))


def test_a_row_that_is_muted_sends_silence_and_one_on_hold_nothing(desk):
    _, two = join(desk)
    desk.say(talk(4))
    desk.run(0.5)
    desk.do(MuteStream(2, True))
    before = len(sent_on(desk, two))
    desk.run(0.5)
    assert {frozenset(packet.payload) for packet in sent_on(desk, two)[before + 1 :]} == {
        frozenset({0xFF})
    }
    desk.do(MuteStream(2, False))
    desk.run(0.5)
    assert_continuous(sent_on(desk, two))
    desk.do(describe(2, send=False))
    held = len(sent_on(desk, two))
    desk.run(0.5)
    assert len(sent_on(desk, two)) == held
    desk.do(describe(2))
    desk.run(0.5)
    assert len(sent_on(desk, two)) > held
    packets = sent_on(desk, two)
    assert packets[held].sequence == (packets[held - 1].sequence + 1) & 0xFFFF
    assert packets[held].timestamp > packets[held - 1].timestamp + 3000


def test_of_who_is_not_to_be_heard_nothing_is_relayed(desk):
    _, two = join(desk)
    desk.say(talk(2))
    desk.run(0.5)
    desk.do(describe(1, receive=False))
    before = len(relayed(desk, two))
    desk.run(0.5)
    assert len(relayed(desk, two)) == before
    assert_continuous(sent_on(desk, two))


def test_digits_of_our_own_are_sent_between_and_no_number_twice(desk):
    _, two = join(desk)
    desk.say(talk(4))
    desk.run(0.5)
    desk.do(SendDtmf(2, "12"))
    desk.run(3)
    packets = sent_on(desk, two)
    assert {packet.payload_type for packet in packets} == {0, DTMF.payload_type}
    numbers = [packet.sequence for packet in packets]
    assert len(numbers) == len(set(numbers))
    sound = [packet for packet in packets if packet.payload_type == 0]
    for before, after in itertools.pairwise(sound):
        assert (after.timestamp - before.timestamp) & 0xFFFFFFFF < 1 << 31


def test_who_hears_nothing_is_sent_silence_until_something_comes(desk):
    _, two = join(desk)
    desk.say(talk(1))
    desk.run(1)
    desk.run(4)
    packets = sent_on(desk, two)
    assert len([packet for packet in packets if packet.at > desk.now - 2]) >= 99
    sound = talk(1, seed=3)
    desk.say(sound, sequence=150, timestamp=16_000 + 5 * RATE)
    desk.run(1.2)
    assert relayed(desk, two)[-1].payload in tell_apart(sound)
    assert_continuous(sent_on(desk, two))


def test_a_source_that_restarts_goes_on_in_the_same_stream(desk):
    _, two = join(desk)
    desk.say(talk(1))
    desk.run(1)
    desk.say(talk(1, seed=2), sequence=40_000, timestamp=77, ssrc=0x1234)
    desk.run(1.1)
    packets = sent_on(desk, two)
    assert_continuous(packets)
    assert len(relayed(desk, two)) == 99  # the first of the new ones was on probation


def test_another_ssrc_of_our_own_begins_anew(desk):
    """As after a collision (RFC 3550, 8.2)."""
    _, two = join(desk)
    desk.say(talk(2))
    desk.run(1)
    sender = desk.engine._table.transmitter
    sender.become(two, ssrc=0x5555, sequence=77)
    desk.run(1.1)
    after = [packet for packet in sent_on(desk, two) if packet.ssrc == 0x5555]
    assert after[0].sequence == 77
    assert after[0].marker
    assert_continuous(after)
    assert desk.stats(2).packets_sent == len(sent_on(desk, two))


def test_one_source_goes_to_many(desk):
    join(desk)
    desk.do(OpenStream(3, HOST, "3"), describe(3), RouteStream(3, 1, relay=True))
    sound = talk(1)
    desk.say(sound)
    desk.run(1.1)
    for stream in (2, 3):
        packets = relayed(desk, desk.row(stream))
        assert [packet.payload for packet in packets] == tell_apart(sound)


def test_a_leg_that_ends_leaves_the_other_with_silence(desk):
    _, two = join(desk)
    desk.say(talk(1))
    desk.run(0.5)
    desk.do(CloseStream(1))
    before = len(sent_on(desk, two))
    desk.run(1)
    after = sent_on(desk, two)[before:]
    assert len(after) >= 49
    assert {frozenset(packet.payload) for packet in after} == {frozenset({0xFF})}
    desk.do(OpenStream(4, HOST, "4"), describe(4))  # takes its row
    desk.say(talk(0.5), stream=4)
    desk.run(0.6)
    assert_continuous(sent_on(desk, two))
    assert desk.stats(4).played_ms > 400


def test_a_stream_that_takes_a_row_over_in_the_same_tick_is_another(desk):
    one, two = join(desk)
    desk.say(talk(1))
    desk.run(1)
    before = sent_on(desk, two)[-1]
    desk.do(CloseStream(2), OpenStream(5, HOST, "5"), describe(5), RouteStream(5, 1, relay=True))
    assert desk.row(5) == two
    desk.say(talk(1, seed=4), sequence=150, timestamp=24_000)
    desk.run(1.1)
    after = [packet for packet in sent_on(desk, two) if packet.ssrc != before.ssrc]
    assert_continuous(after)
    assert {packet.payload for packet in after} & set(tell_apart(talk(1, seed=4)))
    assert one != two


def test_rows_that_relay_nothing_are_looked_at_no_more_often(desk):
    desk.call()
    due = desk.engine.next_due()
    desk.run(0.1)
    assert due is not None
    assert desk.engine.next_due() - desk.now > POLL_S


def test_comfort_noise_goes_on_by_the_other_legs_number_and_nothing_fills_the_pause(desk):
    noise = {"send_noise": PayloadFormat(97, "cn")}
    _, two = join(desk, {}, noise)
    sequence, stamp = desk.say(talk(1))
    desk.run(1)
    desk.io.sent.clear()
    desk.rtp(sequence, stamp, b"\x2d\x60", payload_type=13)
    desk.run(5)
    (told,) = sent_on(desk, two)
    assert (told.payload_type, told.payload, told.marker) == (97, b"\x2d\x60", False)
    desk.rtp(sequence + 1, stamp + 40_000, tell_apart(talk(1))[0], marker=True)
    desk.run(0.1)
    word = sent_on(desk, two)[1]
    assert (word.payload_type, word.marker) == (0, True)
    assert (word.sequence - told.sequence) & 0xFFFF == 1
    assert (word.timestamp - told.timestamp) & 0xFFFFFFFF == 40_000
    assert desk.stats(1).noise_packets_received == desk.stats(2).noise_packets_sent == 1


def test_comfort_noise_for_a_leg_that_takes_none_becomes_sound(desk):
    _, two = join(desk)
    sequence, stamp = desk.say(talk(1))
    desk.run(1)
    desk.io.sent.clear()
    desk.rtp(sequence, stamp, b"\x28", payload_type=13)
    desk.run(4)
    packets = sent_on(desk, two)
    assert {packet.payload_type for packet in packets} == {0}
    assert 195 <= len(packets) <= 201
    octets = np.frombuffer(b"".join(packet.payload for packet in packets[25:]), np.uint8)
    sound = ULAW_DECODE[octets].astype(float) / 32768
    assert 10 * np.log10(np.mean(sound**2)) == pytest.approx(-40, abs=0.6)
    assert_continuous(packets)
