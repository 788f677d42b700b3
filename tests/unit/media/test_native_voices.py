"""Rows whose codecs remember, in C and without: gaps, delays that change, mixes of short steps."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from engine_desk import DTMF, PCMU
from test_native import G722, ILBC, OPUS, OPUS_DTX, Pair, coded, pytestmark  # noqa: F401

from voip.codecs import g722
from voip.media.commands import MixStream, OpenMix, PayloadFormat, RouteStream
from voip.media.playout import PLAYING
from voip.rtp.packet import pack_header

FORMATS = (
    G722, OPUS, OPUS_DTX, ILBC, PayloadFormat(3, "gsm"), PayloadFormat(98, "speex", 16000),
    PayloadFormat(99, "amr", fmtp="octet-align=1"), PayloadFormat(100, "amr-wb", 16000), PCMU,
)  # fmt: skip


def count_asked(pair: Pair) -> Counter:
    """Count the steps of rows with voices that play, and those of them that C leaves to Python."""
    playout = pair.desks[0].engine._table.playout
    native = pair.desks[0].engine._intake.native
    assert native is not None
    counts: Counter = Counter()

    def counted(name: str, play):
        def counting(rows, count, due, *, coded=False):
            if coded:
                counts[name] += int((playout.state[rows] == PLAYING).sum())
            return play(rows, count, due, coded=coded)

        return counting

    playout.play = counted("asked", playout.play)  # type: ignore[method-assign]
    native.play = counted("steps", native.play)  # type: ignore[method-assign]
    pair.desks[0].engine._playout.play = native.play  # type: ignore[method-assign]
    return counts


def arrive(
    pair: Pair, stream: int, format_: PayloadFormat, delays_s: np.ndarray, lost: np.ndarray
) -> None:
    """Let a stream's packets of 20 ms come with these delays, but for those that are lost."""
    begin = pair.desks[0].now + 0.0013 * stream
    payloads = coded(format_, stream, 0.02 * delays_s.size, 20)
    for number, payload in enumerate(payloads):
        if not lost[number]:
            header = pack_header(
                format_.payload_type, 900 + number, number * format_.clock_rate // 50, stream
            )
            at = begin + 0.02 * number + float(delays_s[number])
            pair.each("put", header + payload, at=at, stream=stream)


@pytest.mark.long
@pytest.mark.parametrize("mixed", [False, True], ids=["20 ms", "mixes of 10 ms"])
def test_gaps_and_delays_that_rise_and_fall_come_to_the_same(mixed: bool) -> None:
    rng = np.random.default_rng(5)
    pair = Pair()
    counts = count_asked(pair)
    streams = dict(enumerate(FORMATS, 1))
    for stream, format_ in streams.items():
        pair.each(
            "call", stream, send_format=format_, receive_formats=(PCMU, format_, DTMF),
            settings={"jitter_allowance": 0.15},
        )  # fmt: skip
        if not mixed:
            pair.each("do", RouteStream(stream, stream))
    if mixed:
        pair.each("do", OpenMix(99))
        for stream in streams:
            pair.each("do", MixStream(stream, 99))
    packets = 100 if mixed else 400
    for stream, format_ in streams.items():
        delays = rng.uniform(0, 0.01, packets)
        delays[:40] += rng.exponential(0.03, 40)  # a bad beginning, which is got over
        delays[rng.random(packets) < 0.02] += 0.03
        delays[packets * 4 // 5 :] += 0.035 * (stream % 2)  # the path is another one
        lost = rng.random(packets) < 0.03
        if not mixed:
            lost[220 : 240 + 10 * stream] = True  # pauses, most of them longer than codecs fill
        arrive(pair, stream, format_, delays, lost)
    pair.run(0.02 * packets + 0.2)
    played, rows = pair.desks[0].engine._table.playout, slice(len(FORMATS))
    assert (played.concealed[rows] > 0).all()
    assert np.count_nonzero(played.expanded[rows]) >= 2  # what was waited for came
    assert mixed or np.count_nonzero(played.accelerated[rows]) >= 2
    assert counts["steps"] > (len(FORMATS) - 1) * packets  # G.711 has tables
    assert counts["asked"] < (0.2 if mixed else 0.1) * counts["steps"]


def test_what_only_python_codes_is_left_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """G.722 by the package G722, where the loop was built and codecs were not."""
    monkeypatch.setattr(g722, "adapter", lambda name: 0)
    rng = np.random.default_rng(7)
    pair = Pair()
    counts = count_asked(pair)
    pair.each("call", 1, send_format=G722, receive_formats=(PCMU, G722))
    pair.each("do", RouteStream(1, 1))
    arrive(pair, 1, G722, rng.uniform(0, 0.03, 100), rng.random(100) < 0.05)
    pair.run(2.2)
    voicing = pair.desks[0].engine._table.playout.voicing
    assert voicing.hears[0] and voicing.says[0] and not voicing.hear_function[0]
    assert pair.desks[0].engine._table.playout.concealed[0] > 0
    assert counts["asked"] > 80
    assert pair.compared > 1e5
