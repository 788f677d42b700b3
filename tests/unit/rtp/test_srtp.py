"""Secure RTP: libsrtp and our own implementation judge each other, for every suite both have."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator

import pytest
from hypotheses import examples
from hypothesis import given
from hypothesis import strategies as st
from pylibsrtp import Policy, Session

from voip.errors import ConfigError
from voip.media.commands import ProtectStream
from voip.rtp.packet import pack_header
from voip.rtp.rtcp import ReceiverReport, build_compound, source_description
from voip.rtp.srtp.context import FORGED, MAX_SOURCES, REFUSED, REPLAYED
from voip.rtp.srtp.derivation import RTP, session_keys
from voip.rtp.srtp.keys import ROOM_BYTES, SrtpKeys
from voip.rtp.srtp.library import suites
from voip.rtp.srtp.replay import INDEX_LIMIT, RTCP_INDEX_LIMIT, WINDOW
from voip.rtp.srtp.stream import OLD_KEYS_S, OVERLAP_S, Inbound, Outbound
from voip.rtp.srtp.suites import SUITES, suite_of
from voip.types import SeededRandom

pytestmark = pytest.mark.rfc("3711", "3")

PROFILES = {
    "AES_CM_128_HMAC_SHA1_80": Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
    "AES_CM_128_HMAC_SHA1_32": Policy.SRTP_PROFILE_AES128_CM_SHA1_32,
    "AEAD_AES_128_GCM": Policy.SRTP_PROFILE_AEAD_AES_128_GCM,
    "AEAD_AES_256_GCM": Policy.SRTP_PROFILE_AEAD_AES_256_GCM,
}
OURS, LIBRARY = False, True
BOTH = (OURS, LIBRARY)
SPEECH = bytes(range(160))
REPORT = build_compound([ReceiverReport(0x1234, ()), source_description(0x1234, "a@b")])


def keys(suite: str = "AES_CM_128_HMAC_SHA1_80", seed: int = 1, mki: bytes = b"") -> SrtpKeys:
    return SrtpKeys.generate(suite, SeededRandom(seed), mki)


def rtp(sequence: int, ssrc: int = 0x1234, payload: bytes = SPEECH) -> bytes:
    return pack_header(0, sequence, 160 * sequence, ssrc) + payload


def seal(sender: Outbound, packet: bytes, *, rtcp: bool = False) -> bytes:
    room = memoryview(bytearray(packet + bytes(ROOM_BYTES)))
    return bytes(room[: sender.protect(room, len(packet), rtcp=rtcp)])


def unseal(
    receiver: Inbound, packet: bytes, now: float = 0.0, *, rtcp: bool = False
) -> bytes | int:
    room = memoryview(bytearray(packet + bytes(16)))
    length = receiver.unprotect(room, len(packet), now, rtcp=rtcp)
    return bytes(room[:length]) if length >= 0 else length


def pair(
    one: SrtpKeys, sends: bool | None = None, hears: bool | None = None
) -> tuple[Outbound, Inbound]:
    sender, receiver = Outbound(library=sends), Inbound(library=hears)
    sender.rekey(one)
    receiver.rekey(one, 0.0)
    return sender, receiver


def ways(suite: str) -> Iterator[tuple[bool, bool]]:
    """Who sends and who hears. libsrtp has all suites, though pylibsrtp names but `PROFILES`."""
    return itertools.product(BOTH, BOTH) if suite in suites() else iter([(OURS, OURS)])


def test_libsrtp_has_every_suite() -> None:
    assert suites() == frozenset(SUITES)


EVERY_WAY = [(suite, *way) for suite in SUITES for way in ways(suite)]
every_way = pytest.mark.parametrize(("suite", "sends", "hears"), EVERY_WAY)


# ---------------------------------------------------------------- one implementation, and the other


@every_way
@pytest.mark.parametrize("mki", [b"", b"\x07", b"m" * 128], ids=["", "mki", "long mki"])
def test_what_one_protects_the_other_reads(
    suite: str, sends: bool, hears: bool, mki: bytes
) -> None:
    sender, receiver = pair(keys(suite, mki=mki), sends, hears)
    more = suite_of(suite).tag_bytes + len(mki)
    for sequence in range(0, 3 << 16, 0x1FFF):  # three times round: rollovers
        packet = rtp(sequence)
        sealed = seal(sender, packet)
        assert sealed[:12] == packet[:12]
        assert len(sealed) == len(packet) + more
        assert SPEECH[:16] not in sealed
        assert unseal(receiver, sealed) == packet
    for _ in range(3):
        sealed = seal(sender, REPORT, rtcp=True)
        assert len(sealed) == len(REPORT) + suite_of(suite).rtcp_tag_bytes + 4 + len(mki)
        assert REPORT[8:] not in sealed
        assert unseal(receiver, sealed, rtcp=True) == REPORT


@pytest.mark.parametrize("suite", PROFILES)
@pytest.mark.parametrize("ours", BOTH)
def test_pylibsrtps_own_sessions_read_it_and_are_read(suite: str, ours: bool) -> None:
    one = keys(suite)
    profile, joined = PROFILES[suite], one.key + one.salt
    theirs_in = Session(Policy(joined, Policy.SSRC_ANY_INBOUND, srtp_profile=profile))
    theirs_out = Session(Policy(joined, Policy.SSRC_ANY_OUTBOUND, srtp_profile=profile))
    sender, receiver = pair(one, ours, ours)
    extended = rtp(9)[:12] + b"\xbe\xde\x00\x01\x10\xaa\x00\x00" + SPEECH
    extended = bytes([extended[0] | 0x12]) + extended[1:12] + bytes(8) + extended[12:]  # 2 CSRC
    for packet in (rtp(7), rtp(8, payload=b""), extended):
        assert theirs_in.unprotect(seal(sender, packet)) == packet
        assert unseal(receiver, theirs_out.protect(packet)) == packet
    assert theirs_in.unprotect_rtcp(seal(sender, REPORT, rtcp=True)) == REPORT
    assert unseal(receiver, theirs_out.protect_rtcp(REPORT), rtcp=True) == REPORT


@pytest.mark.rfc("3711", "3.3.1")
@every_way
def test_loss_and_reordering_across_a_rollover(suite: str, sends: bool, hears: bool) -> None:
    sender, receiver = pair(keys(suite), sends, hears)
    for at in range(0, 65_400, 0x3FFF):
        unseal(receiver, seal(sender, rtp(at)))
    packets = {n: seal(sender, rtp(n)) for n in range(65_450, 65_650)}
    order = sorted((n for n in packets if n % 7), key=lambda n: n + 3 * (n % 2))
    assert any(a > 0xFFFF >= b for a, b in itertools.pairwise(order)), "none came late across it"
    for n in order:
        assert unseal(receiver, packets[n]) == rtp(n)
    assert len(order) > 150


# ---------------------------------------------------------------- copies and forgeries


@pytest.mark.rfc("3711", "3.3.2")
@every_way
def test_nothing_is_heard_twice_nor_too_late(suite: str, sends: bool, hears: bool) -> None:
    sender, receiver = pair(keys(suite), sends, hears)
    packets = [seal(sender, rtp(n)) for n in range(2 * WINDOW)]
    reports = [seal(sender, REPORT, rtcp=True) for _ in range(3)]
    assert unseal(receiver, packets[-1]) == rtp(2 * WINDOW - 1)
    for n in (2 * WINDOW - 2, WINDOW):
        assert unseal(receiver, packets[n]) == rtp(n)
        assert unseal(receiver, packets[n]) == REPLAYED
    for n in (WINDOW - 1, 0):
        assert unseal(receiver, packets[n]) == REPLAYED
    for report in (reports[2], reports[0]):
        assert unseal(receiver, report, rtcp=True) == REPORT
        assert unseal(receiver, report, rtcp=True) == REPLAYED


@every_way
@pytest.mark.parametrize("rtcp", [False, True], ids=["rtp", "rtcp"])
def test_what_was_changed_anywhere_is_forged(
    suite: str, sends: bool, hears: bool, rtcp: bool
) -> None:
    sender, receiver = pair(keys(suite), sends, hears)
    sealed = seal(sender, REPORT if rtcp else rtp(5), rtcp=rtcp)
    for at in range(len(sealed)):
        changed = bytearray(sealed)
        changed[at] ^= 0x10
        assert unseal(receiver, bytes(changed), rtcp=rtcp) == FORGED, at
    for length in range(len(sealed)):
        assert unseal(receiver, sealed[:length], rtcp=rtcp) == FORGED, length
    assert unseal(receiver, sealed, rtcp=rtcp) == (REPORT if rtcp else rtp(5))


@pytest.mark.parametrize("hears", BOTH)
def test_what_is_not_protected_is_forged(hears: bool) -> None:
    _, receiver = pair(keys(), hears=hears)
    assert unseal(receiver, rtp(1)) == FORGED
    assert unseal(receiver, REPORT, rtcp=True) == FORGED


def test_without_keys_nothing_gets_through() -> None:
    sender, receiver = Outbound(), Inbound()
    assert seal(sender, rtp(1)) == b""
    assert seal(sender, REPORT, rtcp=True) == b""
    assert unseal(receiver, rtp(1)) == FORGED
    sender, receiver = pair(keys())
    sealed = seal(sender, rtp(1))
    sender.rekey(None)
    receiver.rekey(None, 0.0)
    assert seal(sender, rtp(2)) == b""
    assert unseal(receiver, sealed) == FORGED


RECEIVERS = [
    pair(keys(suite, mki=mki), hears=hears)[1]
    for suite, _, hears in EVERY_WAY
    for mki in (b"", b"\0\0")
]


@examples(300)
@given(st.binary(max_size=120), st.booleans(), st.sampled_from([0x80, 0x90, 0x9F, 0xB1]))
def test_any_octets_are_dropped_and_never_raise(rest: bytes, rtcp: bool, first: int) -> None:
    for packet in (rest, bytes([first]) + rest, bytes([first, 0x48, 0x65]) + rest):
        for receiver in RECEIVERS:
            assert unseal(receiver, packet, rtcp=rtcp) in (FORGED, REPLAYED)


@pytest.mark.parametrize("sends", BOTH)
@pytest.mark.parametrize("packet", [b"", b"\x80", bytes(12), b"\x9f" + bytes(20)])
def test_what_is_no_packet_is_not_sent(sends: bool, packet: bytes) -> None:
    sender, _ = pair(keys(), sends)
    if len(packet) > 20 or not sends:
        assert seal(sender, packet) == b""
    else:
        assert len(seal(sender, packet)) in (0, 22)


@pytest.mark.parametrize("hears", BOTH)
def test_a_key_is_good_for_so_many_sources(hears: bool) -> None:
    sender, receiver = pair(keys(), hears=hears)
    for ssrc in range(1, MAX_SOURCES + 1):
        assert unseal(receiver, seal(sender, rtp(1, ssrc))) == rtp(1, ssrc)
    assert unseal(receiver, seal(sender, rtp(1, 7000))) == FORGED
    assert unseal(receiver, seal(sender, rtp(2, 5))) == rtp(2, 5)


@pytest.mark.rfc("3711", "9.2")
def test_a_key_that_is_used_up_is_not_used_on() -> None:
    from voip.rtp.srtp.own import OwnReceiver, OwnSender

    one = keys()
    last = INDEX_LIMIT - 1
    sender = OwnSender(one, {0x1234: last - 1}, {0x1234: RTCP_INDEX_LIMIT - 1})
    receiver = OwnReceiver(one, {0x1234: last - 1})
    room = memoryview(bytearray(rtp(last) + bytes(ROOM_BYTES)))
    length = sender.protect(room, 172)
    assert length == 182
    assert receiver.unprotect(room, length) == 172
    room[:172] = rtp(last + 1)
    assert sender.protect(room, 172) == REFUSED
    room[: len(REPORT)] = REPORT
    assert sender.protect_rtcp(room, len(REPORT)) > 0
    assert sender.protect_rtcp(room, len(REPORT)) == REFUSED


# ---------------------------------------------------------------- other keys, other sources


@pytest.mark.rfc("3711", "3.3.1")
@every_way
def test_indexes_go_on_under_a_new_key(suite: str, sends: bool, hears: bool) -> None:
    sender, receiver = pair(keys(suite), sends, hears)
    for sequence in range(0, 5 << 15, 0x3FFF):  # the rollover counter is 2
        unseal(receiver, seal(sender, rtp(sequence)))
    for _ in range(5):
        unseal(receiver, seal(sender, REPORT, rtcp=True), rtcp=True)
    for seed in (2, 3):
        sender.rekey(keys(suite, seed))
        receiver.rekey(keys(suite, seed), 1.0)
        for ahead in (1, 2, 10, 8, 30_000, 60_000):
            packet = rtp(sequence + ahead)
            assert unseal(receiver, seal(sender, packet), 1.0) == packet
        sequence += 60_000
        report = seal(sender, REPORT, rtcp=True)
        assert unseal(receiver, report, 1.0, rtcp=True) == REPORT
        tag = suite_of(suite).rtcp_tag_after_mki
        number = struct.unpack(">I", report[len(report) - tag - 4 : len(report) - tag])[0]
        assert number & 0x7FFFFFFF >= 5, "the index of RTCP began anew"


@pytest.mark.parametrize("sends", BOTH)
def test_a_peer_far_ahead_does_not_keep_us_busy_when_keys_change(sends: bool) -> None:
    """A hostile peer, who has keys, may say anything of its indexes."""
    from voip.rtp.srtp.own import OwnSender

    first, second = keys(seed=1), keys(seed=2)
    far = {0x1234: RTCP_INDEX_LIMIT - 9}
    receiver = pair(first, hears=True)[1]
    sender = Outbound(library=sends)
    sender.rekey(first)
    sender.sender = OwnSender(first, {}, far)
    for one in (first, second):
        sender.rekey(one)
        receiver.rekey(one, 0.0)
        sealed = seal(sender, REPORT, rtcp=True)
        assert unseal(receiver, sealed, rtcp=True) == REPORT
        assert unseal(receiver, sealed, rtcp=True) == REPLAYED
    assert isinstance(sender.sender, OwnSender)


@pytest.mark.parametrize("mki", [(b"", b""), (b"\1", b"\2"), (b"", b"\0\2")])
@every_way
def test_old_keys_are_good_for_a_while(
    suite: str, sends: bool, hears: bool, mki: tuple[bytes, bytes]
) -> None:
    old, new = keys(suite, 1, mki[0]), keys(suite, 2, mki[1])
    late, receiver = pair(old, sends, hears)
    renewed, _ = pair(new, sends)
    for n in range(10):
        assert unseal(receiver, seal(late, rtp(n))) == rtp(n)
    receiver.rekey(new, 100.0)
    assert unseal(receiver, seal(late, rtp(10)), 110.0) == rtp(10)  # the peer has not changed yet
    assert unseal(receiver, seal(renewed, rtp(11)), 111.0) == rtp(11)
    assert unseal(receiver, seal(late, rtp(12)), 111.0 + OVERLAP_S - 0.1) == rtp(12)
    assert unseal(receiver, seal(late, rtp(13)), 111.0 + OVERLAP_S) == FORGED
    assert unseal(receiver, seal(renewed, rtp(14)), 120.0) == rtp(14)


def test_old_keys_end_though_the_new_ones_are_never_used() -> None:
    sender, receiver = pair(keys(seed=1))
    receiver.rekey(keys(seed=2), 100.0)
    assert unseal(receiver, seal(sender, rtp(1)), 99.0 + OLD_KEYS_S) == rtp(1)
    assert unseal(receiver, seal(sender, rtp(2)), 100.0 + OLD_KEYS_S) == FORGED


@pytest.mark.parametrize("hears", BOTH)
def test_what_had_come_by_a_key_does_not_come_again_after_two_changes(hears: bool) -> None:
    sender, receiver = pair(keys(seed=1), hears=hears)
    kept = [seal(sender, rtp(n)) for n in range(300)]
    for packet in kept[::2]:
        unseal(receiver, packet)
    receiver.rekey(keys(seed=2), 100.0)
    for seed in (1, 3, 1):
        receiver.rekey(keys(seed=seed), 200.0)
        assert {unseal(receiver, packet, 200.0) for packet in kept[::2]} == {REPLAYED}
    receiver.rekey(None, 200.0)
    receiver.rekey(keys(seed=1), 300.0)
    assert {unseal(receiver, packet, 300.0) for packet in kept[:298]} == {REPLAYED}


@pytest.mark.parametrize("hears", BOTH)
def test_what_came_by_old_keys_after_a_change_does_not_come_again_either(hears: bool) -> None:
    sender, receiver = pair(keys(seed=1), hears=hears)
    unseal(receiver, seal(sender, rtp(1)))
    receiver.rekey(keys(seed=2), 100.0)
    kept = [seal(sender, rtp(n)) for n in range(2, 20)]  # the peer has not changed yet
    reports = [seal(sender, REPORT, rtcp=True) for _ in range(3)]
    assert FORGED not in {unseal(receiver, packet, 101.0) for packet in kept}
    assert [unseal(receiver, one, 101.0, rtcp=True) for one in reports] == [REPORT] * 3
    assert unseal(receiver, rtp(30), 200.0) == FORGED  # when the old keys have run out
    receiver.rekey(keys(seed=3), 201.0)
    receiver.rekey(keys(seed=1), 202.0)
    assert {unseal(receiver, packet, 203.0) for packet in kept} == {REPLAYED}
    assert {unseal(receiver, one, 203.0, rtcp=True) for one in reports} == {REPLAYED}


@every_way
def test_keys_that_come_back_go_on_where_the_others_left_off(
    suite: str, sends: bool, hears: bool
) -> None:
    first, second = keys(suite, 1), keys(suite, 2)
    sender, receiver = pair(first, sends, hears)
    for sequence in (1, 2):
        assert unseal(receiver, seal(sender, rtp(sequence))) == rtp(sequence)
    for one in (sender, receiver):
        one.rekey(second) if one is sender else one.rekey(second, 1.0)
    for sequence in range(3, 70_000, 0x3FFF):  # over a rollover
        assert unseal(receiver, seal(sender, rtp(sequence)), 2.0) == rtp(sequence)
    kept = seal(sender, rtp(sequence + 1))
    sender.rekey(first)
    receiver.rekey(first, 3.0)
    packet = rtp(sequence + 2)
    assert unseal(receiver, seal(sender, packet), 4.0) == packet
    assert unseal(receiver, kept, 4.0) == rtp(sequence + 1)  # it was still on its way


@pytest.mark.parametrize("hears", BOTH)
def test_keys_that_come_back_unused_have_lost_nothing(hears: bool) -> None:
    sender, receiver = pair(keys(seed=1), hears=hears)
    late, packet = seal(sender, rtp(1)), seal(sender, rtp(2))
    unseal(receiver, packet)
    receiver.rekey(keys(seed=2), 1.0)  # which the peer does not accept
    receiver.rekey(keys(seed=1), 2.0)
    assert unseal(receiver, late, 2.0) == rtp(1)
    assert unseal(receiver, packet, 2.0) == REPLAYED


@pytest.mark.rfc("3711", "9.1")
@pytest.mark.parametrize("sends", BOTH)
def test_no_index_is_used_twice_by_a_key(sends: bool) -> None:
    sender, _ = pair(keys(), sends)
    for n in (5, 3, 4, 70, 200):
        assert seal(sender, rtp(n))
    for n in (5, 3, 4, 70, 200, 200 - WINDOW):
        assert seal(sender, rtp(n, payload=b"other")) == b"", n
    sender.rekey(keys(seed=2))
    assert seal(sender, rtp(201))
    sender.rekey(keys(seed=1))
    for n in (200, 201):
        assert seal(sender, rtp(n, payload=b"other")) == b"", n
    assert seal(sender, rtp(202))


@pytest.mark.parametrize("hears", BOTH)
def test_the_same_keys_again_change_nothing(hears: bool) -> None:
    sender, receiver = pair(keys(), hears, hears)
    packet = seal(sender, rtp(1))
    unseal(receiver, packet)
    sender.rekey(keys())
    receiver.rekey(keys(), 1.0)
    assert unseal(receiver, packet, 1.0) == REPLAYED
    assert unseal(receiver, seal(sender, rtp(2)), 1.0) == rtp(2)


@every_way
def test_another_source_begins_anew_and_the_first_one_goes_on(
    suite: str, sends: bool, hears: bool
) -> None:
    sender, receiver = pair(keys(suite), sends, hears)
    for sequence in range(0, 3 << 16, 0x3FFF):
        unseal(receiver, seal(sender, rtp(sequence)))
    other = pair(keys(suite), sends)[0]  # it has restarted, and counts from 0
    for n in (40_000, 40_001):
        assert unseal(receiver, seal(other, rtp(n, 0xBEEF))) == rtp(n, 0xBEEF)
    assert unseal(receiver, seal(sender, rtp(sequence + 5))) == rtp(sequence + 5)


# ---------------------------------------------------------------- header extensions


@pytest.mark.rfc("6904", "3")
@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("two_bytes", [False, True])
def test_chosen_header_extensions_are_encrypted(suite: str, two_bytes: bool) -> None:
    plain = keys(suite)
    one = SrtpKeys(suite, plain.key, plain.salt, encrypted_extensions=frozenset({1, 4}))
    sender, receiver = pair(one)
    if two_bytes:
        extension = b"\x10\x00\x00\x03" + b"\x01\x02ab" + b"\x02\x02cd" + b"\x04\x01e" + b"\0"
    else:
        extension = b"\xbe\xde\x00\x03" + b"\x11ab" + b"\x21cd" + b"\0" + b"\x41ef" + b"\0\0"
    packet = bytes([0x90]) + rtp(3)[1:12] + extension + SPEECH

    sealed = seal(sender, packet)

    changed = {at for at in range(12, 12 + len(extension)) if sealed[at] != packet[at]}
    chosen = {at + 12 for at, octet in enumerate(extension) if octet in b"abef"}
    assert changed and changed <= chosen
    assert unseal(receiver, sealed) == packet


# ---------------------------------------------------------------- keys


def test_keys_are_not_shown() -> None:
    one = SrtpKeys("aes_cm_128_hmac_sha1_80", b"K" * 16, b"S" * 14, b"\1")
    assert one.suite == "AES_CM_128_HMAC_SHA1_80"
    for shown in (repr(one), str(one), f"{one}", repr([one])):
        assert "KK" not in shown and "SS" not in shown and "4b4b" not in shown.lower()


@pytest.mark.parametrize("library", BOTH)
@pytest.mark.parametrize("suite", SUITES)
def test_what_holds_keys_does_not_show_them(suite: str, library: bool) -> None:
    plain = keys(suite)
    chosen = frozenset() if library else frozenset({1})
    one = SrtpKeys(suite, plain.key, plain.salt, b"\1", chosen)
    sender, receiver = pair(one, library, library)
    session = session_keys(one, RTP)
    holders = [one, session, ProtectStream(1, one, one), sender, receiver, *vars(sender).values()]
    holders += [*vars(receiver).values(), *vars(sender.sender).values()]
    secrets = [one.key, one.salt, session.cipher, session.salt, session.authentication]
    for holder in holders:
        shown = f"{holder!r} {holder}"
        for secret in filter(None, secrets):
            assert repr(secret)[2:-1] not in shown and secret.hex() not in shown.lower()
    assert len(holders) > 8


@pytest.mark.parametrize(
    "wrong",
    [
        {"suite": "ROT13"},
        {"key": bytes(15)},
        {"salt": bytes(12)},
        {"mki": bytes(129)},
        {"encrypted_extensions": frozenset({0})},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_keys_that_do_not_fit_are_refused(wrong: dict[str, object]) -> None:
    fine = {"suite": "AES_CM_128_HMAC_SHA1_80", "key": b"K" * 16, "salt": b"S" * 14}
    with pytest.raises(ConfigError) as caught:
        SrtpKeys(**fine | wrong)  # type: ignore[arg-type]
    assert caught.value.hint
    assert "KK" not in str(caught.value)


def test_keys_from_one_string_as_sdp_has_them() -> None:
    assert SrtpKeys.joined("AEAD_AES_256_GCM", bytes(32) + b"S" * 12) == SrtpKeys(
        "AEAD_AES_256_GCM", bytes(32), b"S" * 12
    )
