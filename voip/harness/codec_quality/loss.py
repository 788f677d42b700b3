"""A path that loses packets: what is heard of a codec with each remedy for what was lost.

Which packets are lost follows from the recording, the loss and the seed, and never from the codec.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from voip.codecs.core import Codec, CodecFormat, FecCodec
from voip.codecs.ilbc.decoder import DecoderState
from voip.codecs.ilbc.decoder import decode as ilbc_decode
from voip.codecs.ilbc.mode import MODE_20
from voip.codecs.opus.codec import OpusCodec
from voip.codecs.opus.settings import OpusSettings
from voip.codecs.registry import Registry, default_registry
from voip.dsp.conceal import HISTORY_S, conceal, rejoin
from voip.dsp.pcm import to_int16
from voip.errors import CodecError
from voip.harness.audio import Pcm
from voip.harness.bench.codec_sides import formats
from voip.harness.codec_quality.clean import packets_of, working
from voip.sim.path import GilbertElliott, Link
from voip.sim.path import Path as NetworkPath

__all__ = [
    "BURST",
    "LOSSES",
    "Cell",
    "Kind",
    "Remedy",
    "codec_of",
    "heard",
    "lossy_codecs",
    "lost_packets",
]

Flags: TypeAlias = npt.NDArray[np.bool_]

LOSSES: Final = (1, 3, 5, 10, 20)
"""Percent of the packets."""
BURST: Final = 3.0
"""Packets that a burst has on average."""
_OPUS_HZ: Final = 16_000
_WIDEST_HZ: Final = 16_000
"""Speech has no more here, and PESQ compares no more."""
_OPUS_BIT_RATE: Final = 24_000
_AS_ANOTHER: Final = ("pcma", "l16")
"""Left out: what is lost of them sounds as of µ-law, or of what has their rate."""


class Kind(Enum):
    """How packets are lost."""

    RANDOM = "random"
    BURST = "burst"


class Remedy(Enum):
    """What is heard instead of a lost packet; the value is said of it."""

    REDUNDANCY = "redundancy in the next packet"
    OWN = "the codec's own concealment"
    GENERIC = "generic concealment"
    REPETITION = "the last frame again, each time half as loud"
    SILENCE = "silence"


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """A path: how, and how many percent it loses. The seed tells passes over it apart."""

    kind: str
    loss: int
    seed: int


def lost_packets(cell: Cell, packets: int, recording: int) -> Flags:
    """Return which packets of a recording a path loses: bool (packets,)."""
    share = cell.loss / 100
    if cell.kind == Kind.BURST.value:
        path = NetworkPath(burst=GilbertElliott.of(share, BURST))
    else:
        path = NetworkPath(loss=share)
    kinds = [kind.value for kind in Kind]
    random = np.random.default_rng((cell.seed, kinds.index(cell.kind), cell.loss, recording))
    lost = np.ones(packets, np.bool_)
    for carried in Link(path, random).carry(0.0, np.zeros(packets, np.int32)):
        lost[carried.which] = False
    return lost


def lossy_codecs(registry: Registry | None = None) -> dict[str, tuple[Remedy, ...]]:
    """Return what is judged of each codec, its best remedy first, by the name of the codec.

    A codec whose library is missing is left out.
    """
    registry = registry or default_registry()
    found: dict[str, tuple[Remedy, ...]] = {}
    for name, format_ in formats(registry).items():
        if format_.name in _AS_ANOTHER:
            continue
        try:
            codec = working(partial(codec_of, name, registry))
        except CodecError:
            continue
        if codec.info.sample_rate > _WIDEST_HZ:
            continue
        if isinstance(codec, FecCodec):
            found[name] = (Remedy.REDUNDANCY, Remedy.OWN)
        elif codec.info.conceals:
            found[name] = (Remedy.OWN, Remedy.REPETITION, Remedy.SILENCE)
        else:
            found[name] = (Remedy.GENERIC, Remedy.REPETITION, Remedy.SILENCE)
    return found


def codec_of(name: str, registry: Registry | None = None) -> Codec:
    """Build what is judged on lossy paths. Raises CodecError where its library is missing."""
    registry = registry or default_registry()
    format_: CodecFormat = formats(registry)[name]
    if format_.name == "opus":
        return OpusCodec(_OPUS_HZ, 1, OpusSettings(_OPUS_BIT_RATE))
    return registry.create(format_)


def heard(
    name: str,
    pcm: Pcm,
    lost: Sequence[tuple[int, Flags]],
    remedies: Sequence[Remedy],
    *,
    registry: Registry | None = None,
) -> Iterator[tuple[Remedy, list[Pcm]]]:
    """Yield what is heard with each remedy, for each path in `lost`: (percent, bool (packets,)).

    pcm: int16 (samples,) at the codec's rate.
    """
    registry = registry or default_registry()
    build = partial(codec_of, name, registry)
    codec = build()
    if isinstance(codec, FecCodec):
        for remedy in remedies:
            yield remedy, list(_opus(pcm, lost, remedy))
        return
    packets = packets_of(pcm, codec.info)
    payloads = [codec.encode(packet) for packet in packets]
    gone = np.stack([which for _, which in lost])
    shape = (*gone.shape, packets.shape[1])
    received: Pcm | None = None
    for remedy in remedies:
        if remedy is Remedy.OWN and codec.info.name == "ilbc":
            yield remedy, _rows(_ilbc(payloads, gone))
            continue
        if remedy is Remedy.OWN:
            own = [_one_by_one(build(), payloads, which, conceals=True) for which in gone]
            yield remedy, own
            continue
        if received is None:
            received = (
                _ilbc_received(payloads, gone)
                if codec.info.name == "ilbc"
                else np.stack(
                    [_one_by_one(build(), payloads, which, conceals=False) for which in gone]
                ).reshape(shape)
            )
        if remedy is Remedy.GENERIC:
            yield remedy, _rows(_concealed(received, gone, codec.info.sample_rate))
        elif remedy is Remedy.REPETITION:
            yield remedy, _rows(_repeated(received, gone))
        elif remedy is Remedy.SILENCE:
            yield remedy, _rows(received)
        else:
            raise CodecError(f"{name} has no {remedy.value}")


def _rows(sound: Pcm) -> list[Pcm]:
    return list(sound.reshape(len(sound), -1))


def _one_by_one(codec: Codec, payloads: list[bytes], lost: Flags, *, conceals: bool) -> Pcm:
    """Decode what was received; what was lost is concealed, or silence that the codec misses."""
    samples = codec.decode(payloads[0]).size
    codec.reset()
    return np.concatenate(
        [
            codec.decode(payload)
            if not gone
            else (codec.conceal(samples) if conceals else np.zeros(samples, np.int16))
            for payload, gone in zip(payloads, lost, strict=True)
        ]
    )


# ---------------------------------------------------------------- Opus


def _opus(pcm: Pcm, lost: Sequence[tuple[int, Flags]], remedy: Remedy) -> Iterator[Pcm]:
    """Encode for paths that lose so much, of the same bit rate with redundancy and without."""
    redundant = remedy is Remedy.REDUNDANCY
    encoded: dict[int, list[bytes]] = {}
    for loss, which in lost:
        settings = OpusSettings(_OPUS_BIT_RATE, fec=redundant, expected_loss=loss)
        codec = OpusCodec(_OPUS_HZ, 1, settings)
        packets = packets_of(pcm, codec.info)
        if loss not in encoded:
            encoded[loss] = [codec.encode(packet) for packet in packets]
        payloads, samples = encoded[loss], packets.shape[1]
        sound = []
        for number, payload in enumerate(payloads):
            if not which[number]:
                sound.append(codec.decode(payload))
            elif redundant and number + 1 < len(payloads) and not which[number + 1]:
                sound.append(codec.decode_fec(payloads[number + 1], samples))
            else:
                sound.append(codec.conceal(samples))
        yield np.concatenate(sound)[codec.lookahead :]


# ---------------------------------------------------------------- iLBC, all paths at once


def _ilbc(payloads: list[bytes], lost: Flags) -> Pcm:
    """Return int16 (paths, packets, samples); the codec conceals."""
    state = DecoderState.of(len(lost), MODE_20)
    octets = np.stack([np.frombuffer(payload, np.uint8) for payload in payloads])
    sound = [
        ilbc_decode(
            np.repeat(octets[[number]], len(lost), axis=0), ~lost[:, number], state, MODE_20
        )
        for number in range(len(payloads))
    ]
    return np.stack(sound, axis=1)


def _ilbc_received(payloads: list[bytes], lost: Flags) -> Pcm:
    """Return the same of what was received, as if there had been nothing else; silence between."""
    octets = np.stack([np.frombuffer(payload, np.uint8) for payload in payloads])
    come = np.argsort(lost, axis=1, kind="stable")  # of each path, those received and then the rest
    state = DecoderState.of(len(lost), MODE_20)
    there = np.ones(len(lost), np.bool_)
    sound = np.zeros((*lost.shape, MODE_20.samples), np.int16)
    rows = np.arange(len(lost))
    for step in range(int((~lost).sum(axis=1).max())):
        number = come[:, step]
        decoded = ilbc_decode(octets[number], there, state, MODE_20)
        kept = ~lost[rows, number]
        sound[rows[kept], number[kept]] = decoded[kept]
    return sound


# ---------------------------------------------------------------- behind the decoder


def _repeated(sound: Pcm, lost: Flags) -> Pcm:
    """Fill gaps in (paths, packets, samples) with the last frame, each time half as loud."""
    filled = sound.copy()
    for number in range(1, lost.shape[1]):
        gone = lost[:, number]
        filled[gone, number] = filled[gone, number - 1] // 2
    return filled


def _concealed(sound: Pcm, lost: Flags, rate_hz: int) -> Pcm:
    """Fill gaps in (paths, packets, samples) by `voip.dsp.conceal`."""
    pcm = sound / np.float32(32768)
    paths, packets, samples = pcm.shape
    past = round(HISTORY_S * rate_hz)
    history = np.zeros((paths, past), np.float32)
    elapsed = np.zeros(paths, np.int64)
    for number in range(packets):
        gone = lost[:, number]
        back = ~gone & (elapsed > 0)
        if gone.any():
            pcm[gone, number] = conceal(history[gone], elapsed[gone], samples, rate_hz=rate_hz)
        if back.any():
            first = pcm[back, number]
            rejoin(history[back], elapsed[back], first, rate_hz=rate_hz)
            pcm[back, number] = first
        elapsed = np.where(gone, elapsed + samples, 0)
        history[~gone] = np.concatenate((history[~gone], pcm[~gone, number]), axis=1)[:, -past:]
    return to_int16(pcm)
