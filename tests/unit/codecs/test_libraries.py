"""Codecs of other libraries, called in C: to the bit what they are when Python calls them."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from hypotheses import examples
from hypothesis import given
from hypothesis import strategies as st

from voip.codecs import libraries
from voip.codecs.core import Codec, CodecFormat
from voip.codecs.direct import Direct, DirectCodec
from voip.codecs.registry import default_registry
from voip.errors import CodecError

FORMATS = [
    CodecFormat("gsm"),
    CodecFormat("speex", 8000),
    CodecFormat("speex", 16000),
    CodecFormat("speex", 32000),
    CodecFormat("amr", 8000),
    CodecFormat("amr", 8000, 1, "octet-align=1;mode-set=0,2,7"),
    CodecFormat("amr-wb", 16000),
    CodecFormat("amr-wb", 16000, 1, "octet-align=1"),
]
EACH = pytest.mark.parametrize("format_", FORMATS, ids=str)
pytestmark = pytest.mark.skipif(
    not libraries.adapter("gsm_hear"),
    reason="the part in C was not built: there is no compiler here",
)

pointer, number = ctypes.c_void_p, ctypes.c_int
Hear = ctypes.CFUNCTYPE(number, pointer, pointer, ctypes.c_int32, pointer, number, number)
Say = ctypes.CFUNCTYPE(ctypes.c_int32, pointer, pointer, number, pointer, ctypes.c_int32)
Measure = ctypes.CFUNCTYPE(number, pointer, pointer, ctypes.c_int32)


def codec_of(format_: CodecFormat) -> Codec:
    try:
        return default_registry().create(format_)
    except CodecError as error:
        pytest.skip(str(error))


def ways(codec: Codec) -> tuple[Direct, Direct]:
    assert isinstance(codec, DirectCodec)
    decoder, encoder = codec.direct_decoder(), codec.direct_encoder()
    assert decoder is not None and encoder is not None
    return decoder, encoder


def hear(way: Direct, payload: bytes | None, samples: int) -> tuple[int, np.ndarray]:
    sound = np.full(samples, 9, np.float32)
    size = 0 if payload is None else len(payload)
    done = Hear(way.function)(way.state, payload, size, sound.ctypes.data, samples, 0)
    return done, sound


def say(way: Direct, sound: np.ndarray) -> bytes:
    out = np.zeros(way.room, np.uint8)
    size = Say(way.function)(way.state, sound.ctypes.data, sound.size, out.ctypes.data, way.room)
    return out[: max(0, size)].tobytes()


def speech(rng: np.random.Generator, samples: int, turn: int) -> np.ndarray:
    loud = 0.0 if turn % 7 < 2 else 2.0 if turn == 12 else 0.2
    sound = rng.normal(0, loud or 1e-9, samples).astype(np.float32)
    sound[3 + turn % 5] = np.nan if turn % 6 == 5 else 0.5
    return sound


@EACH
def test_both_ways_and_what_is_lost(format_: CodecFormat) -> None:
    rng = np.random.default_rng(1)
    ours, theirs = codec_of(format_), codec_of(format_)
    decoder, encoder = ways(theirs)
    samples = ours.info.frame_samples
    for turn in range(40):
        payload = ours.encode(sound := speech(rng, samples, turn))
        assert say(encoder, sound) == payload
        if turn % 5 == 4 and decoder.conceals:
            wanted, (done, heard) = ours.conceal(samples), hear(decoder, None, samples)
        else:
            wanted, (done, heard) = ours.decode(payload), hear(decoder, payload, samples)
        assert done == samples
        assert np.array_equal(heard, wanted / np.float32(32768))


@EACH
def test_more_frames_in_a_payload(format_: CodecFormat) -> None:
    rng = np.random.default_rng(2)
    ours, theirs = codec_of(format_), codec_of(format_)
    decoder, _ = ways(theirs)
    samples = 3 * ours.info.frame_samples
    payload = ours.encode(speech(rng, samples, 3))
    done, heard = hear(decoder, payload, samples)
    assert done == samples
    assert np.array_equal(heard, ours.decode(payload) / np.float32(32768))
    assert hear(decoder, payload, samples - 1)[0] < 0


@pytest.mark.parametrize("format_", FORMATS[4:], ids=str)
def test_a_mode_that_the_other_side_asks_for_is_sent(format_: CodecFormat) -> None:
    """RFC 4867, section 3.3.2."""
    ours, theirs = codec_of(format_), codec_of(format_)
    decoder, encoder = ways(theirs)
    sound = speech(np.random.default_rng(3), ours.info.frame_samples, 3)
    payload = bytearray(ours.encode(sound))
    assert say(encoder, sound) == payload
    payload[0] = payload[0] & 0xF | 2 << 4
    wanted, (_, heard) = ours.decode(bytes(payload)), hear(decoder, bytes(payload), sound.size)
    assert np.array_equal(heard, wanted / np.float32(32768))
    assert say(encoder, sound) == ours.encode(sound) != payload
    assert len(theirs.encode(sound)) < len(payload)  # by Python, too


@EACH
@examples(150)
@given(st.data())
def test_any_octets_are_as_long_as_python_finds(format_: CodecFormat, data: st.DataObject) -> None:
    codec = codec_of(format_)
    decoder, _ = ways(codec)
    whole = codec.encode(np.zeros(codec.info.frame_samples, np.int16))
    octets = data.draw(
        st.one_of(
            st.binary(max_size=130),
            st.integers(0, len(whole)).map(lambda size: whole[:size]),
            st.tuples(st.integers(1, 14), st.binary(max_size=3)).map(lambda n: whole * n[0] + n[1]),
            st.binary(max_size=90).map(lambda rest: whole[:1] + rest),
        )
    )
    try:
        samples = codec.samples(np.frombuffer(octets, np.uint8))
    except CodecError:
        samples = 0
    assert Measure(decoder.measure)(decoder.state, octets, len(octets)) == samples
    if samples:  # whatever it is, it is decoded, and as Python does it
        other = codec_of(format_)
        done, heard = hear(decoder, octets, samples)
        assert done == samples
        assert np.array_equal(heard, other.decode(octets) / np.float32(32768))
