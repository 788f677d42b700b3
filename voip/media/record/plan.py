"""What a recording is to be: said once, by whoever starts it."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path

from voip.errors import ConfigError
from voip.media.record.encoders import check_encoder
from voip.media.record.formats import RecordFormat, Sides, format_of, rate_for
from voip.media.wav import MAX_RATE_HZ, MIN_RATE_HZ

__all__ = ["MAX_PRE_ROLL_S", "Beep", "RecordPlan", "plan_of"]

MAX_PRE_ROLL_S = 60.0
"""How much sound from before a recording may be kept: 11.5 MB of both sides at 48 kHz."""
MIN_ROTATE_S = 1.0
MIN_ROTATE_MB = 0.01


@dataclass(frozen=True, slots=True)
class Beep:
    """The tone that tells people that they are recorded, at the start and then every so often.

    Half a second of 1400 Hz every 15 s, as is usual (US Federal Standard 1037C, "recorder warning
    tone"; the record tone of ITU-T E.180 supplement 2 for North America is the same). `to`: "both"
    sides, the other side or whoever is bridged to it too; "remote": only whom we speak to; "file":
    nobody hears it but who plays the recording.
    """

    frequency_hz: float = 1400.0
    duration_s: float = 0.5
    every_s: float = 15.0
    level_dbm0: float = -20.0
    to: str = "both"

    def __post_init__(self) -> None:
        if self.to not in ("both", "remote", "file"):
            raise ConfigError(f"a beep cannot go to {self.to!r}", hint="both, remote, file")
        if not (0 < self.duration_s < self.every_s <= 3600 and 0 < self.frequency_hz < 4000):
            raise ConfigError(
                f"no beep of {self.frequency_hz} Hz lasts {self.duration_s} of {self.every_s} s",
                hint="0 < duration_s < every_s, and less than 4000 Hz",
            )


@dataclass(frozen=True, slots=True)
class RecordPlan:
    """A checked wish. `rate_hz` None: that of the sound. Limits of None: none."""

    path: Path
    format: RecordFormat
    sides: Sides
    rate_hz: int | None = None
    pre_roll_s: float = 0.0
    beep: Beep | None = None
    rotate_s: float | None = None
    rotate_bytes: int | None = None
    sidecar: bool = False

    @property
    def rotates(self) -> bool:
        """Whether it may become several files."""
        return self.rotate_s is not None or self.rotate_bytes is not None

    @property
    def channels(self) -> tuple[str, ...]:
        """Who is heard in each channel of a file, or in each file of one channel."""
        match self.sides:
            case Sides.HEARD:
                return ("remote",)
            case Sides.SENT:
                return ("local",)
            case Sides.MONO:
                return ("remote+local",)
            case _:
                return ("remote", "local")

    @property
    def file_channels(self) -> int:
        """Channels of each file."""
        return 2 if self.sides is Sides.STEREO else 1

    @property
    def tracks(self) -> tuple[str, ...]:
        """What is added to the names of files that are written at the same time."""
        return ("remote", "local") if self.sides is Sides.SEPARATE else ("",)

    def file_rate(self, rate_hz: int) -> int:
        """Return the rate of the files for sound of `rate_hz`."""
        return self.rate_hz or rate_for(self.format, rate_hz, asked=False)

    def path_of(self, track: str, number: int) -> Path:
        """Return the path of a track's file, which is its `number`th, from 1 on."""
        parts = [self.path.stem]
        if track:
            parts.append(track)
        if self.rotates:
            parts.append(f"{number:03d}")
        return self.path.with_name("-".join(parts) + self.path.suffix)

    @property
    def sidecar_path(self) -> Path:
        """Where what is to be known about it is told."""
        return self.path.with_name(f"{self.path.name}.json")


def plan_of(
    path: str | PathLike[str],
    *,
    channels: str = "heard",
    kind: str | None = None,
    rate_hz: int | None = None,
    pre_roll_s: float = 0.0,
    beep: bool | Beep = False,
    rotate_s: float | None = None,
    rotate_mb: float | None = None,
    sidecar: bool = False,
) -> RecordPlan:
    """Check what is wished for; raises `ConfigError` for what cannot be."""
    try:
        sides = Sides(channels)
    except ValueError:
        known = ", ".join(item.value for item in Sides)
        raise ConfigError(f"no recording has {channels!r} channels", hint=known) from None
    written = format_of(path, kind)
    check_encoder(written)
    if rate_hz is not None:
        if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
            raise ConfigError(
                f"a recording cannot have {rate_hz} Hz", hint=f"{MIN_RATE_HZ} to {MAX_RATE_HZ}"
            )
        rate_for(written, rate_hz, asked=True)
    if not 0 <= pre_roll_s <= MAX_PRE_ROLL_S:
        raise ConfigError(f"{pre_roll_s} s are not kept", hint=f"0 to {MAX_PRE_ROLL_S:g} s")
    if rotate_s is not None and not rotate_s >= MIN_ROTATE_S:
        raise ConfigError(f"no new file every {rotate_s} s", hint=f"{MIN_ROTATE_S:g} s and more")
    if rotate_mb is not None and not rotate_mb >= MIN_ROTATE_MB:
        raise ConfigError(f"no new file every {rotate_mb} MB", hint=f"{MIN_ROTATE_MB:g} and more")
    return RecordPlan(
        Path(fspath(path)),
        written,
        sides,
        rate_hz,
        pre_roll_s,
        Beep() if beep is True else (beep or None),
        rotate_s,
        None if rotate_mb is None else int(rotate_mb * 1e6),
        sidecar,
    )
