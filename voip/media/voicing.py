"""What the batched path knows of rows with voices of their own, so that it asks none of them.

A voice is Python's (`voices.py`). For what is ordinary, a packet of the format that came last, or
a step that one is missing for, and a step that is sent, it is enough to know how long payloads are
and what to call. That stands in arrays here, for `_native.c` and for the arrays alike. Whatever
else happens to a row withdraws it, until its voice is in order again; who asks a voice lends it
what the arrays know, and takes it back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from voip.codecs.direct import Direct
from voip.codecs.opus.toc import FRAME_UNITS, MAX_FRAME
from voip.media.adapter import Decoding, Encoding
from voip.media.columns import Bools, ColumnSpec, Ints, Rows, grow, make, reset, where
from voip.media.voices import Voice

__all__ = [
    "MAX_UNITS_OCTETS",
    "OWN",
    "QUICK",
    "REPEATED",
    "SLOW",
    "TOGETHER",
    "UNITS",
    "Voicing",
]

QUICK, SLOW, TOGETHER = 1, 2, 3
"""Kinds of decoders and encoders: each row's is called, which takes little time or much, or all
rows of a codec are coded in one operation; 0: none."""
REPEATED, OWN = 1, 2
"""What is heard in gaps: what came before, again, or what the decoder makes of it; 0: ask."""
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
    measure: npt.NDArray[np.uint64]
    measured_by: npt.NDArray[np.uint64]
    hears: npt.NDArray[np.uint8]
    hear_by: npt.NDArray[np.uint8]
    hear_function: npt.NDArray[np.uint64]
    hear_state: npt.NDArray[np.uint64]
    past: npt.NDArray[np.uint64]
    past_samples: Ints
    after_samples: Ints
    gap: Ints
    hides: npt.NDArray[np.uint8]
    mends: Bools
    frame: Ints
    says: Ints
    in_hand: Ints
    waiting: npt.NDArray[np.uint64]
    say_by: npt.NDArray[np.uint8]
    say_function: npt.NDArray[np.uint64]
    say_state: npt.NDArray[np.uint64]
    room: Ints

    COLUMNS: ClassVar[ColumnSpec] = {
        "code": (np.uint8, 0, ()),  # of the format that came last, whose timestamps are counted
        "octets": (np.int64, -1, ()),  # of its payloads, as `Direct` has it; -1: ask the voice
        "samples": (np.int64, 0, ()),  # at the row's rate, in these
        "repeats": (np.bool_, False, ()),  # its packets may have what those before them had
        "measure": (np.uint64, 0, ()),  # what tells, if anything does: a function and its state
        "measured_by": (np.uint64, 0, ()),
        "hears": (np.uint8, 0, ()),  # the code of what may be decoded at once, after a packet of it
        "hear_by": (np.uint8, 0, ()),
        "hear_function": (np.uint64, 0, ()),
        "hear_state": (np.uint64, 0, ()),
        "past": (np.uint64, 0, ()),  # float32 (past_samples,): what was heard last, `Decoding`'s
        "past_samples": (np.int64, 0, ()),
        "after_samples": (np.int64, 0, ()),  # that lie behind it: what repetition goes on with
        "gap": (np.int64, 0, ()),  # samples concealed since the last payload: `Decoding.gap`
        "hides": (np.uint8, 0, ()),  # how it conceals
        "mends": (np.bool_, False, ()),  # it makes what was lost of the payload after it
        "frame": (np.int64, 1, ()),  # samples that it conceals, or repeats, at least
        "says": (np.int64, 0, ()),  # samples of a packet, while no others than those are in hand:
        "in_hand": (np.int64, 0, ()),  # of the next packet, samples at
        "waiting": (np.uint64, 0, ()),  # float32 (says,), `Encoding`'s
        "say_by": (np.uint8, 0, ()),
        "say_function": (np.uint64, 0, ()),
        "say_state": (np.uint64, 0, ()),
        "room": (np.int64, 0, ()),  # for a payload, octets
    }

    def __init__(self, rows: int) -> None:
        make(self, rows)
        self.decodings: dict[int, Decoding] = {}
        """Of the rows that hear directly: what arrays decode by."""
        self.encodings: dict[int, Encoding] = {}
        """Likewise of those that speak so."""
        self._kept: dict[int, object] = {}  # what addresses here point into

    def grow(self, rows: int) -> None:
        """Make room for `rows` rows in all."""
        grow(self, rows)

    def reset(self, row: int) -> None:
        """Know nothing of a row."""
        if self.code[row] or self.say_by[row]:
            reset(self, row)
            self.decodings.pop(row, None)
            self.encodings.pop(row, None)
            self._kept.pop(row, None)
            self._kept.pop(~row, None)

    # ------------------------------------------------------------ hearing

    def expect(self, row: int, voice: Voice, code: int) -> None:
        """Note that packets of a row come in another format now."""
        self.code[row], self.hears[row], self.octets[row] = code, 0, -1
        decoding = voice.decoding_of(code)
        self.repeats[row] = decoding is not None and decoding.repeats
        direct = decoding.direct if decoding is not None else None
        self.measure[row] = self.measured_by[row] = 0
        if direct is not None:
            self.octets[row], self.samples[row] = direct.octets, direct.samples
            self.measure[row], self.measured_by[row] = direct.measure, direct.state
            self._kept[row] = direct

    def heard(self, row: int, voice: Voice, code: int) -> None:
        """Note that a packet was decoded: the next one may follow it without asking."""
        if code != self.code[row] or (self.octets[row] < 0 and not self.measure[row]):
            self.hears[row] = 0
            return
        decoding = voice.decoding_of(code)
        if decoding is None or decoding.direct is None:
            return
        if self.decodings.get(row) is not decoding:
            direct, past = decoding.direct, decoding.past
            self.hear_by[row] = _kind(direct)
            self.hear_function[row], self.hear_state[row] = direct.function, direct.state
            self.past[row], self.past_samples[row] = past.ctypes.data, past.size
            self.after_samples[row] = decoding.after.size
            info = decoding.codec.info
            self.hides[row] = OWN if direct.conceals else 0 if info.conceals else REPEATED
            self.mends[row], self.frame[row] = direct.repeats, info.frame_samples
            self.decodings[row], self._kept[row] = decoding, (direct, past)
        self.hears[row], self.gap[row] = code, decoding.gap

    def lend(self, row: int) -> None:
        """Tell a row's decoder what arrays did, before it is asked."""
        if row in self.decodings:
            self.decodings[row].gap = int(self.gap[row])

    def take_back(self, row: int) -> None:
        """Note what a row's decoder has done. Within a frame it is to be asked again."""
        decoding = self.decodings.get(row)
        if decoding is not None:
            self.gap[row] = decoding.gap
            if decoding.is_within_frame:
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
        self.say_by[row], self.encodings[row] = _kind(direct), encoding
        self.say_function[row], self.say_state[row] = direct.function, direct.state
        self._kept[~row] = direct
        self.room[row], self.waiting[row] = direct.room, encoding.waiting.ctypes.data
        self.spoken(row, encoding)

    def speaks(self, row: int, encoding: Encoding) -> None:
        """Tell a row's encoder what arrays did, before it is given sound."""
        if self.say_by[row]:
            encoding.in_hand = int(self.in_hand[row])

    def spoken(self, row: int, encoding: Encoding) -> None:
        """Note where a row's encoder is, and whether all that waits is the next packet's."""
        if self.say_by[row]:
            self.says[row] = encoding.packet_samples if encoding.is_whole else 0
            self.in_hand[row] = encoding.in_hand

    def begun(self, rows: Rows, samples: int) -> tuple[Bools, Bools]:
        """Tell for which of `rows` (k,) so many samples may be put into a packet, and begin it."""
        says, in_hand = self.says[rows], self.in_hand[rows]
        ready = in_hand + samples <= says
        return ready, ready & (in_hand == 0)

    # ------------------------------------------------------------ both

    def groups(self, rows: Rows, sizes: Ints, *, hear: bool) -> list[Rows]:
        """Sort `rows` (k,) that are coded together; return the places of those of each operation.

        `sizes` (k,): of their packets, in samples. Others are left out.
        """
        by = (self.hear_by if hear else self.say_by)[rows]
        found: dict[tuple[int, int], list[int]] = {}
        coders: Mapping[int, Decoding | Encoding] = self.decodings if hear else self.encodings
        for at in where(by == TOGETHER).tolist():
            direct = coders[int(rows[at])].direct
            if direct is not None:
                found.setdefault((id(direct.together), int(sizes[at])), []).append(at)
        return [np.array(places, np.intp) for places in found.values()]


def _kind(direct: Direct) -> int:
    if direct.together is not None:
        return TOGETHER
    return QUICK if direct.quick else SLOW
