"""G.722 in C beside the package G722 and FFmpeg: to the bit, whatever is said or comes."""

from __future__ import annotations

import importlib
from typing import Any

import media_library
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from media_library import decoded_by_ffmpeg, encoded_by_ffmpeg
from test_libraries import hear, say, ways

from voip.codecs import libraries
from voip.codecs.coder import ArrayCodec
from voip.codecs.g722 import g722_codec

pytestmark = pytest.mark.skipif(
    not libraries.adapter("g722_encode"),
    reason="the part in C was not built: there is no compiler here",
)

PATTERNS = "patterns"
RATES = {64000: 0, 56000: 1, 48000: 2}  # bits of each octet that carry no sound
SAMPLES = 64000
Sound = npt.NDArray[np.int16]
Octets = npt.NDArray[np.uint8]


def sounds() -> dict[str, Sound]:
    rng, n = np.random.default_rng(1), np.arange(SAMPLES)
    bursts = rng.normal(0, 1, SAMPLES) * np.exp(rng.normal(0, 3, SAMPLES // 160) + 5).repeat(160)
    found = {
        "silence": np.zeros(SAMPLES),
        "faint": rng.integers(-3, 4, SAMPLES),
        "speech": media_library.speech(16000)[:SAMPLES],
        "loud speech": np.clip(20.0 * media_library.speech(16000)[:SAMPLES], -32768, 32767),
        "bursts": np.clip(bursts, -32768, 32767),
        "noise": rng.integers(-32768, 32768, SAMPLES),
        "full scale": rng.choice([-32768, 32767], SAMPLES),
        "square": np.where(n // 40 % 2, 32767, -32768),
        "square of 1 kHz": np.where(n // 8 % 2, 32767, -32768),
        "half the rate": np.where(n % 2, 32767, -32768),
        "direct current": np.full(SAMPLES, -32768),
    }
    return {name: np.ascontiguousarray(sound, np.int16) for name, sound in found.items()}


def streams() -> dict[str, Octets]:
    rng = np.random.default_rng(2)
    loudest = [0x04, 0x05, 0x20, 0x24, 0x84, 0xA0, 0xC4, 0xE0]
    found = {
        "any": rng.integers(0, 256, 400_000),
        "held": rng.integers(0, 256, 50_000).repeat(8),
        "loudest": rng.choice(loudest, 400_000),
        "one for long": np.array(loudest).repeat(4000),
        "two in turns for long": np.concatenate([np.tile([a, a ^ 0xE0], 2000) for a in loudest]),
        "every pair": np.stack(np.divmod(np.arange(65536), 256), axis=1).ravel(),
    }
    found[PATTERNS] = patterns()
    return {name: stream.astype(np.uint8) for name, stream in found.items()}


def patterns() -> Octets:
    """Return short patterns that go on for a while: SZ and SP get more than 16 bits by these."""
    rng, parts = np.random.default_rng(3), []
    for _ in range(3000):
        period, times = rng.integers(1, 9), rng.integers(1, rng.choice([4, 40, 300]))
        octets = rng.integers(0, 256, period)
        loud = rng.choice([0, 128], period) | rng.choice(
            [4, 5, 8, 20, 32, 33, 36, 40, 52, 60], period
        )
        parts.append(np.tile(loud if rng.random() < 0.6 else octets, times))
    return np.concatenate(parts)


SOUNDS, STREAMS = sounds(), streams()
EACH_RATE = pytest.mark.parametrize("bit_rate", RATES)


class Package:
    """libg722, whose code words are right-aligned."""

    def __init__(self, bit_rate: int) -> None:
        library: Any = importlib.import_module("G722")
        self._native = library.G722(16000, bit_rate, use_numpy=False)
        self._lower = RATES[bit_rate]

    def encode(self, sound: Sound) -> bytes:
        codes = np.frombuffer(self._native.encode(sound), np.uint8)
        return (codes << self._lower).astype(np.uint8).tobytes()

    def decode(self, payload: bytes) -> Sound:
        codes = np.frombuffer(payload, np.uint8) >> self._lower
        return np.frombuffer(self._native.decode(codes.tobytes()), np.int16)


def same(ours: npt.NDArray[Any], theirs: npt.NDArray[Any], count: int) -> None:
    assert ours.size == theirs.size == count > 0
    np.testing.assert_array_equal(ours, theirs)


@EACH_RATE
@pytest.mark.parametrize("name", SOUNDS)
def test_the_package_encodes_and_decodes_the_same(name: str, bit_rate: int) -> None:
    sound, ours, theirs = SOUNDS[name], g722_codec(bit_rate), Package(bit_rate)
    payload = ours.encode(sound)
    same(*(np.frombuffer(one, np.uint8) for one in (payload, theirs.encode(sound))), SAMPLES // 2)
    same(ours.decode(payload), theirs.decode(payload), SAMPLES)


@pytest.mark.parametrize("name", SOUNDS)
def test_ffmpeg_encodes_and_decodes_the_same(name: str, missing: Any) -> None:
    sound, ours = SOUNDS[name], g722_codec()
    payload = ours.encode(sound)
    theirs = encoded_by_ffmpeg("g722", sound, missing, sample_rate=16000)
    same(*(np.frombuffer(one, np.uint8) for one in (payload, theirs)), SAMPLES // 2)
    heard = decoded_by_ffmpeg("g722", payload, missing, sample_rate=16000)
    same(ours.decode(payload), heard, SAMPLES)


@EACH_RATE
@pytest.mark.parametrize("name", STREAMS)
def test_any_octets_are_what_the_package_hears(name: str, bit_rate: int) -> None:
    payload = STREAMS[name].tobytes()
    heard = g722_codec(bit_rate).decode(payload)
    same(heard, Package(bit_rate).decode(payload), 2 * len(payload))


@pytest.mark.parametrize("name", [name for name in STREAMS if name != PATTERNS])
def test_any_octets_are_what_ffmpeg_hears(name: str, missing: Any) -> None:
    """But where SZ or SP has more than 16 bits, which FFmpeg does not limit (G.722, clause 6)."""
    payload = STREAMS[name].tobytes()
    heard = decoded_by_ffmpeg("g722", payload, missing, sample_rate=16000)
    same(g722_codec().decode(payload), heard, 2 * len(payload))


PIECES = st.lists(st.integers(0, 700), min_size=1, max_size=12)
WAYS = st.lists(st.sampled_from(["int16", "float32", "address"]), min_size=12, max_size=12)


@settings(max_examples=60, deadline=None)
@given(PIECES, WAYS, st.sampled_from(list(RATES)), st.integers(0, SAMPLES // 2))
def test_in_pieces_it_is_what_it_is_at_once(
    pieces: list[int], by: list[str], bit_rate: int, begin: int
) -> None:
    """Octets of each packet; nothing of them tells where one ended, nor how it was asked for."""
    sound = SOUNDS["bursts"][begin : begin + 2 * sum(pieces)]
    pieces = np.diff(np.minimum(np.cumsum([0, *pieces]), sound.size // 2)).tolist()
    whole, codec = g722_codec(bit_rate), g722_codec(bit_rate)
    payload = whole.encode(sound)
    heard = whole.decode(payload)
    at = 0
    for size, way in zip(pieces, by, strict=False):
        part, octets = sound[2 * at : 2 * (at + size)], payload[at : at + size]
        encoded, decoded = through(codec, part, octets, way)
        assert encoded == octets
        np.testing.assert_array_equal(decoded, heard[2 * at : 2 * (at + size)])
        at += size
    assert at == len(payload)


def through(codec: ArrayCodec, sound: Sound, payload: bytes, way: str) -> tuple[bytes, Sound]:
    """Encode `sound` and decode `payload`, in one of three ways."""
    floats = sound / np.float32(32768)
    if way == "int16":
        return codec.encode(sound), codec.decode(payload)
    if way == "float32":
        out = np.empty(sound.size, np.float32)
        codec.decode_into(np.frombuffer(payload, np.uint8), out)
        return codec.encode(floats), (out * 32768).astype(np.int16)
    decoder, encoder = ways(codec)
    encoded = b""
    for begin in range(0, floats.size, 320):  # what there is room for
        encoded += say(encoder, np.ascontiguousarray(floats[begin : begin + 320]))
    done, out = hear(decoder, payload, sound.size)
    assert done == sound.size
    return encoded, (out * 32768).astype(np.int16)


def test_sound_that_is_too_loud_or_none_is_what_python_makes_of_it() -> None:
    codec, other = g722_codec(), g722_codec()
    sound = np.random.default_rng(3).normal(0, 1, 320).astype(np.float32)
    sound[::7] = np.nan
    sound[::11] = np.inf
    assert say(ways(codec)[1], sound) == other.encode(sound)


def test_what_does_not_fit_is_refused_and_changes_nothing() -> None:
    codec, other = g722_codec(), g722_codec()
    decoder, encoder = ways(codec)
    sound = np.ones(322, np.float32)
    payload = bytes(range(160))
    assert say(encoder, sound[:321]) == say(encoder, sound) == b"", "odd; no room"
    for size in (0, 1, 159, 161, 318, 319, 321, 322):
        assert hear(decoder, payload, size)[0] == -1
    assert hear(decoder, None, 320)[0] == -1, "nothing is concealed"
    assert hear(decoder, b"", 0)[0] == 0
    assert say(encoder, sound[:0]) == b""
    assert hear(decoder, b"\x55", 2)[0] == 2
    other.decode(b"\x55")
    np.testing.assert_array_equal(other.decode(payload), codec.decode(payload))
    assert other.encode(sound) == codec.encode(sound)


def test_arrays_may_lie_anywhere() -> None:
    sound, codec = SOUNDS["speech"][8000:8320], g722_codec()
    memory = np.zeros(641, np.uint8)
    odd = memory[1:].view(np.int16)
    odd[:] = sound
    payload = g722_codec().encode(sound)
    assert codec.encode(odd) == payload
    assert codec.decode_into(np.frombuffer(payload, np.uint8), odd) == 320
    np.testing.assert_array_equal(odd, g722_codec().decode(payload))
