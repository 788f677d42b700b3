"""Sample-rate conversion of many streams that come and go, a block of fixed length at a time.

The same filters as `Resampler`, to the same samples: a block and what came before it are
multiplied by one matrix, so that any number of streams are converted in one operation. Blocks are
such that they are a whole number of samples at both rates, as 10 ms are of most.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from voip.dsp.resample import filter_matrix
from voip.errors import ConfigError

__all__ = ["ResamplerBank"]

_ALONE = 1 << 18
"""Multiplications up to which the libraries beneath NumPy use no threads of theirs.

OpenBLAS begins to share at 65,536 times its `GEMM_MULTITHREAD_THRESHOLD` of 4.
"""

Pcm = npt.NDArray[np.float32]


class ResamplerBank:
    """Converts streams by number, blocks of `samples_in` samples each.

    A stream that was not converted in the step before begins anew, from silence. Raises
    ConfigError where a block is no whole number of samples at the other rate.
    """

    def __init__(self, rate_in_hz: int, rate_out_hz: int, samples_in: int) -> None:
        # matrix: float32 (history + samples_in, samples_out)
        if samples_in * rate_out_hz % rate_in_hz:
            raise ConfigError(
                f"{samples_in} samples at {rate_in_hz} Hz are no whole number at {rate_out_hz} Hz"
            )
        samples_out = samples_in * rate_out_hz // rate_in_hz
        self._matrix, self.delay = filter_matrix(rate_in_hz, rate_out_hz, samples_in, samples_out)
        self._samples_in, self._samples_out = samples_in, samples_out
        self._history = self._matrix.shape[0] - samples_in
        self._together = max(1, _ALONE // self._matrix.size)
        self._past: Pcm = np.zeros((0, self._history), np.float32)
        self._last = np.zeros(0, np.int64)  # the step in which a stream was converted

    def process(self, streams: npt.NDArray[np.intp], pcm: Pcm, step: int) -> Pcm:
        """Convert the next block of `streams` (k,), different ones: float32 (k, samples_in).

        `step` counts blocks, and is above 0. Returns float32 (k, samples_out).
        """
        if streams.size and streams.max() >= self._last.size:
            self._grow(int(streams.max()) + 1)
        buffer = np.empty((streams.size, self._matrix.shape[0]), np.float32)
        past = buffer[:, : self._history]
        past[:] = self._past[streams]
        past[self._last[streams] != step - 1] = 0.0
        buffer[:, self._history :] = pcm
        self._past[streams] = buffer[:, self._samples_in :]
        self._last[streams] = step
        if not buffer.any():
            return np.zeros((streams.size, self._samples_out), np.float32)
        out = np.empty((streams.size, self._samples_out), np.float32)
        for begin in range(0, streams.size, self._together):
            piece = slice(begin, begin + self._together)
            np.matmul(buffer[piece], self._matrix, out=out[piece])
        return out

    def forget(self, stream: int) -> None:
        """Let a stream begin anew, from silence: its number is another's now."""
        if stream < self._last.size:
            self._last[stream] = 0
            self._past[stream] = 0.0

    def _grow(self, streams: int) -> None:
        more = max(streams, 2 * self._last.size) - self._last.size
        self._past = np.concatenate((self._past, np.zeros((more, self._history), np.float32)))
        self._last = np.concatenate((self._last, np.zeros(more, np.int64)))
