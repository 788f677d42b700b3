"""What every codec of the registry can do, and what no payload and no array makes of it."""

from __future__ import annotations

import sys
import tracemalloc
from functools import cache

import numpy as np
import numpy.typing as npt
import pytest
from hypotheses import examples
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from media_library import speech

from voip.codecs.core import Codec, CodecFormat
from voip.codecs.red import RedCodec
from voip.codecs.registry import default_registry
from voip.errors import CodecError

FORMATS = [info.format for info in default_registry() if info.name != "g729"]  # no encoder
OTHER_MODES = [
    CodecFormat("ilbc", fmtp="mode=20"),
    CodecFormat("opus", 48000, 2, "stereo=1"),
    CodecFormat("amr", fmtp="octet-align=1"),
]
EVERY_CODEC = pytest.mark.parametrize(
    "format_", [*FORMATS, *OTHER_MODES, CodecFormat("red")], ids=lambda f: f"{f} {f.fmtp}".strip()
)
EXACT_SIZE = {"pcmu", "pcma", "g722", "ilbc", "l16", "gsm"}
"""Payloads of the bit rate, neither more nor less."""
MOST_FRAMES = {"opus": 0, "speex": 10, "amr": 12, "amr-wb": 12}
"""Of a payload; of Opus, which has frames of many sizes, its own tests ask."""
IN_PLACE = {"pcmu", "pcma", "l16", "opus"}
"""Nothing is allocated but what the interpreter needs to call."""
Pcm = npt.NDArray[np.int16]

pytestmark = pytest.mark.usefixtures("library")


@pytest.fixture
def make(missing):
    """Build a codec of a format; RED repeats what µ-law had."""

    def built(format_: CodecFormat) -> Codec:
        if format_.name == "red":
            return RedCodec(built(CodecFormat("pcmu")), 0)
        try:
            return default_registry().create(format_)
        except CodecError as error:
            missing(f"{format_}: {error}")

    return built


@cache
def sound_of(rate_hz: int, channels: int) -> Pcm:
    """What ships; a second channel is half as loud."""
    samples = speech(rate_hz)
    return np.column_stack([samples // (1 + n) for n in range(channels)]).ravel()


def packets(codec: Codec, count: int) -> Pcm:
    """int16 (count, samples): packets of the usual length, of speech, none like another."""
    info = codec.info
    size = info.sample_rate * info.ptime_ms // 1000 * info.pcm_channels
    sound = np.resize(sound_of(info.sample_rate, info.pcm_channels), count * size)
    dither = np.random.default_rng(1).integers(-9, 10, sound.size)
    return np.clip(sound + dither, -32768, 32767).astype(np.int16).reshape(count, size)


@EVERY_CODEC
def test_it_keeps_the_contract(format_: CodecFormat, make) -> None:
    codec = make(format_)
    info = codec.info
    assert isinstance(codec, Codec)
    assert info.format.key == format_.key
    (pcm,) = packets(codec, 1)
    assert pcm.size // info.pcm_channels % info.frame_samples == 0

    payload = codec.encode(pcm)
    decoded = codec.decode(payload)
    assert (decoded.dtype, decoded.shape) == (np.int16, (pcm.size,))
    if info.name in EXACT_SIZE:
        assert len(payload) * 8 * 1000 // info.ptime_ms == info.bit_rate

    codec.reset()
    assert (codec.encode(pcm), codec.info) == (payload, info), "as new"
    codec.reset()
    room, sound = np.zeros(8000, np.uint8), np.zeros(8000, np.int16)
    octets = codec.encode_into(pcm, room)
    assert room[:octets].tobytes() == payload
    assert not room[octets:].any()
    count = codec.decode_into(room[:octets], sound)
    np.testing.assert_array_equal(sound[:count], decoded)
    assert not sound[count:].any()

    assert codec.samples(room[:octets]) == pcm.size
    frames = pcm.size // info.pcm_channels // info.frame_samples
    assert info.packet_frames is None or frames in info.packet_frames
    assert codec.conceal(info.pcm_channels * 123).shape == (info.pcm_channels * 123,)
    assert codec.conceal(0).shape == (0,)


@EVERY_CODEC
def test_float32_is_the_same_sound(format_: CodecFormat, make) -> None:
    whole, fractions = make(format_), make(format_)
    room, other_room = np.zeros(8000, np.uint8), np.zeros(8000, np.uint8)
    sound, other = np.zeros(8000, np.int16), np.zeros(8000, np.float32)
    for pcm in packets(whole, 20):
        octets = whole.encode_into(pcm, room)
        count = fractions.encode_into(pcm / np.float32(32768), other_room)
        if whole.info.name != "opus":  # which listens to float32 a little otherwise
            np.testing.assert_array_equal(room[:octets], other_room[:count])
        count = whole.decode_into(room[:octets], sound)
        assert fractions.decode_into(room[:octets], other) == count == pcm.size
        np.testing.assert_allclose(other[:count] * 32768, sound[:count], atol=0.51)
    if whole.info.name == "opus":
        return
    loud = np.full(pcm.size, 1.5, np.float32)
    loud[::2] = -1e30
    assert np.abs(whole.decode(whole.encode(loud)).astype(int)).max() > 8000, "it saturates"


@EVERY_CODEC
def test_what_is_no_number_is_silence_to_ours(format_: CodecFormat, make) -> None:
    codec, other = make(format_), make(format_)
    (pcm,) = packets(codec, 1)
    strange, silent = pcm / np.float32(32768), pcm / np.float32(32768)
    strange[::3], silent[::3] = np.nan, 0
    payload = codec.encode(strange)
    if codec.info.name == "opus":  # libopus has floating point of its own
        assert codec.decode(payload).size == pcm.size
    else:
        assert payload == other.encode(silent)


@EVERY_CODEC
def test_arrays_that_do_not_fit_are_refused_and_nothing_is_lost(format_: CodecFormat, make) -> None:
    codec, twin = make(format_), make(format_)
    (pcm,) = packets(codec, 1)
    payload = np.frombuffer(twin.encode(pcm), np.uint8)
    twin.reset()
    room, sound = np.zeros(8000, np.uint8), np.zeros(8000, np.int16)
    frozen, frozen_sound = room.view(), sound.view()
    frozen.flags.writeable = frozen_sound.flags.writeable = False
    for given_, out in (
        (pcm, room[: payload.size - 1] if codec.info.name != "opus" else room[:10]),
        (pcm, room.astype(np.int8)),
        (pcm, room[::2]),
        (pcm, frozen),
        (pcm.astype(np.float64), room),
        (pcm.astype(">i2"), room),
        (pcm[None], room),
    ):
        with pytest.raises(CodecError):
            codec.encode_into(given_, out)
    for octets, into in (
        (payload, sound[: pcm.size - 1]),
        (payload, sound.astype(np.float64)),
        (payload, sound[::2]),
        (payload, frozen_sound),
        (payload.astype(np.int8), sound),
        (payload[None], sound),
    ):
        with pytest.raises(CodecError):
            codec.decode_into(octets, into)
    with pytest.raises(CodecError):
        codec.conceal(-1)
    again = codec.encode(pcm)
    assert again == twin.encode(pcm), "as if nothing had been"
    np.testing.assert_array_equal(codec.decode(again), twin.decode(again))


@EVERY_CODEC
@examples(25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_payload_is_sound_or_a_codec_error(format_: CodecFormat, make, data) -> None:
    codec = make(format_)
    (pcm,) = packets(codec, 1)
    usual = len(codec.encode(pcm))
    octets = st.binary(max_size=300) | st.builds(
        lambda seed, size: np.random.default_rng(seed).bytes(size),
        st.integers(0, 2**32),
        st.sampled_from([usual, 2 * usual, 3 * usual]) | st.integers(0, 2000),
    )
    room, fractions = np.empty(60_000, np.int16), np.empty(60_000, np.float32)
    for payload in data.draw(st.lists(octets, max_size=6)):
        try:
            sound = codec.decode(payload)
        except CodecError as error:
            assert error.message
            for ask in (codec.samples, lambda octets: codec.decode_into(octets, room)):
                with pytest.raises(CodecError):
                    ask(np.frombuffer(payload, np.uint8))
            continue
        assert (sound.dtype, sound.ndim) == (np.int16, 1)
        assert sound.size % codec.info.pcm_channels == 0
        array = np.frombuffer(payload, np.uint8)
        assert codec.samples(array) == sound.size
        assert codec.decode_into(array, room) == sound.size
        assert codec.decode_into(array, fractions) == sound.size
        assert np.isfinite(fractions[: sound.size]).all()
    assert codec.conceal(pcm.size).size == pcm.size
    assert codec.decode(codec.encode(pcm)).size == pcm.size


@EVERY_CODEC
@examples(25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(size=st.integers(0, 6000), seed=st.integers(0, 2**32), scale=st.integers(0, 32767))
def test_any_sound_is_a_payload_of_its_length_or_a_codec_error(
    format_: CodecFormat, make, size: int, seed: int, scale: int
) -> None:
    codec = make(format_)
    step = codec.info.frame_samples * codec.info.pcm_channels
    noise = np.random.default_rng(seed).integers(-scale, scale + 1, size).astype(np.int16)
    for pcm in (noise, noise[: size // step * step]):
        try:
            payload = codec.encode(pcm)
        except CodecError as error:
            assert error.message
            frames, rest = divmod(pcm.size, step)
            most = MOST_FRAMES.get(codec.info.name)
            assert rest or (most is not None and not 1 <= frames <= most), "frames are taken"
        else:
            assert codec.decode(payload).size == pcm.size


@pytest.mark.long
@EVERY_CODEC
def test_ten_thousand_frames_are_the_same_copied_or_not(format_: CodecFormat, make) -> None:
    copying, writing = make(format_), make(format_)
    room, sound = np.empty(8000, np.uint8), np.empty(8000, np.int16)
    # Opus has a test of its own for as many, at a lower rate; iLBC takes long.
    count = {"opus": 1000, "ilbc": 2000}.get(format_.name, 10_000)
    for pcm in packets(copying, count):
        payload = copying.encode(pcm)
        octets = writing.encode_into(pcm, room)
        assert payload == room[:octets].tobytes()
        decoded = copying.decode(payload)
        assert writing.decode_into(room[:octets], sound) == decoded.size
        assert decoded.tobytes() == sound[: decoded.size].tobytes()


@pytest.mark.long
@EVERY_CODEC
@pytest.mark.parametrize("kind", [np.int16, np.float32])
def test_nothing_grows_and_where_it_can_be_nothing_is_allocated(
    format_: CodecFormat, make, kind: type
) -> None:
    codec = make(format_)
    in_place = codec.info.name in IN_PLACE - {"opus"}  # whose test takes its largest packets
    frames = packets(codec, 10)
    if in_place:  # payloads larger than what a call itself takes, of what there is room for
        frames = packets(codec, 16_000 // frames.shape[1]).reshape(1, -1)
    sent = [frame if kind is np.int16 else (frame / np.float32(32768)) for frame in frames]
    room, heard = np.empty(240_000, np.uint8), np.empty(120_000, kind)
    size = len(codec.encode(sent[0]))

    def work(times: int) -> None:
        for _ in range(times):
            for pcm in sent:
                octets = codec.encode_into(pcm, room)
                codec.decode_into(room[:octets], heard)

    turns = 1 + (100 if codec.info.name == "ilbc" or in_place else 4000) // len(sent)
    work(20)
    coverage = sys.gettrace()
    sys.settrace(None)  # it notes the lines that have run, in memory
    tracemalloc.start()
    try:
        work(3)
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        work(turns)
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        sys.settrace(coverage)
    assert after - before < 20_000, f"growth in {turns * len(sent)} frames"
    if in_place:
        assert size >= 15_000
        assert peak - before < size, f"{peak - before} octets beside a payload of {size}"
