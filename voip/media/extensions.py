"""Header extensions of rows (RFC 8285): levels of sound (RFC 6464), told and read, and send times.

A row's extension is laid out when it is agreed on; a packet gets a copy of it with its own level
and time in their places, in front of its payload, which moves behind it. Rows without any are left
as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from voip.errors import MediaError
from voip.media.columns import (
    Bools,
    ColumnSpec,
    Floats,
    Ints,
    Rows,
    blocks,
    distinct,
    grow,
    make,
    reset,
    where,
)
from voip.media.commands import HeaderExtensions
from voip.rtp.extensions import (
    MAX_ELEMENTS,
    ONE_BYTE,
    TWO_BYTE,
    build_extension,
    write_send_time,
)
from voip.rtp.packet import HEADER_BYTES

__all__ = ["EXTENSION_BYTES", "ExtensionWriter", "Layout", "ToldLevels"]

EXTENSION_BYTES: Final = 12
"""The longest extension of a row: its head, a level and a time, filled up to whole words."""
_HEAD: Final = 4
_TIME_BYTES: Final = 3
_EXTENDED: Final = 0x10
"""The bit of a packet's first octet that says that there is one."""
_SILENCE: Final = 127

Octets = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Layout:
    """An extension with blanks, and where in it the level and the time go; 0: nowhere."""

    form: bytes = b""
    level_at: int = 0
    time_at: int = 0

    @classmethod
    def of(cls, agreed: HeaderExtensions) -> Layout:
        """Return how packets are extended; raises `MediaError` for what cannot be an identifier."""
        numbers = (agreed.send_level, agreed.send_time, agreed.receive_level)
        if not all(0 <= number <= 255 for number in numbers):
            raise MediaError(f"header extensions {numbers} cannot be had", hint="0 to 255")
        if agreed.send_level and agreed.send_level == agreed.send_time:
            raise MediaError(f"two header extensions are number {agreed.send_level}")
        sizes = {agreed.send_level: 1, agreed.send_time: _TIME_BYTES}
        sizes.pop(0, None)
        form = build_extension({number: bytes(size) for number, size in sizes.items()})
        element = 1 if form[:2] == ONE_BYTE.to_bytes(2, "big") else 2
        level_at = _HEAD + element if agreed.send_level else 0
        time_at = (level_at + 1 if level_at else _HEAD) + element if agreed.send_time else 0
        return cls(form, level_at, time_at)


class ExtensionWriter:
    """What packets of rows say beside their payload, those that say anything."""

    octets: Ints
    form: Octets
    level_at: Ints
    time_at: Ints
    level: Octets
    begun: Ints
    energy: Floats
    samples: Ints
    voice: Bools

    COLUMNS: ClassVar[ColumnSpec] = {
        "octets": (np.int64, 0, ()),  # of the extension; 0: there is none
        "form": (np.uint8, 0, (EXTENSION_BYTES,)),
        "level_at": (np.int64, 0, ()),  # where in it; 0: nowhere
        "time_at": (np.int64, 0, ()),
        "level": (np.uint8, _SILENCE, ()),  # of the packet filled last, and whether it is a voice
        "begun": (np.int64, -1, ()),  # timestamp of the packet that is being measured
        "energy": (np.float64, 0.0, ()),  # of its samples so far, their sum of squares
        "samples": (np.int64, 0, ()),
        "voice": (np.bool_, False, ()),  # somebody speaks in one of its steps
    }

    def __init__(self, rows: int) -> None:
        make(self, rows)
        self.instant: Octets = np.zeros(_TIME_BYTES, np.uint8)
        """What packets are stamped with that go out now."""
        self.used = False
        """Whether any row says anything."""

    def grow(self, rows: int) -> None:
        """Make room for `rows` rows in all."""
        grow(self, rows)

    def agree(self, row: int, layout: Layout) -> None:
        """Let packets of a row be extended like this from now on; an empty one: not at all."""
        if layout.form or self.octets[row]:
            form = np.frombuffer(layout.form, np.uint8)
            before = self.level_at[row]
            self.octets[row] = form.size
            self.form[row, : form.size] = form
            self.level_at[row], self.time_at[row] = layout.level_at, layout.time_at
            if not (before and layout.level_at):
                self.begun[row], self.level[row] = -1, _SILENCE
            self.used = bool(self.octets.any())

    def at(self, wall: float) -> None:
        """Let what goes out now be stamped with a time of day, in seconds."""
        self.instant[:] = np.frombuffer(write_send_time(wall), np.uint8)

    def measure(
        self,
        rows: Rows,
        power: npt.NDArray[np.float32],
        count: int,
        start: Ints,
        spoken: Bools,
        full: Rows,
    ) -> None:
        """Take a step of `count` samples that `rows` (k,) have put into packets; `full` are whole.

        power: mean squares (k,); start: timestamps of these packets (k,), which tell them apart;
        spoken: whether there is a voice in the step (k,).
        """
        mine = where(self.level_at[rows] > 0)
        if not mine.size:
            return
        rows, start = rows[mine], start[mine]
        goes_on = self.begun[rows] == start
        self.begun[rows] = start
        self.energy[rows] = self.energy[rows] * goes_on + power[mine] * np.float64(count)
        self.samples[rows] = self.samples[rows] * goes_on + count
        self.voice[rows] = (self.voice[rows] & goes_on) | spoken[mine]
        full = full[self.level_at[full] > 0]
        mean = np.maximum(self.energy[full] / self.samples[full], 1e-13)
        level = np.clip(np.rint(-10.0 * np.log10(mean)), 0, _SILENCE).astype(np.uint8)
        self.level[full] = level | self.voice[full].astype(np.uint8) << 7

    def write(self, rows: Rows, packet: Octets, size: Ints, level: npt.NDArray[Any] | None) -> Ints:
        """Extend packets of `rows` (k,), `packet[row, 12 : 12 + size]` being their payloads.

        level: what they tell (k,); where a row tells levels and there is none, -1, it is left as it
        is; None: there are none. Returns by how many octets (k,) they are longer then.
        """
        if level is None:
            level = np.full(rows.size, -1)
        octets, level_at = self.octets[rows], self.level_at[rows]
        octets[(level_at > 0) & (level < 0)] = 0
        for extra in distinct(octets):
            if extra:
                chosen = octets == extra
                here, width = rows[chosen], int(size[chosen].max())
                behind = blocks(packet, HEADER_BYTES + extra, width)
                behind[here] = blocks(packet, HEADER_BYTES, width)[here]
                packet[here, HEADER_BYTES : HEADER_BYTES + extra] = self.form[here, :extra]
                packet[here, 0] |= _EXTENDED
        told = (level_at > 0) & (octets > 0)
        packet[rows[told], HEADER_BYTES + level_at[told]] = level[told]
        timed = rows[(self.time_at[rows] > 0) & (octets > 0)]
        place = HEADER_BYTES + self.time_at[timed, None] + np.arange(_TIME_BYTES)
        packet[timed[:, None], place] = self.instant
        return octets

    def extend(self, row: int, header: bytes, level: int) -> bytes:
        """Return the header of a packet of a row, of this level, with its extension."""
        octets, level_at, time_at = (
            int(one[row]) for one in (self.octets, self.level_at, self.time_at)
        )
        if not octets:
            return header
        extension = bytearray(self.form[row, :octets].tobytes())
        if level_at:
            extension[level_at] = level
        if time_at:
            extension[time_at : time_at + _TIME_BYTES] = self.instant.tobytes()
        return bytes((header[0] | _EXTENDED,)) + header[1:] + extension


class ToldLevels:
    """What packets that have come say of their levels."""

    number: Octets
    octet: npt.NDArray[np.int16]
    voice: Bools

    COLUMNS: ClassVar[ColumnSpec] = {
        "number": (np.uint8, 0, ()),  # the extension's; 0: it has none
        "octet": (np.int16, -1, ()),  # of the last packet that had one; -1: none yet
        "voice": (np.bool_, False, ()),  # its first bit tells of a voice
    }

    def __init__(self, rows: int) -> None:
        make(self, rows)
        self.used = False
        """Whether any row is told levels."""

    def grow(self, rows: int) -> None:
        """Make room for `rows` rows in all."""
        grow(self, rows)

    def agree(self, row: int, number: int, *, voice: bool) -> None:
        """Read levels of a row by a number from now on; 0: none."""
        if number != self.number[row]:
            reset(self, row)
            self.number[row] = number
            self.used = bool(self.number.any())
        self.voice[row] = voice and number > 0

    def read(self, rows: Rows, data: Octets, slots: Rows) -> npt.NDArray[np.int16]:
        """Return what valid packets `data[slots]`, one of each of `rows`, tell (k,); -1: nothing.

        As `parse_extension` reads them, but of one number the first element. A bit that tells of no
        voice is 0.
        """
        found = np.full(rows.size, -1, np.int16)
        told = where((self.number[rows] > 0) & (data[slots, 0] & _EXTENDED > 0))
        if told.size:
            octet = self._first(rows[told], data, slots[told])
            found[told] = np.where(self.voice[rows[told]] | (octet < 0), octet, octet & _SILENCE)
        return found

    def _first(self, rows: Rows, data: Octets, slots: Rows) -> npt.NDArray[np.int16]:
        """Return the first octet of the first element of each row's number; -1: there is none."""
        octet = np.full(rows.size, -1, np.int16)
        at = HEADER_BYTES + 4 * (data[slots, 0] & 0x0F).astype(np.int64)
        profile, words = (
            data[slots, at + n].astype(np.int64) << 8 | data[slots, at + n + 1] for n in (0, 2)
        )
        at += _HEAD
        end, short, number = at + 4 * words, profile == ONE_BYTE, self.number[rows]
        left = where(short | (profile & 0xFFF0 == TWO_BYTE))
        for _ in range(MAX_ELEMENTS):
            left = left[at[left] < end[left]]
            if not left.size:
                break
            head = data[slots[left], at[left]].astype(np.int64)
            padding = head == 0
            at[left] += 1
            one = short[left]
            stop = (one & (head >> 4 == 15)) | (~one & ~padding & (at[left] >= end[left]))
            size = np.where(one, (head & 0x0F) + 1, 0)
            size[padding] = 0
            long = where(~one & ~padding & ~stop)
            size[long] = data[slots[left[long]], at[left[long]]]
            at[left[long]] += 1
            stop |= at[left] + size > end[left]
            found = ~stop & ~padding & (size > 0) & (np.where(one, head >> 4, head) == number[left])
            here = left[found]
            octet[here] = data[slots[here], at[here]]
            at[left] += size
            left = left[~stop & ~found]
        return octet
