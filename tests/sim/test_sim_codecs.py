"""Phones of the simulated world whose calls speak other codecs than G.711."""

from __future__ import annotations

import asyncio
from pathlib import Path as FilePath

import numpy as np
import pytest
from sound_scene import two_phones

import voip.codecs.registry as registry_module
from voip import Softphone
from voip.call import Call
from voip.codecs.coder import ArrayCodec
from voip.codecs.core import CodecInfo, Ways
from voip.codecs.registry import CodecEntry, register
from voip.codecs.shadow import Mismatch, ShadowCodec
from voip.config import MediaConfig
from voip.errors import CallError, ConfigError
from voip.harness.audio import Sound, dominant_tone
from voip.sim import Path

ALL = ("opus", "g722", "ilbc", "l16/16000", "pcmu")
RATES = {"opus": 48000, "g722": 16000, "ilbc": 8000, "l16": 16000, "pcmu": 8000}


def tone(seconds: float, rate: int, hz: float) -> np.ndarray:
    return (8000 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).astype(
        np.int16
    )


@pytest.mark.parametrize(
    ("loss", "codec"),
    [(0.05, codec) for codec in ALL]
    + [pytest.param(0.0, codec, marks=pytest.mark.long) for codec in ALL],
)
def test_a_call_sounds_by_the_codec_both_have(tmp_path: FilePath, codec: str, loss: float) -> None:
    """There and back, at the codec's own rate, across a hold; digits go beside it."""
    name = codec.split("/")[0]
    rate = RATES[name]

    async def talk(call: Call) -> None:
        assert (call.codec, call.rate) == (name, rate)
        high = 3000.0 if rate > 8000 else 1000.0
        for round_, hz in enumerate((700.0, high)):
            path = tmp_path / f"{round_}.wav"
            async with call.record(path):
                await call.play(tone(2.0, rate, hz))
                await asyncio.sleep(0.3)
            heard = Sound.read(path)
            assert heard.rate_hz == rate
            middle = Sound(heard.samples[rate // 2 : 3 * rate // 2], rate)
            found = dominant_tone(middle)
            assert found is not None
            assert found.frequency_hz == pytest.approx(hz, abs=3)
            await call.hold()
            await asyncio.sleep(0.5)
            await call.resume()
        figures = await call.measure()
        assert (figures.packets_lost > 0) == (loss > 0)
        assert figures.jitter_ms is not None
        assert figures.jitter_ms < 1.0
        await call.send_dtmf("12")

    two_phones(
        talk,
        calling=MediaConfig(codecs=(codec,)),
        answering=MediaConfig(codecs=ALL),
        path=Path(delay_s=0.02, loss=loss),
    )


def test_the_first_of_the_callers_that_the_callee_has_is_used() -> None:
    async def talk(call: Call) -> None:
        assert call.codec == "g722"

    two_phones(
        talk,
        calling=MediaConfig(codecs=("opus", "g722", "pcmu")),
        answering=MediaConfig(codecs=("pcmu", "g722")),
    )


@pytest.mark.parametrize(
    ("ours", "theirs", "ptime_ms"),
    [
        (20, 20, 20),
        (20, 30, 30),
        pytest.param(30, 20, 30, marks=pytest.mark.long),
        pytest.param(30, 30, 30, marks=pytest.mark.long),
    ],
)
def test_ilbc_has_the_longer_frame_if_either_side_prefers_it(
    ours: int, theirs: int, ptime_ms: int
) -> None:
    """RFC 3952, section 5: 30 ms if either says 30."""

    async def talk(call: Call) -> None:
        await call.play(tone(3.0, 8000, 500.0))
        figures = await call.measure()
        assert figures.packets_sent == pytest.approx(3000 / ptime_ms, abs=8)
        size = {20: 38, 30: 50}[ptime_ms]
        assert figures.bytes_sent == size * figures.packets_sent
        assert figures.bytes_received == size * figures.packets_received > 0

    two_phones(
        talk,
        calling=MediaConfig(codecs=("ilbc",), ptime_ms=ours),
        answering=MediaConfig(codecs=("ilbc",), ptime_ms=theirs),
    )


def test_codecs_that_nobody_shares_make_no_call() -> None:
    async def talk(call: Call) -> None:
        raise AssertionError(call.codec)

    with pytest.raises(CallError, match="488"):
        two_phones(
            talk,
            calling=MediaConfig(codecs=("opus",)),
            answering=MediaConfig(codecs=("g722", "pcmu")),
        )


def test_digits_are_heard_beside_opus() -> None:
    async def reverses(call: Call) -> None:
        await call.answer()
        digits = await call.collect(4, timeout=10, terminator=None)
        await call.send_dtmf(digits[::-1])
        await call.wait_ended()

    async def talk(call: Call) -> None:
        await call.send_dtmf("159#")
        assert await call.collect(4, timeout=10, terminator=None) == "#951"

    opus = MediaConfig(codecs=("opus",))
    lossy = Path(delay_s=0.02, loss=0.05)
    two_phones(talk, answer=reverses, calling=opus, answering=opus, path=lossy)


def test_a_codec_that_there_is_not_is_refused_before_anything_is_opened() -> None:
    with pytest.raises(ConfigError, match="no codec 'evs'"):
        Softphone("sip:alice@10.0.0.1", register=False, media=MediaConfig(codecs=("evs",)))
    with pytest.raises(ConfigError, match="l16/48000/2: 10 ms of l16/48000/2 fit into no packet"):
        Softphone("sip:a@10.0.0.1", register=False, media=MediaConfig(codecs=("l16/48000/2",)))
    with pytest.raises(ConfigError, match="no codec 'l16/12345'"):
        Softphone("sip:a@10.0.0.1", register=False, media=MediaConfig(codecs=("l16/12345",)))


class _L8:
    """The upper eight bits of each sample: somebody's own codec."""

    def octets(self, samples: int) -> int:
        return samples

    def samples(self, payload: np.ndarray) -> int:
        return payload.size

    def encode(self, pcm: np.ndarray, out: np.ndarray) -> int:
        out[:] = (pcm >> 8) + 128
        return out.size

    def decode(self, payload: np.ndarray, out: np.ndarray) -> None:
        out[:] = (payload.astype(np.int16) - 128) * 256 + 128


def test_calls_speak_a_codec_that_somebody_has_registered(
    monkeypatch: pytest.MonkeyPatch, tmp_path: FilePath
) -> None:
    monkeypatch.setattr(registry_module, "_default", None)
    info = CodecInfo("l8", 32000, 32000, 1, 1, 20, 256_000, 0.0)
    register(CodecEntry(info, lambda format_: ArrayCodec(info, _L8)))

    async def talk(call: Call) -> None:
        assert (call.codec, call.rate) == ("l8", 32000)
        async with call.record(tmp_path / "heard.wav"):
            await call.play(tone(2.0, 32000, 9000.0))
        heard = Sound.read(tmp_path / "heard.wav")
        found = dominant_tone(Sound(heard.samples[16000:48000], 32000))
        assert found is not None
        assert found.frequency_hz == pytest.approx(9000, abs=3)

    l8 = MediaConfig(codecs=("l8", "pcmu"))
    two_phones(talk, calling=l8, answering=l8)


def test_a_codec_that_goes_one_way_only_is_in_no_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_module, "_default", None)
    info = CodecInfo("l8", 8000, 8000, 1, 1, 20, 64_000, 0.0)
    register(CodecEntry(info, lambda format_: ArrayCodec(info, _L8), lambda: Ways.DECODE))
    with pytest.raises(ConfigError, match="l8 can only be decoded here"):
        Softphone("sip:alice@10.0.0.1", register=False, media=MediaConfig(codecs=("l8",)))


def test_a_call_may_run_two_implementations_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference is written sample by sample; what it does otherwise is told."""
    monkeypatch.setattr(registry_module, "_default", None)
    wrong: list[Mismatch] = []
    shadows: list[ShadowCodec] = []

    def build(reference: type[_L8], info: CodecInfo) -> ShadowCodec:
        shadow = ShadowCodec(
            ArrayCodec(info, _L8), ArrayCodec(info, reference), report=wrong.append
        )
        shadows.append(shadow)
        return shadow

    class OneByOne(_L8):
        def decode(self, payload: np.ndarray, out: np.ndarray) -> None:
            for n, octet in enumerate(payload.tolist()):
                out[n] = (octet - 128) * 256 + 128

    class Wrong(_L8):
        def decode(self, payload: np.ndarray, out: np.ndarray) -> None:
            super().decode(payload, out)
            out[payload == 150] += 1

    async def talk(call: Call) -> None:
        await call.play(tone(2.0, 8000, 440.0))

    info = CodecInfo("l8", 8000, 8000, 1, 1, 20, 64_000, 0.0)
    for reference in (OneByOne, Wrong):
        wrong.clear()
        shadows.clear()
        register(CodecEntry(info, lambda format_, reference=reference: build(reference, info)))
        l8 = MediaConfig(codecs=("l8",))
        two_phones(talk, calling=l8, answering=l8)
        counted = [shadow.counts for shadow in shadows]
        assert sum(counts.decoded for counts in counted) > 180
        assert sum(counts.encoded for counts in counted) > 180
        assert bool(wrong) == (reference is Wrong)
        assert len(wrong) == sum(counts.decoded_differently for counts in counted)
        assert sum(counts.encoded_differently for counts in counted) == 0
