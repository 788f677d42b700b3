"""An Opus encoder of one stream."""

from __future__ import annotations

from ctypes import byref, c_int, c_int32
from typing import Final

import numpy as np
import numpy.typing as npt

from voip.codecs.opus.binding import State, address, address_to_write, libopus
from voip.codecs.opus.settings import OpusSettings, RateControl
from voip.codecs.opus.toc import MAX_FRAME, PACKET_UNITS, UNITS_PER_SECOND, Bandwidth
from voip.codecs.pcm import Pcm
from voip.errors import CodecError

__all__ = ["OpusEncoder"]

_AUTO: Final = -1000
_SET_APPLICATION, _SET_BIT_RATE, _SET_MAX_BANDWIDTH, _SET_VBR = 4000, 4002, 4004, 4006
_SET_BANDWIDTH, _SET_COMPLEXITY, _SET_FEC, _SET_LOSS = 4008, 4010, 4012, 4014
_SET_DTX, _SET_CONSTRAINT, _SET_CHANNELS, _SET_SIGNAL = 4016, 4020, 4022, 4024
_GET_LOOKAHEAD, _RESET = 4027, 4028
_BANDWIDTHS: Final = {bandwidth: 1101 + number for number, bandwidth in enumerate(Bandwidth)}
_UNITS_OF_A_FRAME: Final = 8
"""Longer packets hold frames of 20 ms."""


class OpusEncoder:
    """Takes PCM at `rate_hz` (8, 12, 16, 24 or 48 kHz), `channels` interleaved; int16 or float32.

    Raises CodecError where there is no libopus, or none that works so.
    """

    def __init__(self, rate_hz: int, channels: int, settings: OpusSettings) -> None:
        self._library = libopus()
        self._unit = rate_hz * channels // UNITS_PER_SECOND
        self._channels = channels
        self._needs = {
            units * self._unit: -(-units // _UNITS_OF_A_FRAME) * (MAX_FRAME + 1)
            for units in PACKET_UNITS
        }
        self.state = State(self._library.check(self._library.encoder_size(channels), "encoder"))
        self._library.check(
            self._library.encoder_init(self.state.pointer, rate_hz, channels, settings.application),
            f"an encoder for {rate_hz} Hz, {channels} channels",
        )
        self._int16 = np.dtype(np.int16)
        self._float32 = np.dtype(np.float32)
        self._settings = settings
        self.configure(settings)

    @property
    def settings(self) -> OpusSettings:
        """What it is asked to do now."""
        return self._settings

    @property
    def lookahead(self) -> int:
        """By how many samples of each channel what is decoded comes later than what was encoded."""
        value = c_int32()
        self._control(_GET_LOOKAHEAD, byref(value))
        return value.value

    def configure(self, settings: OpusSettings) -> None:
        """Do otherwise from the next packet on; another application begins the stream anew."""
        if settings.application != self._settings.application:
            self.reset()
        widest = settings.max_bandwidth
        fixed = settings.bandwidth
        control = settings.rate_control
        for request, value in (
            (_SET_APPLICATION, settings.application),
            (_SET_BIT_RATE, settings.bit_rate),
            (_SET_VBR, control is not RateControl.CBR),
            (_SET_CONSTRAINT, control is RateControl.CONSTRAINED_VBR),
            (_SET_MAX_BANDWIDTH, _BANDWIDTHS[widest]),
            (_SET_BANDWIDTH, _AUTO if fixed is None else _BANDWIDTHS[min(fixed, widest)]),
            (_SET_COMPLEXITY, settings.complexity),
            (_SET_FEC, settings.fec),
            (_SET_LOSS, settings.expected_loss),
            (_SET_DTX, settings.dtx),
            (_SET_CHANNELS, min(settings.channels or _AUTO, self._channels)),
            (_SET_SIGNAL, settings.signal),
        ):
            self._control(request, c_int(value))
        self._settings = settings

    def encode(self, pcm: Pcm) -> bytes:
        """Encode 2.5, 5, 10, 20, 40, 60, 80, 100 or 120 ms into one packet."""
        out = np.empty(self._room(pcm), np.uint8)
        return out[: self.encode_into(pcm, out)].tobytes()

    def encode_into(self, pcm: Pcm, out: npt.NDArray[np.uint8]) -> int:
        """Encode into the beginning of `out`, at least 1276 octets for each 20 ms; return how many.

        With DTX a packet of 1 or 2 octets need not be sent (RFC 7587, section 3.1.3).
        """
        room = self._needs.get(pcm.size) or self._room(pcm)
        if out.size < room or out.dtype != np.uint8:
            raise CodecError(f"opus needs room for {room} octets, there is {out.size}")
        if pcm.ndim != 1:
            raise CodecError(f"Opus encodes (samples,), not {pcm.shape}")
        if pcm.dtype == self._int16:
            encode = self._library.encode
        elif pcm.dtype == self._float32:
            encode = self._library.encode_float
        else:
            raise CodecError(f"Opus encodes int16 or float32, not {pcm.dtype}")
        octets: int = encode(
            self.state.pointer,
            address(pcm),
            pcm.size // self._channels,
            address_to_write(out),
            room,
        )
        return octets if octets > 0 else self._library.check(octets, "encoding")

    def reset(self) -> None:
        """Forget what went before; the settings stay."""
        self._control(_RESET)

    def _room(self, pcm: npt.NDArray[np.generic]) -> int:
        """Return how many octets a packet may take. Raises CodecError for PCM that fits none."""
        try:
            return self._needs[pcm.size]
        except KeyError:
            raise CodecError(
                f"{pcm.size} samples are no Opus packet",
                hint="there may be " + ", ".join(map(str, self._needs)),
            ) from None

    def _control(self, request: int, *arguments: object) -> None:
        result = self._library.encoder_ctl(self.state.pointer, request, *arguments)
        self._library.check(result, f"encoder request {request}")
