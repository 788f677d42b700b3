"""Reports of many streams at once (RFC 3550, 6.4): the bytes of SR and RR with a block or without.

Arrays in, bytes out. `rtcp.py` builds and reads single packets of every kind.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from voip.rtp.rtcp import LEAST_LOST, MOST_LOST, RR, SR

__all__ = ["ReceptionFigures", "SenderFigures", "build_reports", "fractions_lost"]

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_SENDER_WORDS, _BLOCK_WORDS = 5, 6  # sender information; header and SSRC are two more


@dataclass(frozen=True, slots=True)
class SenderFigures:
    """What k streams say of what they send; arrays of shape (k,), cut to 32 bits.

    sent: whether there is anything to say, so an SR and no RR; ntp: one time stamp of 64 bits.
    """

    ssrc: Ints
    sent: Bools
    ntp: int
    timestamp: Ints
    packets: Ints
    octets: Ints


@dataclass(frozen=True, slots=True)
class ReceptionFigures:
    """What k streams say of what they hear; arrays of shape (k,), cut to the width of their fields.

    heard: whether there is anything to say; fraction: in 1/256; lost: signed, 24 bits; last_sr,
    delay: in 1/65536 s.
    """

    heard: Bools
    ssrc: Ints
    fraction: Ints
    lost: Ints
    highest: Ints
    jitter: Ints
    last_sr: Ints
    delay: Ints


def build_reports(sender: SenderFigures, reception: ReceptionFigures) -> list[bytes]:
    """Return one SR or RR for each of the k streams: the beginning of a compound packet."""
    words = np.empty((sender.ssrc.size, 2 + _SENDER_WORDS + _BLOCK_WORDS), ">u4")  # cuts
    kind = np.where(sender.sent, SR, RR)
    length = 1 + _SENDER_WORDS * sender.sent + _BLOCK_WORDS * reception.heard
    columns = (
        0x80 << 24 | reception.heard.astype(np.int64) << 24 | kind << 16 | length,
        sender.ssrc,
        sender.ntp >> 32,
        sender.ntp & 0xFFFFFFFF,
        sender.timestamp,
        sender.packets,
        sender.octets,
        reception.ssrc,
        reception.fraction << 24 | np.clip(reception.lost, LEAST_LOST, MOST_LOST) & 0xFFFFFF,
        reception.highest,
        reception.jitter,
        reception.last_sr,
        reception.delay,
    )
    for position, column in enumerate(columns):
        words[:, position] = column
    reports = []
    for row, sent, heard in zip(
        words.view(np.uint8), sender.sent.tolist(), reception.heard.tolist(), strict=True
    ):
        octets = row.tobytes()
        block = octets[-4 * _BLOCK_WORDS :] if heard else b""
        reports.append(octets[: 4 * (2 + (_SENDER_WORDS if sent else 0))] + block)
    return reports


def fractions_lost(expected: Ints, received: Ints) -> Ints:
    """Return the loss of a report interval in 1/256 (appendix A.3), (k,), from its two counts."""
    lost = np.maximum(expected - received, 0)
    fractions: Ints = np.minimum(255, (lost << 8) // np.maximum(expected, 1))
    return fractions
