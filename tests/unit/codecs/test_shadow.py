"""Two implementations of one codec on the same frames: what differs is told and harms nobody."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from media_library import decoded_by_ffmpeg, speech

from voip.codecs import g711
from voip.codecs.coder import ArrayCodec
from voip.codecs.core import Codec
from voip.codecs.g711 import Law
from voip.codecs.g711_codec import PCMU, g711_codec
from voip.codecs.g722 import G722, g722_codec
from voip.codecs.ilbc.codec import ilbc_codec
from voip.codecs.shadow import Mismatch, ShadowCodec, ShadowCounts, Way
from voip.errors import CodecError

Pcm = npt.NDArray[np.int16]
SWEEP = np.arange(-32768, 32768).astype(np.int16)


class CommonUlaw:
    """The widespread µ-law encoder, which negates after shifting: 508 inputs away from the ITU's.

    In 14 bits a negative input is coded like its magnitude, not like the one below it.
    """

    def octets(self, samples: int) -> int:
        return samples

    def samples(self, payload: npt.NDArray[np.uint8]) -> int:
        return payload.size

    def encode(self, pcm: Pcm, out: npt.NDArray[np.uint8]) -> int:
        wide = pcm.astype(np.int32) >> 2
        magnitude = np.minimum(np.abs(wide), 8191) << 2
        positive = g711.encode(magnitude.astype(np.int16), Law.ULAW)
        out[:] = np.where(wide < 0, positive & 0x7F, positive)
        return out.size

    def decode(self, payload: npt.NDArray[np.uint8], out: Pcm) -> None:
        out[:] = g711.decode(payload, Law.ULAW)


class Spoiled:
    """A codec of which one method makes something else."""

    def __init__(self, codec: Codec, **methods: Callable) -> None:
        self._codec = codec
        vars(self).update(methods)

    def __getattr__(self, name: str) -> object:
        return getattr(self._codec, name)


def refuse(*_: object) -> None:
    raise CodecError("not today")


def frames() -> Pcm:
    return speech(8000)[:8000].reshape(-1, 160)


def test_the_common_ulaw_encoder_differs_where_it_is_known_to() -> None:
    theirs = np.zeros(SWEEP.size, np.uint8)
    CommonUlaw().encode(SWEEP, theirs)
    apart = np.flatnonzero(theirs != g711.encode(SWEEP, Law.ULAW))
    assert apart.size == 508
    assert SWEEP[apart].max() < 0

    told: list[Mismatch] = []
    codec = ShadowCodec(g711_codec(Law.ULAW), ArrayCodec(PCMU, CommonUlaw), report=told.append)
    for sample in SWEEP[apart]:
        codec.encode(np.array([sample]))
        codec.encode(np.array([-sample]))
    assert codec.counts == ShadowCounts(encoded=1016, encoded_differently=508)
    assert codec.counts.mismatches == len(told) == 508
    assert [m.frame for m in told] == list(range(0, 1016, 2))
    assert {m.way for m in told} == {Way.ENCODED}
    assert {m.largest for m in told} == {1.0}
    codec.encode_into(SWEEP, theirs)
    assert (told[-1].frame, told[-1].first) == (1016, apart[0])


def test_two_that_agree_are_counted_and_the_first_ones_result_is_used() -> None:
    plain = ilbc_codec()
    told: list[Mismatch] = []
    codec = ShadowCodec(ilbc_codec(), ilbc_codec(), report=told.append)
    assert isinstance(codec, Codec)
    room, sound = np.zeros(50, np.uint8), np.zeros(240, np.float32)
    for pcm in speech(8000)[:4800].reshape(-1, 240):
        payload = plain.encode(pcm)
        assert codec.encode_into(pcm, room) == 50
        assert room.tobytes() == payload
        codec.decode_into(room, sound)
        np.testing.assert_array_equal(sound * 32768, plain.decode(payload))
    np.testing.assert_array_equal(codec.conceal(240), plain.conceal(240))
    codec.reset()
    plain.reset()
    assert codec.encode(pcm) == plain.encode(pcm)
    assert codec.counts == ShadowCounts(encoded=21, decoded=20, concealed=1)
    assert (codec.info, told) == (plain.info, [])


def test_what_differs_is_told_with_its_place() -> None:
    told: list[Mismatch] = []

    def louder(payload: bytes) -> Pcm:
        sound = g711_codec(Law.ULAW).decode(payload)
        sound[7] += 9
        return sound

    theirs = Spoiled(g711_codec(Law.ULAW), decode=louder)
    payload = bytes([0xD5] * 160)
    for tolerance, found in ((0, [Mismatch(Way.DECODED, 0, "", 7, 9.0)]), (8, None), (9, [])):
        told.clear()
        codec = ShadowCodec(g711_codec(Law.ULAW), theirs, tolerance=tolerance, report=told.append)
        assert codec.decode(payload).size == 160
        assert told == found if found is not None else len(told) == 1


def test_who_refuses_alone_is_told_and_only_the_first_ones_error_is_raised() -> None:
    told: list[Mismatch] = []
    good, bad = ilbc_codec(), Spoiled(ilbc_codec(), decode=refuse, conceal=refuse)
    codec = ShadowCodec(good, bad, report=told.append)
    assert codec.decode(bytes(50)).size == 240
    assert told[-1].reason == "the reference refused: not today"
    assert codec.conceal(240).size == 240
    with pytest.raises(CodecError, match="frames of 50 octets"):
        codec.decode(bytes(49))
    assert codec.counts.mismatches == len(told) == 2, "both refused the last"
    with pytest.raises(CodecError, match="not today"):
        ShadowCodec(bad, good, report=told.append).decode(bytes(50))
    assert told[-1].reason == "refused: not today"
    short = Spoiled(good, decode=lambda payload: np.zeros(3, np.int16))
    ShadowCodec(good, short, report=told.append).decode(bytes(50))
    assert told[-1].reason == "240 long, the reference 3"
    with pytest.raises(CodecError, match="g722/8000 is no reference for ilbc/8000"):
        ShadowCodec(good, g722_codec())


def test_ffmpeg_stands_in_the_shadow_of_g722(missing) -> None:
    class FFmpeg:
        """G.722 by FFmpeg, whose decoder is asked for all that came until now."""

        def __init__(self) -> None:
            self.heard = b""

        def octets(self, samples: int) -> int:
            return samples // 2

        def samples(self, payload: npt.NDArray[np.uint8]) -> int:
            return 2 * payload.size

        def encode(self, pcm: Pcm, out: npt.NDArray[np.uint8]) -> int:
            raise CodecError("a judge of decoders")

        def decode(self, payload: npt.NDArray[np.uint8], out: Pcm) -> None:
            self.heard += payload.tobytes()
            sound = decoded_by_ffmpeg("g722", self.heard, missing, sample_rate=16000)
            out[:] = sound[-out.size :]

    codec = ShadowCodec(g722_codec(), ArrayCodec(G722, FFmpeg))
    sender = g722_codec()
    for pcm in speech(16000)[:9600].reshape(-1, 320):
        codec.decode(sender.encode(pcm))
    assert codec.counts == ShadowCounts(decoded=30)
