"""What other rules let be heard of a trace: a fixed delay, PJSIP's, and one that knows all.

They play whole packets, a step of a packet's length at a time, and conceal as the engine does. A
fixed delay begins anew after ten packets in a row that were too late. PJSIP's rule is written from
its guide ("Jitter buffer features and operations", docs.pjsip.org): the best latency is the burst
level, how many packets come or go in a row; more is discarded progressively, a frame every
T1 + (T2 - T1) (level - 1) / 99 divided by the excess, never faster than one in 200 ms. How its
level falls is not told there: here a level is kept for two seconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from voip.codecs.g711 import ULAW_DECODE, ULAW_ENCODE
from voip.dsp.conceal import HISTORY_S, bridge, conceal, rejoin
from voip.dsp.pcm import to_int16
from voip.harness.audio import Pcm
from voip.harness.jitter_quality.listening import RATE_HZ, Heard
from voip.harness.jitter_quality.traces import Trace

__all__ = ["BASELINES"]

_Played: TypeAlias = tuple[list[int], float]
"""Which packet each step plays, -1 for none, and when the first step is."""
_Sound: TypeAlias = npt.NDArray[np.float32]
_NONE: Final = -1
_FIXED_S: Final = 0.060
_LATE_RUN: Final = 10
_T1_S, _T2_S, _MIN_GAP_S, _HISTORY_S = 2.0, 10.0, 0.2, 2.0


def _fixed(trace: Trace) -> _Played:
    """Let the first packet wait for 60 ms, and the others as long as that asks for."""
    step = trace.packet_s
    first = int(np.flatnonzero(~trace.lost)[0])
    begun = due = float(np.ceil((trace.arrival[first] + _FIXED_S) / step) * step)
    played: list[int] = []
    late = 0
    for number in range(first, trace.delay.size):
        there = trace.arrival[number] <= due + 1e-9
        late = 0 if there else late + (not trace.lost[number])
        if late == _LATE_RUN:
            again = float(np.ceil((trace.arrival[number] + _FIXED_S) / step) * step)
            waits = round((again - due) / step)
            played += [_NONE] * waits
            due, there, late = again, True, 0
        played.append(number if there else _NONE)
        due += step
    return played, begun


def _ideal(trace: Trace) -> _Played:
    """Wait just so long, from the first packet to the last, that none is too late."""
    longest = float(trace.delay[~trace.lost].max())
    numbers = np.where(trace.lost, _NONE, np.arange(trace.delay.size))
    return numbers.tolist(), float(trace.departure[0]) + longest


def _pjsip(trace: Trace) -> _Played:
    step = trace.packet_s
    order = np.argsort(trace.arrival, kind="stable")
    arrivals = deque(int(number) for number in order if not trace.lost[number])
    begun = float(np.ceil(trace.arrival[arrivals[0]] / step) * step)
    held: set[int] = set()
    played: list[int] = []
    following = arrivals[0]
    run, run_is_put, levels = 0, True, deque[tuple[float, int]]()
    filling, discarded = True, 0.0
    now = begun
    last = float(trace.arrival[~trace.lost].max())
    while now <= last + 1.0 and following < trace.delay.size:
        puts = 0
        while arrivals and trace.arrival[arrivals[0]] <= now + 1e-9:
            number = arrivals.popleft()
            puts += 1
            if number >= following:
                held.add(number)
        for is_put, count in ((True, puts), (False, 1)):
            if count and is_put == run_is_put:
                run += count
            elif count:
                run, run_is_put = count, is_put
            levels.append((now, run))
        while levels[0][0] < now - _HISTORY_S:
            levels.popleft()
        level = max(count for _, count in levels)
        size = max(held) - following + 1 if held else 0
        if filling and size < level:
            played.append(_NONE)
        elif not size:
            filling = True
            played.append(_NONE)
        else:
            filling = False
            excess = size - level
            gap = (_T1_S + (_T2_S - _T1_S) * (level - 1) / 99) / max(excess, 1)
            if excess > 0 and now - discarded >= max(gap, _MIN_GAP_S):
                discarded = now
                held.discard(following)
                following += 1
            played.append(following if following in held else _NONE)
            held.discard(following)
            following += 1
        now += step
    return played, begun


def _sound(
    numbers: list[int], pcm: Pcm, size: int, there: Callable[[int, int], bool]
) -> tuple[Pcm, int]:
    """Return what is heard, int16 (samples,), and the samples concealed, to 60 ms of each gap.

    there: whether, in a step, a packet has come, or is known.
    """
    decoded = ULAW_DECODE[ULAW_ENCODE[pcm.view(np.uint16)]]
    coded: _Sound = (decoded / np.float32(32768)).astype(np.float32)
    past: _Sound = np.zeros((1, round(HISTORY_S * RATE_HZ)), np.float32)
    elapsed, concealed = np.zeros(1, np.int64), 0
    out = np.zeros((len(numbers), size), np.float32)
    heard = bridged = False
    for step, number in enumerate(numbers):
        if number == _NONE:
            if heard:
                concealed += int(np.clip(480 - elapsed[0], 0, size))
                sound = conceal(past, elapsed, size)
                after = numbers[step + 1] if step + 1 < len(numbers) else _NONE
                bridged = elapsed[0] < 480 and after != _NONE and there(step, after)
                if bridged:
                    bridge(sound, coded[None, after * size : (after + 1) * size])
                out[step] = sound[0]
                elapsed += size
            continue
        packet = coded[None, number * size : (number + 1) * size].copy()
        if elapsed[0] and not bridged:
            rejoin(past, elapsed, packet)
        elapsed[:] = 0
        past = np.concatenate((past, packet), axis=1)[:, -past.shape[1] :]
        out[step], heard = packet[0], True
    return to_int16(out).ravel(), concealed


def _hear(rule: Callable[[Trace], _Played]) -> Callable[[Trace, Pcm], Heard]:
    def hear(trace: Trace, pcm: Pcm) -> Heard:
        """Let `pcm`, int16 (samples,), be heard over a trace."""
        numbers, begun = rule(trace)
        size = round(trace.packet_s * RATE_HZ)
        at = begun + np.arange(len(numbers), dtype=np.float64) * trace.packet_s

        def has_come(step: int, number: int) -> bool:
            return bool(trace.arrival[number] <= at[step] + 1e-9)

        sound, concealed = _sound(numbers, pcm, size, has_come)
        sample: npt.NDArray[np.float64] = np.array(numbers, np.float64) * size
        there = sample >= 0
        delay = at[there] - trace.phase_s - sample[there] / RATE_HZ
        sample = np.maximum.accumulate(np.where(there, sample, -np.inf))
        lost = np.count_nonzero(trace.lost) * 1000 * trace.packet_s
        gap_ms = max(0.0, 1000 * concealed / RATE_HZ - lost)
        return Heard(sound, at, sample, begun, 1000 * float(delay.mean()), gap_ms)

    return hear


BASELINES: Final = {
    "fixed 60 ms": _hear(_fixed),
    "PJSIP's rule": _hear(_pjsip),
    "ideal": _hear(_ideal),
}
"""What is heard by each, of a trace and the speech that its packets carry."""
