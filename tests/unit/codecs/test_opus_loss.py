"""Redundancy is of use: under loss it beats concealment, which beats silence, by PESQ."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import NoReturn

import numpy as np
import numpy.typing as npt
import pytest

from voip.codecs.opus.codec import OpusCodec
from voip.codecs.opus.settings import OpusSettings
from voip.harness.audio import Sound
from voip.harness.grade import pesq_installed

pytestmark = [pytest.mark.reference, pytest.mark.usefixtures("library"), pytest.mark.long]

RATE_HZ, FRAME, BIT_RATE = 16000, 320, 24_000
SEEDS = (1, 2)
Pcm = npt.NDArray[np.int16]


class Remedy(Enum):
    """What is done about a packet that is lost; the bit rate is the same for all."""

    REDUNDANCY = "decode_fec of the packet after it, where that is there"
    CONCEALMENT = "conceal; no bits are spent on redundancy"
    SILENCE = "zeros; no bits are spent on redundancy"


@pytest.fixture(scope="module")
def pesq(missing: Callable[[str], NoReturn]) -> Callable[[Pcm, Pcm], float]:
    if not pesq_installed():
        missing("the package pesq is not installed")
    from pesq import pesq as score

    return lambda sent, heard: float(score(RATE_HZ, sent[: heard.size], heard, "nb"))


@pytest.fixture(scope="module")
def speech(reference_data: Path) -> list[Pcm]:
    """Sentences of LibriVox at 16 kHz."""
    names = sorted((reference_data / "speech/librivox-16k-pocketsphinx").glob("sense*.wav"))
    assert len(names) >= 5
    return [Sound.read(name).samples for name in names]


def losses(count: int, loss: float, burst: float, seed: int) -> npt.NDArray[np.bool_]:
    """Say which packets are lost: a share of `loss`, on average `burst` in a row.

    Two states (Gilbert's model); a burst of 1 / (1 - loss) is what independent losses have.
    """
    rng = np.random.default_rng(seed)
    leave = 1 / burst
    enter = loss * leave / (1 - loss)
    lost, states = False, []
    for chance in rng.random(count):
        lost = chance >= leave if lost else chance < enter
        states.append(lost)
    return np.array(states)


def heard_through(samples: Pcm, loss: float, burst: float, remedy: Remedy, seed: int) -> Pcm:
    """Encode, lose packets, decode with a remedy."""
    redundant = remedy is Remedy.REDUNDANCY
    settings = OpusSettings(BIT_RATE, fec=redundant, expected_loss=round(100 * loss))
    codec = OpusCodec(RATE_HZ, 1, settings)
    whole = samples[: samples.size - samples.size % FRAME].reshape(-1, FRAME)
    packets = [codec.encode(frame) for frame in whole]
    lost = losses(len(packets), loss, burst, seed)
    followed = np.append(~lost[1:], False)
    heard = []
    for number, packet in enumerate(packets):
        if not lost[number]:
            heard.append(codec.decode(packet))
        elif remedy is Remedy.SILENCE:
            heard.append(np.zeros(FRAME, np.int16))
        elif redundant and followed[number]:
            heard.append(codec.decode_fec(packets[number + 1], FRAME))
        else:
            heard.append(codec.conceal(FRAME))
    return np.concatenate(heard)


@pytest.mark.parametrize("kind", ["alone", "in bursts"])
@pytest.mark.parametrize("loss", [0.05, 0.1, 0.2])
def test_redundancy_beats_concealment_beats_silence(
    pesq: Callable[[Pcm, Pcm], float], speech: list[Pcm], loss: float, kind: str
) -> None:
    burst = 1 / (1 - loss) if kind == "alone" else 2.0
    means = {
        remedy: np.mean(
            [
                pesq(samples, heard_through(samples, loss, burst, remedy, seed))
                for seed in SEEDS
                for samples in speech
            ]
        )
        for remedy in Remedy
    }
    told = ", ".join(f"{remedy.name.lower()} {mean:.2f}" for remedy, mean in means.items())
    print(f"{loss:.0%} lost {kind}: {told}")
    assert means[Remedy.REDUNDANCY] > means[Remedy.CONCEALMENT] + 0.25, means
    assert means[Remedy.CONCEALMENT] > means[Remedy.SILENCE] + 0.4, means
