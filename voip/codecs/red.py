"""Redundant audio (RFC 2198): a packet repeats what those before it had, whatever the codec.

A header of four octets for each repeated block (payload type, how much earlier it began, length),
one octet for the newest; then the blocks in the same order, the newest last.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from voip.codecs.core import Codec, CodecInfo
from voip.codecs.pcm import Octets, Pcm, Whole, check_into, check_octets
from voip.errors import CodecError

__all__ = ["MAX_BLOCKS", "MAX_LENGTH", "MAX_OFFSET", "RedBlock", "RedCodec", "pack", "unpack"]

MAX_BLOCKS: Final = 16
"""Of a packet that is read or made."""
MAX_OFFSET: Final = (1 << 14) - 1
"""Units of RTP time."""
MAX_LENGTH: Final = (1 << 10) - 1
"""Octets of a repeated block; the newest is not bounded."""
_MAX_TYPE: Final = 127
_HEADER: Final = 4
_FOLLOWED: Final = 0x80


@dataclass(frozen=True, slots=True)
class RedBlock:
    """A payload, and by how many units of RTP time it began before its packet: 0 for the newest.

    Raises CodecError for what a header cannot tell.
    """

    payload_type: int
    payload: bytes
    offset: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.payload_type <= _MAX_TYPE or not 0 <= self.offset <= MAX_OFFSET:
            raise CodecError(
                f"a block of type {self.payload_type}, {self.offset} earlier, cannot be sent",
                hint=f"types up to {_MAX_TYPE}, offsets up to {MAX_OFFSET} (RFC 2198)",
            )


def pack(blocks: Sequence[RedBlock]) -> bytes:
    """Make a payload of blocks, the newest last; its offset is not sent.

    Raises CodecError for none, too many, and repeated ones that are too long.
    """
    if not 1 <= len(blocks) <= MAX_BLOCKS:
        raise CodecError(f"a RED payload has 1 to {MAX_BLOCKS} blocks, not {len(blocks)}")
    header = b"".join(_header(block) for block in blocks[:-1])
    newest = bytes([blocks[-1].payload_type])
    return header + newest + b"".join(block.payload for block in blocks)


def _header(block: RedBlock) -> bytes:
    length = len(block.payload)
    if length > MAX_LENGTH:
        raise CodecError(f"{length} octets cannot be repeated", hint=f"at most {MAX_LENGTH}")
    value = (_FOLLOWED | block.payload_type) << 24 | block.offset << 10 | length
    return value.to_bytes(_HEADER, "big")


def unpack(payload: bytes) -> tuple[RedBlock, ...]:
    """Read a payload: its blocks, the newest last.

    Raises CodecError where a header is cut off, or blocks are longer than the payload.
    """
    headers: list[tuple[int, int, int]] = []
    at = 0
    while at < len(payload) and payload[at] & _FOLLOWED:
        if len(payload) - at <= _HEADER or len(headers) == MAX_BLOCKS - 1:
            raise _malformed(f"it ends within its headers, or has more than {MAX_BLOCKS} blocks")
        value = int.from_bytes(payload[at : at + _HEADER], "big")
        headers.append((value >> 24 & _MAX_TYPE, value >> 10 & MAX_OFFSET, value & MAX_LENGTH))
        at += _HEADER
    if at == len(payload):
        raise _malformed("it is empty")
    newest, at = payload[at], at + 1
    blocks = []
    for payload_type, offset, length in headers:
        if length > len(payload) - at:
            raise _malformed(f"{len(payload) - at} octets are left for a block of {length}")
        blocks.append(RedBlock(payload_type, payload[at : at + length], offset))
        at += length
    return (*blocks, RedBlock(newest, payload[at:]))


def _malformed(why: str) -> CodecError:
    return CodecError(f"malformed RED payload: {why}", hint="RFC 2198, section 3")


class RedCodec:
    """Any codec, each payload with the `depth` ones before it; it has the codec's `decode_fec`.

    `payload_type` is the codec's own number in the session. What is too long, or too long ago, to
    be told in a header is not repeated.
    """

    def __init__(self, codec: Codec, payload_type: int, depth: int = 1) -> None:
        if not 1 <= depth < MAX_BLOCKS:
            raise CodecError(f"RED repeats 1 to {MAX_BLOCKS - 1} payloads, not {depth}")
        RedBlock(payload_type, b"")
        self._codec, self._type = codec, payload_type
        self._sent: deque[tuple[int, bytes]] = deque(maxlen=depth)

    @property
    def info(self) -> CodecInfo:
        """The codec's, under the name of this format."""
        times = 1 + (self._sent.maxlen or 0)
        return replace(
            self._codec.info,
            name="red",
            bit_rate=self._codec.info.bit_rate * times,
            static_payload_type=None,
        )

    def encode(self, pcm: Pcm) -> bytes:
        """Encode into one payload, and repeat those before it."""
        blocks = self._repeated()
        payload = self._codec.encode(pcm)
        self._sent.append((self._units(pcm.size), payload))
        return pack([*blocks, RedBlock(self._type, payload)])

    def encode_into(self, pcm: Pcm, out: Octets) -> int:
        """Encode into the beginning of `out`; return how many octets it took."""
        before = np.frombuffer(pack([*self._repeated(), RedBlock(self._type, b"")]), np.uint8)
        check_into(out, before.size, "red", sound=False)
        octets = self._codec.encode_into(pcm, out[before.size :])
        out[: before.size] = before
        end = before.size + octets
        self._sent.append((self._units(pcm.size), out[before.size : end].tobytes()))
        return end

    def decode(self, payload: bytes) -> Whole:
        """Decode the newest block."""
        return self._codec.decode(self._newest(payload))

    def samples(self, payload: Octets) -> int:
        """Return how many samples the newest block holds."""
        return self._codec.samples(self._newest_of(payload))

    def decode_into(self, payload: Octets, out: Pcm) -> int:
        """Decode the newest block into the beginning of `out`; return how many samples it gave."""
        return self._codec.decode_into(self._newest_of(payload), out)

    def decode_fec(self, payload: bytes, samples: int | None = None) -> Whole:
        """Decode `samples` samples that were lost just before `payload`, which is decoded after.

        None: as many as it repeats. What it does not repeat is concealed.
        """
        blocks = sorted(self._of_ours(unpack(payload)[:-1]), key=lambda block: -block.offset)
        most = max((block.offset for block in blocks), default=0)
        lost = self._samples(most) if samples is None else samples
        if lost < 0:
            raise CodecError(f"RED cannot recover {lost} samples")
        out = np.zeros(lost, np.int16)
        at = 0
        for block in blocks:
            begin = lost - self._samples(block.offset)
            if begin < at:  # older than what was lost, or the same once more
                continue
            try:
                sound = self._codec.decode(block.payload)
            except CodecError:
                continue
            if begin > at:
                out[at:begin] = self._codec.conceal(begin - at)
            at = min(lost, begin + sound.size)
            out[begin:at] = sound[: at - begin]
        if at < lost:
            out[at:] = self._codec.conceal(lost - at)
        return out

    def conceal(self, samples: int) -> Whole:
        """Return what the codec has to play instead of lost samples."""
        return self._codec.conceal(samples)

    def reset(self) -> None:
        """Forget what went before, also what would be repeated."""
        self._codec.reset()
        self._sent.clear()

    def _repeated(self) -> list[RedBlock]:
        blocks: list[RedBlock] = []
        offset = 0
        for units, payload in reversed(self._sent):
            offset += units
            if offset <= MAX_OFFSET and len(payload) <= MAX_LENGTH:
                blocks.append(RedBlock(self._type, payload, offset))
        return blocks[::-1]

    def _newest_of(self, payload: Octets) -> Octets:
        check_octets(payload, "red")
        return np.frombuffer(self._newest(payload.tobytes()), np.uint8)

    def _newest(self, payload: bytes) -> bytes:
        newest = unpack(payload)[-1]
        if not self._of_ours([newest]):
            raise CodecError(f"a RED payload is of type {newest.payload_type}, not {self._type}")
        return newest.payload

    def _of_ours(self, blocks: Sequence[RedBlock]) -> list[RedBlock]:
        return [block for block in blocks if block.payload_type == self._type]

    def _units(self, samples: int) -> int:
        """Return how long samples last, in units of RTP time."""
        info = self._codec.info
        return samples // info.pcm_channels * info.clock_rate // info.sample_rate

    def _samples(self, units: int) -> int:
        """Return how many samples a time in units of RTP has."""
        info = self._codec.info
        return units * info.sample_rate // info.clock_rate * info.pcm_channels
