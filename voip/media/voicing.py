"""What the batched path knows of rows with voices of their own, so that it asks none of them.

A voice is Python's (`voices.py`). For what is ordinary, a packet of the format that came last, as
long as a step, after another one, and a step that fills a packet, it is enough to know how long
payloads are and what to call. That stands in arrays here, for `_native.c` and for the arrays
alike. Whatever else happens to a row withdraws it, until its voice is in order again.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from voip.codecs.opus.toc import FRAME_UNITS, MAX_FRAME
from voip.media.adapter import Decoding
from voip.media.columns import Bools, ColumnSpec, Ints, Rows, grow, make, reset
from voip.media.voices import Voice

__all__ = ["CALLED", "FUNCTION", "MAX_UNITS_OCTETS", "UNITS", "Voicing"]

CALLED, FUNCTION = 1, 2
"""Kinds of decoders and encoders: an object of Python's is called, or a C function; 0: none."""
UNITS: npt.NDArray[np.int64] = np.array(
    [0 if octet & 3 else FRAME_UNITS[octet >> 3] for octet in range(256)], np.int64
)
"""By first octet, how many times 2.5 ms an Opus packet of one frame lasts; 0: it has more."""
MAX_UNITS_OCTETS = MAX_FRAME + 1


class Voicing:
    """By row; rows without a voice have zeros everywhere."""

    code: npt.NDArray[np.uint8]
    octets: Ints
    samples: Ints
    repeats: Bools
    hears: npt.NDArray[np.uint8]
    hear_by: npt.NDArray[np.uint8]
    hear_function: npt.NDArray[np.uint64]
    hear_state: npt.NDArray[np.uint64]
    past: npt.NDArray[np.uint64]
    past_samples: Ints
    says: Ints
    say_by: npt.NDArray[np.uint8]
    say_function: npt.NDArray[np.uint64]
    say_state: npt.NDArray[np.uint64]
    room: Ints

    COLUMNS: ClassVar[ColumnSpec] = {
        "code": (np.uint8, 0, ()),  # of the format that came last, whose timestamps are counted
        "octets": (np.int64, -1, ()),  # of its payloads, as `Direct` has it; -1: ask the voice
        "samples": (np.int64, 0, ()),  # at the row's rate, in these
        "repeats": (np.bool_, False, ()),  # its packets may have what those before them had
        "hears": (np.uint8, 0, ()),  # the code of what may be decoded at once, after a packet of it
        "hear_by": (np.uint8, 0, ()),
        "hear_function": (np.uint64, 0, ()),
        "hear_state": (np.uint64, 0, ()),
        "past": (np.uint64, 0, ()),  # float32 (past_samples,): what was heard last, `Decoding`'s
        "past_samples": (np.int64, 0, ()),
        "says": (np.int64, 0, ()),  # samples that are just a packet, while the next one begins it
        "say_by": (np.uint8, 0, ()),
        "say_function": (np.uint64, 0, ()),
        "say_state": (np.uint64, 0, ()),
        "room": (np.int64, 0, ()),  # for a payload, octets
    }

    def __init__(self, rows: int) -> None:
        make(self, rows)
        self.hear_calls: list[Any] = [None] * rows
        self.say_calls: list[Any] = [None] * rows
        self.decodings: dict[int, Decoding] = {}
        """Of the rows that hear directly: what arrays decode by."""
        self._kept: dict[int, object] = {}  # what addresses here point into

    def grow(self, rows: int) -> None:
        """Make room for `rows` rows in all."""
        more: list[Any] = [None] * (rows - len(self.hear_calls))
        self.hear_calls += more
        self.say_calls += more
        grow(self, rows)

    def reset(self, row: int) -> None:
        """Know nothing of a row."""
        if self.code[row] or self.say_by[row]:
            reset(self, row)
            self.hear_calls[row] = self.say_calls[row] = None
            self.decodings.pop(row, None)
            self._kept.pop(row, None)
            self._kept.pop(~row, None)

    # ------------------------------------------------------------ hearing

    def expect(self, row: int, voice: Voice, code: int) -> None:
        """Note that packets of a row come in another format now."""
        self.code[row], self.hears[row], self.octets[row] = code, 0, -1
        decoding = voice.decoding_of(code)
        self.repeats[row] = decoding is not None and decoding.repeats
        direct = decoding.direct if decoding is not None else None
        if direct is not None:
            self.octets[row], self.samples[row] = direct.octets, direct.samples

    def heard(self, row: int, voice: Voice, code: int) -> None:
        """Note that a packet was decoded: the next one may follow it without asking."""
        if code != self.code[row] or self.octets[row] < 0:
            return
        decoding = voice.decoding_of(code)
        if decoding is None or decoding.direct is None:
            return
        if self.decodings.get(row) is not decoding:
            direct, past = decoding.direct, decoding.past
            self.hear_by[row] = FUNCTION if direct.function else CALLED
            self.hear_function[row], self.hear_state[row] = direct.function, direct.state
            self.hear_calls[row] = direct.call
            self.past[row], self.past_samples[row] = past.ctypes.data, past.size
            self.decodings[row], self._kept[row] = decoding, (direct, past)
        self.hears[row] = code

    def interrupted(self, row: int) -> None:
        """Note that the next packet of a row follows no other: its voice is to be asked."""
        self.hears[row] = 0

    def durations(
        self, rows: Rows, sizes: Ints, first_octets: npt.NDArray[np.uint8]
    ) -> tuple[Ints, Bools]:
        """Return how many samples payloads (k,) of `rows` hold, and of which (k,) to ask."""
        octets, samples = self.octets[rows], self.samples[rows]
        whole = np.maximum(octets, 1)
        times = np.where(octets > 0, sizes // whole, UNITS[first_octets])
        unknown = (octets < 0) | (times == 0) | (sizes % whole != 0)
        unknown |= (octets == 0) & (sizes > MAX_UNITS_OCTETS)
        return times * samples, unknown

    # ------------------------------------------------------------ speaking

    def speak_by(self, row: int, voice: Voice) -> None:
        """Note what a row is sent by from now on."""
        encoding = voice.encoding
        direct = None if encoding is None else encoding.direct
        if encoding is None or direct is None:
            return
        self.say_by[row] = FUNCTION if direct.function else CALLED
        self.say_function[row], self.say_state[row] = direct.function, direct.state
        self.say_calls[row], self._kept[~row] = direct.call, direct
        self.room[row] = direct.room
        self.spoken(row, voice)

    def spoken(self, row: int, voice: Voice) -> None:
        """Note where a row's encoder is: whether the next sample begins a packet."""
        encoding = voice.encoding
        if encoding is not None and self.say_by[row]:
            self.says[row] = encoding.packet_samples if encoding.is_empty else 0
