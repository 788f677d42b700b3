"""SRTP in the engine: what goes out and comes in, judged by contexts that are not the engine's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from engine_desk import HOST, Desk, assert_heard, describe, peer, speech, ulaw
from hypotheses import examples
from hypothesis import given
from hypothesis import strategies as st

from voip.media import protection, srtp_rows
from voip.media.answers import DtmfReceived, SourceLearned
from voip.media.commands import AddSink, CloseStream, OpenStream, ProtectStream, SendDtmf
from voip.rtp.packet import pack_header
from voip.rtp.rtcp import (
    Bye,
    ReceiverReport,
    ReportBlock,
    SenderReport,
    build_compound,
    parse_compound,
    source_description,
)
from voip.rtp.srtp.keys import ROOM_BYTES, SrtpKeys
from voip.rtp.srtp.stream import Inbound, Outbound
from voip.rtp.srtp.suites import SUITES
from voip.types import Address, SeededRandom

CM = "AES_CM_128_HMAC_SHA1_80"
natively = pytest.mark.skipif(not protection.available(), reason="there is no loop in C")
by_us_natively = pytest.mark.skipif(not srtp_rows.has_counter_mode(), reason="no OpenSSL is found")
WAYS = [  # whether there is a loop in C, and whether libsrtp does what it can
    pytest.param((False, None), id="Python", marks=pytest.mark.long),
    pytest.param((False, False), id="Python by us"),
    pytest.param((True, None), id="C", marks=[natively, by_us_natively]),
    pytest.param((True, True), id="C by libsrtp", marks=natively),
]


def desk_of(native: bool, library: bool | None) -> Desk:
    desk = Desk(native=native)
    desk.engine._io._library = library  # type: ignore[attr-defined]
    return desk


@pytest.fixture(params=WAYS)
def desk(request: pytest.FixtureRequest) -> Desk:
    return desk_of(*request.param)


def keys(suite: str = CM, seed: int = 1, mki: bytes = b"") -> SrtpKeys:
    return SrtpKeys.generate(suite, SeededRandom(seed), mki)


class Peer:
    """The other side of a protected stream, by our own implementation unless it has libsrtp."""

    def __init__(self, desk: Desk, stream: int = 1, *, library: bool = False) -> None:
        self.desk, self.stream = desk, stream
        self.outbound, self.inbound = Outbound(library=library), Inbound(library=library)

    def agree(self, theirs: SrtpKeys | None, ours: SrtpKeys | None) -> ProtectStream:
        """Use `theirs` to send to the engine, `ours` to hear it; return what tells the engine."""
        self.outbound.rekey(theirs)
        self.inbound.rekey(ours, self.desk.now)
        return ProtectStream(self.stream, send=ours, receive=theirs)

    def seal(self, packet: bytes, *, rtcp: bool = False) -> bytes:
        room = memoryview(bytearray(packet + bytes(ROOM_BYTES)))
        return bytes(room[: self.outbound.protect(room, len(packet), rtcp=rtcp)])

    def unseal(self, packet: bytes, *, rtcp: bool = False) -> bytes | None:
        room = memoryview(bytearray(packet))
        length = self.inbound.unprotect(room, len(packet), self.desk.now, rtcp=rtcp)
        return bytes(room[:length]) if length >= 0 else None

    def packets(
        self, pcm: np.ndarray, sequence: int = 100, ssrc: int = 0xABCD
    ) -> Iterator[tuple[float, bytes]]:
        """When, after now, and what: protected packets of `pcm`."""
        for n in range(pcm.size // 160):
            payload = ulaw(pcm[160 * n : 160 * n + 160])
            header = pack_header(0, (sequence + n) & 0xFFFF, 16_000 + 160 * n, ssrc)
            yield n * 0.020, self.seal(header + payload)

    def say(self, pcm: np.ndarray, source: Address | None = None, **more: int) -> None:
        begin = self.desk.now
        for at, packet in self.packets(pcm, **more):
            self.desk.put(packet, at=begin + at, stream=self.stream, source=source)

    def heard(self) -> list[bytes]:
        """The payloads of what the engine sent on this stream, in order."""
        row, payloads = self.desk.row(self.stream), []
        for sent in self.desk.io.sent:
            if sent.row == row:
                header = pack_header(
                    sent.payload_type, sent.sequence, sent.timestamp, sent.ssrc, marker=sent.marker
                )
                packet = self.unseal(header + sent.payload)
                assert packet is not None, f"packet {sent.sequence} is not protected by our keys"
                payloads.append(packet[12:])
        return payloads


def protected(desk: Desk, suite: str = CM, stream: int = 1, mki: bytes = b"") -> Peer:
    """A stream that is protected from before it was connected."""
    one = Peer(desk, stream)
    desk.do(OpenStream(stream, HOST, f"{stream}@{HOST}"))
    desk.do(one.agree(keys(suite, 2 * stream, mki), keys(suite, 2 * stream + 1, mki)))
    desk.do(describe(stream))
    listen(desk, stream)
    return one


def listen(desk: Desk, stream: int) -> None:
    number = desk.engine.arena.allocate(16_000)
    desk.do(AddSink(stream, number))
    desk.sinks[stream], desk.pcm[stream] = number, []


# ---------------------------------------------------------------- sound


@pytest.mark.parametrize("mki", [b"", b"\1\2"], ids=["", "mki"])
@pytest.mark.parametrize("suite", SUITES)
def test_sound_goes_both_ways_and_is_encrypted(desk: Desk, suite: str, mki: bytes) -> None:
    one, sent, said = protected(desk, suite, mki=mki), speech(1.0), speech(1.0, seed=2)
    desk.feed(said)
    one.say(sent)
    desk.run(1.3)

    assert_heard(desk, sent)
    wire = b"".join(packet.payload for packet in desk.io.sent)
    heard = b"".join(one.heard())
    assert ulaw(said) in heard
    assert ulaw(said)[:16] not in wire and ulaw(said)[4000:4016] not in wire
    stats = desk.stats()
    assert (stats.packets_forged, stats.packets_replayed, stats.packets_withheld) == (0, 0, 0)
    assert stats.packets_received == 50
    assert stats.bytes_received == 50 * 160
    assert stats.packets_sent == len(desk.io.sent) == len(heard) // 160


def test_protected_and_plain_streams_stand_side_by_side(desk: Desk) -> None:
    sound = {stream: speech(0.5, seed=stream) for stream in range(1, 25)}  # the table grows
    peers = {}
    for stream in sound:
        if stream % 3 == 0:
            desk.call(stream)
        else:
            suite = list(SUITES)[stream % len(SUITES)]
            peers[stream] = protected(desk, suite, stream)
    for stream, pcm in sound.items():
        if stream in peers:
            peers[stream].say(pcm)
        else:
            desk.say(pcm, stream=stream)
    desk.run(0.8)
    for stream, pcm in sound.items():
        assert_heard(desk, pcm, stream)
    for one in peers.values():
        assert len(one.heard()) > 20
    plain = [packet for packet in desk.io.sent if packet.row == desk.row(3)]
    assert {packet.payload for packet in plain} == {b"\xff" * 160}


def test_across_a_wrap_with_loss_reordering_and_copies(desk: Desk) -> None:
    one = protected(desk)
    for start in range(0, 65_000, 0x3FFF):  # the engine's context has seen the whole round
        for _, packet in one.packets(speech(0.02), sequence=start):
            desk.put(packet)
        desk.run(0.02)
    desk.run(3.0)
    before = desk.stats()
    packets = list(one.packets(speech(1.0), sequence=65_520))
    for n, (at, packet) in enumerate(packets):
        if n % 10 != 7:
            desk.put(packet, at=desk.now + at + (0.030 if n % 4 == 3 else 0.0))
        if n % 10 == 2:
            desk.put(packet, at=desk.now + at + 0.050)
    desk.run(1.3)
    after = desk.stats()
    assert after.packets_replayed == 5
    assert after.packets_forged == 0
    assert after.packets_received - before.packets_received >= 44  # but one that restarts it
    assert after.packets_reordered > 5


# ---------------------------------------------------------------- what is not to be believed


def test_plain_rtp_is_neither_heard_nor_sent(desk: Desk) -> None:
    one = protected(desk)
    desk.say(speech(0.5))
    desk.run(0.8)
    stats = desk.stats()
    assert stats.packets_forged == 25
    assert stats.packets_received == 0
    assert stats.ssrc_received is None
    assert not desk.heard().any()
    assert one.heard()


def test_nothing_passes_without_keys_and_all_does_with_them(desk: Desk) -> None:
    desk.do(OpenStream(1, HOST, "1@x"))
    desk.do(ProtectStream(1, None, None))
    desk.do(describe(1, send_dtmf=None))
    listen(desk, 1)
    desk.say(speech(0.5))
    desk.run(0.6)
    stats = desk.stats()
    assert desk.io.sent == []
    assert stats.packets_withheld == stats.packets_sent > 20
    assert stats.packets_forged == 25
    one = Peer(desk)
    desk.do(one.agree(keys(seed=1), keys(seed=2)))
    one.say(sound := speech(0.5), sequence=1000)
    desk.run(0.7)
    assert_heard(desk, sound, at_most_s=0.7)  # with the silence before
    assert len(one.heard()) > 25
    desk.do(one.agree(None, None))
    count = len(desk.io.sent)
    desk.say(speech(0.2), sequence=2000)
    desk.run(0.3)
    assert len(desk.io.sent) == count
    assert desk.stats().packets_forged == 35


def test_only_what_is_authentic_moves_the_peer(desk: Desk) -> None:
    one = protected(desk)
    elsewhere = Address("192.0.2.77", 7777)
    desk.run(0.5)
    desk.say(speech(0.3), source=elsewhere)  # a stranger without keys
    desk.run(0.5)
    assert desk.of(SourceLearned) == []
    assert desk.stats().packets_forged == 15
    assert desk.stats().strangers == ()
    one.say(speech(0.3), source=elsewhere)  # the peer, behind a NAT
    desk.run(0.5)
    assert desk.of(SourceLearned) == [SourceLearned(1, elsewhere)]
    assert desk.io.peers[desk.row()][0] == elsewhere


def test_what_a_stranger_repeats_moves_nobody(desk: Desk) -> None:
    one = protected(desk)
    packets = [packet for _, packet in one.packets(speech(0.3))]
    for n, packet in enumerate(packets):
        desk.put(packet, at=desk.now + 0.02 * n)
    desk.run(3.0)
    for n, packet in enumerate(packets):
        desk.put(packet, at=desk.now + 0.02 * n, source=Address("192.0.2.66", 666))
    desk.run(0.5)
    assert desk.of(SourceLearned) == []
    assert desk.stats().packets_replayed == 15


@dataclass(frozen=True, repr=False)  # a failure is told by its packets
class Fuzzed:
    desk: Desk
    peers: list[Peer]


@pytest.fixture(scope="module")
def fuzzed() -> Fuzzed:
    """Streams whose peers have been heard: what seems to be theirs goes the quickest way."""
    desk = Desk()
    peers = [protected(desk, suite, n + 1) for n, suite in enumerate(SUITES)]
    for one in peers:
        one.say(speech(0.02))
    desk.run(0.1)
    return Fuzzed(desk, peers)


@examples(150)
@given(st.lists(st.tuples(st.binary(max_size=60), st.booleans()), max_size=6))
def test_any_octets_are_dropped_and_nothing_is_raised(
    fuzzed: Fuzzed, packets: list[tuple[bytes, bool]]
) -> None:
    desk, peers = fuzzed.desk, fuzzed.peers
    for one in peers:
        for rest, rtcp in packets:
            desk.put(b"\x80\0\0\1\0\0\0\0\0\0\xab\xcd" + rest, stream=one.stream, rtcp=rtcp)
            desk.put(rest, stream=one.stream, rtcp=rtcp)
    desk.run(0.1)  # four of RTCP are read in a tick
    for one in peers:
        stats = desk.stats(one.stream)
        assert stats.packets_received == 1
        assert stats.packets_discarded == 0
        assert stats.packets_forged + stats.packets_replayed >= 2 * len(packets)


@natively
@pytest.mark.parametrize("mode", [srtp_rows.LIBRARY, srtp_rows.COUNTER])
def test_the_loop_in_C_checks_what_it_is_handed(mode: int) -> None:
    from voip.media import _srtp

    def table(material: int = 224) -> list[object]:
        keys = np.resize(np.array([0] * 88 + [16, 10, 6, 0] + [0] * 20, np.uint8), material)
        return [
            np.ones(10, np.uint64), np.full(2, mode, np.uint8), np.ones(2, np.uint64),
            np.zeros(2, np.int64), np.zeros(2, np.int64), np.zeros((2, 2), np.uint64), keys,
        ]  # fmt: skip

    def sends(
        rows: list[int], width: int = 64, lengths: int = 2, octets: int = 128, **more: int
    ) -> None:
        _srtp.protect(
            *table(**more), np.array(rows, np.int32), np.zeros(octets, np.uint8), width,
            np.full(lengths, 60, np.int32), np.zeros(2, np.uint8),
        )  # fmt: skip

    def hears(
        rows: list[int], slot: int = 0, length: int = 20, items: int = 2, **more: int
    ) -> None:
        _srtp.unprotect(
            *table(**more), np.array(rows, np.intp), np.zeros(2, np.bool_),
            np.zeros((2, 96), np.uint8), 32, np.full(2, slot),
            np.full(items, length, np.int32), np.zeros(2, np.uint8),
        )  # fmt: skip

    sends([0, 1])  # no room for a tag: they are left to others, and nothing is called
    hears([0, 1])  # too short
    for wrong in ([0, 2], [-1, 0]):
        with pytest.raises(IndexError):
            sends(wrong)
        with pytest.raises(IndexError):
            hears(wrong)
    for call in (
        lambda: sends([0, 1], lengths=1),
        lambda: sends([0, 1], material=223),
        lambda: hears([0, 1], slot=2),
        lambda: hears([0, 1], slot=-1),
        lambda: hears([0, 1], length=65),
        lambda: hears([0, 1], length=-1),
        lambda: hears([0, 1], items=1),
        lambda: hears([0, 1], material=223),
        lambda: _srtp.midstates(np.zeros(10, np.uint64), bytes(20)),
        lambda: _srtp.midstates(np.ones(10, np.uint64), bytes(65)),
    ):
        with pytest.raises(ValueError):
            call()
    with pytest.raises(TypeError):
        _srtp.protect(1)  # type: ignore[call-arg]


# ---------------------------------------------------------------- what is rare


def test_digits_are_protected_both_ways(desk: Desk) -> None:
    one = protected(desk)
    desk.run(0.2)
    for n, end in enumerate([0, 0, 0x80, 0x80, 0x80]):
        event = bytes([7, end | 10]) + (160 * (n + 1)).to_bytes(2, "big")
        packet = pack_header(101, 300 + n, 5000, 0xABCD, marker=n == 0) + event
        desk.put(one.seal(packet), at=desk.now + 0.02 * n)
    desk.do(SendDtmf(1, "5"))
    desk.run(0.5)
    assert [event.digit for event in desk.of(DtmfReceived)] == ["7"]
    assert all(len(sent.payload) > 4 for sent in desk.io.sent)
    events = [payload for payload in one.heard() if len(payload) == 4]
    assert len(events) > 3 and {event[0] for event in events} == {5}


def test_reports_are_protected_both_ways(desk: Desk) -> None:
    one = protected(desk)
    one.say(speech(1.0))
    desk.run(6.0)
    sent = [one.unseal(packet, rtcp=True) for _, _, packet in desk.io.reports]
    assert sent and None not in sent
    report = parse_compound(sent[0] or b"")[0]
    assert isinstance(report, SenderReport)
    block = ReportBlock(report.ssrc, 64, 5, 0, 80, 0, 0)
    answer = build_compound([ReceiverReport(0xABCD, (block,)), source_description(0xABCD, "x")])
    forged = build_compound(
        [ReceiverReport(0xABCD, (ReportBlock(report.ssrc, 255, 99, 0, 0, 0, 0),))]
    )
    desk.put(one.seal(answer, rtcp=True), rtcp=True)
    desk.put(forged, rtcp=True)
    desk.put(forged, rtcp=True, source=Address(peer(1).host, 999))
    desk.run(0.1)
    stats = desk.stats()
    assert (stats.remote_packets_lost, stats.remote_fraction_lost) == (5, 0.25)
    assert stats.packets_forged == 2
    desk.do(CloseStream(1))
    last = one.unseal(desk.io.reports[-1][2], rtcp=True)
    assert last is not None
    assert isinstance(parse_compound(last)[-1], Bye)


@pytest.mark.rfc("5761", "4")
def test_reports_by_the_port_of_rtp_are_protected_as_reports(desk: Desk) -> None:
    one = Peer(desk)
    desk.do(OpenStream(1, HOST, "1@x"), one.agree(keys(seed=1), keys(seed=2)))
    desk.do(describe(1, rtcp=peer(1), rtcp_mux=True))
    listen(desk, 1)
    reports, keep = [], desk.io._keep

    def keep_rtp(row: int, packet: bytes) -> None:
        if packet[1] in (200, 201):
            reports.append(packet)
        else:
            keep(row, packet)

    desk.io._keep = keep_rtp  # type: ignore[method-assign]
    one.say(sound := speech(1.0))
    for n in range(3):
        report = build_compound([SenderReport(0xABCD, 1 << 40, 0, 1, 160)])
        desk.put(one.seal(report, rtcp=True), at=desk.now + 1 + n)
        desk.put(report, at=desk.now + 1.5 + n)  # not protected
    desk.run(7)
    assert_heard(desk, sound)
    assert desk.io.reports == []
    opened = [one.unseal(packet, rtcp=True) for packet in reports]
    assert opened and None not in opened
    first = parse_compound(opened[0] or b"")[0]
    assert isinstance(first, SenderReport) and first.blocks[0].last_sr == 1 << 24
    assert desk.stats().packets_forged == 3
    assert one.heard()


def test_what_keeps_the_way_open_is_protected(desk: Desk) -> None:
    one = Peer(desk)
    desk.do(OpenStream(1, HOST, "1@x", keepalive_s=3))
    desk.do(one.agree(keys(seed=1), keys(seed=2)))
    desk.do(describe(1, send=False))
    desk.run(20)
    assert one.heard() == [b""] * len(desk.io.sent)
    assert len(desk.io.sent) > 4


def test_keys_change_while_sound_goes_on(desk: Desk) -> None:
    one, sent = protected(desk), speech(2.0)
    packets = list(one.packets(sent[: 160 * 60]))
    old = [packet for _, packet in packets[55:]]  # the last come after the change, as it happens
    begin = desk.now
    for at, packet in packets:
        desk.put(packet, at=begin + at)
    desk.run(1.06)
    command = one.agree(keys(seed=77, mki=b"\7"), keys(seed=78, mki=b"\7"))
    desk.do(command)
    for at, packet in one.packets(sent[160 * 60 :], sequence=160):
        desk.put(packet, at=begin + 1.2 + at)
    desk.run(1.4)
    assert len(one.heard()) > 100
    stats = desk.stats()
    assert stats.packets_received == 100
    assert stats.packets_forged == stats.packets_replayed == 0
    desk.run(4.0)
    desk.put(old[0])
    desk.run(0.02)
    assert desk.stats().packets_forged == 1


def test_keys_change_without_mki_and_go_on_in_the_fast_way(desk: Desk) -> None:
    one = protected(desk)
    late = Peer(desk)
    late.agree(keys(CM, 2), keys(CM, 3))
    one.say(speech(0.4))
    desk.run(0.5)
    desk.do(one.agree(keys(seed=77), keys(seed=78)))
    begin = desk.now
    for n, (at, packet) in enumerate(late.packets(speech(1.0), sequence=120)):
        if n < 20:  # the peer changes later
            desk.put(packet, at=begin + at)
    for n, (at, packet) in enumerate(one.packets(speech(6.0), sequence=120)):
        if n >= 20:
            desk.put(packet, at=begin + at)
    desk.run(6.2)
    stats = desk.stats()
    assert stats.packets_received == 20 + 300
    assert stats.packets_forged == 0
    assert len(one.heard()) > 300
    way = desk.engine._io._inward  # type: ignore[attr-defined]
    fast = srtp_rows.COUNTER if desk.engine._io._library is None else srtp_rows.LIBRARY  # type: ignore[attr-defined]
    assert way.mode[desk.row()] == (fast if desk.engine.native else srtp_rows.SINGLY)


def test_the_peer_changes_its_source(desk: Desk) -> None:
    one = protected(desk)
    one.say(speech(0.4), ssrc=1)
    desk.run(0.5)
    one.say(speech(0.4), ssrc=2, sequence=40_000)
    desk.run(0.6)
    one.say(speech(0.4), ssrc=1, sequence=120)
    desk.run(0.5)
    stats = desk.stats()
    assert stats.packets_received >= 58  # the first of each new source is but remembered
    assert stats.packets_forged == stats.packets_replayed == 0


def test_a_row_that_is_used_again_is_not_protected(desk: Desk) -> None:
    protected(desk)
    row = desk.row()
    desk.do(CloseStream(1))
    desk.io.sent.clear()
    assert desk.call(2) == row
    desk.say(sound := speech(0.4), stream=2)
    desk.run(0.6)
    assert_heard(desk, sound, 2)
    assert {packet.payload for packet in desk.io.sent} == {b"\xff" * 160}
    stats = desk.stats(2)
    assert (stats.packets_forged, stats.packets_withheld) == (0, 0)


def test_what_cannot_be_done_here_is_refused(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    from voip.rtp.srtp import stream

    one = protected(desk)
    monkeypatch.setattr(stream, "find_spec", lambda name: None)
    plain = keys()
    beyond = SrtpKeys(CM, plain.key, plain.salt, encrypted_extensions=frozenset({1}))
    words = desk.refused(ProtectStream(1, beyond, None))  # libsrtp of itself has them not
    assert "cryptography is not installed" in words
    one.say(sound := speech(0.4))
    desk.run(0.6)
    assert_heard(desk, sound)  # by the keys it has
    assert "no stream 9" in desk.refused(ProtectStream(9, None, None))


@natively
@by_us_natively
@pytest.mark.parametrize("mki", [b"", b"\1\2\3\4", b"m" * 21], ids=["", "mki", "long mki"])
@pytest.mark.parametrize("suite", SUITES)
def test_C_and_Python_and_libsrtp_come_to_the_same(suite: str, mki: bytes) -> None:
    desks = [desk_of(*way.values[0]) for way in WAYS]
    for desk in desks:
        one = protected(desk, suite, mki=mki)
        desk.feed(speech(0.6))
        for n, (at, packet) in enumerate(one.packets(speech(0.6, seed=3), sequence=65_000)):
            changed = packet[:-1] + bytes([packet[-1] ^ (n % 7 == 3)])
            desk.put(changed, at=desk.now + at)
            if n % 5 == 0:
                desk.put(packet, at=desk.now + at + 0.1)
        desk.run(1.0)
        desk.do(one.agree(keys(suite, 50, mki), keys(suite, 51, mki)))
        one.say(speech(0.4), sequence=65_040)
        desk.run(0.6)
    first = desks[0]
    assert len(first.io.sent) > 70
    assert first.stats().packets_forged > 0 < first.stats().packets_replayed
    for other in desks[1:]:
        assert other.io.sent == first.io.sent
        assert other.stats() == first.stats()
        assert np.array_equal(other.heard(), first.heard())
