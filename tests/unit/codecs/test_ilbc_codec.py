"""iLBC as a codec of one stream: whole frames, its two modes, and what it refuses."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypotheses import examples
from hypothesis import given
from hypothesis import strategies as st

from voip.codecs.core import Codec, CodecFormat
from voip.codecs.ilbc.codec import ILBC_20, ILBC_30, ilbc_codec, mode_of
from voip.codecs.ilbc.mode import MODE_20, MODE_30, MODES, Mode
from voip.codecs.registry import default_registry
from voip.errors import CodecError

pytestmark = pytest.mark.rfc("3952", "3")

EVERY_MODE = pytest.mark.parametrize("mode", MODES.values(), ids=lambda mode: f"{mode.frame_ms}ms")


def noise(samples: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 4000, samples).astype(np.int16)


@pytest.mark.parametrize(
    ("fmtp", "mode"),
    [
        ("", MODE_30),
        ("mode=20", MODE_20),
        ("mode=30", MODE_30),
        ("mode=0", MODE_30),
        ("MODE = 20 ", MODE_20),
        ("maxptime=60;mode=20", MODE_20),
        ("mode=20; x=1", MODE_20),
        ("demode=20", MODE_30),
    ],
)
def test_the_mode_is_said_by_the_parameters(fmtp: str, mode: Mode) -> None:
    assert mode_of(fmtp) is mode
    info = default_registry().create(CodecFormat("iLBC", fmtp=fmtp)).info
    assert info is {20: ILBC_20, 30: ILBC_30}[mode.frame_ms]


@pytest.mark.parametrize("fmtp", ["mode=25", "mode=", "mode=200"])
def test_another_mode_is_refused(fmtp: str) -> None:
    with pytest.raises(CodecError, match="iLBC has no mode"):
        default_registry().create(CodecFormat("ilbc", fmtp=fmtp))


def test_the_modes_are_what_rfc_3951_says() -> None:
    assert (ILBC_20.bit_rate, ILBC_20.frame_samples, ILBC_20.ptime_ms) == (15200, 160, 20)
    assert (ILBC_30.bit_rate, ILBC_30.frame_samples, ILBC_30.ptime_ms) == (13333, 240, 30)
    assert (ILBC_20.algorithmic_delay_ms, ILBC_30.algorithmic_delay_ms) == (25.0, 40.0)
    assert default_registry().info(CodecFormat("ilbc")) is ILBC_30


@EVERY_MODE
def test_a_packet_of_frames_is_its_frames(mode: Mode) -> None:
    pcm = noise(3 * mode.samples)
    packet = ilbc_codec(mode).encode(pcm)
    single = ilbc_codec(mode)
    frames = [single.encode(frame) for frame in pcm.reshape(3, -1)]
    assert packet == b"".join(frames)
    assert len(packet) == 3 * mode.octets
    heard = ilbc_codec(mode).decode(packet)
    one_by_one = ilbc_codec(mode)
    np.testing.assert_array_equal(
        heard, np.concatenate([one_by_one.decode(frame) for frame in frames])
    )


@EVERY_MODE
def test_into_a_buffer_is_the_same_and_keeps_nothing(mode: Mode) -> None:
    copying, writing = ilbc_codec(mode), ilbc_codec(mode)
    payload, sound = np.zeros(mode.octets, np.uint8), np.zeros(mode.samples, np.int16)
    frames = noise(50 * mode.samples).reshape(50, -1)
    for frame in frames:
        expected = copying.encode(frame)
        assert writing.encode_into(frame, payload) == mode.octets
        assert payload.tobytes() == expected
        heard = copying.decode(expected)
        assert writing.decode_into(payload, sound) == mode.samples
        np.testing.assert_array_equal(sound, heard)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for frame in frames:
            writing.encode_into(frame, payload)
            writing.decode_into(payload, sound)
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 20_000


@EVERY_MODE
def test_what_is_lost_is_concealed_and_what_is_marked_as_empty(mode: Mode) -> None:
    codec, other = ilbc_codec(mode), ilbc_codec(mode)
    payload = codec.encode(noise(4 * mode.samples))
    np.testing.assert_array_equal(codec.decode(payload), other.decode(payload))
    empty = bytes(mode.octets - 1) + b"\x01"
    concealed = codec.conceal(mode.samples)
    np.testing.assert_array_equal(concealed, other.decode(empty))
    assert np.abs(concealed).max() > 500
    assert codec.conceal(0).shape == (0,)
    assert codec.conceal(mode.samples + 1).shape == (mode.samples + 1,)


@EVERY_MODE
def test_reset_forgets_both_directions(mode: Mode) -> None:
    codec = ilbc_codec(mode)
    pcm = noise(5 * mode.samples)
    first = codec.encode(pcm)
    heard = codec.decode(first)
    assert codec.encode(pcm) != first
    codec.reset()
    assert codec.encode(pcm) == first
    np.testing.assert_array_equal(codec.decode(first), heard)


@EVERY_MODE
def test_refusals_leave_the_codec_as_it_was(mode: Mode) -> None:
    codec, other = ilbc_codec(mode), ilbc_codec(mode)
    pcm = noise(2 * mode.samples)
    octets, room = np.zeros(200, np.uint8), np.zeros(1000, np.int16)
    with pytest.raises(CodecError, match=f"frames of {mode.samples} samples, and 100 is no"):
        codec.encode(pcm[:100])
    with pytest.raises(CodecError, match="ilbc encodes int16"):
        codec.encode(pcm.astype(np.float64))
    with pytest.raises(CodecError, match="ilbc encodes int16"):
        codec.encode(pcm.reshape(2, -1))
    with pytest.raises(CodecError, match="there is 10"):
        codec.encode_into(pcm, octets[:10])
    with pytest.raises(CodecError, match=f"frames of {mode.octets} octets, and 10 is no"):
        codec.decode(bytes(10))
    with pytest.raises(CodecError, match="ilbc decodes uint8"):
        codec.decode_into(octets[: mode.octets].astype(np.int8), room)
    with pytest.raises(CodecError, match="there is 10"):
        codec.decode_into(octets[: mode.octets], room[:10])
    payload = codec.encode(pcm)
    assert payload == other.encode(pcm)
    np.testing.assert_array_equal(codec.decode(payload), other.decode(payload))


@examples(80)
@given(payload=st.binary(max_size=260), mode=st.sampled_from(list(MODES.values())))
def test_any_payload_is_sound_of_its_length_or_refused(payload: bytes, mode: Mode) -> None:
    codec: Codec = ilbc_codec(mode)
    if len(payload) % mode.octets:
        with pytest.raises(CodecError):
            codec.decode(payload)
    else:
        sound = codec.decode(payload)
        assert (sound.dtype, sound.size) == (
            np.int16,
            len(payload) // mode.octets * mode.samples,
        )
