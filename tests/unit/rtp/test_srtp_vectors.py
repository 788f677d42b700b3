"""Secure RTP by the numbers printed in RFC 3711, 6188, 6904 and 7714.

AES-f8 (RFC 3711, B.1) is not among them: no crypto suite of SDP that is in use has it.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import srtp_vectors as vectors

from voip.rtp.srtp.derivation import SessionKeys, derive
from voip.rtp.srtp.extensions import encryption_mask
from voip.rtp.srtp.keys import ROOM_BYTES
from voip.rtp.srtp.transforms import Aead, Keystream


def room(packet: bytes) -> memoryview:
    return memoryview(bytearray(packet + bytes(ROOM_BYTES)))


@pytest.mark.rfc("3711", "4.1.1")
@pytest.mark.parametrize(
    ("key", "stream"),
    [(vectors.STREAM_KEY, vectors.STREAM), (vectors.STREAM_KEY_256, vectors.STREAM_256)],
    ids=["RFC 3711 B.2", "RFC 6188 7.1"],
)
def test_keystream_of_counter_mode(key: bytes, stream: dict[int, bytes]) -> None:
    blank = memoryview(bytearray(16 * 65282))

    Keystream(SessionKeys(key, vectors.SALT)).apply(blank, 0, 0)

    assert len(blank) == 1044512
    for block, expected in stream.items():
        assert blank[16 * block : 16 * block + len(expected)] == expected


@pytest.mark.rfc("3711", "4.3")
@pytest.mark.parametrize(
    ("master", "derived"),
    [(vectors.MASTER, vectors.DERIVED), (vectors.MASTER_256, vectors.DERIVED_256)],
    ids=["RFC 3711 B.3 and 6904 A.1", "RFC 6188 7.2"],
)
def test_key_derivation(master: tuple[bytes, bytes], derived: dict[int, bytes]) -> None:
    for label, expected in derived.items():
        assert derive(*master, label, len(expected)) == expected


@pytest.mark.rfc("6904", "3.1")
def test_RFC_6904_A2_header_extension() -> None:
    mask = encryption_mask(0xBEDE, vectors.EXTENSION, {1, 3, 4})
    assert mask == vectors.EXTENSION_MASK

    stream = memoryview(bytearray(len(mask)))
    Keystream(SessionKeys(vectors.DERIVED[6], vectors.DERIVED[7])).apply(stream, 0xCAFEBABE, 0x1234)

    sealed = bytes(
        octet ^ key & chosen
        for octet, key, chosen in zip(vectors.EXTENSION, stream, mask, strict=True)
    )
    assert sealed == vectors.EXTENSION_SEALED


GCM = [
    (
        vectors.GCM_KEY_128,
        vectors.GCM_SEALED_128,
        vectors.GCM_TAG_128,
        vectors.GCM_REPORT_SEALED_128,
        vectors.GCM_REPORT_TAGGED_128,
    ),
    (
        vectors.GCM_KEY_256,
        vectors.GCM_SEALED_256,
        vectors.GCM_TAG_256,
        vectors.GCM_REPORT_SEALED_256,
        vectors.GCM_REPORT_TAGGED_256,
    ),
]


@pytest.mark.rfc("7714", "8")
@pytest.mark.parametrize("of", GCM, ids=["128", "256"])
def test_RFC_7714_16_rtp(of: tuple[bytes, ...]) -> None:
    key, sealed, tag, _, _ = of
    aead = Aead(SessionKeys(key, vectors.GCM_SALT))
    packet, whole = room(vectors.GCM_PACKET), len(vectors.GCM_PACKET)
    at = (0x5501A0B2, 0xF17B)

    length = aead.seal(packet, 12, whole, *at)
    assert packet[:length] == sealed
    assert aead.open(packet, 12, length, *at) == whole
    assert packet[:whole] == vectors.GCM_PACKET

    length = aead.seal(packet, whole, whole, *at)  # only authenticated
    assert packet[:length] == vectors.GCM_PACKET + tag
    assert aead.open(packet, whole, length, *at) == whole


@pytest.mark.rfc("7714", "9")
@pytest.mark.parametrize("of", GCM, ids=["128", "256"])
def test_RFC_7714_17_rtcp(of: tuple[bytes, ...]) -> None:
    key, _, _, sealed, tagged = of
    aead = Aead(SessionKeys(key, vectors.GCM_SALT))
    whole, index = len(vectors.GCM_REPORT), vectors.GCM_REPORT_INDEX

    for expected, encrypted in ((sealed, True), (tagged, False)):
        packet = room(vectors.GCM_REPORT)
        length = aead.seal_rtcp(packet, whole, 0x4D617273, index, encrypted=encrypted)
        assert packet[:length] == expected
        word = int.from_bytes(expected[-4:], "big")
        assert aead.open_rtcp(packet, length, 0x4D617273, word) == whole
        assert packet[:whole] == vectors.GCM_REPORT


@pytest.mark.reference
def test_these_numbers_stand_in_the_RFCs(reference_data: Path) -> None:
    files = [*(reference_data / "srtp-vectors").glob("rfc*.txt")]
    files.append(reference_data / "rfc-text" / "rfc6188.txt")
    words = {
        word.lower()
        for file in files
        for word in re.findall(r"\b[0-9a-fA-F]{8,}\b", file.read_text(errors="replace"))
    }
    packets = {name: value for name, value in vars(vectors).items() if "GCM_" in name}
    looked_for = 0
    for name, value in packets.items():
        if isinstance(value, bytes) and "KEY" not in name and "SALT" not in name:
            whole = value[: len(value) - len(value) % 4]
            for at in range(0, len(whole), 4):
                assert whole[at : at + 4].hex() in words, (name, at)
                looked_for += 1
    blocks = [*vectors.STREAM.values(), *vectors.STREAM_256.values()]
    blocks += [*vectors.DERIVED.values(), vectors.EXTENSION_SEALED, vectors.EXTENSION]
    for value in blocks:
        for at in range(0, len(value), 16):
            assert value[at : at + 16].hex() in words, value.hex()
            looked_for += 1
    assert looked_for > 150, looked_for
