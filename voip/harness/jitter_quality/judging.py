"""Traces heard by us and by the baselines, and judged by PESQ: the figures of docs/jitter.md."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
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
    progress: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Return all figures. Raises ConfigError without PESQ.

    unheard: recordings that nothing was tuned by; seeds: of traces that nothing was tuned by.
    """
    check_judge()
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn"), os.nice, (_NICE,)) as pool:
        named, policies = _named(talk, pool, seeds)
        progress("named paths, and policies")
        others, _ = _named(unheard, pool, seeds, others=True)
        progress("named paths by other recordings")
        cells = [
            (kind, jitter, loss)
            for kind in KINDS
            for jitter in JITTERS_MS
            for loss in LOSSES
            if jitter or kind == next(iter(KINDS))
        ]
        traces = [
            [grid_trace(kind, jitter / 1000, loss / 100, talk.packets, seed) for seed in grid_seeds]
            for kind, jitter, loss in cells
        ]
        grid = []
        for (kind, jitter, loss), methods in zip(cells, _compare(talk, pool, traces), strict=True):
            grid.append({"kind": kind, "jitter_ms": jitter, "loss": loss, **methods})
            progress(f"{len(grid)} of {len(cells)}: {kind}, {jitter} ms, {loss} %")
    return {
        "recordings": len(talk.parts),
        "seconds": round(talk.pcm.size / RATE_HZ, 1),
        "unheard": len(unheard.parts),
        "unheard_seconds": round(unheard.pcm.size / RATE_HZ, 1),
        "seeds": len(seeds),
        "grid_seeds": len(grid_seeds),
        "named": named,
        "others": others,
        "policies": policies,
        "grid": grid,
    }


def _named(
    talk: Talk, pool: ProcessPoolExecutor, seeds: Sequence[int], *, others: bool = False
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return figures by named path and method, and of policies; of us alone and none: `others`."""
    phases = [(at + 0.5) * PACKET_S / len(seeds) for at in range(len(seeds))]
    traces = {
        name: [
            scenario(name, talk.packets, seed, phase)
            for seed, phase in zip(seeds, phases, strict=True)
        ]
        for name in SCENARIOS
    }
    found = _compare(talk, pool, list(traces.values()), ours=others)
    named = dict(zip(traces, found, strict=True))
    policies = {}
    for name, allowance in () if others else ALLOWANCES.items():
        settings = {"jitter_allowance": allowance}
        one = next(_compare(talk, pool, [traces["gamma"]], settings, ours=True))
        policies[name] = one[OURS]
    return named, policies


def _compare(
    talk: Talk,
    pool: ProcessPoolExecutor,
    cells: Sequence[Sequence[Trace]],
    settings: Mapping[str, Any] | None = None,
    *,
    ours: bool = False,
) -> Iterator[dict[str, dict[str, float]]]:
    """Yield for each cell, a few traces alike, what each method comes to; `ours`: we alone."""
    methods = () if ours else tuple(BASELINES)
    waiting = []
    for traces in cells:
        calls = [(trace, talk.pcm) for trace in traces]
        heard = {OURS: listen(calls, settings=settings)}
        heard |= {name: [BASELINES[name](*call) for call in calls] for name in methods}
        scores = {
            name: [pool.submit(_scores, talk, one) for one in all_of_it]
            for name, all_of_it in heard.items()
        }
        waiting.append((heard, scores))
    for heard, scores in waiting:
        yield {
            name: _figures(all_of_it, [future.result() for future in scores[name]])
            for name, all_of_it in heard.items()
        }


def _figures(heard: Sequence[Heard], scores: Sequence[Sequence[float]]) -> dict[str, float]:
    return {
        "mos": round(float(np.mean(scores)), 3),
        "mos_spread": round(float(np.std(np.mean(scores, axis=1))), 3),  # over the calls
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
