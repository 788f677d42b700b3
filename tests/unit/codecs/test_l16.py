"""L16: PCM in network byte order, at its rates, for one stream and for many."""

from __future__ import annotations

import numpy as np
import pytest
from media_library import decoded_by_ffmpeg

from voip.codecs import l16
from voip.codecs.core import CodecFormat
from voip.codecs.registry import default_registry
from voip.errors import CodecError

pytestmark = pytest.mark.rfc("3551", "4.5.11")


def test_the_high_octet_comes_first_and_left_before_right() -> None:
    codec = default_registry().create(CodecFormat("L16", 48000, 2))
    assert codec.encode(np.array([0x0102, -2, -32768, 255], np.int16)).hex() == "0102fffe800000ff"
    assert codec.decode(bytes.fromhex("0102fffe")).tolist() == [258, -2]
    assert (codec.info.pcm_channels, codec.info.bit_rate) == (2, 1_536_000)


def test_ffmpeg_reads_it_so(missing) -> None:
    sound = np.random.default_rng(1).integers(-32768, 32768, 4410).astype(np.int16)
    payload = default_registry().create(CodecFormat("l16", 44100)).encode(sound)
    theirs = decoded_by_ffmpeg("pcm_s16be", payload, missing, sample_rate=44100)
    np.testing.assert_array_equal(theirs, sound)


def test_the_static_types_are_of_44100_hz() -> None:
    there = {(info.clock_rate, info.channels): info.static_payload_type for info in l16.L16}
    rates = (8000, 16000, 48000)
    assert there == {(44100, 2): 10, (44100, 1): 11} | {(r, c): None for r in rates for c in (1, 2)}
    for info in l16.L16:
        octets = info.bit_rate // 8000 * info.ptime_ms
        assert octets <= 1440 or info.ptime_ms == 10, "shorter where it would not fit a packet"


def test_many_streams_are_coded_at_once() -> None:
    pcm = np.random.default_rng(2).integers(-32768, 32768, (50, 160)).astype(np.int16)
    payloads = l16.encode(pcm)
    assert (payloads.dtype, payloads.shape) == (np.uint8, (50, 320))
    np.testing.assert_array_equal(payloads, l16.encode(np.repeat(pcm, 2, axis=1)[:, ::2]))
    np.testing.assert_array_equal(l16.decode(payloads), pcm)
    assert payloads[7].tobytes() == default_registry().create(CodecFormat("l16")).encode(pcm[7])
    with pytest.raises(CodecError, match="319 octets"):
        l16.decode(payloads[:, 1:])


@pytest.mark.parametrize("octets", [1, 2, 6])
def test_half_a_sample_of_either_channel_is_refused(octets: int) -> None:
    codec = default_registry().create(CodecFormat("l16", 16000, 2))
    with pytest.raises(CodecError, match="L16 of 2 channels cannot have"):
        codec.decode(bytes(octets))
    with pytest.raises(CodecError, match="cannot have 3 samples"):
        codec.encode(np.zeros(3, np.int16))
