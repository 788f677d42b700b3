"""AMR and AMR-WB: payloads of RFC 4867, sound judged by FFmpeg, and G.729, which is heard only."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import numpy.typing as npt
import pytest
from hypotheses import examples
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from media_library import decoded_by_ffmpeg, speech

from voip.codecs import amr, g729
from voip.codecs.amr import KINDS, amr_codec
from voip.codecs.amr_payload import MAX_FRAMES, NO_DATA, AmrFrame, pack, unpack
from voip.codecs.core import CodecFormat, Ways
from voip.codecs.registry import default_registry
from voip.errors import CodecError

pytestmark = pytest.mark.rfc("4867", "4")

Pcm = npt.NDArray[np.int16]
RATE = {"amr": 8000, "amr-wb": 16000}
NAMES = st.sampled_from(list(KINDS))
EVERY_KIND = pytest.mark.parametrize("name", list(KINDS))
HOSTILE = examples(150, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(autouse=True)
def libraries_are_there(missing) -> None:
    for name in KINDS:
        if amr.amr_ways(name) is not Ways.BOTH:
            missing(f"there is no encoder or decoder of {name}")


def frames_of_speech(name: str) -> Pcm:
    samples, size = speech(RATE[name]), RATE[name] // 50
    return samples[: samples.size // size * size].reshape(-1, size)


# ---------------------------------------------------------------- payloads


def drawn(payload: bytes) -> str:
    return "".join(f"{octet:08b}" for octet in payload)


def test_one_frame_is_as_the_rfc_draws_it() -> None:  # section 4.3.5.1: AMR at 7.4 kbit/s
    bits = ("110" * 50)[:148]
    data = int(bits + "0000", 2).to_bytes(19, "big")
    payload = pack([AmrFrame(4, data)], KINDS["amr"], aligned=False)
    assert drawn(payload) == "1111" + "0" + "0100" + "1" + bits + "00"


def test_several_frames_are_as_the_rfc_draws_them() -> None:  # section 4.3.5.2: AMR-WB
    speech_, silence, last = ("110" * 44)[:132], ("10" * 20), ("011" * 59)
    frames = [
        AmrFrame(0, int(speech_ + "0000", 2).to_bytes(17, "big")),
        AmrFrame(9, int(silence, 2).to_bytes(5, "big")),
        AmrFrame(15),
        AmrFrame(1, int(last + "0" * 7, 2).to_bytes(23, "big")),
    ]
    payload = pack(frames, KINDS["amr-wb"], aligned=False, request=1)
    contents = "0001" + "100001" + "110011" + "111111" + "000011"
    assert drawn(payload) == contents + speech_ + silence + last + "0000000"


def test_an_aligned_payload_has_octets_for_each_part() -> None:
    frames = [AmrFrame(0, bytes(range(1, 17)) + b"\x80"), AmrFrame(NO_DATA, good=False)]
    payload = pack(frames, KINDS["amr-wb"], aligned=True, request=3)
    assert payload[:3] == bytes([0x30, 0x80 | 0 << 3 | 4, NO_DATA << 3])
    assert payload[3:] == bytes(range(1, 17)) + b"\x80"


FRAMES = st.lists(st.tuples(st.integers(0, 15), st.binary(min_size=60, max_size=60)), max_size=14)


@given(name=NAMES, aligned=st.booleans(), request=st.integers(0, 15), parts=FRAMES)
def test_frames_survive_a_payload(name: str, aligned: bool, request: int, parts: list) -> None:
    kind = KINDS[name]
    frames = []
    for type_, octets in parts:
        try:
            size = kind.bits_of(type_)
        except CodecError:
            continue
        value = int.from_bytes(octets, "big") >> 480 - size << -size % 8
        frames.append(AmrFrame(type_, value.to_bytes(-(-size // 8), "big"), bool(octets[0] & 1)))
    if not 1 <= len(frames) <= MAX_FRAMES:
        with pytest.raises(CodecError, match="1 to 12 frames"):
            pack(frames, kind, aligned=aligned)
        return
    payload = pack(frames, kind, aligned=aligned, request=request)
    assert unpack(payload, kind, aligned=aligned) == (request, tuple(frames))
    assert unpack(payload + b"\0", kind, aligned=aligned)[1] == tuple(frames), "padded"
    bits = sum(map(kind.bits_of, (f.type for f in frames)))
    if not aligned:
        assert len(payload) == -(-(4 + 6 * len(frames) + bits) // 8)
    with pytest.raises(CodecError):
        unpack(payload[:-1], kind, aligned=aligned)


# ---------------------------------------------------------------- sound


@EVERY_KIND
@pytest.mark.parametrize("aligned", [False, True])
def test_ffmpeg_hears_every_mode_as_we_do(name: str, aligned: bool, missing) -> None:
    kind, sound = KINDS[name], frames_of_speech(name)[:100]
    for mode, bit_rate in enumerate(kind.bit_rates):
        codec = amr_codec(name, aligned=aligned, mode=mode)
        assert codec.info.bit_rate == bit_rate == kind.bits[mode] * 50
        payloads = [codec.encode(frame) for frame in sound]
        ours = np.concatenate([codec.decode(payload) for payload in payloads])
        stored = []
        for payload in payloads:
            _, (frame,) = unpack(payload, kind, aligned=aligned)
            assert frame.type == mode
            stored.append(bytes([frame.type << 3 | 4]) + frame.data)
        theirs = decoded_by_ffmpeg(
            {"amr": "amrnb", "amr-wb": "amrwb"}[name], stored, missing, sample_rate=RATE[name]
        )
        assert theirs.size == ours.size
        assert np.corrcoef(ours, theirs)[0, 1] > 0.97, mode


@EVERY_KIND
def test_speech_goes_through_as_late_as_is_said(name: str) -> None:
    codec = amr_codec(name)
    sound = frames_of_speech(name)
    heard = np.concatenate([codec.decode(codec.encode(frame)) for frame in sound]).astype(float)
    late = round((codec.info.algorithmic_delay_ms - 20) * RATE[name] / 1000)
    before = sound.ravel()[: heard.size - 500].astype(float)
    likeness = [np.corrcoef(before, heard[d : d + before.size])[0, 1] for d in range(2 * late)]
    assert abs(int(np.argmax(likeness)) - late) <= 1
    assert max(likeness) > 0.65


@EVERY_KIND
def test_packets_of_several_frames_and_losses(name: str) -> None:
    one, other = amr_codec(name), amr_codec(name)
    sound = frames_of_speech(name)[20:23]
    packet = one.encode(sound.ravel())
    single = [other.encode(frame) for frame in sound]
    np.testing.assert_array_equal(
        one.decode(packet), np.concatenate([other.decode(payload) for payload in single])
    )
    concealed = one.conceal(sound.shape[1] + 7)
    assert concealed.size == sound.shape[1] + 7
    marked = pack([AmrFrame(NO_DATA)], KINDS[name], aligned=False)
    _, (frame,) = unpack(single[0], KINDS[name], aligned=False)
    damaged = pack([AmrFrame(frame.type, frame.data, good=False)], KINDS[name], aligned=False)
    third = amr_codec(name)
    fourth = amr_codec(name)
    for codec in (third, fourth):
        codec.decode(packet)
    np.testing.assert_array_equal(third.decode(marked), fourth.decode(damaged))
    with pytest.raises(CodecError, match="takes 1 to 12 frames"):
        one.encode(np.zeros(sound.shape[1] * 13, np.int16))


@EVERY_KIND
def test_a_mode_request_is_granted_within_what_was_agreed(name: str) -> None:
    kind, (sound,) = KINDS[name], frames_of_speech(name)[30:31]
    codec = default_registry().create(CodecFormat(name, RATE[name], fmtp="mode-set=0,2,5"))
    modes = []
    for request in (15, 0, 3, 2, 15):
        codec.decode(pack([AmrFrame(NO_DATA)], kind, aligned=False, request=request))
        modes.append(unpack(codec.encode(sound), kind, aligned=False)[1][0].type)
    assert modes == [5, 0, 0, 2, 2]
    for arguments in ({"modes": (9,)}, {"modes": (1,), "mode": 0}, {"mode": 9}):
        with pytest.raises(CodecError, match="cannot use mode"):
            amr_codec(name, **arguments)


@pytest.mark.parametrize("fmtp", ["crc=1", "octet-align=1;robust-sorting=1", "interleaving=20"])
def test_payloads_we_do_not_have_are_refused(fmtp: str) -> None:
    with pytest.raises(CodecError, match="is not here"):
        default_registry().create(CodecFormat("amr", fmtp=fmtp))


@HOSTILE
@given(
    name=NAMES,
    aligned=st.booleans(),
    parts=st.lists(st.tuples(st.integers(0, 15), st.binary(min_size=60, max_size=60)), min_size=1),
)
def test_any_bits_in_frames_that_there_are_is_sound(name: str, aligned: bool, parts: list) -> None:
    codec = amr_codec(name, aligned=aligned)
    for type_, octets in parts:
        size = -(-KINDS[name].bits[type_] // 8) if type_ < len(KINDS[name].bits) else 0
        try:
            payload = pack(
                [AmrFrame(type_, octets[:size], bool(octets[-1] & 7))],
                KINDS[name],
                aligned=aligned,
            )
        except CodecError:
            continue
        assert codec.decode(payload).size == RATE[name] // 50


# ---------------------------------------------------------------- one direction


def test_an_encoder_that_is_missing_leaves_the_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    payload = amr_codec("amr-wb").encode(np.ones(320, np.int16))
    there = amr.library

    def without(name: str, package: str):
        if "amrwbenc" in name:
            raise CodecError("there is no libvo-amrwbenc on this machine")
        return there(name, package)

    monkeypatch.setattr(amr, "library", without)
    registry, format_ = default_registry(), CodecFormat("amr-wb", 16000)
    assert registry.ways(format_) is Ways.DECODE
    assert format_ in registry, "it is listed"
    assert format_ not in [info.format for info in registry.offered()], "and not offered"
    codec = registry.create(format_)
    assert codec.decode(payload).size == 320
    with pytest.raises(CodecError, match="libvo-amrwbenc"):
        codec.encode(np.ones(320, np.int16))


@pytest.fixture(name="g729_")
def g729_fixture(missing):
    try:
        return default_registry().create(CodecFormat("g729"))
    except CodecError as error:
        missing(str(error))


def test_g729_is_heard_and_not_spoken(g729_) -> None:
    registry, format_ = default_registry(), CodecFormat("g729")
    assert registry.static_format(18) == format_
    assert registry.ways(format_) is Ways.DECODE
    assert format_ not in [info.format for info in registry.offered()]
    payload = np.random.default_rng(5).bytes(30)
    heard = g729_.decode(payload)
    assert heard.size == 240
    assert np.abs(heard).max() > 0
    g729_.reset()
    room = np.empty(240, np.int16)
    assert g729_.decode_into(np.frombuffer(payload, np.uint8), room) == 240
    np.testing.assert_array_equal(room, heard)
    assert g729_.decode(payload[:12]).size == 160, "10 octets and Annex B's silence"
    with pytest.raises(CodecError, match="cannot be encoded"):
        g729_.encode(np.zeros(160, np.int16))


@HOSTILE
@given(payload=st.binary(max_size=250))
def test_any_g729_is_sound_or_refused(g729_, payload: bytes) -> None:
    frames, rest = divmod(len(payload), 10)
    if rest not in (0, 2) or frames > 20:
        with pytest.raises(CodecError, match="frames of 10 octets"):
            g729_.decode(payload)
    else:
        assert g729_.decode(payload).size == 80 * (frames + rest // 2)


def test_pyav_is_not_imported_before_it_is_needed() -> None:
    program = (
        "import sys\n"
        "from voip.codecs.registry import default_registry\n"
        "registry = default_registry()\n"
        "print([str(info) for info in registry.offered()] and 'av' in sys.modules)\n"
        "sys.modules['av'] = None\n"
        "from voip.codecs import g729\n"
        "g729.find_spec = lambda name: None\n"
        "from voip.errors import CodecError\n"
        "try: g729.g729_codec()\n"
        "except CodecError as error: print(error.hint, g729.g729_ways().value)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["False", "pip install av 0"]
    assert g729.G729.static_payload_type == 18
