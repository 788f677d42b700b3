"""How a conference is to sound."""

from __future__ import annotations

from dataclasses import dataclass

from voip.entry_tones import Announce
from voip.errors import ConfigError

__all__ = ["RATES_HZ", "Settings"]

RATES_HZ = (8000, 16000, 24000, 32000, 48000)


@dataclass(frozen=True, slots=True)
class Settings:
    """How a conference sounds: see `Softphone.conference`."""

    rate: int | None = None
    loudest: int | None = None
    announce: Announce | None = None

    def __post_init__(self) -> None:
        if self.rate is not None and self.rate not in RATES_HZ:
            raise ConfigError(
                f"a conference has no rate of {self.rate} Hz",
                hint="one of " + ", ".join(map(str, RATES_HZ)),
            )
        if self.loudest is not None and self.loudest < 1:
            raise ConfigError(f"the {self.loudest} loudest are nobody", hint="1 or more, or None")
