"""G.711 against the ITU's own tables and the standard library's encoder."""

from __future__ import annotations

import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest

from voip.codecs import g711
from voip.codecs.g711 import Law
from voip.errors import CodecError

pytestmark = pytest.mark.rfc("3551", "4.5.14")

SWEEP = np.arange(-32768, 32768, dtype=np.int64).astype(np.int16)
LETTER = {Law.ULAW: "u", Law.ALAW: "a"}


def itu(reference_data: Path, name: str) -> np.ndarray:
    words = np.fromfile(reference_data / "codec-g711-itu-stl" / name, "<i2")
    assert words.size == 65536
    return words


@pytest.mark.reference
@pytest.mark.parametrize("law", Law)
def test_all_65536_inputs_encode_as_the_itu_does(reference_data: Path, law: Law) -> None:
    source = itu(reference_data, "sweep.src")
    expected = itu(reference_data, f"sweep-r.{LETTER[law]}")
    assert np.unique(source).size == 65536
    np.testing.assert_array_equal(g711.encode(source, law), expected)


@pytest.mark.reference
@pytest.mark.parametrize("law", Law)
def test_all_256_codes_decode_as_the_itu_does(reference_data: Path, law: Law) -> None:
    codes = itu(reference_data, f"sweep-r.{LETTER[law]}").astype(np.uint8)
    expected = itu(reference_data, f"sweep-r.{LETTER[law]}-{LETTER[law]}")
    assert np.unique(codes).size == 256
    np.testing.assert_array_equal(g711.decode(codes, law), expected)


def test_the_common_ulaw_encoder_differs_on_508_negative_segment_edges() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        audioop = pytest.importorskip("audioop", reason="audioop left Python in 3.13")
    common = np.frombuffer(audioop.lin2ulaw(SWEEP.tobytes(), 2), np.uint8)
    ours = g711.encode(SWEEP, Law.ULAW)
    differ = SWEEP[common != ours]
    assert differ.size == 508
    assert differ.max() < 0
    steps = differ.reshape(127, 4)
    assert (np.diff(steps, axis=1) == 1).all(), "four neighbours at each of 127 steps"
    assert (np.abs(common.astype(int) - ours)[common != ours] == 1).all()

    alaw = np.frombuffer(audioop.lin2alaw(SWEEP.tobytes(), 2), np.uint8)
    np.testing.assert_array_equal(alaw, g711.encode(SWEEP, Law.ALAW))


@pytest.mark.parametrize("law", Law)
def test_every_code_survives_decode_and_encode(law: Law) -> None:
    codes = np.arange(256, dtype=np.uint8)
    again = g711.encode(g711.decode(codes, law), law)
    if law is Law.ULAW:  # two codes for zero: 0x7F is "minus zero"
        assert again[0x7F] == 0xFF
        codes = np.delete(codes, 0x7F)
        again = np.delete(again, 0x7F)
    np.testing.assert_array_equal(again, codes)


@pytest.mark.parametrize(("law", "code"), [(Law.ULAW, 0xFF), (Law.ALAW, 0xD5)])
def test_silence_has_its_well_known_code(law: Law, code: int) -> None:
    assert g711.silence_code(law) == code


@pytest.mark.parametrize("law", Law)
def test_batches_and_float_output_are_the_same_look_up(law: Law) -> None:
    pcm = np.random.default_rng(7).integers(-32768, 32768, (50, 160)).astype(np.int16)
    codes = np.empty((50, 160), np.uint8)
    g711.encode_into(pcm, law, codes)
    np.testing.assert_array_equal(codes, g711.encode(pcm, law))
    as_int, as_float = np.empty((50, 160), np.int16), np.empty((50, 160), np.float32)
    g711.decode_into(codes, law, as_int)
    g711.decode_into(codes, law, as_float, scratch=np.empty((50, 160), np.intp))
    np.testing.assert_array_equal(as_int, g711.decode(codes, law))
    np.testing.assert_array_equal(as_float * 32768, as_int)


def test_slices_of_larger_arrays_are_filled_in_place() -> None:
    table = np.zeros((10, 200), np.uint8)
    pcm = np.full((10, 160), 1000, np.int16)
    g711.encode_into(pcm[:, ::2], Law.ULAW, table[:, 12:92])
    assert (table[:, 12:92] == g711.ULAW_ENCODE[1000]).all()
    assert not table[:, :12].any()
    assert not table[:, 92:].any()


def test_given_scratch_nothing_of_payload_size_is_allocated() -> None:
    pcm = np.zeros((100, 160), np.int16)
    codes, scratch = np.zeros(pcm.shape, np.uint8), np.zeros(pcm.shape, np.intp)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(100):
            g711.encode_into(pcm, Law.ULAW, codes, scratch=scratch)
            g711.decode_into(codes, Law.ULAW, pcm, scratch=scratch)
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert peak < pcm.nbytes // 2


def test_wrong_shapes_and_types_are_refused_in_words() -> None:
    pcm = np.zeros((2, 160), np.int16)
    with pytest.raises(CodecError, match=r"int16 \(2, 160\) to uint8 \(2, 80\)"):
        g711.encode_into(pcm, Law.ULAW, np.zeros((2, 80), np.uint8))
    with pytest.raises(CodecError, match="float64"):
        g711.encode_into(pcm.astype(np.float64), Law.ULAW, np.zeros((2, 160), np.uint8))  # type: ignore[arg-type]
    with pytest.raises(CodecError, match="int16 or float32"):
        g711.decode_into(np.zeros(3, np.uint8), Law.ALAW, np.zeros(3, np.int32))  # type: ignore[arg-type]


def test_tables_cannot_be_changed_by_a_caller() -> None:
    with pytest.raises(ValueError, match="read-only"):
        g711.ULAW_DECODE[0] = 0
