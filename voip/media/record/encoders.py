"""Encoders of recordings: PCM in, a file that is whole after every `flush` out.

"Whole" means that a process which is killed leaves a file that others read up to about the last
second: a WAV file's header is counted up, an Ogg page ends, FLAC and MP3 frames stand by
themselves (decision 0108). All may raise `AudioFileError`; what was written before stays readable.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from voip.errors import AudioFileError, ConfigError
from voip.media.record.formats import RecordFormat
from voip.media.wav import WavWriter

if TYPE_CHECKING:
    from av.container import OutputContainer

__all__ = ["AvEncoder", "Encoder", "WavEncoder", "check_encoder", "encoder"]

PAGE_S = 0.5
"""How much sound an Ogg page holds at most."""
_CODECS = {
    RecordFormat.FLAC: ("flac", "flac", "s16"),
    RecordFormat.OPUS: ("ogg", "libopus", "s16"),
    RecordFormat.MP3: ("mp3", "libmp3lame", "s16p"),
}
_BIT_RATE = {  # of one channel at 8 kHz and below, and above
    RecordFormat.OPUS: (24_000, 40_000),
    RecordFormat.MP3: (32_000, 64_000),
}


class Encoder(Protocol):
    """Takes int16 (samples, channels)."""

    @property
    def size(self) -> int:
        """Octets of sound taken so far, as far as they are known."""

    def write(self, pcm: npt.NDArray[np.int16]) -> None:
        """Append sound."""

    def flush(self) -> None:
        """Have what was written be in the file."""

    def close(self) -> None:
        """Write the rest and close; closing twice does nothing."""


def check_encoder(format_: RecordFormat) -> None:
    """Raise `ConfigError` where a format cannot be written here."""
    if format_ is RecordFormat.WAV:
        return
    try:
        from av.codec import Codec
    except ImportError:
        raise ConfigError(
            f"recording {format_.value} needs PyAV", hint="pip install av, or record WAV"
        ) from None
    name = _CODECS[format_][1]
    try:
        Codec(name, "w")
    except ValueError:
        raise ConfigError(f"the FFmpeg of this PyAV has no {name}", hint="record WAV") from None


def encoder(
    path: Path, format_: RecordFormat, rate_hz: int, channels: int, title: str = ""
) -> Encoder:
    """Make a file. `title`: told by the file where its format has room for that."""
    if format_ is RecordFormat.WAV:
        return WavEncoder(path, rate_hz, channels)
    return AvEncoder(path, format_, rate_hz, channels, title)


class WavEncoder:
    """16-bit PCM."""

    def __init__(self, path: Path, rate_hz: int, channels: int) -> None:
        self._writer = WavWriter(path, rate_hz, channels)
        self.size = 0

    def write(self, pcm: npt.NDArray[np.int16]) -> None:
        """Append sound."""
        self._writer.write(pcm[:, 0] if self._writer.channels == 1 else pcm)
        self.size += 2 * pcm.size

    def flush(self) -> None:
        """Have what was written be in the file."""
        self._writer.flush()

    def close(self) -> None:
        """Write the rest and close."""
        self._writer.close()


class AvEncoder:
    """FLAC, Opus in Ogg, or MP3 by FFmpeg through PyAV, which is imported here."""

    def __init__(
        self, path: Path, format_: RecordFormat, rate_hz: int, channels: int, title: str = ""
    ) -> None:
        check_encoder(format_)
        import av

        self._path = path
        self._file = _File(path)
        container_format, codec, sample_format = _CODECS[format_]
        options = {"flush_packets": "1"}
        if format_ is RecordFormat.OPUS:
            options["page_duration"] = str(int(PAGE_S * 1e6))
        self._closed = False
        self._rate_hz = rate_hz
        self._layout = "mono" if channels == 1 else "stereo"
        self._position = 0
        try:
            # a buffer as small as a page: nothing stays in it that a kill would take
            self._container: OutputContainer = av.open(
                self._file, "w", format=container_format, options=options, buffer_size=4096
            )
            stream: Any = self._container.add_stream(codec, rate=rate_hz)
            stream.layout = self._layout
            stream.format = sample_format
            if format_ in _BIT_RATE:
                stream.bit_rate = channels * _BIT_RATE[format_][rate_hz > 8000]
            if title:
                self._container.metadata["title"] = title
            self._stream = stream
            self._container.start_encoding()
        except (av.FFmpegError, OSError, ValueError) as error:
            self._file.close()
            raise self._error(error) from None

    @property
    def size(self) -> int:
        """Octets in the file: those of the last frames are not in it yet."""
        return self._file.size

    def write(self, pcm: npt.NDArray[np.int16]) -> None:
        """Append sound."""
        import av

        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(pcm).reshape(1, -1), format="s16", layout=self._layout
        )
        frame.sample_rate = self._rate_hz
        frame.pts = self._position
        self._position += pcm.shape[0]
        try:
            for packet in self._stream.encode(frame):
                self._container.mux(packet)
        except (av.FFmpegError, OSError) as error:
            raise self._failed(error) from None
        self._raise_what_the_file_said()

    def flush(self) -> None:
        """Every packet goes out as it is made, and every page after half a second."""
        self._raise_what_the_file_said()

    def close(self) -> None:
        """Write the rest and close."""
        if self._closed:
            return
        self._closed = True
        import av

        try:
            for packet in self._stream.encode(None):
                self._container.mux(packet)
            self._container.close()
            self._raise_what_the_file_said()
        except (av.FFmpegError, OSError) as error:
            raise self._error(self._file.error or error) from None
        finally:
            self._file.close()

    def _raise_what_the_file_said(self) -> None:
        if self._file.error is not None:
            raise self._failed(self._file.error)

    def _failed(self, error: Exception) -> AudioFileError:
        """Give up: no trailer is written after what did not fit."""
        self._closed = True
        with suppress(Exception):
            self._container.close()
        self._file.close()
        return self._error(self._file.error or error)

    def _error(self, error: Exception) -> AudioFileError:
        words = error.strerror if isinstance(error, OSError) and error.strerror else error
        return AudioFileError(f"{self._path} cannot be written: {words}")


class _File:
    """A file that FFmpeg writes to, whole blocks only: what did not fit is cut off again.

    It never raises into FFmpeg: what went wrong is kept in `error`, and nothing is written after.
    """

    def __init__(self, path: Path) -> None:
        if path.is_fifo():
            raise AudioFileError(f"{path} is a pipe", hint="record to a file")
        try:
            self._file = path.open("wb", buffering=0)
        except OSError as error:
            raise AudioFileError(f"{path} cannot be written: {error.strerror or error}") from None
        self.name = str(path)
        self.size = 0
        self.error: OSError | None = None

    def write(self, octets: bytes) -> int:
        """Write all, or note why not and leave the file as it was."""
        if self.error is not None or self._file.closed:
            return len(octets)
        start = self._file.tell()
        view = memoryview(octets)
        try:
            while view:
                view = view[self._file.write(view) :]
        except OSError as error:
            self.error = error
            if start >= self.size:  # else it overwrote a header in place
                with suppress(OSError):
                    self._file.truncate(start)
            return len(octets)
        self.size = max(self.size, self._file.tell())
        return len(octets)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go somewhere; FFmpeg goes back to a header when it is done."""
        return 0 if self._file.closed else self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return where it is."""
        return 0 if self._file.closed else self._file.tell()

    def close(self) -> None:
        """Close it."""
        self._file.close()
