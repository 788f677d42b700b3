"""Silence that is described instead of sent: voice activity, and comfort noise (RFC 3389).

Of a row that may do so, packets in which nobody speaks are made and not sent. What goes instead is
a description of the background: when a silence begins, a moment later (the first may be lost, and
was a guess), when the background has become louder or softer, and every now and then.

Whether somebody speaks is decided by level against the background, of which two are followed: that
of all there is, and that of the higher frequencies, where consonants are that begin and end words.
"""

from __future__ import annotations

from typing import ClassVar, Final

import numpy as np
import numpy.typing as npt

from voip.codecs.comfort_noise import ComfortNoise
from voip.dsp.voice_activity import VoiceFloor
from voip.media.columns import (
    Bools,
    ColumnSpec,
    Floats,
    Ints,
    Rows,
    every,
    grow,
    make,
    reset,
    some,
)
from voip.media.io import PacketIO
from voip.media.transmit import Transmitter

__all__ = ["Silences"]

ORDER: Final = 10
"""Reflection coefficients that are sent: as many as speech codecs describe a spectrum by."""
HANG_S: Final = 0.2
"""After the last of a voice so much is sent yet: words have pauses, and ends that are soft."""
FIRST_S: Final = 0.5
"""A stream begins as if somebody spoke for so long: the background is not known yet."""
SETTLE_S: Final = 0.1
"""Over so much of the background it is described."""
AGAIN_S: Final = 0.2
"""The second description follows the first one, and any other that is news, so soon."""
REFRESH_S: Final = 2.0
"""A description is sent this often though it says nothing new: packets are lost, and a peer of whom
nothing comes is a peer that may be gone."""
NEWS_DB: Final = 3.0


class Silences:
    """By row: whether silence may be described, whether there is one, and how it sounds."""

    agreed: Bools
    dtx: Bools
    listens: Bools
    spoken: Bools
    payload_type: npt.NDArray[np.uint8]
    rate: Ints
    silent: Bools
    hang: Ints
    told: Ints
    since: Ints
    level: Floats
    lags: Floats
    fresh: Bools
    packets: Ints
    made: Ints
    unsent: Ints

    COLUMNS: ClassVar[ColumnSpec] = {
        "agreed": (np.bool_, False, ()),  # the peer takes comfort noise
        "dtx": (np.bool_, False, ()),  # and is to be sent it
        "listens": (np.bool_, False, ()),  # for that, or to tell others of voices
        "spoken": (np.bool_, False, ()),  # there was a voice in the last step
        "payload_type": (np.uint8, 0, ()),
        "rate": (np.int64, 8000, ()),  # samples a second
        "silent": (np.bool_, False, ()),  # nobody speaks, and nobody has for a while
        "hang": (np.int64, 0, ()),  # samples until then
        "told": (np.int64, 0, ()),  # descriptions of this silence
        "since": (np.int64, 0, ()),  # samples since the last one
        "level": (np.float64, 0.0, ()),  # that it told, dBov
        "lags": (np.float64, 0.0, (ORDER + 1,)),  # autocorrelation of the background
        "fresh": (np.bool_, True, ()),  # it is none of this silence
        "packets": (np.int64, 0, ()),  # descriptions sent
        "made": (np.int64, 0, ()),  # samples that might be left unsent
        "unsent": (np.int64, 0, ()),  # and those that were
    }

    def __init__(self, rows: int) -> None:
        make(self, rows)
        self.floor = VoiceFloor(rows)

    def grow(self, rows: int) -> None:
        """Make room for `rows` rows in all."""
        grow(self, rows)
        self.floor.grow(rows)

    def reset(self, row: int) -> None:
        """Start a row afresh."""
        if self.agreed[row] or self.listens[row] or self.packets[row]:
            reset(self, row)

    def agree(
        self, row: int, payload_type: int | None, *, dtx: bool, rate_hz: int, listens: bool = False
    ) -> None:
        """Let a row send comfort noise by a number from now on, or not (None).

        dtx: of its own, while nobody speaks; else what it relays. listens: voices are listened for
        anyway.
        """
        self.agreed[row] = payload_type is not None
        self.payload_type[row] = payload_type or 0
        dtx = dtx and payload_type is not None
        rate = int(self.rate[row])
        before = bool(self.dtx[row]), bool(self.listens[row]), rate
        if (dtx, listens or dtx, rate_hz) != before:
            for figure in (self.made, self.unsent):
                figure[row] = figure[row] * rate_hz // rate
            self.dtx[row], self.listens[row], self.rate[row] = dtx, listens or dtx, rate_hz
            self.silent[row], self.fresh[row], self.spoken[row] = False, True, False
            self.hang[row] = round(FIRST_S * rate_hz)
            self.floor.reset(row)

    # ------------------------------------------------------------ listening

    def listen(self, rows: Rows, pcm: npt.NDArray[np.float32]) -> None:
        """Judge a step of what `rows` (k,), all of one rate, are to send: float32 (k, samples)."""
        mine = self.listens[rows]
        if not some(mine):
            return
        rows, pcm = rows[mine], pcm[mine]
        count = pcm.shape[1]
        rate = int(self.rate[rows[0]])
        spoken = self.spoken[rows] = self.floor.hear(rows, pcm, count / rate)
        mine = self.dtx[rows]
        if not every(mine):
            rows, pcm, spoken = rows[mine], pcm[mine], spoken[mine]
            if not rows.size:
                return
        left = np.where(spoken, round(HANG_S * rate), np.maximum(self.hang[rows] - count, 0))
        self.hang[rows] = left
        self.since[rows] += count
        silent = left == 0
        began = rows[silent & ~self.silent[rows]]
        self.told[began] = 0
        self.silent[rows] = silent
        self.fresh[rows[spoken]] = True
        if not some(spoken):
            self._describe(rows, pcm, rate)
        elif some(~spoken):
            self._describe(rows[~spoken], pcm[~spoken], rate)

    def _describe(self, rows: Rows, pcm: npt.NDArray[np.float32], rate: int) -> None:
        """Follow the autocorrelation of what is behind the voices of `rows` (k,)."""
        count = pcm.shape[1]
        window = np.hanning(count + 2)[1:-1]
        sound = pcm * (window / np.sqrt(np.mean(window**2)))
        lags = np.empty((rows.size, ORDER + 1))
        for lag in range(ORDER + 1):
            lags[:, lag] = np.einsum("ij,ij->i", sound[:, lag:], sound[:, : count - lag])
        lags /= count
        share = np.where(self.fresh[rows], 1.0, min(1.0, count / (SETTLE_S * rate)))
        self.lags[rows] += (lags - self.lags[rows]) * share[:, None]
        self.fresh[rows] = False

    # ------------------------------------------------------------ sending

    def hold_back(self, full: Rows, sender: Transmitter, io: PacketIO) -> Rows:
        """Send descriptions instead of the full packets of rows (k,) that are silent.

        Where there is news. Returns the rows whose packet is to be sent.
        """
        mine = self.dtx[full]
        if not some(mine):
            return full
        self.made[full[mine]] += sender.full[full[mine]]
        quiet = mine & self.silent[full]
        if not some(quiet):
            return full
        rows = full[quiet]
        self.unsent[rows] += sender.full[rows]
        sender.marker[rows] = True
        for row in rows[self._is_news(rows)].tolist():
            self._tell(row, sender, io)
        sender.filled[rows] = 0
        return full[~quiet]

    def _is_news(self, rows: Rows) -> Bools:
        told, rate = self.told[rows], self.rate[rows]
        level = 10 * np.log10(np.maximum(self.lags[rows, 0], 1e-12))
        # what nobody hears is no news, however much less of it there is
        change = np.abs(np.maximum(level, -80.0) - np.maximum(self.level[rows], -80.0))
        wait = np.where((told == 1) | (change >= NEWS_DB), AGAIN_S, REFRESH_S)
        news: Bools = (told == 0) | (self.since[rows] >= wait * rate)
        return news

    def _tell(self, row: int, sender: Transmitter, io: PacketIO) -> None:
        lags = self.lags[row]
        noise = ComfortNoise.of_lags(float(lags[0]), lags)
        packet = sender.single(
            row,
            int(self.payload_type[row]),
            int(sender.start[row]),
            noise.payload,
            marker=False,
            level=noise.payload[0],  # which is written the same way (RFC 6464, section 3)
        )
        io.send_one(row, packet, rtcp=False)
        self.packets[row] += 1
        self.told[row] += 1
        self.since[row] = 0
        self.level[row] = noise.level_dbov
