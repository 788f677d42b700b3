"""The part of a tick in C comes to what the arrays come to, to the bit, whatever arrives."""

from __future__ import annotations

import os
from array import array
from collections import Counter
from contextlib import nullcontext

import numpy as np
import pytest
from engine_desk import DTMF, PCMA, PCMU, RATE, Desk, speech, ulaw
from hypotheses import examples
from hypothesis import given
from hypothesis import strategies as st

from voip.codecs.core import CodecFormat
from voip.codecs.registry import default_registry
from voip.media import native
from voip.media.commands import CloseStream, PayloadFormat, RouteStream, SendDtmf
from voip.media.fifo import FifoArray
from voip.media.io import PacketBatch
from voip.media.lane import G711Lane
from voip.media.payloads import SLOT_PAYLOAD, PayloadRing
from voip.media.table import StreamTable
from voip.rtp.packet import pack_header
from voip.types import Address

REQUIRED = os.environ.get("VOIP_REQUIRE_PEERS") == "1"
STRANGER = Address("198.51.100.7", 4000)

pytestmark = pytest.mark.skipif(
    native._native is None and not REQUIRED,
    reason="the part in C was not built: there is no compiler here (`make peers` installs one)",
)


def columns(part: object, path: str = "") -> dict[str, np.ndarray]:
    """All arrays of a stream table and of what belongs to it, as they are now."""
    found: dict[str, np.ndarray] = {}
    for name, value in vars(part).items():
        if isinstance(value, np.ndarray):
            found[path + name] = value
        elif not name.startswith("_") and hasattr(value, "grow"):
            found |= columns(value, f"{path}{name}.")
    return found


def payloads(ring: PayloadRing) -> np.ndarray:
    """The payloads in the slots; behind their ends there is anything, or all is in the pool."""
    length = np.where(ring.length <= SLOT_PAYLOAD, ring.length, 0)
    return np.where(np.arange(SLOT_PAYLOAD) >= length[:, None], 0, ring.payload)


ADDRESSES = {
    f"playout.voicing.{name}"
    for name in (
        "hear_function",
        "hear_state",
        "past",
        "say_function",
        "say_state",
        "waiting",
        "measured_by",
    )
}  # fmt: skip
APART = {
    "playout._heard", "playout.pcm.data", "playout.ring.payload", "transmitter.packet",
} | ADDRESSES  # fmt: skip
"""Written anew before it is read; compared as far as it is filled, by `pending` and `payloads`, and
packets when they are sent: encoders scribble behind them."""


def pending(fifo: FifoArray) -> np.ndarray:
    """What has been decoded and not heard."""
    return np.where(np.arange(fifo.capacity) >= fifo.fill[:, None], np.float32(0), fifo.data)


class Pair:
    """Two engines to which the same happens, one with the part in C and one without."""

    def __init__(self) -> None:
        self.desks = [Desk(native=True), Desk(native=False)]
        assert [desk.engine.native for desk in self.desks] == [True, False]
        self.taken, self.ticks, self.compared = 0, 0, 0
        tick = self.desks[0].engine._intake.native
        assert tick is not None
        take = tick.take

        def counted(received: int) -> int:
            left = take(received)
            self.taken += received - left
            return left

        tick.take = counted  # type: ignore[method-assign]

    def each(self, act: str, *arguments: object, **more: object) -> None:
        for desk in self.desks:
            getattr(desk, act)(*arguments, **more)

    def run(self, seconds: float) -> None:
        """Let time pass, and compare after every tick."""
        for _ in range(round(seconds * 100)):
            self.each("run", 0.01)
            self.compare()

    def compare(self) -> None:
        ours, theirs = (columns(desk.engine._table) for desk in self.desks)
        assert ours.keys() == theirs.keys()
        for name in ours.keys() - APART:
            assert np.array_equal(ours[name], theirs[name]), name
            self.compared += ours[name].size
        one, other = self.desks
        if self.ticks % 20 == 0:
            played = [desk.engine._table.playout for desk in self.desks]
            assert np.array_equal(*(payloads(one.ring) for one in played))
            assert np.array_equal(*(pending(one.pcm) for one in played))
            self.compared += played[0].ring.payload.size + played[0].pcm.data.size
        assert one.io.sent == other.io.sent
        assert one.io.reports == other.io.reports
        assert one.events == other.events
        for stream, heard in one.pcm.items():
            assert np.array_equal(heard[-1:], other.pcm[stream][-1:]), stream
        for desk in self.desks:
            desk.io.sent.clear()
            desk.io.reports.clear()
        self.ticks += 1


def traffic(pair: Pair, rng: np.random.Generator, streams: list[int], seconds: float) -> Counter:
    """Put in packets of many streams with everything that can happen to them."""
    kinds: Counter = Counter()
    begin = pair.desks[0].now
    for stream in streams:
        size = int(rng.choice([80, 160, 160, 160, 240]))
        payload_type = int(rng.choice([0, 0, 8]))
        pcm = speech(seconds, stream)
        sequence, stamp = (int(rng.integers(0, 1 << bits)) for bits in (16, 32))
        ssrc, phase = int(rng.integers(1, 1 << 32)), float(rng.uniform(0, 0.02))
        for number in range(pcm.size // size):
            at = begin + phase + number * size / RATE + float(rng.exponential(0.004))
            payload = ulaw(pcm[number * size : (number + 1) * size])
            kind = rng.choice(
                ["plain", "lost", "late", "twice", "marked", "event", "odd", "strange", "jump",
                 "other", "cut", "garbage", "extended", "rtcp"],
                p=[0.86, 0.02, 0.02, 0.01, 0.01, 0.01, 0.01, 0.01, 0.005, 0.005, 0.01, 0.01, 0.01,
                   0.01],
            )  # fmt: skip
            kinds[str(kind)] += 1
            if kind == "jump":
                sequence += int(rng.integers(-2000, 5000))
                stamp += int(rng.integers(-40_000, 40_000))
            if kind == "other":
                ssrc ^= 1
            now = {"sequence": (sequence + number) & 0xFFFF,
                   "timestamp": (stamp + number * size) & 0xFFFFFFFF}  # fmt: skip
            header = pack_header(
                101 if kind == "event" else 77 if kind == "odd" else payload_type,
                now["sequence"], now["timestamp"], ssrc, marker=kind == "marked",
            )  # fmt: skip
            packet, source = header + payload, None
            if kind == "late":
                at += float(rng.uniform(0.01, 0.4))
            elif kind == "event":
                packet = header + bytes((5, 10)) + int(number * size % 4000).to_bytes(2, "big")
            elif kind == "strange":
                source = STRANGER
            elif kind == "cut":
                packet = packet[: int(rng.integers(0, 40))]
            elif kind == "garbage":
                packet = rng.bytes(int(rng.integers(0, 300)))
            elif kind == "extended":
                packet = bytes((0x90,)) + header[1:] + b"\xbe\xde\x00\x01\x10\x00\x00\x00" + payload
            if kind != "lost":
                rtcp = bool(kind == "rtcp")
                pair.each("put", packet, at=at, stream=stream, source=source, rtcp=rtcp)
            if kind == "twice":
                pair.each("put", packet, at=at + 0.003, stream=stream)
    return kinds


MORE = pytest.mark.long
"""The same again, by chance another way."""


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=MORE), pytest.param(2, marks=MORE)])
def test_whatever_arrives_both_come_to_the_same(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pair = Pair()
    formats = (PCMU, PCMA, DTMF)
    streams = list(range(1, 21))  # more than a table holds at first
    for stream in streams:
        send = PCMA if stream % 5 == 0 else PCMU
        ptime = int(rng.choice([10, 20, 20, 30]))
        pair.each("call", stream, send_format=send, receive_formats=formats, ptime_ms=ptime)
        if stream % 3:
            pair.each("do", RouteStream(stream, stream))  # sends back what it hears
        elif stream % 2:
            pair.each("feed", speech(3, 100 + stream), stream)
    kinds = traffic(pair, rng, streams, 3.0)
    pair.run(1.5)
    pair.each("do", CloseStream(7))
    pair.each("stall", 0.35)  # steps are left out
    pair.run(2.0)
    assert len(kinds) == 14
    assert pair.ticks > 300
    assert pair.taken > 0.6 * kinds.total()  # by the part in C
    assert pair.compared > 1e7


G722 = PayloadFormat(9, "g722")
OPUS = PayloadFormat(111, "opus", 48000, 2, "useinbandfec=1;usedtx=1")
OPUS_DTX = PayloadFormat(112, "opus", 48000, 2, "usedtx=1;maxplaybackrate=16000")
ILBC = PayloadFormat(97, "ilbc", fmtp="mode=20")
VOICES = (G722, OPUS, OPUS_DTX, ILBC)


def coded(format_: PayloadFormat, seed: int, seconds: float, ptime_ms: int) -> list[bytes]:
    """Speech, in packets; a part of it is silence."""
    codec = default_registry().create(
        CodecFormat(format_.name, format_.clock_rate, format_.channels, format_.fmtp)
    )
    rate = codec.info.sample_rate
    sound = np.repeat(speech(seconds, seed), rate // RATE)
    sound[sound.size // 2 : sound.size * 3 // 4] = 0
    size = rate * ptime_ms // 1000
    return [codec.encode(sound[at : at + size]) for at in range(0, sound.size, size)]


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=MORE)])
def test_so_do_rows_whose_codecs_remember(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pair = Pair()
    heard = Counter()
    for stream in range(1, 18):  # more than a table holds at first
        format_ = VOICES[stream % len(VOICES)]
        ptime = 40 if stream == 6 else 20
        pair.each(
            "call", stream, send_format=format_, receive_formats=(PCMU, DTMF, *VOICES),
            ptime_ms=ptime, send_dtmf=DTMF,
        )  # fmt: skip
        if stream % 4:
            pair.each("do", RouteStream(stream, stream - 1 if stream == 5 else stream))
        else:
            pair.each("feed", speech(2, 100 + stream), stream)
        payloads_ = coded(format_, stream, 1.5, ptime)
        if stream in (3, 7):  # another format in the middle of it
            payloads_[40:60] = [ulaw(speech(0.02, n)) for n in range(20)]
        begin = pair.desks[0].now + float(rng.uniform(0, 0.02))
        for number, payload in enumerate(payloads_):
            at = begin + number * ptime / 1000 + float(rng.exponential(0.003))
            plain = stream in (3, 7) and 40 <= number < 60
            clock = RATE if plain else format_.clock_rate
            chance = rng.random()
            if chance < 0.03:
                continue  # lost
            if chance < 0.05:
                payload = rng.bytes(int(rng.integers(1, 200)))
            if chance > 0.97:
                at += float(rng.uniform(0, 0.3))
            header = pack_header(
                0 if plain else format_.payload_type, 7 + number,
                1000 + number * ptime * clock // 1000, stream,
            )  # fmt: skip
            pair.each("put", header + payload, at=at, stream=stream)
            heard[format_.name] += 1
    pair.run(0.7)
    pair.each("do", SendDtmf(2, "5"), SendDtmf(8, "1"), SendDtmf(9, "7"))
    pair.run(1.2)
    assert pair.taken > 0.6 * heard.total()
    direct = pair.desks[0].engine._table.playout.voicing
    assert len(direct.decodings) == 13  # of G.722, of iLBC, and of Opus at its row's rate
    assert pair.compared > 1e6


@examples(25)
@given(
    st.lists(
        st.tuples(
            st.binary(max_size=64),
            st.integers(0, 65535),
            st.integers(0, 3000),
            st.floats(0, 0.1),
        ),
        max_size=12,
    )
)
def test_any_bytes_in_any_order_come_to_the_same(packets) -> None:
    pair = Pair()
    pair.each("call", 1)
    pair.each("say", speech(0.2))
    for tail, sequence, stamp, after in packets:
        header = pack_header(0, sequence, stamp, 0xABCD)
        pair.each("put", (header + tail)[: 12 + len(tail)], at=pair.desks[0].now + after)
        pair.each("put", tail, at=pair.desks[0].now + after)
    pair.run(0.3)
    assert pair.compared


def test_arrays_that_do_not_belong_together_are_refused() -> None:
    table, batch = StreamTable(G711Lane()), PacketBatch(64)
    table.receiver.jitter = np.zeros(3)
    with pytest.raises(ValueError, match="belong together"):
        native.Native(table, batch)
    table.receiver.jitter = np.zeros(16, np.float32)
    with pytest.raises(TypeError, match="another size"):
        native.Native(table, batch)


def test_rows_and_packets_that_are_not_there_are_refused() -> None:
    table, batch = StreamTable(G711Lane()), PacketBatch(64)
    both = native.Native(table, batch)
    batch.rows[0] = 16
    with pytest.raises(IndexError):
        both.take(1)
    with pytest.raises(ValueError, match="so many"):
        both.take(65)
    rows = np.array([0, 99])
    with pytest.raises(IndexError):
        both.play(rows, 160, np.zeros(2))
    with pytest.raises(IndexError):
        both.fill(rows, np.zeros((2, 160), np.float32), np.zeros(2, np.int64))
    with pytest.raises(ValueError, match="than a packet holds"):
        both.fill(rows[:1], np.zeros((1, 4000), np.float32), np.zeros(1, np.int64))
    with pytest.raises(ValueError, match="another shape"):
        both.play(rows[:1], 160, np.zeros(2))


@pytest.mark.parametrize("row", [0, 99])
@pytest.mark.parametrize("count", [1, 2])
def test_arrays_are_given_back_whatever_came_of_them(row: int, count: int) -> None:
    both = native.Native(StreamTable(G711Lane()), PacketBatch(64))
    rows, lengths = array("q", [row]), array("i", [0] * count)  # grow only while nobody has them
    fits = (row, count) == (0, 1)
    with nullcontext() if fits else pytest.raises((IndexError, ValueError)):
        both._tick.seal(rows, lengths)  # type: ignore[arg-type]
    rows.append(0)
    lengths.append(0)


def test_it_can_be_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VOIP_NATIVE", raising=False)
    assert native.available()
    monkeypatch.setenv("VOIP_NATIVE", "0")
    assert not native.available()
    assert Desk().engine.native is False
