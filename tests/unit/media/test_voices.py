"""Streams whose codecs remember, in the engine: G.722, iLBC, Opus and L16 beside G.711."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from engine_desk import HOST, PCMU, Desk, describe, place_of, speech
from hypothesis import given, settings
from hypothesis import strategies as st

from voip.codecs.core import CodecFormat
from voip.codecs.opus.codec import OpusCodec
from voip.codecs.opus.settings import OpusSettings
from voip.codecs.registry import default_registry
from voip.media.commands import (
    AddSink,
    ConnectStream,
    DtmfReceived,
    MixStream,
    OpenMix,
    OpenStream,
    PayloadFormat,
    RouteStream,
    SendDtmf,
    SetSource,
)
from voip.rtp.rtcp import SenderReport, parse_compound

G722 = PayloadFormat(9, "g722")
OPUS = PayloadFormat(111, "opus", 48000, 2, "useinbandfec=1")
ILBC_20 = PayloadFormat(97, "ilbc", fmtp="mode=20")
ILBC_30 = PayloadFormat(98, "ilbc", fmtp="mode=30")
L16 = PayloadFormat(99, "l16", 16000)
FORMATS = [G722, OPUS, ILBC_20, ILBC_30, L16]
RATES = {"g722": 16000, "opus": 48000, "ilbc": 8000, "l16": 16000}
EVENTS_48K = PayloadFormat(102, "telephone-event", 48000)

Pcm = npt.NDArray[np.int16]


def name_of(format_: PayloadFormat) -> str:
    return f"{format_.name} {format_.fmtp}".strip()


every_format = pytest.mark.parametrize("format_", FORMATS, ids=name_of)


@pytest.fixture
def desk() -> Desk:
    return Desk()


def codec_of(format_: PayloadFormat):
    name, clock, channels = format_.name, format_.clock_rate, format_.channels
    return default_registry().create(CodecFormat(name, clock, channels, format_.fmtp))


def tone(seconds: float, rate: int, hz: float = 700.0) -> Pcm:
    t = np.arange(int(seconds * rate)) / rate
    slow = 1 + 0.3 * np.sin(2 * np.pi * 3 * t)
    return (6000 * slow * np.sin(2 * np.pi * hz * t)).astype(np.int16)


def call(desk: Desk, format_: PayloadFormat, stream: int = 1, **more: object) -> int:
    """Open a stream of one format both ways, whose sound is kept at its codec's rate."""
    rate = RATES.get(format_.name, 8000)
    formats = {"send_format": format_, "receive_formats": (format_,)} | more
    desk.do(OpenStream(stream, HOST, "x"), describe(stream, **formats))
    number = desk.engine.arena.allocate(20 * rate, rate)
    desk.do(AddSink(stream, number))
    desk.sinks[stream], desk.pcm[stream] = number, []
    return desk.row(stream)


def feed(desk: Desk, pcm: Pcm, rate: int, stream: int = 1) -> None:
    number = desk.engine.arena.allocate(pcm.size, rate)
    desk.engine.arena.ring(number).push(pcm)
    desk.engine.arena.ring(number).close()
    desk.do(SetSource(stream, number))


def packets(format_: PayloadFormat, pcm: Pcm, ptime_ms: int) -> list[bytes]:
    codec = codec_of(format_)
    size = codec.info.sample_rate * ptime_ms // 1000
    return [codec.encode(pcm[at : at + size]) for at in range(0, pcm.size - size + 1, size)]


def come(
    desk: Desk,
    format_: PayloadFormat,
    payloads: list[bytes],
    ptime_ms: int,
    *,
    lost: tuple[int, ...] = (),
    sequence: int = 100,
    timestamp: int = 3000,
    stream: int = 1,
) -> None:
    """Let packets arrive at their pace, from now on."""
    for n, payload in enumerate(payloads):
        if n not in lost:
            desk.rtp(
                sequence + n,
                timestamp + n * ptime_ms * format_.clock_rate // 1000,
                payload,
                at=desk.now + n * ptime_ms / 1000,
                payload_type=format_.payload_type,
                stream=stream,
            )


def pitch(pcm: Pcm, rate: int) -> float:
    spectrum = np.abs(np.fft.rfft(pcm * np.hanning(pcm.size)))
    return float(spectrum.argmax() * rate / pcm.size)


def ptime_of(format_: PayloadFormat) -> int:
    return 30 if format_ is ILBC_30 else 20


@every_format
def test_what_comes_is_heard_as_the_codec_itself_decodes_it(
    desk: Desk, format_: PayloadFormat
) -> None:
    ptime = ptime_of(format_)
    call(desk, format_)
    payloads = packets(format_, tone(3.0, codec_of(format_).info.sample_rate), ptime)
    come(desk, format_, payloads, ptime)
    desk.run(3.5)
    codec = codec_of(format_)
    expected = np.concatenate([codec.decode(payload) for payload in payloads])
    heard = desk.heard()
    lag = place_of(expected, heard)
    part = heard[lag : lag + expected.size]
    assert part.size == expected.size > 20_000
    assert np.abs(part.astype(int) - expected).max() <= 1  # Opus decodes to float32 here
    assert lag / RATES[format_.name] <= 0.1
    stats = desk.stats()
    assert (stats.packets_lost, stats.packets_late, stats.concealed_ms) == (0, 0, 0)
    assert stats.jitter_ms == pytest.approx(0, abs=0.2)


@every_format
@pytest.mark.parametrize("ptime_ms", [10, 20, 40, 60])
def test_what_is_sent_is_what_the_codec_itself_encodes(
    desk: Desk, format_: PayloadFormat, ptime_ms: int
) -> None:
    """Packets have as many whole frames as fit into the time that was agreed on."""
    row = call(desk, format_, ptime_ms=ptime_ms)
    rate = RATES[format_.name]
    sound = tone(2.4, rate)
    feed(desk, sound, rate)
    desk.run(2.5)
    sent = [p for p in desk.io.sent if p.row == row]
    whole = {20: {10: 20, 20: 20, 40: 40, 60: 60}, 30: {10: 30, 20: 30, 40: 30, 60: 60}}
    ptime = whole[ptime_of(format_)][ptime_ms] if format_.name == "ilbc" else ptime_ms
    if format_ is L16 and ptime_ms == 60:  # 1,400 octets are the most
        ptime = 40
    steps = {(b.timestamp - a.timestamp) & 0xFFFFFFFF for a, b in zip(sent, sent[1:], strict=False)}
    assert steps == {ptime * format_.clock_rate // 1000}
    codec, size = codec_of(format_), rate * ptime // 1000
    if format_ is L16 and ptime_ms == 60:
        return
    first = next(n for n, p in enumerate(sent) if p.payload == codec.encode(sound[:size]))
    compared = 1
    for n, packet in enumerate(sent[first + 1 :], 1):
        piece = sound[n * size : (n + 1) * size]
        if piece.size < size:
            break
        assert packet.payload == codec.encode(piece)
        compared += 1
    assert compared >= 2300 // ptime - 3
    assert {p.payload_type for p in sent} == {format_.payload_type}
