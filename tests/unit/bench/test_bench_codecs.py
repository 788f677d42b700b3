"""What Opus costs: both sides are measured. How long they take is not judged here."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from voip.codecs.opus.binding import libopus
from voip.errors import CodecError
from voip.harness.bench.codecs import opus_costs


def test_opus_is_measured_beside_the_bare_call(missing: Callable[[str], NoReturn]) -> None:
    try:
        libopus()
    except CodecError as error:
        missing(str(error))
    costs = opus_costs(rounds=2, frames=40)
    assert list(costs) == ["encode_us", "native_encode_us", "decode_us", "native_decode_us"]
    assert all(1 < cost < 1e6 for cost in costs.values())
    assert costs["encode_us"] > costs["decode_us"], "Opus encodes longer than it decodes"
