"""Between which bit rates an encoding works, by its name, clock and parameters."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from voip.fmtp import Value
from voip.sdp.format import Encoding

__all__ = ["bit_rates"]

_FIXED: Final[Mapping[Encoding, int]] = MappingProxyType(
    {
        ("pcmu", 8000, 1): 64_000,
        ("pcma", 8000, 1): 64_000,
        ("g722", 8000, 1): 64_000,
        ("gsm", 8000, 1): 13_200,
        ("g729", 8000, 1): 8_000,
    }
)
_OPUS: Final = (6_000, 510_000)
_SPEEX: Final = {8000: (2_150, 24_600), 16000: (3_950, 42_200), 32000: (4_150, 44_000)}
_AMR: Final = {
    "amr": (4750, 5150, 5900, 6700, 7400, 7950, 10200, 12200),
    "amr-wb": (6600, 8850, 12650, 14250, 15850, 18250, 19850, 23050, 23850),
}


def bit_rates(encoding: Encoding, parameters: Mapping[str, Value]) -> tuple[int, int] | None:
    """Return the least and the highest bit rate in bit/s, of sound alone; None where unknown."""
    name, clock_rate, channels = encoding
    fixed = _FIXED.get(encoding)
    if name == "l16":
        fixed = 16 * clock_rate * channels
    elif name == "ilbc":
        fixed = 15_200 if parameters.get("mode") == 20 else 13_333
    if fixed is not None:
        return fixed, fixed
    if name == "opus":
        limit = parameters.get("maxaveragebitrate")
        return _OPUS[0], limit if isinstance(limit, int) else _OPUS[1]
    if name in _AMR:
        rates = _AMR[name]
        modes = parameters.get("mode-set")
        used = [rates[mode] for mode in modes] if isinstance(modes, tuple) else rates
        return min(used), max(used)
    return _SPEEX.get(clock_rate) if name == "speex" else None
