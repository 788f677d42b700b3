"""Anything that FFmpeg decodes, through PyAV, which is imported when the first file needs it.

FFmpeg never opens anything by itself: it is given a file that we have opened, and only demuxers of
plain sound and of containers, none that follow names in a file (playlists, concatenations). Work is
bounded by each `read`: so many packets, of which what is no sound is passed over.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from voip.dsp.pcm import to_int16
from voip.dsp.resample import Resampler
from voip.errors import AudioFileError
from voip.media.files import Octets
from voip.media.wav import MAX_RATE_HZ, MIN_RATE_HZ

if TYPE_CHECKING:
    from av.container import InputContainer

__all__ = ["DEMUXERS", "AvReader"]

DEMUXERS = (
    "wav,w64,aiff,au,caf,flac,ogg,mp3,aac,ac3,mov,matroska,asf,wv,tta,ape,amr,gsm,g722,g729,voc"
)
"""Kinds of files that are opened."""
MAX_PACKETS = 64
"""Packets that one `read` looks at."""
MAX_DAMAGED = 50
"""Packets that cannot be decoded before the whole is given up."""
MAX_FRAME_SAMPLES = 1 << 22
"""Samples of all channels that one packet may come to: nothing real has nearly as many."""
PROBE_BYTES = 1 << 20
"""How far FFmpeg may read to find out what a file is."""


class AvReader:
    """Mono int16 at `rate_hz` of `file`, which is closed by `close`. Raises `AudioFileError`."""

    def __init__(self, file: Octets, name: str, rate_hz: int) -> None:
        self._file = file
        self._name = name
        self._rate_hz = rate_hz
        self._damaged = 0
        self._until: float | None = None  # what lies before is dropped, after a seek
        try:
            import av
        except ImportError:
            file.close()
            raise AudioFileError(
                f"{name} is no WAV file that can be read", hint="pip install av, or convert it"
            ) from None
        self._av: Any = av
        options = {
            "format_whitelist": DEMUXERS,
            "protocol_whitelist": "none",
            "probesize": str(PROBE_BYTES),
        }
        try:
            self._container: InputContainer = av.open(
                file, "r", options=options, metadata_errors="replace"
            )
        except (av.FFmpegError, OSError, ValueError) as error:
            file.close()
            raise self._error(error) from None
        except BaseException:  # what the file itself raised
            file.close()
            raise
        try:
            if not self._container.streams.audio:
                raise AudioFileError(f"{name} holds no sound")
            self._stream: Any = self._container.streams.audio[0]
            self._stream.codec_context.thread_type = "NONE"
            rate = int(self._stream.rate or 0)
            if not 1000 <= rate <= 768_000:
                raise AudioFileError(f"{name} has {rate} samples a second")
            # ours where it can; what is beyond its rates FFmpeg brings to the nearest of them
            self._decoded_hz = min(max(rate, MIN_RATE_HZ), MAX_RATE_HZ)
            self._start()
        except BaseException:
            self.close()
            raise

    def _start(self) -> None:
        self._to_float = self._av.AudioResampler(format="fltp", rate=self._decoded_hz)
        self._resampler = Resampler(self._decoded_hz, self._rate_hz)
        self._skip = self._resampler.delay
        self._ready = np.zeros(0, np.float32)
        self._packets: Iterator[Any] | None = self._container.demux(self._stream)
        self._taken = 0

    @property
    def ended(self) -> bool:
        """Whether nothing more comes."""
        return self._packets is None and not self._ready.size

    @property
    def duration_s(self) -> float | None:
        """How long it says it is; None: unknown."""
        if self._stream.duration is not None and self._stream.time_base is not None:
            return float(self._stream.duration * self._stream.time_base)
        length = self._container.duration
        return None if length is None else float(length) / 1e6

    def read(self, samples: int) -> npt.NDArray[np.int16]:
        """Return at most `samples`, int16 (n,)."""
        pieces, held = [self._ready], self._ready.size
        for _ in range(MAX_PACKETS):
            if held >= samples or self._packets is None:
                break
            piece = self._next_piece()
            pieces.append(piece)
            held += piece.size
        ready = np.concatenate(pieces)
        out, self._ready = ready[:samples], ready[samples:].copy()
        return to_int16(out)

    def seek(self, seconds: float) -> None:
        """Go on from there, to the sample where the file has times.

        Where FFmpeg finds no frame at or before it (FLAC without a table of places, in the first
        frame), all that lies before is decoded and dropped.
        """
        if not self._sought(seconds) and not self._sought(0.0):
            raise AudioFileError(f"{self._name} cannot be played from the middle")
        self._until = seconds
        self._start()

    def _sought(self, seconds: float) -> bool:
        try:
            self._container.seek(int(seconds * 1e6), backward=True, any_frame=False)
        except (self._av.FFmpegError, OSError, ValueError):
            return False
        return True

    def close(self) -> None:
        """Close the file."""
        self._container.close()
        self._file.close()

    def _next_piece(self) -> npt.NDArray[np.float32]:
        """Return what the next packet comes to at the wanted rate: float32 (samples,)."""
        assert self._packets is not None
        try:
            packet = next(self._packets, None)
            frames = [] if packet is None else packet.decode()
            self._damaged = 0
        except self._av.error.EOFError:
            packet, frames = None, []
        except self._av.error.InvalidDataError as error:
            self._damaged += 1
            if self._damaged > MAX_DAMAGED:
                raise self._error(error) from None
            self._packets = self._container.demux(self._stream)  # the one that raised is over
            return np.zeros(0, np.float32)
        except (self._av.FFmpegError, OSError, ValueError, MemoryError) as error:
            raise self._error(error) from None
        last = packet is None or packet.size == 0
        pieces = [self._mono(frame) for frame in frames]
        if last:
            self._packets = None
            pieces.append(self._mono(None))
        sound = np.concatenate([np.zeros(0, np.float32), *pieces])
        out = self._resampler.process(sound)
        if last:
            out = np.concatenate((out, self._resampler.flush()))
        skipped = min(self._skip, out.size)
        self._skip -= skipped
        return out[skipped:]

    def _mono(self, frame: Any) -> npt.NDArray[np.float32]:
        """Return a frame's channels, or what is left when there is none, as their mean."""
        if frame is not None and frame.samples * frame.layout.nb_channels > MAX_FRAME_SAMPLES:
            raise AudioFileError(f"{self._name} has a packet of {frame.samples} samples")
        drop = 0.0
        if frame is not None and self._until is not None and frame.time is not None:
            drop = self._until - frame.time
            if drop <= 0 or self._taken:
                drop, self._until = max(drop, 0.0), None
        try:
            converted = self._to_float.resample(frame) if (frame or self._taken) else []
        except (self._av.FFmpegError, ValueError) as error:
            raise self._error(error) from None
        arrays = [item.to_ndarray() for item in converted]
        if not arrays:
            return np.zeros(0, np.float32)
        mono: npt.NDArray[np.float32] = np.concatenate(arrays, axis=1).mean(axis=0, dtype="f4")
        if drop > 0:
            cut = round(drop * self._decoded_hz)
            if cut < mono.size:
                self._until = None
            mono = mono[cut:]
        self._taken += mono.size
        return np.nan_to_num(np.clip(mono, -1.0, 1.0, out=mono), copy=False)

    def _error(self, error: BaseException) -> AudioFileError:
        return AudioFileError(
            f"{self._name} cannot be decoded: {getattr(error, 'strerror', None) or error}",
            hint="any file that FFmpeg plays as sound, and no playlist",
        )
