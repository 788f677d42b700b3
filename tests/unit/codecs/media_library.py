"""FFmpeg as a judge of codecs, through PyAV, and the speech that it judges."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from voip.harness.audio import Sound
from voip.sounds import asset_path

__all__ = ["decoded_by_ffmpeg", "encoded_by_ffmpeg", "speech"]

Pcm = npt.NDArray[np.int16]


def speech(rate_hz: int) -> Pcm:
    """Return speech that ships: int16 (samples,) at 8000 or 16000 Hz, else by nearest sample."""
    known = 8000 if rate_hz == 8000 else 16000
    with asset_path(f"speech-{known // 1000}k.wav") as path:
        samples = Sound.read(path).samples
    return samples[np.arange(samples.size * rate_hz // known) * known // rate_hz]


def _context(name: str, mode: str, missing: Callable[[str], NoReturn], settings: Any) -> Any:
    try:
        import av
    except ImportError:
        missing("the package av is not installed")
    try:
        context = av.CodecContext.create(name, mode)
    except av.codec.codec.UnknownCodecError:
        missing(f"this FFmpeg has no {name}")
    settings = {"layout": "mono", **settings}
    for key, value in settings.items():
        setattr(context, key, value)
    return context


def decoded_by_ffmpeg(
    name: str,
    payloads: bytes | list[bytes],
    missing: Callable[[str], NoReturn],
    **settings: Any,
) -> Pcm:
    """Decode a payload, or one after the other, to int16 (samples,)."""
    import av

    context = _context(name, "r", missing, settings)
    packets = [payloads] if isinstance(payloads, bytes) else payloads
    frames = [
        frame.to_ndarray().ravel()
        for packet in [*map(av.Packet, packets), None]
        for frame in context.decode(packet)
    ]
    sound = np.concatenate(frames)
    if sound.dtype == np.float32:
        sound = np.clip(np.rint(sound * 32768), -32768, 32767)
    return sound.astype(np.int16)


def encoded_by_ffmpeg(
    name: str, pcm: Pcm, missing: Callable[[str], NoReturn], **settings: Any
) -> bytes:
    """Encode int16 (samples,)."""
    import av

    context = _context(name, "w", missing, {"format": "s16", **settings})
    context.open()
    size = context.frame_size or 320
    packets = []
    for begin in range(0, pcm.size, size):
        frame = av.AudioFrame.from_ndarray(pcm[None, begin : begin + size], "s16", "mono")
        frame.sample_rate, frame.pts = context.sample_rate, begin
        packets += context.encode(frame)
    return b"".join(map(bytes, packets + context.encode(None)))
