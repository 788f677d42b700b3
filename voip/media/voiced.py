"""What playout does row by row, for rows whose codecs remember: decode, conceal, recover."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from voip.codecs.pcm import Octets, divide
from voip.dsp.conceal import conceal
from voip.media.columns import Bools, Floats, Ints, Rows
from voip.media.fifo import FifoArray
from voip.media.payloads import SLOTS, PayloadRing
from voip.media.voices import FIRST_CODE, Voice
from voip.media.voicing import Voicing

__all__ = ["HANG_S", "NEAR_S", "Voiced"]

HANG_S = 1.0
"""A codec that conceals is asked for so long: in pauses of a talk (DTX) that is its noise."""
NEAR_S = 0.120
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
            self._voicing.lend(row)
            pcm = voice.decode(code, ring.octets(slot))
            if pcm is None:
                broken.append(row)
                pcm = voice.conceal(whole)
            else:
                self._voicing.heard(row, voice, code)
            self._voicing.take_back(row)
            self._pcm.append(rows[at : at + 1], pcm[None, start:whole])
        return np.array(broken, np.intp)

    def decode_whole(self, rows: Rows, slots: Ints, heard: npt.NDArray[np.float32]) -> Rows:
        """Decode packets in `slots` (k,), each of a step and of the format that came last.

        heard: float32 (k, samples). Returns the places (n,) of those that were none.
        """
        ring, voicing = self._ring, self._voicing
        whole = np.full(rows.size, heard.shape[1])
        groups = voicing.groups(rows, whole, hear=True)
        broken = [
            at for group in groups for at in self._decode_group(rows, slots, whole, heard, group)
        ]
        alone = np.ones(rows.size, np.bool_)
        for group in groups:
            alone[group] = False
        for at, (row, slot) in enumerate(zip(rows.tolist(), slots.tolist(), strict=True)):
            if not alone[at]:
                continue
            decoding = voicing.decodings[row]
            voicing.lend(row)
            if not self.voices[row].decode_whole(decoding, ring.octets(slot), heard[at]):
                broken.append(at)
            voicing.gap[row] = decoding.gap
        return np.array(broken, np.intp)

    def hear_together(self, rows: Rows, slots: Ints, heard: npt.NDArray[np.float32]) -> Rows:
        """Decode the packets in `slots` (k,) of rows that are decoded together; -1: one is missing.

        They were counted; what is beyond a step, `heard` (k, samples), is to be pending, and is
        noted as such. Returns the places (n,) of those that were none.
        """
        count, voicing = heard.shape[1], self._voicing
        whole = np.where(slots < 0, count, self._pcm.fill[rows])
        broken = [
            at
            for group in voicing.groups(rows, whole, hear=True)
            for at in self._decode_group(rows, slots, whole, heard, group)
        ]
        self._pcm.fill[rows] = whole - count
        return np.array(broken, np.intp)

    def _decode_group(
        self, rows: Rows, slots: Ints, whole: Ints, heard: npt.NDArray[np.float32], group: Rows
    ) -> list[int]:
        """Decode, or conceal, those at `group` in one operation; return where that failed."""
        ring, voicing, count = self._ring, self._voicing, heard.shape[1]
        here, samples = rows[group].tolist(), int(whole[group[0]])
        decodings = [voicing.decodings[row] for row in here]
        directs = [decoding.direct for decoding in decodings]
        first = directs[0]
        assert first is not None and first.together is not None  # `groups` has no others
        payloads = np.zeros((group.size, samples // first.samples * first.octets), np.uint8)
        received = slots[group] >= 0
        for payload, slot in zip(payloads, slots[group].tolist(), strict=True):
            if slot >= 0:
                payload[:] = ring.octets(slot)
        try:
            states = [direct.keeps for direct in directs if direct is not None]
            decoded = first.together.decode(states, payloads, received)
        except Exception:
            self.voices[here[0]].tell_broken()
            return [int(at) for at in group]
        sound = np.empty(decoded.shape, np.float32)
        divide(decoded, sound)
        heard[group] = sound[:, :count]
        for row, decoding, there, one in zip(here, decodings, received, sound, strict=True):
            self._pcm.data[row, : samples - count] = one[count:]
            if there:
                decoding.follow(one)
                voicing.gap[row] = decoding.gap
        return []

    def patch(self, rows: Rows, heard: npt.NDArray[np.float32]) -> None:
        """Conceal a step, `heard` (k, samples), of rows whose packet turned out to be none.

        And what of it is pending: it was the packet's, too.
        """
        for sound, row in zip(heard, rows.tolist(), strict=True):
            count, more = sound.size, int(self._pcm.fill[row])
            self._voicing.lend(row)
            instead = self.voices[row].conceal(count + more)
            self._voicing.take_back(row)
            sound[:], self._pcm.data[row, :more] = instead[:count], instead[count:]

    def repeat_past(self, rows: Rows, count: int) -> npt.NDArray[np.float32]:
        """Return the sound of a step that was just counted as a gap of `rows` (k,), all of a rate.

        Of those who conceal by repetition: float32 (k, count).
        """
        decodings = [self._voicing.decodings[row] for row in rows.tolist()]
        past = np.stack([decoding.past for decoding in decodings])
        elapsed, seam = self._voicing.gap[rows] - count, decodings[0].after.size
        sound = conceal(past, elapsed, count + seam, rate_hz=decodings[0].rate_hz)
        for decoding, after in zip(decodings, sound[:, count:], strict=True):
            decoding.after[:] = after
        return sound[:, :count]

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
            self._voicing.lend(row)
            sound = self._recover(row, voice, int(gap[at]), int(wanted[at]), repeated)
            recovered[at] = sound is not None
            if sound is None:
                count = int(missing[at])
                lasts = silent[at] < HANG_S * voice.rate_hz
                sound = voice.conceal(count) if lasts else np.zeros(count, np.float32)
            self._voicing.take_back(row)
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
        if not voice.repeats or gap > NEAR_S * voice.rate_hz:
            return None
        ring = self._ring
        slot = ring.next_after(row, wanted)
        if slot < 0 or gap > ring.duration[slot]:
            return None
        code, payload = int(ring.code[slot]), ring.octets(slot)
        whole = int(ring.duration[slot])  # of less than a packet a codec recovers nothing
        sound = voice.recover(code, payload, whole)
        lost = int(ring.sequence[slot]) - 1
        if (
            sound is not None and ring.spare[row * SLOTS + (lost & SLOTS - 1)] == -lost
        ):  # as `Recovery.miss` has noted
            repeated.append(row)
        return None if sound is None else sound[whole - gap :]
