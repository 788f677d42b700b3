"""Packets for a room full of speakers, out of memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from voip.codecs.core import CodecFormat, Ways
from voip.codecs.registry import Registry
from voip.dsp.resample import resample
from voip.errors import ConfigError
from voip.harness.bench.codec_sides import formats
from voip.harness.bench.speech import speech_samples
from voip.media.adapter import Encoding
from voip.media.commands import PayloadFormat
from voip.media.io import PacketBatch
from voip.rtp.packet import pack_header
from voip.types import Address

__all__ = ["PTIME_MS", "RoomIO", "formats_of"]

PTIME_MS: Final = 20
_SPEECH_S = 4.0
_FIRST_DYNAMIC = 96


def formats_of(registry: Registry, names: Sequence[str]) -> list[CodecFormat]:
    """Return the formats of codecs by name; ConfigError for one that cannot be measured here."""
    known = {
        name: format_
        for name, format_ in formats(registry).items()
        if registry.ways(format_) is Ways.BOTH
    }
    missing = [name for name in names if name not in known]
    if missing or not names:
        raise ConfigError(
            f"no codec {', '.join(missing)} can be measured here" if missing else "no codecs",
            hint="voip doctor says which there are",
        )
    return [known[name] for name in names]


class RoomIO:
    """`PacketIO` that lets a packet arrive for every row every 20 ms, and counts what is sent.

    Rows have the formats in turn. Each begins at another place of the speech; from row `talking` on
    they are silent.
    """

    kernel_timestamps = True

    def __init__(
        self, registry: Registry, formats: Sequence[CodecFormat], rows: int, talking: int
    ) -> None:
        self.sent = 0
        self._formats = [formats[row % len(formats)] for row in range(rows)]
        coded = {str(one): _coded(registry, one, speech_samples(_SPEECH_S)) for one in formats}
        silence = np.zeros(8000, np.int16)
        silent = {str(one): _coded(registry, one, silence) for one in formats}
        self._payloads = [
            (coded if row < talking else silent)[str(one)][0]
            for row, one in enumerate(self._formats)
        ]
        self._spans = [coded[str(one)][1] for one in self._formats]
        self._ptimes = [coded[str(one)][2] for one in self._formats]
        self._open: dict[int, int] = {}  # row -> packets so far
        self._next: dict[int, float] = {}

    def payload_format(self, row: int) -> PayloadFormat:
        """Return what a row sends and hears."""
        format_ = self._formats[row]
        return PayloadFormat(
            _payload_type(format_), format_.name, format_.clock_rate, format_.channels,
            format_.fmtp,
        )  # fmt: skip

    def open(self, row: int, host: str) -> tuple[Address, Address]:
        """Let packets arrive for a row."""
        if row >= len(self._formats):
            raise ConfigError(f"the room has {len(self._formats)} rows")
        self._open[row] = 0
        return Address(host, 10000 + 2 * row), Address(host, 10001 + 2 * row)

    def connect(self, row: int, rtp: Address | None, rtcp: Address | None) -> None:
        """Take note of nothing."""

    def close(self, row: int) -> None:
        """Let no more packets arrive for a row."""
        self._open.pop(row, None)

    def receive(self, batch: PacketBatch, now: float) -> int:
        """Let the packets arrive that are due."""
        count = 0
        batch.strangers.clear()
        for row, number in self._open.items():
            due = self._next.setdefault(row, now + 0.001 * (row % PTIME_MS))
            if due > now or count == batch.capacity:
                continue
            payloads = self._payloads[row]
            payload = payloads[(number + 7 * row) % len(payloads)]
            header = pack_header(
                _payload_type(self._formats[row]), number & 0xFFFF,
                number * self._spans[row] & 0xFFFFFFFF, 1000 + row, marker=number == 0,
            )  # fmt: skip
            packet = header + payload
            batch.data[count, : len(packet)] = np.frombuffer(packet, np.uint8)
            batch.slots[count], batch.lengths[count] = count, len(packet)
            batch.rows[count], batch.arrival[count] = row, due
            batch.rtcp[count], batch.source[count] = False, -1
            self._open[row] = number + 1
            self._next[row] = due + self._ptimes[row]
            count += 1
        batch.count = count
        return count

    def send(
        self,
        rows: npt.NDArray[np.int32],
        packets: npt.NDArray[np.uint8],
        lengths: npt.NDArray[np.int32],
    ) -> int:
        """Count what is sent."""
        self.sent += rows.size
        return int(rows.size)

    def send_one(self, row: int, packet: bytes, *, rtcp: bool) -> bool:
        """Take a report, and do nothing with it."""
        return True


def _payload_type(format_: CodecFormat) -> int:
    static = {"pcmu": 0, "pcma": 8, "g722": 9}
    return static.get(format_.name, _FIRST_DYNAMIC + sum(map(ord, format_.name)) % 31)


def _coded(
    registry: Registry, format_: CodecFormat, sound: npt.NDArray[np.int16]
) -> tuple[list[bytes], int, float]:
    """Return payloads of int16 (samples,) at 8 kHz, each one's length by the RTP clock and in s."""
    codec = registry.create(format_)
    rate = codec.info.sample_rate
    encoding = Encoding(codec, rate, PTIME_MS)
    encoding.feed(resample((sound / np.float32(32768)).astype(np.float32), 8000, rate))
    payloads = []
    while (payload := encoding.take()) is not None:
        payloads.append(payload.tobytes())
    return payloads, encoding.span, encoding.ptime_ms / 1000
