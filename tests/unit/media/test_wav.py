"""WAV files against SciPy's reader and writer, and every way a file can be wrong."""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.io.wavfile
from hypotheses import examples
from hypothesis import given
from hypothesis import strategies as st

from voip.codecs import g711
from voip.codecs.g711 import Law
from voip.dsp.resample import RATES_HZ, resample
from voip.errors import AudioFileError
from voip.media import wav
from voip.media.wav import WavEncoding, WavReader, WavWriter

RNG = np.random.default_rng(99)
PCM = RNG.integers(-32768, 32768, 4000).astype(np.int16)


def file_of(
    data: bytes,
    *,
    tag: int = 1,
    channels: int = 1,
    rate: int = 8000,
    bits: int = 16,
    before: bytes = b"",
    data_size: int | None = None,
    extensible: bool = False,
) -> bytes:
    frame = channels * ((bits + 7) // 8)
    format_ = struct.pack("<HHIIHH", tag, channels, rate, rate * frame, frame, bits)
    if extensible:
        guid = struct.pack("<H", tag) + bytes.fromhex("000000001000800000aa00389b71")
        format_ = struct.pack("<H", 0xFFFE) + format_[2:]
        format_ += struct.pack("<HHI", 22, bits, 4) + guid
    chunks = b"fmt " + struct.pack("<I", len(format_)) + format_ + before
    chunks += b"data" + struct.pack("<I", len(data) if data_size is None else data_size) + data
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def saved(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


# ---------------------------------------------------------------- reading


def as_16_bits(samples: np.ndarray) -> np.ndarray:
    """What SciPy reads, in 16 bits: by the definition of each sample type."""
    if samples.dtype == np.uint8:
        return (samples.astype(np.int16) - 128) * 256
    if samples.dtype == np.int16:
        return samples
    scale = 2.0**-16 if samples.dtype == np.int32 else 2.0**15
    return np.clip(np.rint(samples.astype(np.float64) * scale), -32768, 32767).astype(np.int16)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.float32, np.float64])
def test_what_scipy_writes_is_read(tmp_path: Path, dtype: type) -> None:
    if np.issubdtype(dtype, np.floating):
        samples = RNG.uniform(-1, 1, 3000).astype(dtype)
    else:
        limits = np.iinfo(dtype)
        samples = RNG.integers(limits.min, limits.max, 3000, endpoint=True).astype(dtype)
    scipy.io.wavfile.write(tmp_path / "a.wav", 8000, samples)
    got = wav.read(tmp_path / "a.wav")
    assert got.dtype == np.int16
    # what is wider goes through float32, whose 24 bits can round the other way: one step
    off = np.abs(got.astype(int) - as_16_bits(samples)).max()
    assert off <= (1 if dtype in (np.int32, np.float64) else 0)


@pytest.mark.parametrize("extensible", [False, True])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("bits", [8, 16, 24, 32])
def test_every_width_is_read_as_scipy_reads_it(
    tmp_path: Path, bits: int, channels: int, extensible: bool
) -> None:
    data = RNG.integers(0, 256, bits // 8 * channels * 500, dtype=np.uint8).tobytes()
    path = saved(
        tmp_path / "a.wav", file_of(data, bits=bits, channels=channels, extensible=extensible)
    )
    rate, samples = scipy.io.wavfile.read(path)
    assert (rate, samples.shape[0]) == (8000, 500)
    if channels == 2:
        centred = samples.astype(np.float64) - (128 if bits == 8 else 0)
        full = {8: 2**7, 16: 2**15, 24: 2**31, 32: 2**31}[bits]
        samples = centred.mean(axis=1) / full
    got = wav.read(path)
    assert got.size == 500
    assert np.abs(got.astype(int) - as_16_bits(samples)).max() <= 1


@pytest.mark.parametrize(("law", "tag"), [(Law.ALAW, 6), (Law.ULAW, 7)])
def test_companded_files_are_read(tmp_path: Path, law: Law, tag: int) -> None:
    codes = np.arange(256, dtype=np.uint8)
    path = saved(tmp_path / "a.wav", file_of(codes.tobytes(), tag=tag, bits=8))
    np.testing.assert_array_equal(wav.read(path), g711.decode(codes, law))


def test_float_beyond_full_scale_and_not_a_number_are_harmless(tmp_path: Path) -> None:
    samples = np.array([0.5, 7.0, -7.0, np.inf, -np.inf, np.nan], np.float32)
    path = saved(tmp_path / "a.wav", file_of(samples.tobytes(), tag=3, bits=32))
    assert wav.read(path).tolist() == [16384, 32767, -32768, 32767, -32768, 0]


def test_chunks_before_and_after_the_sound_are_passed_over(tmp_path: Path) -> None:
    odd = b"LIST" + struct.pack("<I", 5) + b"INFO!" + b"\0"
    content = file_of(PCM.tobytes(), before=odd * 3) + odd
    np.testing.assert_array_equal(wav.read(saved(tmp_path / "a.wav", content)), PCM)


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFFFFF, 8002])
def test_a_size_beyond_the_end_of_a_cut_off_file_is_forgiven(tmp_path: Path, size: int) -> None:
    content = file_of(PCM.tobytes() + b"\x07", data_size=size)
    np.testing.assert_array_equal(wav.read(saved(tmp_path / "a.wav", content)), PCM)


@pytest.mark.parametrize("rate", RATES_HZ)
@pytest.mark.parametrize("wanted", [8000, 16000, 48000])
def test_blocks_at_another_rate_are_the_whole_file_converted(
    tmp_path: Path, rate: int, wanted: int
) -> None:
    sound = (RNG.standard_normal(rate // 2) * 4000).astype(np.int16)
    scipy.io.wavfile.write(tmp_path / "a.wav", rate, sound)
    expected = resample(sound, rate, wanted)
    blocks = []
    with WavReader(tmp_path / "a.wav", wanted) as reader:
        assert reader.samples == math.ceil(sound.size * wanted / rate)
        while (block := reader.read(wanted // 50)).size:
            blocks.append(block)
        assert reader.read(160).size == 0
    assert all(b.size == wanted // 50 for b in blocks[:-1])
    got = np.concatenate(blocks)
    assert got.size == reader.samples
    assert np.abs(got.astype(int) - expected).max() <= 1


def test_stereo_is_the_mean_of_both_sides(tmp_path: Path) -> None:
    sides = np.stack([PCM, np.roll(PCM, 7)], axis=1)
    scipy.io.wavfile.write(tmp_path / "a.wav", 8000, sides)
    with WavReader(tmp_path / "a.wav") as reader:
        assert (reader.info.channels, reader.info.encoding) == (2, WavEncoding.PCM)
        assert reader.info.duration_s == 0.5
        got = reader.read(10_000)
    np.testing.assert_array_equal(got, np.rint(sides.mean(axis=1)))


@pytest.mark.reference
def test_recordings_of_the_reference_data_are_read_as_scipy_reads_them(
    reference_data: Path,
) -> None:
    files = sorted((reference_data / "speech").rglob("*.wav"))
    compared = 0
    for file in files:
        rate, samples = scipy.io.wavfile.read(file)
        assert samples.ndim == 1
        np.testing.assert_array_equal(wav.read(file), samples)
        assert wav.read(file, 8000).size == math.ceil(samples.size * 8000 / rate)
        compared += 1
    assert compared > 30


# ---------------------------------------------------------------- what is wrong with a file


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is not a WAV file"),
        (b"ID3\x04 an mp3 in truth, though named .wav", "is not a WAV file"),
        (b"RIFX" + file_of(b"\0\0")[4:], "is not a WAV file"),
        (file_of(b""), "0 samples"),
        (file_of(b"\0"), "0 samples"),
        (file_of(b"\0\0", rate=7999), "7999 samples a second"),
        (file_of(b"\0\0", rate=96000), "96000 samples a second"),
        (file_of(b"\0\0\0\0\0\0", channels=3), "3 channels"),
        (file_of(b"\0\0", channels=0), "0 channels"),
        (file_of(b"\0\0", tag=0x11, bits=4), "format 0x11, 4 bits"),
        (file_of(b"\0\0", tag=3, bits=16), "format 0x3, 16 bits"),
        (file_of(b"\0\0\0\0")[:30], "without sound"),
        (file_of(b"\0\0\0\0")[:36], "without sound"),
        (b"RIFF\x24\0\0\0WAVEdata\x02\0\0\0\0\0", "without sound"),
        (b"RIFF\x24\0\0\0WAVE" + b"JUNK\0\0\0\0" * 65 + file_of(b"\0\0")[12:], "without sound"),
        (b"RIFF\x24\0\0\0WAVEfmt \x04\0\0\0\1\0\1\0data\x02\0\0\0\0\0", "damaged"),
    ],
)
def test_files_that_cannot_be_read_are_refused_in_words(
    tmp_path: Path, content: bytes, words: str
) -> None:
    path = saved(tmp_path / "bad.wav", content)
    with pytest.raises(AudioFileError, match=words) as caught:
        WavReader(path)
    assert "bad.wav" in str(caught.value)


def test_missing_files_and_folders_are_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(AudioFileError, match=r"none\.wav cannot be read: No such file"):
        WavReader(tmp_path / "none.wav")
    with pytest.raises(AudioFileError, match="Is a directory"):
        WavReader(tmp_path)
    path = saved(tmp_path / "a.wav", file_of(PCM.tobytes(), rate=8001))
    with pytest.raises(AudioFileError, match="8001 Hz to 8000 Hz"):
        WavReader(path, 8000)
    assert wav.read(path).size == PCM.size, "at its own rate it can be read"


@pytest.mark.parametrize("opening", [WavReader, lambda path: WavWriter(path, 8000)])
def test_a_pipe_is_refused_and_not_waited_for(
    tmp_path: Path, opening: Callable[[Path], object]
) -> None:
    path = tmp_path / "pipe.wav"
    os.mkfifo(path)
    other_end = os.open(path, os.O_RDWR)
    try:
        os.write(other_end, file_of(PCM.tobytes()))
        with pytest.raises(AudioFileError, match=r"pipe\.wav is a pipe \("):
            opening(path)
    finally:
        os.close(other_end)


@given(st.binary(max_size=120), st.integers(0, 60))
@examples(200)
def test_rubbish_never_raises_anything_else(
    tmp_path_factory: pytest.TempPathFactory, rubbish: bytes, at: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "rubbish.wav"
    good = file_of(PCM[:20].tobytes())
    for content in (rubbish, good[:at] + rubbish, good[:at] + rubbish + good[at + len(rubbish) :]):
        saved(path, content)
        try:
            assert wav.read(path, 8000).size > 0
        except AudioFileError:
            continue


# ---------------------------------------------------------------- writing


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [8000, 44100])
def test_scipy_reads_what_is_written(tmp_path: Path, rate: int, channels: int) -> None:
    pcm = PCM if channels == 1 else PCM.reshape(-1, channels)
    with WavWriter(tmp_path / "a.wav", rate, channels) as writer:
        for at in range(0, len(pcm), 320):
            writer.write(pcm[at : at + 320])
        assert writer.duration_s == len(pcm) / rate
    got_rate, got = scipy.io.wavfile.read(tmp_path / "a.wav")
    assert got_rate == rate
    np.testing.assert_array_equal(got, pcm)


def test_the_file_is_whole_after_every_flush(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    writer = WavWriter(path, 8000)
    assert scipy.io.wavfile.read(path)[1].size == 0
    for n in range(1, 11):
        writer.write(PCM[: 160 * n])
        writer.flush()
        total = 160 * n * (n + 1) // 2
        assert scipy.io.wavfile.read(path)[1].size == total
        writer.write(PCM[:7])  # not flushed: not there, and harmless
        assert scipy.io.wavfile.read(path)[1].size == total
        assert wav.read(path).size == total
        writer._pending.clear()  # as if the process had died here
    writer.close()


def test_a_header_that_lags_behind_its_data_is_still_a_whole_file(tmp_path: Path) -> None:
    """Killed between the two writes of a flush."""
    path = tmp_path / "a.wav"
    with WavWriter(path, 8000) as writer:
        writer.write(PCM)
    with path.open("ab") as file:
        file.write(PCM.tobytes()[:999])
    np.testing.assert_array_equal(scipy.io.wavfile.read(path)[1], PCM)
    np.testing.assert_array_equal(wav.read(path), PCM)


def test_a_writer_holds_little_in_memory(tmp_path: Path) -> None:
    writer = WavWriter(tmp_path / "a.wav", 48000, 2)
    for _ in range(50):
        writer.write(np.zeros((4800, 2), np.int16))
    unflushed = writer.frames * 4 + 44 - (tmp_path / "a.wav").stat().st_size
    assert 0 <= unflushed <= 2 * 65536
    writer.close()
    assert (tmp_path / "a.wav").stat().st_size == 50 * 4800 * 4 + 44


def test_what_cannot_be_written_is_refused_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(AudioFileError, match="cannot be written: No such file"):
        WavWriter(tmp_path / "nowhere" / "a.wav", 8000)
    with pytest.raises(AudioFileError, match="0 channels"):
        WavWriter(tmp_path / "a.wav", 8000, 0)
    writer = WavWriter(tmp_path / "a.wav", 8000)
    with pytest.raises(AudioFileError, match="int16 of 1 channels, not float64"):
        writer.write(np.zeros(5))  # type: ignore[arg-type]
    with pytest.raises(AudioFileError, match=r"not int16 \(5, 2\)"):
        writer.write(np.zeros((5, 2), np.int16))
    monkeypatch.setattr(wav, "MAX_DATA_BYTES", 100)
    with pytest.raises(AudioFileError, match="4 GiB"):
        writer.write(np.zeros(51, np.int16))
    writer.close()
    writer.close()
    with pytest.raises(AudioFileError, match="closed"):
        writer.write(PCM)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_said_so() -> None:
    with pytest.raises(AudioFileError, match="No space left"):
        WavWriter("/dev/full", 8000)
