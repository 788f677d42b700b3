"""Opus in Ogg files (RFC 7845), as the Opus tools read and write them: no more than tests need."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_CONTINUED, _FIRST, _LAST = 1, 2, 4
_HEADER = struct.Struct("<4sBBqIIIB")  # RFC 3533, section 6, up to the segment table


def _crc_table() -> list[int]:
    table = []
    for number in range(256):
        value = number << 24
        for _ in range(8):
            value = (value << 1) ^ (0x104C11DB7 if value & 0x80000000 else 0)
        table.append(value)
    return table


_CRC = _crc_table()


@dataclass(frozen=True, slots=True)
class OggOpus:
    """A stream of packets. `pre_skip`: samples at 48 kHz to leave out at the beginning."""

    packets: list[bytes]
    channels: int = 1
    rate_hz: int = 48000
    pre_skip: int = 312

    @property
    def head(self) -> bytes:
        """The identification header (RFC 7845, section 5.1)."""
        numbers = (1, self.channels, self.pre_skip, self.rate_hz, 0, 0)
        return b"OpusHead" + struct.pack("<BBHIhB", *numbers)

    def write(self, path: Path, samples_48k: Sequence[int]) -> None:
        """Write a file; `samples_48k`: how long each packet is, in samples at 48 kHz."""
        tags = b"OpusTags" + struct.pack("<I4sI", 4, b"voip", 0)
        pages = [_page(self.head, 0, 0, _FIRST), _page(tags, 0, 1, 0)]
        position = 0
        for number, (packet, samples) in enumerate(zip(self.packets, samples_48k, strict=True)):
            position += samples
            last = number == len(self.packets) - 1
            pages.append(_page(packet, position, number + 2, _LAST if last else 0))
        path.write_bytes(b"".join(pages))

    @classmethod
    def read(cls, path: Path) -> OggOpus:
        """Read a file of one stream, its two headers of which are checked by their names."""
        data, packets, part = path.read_bytes(), [], b""
        while data:
            magic, _, flags, _, _, _, _, count = _HEADER.unpack_from(data)
            if magic != b"OggS" or bool(flags & _CONTINUED) != bool(part):
                raise ValueError("not the page that should follow")
            sizes = data[_HEADER.size : _HEADER.size + count]
            data = data[_HEADER.size + count :]
            for size in sizes:
                part, data = part + data[:size], data[size:]
                if size < 255:
                    packets.append(part)
                    part = b""
        head, tags, *rest = packets
        if not head.startswith(b"OpusHead") or not tags.startswith(b"OpusTags"):
            raise ValueError("not Opus in Ogg")
        _, channels, pre_skip, rate_hz = struct.unpack_from("<BBHI", head, 8)
        return cls(rest, channels, rate_hz, pre_skip)


def _page(packet: bytes, position: int, number: int, flags: int) -> bytes:
    sizes = bytes([255] * (len(packet) // 255) + [len(packet) % 255])
    fields = (b"OggS", 0, flags, position, 1, number)
    page = _HEADER.pack(*fields, 0, len(sizes)) + sizes + packet
    crc = 0
    for octet in page:
        crc = (crc << 8 & 0xFFFFFFFF) ^ _CRC[crc >> 24 ^ octet]
    return _HEADER.pack(*fields, crc, len(sizes)) + sizes + packet
