"""Traces heard by us and by the baselines, and judged by PESQ: the figures of docs/jitter.md."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any, Final

import numpy as np

from voip.harness.audio import Pcm
from voip.harness.codec_quality.speech import Band, SpeechSet, check_judge, score, sound_at
from voip.harness.jitter_quality.baselines import BASELINES
from voip.harness.jitter_quality.listening import RATE_HZ, Heard, listen
from voip.harness.jitter_quality.scenarios import SCENARIOS, scenario
from voip.harness.jitter_quality.traces import KINDS, PACKET_S, Trace, grid_trace
from voip.rtp.jitter import ALLOWANCE
from voip.rtp.jitter_policy import ALLOWANCES

__all__ = ["JITTERS_MS", "LOSSES", "OURS", "Talk", "judge"]

JITTERS_MS: Final = (0, 20, 40, 60, 100)
LOSSES: Final = (0, 5, 10, 20)
"""Percent."""
OURS: Final = "ours"
_LEAD_S: Final = 2.0
"""Silence before the first word."""
_AFTER: Final = round(0.1 * RATE_HZ)
_NICE: Final = 10


@dataclass(frozen=True, slots=True, eq=False)
class Talk:
    """Recordings one after the other, as one call: int16, and the samples at which each begins."""

    pcm: Pcm
    parts: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, speech: SpeechSet) -> Talk:
        """Join the recordings of a set, in whole packets, after a silence."""
        size = round(PACKET_S * RATE_HZ)
        noise = np.random.default_rng(5).normal(0, 8, round(_LEAD_S * RATE_HZ))
        pieces, parts = [noise.astype(np.int16)], []
        at = pieces[0].size
        for path in speech.files:
            sound = sound_at(path, RATE_HZ)
            sound = sound[: sound.size // size * size]
            pieces.append(sound)
            parts.append((at, at + sound.size))
            at += sound.size
        return cls(np.concatenate(pieces), tuple(parts))

    @property
    def packets(self) -> int:
        """How many packets it takes."""
        return self.pcm.size // round(PACKET_S * RATE_HZ)


def judge(
    talk: Talk,
    unheard: Talk,
    *,
    seeds: Sequence[int],
    grid_seeds: Sequence[int],
    workers: int | None = None,
    progress: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Return all figures. Raises ConfigError without PESQ.

    unheard: recordings that nothing was tuned by; seeds: of traces that nothing was tuned by.
    workers: processes that judge, as many as there are processors by default.
    """
    check_judge()
    cells = [
        (kind, jitter, loss)
        for kind in KINDS
        for jitter in JITTERS_MS
        for loss in LOSSES
        if jitter or kind == next(iter(KINDS))
    ]
    count = workers or os.cpu_count()
    with ProcessPoolExecutor(count, get_context("spawn"), os.nice, (_NICE,)) as pool:
        named = {
            name: pool.submit(_compare, talk, traces)
            for name, traces in _named(talk, seeds).items()
        }
        policies = {
            name: pool.submit(_compare, talk, _named(talk, seeds)["gamma"], allowance)
            for name, allowance in ALLOWANCES.items()
        }
        others = {
            name: pool.submit(_compare, unheard, traces, ALLOWANCE)
            for name, traces in _named(unheard, seeds).items()
        }
        grid = [
            pool.submit(_compare, talk, [_of_cell(talk, cell, seed) for seed in grid_seeds])
            for cell in cells
        ]
        everything = (*named.values(), *policies.values(), *others.values(), *grid)
        for done, _ in enumerate(as_completed(everything), 1):
            progress(f"{done} of {len(everything)}")
    return {
        "recordings": len(talk.parts),
        "seconds": round(talk.pcm.size / RATE_HZ, 1),
        "unheard": len(unheard.parts),
        "unheard_seconds": round(unheard.pcm.size / RATE_HZ, 1),
        "seeds": len(seeds),
        "grid_seeds": len(grid_seeds),
        "named": {name: one.result() for name, one in named.items()},
        "others": {name: one.result() for name, one in others.items()},
        "policies": {name: one.result()[OURS] for name, one in policies.items()},
        "grid": [
            {"kind": kind, "jitter_ms": jitter, "loss": loss, **one.result()}
            for (kind, jitter, loss), one in zip(cells, grid, strict=True)
        ],
    }


def _named(talk: Talk, seeds: Sequence[int]) -> dict[str, list[Trace]]:
    """Return the traces of each named path, at evenly spread times between the listener's steps."""
    phases = [(at + 0.5) * PACKET_S / len(seeds) for at in range(len(seeds))]
    return {
        name: [
            scenario(name, talk.packets, seed, phase)
            for seed, phase in zip(seeds, phases, strict=True)
        ]
        for name in SCENARIOS
    }


def _of_cell(talk: Talk, cell: tuple[str, int, int], seed: int) -> Trace:
    kind, jitter, loss = cell
    return grid_trace(kind, jitter / 1000, loss / 100, talk.packets, seed)


def _compare(
    talk: Talk, traces: Sequence[Trace], allowance: float | None = None
) -> dict[str, dict[str, float]]:
    """Return what each method comes to over traces alike; we alone, with an allowance."""
    calls = [(trace, talk.pcm) for trace in traces]
    settings = {} if allowance is None else {"jitter_allowance": allowance}
    heard = {OURS: listen(calls, settings=settings)}
    if allowance is None:
        heard |= {name: [hear(*call) for call in calls] for name, hear in BASELINES.items()}
    return {
        name: _figures(all_of_it, [_scores(talk, one) for one in all_of_it])
        for name, all_of_it in heard.items()
    }


def _figures(heard: Sequence[Heard], scores: Sequence[Sequence[float]]) -> dict[str, float]:
    calls = np.mean(scores, axis=1)
    return {
        "mos": round(float(np.mean(calls)), 3),
        "mos_error": round(float(np.std(calls, ddof=1) / np.sqrt(calls.size)), 3),
        "delay_ms": round(float(np.mean([one.delay_ms for one in heard])), 1),
        "delay_spread_ms": round(float(np.std([one.delay_ms for one in heard])), 1),
        "gap_ms": round(float(np.mean([one.gap_ms for one in heard])), 1),
    }


def _scores(talk: Talk, heard: Heard) -> list[float]:
    """Return the MOS-LQO of each recording."""
    return [
        score(talk.pcm[begin:end], heard.of(begin, end + _AFTER), RATE_HZ, Band.NARROW)
        for begin, end in talk.parts
    ]
