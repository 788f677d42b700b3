"""A hundred parties in one room, all speaking at once: who hears whom, as a matrix.

All say the same round of a chirp with a flat spectrum (its phases are Schroeder's, IEEE Trans. Inf.
Theory 16, 1970), whose correlation with itself is nothing but at no delay; each says it later by a
code of its own. What is judged is decoded from the packets that each is sent.
"""

from __future__ import annotations

import numpy as np
import pytest
from engine_desk import RATE, Desk
from test_mix import MIX

from voip.codecs.g711 import ULAW_DECODE
from voip.media.commands import MixStream, OpenMix

PARTIES = 100
ROUND, CODE = RATE, 77
"""Samples of a round, and between codes, which leave a gap: nobody can be taken for another."""
RMS = 350.0
OWN_DB = -40.0


def chirp() -> np.ndarray:
    """One round: float64 (ROUND,), of all frequencies alike."""
    lines = np.arange(ROUND // 2 + 1)
    spectrum = np.exp(-1j * np.pi * lines**2 / lines.size)
    spectrum[[0, -1]] = 1  # which are real
    sound = np.fft.irfft(spectrum, ROUND)
    return RMS * sound / np.sqrt(np.mean(sound**2))


def matched(heard: np.ndarray) -> np.ndarray:
    """How much of the chirp there is at each delay, 1 as it is said: float64 (ROUND,)."""
    known = chirp()
    spectrum = np.fft.rfft(heard[:ROUND]) * np.conj(np.fft.rfft(known))
    return np.fft.irfft(spectrum, ROUND) / np.sum(known**2)


def codes_in(found: np.ndarray, ear: int) -> np.ndarray:
    """How loud each code is, by the delay at which there is most of the others': (PARTIES,)."""
    codes = CODE * np.arange(PARTIES)
    others = np.delete(codes, ear)
    totals = [found[(delay + others) % ROUND].sum() for delay in range(ROUND)]
    return found[(int(np.argmax(totals)) + codes) % ROUND]


@pytest.mark.long
def test_each_of_a_hundred_hears_the_99_others_and_not_itself(desk: Desk) -> None:
    for stream in range(1, PARTIES + 1):
        desk.call(stream, settings={"jitter_min_ms": 40})
    desk.sinks.clear()
    desk.do(OpenMix(MIX), *(MixStream(stream, MIX) for stream in range(1, PARTIES + 1)))
    round_ = np.rint(chirp()).astype(np.int16)
    for code in range(PARTIES):
        desk.say(np.tile(np.roll(round_, code * CODE), 2), stream=code + 1, begin=desk.now)
    desk.run(1.6)
    levels = np.zeros((PARTIES, PARTIES))
    payloads: dict[int, list[bytes]] = {}
    for packet in desk.io.sent:
        payloads.setdefault(packet.row, []).append(packet.payload)
    for ear in range(PARTIES):
        coded = np.frombuffer(b"".join(payloads[desk.row(ear + 1)]), np.uint8)
        sent = ULAW_DECODE[coded].astype(float)
        assert np.abs(sent).max() < 32000  # nothing was limited
        levels[ear] = codes_in(matched(sent[-ROUND:]), ear)
    own = np.abs(np.diag(levels))
    others = levels[~np.eye(PARTIES, dtype=bool)]
    assert others.size == PARTIES * (PARTIES - 1)
    print(f"own voice {20 * np.log10(own.max()):.1f} dB at most, others {others.min():.3f} to "
          f"{others.max():.3f} of what they say")  # fmt: skip
    assert np.abs(others - 1).max() < 0.05
    assert 20 * np.log10(own.max()) < OWN_DB
