"""What codecs cost: one stream, each of 64, and beside a native library in the same run.

The ways to do one thing take turns every 0.2 s of sound, round after round; of each such piece the
median over the rounds counts, so that what else the machine does matters little and to all alike.
Time is CPU time, for nothing here waits; that of the machine factor, its median over codecs, too.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from voip.codecs.core import CodecFormat
from voip.codecs.registry import Registry, default_registry
from voip.errors import CodecError, MediaError
from voip.harness.bench.calibration import REFERENCE, calibrate
from voip.harness.bench.codec_sides import FRAME_MS, Material, Work, alone, formats, together
from voip.harness.bench.native_codecs import native

__all__ = ["FIGURES", "STREAMS", "CodecCosts", "CodecReport", "run"]

STREAMS: Final = 64
"""How many streams a batch has."""
ROUNDS: Final = 5
FRAMES: Final = 200
BATCH_FRAMES: Final = 40
"""Frames of each stream in a round: of one alone, and of each in a batch."""
_BLOCK: Final = 10
"""Frames that one side codes before the others have their turn."""

FIGURES: Final = (
    "encode_us",
    "decode_us",
    "batch_encode_us",
    "batch_decode_us",
    "native_encode_us",
    "native_decode_us",
)
"""Microseconds for 20 ms of one stream."""


@dataclass(frozen=True, slots=True)
class CodecCosts:
    """What one codec costs. `us`: by the names in `FIGURES`, None where there is no such way.

    `native`: the library that it is compared with, None where there is none.
    """

    format: CodecFormat
    native: str | None
    us: Mapping[str, float | None]

    def to_json(self) -> dict[str, Any]:
        """Return the figures, and how many times faster than the sound one stream is coded."""
        return {
            **{name: _rounded(self.us.get(name)) for name in FIGURES},
            "real_time_factor": {
                way: None if us is None else round(1000 * FRAME_MS / us, 1)
                for way in ("encode", "decode")
                for us in (self.us.get(f"{way}_us"),)
            },
            "format": str(self.format),
            "fmtp": self.format.fmtp,
            "native": self.native,
        }


@dataclass(frozen=True, slots=True)
class CodecReport:
    """All codecs by name, and how much slower than the reference machine this one was."""

    codecs: Mapping[str, CodecCosts]
    rounds: int
    machine_factor: float

    def to_json(self) -> dict[str, Any]:
        """Return all figures and bars."""
        return {
            "codecs": {name: costs.to_json() for name, costs in self.codecs.items()},
            "streams": STREAMS,
            "rounds": self.rounds,
            "machine_factor": round(self.machine_factor, 3),
            "bars": self.bars(),
        }

    def bars(self) -> dict[str, dict[str, Any]]:
        """Return each bar, the figure that it is for, and whether it is met; None: not measured.

        What is compared with a native library is judged as it was measured, beside it; all else by
        what it would cost on the reference machine.
        """
        at = self.machine_factor
        bars = {
            f"{name}_batch_{way}_us": (self._us(name, f"batch_{way}_us", at), 0.3)
            for name in ("pcmu", "pcma")
            for way in ("encode", "decode")
        }
        ilbc = (("", "encode", 2000.0), ("", "decode", 1000.0))
        batch = (("batch_", "encode", 200.0), ("batch_", "decode", 60.0))
        for kind, way, bar in (*ilbc, *batch):
            bars[f"ilbc_{kind}{way}_us"] = (self._us("ilbc", f"{kind}{way}_us", at), bar)
        bars["opus_encode_over_native"] = (self._over("opus", "encode", 1.0, relative=True), 1.05)
        bars["opus_decode_over_native_us"] = (self._over("opus", "decode", 1.0), 4.0)
        for way in ("encode", "decode"):
            bars[f"g722_{way}_over_1.1_native_us"] = (self._over("g722", way, 1.1), 2.0)
        return {
            name: {
                "figure": _rounded(figure),
                "bar": bar,
                "met": None if figure is None else figure <= bar,
            }
            for name, (figure, bar) in bars.items()
        }

    def _us(self, codec: str, figure: str, machine_factor: float = 1.0) -> float | None:
        costs = self.codecs.get(codec)
        us = None if costs is None else costs.us.get(figure)
        return None if us is None else us / machine_factor

    def _over(self, codec: str, way: str, share: float, *, relative: bool = False) -> float | None:
        """Return microseconds beyond `share` of the native call, or what part of it ours is."""
        ours, bare = self._us(codec, f"{way}_us"), self._us(codec, f"native_{way}_us")
        if ours is None or bare is None:
            return None
        return ours / bare if relative else ours - share * bare


def run(
    registry: Registry | None = None,
    *,
    rounds: int = ROUNDS,
    frames: int = FRAMES,
    batch_frames: int = BATCH_FRAMES,
    progress: Callable[[str], None] = print,
    clock: Callable[[], float] = time.process_time,
) -> CodecReport:
    """Measure every codec of a registry, by default that of this package.

    A codec that cannot encode or decode here has no figures. Raises MediaError where none has any.
    """
    registry = registry or default_registry()
    costs, factors = {}, []
    for name, format_ in formats(registry).items():
        progress(f"{name} ...")
        factors.append(calibrate(3, time.process_time).factor(REFERENCE))
        try:
            costs[name] = _measure(registry, format_, rounds, frames, batch_frames, clock)
        except CodecError as error:  # its library is not installed, or decodes only
            progress(f"{name}: {error}")
            costs[name] = CodecCosts(format_, None, {})
    if not any(one.us for one in costs.values()):
        raise MediaError("no codec could be measured", hint="voip doctor says which there are")
    return CodecReport(costs, rounds, statistics.median(factors))


def _measure(
    registry: Registry,
    format_: CodecFormat,
    rounds: int,
    frames: int,
    batch_frames: int,
    clock: Callable[[], float],
) -> CodecCosts:
    info = registry.create(format_).info

    material = Material(info, frames)
    ours = alone(material, lambda: registry.create(format_))
    library, theirs = native(material, lambda: registry.create(format_), format_)
    us: dict[str, float] = {}
    for sides in (
        {"encode_us": ours.encode, "native_encode_us": theirs.encode},
        {"decode_us": ours.decode, "native_decode_us": theirs.decode},
    ):
        us |= _median_us(sides, frames, rounds, clock)

    many = Material(info, batch_frames, STREAMS)
    batch = together(many, lambda: registry.create(format_), format_)
    for sides in ({"batch_encode_us": batch.encode}, {"batch_decode_us": batch.decode}):
        for name, all_us in _median_us(sides, batch_frames, rounds, clock).items():
            us[name] = all_us / STREAMS
    return CodecCosts(
        format_, library, {name: one * FRAME_MS / material.frame_ms for name, one in us.items()}
    )


def _median_us(
    sides: Mapping[str, Work | None], frames: int, rounds: int, clock: Callable[[], float]
) -> dict[str, float]:
    """Let sides take turns at blocks of frames; return each one's median time of a frame."""
    there = {name: work for name, work in sides.items() if work is not None}
    blocks = range(0, frames, _BLOCK)
    # A side that codes what another has just coded finds the processor prepared for its branches.
    apart = len(blocks) // max(1, len(there))
    seconds: npt.NDArray[np.float64] = np.empty((rounds, len(there), len(blocks)))
    for turn in seconds:
        for step in range(len(blocks)):
            for side, work in enumerate(there.values()):
                block = (step + side * apart) % len(blocks)
                begin = blocks[block]
                before = clock()
                work(slice(begin, begin + _BLOCK))
                turn[side, block] = clock() - before
    median = np.median(seconds, axis=0).sum(axis=1) / frames * 1e6
    return dict(zip(there, median.tolist(), strict=True))


def _rounded(us: float | None) -> float | None:
    return None if us is None else round(us, 3)
