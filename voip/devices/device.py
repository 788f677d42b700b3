"""What every sound device is, whatever is behind it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["AudioDevice", "DeviceInfo", "Exchange", "Lost"]

Pcm = npt.NDArray[np.int16]

Exchange = Callable[[Pcm, float], Pcm]
"""Takes a block that was captured, int16 (samples,), and returns as much that is to be played.

With it comes the time, in seconds of the monotonic clock that the media engine runs by.

Called by the device at its own pace, from whatever thread; it returns at once and never raises.
"""

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


class AudioDevice(Protocol):
    """Captures and plays mono sound by its own clock, block by block, in one step."""

    @property
    def name(self) -> str:
        """What people call it."""
        ...

    @property
    def rate_hz(self) -> int:
        """Samples a second, by the device's own clock."""
        ...

    @property
    def block_s(self) -> float:
        """How long a block is, about."""
        ...

    def start(self, exchange: Exchange, lost: Lost) -> None:
        """Begin; called in a running loop.

        Raises `DeviceError` where it cannot be had (any more).
        """
        ...

    def stop(self) -> None:
        """Exchange no more; returns when nothing more will be called. Twice does nothing."""
        ...
