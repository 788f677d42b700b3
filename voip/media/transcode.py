"""From one codec to another: payloads in, payloads out, whatever frames either has."""

from __future__ import annotations

import numpy as np

from voip.codecs.core import CodecFormat
from voip.codecs.registry import Registry, default_registry
from voip.errors import CodecError
from voip.media.adapter import Decoding, Encoding, Payload, Pcm

__all__ = ["Transcoder"]


class Transcoder:
    """One direction of one stream; for the other one there is another.

    What comes is in order, each payload once. Between the two it is mono, at the lower of both
    codecs' rates: there is nothing above it in what goes out. Raises CodecError for a format that
    cannot be coded, or built with its parameters.
    """

    def __init__(
        self,
        source: CodecFormat,
        target: CodecFormat,
        *,
        ptime_ms: int = 20,
        codecs: Registry | None = None,
    ) -> None:
        registry = default_registry() if codecs is None else codecs
        decoder, encoder = registry.create(source), registry.create(target)
        rate_hz = min(decoder.info.sample_rate, encoder.info.sample_rate)
        self._decoding = Decoding(decoder, rate_hz)
        self._encoding = Encoding(encoder, rate_hz, ptime_ms)
        self._source_clock = decoder.info.clock_rate
        self._target_clock = encoder.info.clock_rate
        self._usual = 0  # samples of a payload
        self.undecodable = 0
        """Payloads that were none of the source's."""

    @property
    def ptime_ms(self) -> float:
        """How long the payloads are that come out."""
        return self._encoding.ptime_ms

    def feed(self, payload: Payload) -> list[Payload]:
        """Take one payload; return those that are full with it.

        What cannot be decoded is counted, and concealed for as long as the one before it was.
        """
        octets = np.frombuffer(payload.octets, np.uint8)
        samples = self._decoding.samples(octets)
        try:
            if not samples:
                raise CodecError("no payload of the source's")
            pcm = self._decoding.decode(octets)
        except CodecError:
            self.undecodable += 1
            pcm = self._decoding.conceal(self._usual)
        else:
            self._usual = samples
        return self._encode(pcm, payload.timestamp)

    def lost(self, units: int, timestamp: int) -> list[Payload]:
        """Conceal what did not come: `units` of the source's RTP clock from `timestamp` on."""
        count = units * self._decoding.rate_hz // self._source_clock
        return self._encode(self._decoding.conceal(count), timestamp)

    def _encode(self, pcm: Pcm, timestamp: int) -> list[Payload]:
        begun = timestamp * self._target_clock // self._source_clock
        return [
            Payload(full.octets, full.timestamp & 0xFFFFFFFF)
            for full in self._encoding.payloads(pcm, begun)
        ]
