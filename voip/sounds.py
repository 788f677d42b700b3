"""The sounds that ship with the package: human speech and the prompts of the embedded PBX.

`voip/assets/README.md` says what each holds, where it comes from and under which licence.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from importlib.resources import as_file, files
from importlib.resources.abc import Traversable
from pathlib import Path

from voip.errors import ConfigError

__all__ = ["ASSETS", "asset", "asset_path"]

ASSETS = ("speech-8k.wav", "speech-16k.wav", "prompt-8k.wav", "enter-digits-8k.wav")
"""Every name there is: WAV, mono, 16 bit, at the rate the name says."""


def asset(name: str) -> bytes:
    """Return the bytes of the WAV file `name`. Raises ConfigError where there is none."""
    return _find(name).read_bytes()


def asset_path(name: str) -> AbstractContextManager[Path]:
    """Give the WAV file `name` as a path while the context lasts (the package may be zipped)."""
    return as_file(_find(name))


def _find(name: str) -> Traversable:
    if name not in ASSETS:
        raise ConfigError(f"no sound named {name!r} ships", hint=f"there are {', '.join(ASSETS)}")
    return files("voip").joinpath("assets", name)
