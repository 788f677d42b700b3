"""Calls whose packets repeat the ones before them (RFC 2198), over paths that lose some."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path as FilePath

import numpy as np
import pytest
from sound_scene import two_phones

import voip
from voip.call import Call
from voip.config import MediaConfig
from voip.errors import ConfigError
from voip.harness.audio import Sound
from voip.harness.codec_quality.speech import Band, score
from voip.harness.grade import pesq_installed
from voip.media.answers import StreamStats
from voip.sim import Path, World

SPEECH = FilePath(voip.__file__).parent / "assets" / "speech-8k.wav"


@dataclass
class Heard:
    pcm: np.ndarray
    stats: StreamStats
    codec: str | None


def listen(
    path: FilePath, codec: str, redundancy: tuple[int, int], loss: float, jitter_s: float = 0.0
) -> Heard:
    """Let Alice say something to Bob, who keeps what he hears; how often each of them repeats."""
    sides = [MediaConfig(codecs=(codec,), redundancy=times) for times in redundancy]
    found: list[Heard] = []
    up, said, kept = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def talk(call: Call) -> None:
        await up.wait()  # SIP loses packets, too
        await call.play(SPEECH)
        await asyncio.sleep(1)
        said.set()
        await kept.wait()

    async def answer(call: Call) -> None:
        await call.answer()
        async with call.record(path / "heard.wav"):
            await asyncio.sleep(1)
            up.set()
            await said.wait()
        stats = await call.measure()
        found.append(Heard(Sound.read(path / "heard.wav").samples, stats, call.codec))
        kept.set()
        await call.wait_ended()

    route = Path(delay_s=0.02, loss=loss, jitter_s=jitter_s)
    two_phones(
        talk, calling=sides[0], answering=sides[1], answer=answer, world=World(5, path=route)
    )
    return found[0]


def judge(heard: np.ndarray) -> float:
    """PESQ of what was heard, from where the speech begins in it."""
    said = Sound.read(SPEECH).samples
    n = 1 << (said.size + heard.size).bit_length()
    product = np.fft.rfft(heard.astype(float), n) * np.conj(np.fft.rfft(said.astype(float), n))
    lag = int(np.fft.irfft(product, n)[: heard.size].argmax())
    return score(said, heard[lag:], 8000, Band.NARROW)


@pytest.mark.long
@pytest.mark.parametrize(("loss", "better"), [(0.1, 0.4), (0.2, 0.6)])
def test_speech_survives_losses_where_packets_repeat(
    tmp_path: FilePath, loss: float, better: float
) -> None:
    """PCMU. Of packets lost each by itself, N repetitions leave loss**(N+1)."""
    heard = [listen(tmp_path, "pcmu", (times, times), loss) for times in (0, 1, 2)]
    for times, one in enumerate(heard):
        lost = one.stats.packets_lost
        assert lost > loss * 0.7 * (one.stats.packets_received + lost), "what is lost stays lost"
        left = (lost - one.stats.packets_recovered) / lost
        assert left == pytest.approx(loss**times, abs=0.08)
    if pesq_installed():
        scores = [judge(one.pcm) for one in heard]
        assert scores[1] > scores[0] + better, scores
        assert scores[2] > scores[1], scores


@pytest.mark.parametrize(
    "codec",
    ["pcma", "g722", *(pytest.param(one, marks=pytest.mark.long) for one in ("opus", "ilbc"))],
)
def test_any_codec_is_repeated(tmp_path: FilePath, codec: str) -> None:
    heard = listen(tmp_path, codec, (1, 0), 0.1, jitter_s=0.005)
    assert heard.codec == codec
    assert heard.stats.packets_recovered > 0.8 * heard.stats.packets_lost > 5


def test_only_who_is_asked_to_repeats_and_nothing_is_recovered_where_none_does(
    tmp_path: FilePath,
) -> None:
    """Bob would, and has not been offered it."""
    heard = listen(tmp_path, "pcmu", (0, 2), 0.1)
    assert heard.stats.packets_lost > 5
    assert heard.stats.packets_recovered == 0
    assert heard.stats.bytes_received == 160 * heard.stats.packets_received
    again = listen(tmp_path, "pcmu", (1, 0), 0.0)
    assert again.stats.bytes_received > 2 * 160 * (again.stats.packets_received - 2)
    assert again.stats.bytes_sent == 160 * again.stats.packets_sent, "Bob repeats nothing"
    with pytest.raises(ConfigError, match="redundancy=5"):
        MediaConfig(redundancy=5)
