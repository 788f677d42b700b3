"""What the rows of a mix say at one rate, for those that hear at another.

Resampling is linear: what all of one rate say is summed up first, and converted once for all who
hear at another rate. So a mix of three rates is six conversions, whoever is in it, a mix of one
rate none, and nobody's own voice has to be taken out of anything that was converted.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from voip.dsp.bank import ResamplerBank
from voip.media.columns import Rows
from voip.media.voices import STEPS_PER_SECOND

__all__ = ["Exchange"]

Pcm = npt.NDArray[np.float32]


class Exchange:
    """Converters of base steps between any two rates, for streams that have numbers."""

    def __init__(self) -> None:
        self._banks: dict[tuple[int, int], ResamplerBank] = {}
        self.converted = 0
        """Blocks converted so far."""

    def convert(
        self, streams: Rows, sound: Pcm, rate_in_hz: int, rate_out_hz: int, step: int
    ) -> Pcm:
        """Convert step number `step` of `streams` (k,), float32 (k, samples)."""
        if rate_in_hz == rate_out_hz:
            return sound
        bank = self._banks.get((rate_in_hz, rate_out_hz))
        if bank is None:
            bank = ResamplerBank(rate_in_hz, rate_out_hz, rate_in_hz // STEPS_PER_SECOND)
            self._banks[rate_in_hz, rate_out_hz] = bank
        self.converted += streams.size
        return bank.process(streams, sound, step)

    def forget(self, stream: int) -> None:
        """Let a stream begin anew: its number is another's now."""
        for bank in self._banks.values():
            bank.forget(stream)
