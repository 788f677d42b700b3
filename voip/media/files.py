"""Audio between files and rings. `service` is called outside the tick, every now and then."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from typing import Protocol

import numpy as np
import numpy.typing as npt

from voip.media.rings import AudioRing
from voip.media.wav import WavReader

__all__ = ["ArraySource", "FileServer", "FileSource", "Served"]


class Served(Protocol):
    """Something that moves audio between a file and a ring."""

    def service(self, now: float) -> None:
        """Move what there is to move; `now` is monotonic."""
        ...


class FileServer(Protocol):
    """Serves files outside the tick, every now and then."""

    def add(self, served: Served, on_error: Callable[[Exception], None] | None = None) -> None:
        """Serve this too, at once and from then on."""
        ...

    async def remove(self, served: Served) -> None:
        """Serve it once more and let go of it."""
        ...

    async def close(self) -> None:
        """Serve everything once more and let go of it."""
        ...


class FileSource:
    """Keeps `ring` filled from a WAV file; closes the ring after its last sample.

    The file is opened by the first `service`, which raises `AudioFileError` where it cannot be
    read; `on_ready` is called when the first sound is there.
    """

    def __init__(
        self,
        ring: AudioRing,
        path: str | PathLike[str],
        rate_hz: int,
        *,
        loop: bool = False,
        on_ready: Callable[[], None] | None = None,
    ) -> None:
        self._ring = ring
        self._path = path
        self._rate_hz = rate_hz
        self._loop = loop
        self._on_ready = on_ready
        self._reader: WavReader | None = None

    def service(self, now: float) -> None:
        """Read as much as there is room for."""
        if self._ring.closed:
            return
        if self._reader is None:
            self._reader = WavReader(self._path, self._rate_hz)
        while wanted := self._ring.space:
            pcm = self._reader.read(wanted)
            self._ring.push(pcm)
            if pcm.size == wanted:
                break
            self._reader.close()
            if not self._loop:
                self._ring.close()
                break
            self._reader = WavReader(self._path, self._rate_hz)
        if self._on_ready is not None:
            self._on_ready()
            self._on_ready = None

    def close(self) -> None:
        """Let go of the file."""
        if self._reader is not None:
            self._reader.close()


class ArraySource:
    """Keeps `ring` filled from an array, int16 (samples,); closes it after the last sample.

    With `loop` the array is sent over and over, without a seam.
    """

    def __init__(
        self,
        ring: AudioRing,
        pcm: npt.NDArray[np.int16],
        *,
        loop: bool = False,
        on_ready: Callable[[], None] | None = None,
    ) -> None:
        self._ring = ring
        self._pcm = pcm
        self._left = pcm
        self._loop = loop and pcm.size > 0
        self._on_ready = on_ready

    def service(self, now: float) -> None:
        """Write as much as there is room for."""
        if self._ring.closed:
            return
        while True:
            taken = self._ring.push(self._left)
            self._left = self._left[taken:]
            if self._left.size:
                break
            if not self._loop:
                self._ring.close()
                break
            self._left = self._pcm
        if self._on_ready is not None:
            self._on_ready()
            self._on_ready = None

    def close(self) -> None:
        """Let go of the array."""
        self._pcm = self._left = self._pcm[:0]
        self._loop = False
