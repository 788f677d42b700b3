"""Streams whose codecs remember: each has decoders and an encoder of its own.

G.711 is two tables for all streams (`lane.py`); what is here is coded stream by stream, into the
same arrays. A packet's *code* names one of its stream's own formats then: `FIRST_CODE` the first of
them, and so on.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from voip.codecs.core import CodecFormat
from voip.codecs.pcm import Octets
from voip.codecs.registry import Registry
from voip.errors import CodecError
from voip.media.adapter import Decoding, Encoding, Pcm

log = logging.getLogger(__name__)

__all__ = ["FIRST_CODE", "PLAIN", "STEPS_PER_SECOND", "Voice"]

STEPS_PER_SECOND = 100
"""Base steps of the engine: 10 ms."""
FIRST_CODE = 2
"""Below are the codes of `G711Lane`."""
PLAIN = {("pcmu", 8000, 1): 0, ("pcma", 8000, 1): 1}
"""What that lane does, and by which code."""


class Voice:
    """What one stream is decoded and encoded by.

    `send` and `receive` are negotiated formats, with the fmtp of whoever receives them; `receive`
    has those only that the registry has. Raises CodecError where `send` cannot be built.

    `rate_hz` is that of its PCM, both ways: what `send` is coded at, or what the same encoding is
    decoded at where that is more.
    """

    def __init__(
        self,
        registry: Registry,
        send: CodecFormat | None,
        receive: Sequence[CodecFormat],
        ptime_ms: int,
    ) -> None:
        self.send, self.receive, self.ptime_ms = send, tuple(receive), ptime_ms
        self._registry = registry
        encoder = None if send is None else registry.create(send)
        same = [format_ for format_ in receive if send is None or format_.key == send.key]
        rates = [registry.create(format_).info.sample_rate for format_ in same[:1]]
        if encoder is not None:
            rates.append(encoder.info.sample_rate)
        self.rate_hz = max(rates, default=8000)
        if self.rate_hz % STEPS_PER_SECOND:
            raise CodecError(
                f"{self.rate_hz} samples a second are no whole number in 10 ms",
                hint="a codec in calls has a rate that 100 divides",
            )
        self.encoding = None if encoder is None else Encoding(encoder, self.rate_hz, ptime_ms)
        self._decodings: list[Decoding | None] = [None] * len(self.receive)
        self._recent: Decoding | None = None
        self._broken = False

    @property
    def is_plain(self) -> bool:
        """Whether what is sent is G.711, so that the tables will do until something else comes."""
        return self.send is None or self.send.key in PLAIN

    @property
    def level(self) -> float:
        """The loudest sample of what was heard last."""
        return 0.0 if self._recent is None else self._recent.level

    @property
    def repeats(self) -> bool:
        """Whether what was lost of what came last may be in the next payload."""
        return self._recent is not None and self._recent.repeats

    def clock(self, code: int) -> int:
        """Return the RTP clock of one of the formats in Hz."""
        return self.receive[code - FIRST_CODE].clock_rate

    def samples(self, code: int, payload: Octets) -> int:
        """Return how many samples at `rate_hz` a payload holds; 0 where it cannot be played."""
        try:
            return self._decoding(code).samples(payload)
        except Exception:
            self.tell_broken()
            return 0

    def decode(self, code: int, payload: Octets) -> Pcm | None:
        """Decode the next payload; None where it is none, though it looked like one."""
        try:
            self._recent = self._decoding(code)
            return self._recent.decode(payload)
        except CodecError:
            return None
        except Exception:
            self.tell_broken()
            return None

    def learn(self, code: int, payload: Octets) -> None:
        """Take a payload that is not to be heard any more, but follows what was decoded last."""
        try:
            if self._decoding(code) is self._recent:
                self._recent.learn(payload)
        except CodecError:
            pass
        except Exception:
            self.tell_broken()

    def decode_whole(self, decoding: Decoding, payload: Octets, out: Pcm) -> bool:
        """Decode the next payload of what was decoded last into `out`; say whether it went."""
        try:
            return decoding.decode_whole(payload, out)
        except CodecError:
            return False
        except Exception:
            self.tell_broken()
            return False

    def conceal(self, count: int) -> Pcm:
        """Return `count` samples instead of what did not come."""
        if self._recent is not None:
            try:
                return self._recent.conceal(count)
            except Exception:
                self.tell_broken()
        return np.zeros(count, np.float32)

    def repeats_in(self, code: int, payload: Octets) -> bool:
        """Whether a payload repeats what the one before it had."""
        try:
            return self._decoding(code).repeats_in(payload)
        except Exception:
            self.tell_broken()
            return False

    def recover(self, code: int, payload: Octets, count: int) -> Pcm | None:
        """Return `count` samples that were lost just before `payload`; None where it has none."""
        try:
            decoding = self._decoding(code)
            return decoding.recover(payload, count) if decoding is self._recent else None
        except Exception:
            self.tell_broken()
            return None

    def say(self, pcm: Pcm) -> Octets | None:
        """Take more sound to send; return the payload that is full with it, if there is one."""
        if self.encoding is None:
            return None
        try:
            self.encoding.feed(pcm)
            return self.encoding.take()
        except Exception:
            self.tell_broken()
            self.encoding.drop()
            return None

    def say_whole(self, pcm: Pcm, out: Octets) -> int:
        """Encode a packet's sound into `out`, while nothing is in hand; return octets, or 0."""
        if self.encoding is None:
            return 0
        try:
            return self.encoding.encode_whole(pcm, out)
        except Exception:
            self.tell_broken()
            return 0

    def decoding_of(self, code: int) -> Decoding | None:
        """Return the decoder of a format; None where it cannot be built."""
        try:
            return self._decoding(code)
        except Exception:
            self.tell_broken()
            return None

    def tell_broken(self) -> None:
        """Log, once, that a codec fails in a way that codecs should not: anybody's may be here.

        The tick goes on: other calls have nothing to do with it.
        """
        if not self._broken:
            self._broken = True
            log.exception("a codec of %s failed; what it fails at is silent", self.send)

    def _decoding(self, code: int) -> Decoding:
        """Return the decoder of a format, which is made when the first payload of it comes."""
        at = code - FIRST_CODE
        found = self._decodings[at]
        if found is None:
            codec = self._registry.create(self.receive[at])
            found = self._decodings[at] = Decoding(codec, self.rate_hz)
        return found
