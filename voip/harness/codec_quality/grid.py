"""The whole grid: codecs, recordings, losses and seeds, by processes on all processors."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Final, TypeAlias

from voip.errors import ConfigError, MediaError
from voip.harness.codec_quality.clean import clean_score, packets_of, variants
from voip.harness.codec_quality.loss import (
    LOSSES,
    Cell,
    Kind,
    Remedy,
    codec_of,
    heard,
    lossy_codecs,
    lost_packets,
)
from voip.harness.codec_quality.report import QualityReport
from voip.harness.codec_quality.speech import Band, SpeechSet, check_judge, score, sound_at

__all__ = ["run"]

SEEDS: Final = 8
_NICE: Final = 10
_THREADS: Final = "OPENBLAS_NUM_THREADS"

Part: TypeAlias = tuple[str, QualityReport]
"""What a job says when it is done, and what it found."""


@dataclass(frozen=True, slots=True)
class _Clean:
    """One variant of a codec over one set."""

    variant: str
    speech: SpeechSet
    program: Path | None

    def __call__(self) -> Part:
        variant = variants()[self.variant]
        band = Band.of(variant.build().info.sample_rate)
        scores = {
            path.name: clean_score(variant, path, self.program)
            for path in self.speech.of_band(band)
        }
        report = QualityReport(bands={self.variant: band})
        if scores:
            report.clean[self.variant, self.speech.name] = scores
        return f"{self.variant}, {self.speech.name}", report


@dataclass(frozen=True, slots=True)
class _Lossy:
    """One codec over one recording, with each remedy."""

    codec: str
    recording: int
    path: Path
    remedies: tuple[Remedy, ...]
    cells: tuple[Cell, ...]

    def __call__(self) -> Part:
        info = codec_of(self.codec).info
        band = Band.of(info.sample_rate)
        sent = sound_at(self.path, info.sample_rate)
        packets = len(packets_of(sent, info))
        paths = [(cell.loss, lost_packets(cell, packets, self.recording)) for cell in self.cells]
        report = QualityReport(bands={self.codec: band})
        for remedy, sounds in heard(self.codec, sent, paths, self.remedies):
            report.lossy[self.codec, remedy] = {
                cell: {self.path.name: score(sent, sound, info.sample_rate, band)}
                for cell, sound in zip(self.cells, sounds, strict=True)
            }
        return f"{self.codec}, lossy, {self.path.name}", report


_Job: TypeAlias = _Clean | _Lossy


def run(
    sets: Sequence[SpeechSet],
    *,
    seeds: int = SEEDS,
    losses: Sequence[int] = LOSSES,
    codecs: Collection[str] | None = None,
    program: Path | None = None,
    processes: int | None = None,
    progress: Callable[[str], None] = print,
) -> QualityReport:
    """Judge every codec; lossy paths with the first set, which must have wide-band speech.

    codecs: only those whose names these are. program: a library of RFC 3951's program, another iLBC
    to compare with. processes: None for one on each processor, 0 for none but this one. Raises
    ConfigError without PESQ, MediaError where nothing was judged.
    """
    check_judge()
    jobs = list(_jobs(sets, seeds, losses, codecs, program))
    found = QualityReport(sets={one.name: one for one in sets}, seeds=seeds)
    for number, (said, part) in enumerate(_done(jobs, processes), 1):
        progress(f"{number} of {len(jobs)}: {said}")
        found.add(part)
    if not found.clean:
        raise MediaError("no codec was judged", hint="voip doctor says which there are")
    return found


def _jobs(
    sets: Sequence[SpeechSet],
    seeds: int,
    losses: Sequence[int],
    codecs: Collection[str] | None,
    program: Path | None,
) -> Iterator[_Job]:
    """Yield the long jobs first."""
    if not sets:
        raise ConfigError("there is no speech to judge codecs by")
    cells = (
        Cell(Kind.RANDOM.value, 0, 0),
        *(
            Cell(kind.value, loss, seed)
            for kind in Kind
            for loss in losses
            for seed in range(seeds if losses else 0)
        ),
    )
    wide = list(sets[0].of_band(Band.WIDE))
    for codec, remedies in lossy_codecs().items():
        if codecs is not None and codec not in codecs:
            continue
        for number, path in enumerate(wide):
            yield _Lossy(codec, number, path, remedies, cells)
    for name, variant in variants().items():
        if codecs is None or variant.format.name in codecs or name in codecs:
            yield from (_Clean(name, one, program) for one in sets)


def _done(jobs: Sequence[_Job], processes: int | None) -> Iterator[Part]:
    """Yield what jobs found, as they are done."""
    if processes == 0:
        yield from (job() for job in jobs)
        return
    count = min(len(jobs), processes or os.cpu_count() or 1)
    with (
        _one_thread_each(),
        ProcessPoolExecutor(count, get_context("spawn"), _begin) as pool,
    ):
        under_way = [pool.submit(job) for job in jobs]
        try:
            for one in as_completed(under_way):
                yield one.result()
        finally:
            for one in under_way:
                one.cancel()


def _begin() -> None:
    """Begin a process: let others go first, and end without a word where Ctrl-C ends all."""
    os.nice(_NICE)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Let processes that are started have no threads for matrices: they take turns already."""
    before = os.environ.get(_THREADS)
    os.environ[_THREADS] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_THREADS]
        else:
            os.environ[_THREADS] = before
