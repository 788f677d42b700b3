"""AES-CM of the loop in C, packet by packet beside the contexts of Python and of libsrtp."""

from __future__ import annotations

import random

import numpy as np
import pytest

from voip.media import srtp_rows
from voip.media.io import HEAD_BYTES, PacketBatch
from voip.media.srtp_rows import COUNTER, LIBRARY, SINGLY, Way
from voip.rtp.packet import pack_header
from voip.rtp.srtp import openssl
from voip.rtp.srtp.context import FORGED, REFUSED, REPLAYED, Receiver, Sender
from voip.rtp.srtp.keys import ROOM_BYTES, SrtpKeys
from voip.rtp.srtp.replay import INDEX_LIMIT, WINDOW
from voip.rtp.srtp.stream import make_receiver, make_sender
from voip.rtp.srtp.suites import SUITES
from voip.types import SeededRandom

pytestmark = pytest.mark.skipif(not srtp_rows.has_counter_mode(), reason="no OpenSSL is found")

SSRC = 0xABCD
COUNTER_SUITES = [name for name, suite in SUITES.items() if not suite.aead]
PASSED, _, DROPPED, AGAIN, WITHHELD = range(5)


def keys(suite: str, seed: int = 1, mki: bytes = b"") -> SrtpKeys:
    return SrtpKeys.generate(suite, SeededRandom(seed), mki)


def way_of(context: object, one: SrtpKeys) -> Way:
    way = Way()
    way.room_for(0, 1)
    way.change(0, context, one, native=True)
    way.follow(0, SSRC)
    return way


def rtp(index: int, payload: bytes = bytes(range(160))) -> bytes:
    return pack_header(0, index & 0xFFFF, 160 * index, SSRC) + payload


def sealed_in_c(way: Way, packet: bytes) -> bytes | int:
    room = np.frombuffer(packet + bytes(ROOM_BYTES), np.uint8)[None].copy()
    lengths, verdicts = np.array([len(packet)], np.int32), np.zeros(1, np.uint8)
    way.protect(srtp_rows.functions(), np.zeros(1, np.int32), room, lengths, verdicts)
    assert verdicts[0] in (PASSED, WITHHELD)
    return room[0, : lengths[0]].tobytes() if verdicts[0] == PASSED else REFUSED


def opened_in_c(way: Way, packet: bytes) -> bytes | int:
    batch = PacketBatch(1)
    batch.memory[0, HEAD_BYTES : HEAD_BYTES + len(packet)] = np.frombuffer(packet, np.uint8)
    batch.lengths[0], verdicts = len(packet), np.zeros(1, np.uint8)
    way.unprotect(srtp_rows.functions(), batch, np.zeros(1, np.intp), verdicts)
    answers = {DROPPED: FORGED, AGAIN: REPLAYED}
    return answers[int(verdicts[0])] if verdicts[0] else bytes(batch.packet(0))


def sealed(sender: Sender, packet: bytes) -> bytes | int:
    room = memoryview(bytearray(packet + bytes(ROOM_BYTES)))
    length = sender.protect(room, len(packet))
    return bytes(room[:length]) if length != REFUSED else REFUSED


def opened(receiver: Receiver, packet: bytes) -> bytes | int:
    room = memoryview(bytearray(packet + bytes(16)))
    length = receiver.unprotect(room, len(packet))
    return bytes(room[:length]) if length >= 0 else length


@pytest.mark.parametrize("library", [False, True], ids=["ours", "libsrtp"])
@pytest.mark.parametrize("suite", COUNTER_SUITES)
def test_a_random_way_through_the_window_is_the_same(suite: str, library: bool) -> None:
    """Jumps of all lengths around 64 and 128, copies, late and changed packets, rollovers."""
    one, start = keys(suite), {SSRC: 65_000}
    sends = way_of(make_sender(one, start, {}, False), one)
    hears = way_of(make_receiver(one, start, {}, False), one)
    sender, receiver = (make(one, start, {}, library) for make in (make_sender, make_receiver))
    chance, at, verdicts = random.Random(4), 65_000, []
    kept: list[bytes] = []
    for n in range(3000):
        step = chance.choice([1, 1, 1, 2, 63, 64, 65, 127, 128, 129, 1000, -1, -2, -64, -127, -129])
        at = max(65_001, at + step)
        packet = rtp(at, bytes([n & 0xFF]) * chance.choice([0, 1, 15, 16, 17, 160]))
        protected = sealed_in_c(sends, packet)
        assert sealed(sender, packet) == protected
        if isinstance(protected, int):
            verdicts.append("refused")
            continue
        kept.append(protected)
        for heard in (protected, chance.choice(kept[-200:])):
            if chance.random() < 0.2:
                spoilt = chance.randrange(len(heard))
                heard = heard[:spoilt] + bytes([heard[spoilt] ^ 4]) + heard[spoilt + 1 :]
                if heard[8:12] != protected[8:12]:
                    continue  # of another source: that is left to others
            answer = opened_in_c(hears, heard)
            assert opened(receiver, heard) == answer
            verdicts.append(answer if isinstance(answer, int) else "passed")
    assert hears.index[0] > 1 << 17, "there was no rollover"
    assert {verdicts.count(one) > 50 for one in ("passed", "refused", FORGED, REPLAYED)} == {True}


@pytest.mark.parametrize("suite", COUNTER_SUITES)
def test_contexts_go_on_where_the_loop_was(suite: str) -> None:
    one, start = keys(suite), {SSRC: 65_500}
    sender, receiver = make_sender(one, start, {}, False), make_receiver(one, start, {}, False)
    sends, hears = way_of(sender, one), way_of(receiver, one)
    packets = {at: sealed_in_c(sends, rtp(at)) for at in range(65_501, 65_600)}
    sends.settle(0)
    assert sender.indexes == {SSRC: 65_599}
    assert sealed(sender, rtp(65_599)) == REFUSED
    for at, packet in packets.items():
        if at % 3:
            assert opened_in_c(hears, packet) == rtp(at)  # type: ignore[arg-type]
    hears.settle(0)
    for at, packet in packets.items():
        assert opened(receiver, packet) == (REPLAYED if at % 3 else rtp(at))  # type: ignore[arg-type]
    hears.follow(0, SSRC)
    assert {opened_in_c(hears, packet) for packet in packets.values()} == {REPLAYED}  # type: ignore[arg-type]


@pytest.mark.rfc("3711", "9.2")
@pytest.mark.parametrize("suite", COUNTER_SUITES)
def test_the_loop_does_not_use_on_a_key_that_is_used_up(suite: str) -> None:
    one, last = keys(suite), INDEX_LIMIT - 1
    start = {SSRC: last - 1}
    sends = way_of(make_sender(one, start, {}, False), one)
    hears = way_of(make_receiver(one, start, {}, False), one)
    packet = sealed_in_c(sends, rtp(last))
    assert packet == sealed(make_sender(one, start, {}, False), rtp(last))
    assert isinstance(packet, bytes) and opened_in_c(hears, packet) == rtp(last)
    assert sealed_in_c(sends, rtp(last + 1)) == REFUSED
    assert opened_in_c(hears, bytes(2) + b"\0\0" + packet[4:]) == FORGED
    assert hears.index[0] == sends.index[0] == last


@pytest.mark.parametrize(
    ("suite", "mki", "mode"),
    [
        *((suite, b"", COUNTER) for suite in COUNTER_SUITES),
        (COUNTER_SUITES[0], b"m" * srtp_rows.MAX_LOOPED_MKI_BYTES, COUNTER),
        (COUNTER_SUITES[0], b"m" * (srtp_rows.MAX_LOOPED_MKI_BYTES + 1), SINGLY),
        ("AEAD_AES_128_GCM", b"", LIBRARY),
        ("AEAD_AES_128_GCM", b"\1", SINGLY),
    ],
)
def test_who_treats_what_and_that_keys_are_wiped(suite: str, mki: bytes, mode: int) -> None:
    one = keys(suite, mki=mki)
    way = way_of(make_sender(one, {SSRC: 0}, {}, None if mode == LIBRARY else False), one)
    assert way.mode[0] == mode
    assert way.material.any() == (mode == COUNTER)
    if mki and mode == COUNTER:
        packet = sealed_in_c(way, rtp(1))
        assert isinstance(packet, bytes) and packet[-10 - len(mki) : -10] == mki
    way.forget(0)
    assert not way.material.any() and not way.session.any() and not way.contexts


@pytest.mark.parametrize("suite", COUNTER_SUITES)
def test_encrypted_header_extensions_are_not_for_the_loop(suite: str) -> None:
    plain = keys(suite)
    one = SrtpKeys(suite, plain.key, plain.salt, encrypted_extensions=frozenset({1}))
    assert way_of(make_sender(one, {SSRC: 0}, {}, False), one).mode[0] == SINGLY


@pytest.mark.parametrize("file", list(openssl.files()))
def test_every_OpenSSL_that_is_found_does(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = openssl.addresses_in(file)
    if found is None:
        pytest.skip("this one hides its functions")
    assert _with(found, monkeypatch)


def test_what_is_not_as_it_should_be_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    found = list(openssl.addresses() or ())
    found[4], found[5] = found[5], found[4]  # ciphers of other lengths
    assert not _with(tuple(found), monkeypatch)
    assert openssl.addresses_in("/no/such/library") is None


def _with(addresses: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> bool:
    called = srtp_rows.functions().copy()
    called[2:] = addresses
    monkeypatch.setattr(srtp_rows, "functions", lambda: called)
    return srtp_rows.has_counter_mode.__wrapped__()


def test_the_window_is_as_long_as_pythons() -> None:
    assert 64 * Way().seen.shape[1] == WINDOW
