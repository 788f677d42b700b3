"""FFmpeg's codecs by PyAV, where that is installed: others to be measured and judged beside."""

from __future__ import annotations

import importlib
import io
from typing import Any, Final

import numpy as np

from voip.codecs.core import CodecFormat, CodecInfo
from voip.codecs.ilbc.codec import mode_of
from voip.errors import CodecError
from voip.harness.audio import Pcm

__all__ = ["Ffmpeg"]

_NAMES: Final[dict[str, tuple[str | None, str]]] = {
    "pcmu": ("pcm_mulaw", "pcm_mulaw"),
    "pcma": ("pcm_alaw", "pcm_alaw"),
    "l16": ("pcm_s16be", "pcm_s16be"),
    "g722": ("g722", "g722"),
    "amr": ("libopencore_amrnb", "amrnb"),
    "amr-wb": (None, "amrwb"),
    "gsm": (None, "gsm"),
    "ilbc": (None, "ilbc"),
}
"""FFmpeg's encoder, None where it has none, and decoder, by encoding name."""
_HEAD: Final = {"amr": 1, "amr-wb": 1}
"""Octets of a payload before FFmpeg's packet: a request for a mode, octets being aligned."""


class Ffmpeg:
    """An encoder and a decoder of one stream, each made when it is first used.

    Raises CodecError where PyAV is not installed, or FFmpeg has no such codec.
    """

    def __init__(self, format_: CodecFormat, info: CodecInfo) -> None:
        try:
            self._av: Any = importlib.import_module("av")
        except ImportError:
            raise CodecError("there is no FFmpeg without PyAV", hint="pip install av") from None
        if format_.name not in _NAMES:
            raise CodecError(f"FFmpeg is not asked for {format_.name}")
        self._format, self._info = format_, info
        self._layout = "mono" if info.pcm_channels == 1 else "stereo"
        self._opened: list[Any] = []
        self._coder: Any = None
        self._decoder: Any = None

    @property
    def version(self) -> str:
        """Which FFmpeg this is."""
        numbers = ".".join(map(str, self._av.library_versions["libavcodec"]))
        return f"FFmpeg, libavcodec {numbers}"

    def frame(self, pcm: Pcm) -> Any:
        """Return FFmpeg's frame of int16 (samples,), channels interleaved."""
        made = self._av.AudioFrame.from_ndarray(
            np.ascontiguousarray(pcm[None]), "s16", self._layout
        )
        made.sample_rate = self._info.sample_rate
        return made

    def encode(self, frame: Any) -> list[bytes]:
        """Encode a frame; None gives what is still to come. Raises CodecError where it cannot."""
        if self._coder is None:
            self._coder = self._context("w")
            self._coder.format = "s16"
        return [bytes(packet) for packet in self._coder.encode(frame)]

    def packet(self, payload: bytes) -> bytes:
        """Return what FFmpeg takes of a payload of RTP."""
        return payload[_HEAD.get(self._format.name, 0) :]

    def decode(self, packet: bytes) -> Pcm:
        """Decode a packet to int16 (samples,)."""
        frames = (one.to_ndarray() for one in self.frames_of(packet))
        sound = np.concatenate([one[0] for one in frames] or [np.zeros(0, np.int16)])
        if sound.dtype != np.int16:
            sound = np.clip(np.rint(sound * 32768), -32768, 32767)
        return sound.astype(np.int16, copy=False)

    def frames_of(self, packet: bytes) -> list[Any]:
        """Decode a packet to FFmpeg's frames."""
        if self._decoder is None:
            self._decoder = self._ilbc() if self._format.name == "ilbc" else self._context("r")
        frames: list[Any] = self._decoder.decode(self._av.Packet(packet))
        return frames

    def _context(self, way: str) -> Any:
        name = _NAMES[self._format.name][0 if way == "w" else 1]
        if name is None:
            raise CodecError(f"FFmpeg does not encode {self._format.name}")
        try:
            made = self._av.CodecContext.create(name, way)
        except ValueError as error:  # of which UnknownCodecError is one
            raise CodecError(f"FFmpeg cannot do this with {name}: {error}") from None
        made.sample_rate, made.layout = self._info.sample_rate, self._layout
        if way == "w":
            made.bit_rate = self._info.bit_rate
        return made

    def _ilbc(self) -> Any:
        """Return a decoder: how long frames are it learns from the head of a file alone."""
        mode = mode_of(self._format.fmtp)
        file = io.BytesIO(b"#!iLBC%d\n" % mode.frame_ms + bytes(mode.octets))
        opened = self._av.open(file, format="ilbc")
        self._opened.append(opened)
        return opened.streams.audio[0].codec_context
