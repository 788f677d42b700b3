"""What every sound device is, whatever is behind it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["AudioDevice", "DeviceInfo", "Lost", "Sound"]

Pcm = npt.NDArray[np.int16]

Lost = Callable[[str], None]
"""Told, from whatever thread, that the device is gone, and why."""


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """A device that could be opened. `inputs`, `outputs`: channels; 0: it cannot do that."""

    name: str
    inputs: int
    outputs: int
    rate_hz: int
    is_default_input: bool = False
    is_default_output: bool = False


class Sound(Protocol):
    """What a device is given and asked for, at its own pace, from whatever threads.

    Both return at once and never raise. `now`: seconds of the monotonic clock that the media engine
    runs by. What is captured and what is played may go by different clocks.
    """

    def capture(self, pcm: Pcm, now: float) -> None:
        """Take a block that was captured, int16 (samples,)."""
        ...

    def play(self, samples: int, now: float) -> Pcm:
        """Return a block that is to be played, int16 (samples,)."""
        ...


class AudioDevice(Protocol):
    """A microphone and a speaker, mono, each with a clock of its own or both with one.

    capture_hz, play_hz: samples a second by these clocks.
    """

    @property
    def name(self) -> str:
        """What people call it."""
        ...

    @property
    def capture_hz(self) -> int:
        """Of what it captures."""
        ...

    @property
    def play_hz(self) -> int:
        """Of what it plays."""
        ...

    def start(self, sound: Sound, lost: Lost) -> None:
        """Begin; called in a running loop.

        Raises `DeviceError` where it cannot be had (any more).
        """
        ...

    def stop(self) -> None:
        """Capture and play no more; twice does nothing. Nothing is called after it returns."""
        ...
