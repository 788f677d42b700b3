"""What a later packet repeats is waited for, by RED or FEC; what is late is remembered."""

from __future__ import annotations

import numpy as np
import pytest
from engine_desk import WAYS, Desk, place_of

from voip.codecs.core import CodecFormat
from voip.codecs.opus.codec import OpusCodec
from voip.codecs.opus.settings import OpusSettings
from voip.codecs.registry import default_registry
from voip.media.commands import AddSink, PayloadFormat

OPUS = PayloadFormat(111, "opus", 48000, 2)
G722 = PayloadFormat(9, "g722")
ILBC = PayloadFormat(97, "ilbc", fmtp="mode=20")


@pytest.fixture(params=WAYS)
def desk(request: pytest.FixtureRequest) -> Desk:
    return Desk(native=request.param)


def talk(seconds: float, ptime_ms: int, *, fec: bool) -> list[bytes]:
    """Opus packets of something like vowels with pauses, with or without in-band FEC."""
    settings = OpusSettings(bit_rate=24_000, fec=fec, expected_loss=20 if fec else 0)
    codec = OpusCodec(16_000, 1, settings)
    n = np.arange(round(16_000 * seconds))
    voice = sum(np.sin(2 * np.pi * 140 * k * n / 16_000) / k for k in range(1, 12))
    swell = 0.6 + 0.4 * np.sin(2 * np.pi * 3 * n / 16_000)
    spoken = n % 16_000 < 12_000  # and pauses, in which a delay may grow unheard
    pcm = (5000 * voice * swell * spoken).astype(np.int16)
    return [codec.encode(part) for part in pcm.reshape(-1, 16 * ptime_ms)]


def delays(desk: Desk, payloads: list[bytes], ptime_ms: int, every: int | None) -> list[float]:
    """The delay after 2 s, before anything is lost, and at the end; every n-th packet is lost."""
    desk.call(send_format=OPUS, receive_formats=(OPUS,), ptime_ms=ptime_ms)
    begin, span = desk.now, 48 * ptime_ms
    for n, payload in enumerate(payloads):
        if every and n * ptime_ms > 2000 and n % every == 0:
            continue
        at = begin + n * ptime_ms / 1000
        desk.rtp(n, span * n, payload, at=at, payload_type=111)
    found = []
    for seconds in (1.9, len(payloads) * ptime_ms / 1000 - 2.2):
        desk.run(seconds)
        found.append(desk.stats().current_delay_ms)
    return found


@pytest.mark.parametrize("every", [None, 7])
@pytest.mark.parametrize("fec", [False, True])
def test_the_next_packet_is_waited_for_where_it_has_what_is_lost(
    desk: Desk, *, fec: bool, every: int | None
) -> None:
    """Packets of 60 ms at a delay of 30 ms. Where nothing is lost, or repeated, none is added."""
    payloads = talk(12.0, 60, fec=fec)
    before, after = delays(desk, payloads, 60, every)
    if fec and every:
        assert after > before + 20
        stats = desk.stats()
        assert stats.packets_lost > 20
        assert stats.packets_recovered > 0.4 * stats.packets_lost
    else:
        assert after == pytest.approx(before, abs=1)
        assert desk.stats().packets_recovered == 0


def test_packets_say_themselves_whether_they_repeat() -> None:
    codec = OpusCodec(16_000, 1)
    repeating = [codec.has_fec(np.frombuffer(one, np.uint8)) for one in talk(2.0, 20, fec=True)]
    assert sum(repeating) > 40
    plain = talk(2.0, 20, fec=False)
    assert not any(codec.has_fec(np.frombuffer(one, np.uint8)) for one in plain)


# ---------------------------------------------------------------- what comes too late


@pytest.mark.parametrize("format_", [OPUS, G722, ILBC], ids=lambda format_: format_.name)
def test_a_codec_remembers_what_came_too_late_to_be_heard(
    desk: Desk, format_: PayloadFormat
) -> None:
    """Packet 50 comes when its time has been concealed: what follows it is heard as it was said."""
    codecs = [
        default_registry().create(
            CodecFormat(format_.name, format_.clock_rate, format_.channels, format_.fmtp)
        )
        for _ in range(3)
    ]
    rate, span = codecs[0].info.sample_rate, format_.clock_rate // 50
    sound = (np.random.default_rng(3).normal(0, 4000, 2 * rate)).astype(np.int16)
    payloads = [codecs[0].encode(part) for part in sound.reshape(-1, rate // 50)]
    fixed = {"jitter_min_ms": 20.0, "jitter_max_ms": 20.0}
    desk.call(send_format=format_, receive_formats=(format_,), settings=fixed)
    number = desk.engine.arena.allocate(4 * rate, rate)
    desk.do(AddSink(1, number))
    begin = desk.now
    for n, payload in enumerate(payloads):
        for _ in range(3 if n == 50 else 1):  # copies of it are no news
            at = begin + n * 0.02 + (0.035 if n == 50 else 0.0)
            desk.rtp(n, span * n, payload, at=at, payload_type=format_.payload_type)
    desk.run(2.2)
    stats = desk.stats()
    assert (stats.packets_late, stats.packets_lost, stats.packets_duplicate) == (1, -2, 2)
    heard = desk.engine.arena.ring(number).read(4 * rate)
    learned, patched = [], []
    for n, payload in enumerate(payloads):
        for codec, into in ((codecs[1], learned), (codecs[2], patched)):
            if n == 50:
                into.append(np.asarray(codec.conceal(rate // 50)))
                if into is learned:
                    codec.decode(payload)
            else:
                into.append(codec.decode(payload))
    lag = place_of(np.concatenate(learned), heard)
    after = slice(52 * rate // 50, 54 * rate // 50)
    part = heard[lag:][after].astype(int)
    with_it, without = (np.concatenate(one)[after].astype(int) for one in (learned, patched))
    assert np.abs(part - with_it).max() <= 1
    assert np.abs(part - without).max() > 10


def test_a_fixed_delay_counts_from_first_packets_that_are_late(desk: Desk) -> None:
    for stream, format_ in ((1, OPUS), (2, G722)):
        desk.call(
            stream, send_format=format_, receive_formats=(format_,),
            settings={"jitter_min_ms": 60.0, "jitter_max_ms": 60.0},
        )  # fmt: skip
    begin, payload = desk.now, talk(0.02, 20, fec=False)[0]
    for n in range(100):
        at = begin + n * 0.02 + (0.045 if n < 10 else 0.0)  # the first ones take a longer way
        desk.rtp(n, 960 * n, payload, at=at, payload_type=111)
        desk.rtp(n, 160 * n, bytes(160), at=at, stream=2, payload_type=9)
    desk.run(2.0)
    for stream in (1, 2):
        assert desk.stats(stream).packets_received == 100
        assert desk.stats(stream).played_ms >= 1900
