"""Opus as a `Codec`: an encoder and a decoder of one stream, each made when it is first used."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

from voip.codecs.core import CodecInfo
from voip.codecs.direct import Direct
from voip.codecs.opus.binding import libopus
from voip.codecs.opus.decoder import OpusDecoder
from voip.codecs.opus.encoder import OpusEncoder
from voip.codecs.opus.fmtp import OpusParameters, sending, widest
from voip.codecs.opus.settings import OpusSettings
from voip.codecs.opus.toc import (
    MAX_FRAME,
    PACKET_UNITS,
    UNITS_PER_SECOND,
    Bandwidth,
    read_packet,
)
from voip.codecs.pcm import Pcm
from voip.errors import CodecError

__all__ = ["OPUS", "OpusCodec"]

OPUS: Final = CodecInfo(
    name="opus",
    clock_rate=48000,
    sample_rate=48000,
    channels=2,
    frame_samples=48000 // UNITS_PER_SECOND,
    ptime_ms=20,
    bit_rate=OpusSettings().bit_rate,
    algorithmic_delay_ms=26.5,
    conceals=True,
    packet_frames=PACKET_UNITS,
)
"""RFC 7587: 48000 and 2 whatever is sent. The delay is that of 20 ms frames."""


_IN_CALLS: Final = OpusSettings(expected_loss=5)
"""Where nobody knows the path: some redundancy for who can use it, at little cost of sound."""


class OpusCodec:
    """Opus at `rate_hz` (8, 12, 16, 24 or 48 kHz) with 1 or 2 `channels`, which it may mix.

    PCM that goes in or out of arrays of the caller's is int16 or float32. Raises CodecError for
    other rates and channels, and where there is no libopus.
    """

    def __init__(
        self, rate_hz: int = 48000, channels: int = 1, settings: OpusSettings | None = None
    ) -> None:
        libopus()
        if rate_hz not in list(Bandwidth) or channels not in (1, 2):
            raise CodecError(
                f"Opus cannot work with {channels} channels of {rate_hz} Hz",
                hint="1 or 2 of " + ", ".join(str(int(rate)) for rate in Bandwidth) + " Hz",
            )
        self._settings = settings or OpusSettings()
        self._info = replace(
            OPUS,
            sample_rate=rate_hz,
            frame_samples=rate_hz // UNITS_PER_SECOND,
            bit_rate=self._settings.bit_rate,
            pcm_channels=channels,
        )

    @classmethod
    def negotiated(cls, fmtp: str, wanted: OpusSettings | None = None) -> OpusCodec:
        """Build one for a direction from the receiver's fmtp: the peer's to send, ours to receive.

        The receiver's `maxplaybackrate` sets the rate, `stereo` the channels.
        """
        receiver = OpusParameters.read(fmtp)
        return cls(
            int(widest(receiver.maxplaybackrate)),
            2 if receiver.stereo else 1,
            sending(receiver, wanted or _IN_CALLS),
        )

    @cached_property
    def _encoder(self) -> OpusEncoder:
        return OpusEncoder(self._info.sample_rate, self._info.pcm_channels, self._settings)

    @cached_property
    def _decoder(self) -> OpusDecoder:
        return OpusDecoder(self._info.sample_rate, self._info.pcm_channels)

    @property
    def info(self) -> CodecInfo:
        """What is known about the encoding."""
        return self._info

    @property
    def settings(self) -> OpusSettings:
        """What the encoder is asked to do."""
        return self._settings

    def configure(self, settings: OpusSettings) -> None:
        """Encode otherwise from the next packet on."""
        self._encoder.configure(settings)
        self._settings = settings
        self._info = replace(self._info, bit_rate=settings.bit_rate)

    @property
    def lookahead(self) -> int:
        """By how many samples of each channel what is decoded comes later than what was encoded."""
        return self._encoder.lookahead

    def encode(self, pcm: Pcm) -> bytes:
        """Encode (samples,) of 2.5, 5, 10, 20, 40, 60, 80, 100 or 120 ms into one packet."""
        return self._encoder.encode(pcm)

    def decode(self, payload: bytes) -> npt.NDArray[np.int16]:
        """Decode a packet to int16 (samples,): as many as it says it holds."""
        octets = np.frombuffer(payload, np.uint8)
        pcm = np.empty(self._decoder.samples(octets), np.int16)
        self._decoder.decode_into(octets, pcm)
        return pcm

    def conceal(self, samples: int) -> npt.NDArray[np.int16]:
        """Go on where packets are missing, or were not sent: DTX's comfort noise."""
        if samples < 0:
            raise CodecError(f"opus cannot conceal {samples} samples")
        pcm = np.empty(self._decoder.whole_units(samples), np.int16)
        self._decoder.conceal_into(pcm.size, pcm)
        return pcm[:samples]

    def decode_fec(self, payload: bytes, samples: int | None = None) -> npt.NDArray[np.int16]:
        """Decode `samples` samples that were lost just before `payload`, which is decoded after.

        None: as many as it holds itself. Where it repeats nothing of them they are concealed.
        """
        octets = np.frombuffer(payload, np.uint8)
        count = self._decoder.samples(octets) if samples is None else samples
        pcm = np.empty(max(0, count), np.int16)
        self._decoder.decode_fec_into(octets, count, pcm)
        return pcm

    def has_fec(self, payload: npt.NDArray[np.uint8]) -> bool:
        """Whether a packet repeats what the one before it had, in its first frame."""
        octets = payload.tobytes()
        return read_packet(octets).has_fec(octets)

    def conceal_into(self, out: Pcm) -> None:
        """Fill `out` (samples,), a multiple of 2.5 ms, where packets are missing."""
        self._decoder.conceal_into(out.size, out)

    def decode_fec_into(self, payload: npt.NDArray[np.uint8], out: Pcm) -> None:
        """As `decode_fec`, into all of `out`."""
        self._decoder.decode_fec_into(payload, out.size, out)

    def samples(self, payload: npt.NDArray[np.uint8]) -> int:
        """Return how many samples a packet holds, those of all channels together.

        Raises CodecError for one that is malformed.
        """
        return self._decoder.samples(payload)

    def encode_into(self, pcm: Pcm, out: npt.NDArray[np.uint8]) -> int:
        """Encode into the beginning of `out`; return how many octets it took.

        `out` has at least 1276 octets for each 20 ms. With DTX, 1 or 2 octets need not be sent
        (RFC 7587, section 3.1.3).
        """
        return self._encoder.encode_into(pcm, out)

    def decode_into(self, payload: npt.NDArray[np.uint8], out: Pcm) -> int:
        """Decode into the beginning of `out`; return how many samples it gave."""
        return self._decoder.decode_into(payload, out)

    def direct_decoder(self) -> Direct | None:
        """Return how C decodes; of mono, until `reset`."""
        if self._info.pcm_channels != 1:
            return None
        state, unit = self._decoder.state, self._info.frame_samples
        address = libopus().decode_float_address
        return Direct(
            0, unit, function=address, state=state.pointer, keeps=state, conceals=True, repeats=True
        )

    def direct_encoder(self) -> Direct | None:
        """Return how C encodes; of mono, until `reset`."""
        if self._info.pcm_channels != 1:
            return None
        state, unit = self._encoder.state, self._info.frame_samples
        address = libopus().encode_float_address
        room = MAX_FRAME + 1
        return Direct(0, unit, room, function=address, state=state.pointer, keeps=state)

    def reset(self) -> None:
        """Forget what went before; the settings stay."""
        vars(self).pop("_encoder", None)
        vars(self).pop("_decoder", None)
