"""iLBC against the vectors its authors published, and streams that do not know of each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypotheses import examples
from hypothesis import given
from hypothesis import strategies as st

from voip.codecs.ilbc import lsf
from voip.codecs.ilbc.analysis import roots
from voip.codecs.ilbc.codec import ilbc_codec
from voip.codecs.ilbc.decoder import DecoderState, decode
from voip.codecs.ilbc.encoder import EncoderState, encode
from voip.codecs.ilbc.lpc import polynomials
from voip.codecs.ilbc.mode import MODE_20, MODES, Mode
from voip.codecs.ilbc.packing import fields_of, pack, unpack
from voip.codecs.ilbc.tables import LSF_CODEBOOKS
from voip.errors import CodecError

pytestmark = pytest.mark.rfc("3951", "3-4")

FRAMES = 474
EVERY_MODE = pytest.mark.parametrize("mode", MODES.values(), ids=lambda mode: f"{mode.frame_ms}ms")


class Vectors:
    """The published vectors of the 20 ms mode."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "ilbc-rfc3951"
        samples = FRAMES * MODE_20.samples
        self.speech = np.fromfile(self.folder / "iLBC.INP", "<i2")[:samples].reshape(FRAMES, -1)
        self.payloads = np.fromfile(self.folder / "iLBC_20ms.BIT", np.uint8).reshape(FRAMES, -1)

    def channel(self, name: str) -> npt.NDArray[np.bool_]:
        return np.fromfile(self.folder / f"{name}.chn", "<i2")[:FRAMES] == 1

    def output(self, name: str) -> npt.NDArray[np.int16]:
        return np.fromfile(self.folder / f"iLBC_20ms_{name}.OUT", "<i2").reshape(FRAMES, -1)


@pytest.fixture
def vectors(reference_data: Path) -> Vectors:
    return Vectors(reference_data)


def speech_like(rng: np.random.Generator, samples: int) -> npt.NDArray[np.int16]:
    """Pulses of a gliding pitch through a resonance, with noise and pauses."""
    n = np.arange(samples)
    phase = np.cumsum(1 / (50 + 20 * np.sin(n / 2000 + rng.uniform(0, 6))))
    source = np.diff(np.floor(phase), prepend=0) * 6000 + rng.normal(0, 60, samples)
    ring = 0.96 ** np.arange(120) * np.cos(np.arange(120) * rng.uniform(0.2, 1.5))
    sound = np.convolve(source, ring)[:samples] * (np.sin(n / 1500) > -0.6)
    return np.clip(sound, -32768, 32767).astype(np.int16)


def segmental_snr(heard: npt.NDArray[np.int16], expected: npt.NDArray[np.int16]) -> float:
    """Return the mean of the frames' signal-to-noise ratios, in dB; at most 100 each."""
    sound = expected.astype(np.float64)
    signal, noise = (sound**2).sum(axis=1), ((heard - sound) ** 2).sum(axis=1)
    assert (signal > 0).sum() >= FRAMES - 1
    ratio = 10 * np.log10(signal[signal > 0] / np.maximum(noise[signal > 0], 1e-10))
    return float(np.minimum(ratio, 100).mean())


@pytest.mark.reference
def test_the_published_streams_decode_as_published(vectors: Vectors) -> None:
    names = ("clean", "tlm05")
    received = np.stack([vectors.channel(name) for name in names])
    assert received[0].all()
    assert (~received[1]).sum() == 24
    state = DecoderState.of(len(names), MODE_20)
    heard = np.stack(
        [
            decode(np.stack((payload, payload)), received[:, frame], state, MODE_20)
            for frame, payload in enumerate(vectors.payloads)
        ],
        axis=1,
    )
    for name, sound in zip(names, heard, strict=True):
        expected = vectors.output(name)
        assert segmental_snr(sound, expected) >= 85, name  # 55 are asked for
        assert np.abs(sound.astype(int) - expected).max() <= 1, name


@pytest.mark.reference
def test_speech_encodes_as_published(vectors: Vectors) -> None:
    state = EncoderState.of(1, MODE_20)
    ours = np.concatenate([encode(frame[None], state, MODE_20) for frame in vectors.speech])
    same = (ours == vectors.payloads).all(axis=1)
    assert same.sum() >= 465, f"frames {np.flatnonzero(~same)} differ"  # 450.3 are asked for


@pytest.mark.reference
def test_published_frames_are_unpacked_and_packed(vectors: Vectors) -> None:
    parameters, counts = unpack(vectors.payloads, MODE_20)
    assert counts.all()
    np.testing.assert_array_equal(pack(parameters, MODE_20), vectors.payloads)


@EVERY_MODE
def test_every_bit_of_a_payload_belongs_to_one_parameter(mode: Mode) -> None:
    fields = fields_of(mode)
    bits = 8 * mode.octets
    assert bits == {20: 304, 30: 400}[mode.frame_ms]
    used = np.bincount(fields.places.reshape(-1), minlength=bits)
    assert (used[:-1] == 1).all(), "all but the empty frame indicator"
    single = np.packbits(np.eye(bits, dtype=np.uint8)[:-1], axis=1)
    parameters, _ = unpack(single, mode)
    assert (np.unpackbits(parameters, axis=1).sum(axis=1) == 1).all()
    np.testing.assert_array_equal(pack(parameters, mode), single)


@EVERY_MODE
def test_frames_that_are_none_are_told_apart(mode: Mode) -> None:
    fields = fields_of(mode)
    parameters = np.zeros((8, fields.parameters), np.uint8)
    parameters[:, fields.start] = np.arange(8) % (mode.starts + 2)
    payloads = pack(parameters, mode)
    _, counts = unpack(payloads, mode)
    expected = [1 <= start <= mode.starts for start in parameters[:, fields.start]]
    assert counts.tolist() == expected
    payloads[:, -1] |= 1
    assert not unpack(payloads, mode)[1].any(), "marked as empty"


@EVERY_MODE
def test_a_row_is_to_the_bit_what_it_is_alone(mode: Mode) -> None:
    rng = np.random.default_rng(20)
    rows, frames = 17, 12
    speech = np.stack([speech_like(rng, frames * mode.samples) for _ in range(rows)])
    speech = speech.reshape(rows, frames, mode.samples)
    received = rng.random((rows, frames)) > 0.3

    encoder, decoder = EncoderState.of(rows, mode), DecoderState.of(rows, mode)
    together = [encode(speech[:, frame], encoder, mode) for frame in range(frames)]
    heard = [decode(together[n], received[:, n], decoder, mode) for n in range(frames)]
    for row in range(rows):
        one, other = EncoderState.of(1, mode), DecoderState.of(1, mode)
        at = slice(row, row + 1)
        for frame in range(frames):
            alone = encode(speech[at, frame], one, mode)
            np.testing.assert_array_equal(alone, together[frame][at])
            sound = decode(alone, received[at, frame], other, mode)
            np.testing.assert_array_equal(sound, heard[frame][at])


@EVERY_MODE
def test_what_was_encoded_is_heard(mode: Mode) -> None:
    rng = np.random.default_rng(30)
    frames = 40
    speech = speech_like(rng, frames * mode.samples)
    encoder, decoder = EncoderState.of(1, mode), DecoderState.of(1, mode)
    received = np.ones(1, bool)
    heard = np.concatenate(
        [
            decode(encode(frame[None], encoder, mode), received, decoder, mode)[0]
            for frame in speech.reshape(frames, -1)
        ]
    )
    before, after = speech[: -mode.delay].astype(float), heard[mode.delay :].astype(float)
    likeness = np.corrcoef(before, after)[0, 1]
    assert likeness > 0.93
    assert 0.8 < np.sqrt((after**2).mean() / (before**2).mean()) < 1.2


@EVERY_MODE
def test_a_loss_is_filled_and_fades(mode: Mode) -> None:
    rng = np.random.default_rng(40)
    frames = 20
    speech = np.clip(
        np.tile(speech_like(rng, 400)[-200:], frames * mode.samples // 200 + 1) * 2.0, -20000, 20000
    ).astype(np.int16)[: frames * mode.samples]
    encoder, decoder = EncoderState.of(1, mode), DecoderState.of(1, mode)
    for frame in speech.reshape(frames, -1):
        last = decode(encode(frame[None], encoder, mode), np.ones(1, bool), decoder, mode)
    nothing = np.zeros((1, mode.octets), np.uint8)
    power = [
        float((decode(nothing, np.zeros(1, bool), decoder, mode).astype(float) ** 2).mean())
        for _ in range(15)
    ]
    assert power[0] > 0.25 * float((last.astype(float) ** 2).mean())
    assert power[4] < power[0]
    assert power[-1] < 1e-3 * power[0], "silent in the end"


@EVERY_MODE
def test_no_streams_are_no_frames_and_other_shapes_are_refused(mode: Mode) -> None:
    none = np.zeros((0, mode.samples), np.int16)
    payloads = encode(none, EncoderState.of(0, mode), mode)
    assert payloads.shape == (0, mode.octets)
    sound = decode(payloads, np.zeros(0, bool), DecoderState.of(0, mode), mode)
    assert sound.shape == none.shape

    encoder, decoder = EncoderState.of(2, mode), DecoderState.of(2, mode)
    for shape, kind in (((2, 80), np.int16), ((1, mode.samples), np.int16), ((2, 1), np.int32)):
        with pytest.raises(CodecError, match="iLBC encodes int16"):
            encode(np.zeros(shape, kind), encoder, mode)
    received = np.ones(2, bool)
    for shape, kind in (((2, 37), np.uint8), ((3, mode.octets), np.uint8), ((2, 1), np.int16)):
        with pytest.raises(CodecError, match="iLBC decodes uint8"):
            decode(np.zeros(shape, kind), received, decoder, mode)
    with pytest.raises(CodecError, match="`received` is bool"):
        decode(np.zeros((2, mode.octets), np.uint8), received[:1], decoder, mode)


def test_the_frequencies_of_all_indices_are_in_order() -> None:
    rng = np.random.default_rng(50)
    sizes = [len(codebook) for codebook in LSF_CODEBOOKS]
    assert sizes == [64, 128, 128]
    index = np.stack([rng.integers(0, size, 50_000) for size in sizes], axis=1)
    sets = lsf.dequantise(index)
    assert (np.diff(sets) >= 0).all()
    assert sets.min() > 0.1
    assert sets.max() < 3.0


def test_frequencies_are_the_roots_that_numpy_finds() -> None:
    rng = np.random.default_rng(60)
    sets = np.cumsum(rng.uniform(0.06, 0.4, (50, 11)), axis=1)
    sets = np.pi * sets[:, :10] / sets[:, 10:]
    filters = polynomials(sets)
    for frequencies, filter_ in zip(sets, filters, strict=True):
        reverse = filter_[::-1]
        for sign, kind in ((1, 0), (-1, 1)):
            both = np.append(filter_, 0) + sign * np.append(0, reverse)
            angles = np.angle(np.roots(both))
            inner = np.sort(angles[(angles > 1e-3) & (angles < np.pi - 1e-3)])
            np.testing.assert_allclose(inner, frequencies[kind::2], atol=1e-6)
    found = roots(filters, np.zeros((50, 10)))
    assert np.abs(found - sets).max() < 0.005, "half a step of the grid, or what is beside it"


@examples(60)
@given(data=st.data(), mode=st.sampled_from(list(MODES.values())))
def test_any_octets_are_sound(data: st.DataObject, mode: Mode) -> None:
    state = DecoderState.of(2, mode)
    frames = data.draw(st.lists(st.binary(min_size=2 * mode.octets, max_size=2 * mode.octets)))
    for frame in frames:
        payloads = np.frombuffer(frame, np.uint8).reshape(2, -1)
        received = np.array(data.draw(st.tuples(st.booleans(), st.booleans())))
        sound = decode(payloads, received, state, mode)
        assert (sound.dtype, sound.shape) == (np.int16, (2, mode.samples))
    assert np.isfinite(state.speech).all()
    assert np.isfinite(state.excitation).all()


@EVERY_MODE
def test_any_sound_is_a_frame(mode: Mode) -> None:
    rng = np.random.default_rng(70)
    n = np.arange(mode.samples)
    sounds = [
        rng.integers(-32768, 32768, mode.samples),
        np.zeros(mode.samples),
        np.full(mode.samples, -32768),
        np.where(n % 2, 32767, -32768),
        32767 * np.sign(np.sin(n / 9)),
        32767 * np.sin(n * 3.1),
        np.where(n == 7, 32767, 0),
    ]
    state = EncoderState.of(len(sounds), mode)
    for turn in range(2 * len(sounds)):
        pcm = np.stack(sounds[turn % 7 :] + sounds[: turn % 7]).astype(np.int16)
        parameters, counts = unpack(encode(pcm, state, mode), mode)
        assert counts.all()
        assert parameters.shape == (len(sounds), fields_of(mode).parameters)
    assert (np.diff(state.lsf) > 0).all()


@EVERY_MODE
@pytest.mark.parametrize("frames", [1, 2])
def test_codecs_that_are_coded_together_are_what_they_are_alone(mode: Mode, frames: int) -> None:
    rng = np.random.default_rng(7)
    alone, joined = ([ilbc_codec(mode) for _ in range(5)] for _ in range(2))
    for turn in range(4):
        coders = sorted(range(5), key=lambda _: rng.random())[: 5 - turn]  # others wait
        pcm = rng.normal(0, 3000, (len(coders), frames * mode.samples)).astype(np.int16)
        ways = [joined[at].direct_encoder() for at in coders]
        assert all(way is not None and way.together is ways[0].together for way in ways)
        octets = ways[0].together.encode([way.keeps for way in ways], pcm)
        assert [row.tobytes() for row in octets] == [
            alone[at].encode(sound) for at, sound in zip(coders, pcm, strict=True)
        ]
        received = rng.random(len(coders)) > 0.3
        ways = [joined[at].direct_decoder() for at in coders]
        heard = ways[0].together.decode([way.keeps for way in ways], octets, received)
        for at, came, payload, sound in zip(coders, received, octets, heard, strict=True):
            decoder = alone[at]
            wanted = decoder.decode(payload.tobytes()) if came else decoder.conceal(sound.size)
            assert np.array_equal(sound, wanted)
