"""Between the payloads of one codec and sound as the engine, or an application, works with it.

A codec has a rate, a number of channels and a frame of its own, and RTP counts by a clock that may
be none of them (G.722: 8000 Hz for 16 kHz of sound). `Decoding` and `Encoding` are the two
directions of one stream, float32 mono at any rate; `CodecAdapter` is both, in frames of int16.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from voip.codecs.core import Codec, CodecInfo, FecCodec, FineConcealing, TellingFecCodec
from voip.codecs.direct import Direct, DirectCodec
from voip.codecs.pcm import Octets, divide
from voip.dsp.conceal import FADE_S, HISTORY_S, REJOIN_S, blend, conceal
from voip.dsp.pcm import to_int16
from voip.dsp.resample import Resampler
from voip.errors import CodecError, ConfigError
from voip.types import AudioFormat, AudioFrame

__all__ = [
    "MAX_PAYLOAD",
    "MAX_SAMPLES_S",
    "CodecAdapter",
    "Decoding",
    "Encoding",
    "Payload",
    "packet_frames",
]

MAX_PAYLOAD = 1400
"""Octets of a payload: what an Ethernet frame has room for beside the headers."""
MAX_SAMPLES_S = 0.120
"""The longest packet that is played."""

Pcm = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Payload:
    """What one packet carries; `timestamp` counts the codec's RTP clock."""

    octets: bytes
    timestamp: int


class Decoding:
    """Payloads of one stream, each once and in order, to float32 (samples,) at `rate_hz`.

    What was lost is concealed by the codec, or as `voip.dsp.conceal` does where it cannot.
    """

    def __init__(self, codec: Codec, rate_hz: int) -> None:
        info = codec.info
        self.codec = codec
        self.rate_hz = rate_hz
        self._channels = info.pcm_channels
        self._codec_hz = info.sample_rate
        self._room = np.empty(
            math.ceil(MAX_SAMPLES_S * self._codec_hz) * self._channels, np.float32
        )
        self._resampler = Resampler(self._codec_hz, rate_hz)
        past, self._seam = round(HISTORY_S * rate_hz), round(REJOIN_S * rate_hz)
        memory = np.zeros(past + self._seam, np.float32)
        self._past, self._after = memory[:past], memory[past:]
        self._fec = codec if isinstance(codec, FecCodec) else None
        self._fine = codec if isinstance(codec, FineConcealing) else None
        self.gap = 0
        """Samples concealed since the last payload."""
        self._spare = np.zeros(0, np.float32)  # of a frame that the codec concealed
        plain = self._codec_hz == rate_hz and self._channels == 1
        self.direct = _direct(codec, encode=False) if plain else None
        """How C decodes what `decode_whole` does, which then writes `past`."""

    @property
    def past(self) -> Pcm:
        """What was heard last: float32 (samples,), the same array for as long as this lives."""
        return self._past

    @property
    def after(self) -> Pcm:
        """How what was repeated would go on: float32 (samples,), behind `past` in memory."""
        return self._after

    @property
    def is_within_frame(self) -> bool:
        """Whether the codec has concealed more than was asked for: that comes first then."""
        return self._spare.size > 0

    def samples(self, payload: Octets) -> int:
        """Return how many samples a payload holds; 0 where it cannot be played."""
        try:
            own = self.codec.samples(payload)
        except CodecError:
            return 0
        if not 0 < own <= self._room.size // self._channels:
            return 0
        return own * self.rate_hz // self._codec_hz

    def decode(self, payload: Octets) -> Pcm:
        """Decode the next payload. Raises CodecError where it is none of the codec's."""
        self._spare = self._spare[:0]
        pcm = self._at_rate(self._room[: self.codec.decode_into(payload, self._room)])
        self.follow(pcm)
        return pcm

    def decode_whole(self, payload: Octets, out: Pcm) -> bool:
        """Decode into `out`, whose length the payload has; say if it went.

        Where there is a `direct` only, and not within a frame: as it is done in C.
        """
        if self.codec.decode_into(payload, out) != out.size:
            return False
        self.follow(out)
        return True

    def learn(self, payload: Octets) -> None:
        """Decode a payload that came too late to be heard, right after what stood for it.

        What the codec remembers is what was said then, and no more what was made up.
        """
        self._spare = self._spare[:0]
        self.codec.decode_into(payload, self._room)

    def conceal(self, count: int) -> Pcm:
        """Return `count` samples instead of what did not come."""
        if self.codec.info.conceals:
            sound = self._concealed(count)
        else:
            longer = self._repeated(count + self._seam)
            sound, self._after[:] = longer[:count], longer[count:]
        self.gap += count
        return sound

    @property
    def repeats(self) -> bool:
        """Whether payloads may repeat what the ones before them had."""
        return self._fec is not None

    def repeats_in(self, payload: Octets) -> bool:
        """Whether a payload repeats what the one before it had; a codec that cannot tell may."""
        if not isinstance(self.codec, TellingFecCodec):
            return self.repeats
        try:
            return self.codec.has_fec(payload)
        except CodecError:
            return False

    def recover(self, payload: Octets, count: int) -> Pcm | None:
        """Return `count` samples that were lost just before `payload`, from what it says of them.

        None where the codec repeats nothing. The payload itself is to be decoded afterwards.
        """
        own = count * self._codec_hz // self.rate_hz
        if self._fec is None or own % self.codec.info.frame_samples:
            return None
        try:
            if self._fine is not None:
                found = np.empty(own * self._channels, np.float32)
                self._fine.decode_fec_into(payload, found)
            else:
                found = _floats(self._fec.decode_fec(payload.tobytes(), own * self._channels))
        except CodecError:
            return None
        pcm = self._at_rate(found)
        self._spare = self._spare[:0]
        self.gap = 0
        self._remember(pcm)
        return pcm

    @property
    def level(self) -> float:
        """The loudest sample of what was heard last."""
        return float(np.abs(self._past).max())

    def _concealed(self, count: int) -> Pcm:
        """Let the codec conceal whole frames, and keep what of them is not due yet."""
        parts, there = [self._spare], self._spare.size
        frame = self.codec.info.frame_samples
        while there < count:
            own = -(-(count - there) * self._codec_hz // self.rate_hz)
            own = -(-own // frame) * frame
            parts.append(self._at_rate(self._lost(own * self._channels)))
            there += parts[-1].size
        sound = np.concatenate(parts)
        self._spare = sound[count:]
        return sound[:count]

    def _lost(self, samples: int) -> Pcm:
        if self._fine is None:
            return _floats(self.codec.conceal(samples))
        lost = np.empty(samples, np.float32)
        self._fine.conceal_into(lost)
        return lost

    def follow(self, pcm: Pcm) -> None:
        """Lead, in place, from what was repeated into `pcm`, which came; and remember it."""
        if self.gap and not self.codec.info.conceals and self.gap < FADE_S * self.rate_hz:
            blend(self._after[None], pcm[None])
        self.gap = 0
        self._remember(pcm)

    def _repeated(self, count: int) -> Pcm:
        elapsed = np.array([self.gap], np.int64)
        sound: Pcm = conceal(self._past[None], elapsed, count, rate_hz=self.rate_hz)[0]
        return sound

    def _at_rate(self, sound: Pcm) -> Pcm:
        """Return what the codec gave as mono at our rate."""
        if self._channels > 1:
            sound = sound.reshape(-1, self._channels).mean(axis=1)
        wanted = sound.size * self.rate_hz // self._codec_hz
        if self._codec_hz != self.rate_hz:
            sound = self._resampler.process(sound)
            sound = (
                sound[:wanted] if sound.size >= wanted else np.pad(sound, (0, wanted - sound.size))
            )
        return sound

    def _remember(self, pcm: Pcm) -> None:
        size = self._past.size
        if pcm.size >= size:
            self._past[:] = pcm[-size:]
        elif pcm.size:
            self._past[: -pcm.size] = self._past[pcm.size :]
            self._past[-pcm.size :] = pcm


class Encoding:
    """Float32 (samples,) at `rate_hz`, in blocks of any length, to payloads of one length in time.

    `ptime_ms` is a wish: the payload has as many of the codec's frames as fit, one at least.
    """

    def __init__(self, codec: Codec, rate_hz: int, ptime_ms: int) -> None:
        info = codec.info
        self.codec = codec
        self.rate_hz = rate_hz
        self._channels = info.pcm_channels
        self._frames = packet_frames(info, ptime_ms)
        self._packet = self._frames * info.frame_samples  # samples of a channel
        self._resampler = Resampler(rate_hz, info.sample_rate)
        self._waiting = np.zeros((self._packet, self._channels), np.float32)
        self.in_hand = 0
        """Samples in `waiting`: of the next packet."""
        self._rest = np.zeros(0, np.float32)
        self._next = 0  # timestamp of the packet in hand
        octets = math.ceil(1276 * max(1.0, self.ptime_ms / 20))  # what Opus asks for
        self._out = np.empty(max(octets, 2 * self._waiting.size), np.uint8)
        plain = rate_hz == info.sample_rate and self._channels == 1 and self.ptime_ms <= 20
        self.direct = _direct(codec, encode=True) if plain else None
        """How C encodes what `encode_whole` does."""

    @property
    def packet_samples(self) -> int:
        """How many samples a payload is made of, at the codec's rate."""
        return self._packet

    @property
    def ptime_ms(self) -> float:
        """How long the payloads are."""
        return 1000 * self._packet / self.codec.info.sample_rate

    @property
    def span(self) -> int:
        """The same in units of the RTP clock."""
        info = self.codec.info
        return self._packet * info.clock_rate // info.sample_rate

    @property
    def waiting(self) -> Pcm:
        """Where the next packet's sound is put: (packet_samples, channels), always the same."""
        return self._waiting

    @property
    def is_whole(self) -> bool:
        """Whether nothing is in hand beyond the next packet."""
        return self._rest.size == 0

    @property
    def is_empty(self) -> bool:
        """Whether the next sample begins a packet."""
        return self.in_hand == 0 and self._rest.size == 0

    def feed(self, pcm: Pcm) -> None:
        """Take more sound; what is out of [-1, 1) saturates."""
        if self.rate_hz != self.codec.info.sample_rate:
            pcm = self._resampler.process(pcm)
        self._rest = np.concatenate((self._rest, pcm)) if self._rest.size else pcm
        self._fill_up()

    def take(self) -> Octets | None:
        """Return the next payload that is full, which the next call overwrites, or None."""
        if self.in_hand < self._packet:
            return None
        size = self.codec.encode_into(self._waiting.ravel(), self._out)
        self.in_hand = 0
        self._fill_up()
        return self._out[:size]

    def encode_whole(self, pcm: Pcm, out: Octets) -> int:
        """Encode just what a payload is made of, (packet_samples,), while nothing is in hand.

        Into the beginning of `out`; returns how many octets it took. Where there is a `direct`.
        """
        return self.codec.encode_into(pcm, out)

    def payloads(self, pcm: Pcm, timestamp: int) -> list[Payload]:
        """Take sound that begins at `timestamp` (RTP clock); return the payloads that are full.

        They count from where the first of them began.
        """
        if self.is_empty:
            self._next = timestamp
        self.feed(pcm)
        found = []
        while (octets := self.take()) is not None:
            found.append(Payload(octets.tobytes(), self._next))
            self._next += self.span
        return found

    def drop(self) -> None:
        """Forget what is in hand."""
        self.in_hand, self._rest = 0, self._rest[:0]

    def _fill_up(self) -> None:
        fits = min(self._rest.size, self._packet - self.in_hand)
        if fits:
            self._waiting[self.in_hand : self.in_hand + fits] = self._rest[:fits, None]
            self.in_hand += fits
            self._rest = self._rest[fits:]


def _direct(codec: Codec, *, encode: bool) -> Direct | None:
    if not isinstance(codec, DirectCodec):
        return None
    try:
        return codec.direct_encoder() if encode else codec.direct_decoder()
    except Exception:  # anybody's may be here: it will be told of where it is to work
        return None


def _floats(pcm: npt.NDArray[np.int16]) -> Pcm:
    sound = np.empty(pcm.size, np.float32)
    divide(pcm, sound)
    return sound


def packet_frames(info: CodecInfo, ptime_ms: int) -> int:
    """Return how many frames a payload of about `ptime_ms` has: as many as fit, one at least.

    Where all of it does not fit into a packet, it is less, in steps of 10 ms. Raises CodecError
    where not even these fit.
    """
    most = max(1, ptime_ms * info.sample_rate // (1000 * info.frame_samples))
    if info.packet_frames is not None:
        return max((n for n in info.packet_frames if n <= most), default=info.packet_frames[0])
    octets = info.bit_rate * info.frame_samples / (8 * info.sample_rate)
    step = max(1, info.sample_rate // (100 * info.frame_samples))  # frames of 10 ms
    fits = int(MAX_PAYLOAD / octets) // step * step
    if not fits:
        raise CodecError(f"10 ms of {info.format} fit into no packet")
    return min(most, fits)


class CodecAdapter:
    """A codec, both directions of one stream, in frames of `format` (mono) and RTP timestamps."""

    def __init__(self, codec: Codec, format_: AudioFormat, ptime_ms: int = 20) -> None:
        if format_.channels != 1:
            raise ConfigError(f"frames of {format_.channels} channels are not adapted", hint="mono")
        self.format = format_
        self._clock = codec.info.clock_rate
        self._decoding = Decoding(codec, format_.rate_hz)
        self._encoding = Encoding(codec, format_.rate_hz, ptime_ms)

    @property
    def ptime_ms(self) -> float:
        """How long the payloads are that `encode` gives."""
        return self._encoding.ptime_ms

    def encode(self, frame: AudioFrame) -> list[Payload]:
        """Return the payloads that are full with this frame; others begin where it ends.

        Timestamps count from that of the frame that began the first of them. Raises ConfigError
        for a frame of another format.
        """
        if frame.format != self.format or frame.samples.dtype != np.int16:
            raise ConfigError(f"a frame of {frame.format} where {self.format} is adapted")
        timestamp = frame.timestamp * self._clock // self.format.rate_hz
        return self._encoding.payloads(_floats(frame.samples), timestamp)

    def decode(self, payload: Payload) -> AudioFrame:
        """Return what a payload holds. Raises CodecError where it is none of the codec's."""
        octets = np.frombuffer(payload.octets, np.uint8)
        if not self._decoding.samples(octets):
            raise CodecError(
                f"{octets.size} octets are no payload of {self._decoding.codec.info.format}"
            )
        return self._frame(self._decoding.decode(octets), payload.timestamp)

    def conceal(self, samples: int, timestamp: int) -> AudioFrame:
        """Return what to hear instead of `samples` samples of the frames' rate that were lost."""
        return self._frame(self._decoding.conceal(samples), timestamp)

    def _frame(self, sound: Pcm, timestamp: int) -> AudioFrame:
        return AudioFrame(
            to_int16(sound), self.format, timestamp * self.format.rate_hz // self._clock
        )
