"""MKIs and encrypted header extensions by libsrtp, which pylibsrtp does not name."""

from __future__ import annotations

import libsrtp_peer
import pytest
from libsrtp_peer import LibsrtpPeer
from test_srtp import BOTH, REPORT, pair, rtp, seal, unseal

from voip.rtp.srtp.context import FORGED
from voip.rtp.srtp.keys import SrtpKeys
from voip.rtp.srtp.suites import SUITES
from voip.types import SeededRandom

pytestmark = pytest.mark.skipif(not libsrtp_peer.is_as_written(), reason="another libsrtp")
every_suite = pytest.mark.parametrize("suite", SUITES)


def keys(suite: str, seed: int, mki: bytes = b"", chosen: frozenset[int] = frozenset()) -> SrtpKeys:
    one = SrtpKeys.generate(suite, SeededRandom(seed), mki)
    return SrtpKeys(suite, one.key, one.salt, mki, chosen)


@pytest.mark.rfc("3711", "8.1")
@pytest.mark.parametrize("ours", BOTH)
@pytest.mark.parametrize("mki", [b"\1", b"\0\0\0\7", b"m" * 128], ids=["1", "4", "128"])
@every_suite
def test_libsrtp_reads_our_MKIs_and_we_read_its(suite: str, mki: bytes, ours: bool) -> None:
    first, second = keys(suite, 1, mki), keys(suite, 2, mki[:-1] + b"\xee")
    peer = LibsrtpPeer(first, second)
    for number, one in enumerate((first, second)):
        sender, receiver = pair(one, ours, ours)
        for n in (1, 2, 7):
            packet = rtp(100 * number + n, ssrc=0x1234 + number)
            assert peer.unseal(seal(sender, packet)) == packet
            sealed = peer.seal(packet, number)
            assert unseal(receiver, sealed) == packet
            assert one.mki in sealed[-len(mki) - 16 :]
        report = REPORT[:4] + (0x1234 + number).to_bytes(4, "big") + REPORT[8:]
        assert peer.unseal(seal(sender, report, rtcp=True), rtcp=True) == report
        assert unseal(receiver, peer.seal(report, number, rtcp=True), rtcp=True) == report
        assert unseal(receiver, peer.seal(rtp(500), 1 - number)) == FORGED  # by the other key
    peer.close()


@pytest.mark.rfc("6904", "3")
@pytest.mark.parametrize("mki", [b"", b"\5\6"], ids=["", "mki"])
@pytest.mark.parametrize("two_bytes", [False, True], ids=["one byte", "two bytes"])
@every_suite
def test_libsrtp_reads_our_extensions_and_we_read_its(
    suite: str, two_bytes: bool, mki: bytes
) -> None:
    """Padding is at the end: libsrtp 2.7 has no keystream for it, as RFC 6904 section 3.1 has."""
    one = keys(suite, 3, mki, frozenset({1, 4}))
    peer = LibsrtpPeer(one)
    sender, receiver = pair(one)
    if two_bytes:
        extension = b"\x10\x00\x00\x03" + b"\x01\x02ab" + b"\x02\x02cd" + b"\x04\x01e" + b"\0"
    else:
        extension = b"\xbe\xde\x00\x03" + b"\x11ab" + b"\x21cd" + b"\x41ef" + b"\0\0\0"
    for n in (3, 4, 70):
        plain = rtp(n)
        packet = bytes([0x90]) + plain[1:12] + extension + plain[12:]
        sealed = seal(sender, packet)
        assert sealed[12:28] != extension
        assert peer.unseal(sealed) == packet
        theirs = peer.seal(packet)
        assert theirs == sealed
        assert unseal(receiver, theirs) == packet
    peer.close()
