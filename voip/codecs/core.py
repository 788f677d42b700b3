"""What a codec is: its identity, what is known about it, and what every codec can do."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Flag, auto
from typing import Final, Protocol, runtime_checkable

from voip.codecs.pcm import Octets, Pcm, Whole
from voip.errors import CodecError

__all__ = [
    "Codec", "CodecFormat", "CodecInfo", "FecCodec", "FineConcealing", "TellingFecCodec", "Ways",
]  # fmt: skip

_RTPMAP: Final = re.compile(r"([\w.+-]{1,64})/([1-9]\d{0,8})(?:/([1-9]\d{0,2}))?", re.ASCII)


class Ways(Flag):
    """What a machine can do with an encoding."""

    NONE = 0
    ENCODE = auto()
    DECODE = auto()
    BOTH = ENCODE | DECODE


@dataclass(frozen=True, slots=True)
class CodecFormat:
    """An encoding as a session description names it: never a payload type.

    `name` is kept in lower case; `fmtp` is the format's parameters as they stand after a=fmtp.
    """

    name: str
    clock_rate: int = 8000
    channels: int = 1
    fmtp: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name.lower())

    @classmethod
    def read(cls, rtpmap: str, fmtp: str = "") -> CodecFormat:
        """Read what stands after the number in a=rtpmap ("opus/48000/2") and in a=fmtp.

        Raises CodecError for what is no encoding.
        """
        match = _RTPMAP.fullmatch(rtpmap.strip())
        if match is None:
            raise CodecError(f"{rtpmap[:80]!r} is no encoding", hint='one like "opus/48000/2"')
        return cls(match[1], int(match[2]), int(match[3] or 1), fmtp.strip())

    @property
    def key(self) -> tuple[str, int, int]:
        """What a codec is found by: name, clock rate, channels."""
        return self.name, self.clock_rate, self.channels

    def __str__(self) -> str:
        channels = f"/{self.channels}" if self.channels != 1 else ""
        return f"{self.name}/{self.clock_rate}{channels}"


@dataclass(frozen=True, slots=True)
class CodecInfo:
    """What is known about an encoding before one is built.

    RTP counts in `clock_rate`; PCM has `sample_rate` (they differ for G.722). Packets hold whole
    frames of `frame_samples`, by default `ptime_ms` of them. `static_payload_type`: RFC 3551.
    """

    name: str
    clock_rate: int
    sample_rate: int
    channels: int
    frame_samples: int
    ptime_ms: int
    bit_rate: int
    algorithmic_delay_ms: float
    static_payload_type: int | None = None
    conceals: bool = False
    """Whether `conceal` continues the sound; else it is silence, and generic concealment better."""
    pcm_channels: int = 1
    """Of the PCM: `channels` is what the name of the format says, for Opus always 2."""
    packet_frames: tuple[int, ...] | None = None
    """How many frames one payload may hold, ascending; None: any number of them."""

    @property
    def format(self) -> CodecFormat:
        """The identity, without parameters."""
        return CodecFormat(self.name, self.clock_rate, self.channels)


@runtime_checkable
class Codec(Protocol):
    """One direction, or both, of one stream: it may remember what went before.

    PCM is (samples,) at `info.sample_rate`, `info.pcm_channels` interleaved: int16, or float32 in
    [-1, 1), which `decode_into` gives where `out` is float32. Bad payloads and arrays that do not
    fit raise CodecError and leave the codec as it was.
    """

    @property
    def info(self) -> CodecInfo:
        """What is known about the encoding."""
        ...

    def encode(self, pcm: Pcm) -> bytes:
        """Encode whole frames into one payload."""
        ...

    def decode(self, payload: bytes) -> Whole:
        """Decode one payload."""
        ...

    def conceal(self, samples: int) -> Whole:
        """Return what to play instead of `samples` samples that were lost."""
        ...

    def samples(self, payload: Octets) -> int:
        """Return how many samples `decode` makes of a payload, without decoding it.

        Raises CodecError for one that is none, as far as its length and first octets tell.
        """
        ...

    def encode_into(self, pcm: Pcm, out: Octets) -> int:
        """Encode into the beginning of `out`; return how many octets it took."""
        ...

    def decode_into(self, payload: Octets, out: Pcm) -> int:
        """Decode into the beginning of `out`; return how many samples it gave."""
        ...

    def reset(self) -> None:
        """Forget what went before."""
        ...


@runtime_checkable
class FecCodec(Codec, Protocol):
    """A codec whose payloads may repeat what the one before them had (forward error correction)."""

    def decode_fec(self, payload: bytes, samples: int | None = None) -> Whole:
        """Decode `samples` samples that were lost just before `payload`, which is decoded after.

        None: as many as `payload` holds itself.
        """
        ...


@runtime_checkable
class TellingFecCodec(FecCodec, Protocol):
    """One that tells of a payload whether it repeats anything, without decoding it."""

    def has_fec(self, payload: Octets) -> bool:
        """Whether `payload` repeats what the one before it had. Raises CodecError for none."""
        ...


@runtime_checkable
class FineConcealing(Protocol):
    """A codec that gives what was lost in float32, too, which is rounded nowhere."""

    def conceal_into(self, out: Pcm) -> None:
        """Fill `out`, of whole `frame_samples` of each channel, with what to play instead."""
        ...

    def decode_fec_into(self, payload: Octets, out: Pcm) -> None:
        """Fill `out`, likewise, from what `payload` says of what was lost just before it."""
        ...
