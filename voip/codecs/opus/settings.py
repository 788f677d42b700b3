"""What an Opus encoder is asked to do; all of it can change between two packets."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Final

from voip.codecs.opus.toc import Bandwidth
from voip.errors import ConfigError

__all__ = [
    "MAX_BIT_RATE",
    "MIN_BIT_RATE",
    "Application",
    "OpusSettings",
    "RateControl",
    "Signal",
]

MIN_BIT_RATE: Final = 6_000
MAX_BIT_RATE: Final = 510_000
"""Bits a second between which Opus works (RFC 6716, section 2.1.1)."""


class Application(IntEnum):
    """What the sound is for; the values are libopus'. Low delay does without the speech layer."""

    VOIP = 2048
    AUDIO = 2049
    LOW_DELAY = 2051


class Signal(IntEnum):
    """What the sound is; the values are libopus'."""

    AUTO = -1000
    VOICE = 3001
    MUSIC = 3002


class RateControl(Enum):
    """How the bit rate follows the sound: freely, within what a second carries, not at all."""

    VBR = "vbr"
    CONSTRAINED_VBR = "cvbr"
    CBR = "cbr"


@dataclass(frozen=True, slots=True)
class OpusSettings:
    """Settings of an encoder.

    `bit_rate` in bit/s; `complexity` 0 to 10, CPU against quality. `fec`: packets repeat what the
    one before had, as well as `expected_loss` (percent) is worth it; at 0 none do. `dtx`: silence
    is sent every 400 ms only. `bandwidth`: always this one; None: the best for the bit rate, up
    to `max_bandwidth`. `channels`: 1 or 2 whatever the sound has; None: as the sound is.
    Another `application` begins the stream anew. Raises ConfigError for values out of range.
    """

    bit_rate: int = 32_000
    rate_control: RateControl = RateControl.CONSTRAINED_VBR
    complexity: int = 9
    fec: bool = True
    expected_loss: int = 0
    dtx: bool = False
    bandwidth: Bandwidth | None = None
    max_bandwidth: Bandwidth = Bandwidth.FULL
    channels: int | None = None
    signal: Signal = Signal.AUTO
    application: Application = Application.VOIP

    def __post_init__(self) -> None:
        for name, value, low, high in (
            ("bit_rate", self.bit_rate, MIN_BIT_RATE, MAX_BIT_RATE),
            ("complexity", self.complexity, 0, 10),
            ("expected_loss", self.expected_loss, 0, 100),
            ("channels", 1 if self.channels is None else self.channels, 1, 2),
        ):
            if not low <= value <= high:
                raise ConfigError(f"Opus: {name} is {value}", hint=f"from {low} to {high}")
