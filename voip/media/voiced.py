"""What playout does row by row, for rows whose codecs remember: decode, conceal, recover."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from voip.codecs.pcm import Octets
from voip.media.columns import Bools, Floats, Ints, Rows
from voip.media.fifo import FifoArray
from voip.media.payloads import PayloadRing
from voip.media.voices import FIRST_CODE, Voice
from voip.media.voicing import Voicing

__all__ = ["Voiced"]

_HANG_S = 1.0
"""A codec that conceals is asked for so long: in pauses of a talk (DTX) that is its noise."""
_NEAR_S = 0.120
"""What a packet repeats of the one before is no longer than this."""


class Voiced:
    """Takes payloads from `ring` to samples in `pcm`, both of all rows, by the rows' `voices`."""

    def __init__(self, ring: PayloadRing, pcm: FifoArray, voicing: Voicing) -> None:
        self.voices: dict[int, Voice] = {}
        self._ring = ring
        self._pcm = pcm
        self._voicing = voicing

    def decode(self, rows: Rows, slots: Ints, into: Ints) -> Rows:
        """Append what the packets in `slots` (k,) hold from sample `into` (k,) on.

        Returns the rows whose packet was none, though it looked like one: it is concealed.
        """
        ring, broken = self._ring, []
        for at, (row, slot) in enumerate(zip(rows.tolist(), slots.tolist(), strict=True)):
            voice, start, whole = self.voices[row], int(into[at]), int(ring.duration[slot])
            code = int(ring.code[slot])
            pcm = voice.decode(code, ring.octets(slot))
            if pcm is None:
                broken.append(row)
                pcm = voice.conceal(whole)
                self._voicing.interrupted(row)
            else:
                self._voicing.heard(row, voice, code)
            self._pcm.append(rows[at : at + 1], pcm[None, start:whole])
        return np.array(broken, np.intp)

    def decode_whole(self, rows: Rows, slots: Ints, heard: npt.NDArray[np.float32]) -> Rows:
        """Decode packets in `slots` (k,), each of a step and after another of its format.

        heard: float32 (k, samples). Returns the places (n,) of those that were none.
        """
        ring, voices, decodings = self._ring, self.voices, self._voicing.decodings
        return np.array(
            [
                at
                for at, (row, slot) in enumerate(zip(rows.tolist(), slots.tolist(), strict=True))
                if not voices[row].decode_whole(decodings[row], ring.octets(slot), heard[at])
            ],
            np.intp,
        )

    def patch(self, rows: Rows, heard: npt.NDArray[np.float32]) -> None:
        """Conceal a step, `heard` (k, samples), of rows whose packet turned out to be none."""
        for sound, row in zip(heard, rows.tolist(), strict=True):
            sound[:] = self.voices[row].conceal(sound.size)
            self._voicing.interrupted(row)

    def conceal(
        self, rows: Rows, silent: Ints, missing: Ints, gap: Ints, wanted: Ints
    ) -> tuple[Ints, Bools, Rows]:
        """Append `missing` samples (k,) of a gap that begins at `wanted` (k,), after `silent` ones.

        Returns how many there are, where the codec made them of the packet after the gap: that is
        all of the `gap` (k,), and the rows in which that packet repeats what is lost.
        """
        filled, recovered = missing.copy(), np.zeros(rows.size, np.bool_)
        repeated: list[int] = []
        for at, row in enumerate(rows.tolist()):
            voice = self.voices[row]
            self._voicing.interrupted(row)
            sound = self._recover(row, voice, int(gap[at]), int(wanted[at]), repeated)
            recovered[at] = sound is not None
            if sound is None:
                count = int(missing[at])
                lasts = silent[at] < _HANG_S * voice.rate_hz
                sound = voice.conceal(count) if lasts else np.zeros(count, np.float32)
            filled[at] = sound.size
            self._pcm.append(rows[at : at + 1], sound[None])
        return filled, recovered, np.array(repeated, np.intp)

    def learn(self, row: int, code: int, payload: Octets) -> None:
        """Let a row's codec remember a packet that comes too late, where it remembers anything."""
        voice = self.voices.get(row)
        if voice is not None and code >= FIRST_CODE:
            voice.learn(code, payload)

    def levels(self, rows: Rows) -> Floats:
        """Return the loudest sample (k,) that `rows` have heard of late."""
        return np.array([self.voices[row].level for row in rows.tolist()])

    def _recover(
        self, row: int, voice: Voice, gap: int, wanted: int, repeated: list[int]
    ) -> npt.NDArray[np.float32] | None:
        """Return the `gap` samples before the next packet of `row` from what it says of them.

        The row is added to those that are `repeated` where it does say anything.
        """
        if not voice.repeats or gap > _NEAR_S * voice.rate_hz:
            return None
        ring = self._ring
        slot = ring.next_after(row, wanted)
        if slot < 0 or gap > ring.duration[slot]:
            return None
        code, payload = int(ring.code[slot]), ring.octets(slot)
        whole = int(ring.duration[slot])  # of less than a packet a codec recovers nothing
        sound = voice.recover(code, payload, whole)
        if sound is not None and voice.repeats_in(code, payload):
            repeated.append(row)
        return None if sound is None else sound[whole - gap :]
