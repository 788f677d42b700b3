"""GSM and Speex by their libraries, with FFmpeg as the judge, and payloads that are none."""

from __future__ import annotations

import ctypes
from contextlib import suppress

import numpy as np
import numpy.typing as npt
import pytest
from hypotheses import examples
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from media_library import decoded_by_ffmpeg, speech

from voip.codecs import libraries
from voip.codecs.coder import ArrayCodec
from voip.codecs.core import CodecFormat, Ways
from voip.codecs.gsm import gsm_codec
from voip.codecs.registry import default_registry
from voip.codecs.speex import MAX_FRAMES, SPEEX, count_frames, speex_codec
from voip.errors import CodecError

Pcm = npt.NDArray[np.int16]
RATES = [info.sample_rate for info in SPEEX]
HOSTILE = examples(150, suppress_health_check=[HealthCheck.function_scoped_fixture])


def frames_of_speech(rate_hz: int) -> Pcm:
    samples, size = speech(rate_hz), rate_hz // 50
    return samples[: samples.size // size * size].reshape(-1, size)


@pytest.fixture(name="gsm")
def gsm_fixture(missing) -> ArrayCodec:
    try:
        return gsm_codec()
    except CodecError as error:
        missing(str(error))


@pytest.fixture(name="speex")
def speex_fixture(missing):
    try:
        speex_codec()
    except CodecError as error:
        missing(str(error))
    return speex_codec


# ---------------------------------------------------------------- GSM


@pytest.mark.rfc("3551", "4.5.8")
def test_ffmpeg_hears_gsm_as_we_do_to_the_bit(gsm: ArrayCodec, missing) -> None:
    payloads = [gsm.encode(frame) for frame in frames_of_speech(8000)]
    assert {len(payload) for payload in payloads} == {33}
    theirs = decoded_by_ffmpeg("gsm", payloads, missing, sample_rate=8000)
    np.testing.assert_array_equal(gsm.decode(b"".join(payloads)), theirs)
    likeness = np.corrcoef(theirs, frames_of_speech(8000).ravel())[0, 1]
    assert likeness > 0.9


def test_gsm_is_refused_where_it_is_none(gsm: ArrayCodec) -> None:
    good = gsm.encode(np.zeros(320, np.int16))
    for payload in (good[:-1], b"\x00" + good[1:], good[:33] + b"\xc0" + good[34:]):
        with pytest.raises(CodecError, match="GSM"):
            gsm.decode(payload)
    with pytest.raises(CodecError, match="GSM has frames of 160 samples"):
        gsm.encode(np.zeros(161, np.int16))


@HOSTILE
@given(bits=st.binary(min_size=33, max_size=33))
def test_any_gsm_frame_is_sound(gsm: ArrayCodec, bits: bytes) -> None:
    assert gsm.decode(bytes([0xD0 | bits[0] & 15]) + bits[1:]).size == 160


# ---------------------------------------------------------------- Speex


@pytest.mark.parametrize(("rate_hz", "likeness"), [(8000, 0.999), (16000, 0.95)])
def test_ffmpeg_hears_speex_as_we_do(speex, missing, rate_hz: int, likeness: float) -> None:
    codec = speex(rate_hz)
    payloads = [codec.encode(frame) for frame in frames_of_speech(rate_hz)]
    ours = np.concatenate([codec.decode(payload) for payload in payloads])
    theirs = decoded_by_ffmpeg("speex", payloads, missing, sample_rate=rate_hz)
    assert theirs.size == ours.size
    assert np.corrcoef(ours, theirs)[0, 1] > likeness


@pytest.mark.parametrize("rate_hz", RATES)
def test_speech_goes_through_speex_as_late_as_is_said(speex, rate_hz: int) -> None:
    codec = speex(rate_hz)
    sound = frames_of_speech(rate_hz)
    heard = np.concatenate([codec.decode(codec.encode(frame)) for frame in sound]).astype(float)
    lag = round((codec.info.algorithmic_delay_ms - 20) * rate_hz / 1000)
    before = sound.ravel()[: heard.size - 2000].astype(float)
    likeness = [
        np.corrcoef(before, heard[d : d + before.size])[0, 1] for d in range(lag - 30, lag + 31)
    ]
    assert abs(int(np.argmax(likeness)) - 30) <= 1
    assert max(likeness) > 0.65


def test_quality_is_bits(speex) -> None:
    sound = frames_of_speech(8000)[:50]
    sizes = [len(speex(8000, quality).encode(sound[9])) for quality in (1, 4, 8, 10)]
    assert sizes == sorted(set(sizes))
    rates = [speex(8000, quality).info.bit_rate for quality in (1, 4, 8, 10)]
    assert rates == [3950, 8000, 15000, 24600]
    for arguments in ((11025,), (8000, 11), (8000, -1)):
        with pytest.raises(CodecError, match="Speex has no"):
            speex_codec(*arguments)


def test_what_is_lost_is_concealed(speex) -> None:
    codec = speex(8000)
    for frame in frames_of_speech(8000)[:40]:
        codec.decode(codec.encode(frame))
    levels = [float(np.abs(codec.conceal(160).astype(float)).max()) for _ in range(20)]
    assert levels[0] > 300
    assert levels[-1] < levels[0] / 4
    assert codec.conceal(250).size == 250


@pytest.mark.parametrize("rate_hz", RATES)
def test_frames_are_counted_before_the_library_is_asked(speex, rate_hz: int) -> None:
    layers = RATES.index(rate_hz)
    codec = speex(rate_hz)
    sound = frames_of_speech(rate_hz)
    for count in (1, 2, 3, MAX_FRAMES):
        for quality in range(11):
            payload = speex(rate_hz, quality).encode(sound[20 : 20 + count].ravel())
            assert count_frames(payload, layers) == count
            assert codec.decode(payload).size == count * rate_hz // 50
    with pytest.raises(CodecError, match="takes 1 to 10 frames"):
        codec.encode(np.zeros(11 * rate_hz // 50, np.int16))


def bits(text: str) -> bytes:
    text = text.replace(" ", "")
    text += "0" + "1" * (-len(text) % 8 - 1) if len(text) % 8 else ""
    return int(text, 2).to_bytes(len(text) // 8, "big")


SILENT = "0 0000"
"""A frame of the narrow band without bits of its own."""


@pytest.mark.parametrize(
    ("payload", "layers", "frames"),
    [
        (bits(SILENT), 0, 1),
        (bits(SILENT * 3 + "0 1111"), 0, 3),
        (bits(SILENT + "1 000" + SILENT + "1 000"), 1, 2),
        (bits(SILENT + "1 000 1 000"), 2, 1),
        (bits(SILENT + "110"), 0, 1),
        (bits("0 0001" + "0" * 38 + SILENT + "0 0001" + "0" * 38 + "1 000" + "0"), 1, 3),
        (bits("0 0001" + "0" * 38 + SILENT * 5 + "1 000"), 2, 6),
        (bits("0 1110 0010 1010" + SILENT), 0, 1),  # a request in band, of 4 bits
        (bits("0 1101 0001 00000 10101010" + SILENT), 0, 1),  # a user's message of one octet
    ],
)
def test_frames_layers_and_messages_are_told_apart(
    speex, payload: bytes, layers: int, frames: int
) -> None:
    assert count_frames(payload, layers) == frames
    assert speex(RATES[layers]).decode(payload).size == frames * RATES[layers] // 50


@pytest.mark.parametrize(
    ("payload", "layers", "why"),
    [
        (b"", 0, "1 to 1500 octets"),
        (bytes(1501), 0, "1 to 1500 octets"),
        (bits("0 1111"), 0, "not 0"),
        (bits("0 0101 1"), 0, "ends within a frame"),
        (bits("0 1001"), 0, "no mode 9"),
        (bits(SILENT + "1 000"), 0, "more than 0 layers"),
        (bits("1 000" + SILENT), 1, "nothing below"),
        (bits(SILENT + "1 111 0000"), 1, "no layer of mode 7"),
        (bits(SILENT + "1 001" + "0" * 32 + "1 010" + "0" * 200), 2, "no layer of mode 2"),
        (bits(SILENT + "0 1110 0000 1" + "1 000"), 1, "nothing below"),
        (bits(SILENT + "110"), 1, "ends within a frame"),
        (bits(SILENT * 11), 0, "not 11"),
    ],
)
def test_malformed_speex_is_refused(payload: bytes, layers: int, why: str) -> None:
    with pytest.raises(CodecError, match=why):
        count_frames(payload, layers)


@HOSTILE
@given(
    layers=st.integers(0, 2),
    quality=st.integers(0, 10),
    at=st.lists(st.integers(0, 2**16), max_size=40),
)
def test_damaged_speex_is_sound_or_refused_and_the_library_finds_nothing(
    speex, capfd, layers: int, quality: int, at: list[int]
) -> None:
    codec = speex(RATES[layers], quality)
    payload = bytearray(codec.encode(frames_of_speech(RATES[layers])[30]))
    for place in at:
        payload[place // 8 % len(payload)] ^= 1 << place % 8
    with suppress(CodecError):
        assert codec.decode(bytes(payload)).size % (RATES[layers] // 50) == 0
    assert codec.conceal(160).size == 160
    assert capfd.readouterr().err == "", "it would complain"


# ---------------------------------------------------------------- libraries


def test_a_machine_without_them_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(path: str) -> ctypes.PyDLL:
        raise OSError(path)

    monkeypatch.setattr(libraries.ctypes, "PyDLL", nothing)
    libraries.library.cache_clear()
    registry = default_registry()
    for format_, package in (
        (CodecFormat("gsm"), "libgsm1"),
        (CodecFormat("speex", 16000), "libspeex1"),
        (CodecFormat("amr"), "libopencore-amrnb0"),
        (CodecFormat("amr-wb", 16000), "libopencore-amrwb0"),
    ):
        with pytest.raises(CodecError, match="on this machine") as caught:
            registry.create(format_)
        assert package in caught.value.hint
        assert registry.ways(format_) is Ways.NONE
    offered = {info.name for info in registry.offered()}
    assert offered >= {"pcmu", "pcma", "g722", "ilbc", "l16"}
    assert not offered & {"gsm", "speex", "amr", "amr-wb", "g729"}
    libraries.library.cache_clear()
