"""An Opus decoder of one stream."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from voip.codecs.opus.binding import State, address, address_to_write, libopus
from voip.codecs.opus.toc import (
    FRAME_UNITS,
    MAX_FRAME,
    MAX_PACKET_UNITS,
    UNITS_PER_SECOND,
    read_packet,
)
from voip.codecs.pcm import Pcm
from voip.errors import CodecError

__all__ = ["OpusDecoder"]


class OpusDecoder:
    """Gives PCM at `rate_hz` (8, 12, 16, 24 or 48 kHz), `channels` interleaved; int16 or float32.

    It takes packets of any bandwidth, mono or stereo. Raises CodecError where there is no libopus,
    or none that works so.
    """

    def __init__(self, rate_hz: int, channels: int) -> None:
        self._library = libopus()
        self._channels = channels
        self._unit = rate_hz * channels // UNITS_PER_SECOND
        self._frame = tuple(units * self._unit for units in FRAME_UNITS)
        self.state = State(self._library.check(self._library.decoder_size(channels), "decoder"))
        self._library.check(
            self._library.decoder_init(self.state.pointer, rate_hz, channels),
            f"a decoder for {rate_hz} Hz, {channels} channels",
        )
        self._int16, self._uint8 = np.dtype(np.int16), np.dtype(np.uint8)

    def samples(self, payload: npt.NDArray[np.uint8]) -> int:
        """Return how many samples a packet holds, those of all channels together.

        Raises CodecError for one that is malformed.
        """
        if payload.dtype != self._uint8 or payload.ndim != 1:
            raise CodecError(f"Opus decodes uint8 (octets,), not {payload.dtype} {payload.shape}")
        if 0 < payload.size <= MAX_FRAME + 1:
            toc: int = payload.item(0)
            if not toc & 3:  # one frame: there is nothing else to look at
                return self._frame[toc >> 3]
        return read_packet(payload.data).units * self._unit

    def decode_into(self, payload: npt.NDArray[np.uint8], out: Pcm) -> int:
        """Decode a packet into the beginning of `out`; return how many samples it gave."""
        samples = self.samples(payload)
        self._decode(address(payload), payload.size, out, samples, fec=0)
        return samples

    def conceal_into(self, samples: int, out: Pcm) -> None:
        """Go on for `samples` samples that were lost, into the beginning of `out`.

        `samples` is a multiple of 2.5 ms; of all channels together.
        """
        most = MAX_PACKET_UNITS * self._unit
        for begin in range(0, samples, most):
            self._decode(None, 0, out[begin:], min(most, samples - begin), fec=0)

    def decode_fec_into(self, payload: npt.NDArray[np.uint8], samples: int, out: Pcm) -> None:
        """Decode what a packet repeats of the one before it, which held `samples` samples.

        Where it repeats nothing, or less, the library conceals. `samples` as for `conceal_into`.
        """
        self.samples(payload)  # well-formed, or it raises
        if samples < 1 or samples % self._unit:
            raise CodecError(f"{samples} samples are no multiple of 2.5 ms, {self._unit} of them")
        lead = max(0, samples - MAX_PACKET_UNITS * self._unit)
        self.conceal_into(lead, out)
        self._decode(address(payload), payload.size, out[lead:], samples - lead, fec=1)

    def whole_units(self, samples: int) -> int:
        """Return the least multiple of 2.5 ms that holds `samples` samples."""
        return samples + -samples % self._unit

    def _decode(self, data: int | None, size: int, out: Pcm, samples: int, fec: int) -> None:
        if out.size < samples:
            raise CodecError(f"opus needs room for {samples} samples, there is {out.size}")
        if out.dtype == self._int16:
            decode = self._library.decode
        elif out.dtype == np.float32:
            decode = self._library.decode_float
        else:
            raise CodecError(f"Opus decodes to int16 or float32, not {out.dtype}")
        per_channel = samples // self._channels
        done: int = decode(self.state.pointer, data, size, address_to_write(out), per_channel, fec)
        if done != per_channel:
            self._library.check(done, "decoding")
            raise CodecError(f"libopus decoded {done} samples of {per_channel}")
