"""WAV files: any common encoding in, as mono int16 at the wanted rate; 16-bit PCM out.

Reading and writing happen where they are called: never in the engine's tick. Sizes are bounded:
neither reader nor writer holds more than about a second of sound.
"""

from __future__ import annotations

import math
import os
import struct
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import BinaryIO, Self

import numpy as np
import numpy.typing as npt

from voip.codecs import g711
from voip.codecs.g711 import Law
from voip.dsp.resample import Resampler
from voip.errors import AudioFileError, ConfigError

__all__ = ["MAX_RATE_HZ", "MIN_RATE_HZ", "WavEncoding", "WavInfo", "WavReader", "WavWriter", "read"]

MIN_RATE_HZ, MAX_RATE_HZ = 8000, 48000
"""Sample rates that are read and written."""
MAX_CHUNKS = 64
"""How many chunks may stand before the sound."""
MAX_DATA_BYTES = 0xFFFFFFFF - 64
"""The largest sound a WAV file can hold: 74 hours at 8 kHz mono."""

_BLOCK_FRAMES = 4096  # read from the file at a time
_PENDING_BYTES = 1 << 16  # held by a writer before it flushes by itself
_FMT = struct.Struct("<HHIIHH")
_HEADER = struct.Struct("<4sI4s4sIHHIIHH4sI")
_EXTENSIBLE = 0xFFFE
_EXTENSIBLE_TAIL = bytes.fromhex("000000001000800000aa00389b71")


class WavEncoding(IntEnum):
    """Format tags of what can be read."""

    PCM = 1
    FLOAT = 3
    ALAW = 6
    ULAW = 7


_SAMPLE_BYTES: dict[int, tuple[int, ...]] = {
    WavEncoding.PCM: (1, 2, 3, 4),
    WavEncoding.FLOAT: (4, 8),
    WavEncoding.ALAW: (1,),
    WavEncoding.ULAW: (1,),
}


@dataclass(frozen=True, slots=True)
class WavInfo:
    """What a file holds: `frames` samples of each of `channels` channels."""

    encoding: WavEncoding
    rate_hz: int
    channels: int
    sample_bytes: int
    frames: int

    @property
    def duration_s(self) -> float:
        """Seconds of sound."""
        return self.frames / self.rate_hz


class WavReader:
    """A WAV file as mono int16 at `rate_hz` (None: its own rate), block by block.

    PCM of 8, 16, 24 and 32 bits, float of 32 and 64, A-law and µ-law, one channel or the mean of
    two. The first sample read is the file's first: the resampler's delay is taken out. Raises
    AudioFileError for what is missing, no WAV file, empty, or not of those kinds.
    """

    def __init__(self, path: str | os.PathLike[str], rate_hz: int | None = None) -> None:
        self.path = Path(path)
        self._file = self._open()
        try:
            self.info = self._parse()
            self._data_at = self._file.tell()
            self.rate_hz = self.info.rate_hz if rate_hz is None else rate_hz
            self._resampler = Resampler(self.info.rate_hz, self.rate_hz)
        except ConfigError as error:
            self._file.close()
            raise self._error(error.message, error.hint) from None
        except BaseException:
            self._file.close()
            raise
        self._skip = self._resampler.delay
        self._frames_left = self.info.frames
        self._ready = np.zeros(0, np.float32)
        self._ended = False

    @property
    def samples(self) -> int:
        """Samples the whole file gives at `rate_hz`."""
        return math.ceil(self.info.frames * self.rate_hz / self.info.rate_hz)

    def read(self, samples: int) -> npt.NDArray[np.int16]:
        """Return the next `samples` samples, fewer only at the end: int16 (samples,)."""
        pieces = [self._ready]
        held = self._ready.size
        while held < samples and not self._ended:
            piece = self._next_piece()
            pieces.append(piece)
            held += piece.size
        ready = np.concatenate(pieces)
        out, self._ready = ready[:samples], ready[samples:].copy()
        scaled: npt.NDArray[np.float32] = np.rint(out * np.float32(32768.0))
        return np.clip(scaled, -32768.0, 32767.0).astype(np.int16)

    @property
    def ended(self) -> bool:
        """Whether nothing more comes."""
        return self._ended and not self._ready.size

    @property
    def duration_s(self) -> float:
        """Seconds of sound in the whole file."""
        return self.info.duration_s

    def seek(self, seconds: float) -> None:
        """Go on with the sample nearest to `seconds`; beyond the end nothing more comes."""
        info = self.info
        frame = min(max(0, round(seconds * info.rate_hz)), info.frames)
        try:
            self._file.seek(self._data_at + frame * info.channels * info.sample_bytes)
        except (OSError, ValueError) as error:
            raise self._error(f"cannot be read: {error}") from None
        self._frames_left = info.frames - frame
        self._resampler.reset()
        self._skip = self._resampler.delay
        self._ready = self._ready[:0]
        self._ended = False

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _next_piece(self) -> npt.NDArray[np.float32]:
        mono = self._next_mono()
        if mono.size:
            out = self._resampler.process(mono)
        else:
            self._ended = True
            out = self._resampler.flush()
        skipped = min(self._skip, out.size)
        self._skip -= skipped
        return out[skipped:]

    def _next_mono(self) -> npt.NDArray[np.float32]:
        info = self.info
        frame_bytes = info.channels * info.sample_bytes
        wanted = min(_BLOCK_FRAMES, self._frames_left)
        try:
            octets = self._file.read(wanted * frame_bytes)
        except (OSError, ValueError) as error:
            raise self._error(f"cannot be read: {error}") from None
        frames = len(octets) // frame_bytes
        self._frames_left = self._frames_left - frames if frames == wanted else 0
        raw = np.frombuffer(octets, np.uint8, frames * frame_bytes)
        pcm = _to_float(raw, info.encoding, info.sample_bytes)
        if info.channels == 1:
            return pcm
        mean: npt.NDArray[np.float32] = pcm.reshape(-1, info.channels).mean(axis=1)
        return mean

    # ------------------------------------------------------------ header

    def _error(self, message: str, hint: str = "") -> AudioFileError:
        return AudioFileError(f"{self.path} {message}", hint=hint)

    def _open(self) -> BinaryIO:
        try:
            if (
                self.path.is_fifo()
            ):  # opening one waits for who writes, and reading one cannot go back
                raise self._error("is a pipe", "write the sound to a file first")
            return self.path.open("rb")
        except OSError as error:
            raise self._error(f"cannot be read: {error.strerror or error}") from None

    def _parse(self) -> WavInfo:
        try:
            head = self._file.read(12)
            if head[:4] != b"RIFF" or head[8:12] != b"WAVE":
                raise self._error("is not a WAV file", "convert it, e.g. sox in.mp3 out.wav")
            format_: bytes | None = None
            for _ in range(MAX_CHUNKS):
                chunk = self._file.read(8)
                if len(chunk) < 8:
                    break
                name, size = struct.unpack("<4sI", chunk)
                if name == b"data":
                    if format_ is None:
                        break
                    return self._info(format_, size)
                skip = size + size % 2
                if name == b"fmt ":
                    format_ = self._file.read(min(size, 64))
                    skip -= len(format_)
                self._file.seek(skip, os.SEEK_CUR)
        except OSError as error:
            raise self._error(f"cannot be read: {error.strerror or error}") from None
        raise self._error("is a WAV file without sound", "it has no fmt or no data chunk")

    def _info(self, format_: bytes, data_bytes: int) -> WavInfo:
        if len(format_) < _FMT.size:
            raise self._error("has a damaged WAV header")
        tag, channels, rate_hz, _, frame_bytes, bits = _FMT.unpack_from(format_)
        if tag == _EXTENSIBLE and format_[26:40] == _EXTENSIBLE_TAIL:
            (tag,) = struct.unpack_from("<H", format_, 24)
        sample_bytes = (bits + 7) // 8
        if sample_bytes not in _SAMPLE_BYTES.get(tag, ()):
            raise self._error(
                f"is WAV of a kind that cannot be read (format {tag:#x}, {bits} bits)",
                "convert it to PCM of 16 bits",
            )
        if channels not in (1, 2):
            raise self._error(f"has {channels} channels", "mono and stereo can be read")
        if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
            raise self._error(
                f"has {rate_hz} samples a second",
                f"rates from {MIN_RATE_HZ} to {MAX_RATE_HZ} can be read",
            )
        if frame_bytes != channels * sample_bytes:
            raise self._error("has a damaged WAV header")
        here = self._file.tell()
        there = self._file.seek(0, os.SEEK_END) - here
        self._file.seek(here)
        # Recorders that were cut off leave a size that is too large: the file's end counts.
        frames = min(data_bytes, there) // frame_bytes
        if not frames:
            raise self._error("holds no sound: 0 samples")
        return WavInfo(WavEncoding(tag), rate_hz, channels, sample_bytes, frames)


def _to_float(
    raw: npt.NDArray[np.uint8], encoding: WavEncoding, sample_bytes: int
) -> npt.NDArray[np.float32]:
    """Decode octets to float32 in [-1, 1), channels interleaved."""
    if encoding is WavEncoding.FLOAT:
        wide = raw.view("<f4" if sample_bytes == 4 else "<f8").astype(np.float32)
        return np.nan_to_num(np.clip(wide, -1.0, 1.0, out=wide), copy=False)
    if encoding is WavEncoding.PCM and sample_bytes == 1:
        return (raw.astype(np.float32) - 128.0) / 128.0
    if encoding is WavEncoding.PCM:
        # left-justified in 32 bits, whatever the width
        justified = np.zeros((raw.size // sample_bytes, 4), np.uint8)
        justified[:, 4 - sample_bytes :] = raw.reshape(-1, sample_bytes)
        return justified.view("<i4")[:, 0].astype(np.float32) / np.float32(1 << 31)
    law = Law.ALAW if encoding is WavEncoding.ALAW else Law.ULAW
    out = np.empty(raw.size, np.float32)
    g711.decode_into(raw, law, out)
    return out


def read(path: str | os.PathLike[str], rate_hz: int | None = None) -> npt.NDArray[np.int16]:
    """Return a whole file as mono int16 (samples,) at `rate_hz` (None: its own rate)."""
    with WavReader(path, rate_hz) as reader:
        return reader.read(reader.samples)


class WavWriter:
    """Writes 16-bit PCM. After every `flush` the file is whole, whatever happens next.

    What was written since the last flush is not in the file yet: data first, then the header that
    counts it. Raises AudioFileError where the file cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], rate_hz: int, channels: int = 1) -> None:
        self.path = Path(path)
        if not 1 <= channels <= 64 or not 0 < rate_hz <= 0xFFFFFFFF // (2 * channels):
            raise AudioFileError(f"{path}: no WAV of {channels} channels at {rate_hz} Hz")
        self.rate_hz, self.channels = rate_hz, channels
        self.frames = 0
        self._pending = bytearray()
        self._written = 0
        if self.path.is_fifo():  # opening one waits for who reads, and a header cannot be mended
            raise AudioFileError(f"{path} is a pipe", hint="record to a file")
        try:
            self._file = self.path.open("wb", buffering=0)
        except OSError as error:
            raise self._error(error) from None
        try:
            self._write_header()
        except OSError as error:
            self._file.close()
            raise self._error(error) from None

    @property
    def duration_s(self) -> float:
        """Seconds of sound taken so far."""
        return self.frames / self.rate_hz

    def write(self, pcm: npt.NDArray[np.int16]) -> None:
        """Append int16 PCM: (samples,) for one channel, (samples, channels) for more."""
        shape = (pcm.shape[0],) if self.channels == 1 else (pcm.shape[0], self.channels)
        if pcm.dtype != np.int16 or pcm.shape != shape:
            raise AudioFileError(
                f"{self.path} takes int16 of {self.channels} channels, not {pcm.dtype} {pcm.shape}"
            )
        if self._file.closed:
            raise AudioFileError(f"{self.path} is closed already")
        octets = pcm.astype("<i2", copy=False).tobytes()
        if self._written + len(self._pending) + len(octets) > MAX_DATA_BYTES:
            raise AudioFileError(f"{self.path} is full: a WAV file ends at 4 GiB")
        self._pending += octets
        self.frames += pcm.shape[0]
        if len(self._pending) >= _PENDING_BYTES:
            self.flush()

    def flush(self) -> None:
        """Put everything written so far into the file and count it in the header."""
        if self._file.closed or not self._pending:
            return
        try:
            self._file.seek(_HEADER.size + self._written)
            while self._pending:
                done = self._file.write(self._pending)
                del self._pending[:done]
                self._written += done
            self._write_header()
        except OSError as error:
            self._pending.clear()
            with suppress(OSError):  # what did fit is counted: that takes no room
                self._written -= self._written % (2 * self.channels)
                self._write_header()
                self._file.truncate(_HEADER.size + self._written)
            raise self._error(error) from None

    def close(self) -> None:
        """Flush and close. Closing twice does nothing."""
        try:
            self.flush()
        finally:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _write_header(self) -> None:
        size, frame = self._written, 2 * self.channels
        self._file.seek(0)
        self._file.write(
            _HEADER.pack(
                b"RIFF",
                size + _HEADER.size - 8,
                b"WAVE",
                b"fmt ",
                _FMT.size,
                WavEncoding.PCM,
                self.channels,
                self.rate_hz,
                self.rate_hz * frame,
                frame,
                16,
                b"data",
                size,
            )
        )

    def _error(self, error: OSError) -> AudioFileError:
        return AudioFileError(f"{self.path} cannot be written: {error.strerror or error}")
