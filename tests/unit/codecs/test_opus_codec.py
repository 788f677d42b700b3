"""Opus by libopus: every setting does what it says, at every rate, and memory stays as it is."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from voip.codecs.core import CodecFormat, FecCodec
from voip.codecs.opus import binding
from voip.codecs.opus.binding import candidates, libopus, open_library
from voip.codecs.opus.codec import OPUS, OpusCodec
from voip.codecs.opus.settings import Application, OpusSettings, RateControl, Signal
from voip.codecs.opus.toc import Bandwidth, Mode, read_packet
from voip.codecs.registry import default_registry
from voip.errors import CodecError, ConfigError
from voip.harness.audio import Sound, fit_tones, snr_db
from voip.sounds import asset_path

pytestmark = [pytest.mark.usefixtures("library"), pytest.mark.rfc("6716", "2.1")]

PACKETS_MS = (2.5, 5, 10, 20, 40, 60, 80, 100, 120)
RATES = (8000, 12000, 16000, 24000, 48000)
Pcm = npt.NDArray[np.int16]


def tone(rate_hz: int, channels: int, seconds: float, hz: float = 440.0) -> Pcm:
    mono = 8000 * np.sin(2 * np.pi * hz * np.arange(round(rate_hz * seconds)) / rate_hz)
    return np.repeat(np.rint(mono).astype(np.int16), channels)


def speech() -> Sound:
    with asset_path("speech-16k.wav") as path:
        return Sound.read(path)


def frames(samples: Pcm, length: int) -> Pcm:
    return samples[: samples.size - samples.size % length].reshape(-1, length)


def coded(
    settings: OpusSettings, samples: Pcm, length: int = 320, rate: int = 16000
) -> list[bytes]:
    codec = OpusCodec(rate, 1, settings)
    return [codec.encode(frame) for frame in frames(samples, length)]


def bits_a_second(payloads: list[bytes], packet_ms: float = 20) -> float:
    return sum(map(len, payloads)) * 8000 / (len(payloads) * packet_ms)


# ---------------------------------------------------------------- rates, channels, durations


@pytest.mark.parametrize("rate_hz", RATES)
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("packet_ms", PACKETS_MS)
def test_a_tone_goes_through_at_every_rate_in_every_packet(
    rate_hz: int, channels: int, packet_ms: float
) -> None:
    codec = OpusCodec(rate_hz, channels, OpusSettings(bit_rate=64_000))
    length = round(rate_hz * channels * packet_ms / 1000)
    heard = []
    for frame in frames(tone(rate_hz, channels, 0.6), length):
        payload = codec.encode(frame)
        assert read_packet(payload).duration_ms == packet_ms
        decoded = codec.decode(payload)
        assert (decoded.dtype, decoded.shape) == (np.int16, (length,))
        heard.append(decoded)
    settled = np.concatenate(heard).reshape(-1, channels)[rate_hz // 5 :]
    for channel in settled.T:
        signal, rest = fit_tones(channel[None], rate_hz, (440.0,))
        assert snr_db(signal[0], rest[0]) > 15
        assert abs(snr_db(signal[0], 8000**2 / 2)) < 1


def test_what_was_encoded_at_one_rate_is_decoded_at_any_other() -> None:
    for payload in coded(OpusSettings(), speech().samples[:3200]):
        for rate_hz in RATES:
            for channels in (1, 2):
                assert OpusCodec(rate_hz, channels).decode(payload).size == rate_hz // 50 * channels


def test_a_mono_decoder_mixes_and_a_stereo_one_keeps_sides() -> None:
    left = tone(48000, 1, 0.4, 440.0)
    both = np.column_stack((left, np.zeros_like(left))).ravel()
    encoder = OpusCodec(48000, 2, OpusSettings(bit_rate=128_000))
    mono, stereo = OpusCodec(48000, 1), OpusCodec(48000, 2)
    mixed, sides = [], []
    for frame in frames(both, 1920):
        payload = encoder.encode(frame)
        mixed.append(mono.decode(payload))
        sides.append(stereo.decode(payload))
    power = np.mean(np.concatenate(sides).reshape(-1, 2)[9600:].astype(float) ** 2, axis=0)
    assert power[0] > 1000 * power[1]
    assert np.mean(np.concatenate(mixed)[9600:].astype(float) ** 2) == pytest.approx(
        power[0] / 4, rel=0.1
    )


def test_the_delay_is_what_the_encoder_says() -> None:
    for application, delay in ((Application.VOIP, 312), (Application.LOW_DELAY, 120)):
        codec = OpusCodec(48000, 1, OpusSettings(64_000, application=application))
        assert codec.lookahead == delay, "6.5 ms, and 2.5 without the speech layer"
        click = np.zeros(9600, np.int16)
        click[4000:4010] = 20000
        heard = np.concatenate([codec.decode(codec.encode(f)) for f in frames(click, 960)])
        assert abs(int(np.argmax(np.abs(heard))) - delay - 4005) < 12
    assert OPUS.algorithmic_delay_ms == 20 + 6.5


@pytest.mark.parametrize("samples", [0, 1, 119, 300, 360, 961, 5761, 48000])
def test_pcm_that_is_no_packet_is_refused(samples: int) -> None:
    with pytest.raises(CodecError, match=f"{samples} samples are no Opus packet") as caught:
        OpusCodec(48000).encode(np.zeros(samples, np.int16))
    assert "120, 240, 480, 960" in caught.value.hint


@pytest.mark.parametrize(("rate_hz", "channels"), [(44100, 1), (48000, 3), (48000, 0), (0, 1)])
def test_rates_and_channels_that_opus_has_not_are_refused(rate_hz: int, channels: int) -> None:
    with pytest.raises(CodecError, match=f"{channels} channels of {rate_hz} Hz") as caught:
        OpusCodec(rate_hz, channels)
    assert caught.value.hint == "1 or 2 of 8000, 12000, 16000, 24000, 48000 Hz"


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize("bit_rate", [8_000, 16_000, 24_000, 48_000])
@pytest.mark.parametrize("control", [RateControl.CONSTRAINED_VBR, RateControl.CBR])
def test_the_bit_rate_is_kept(bit_rate: int, control: RateControl) -> None:
    payloads = coded(OpusSettings(bit_rate, control), speech().samples)
    assert bits_a_second(payloads) == pytest.approx(bit_rate, rel=0.08)
    assert bits_a_second(payloads) <= bit_rate * 1.01
    sizes = set(map(len, payloads))
    assert sizes == {bit_rate // 400} if control is RateControl.CBR else len(sizes) > 8


def test_vbr_is_freer_than_constrained_vbr() -> None:
    """Of the music layer: the speech layer knows no difference."""
    sound = np.concatenate([np.zeros(16000, np.int16), speech().samples[:48000]])
    free, bound = (
        np.array([*map(len, coded(OpusSettings(64_000, control), sound))])
        for control in (RateControl.VBR, RateControl.CONSTRAINED_VBR)
    )
    assert not np.array_equal(free, bound)
    assert free.std() > bound.std()


@pytest.mark.parametrize("bandwidth", Bandwidth)
def test_the_bandwidth_is_the_one_asked_for(bandwidth: Bandwidth) -> None:
    # The music layer has no medium band, so what needs it is sent in the wide one.
    least = Bandwidth.WIDE if bandwidth is Bandwidth.MEDIUM else bandwidth
    pcm = tone(48000, 1, 0.4)
    for bit_rate, settled in ((64_000, least), (16_000, bandwidth)):
        forced = coded(OpusSettings(bit_rate, bandwidth=bandwidth), pcm, 960, 48000)
        assert {read_packet(payload).bandwidth for payload in forced[1:]} == {settled}
    noise = np.random.default_rng(4).integers(-9000, 9000, 19200).astype(np.int16)
    limited = coded(OpusSettings(64_000, max_bandwidth=bandwidth), noise, 960, 48000)
    assert max(read_packet(payload).bandwidth for payload in limited) == least
    both = OpusSettings(64_000, bandwidth=Bandwidth.FULL, max_bandwidth=bandwidth)
    assert {read_packet(p).bandwidth for p in coded(both, pcm, 960, 48000)[1:]} == {least}


def test_silence_is_hardly_sent_with_dtx() -> None:
    rng = np.random.default_rng(5)
    pause = rng.normal(0, 3, 32000).astype(np.int16)
    sound = np.concatenate([speech().samples[:32000], pause])
    sent = [sum(len(p) > 2 for p in coded(OpusSettings(dtx=dtx), sound)[100:]) for dtx in (0, 1)]
    assert sent[0] == 100
    assert sent[1] < 40
    codec = OpusCodec(16000)
    for payload in coded(OpusSettings(dtx=True), sound):
        heard = codec.decode(payload) if len(payload) > 2 else codec.conceal(320)
        assert heard.size == 320
    assert 0 < np.abs(heard).max() < 300, "comfort noise"


def test_redundancy_goes_out_where_loss_is_expected() -> None:
    samples = speech().samples
    for fec, loss, expected in ((True, 20, True), (True, 0, False), (False, 20, False)):
        payloads = coded(OpusSettings(24_000, fec=fec, expected_loss=loss), samples)
        told = sum(read_packet(payload).has_fec(payload) for payload in payloads)
        assert (told > len(payloads) / 2) if expected else not told


def test_stereo_sound_is_sent_as_mono_to_who_wants_it() -> None:
    pcm = np.random.default_rng(6).integers(-9000, 9000, 1920 * 20).astype(np.int16)
    for channels, stereo in ((None, True), (2, True), (1, False)):
        codec = OpusCodec(48000, 2, OpusSettings(96_000, channels=channels))
        payloads = [codec.encode(frame) for frame in frames(pcm, 1920)]
        assert {read_packet(payload).stereo for payload in payloads[2:]} == {stereo}
    assert not read_packet(OpusCodec(48000, 1, OpusSettings(channels=2)).encode(pcm[:960])).stereo


def test_application_signal_and_complexity_are_followed() -> None:
    samples = speech().samples[:32000]

    def modes(settings: OpusSettings) -> set[Mode]:
        return {read_packet(payload).mode for payload in coded(settings, samples)}

    assert modes(OpusSettings(16_000)) == {Mode.SILK}
    assert modes(OpusSettings(16_000, application=Application.LOW_DELAY)) == {Mode.CELT}
    music = OpusSettings(28_000, application=Application.AUDIO, signal=Signal.MUSIC)
    voice = replace(music, signal=Signal.VOICE)
    assert Mode.CELT in modes(music)
    assert modes(voice) == {Mode.SILK}
    least, most = (coded(OpusSettings(complexity=level), samples) for level in (0, 10))
    assert least != most


def test_settings_change_between_packets() -> None:
    codec = OpusCodec(16000, 1, OpusSettings(32_000, RateControl.CBR))
    packets = frames(np.tile(speech().samples, 2), 320)
    before = [codec.encode(frame) for frame in packets[:100]]
    codec.configure(replace(codec.settings, bit_rate=16_000))
    after = [codec.encode(frame) for frame in packets[100:200]]
    assert ({*map(len, before)}, {*map(len, after)}) == ({80}, {40})
    assert codec.info.bit_rate == 16_000
    codec.configure(replace(codec.settings, bandwidth=Bandwidth.NARROW))
    narrow = [codec.encode(frame) for frame in packets[200:600]]  # it takes some seconds
    assert read_packet(narrow[-1]).bandwidth is Bandwidth.NARROW
    codec.configure(replace(codec.settings, application=Application.LOW_DELAY))
    last = codec.encode(packets[600])
    assert read_packet(last).mode is Mode.CELT
    for payload in (*before, *after, *narrow, last):
        assert codec.decode(payload).size == 320


@pytest.mark.parametrize(
    "wrong",
    [
        {"bit_rate": 5_999},
        {"bit_rate": 510_001},
        {"complexity": 11},
        {"complexity": -1},
        {"expected_loss": 101},
        {"channels": 3},
        {"channels": 0},
    ],
)
def test_settings_out_of_range_are_refused_at_once(wrong: dict[str, int]) -> None:
    (name,) = wrong
    with pytest.raises(ConfigError, match=name) as caught:
        OpusSettings(**wrong)  # type: ignore[arg-type]
    assert caught.value.hint.startswith("from ")


# ---------------------------------------------------------------- negotiated


def test_the_registry_builds_it_as_the_receiver_wants_it() -> None:
    def built(fmtp: str) -> OpusCodec:
        codec = default_registry().create(CodecFormat("OPUS", 48000, 2, fmtp))
        assert isinstance(codec, OpusCodec)
        assert isinstance(codec, FecCodec)
        return codec

    usual = built("").info
    assert (usual.sample_rate, usual.pcm_channels, usual.frame_samples) == (48000, 1, 120)
    assert built("maxplaybackrate=16000;stereo=1").info.format == OPUS.format
    wide = built("maxplaybackrate=16000;maxaveragebitrate=18000;useinbandfec=1;usedtx=1;cbr=1")
    assert (wide.info.sample_rate, wide.info.bit_rate) == (16000, 18_000)
    assert (wide.settings.fec, wide.settings.dtx) == (True, True)
    assert wide.settings.rate_control is RateControl.CBR
    assert len(wide.encode(speech().samples[8000:8320])) == 45
    assert built("stereo=1").info.pcm_channels == 2


@pytest.mark.parametrize("limit", [8_000, 12_000, 20_000, 40_000])
def test_speech_stays_below_the_average_the_other_side_takes(limit: int) -> None:
    codec = OpusCodec.negotiated(f"maxaveragebitrate={limit};maxplaybackrate=16000")
    payloads = [codec.encode(frame) for frame in frames(speech().samples, 320)]
    assert 0.8 * min(limit, 32_000) < bits_a_second(payloads) <= limit


# ---------------------------------------------------------------- loss


def test_concealment_has_any_length_and_fades() -> None:
    codec = OpusCodec(16000)
    assert not codec.conceal(1000).any(), "nothing was heard yet"
    for payload in coded(OpusSettings(), tone(16000, 1, 0.4)):
        last = codec.decode(payload)
    first = codec.conceal(320)
    assert np.std(first) > 0.5 * np.std(last)
    for samples in (0, 1, 123, 320, 5000):
        assert codec.conceal(samples).shape == (samples,)
    assert np.std(codec.conceal(320)) < 0.1 * np.std(last), "0.3 s later"


def test_what_a_packet_repeats_is_what_was_lost() -> None:
    settings = OpusSettings(32_000, expected_loss=20)
    payloads = coded(settings, speech().samples)
    whole = OpusCodec(16000)
    heard = [whole.decode(payload) for payload in payloads]
    repeated, made_up = [], []
    for lost in range(30, 250, 10):
        if not read_packet(payloads[lost + 1]).has_fec(payloads[lost + 1]):
            continue
        for into, by_fec in ((repeated, True), (made_up, False)):
            codec = OpusCodec(16000)
            for payload in payloads[lost - 20 : lost]:
                codec.decode(payload)
            got = codec.decode_fec(payloads[lost + 1]) if by_fec else codec.conceal(320)
            error = np.mean((got.astype(float) - heard[lost]) ** 2)
            into.append(snr_db(float(np.mean(heard[lost].astype(float) ** 2)), float(error)))
    assert len(repeated) > 10
    assert np.median(repeated) > np.median(made_up) + 3


@pytest.mark.parametrize("samples", [None, 40, 320, 960, 1920, 4000])
def test_redundancy_fills_a_gap_of_any_whole_length(samples: int | None) -> None:
    codec = OpusCodec(16000)
    payloads = coded(OpusSettings(expected_loss=20), speech().samples[:16000])
    for payload in payloads[:20]:
        codec.decode(payload)
    assert codec.decode_fec(payloads[30], samples).shape == (samples or 320,)
    assert codec.decode(payloads[30]).shape == (320,)


@pytest.mark.parametrize("samples", [0, -40, 41, 319])
def test_redundancy_fills_no_gap_that_opus_cannot_have(samples: int) -> None:
    payload = coded(OpusSettings(), speech().samples[:320])[0]
    with pytest.raises(CodecError, match=r"no multiple of 2\.5 ms"):
        OpusCodec(16000).decode_fec(payload, samples)


# ---------------------------------------------------------------- arrays


def test_float32_is_the_same_sound() -> None:
    one, other = OpusCodec(16000), OpusCodec(16000)
    whole, fractions = np.empty(320, np.int16), np.empty(320, np.float32)
    out, out_float = np.empty(1276, np.uint8), np.empty(1276, np.uint8)
    for frame in frames(speech().samples[:32000], 320):
        octets = one.encode_into(frame, out)
        assert other.encode_into(frame / np.float32(32768), out_float) == octets
        np.testing.assert_array_equal(out[:octets], out_float[:octets])
        assert one.decode_into(out[:octets], whole) == 320
        assert other.decode_into(out[:octets], fractions) == 320
        np.testing.assert_allclose(fractions * 32768, whole, atol=0.51)


def test_arrays_that_do_not_fit_are_refused_and_nothing_is_lost() -> None:
    codec, twin = OpusCodec(48000), OpusCodec(48000)
    pcm = tone(48000, 1, 0.02)
    room, sound = np.empty(1276, np.uint8), np.empty(960, np.int16)
    wide = np.zeros((960, 2), np.int16)
    octets = np.frombuffer(twin.encode(pcm), np.uint8)
    twin.reset()
    for pcm_, out in (
        (pcm, room[:1275]),
        (pcm, np.empty(2000, np.int8)),
        (pcm, np.empty(4000, np.uint8)[::2]),
        (pcm.astype(np.float64), room),
        (pcm.astype(">i2"), room),
        (wide[:, 0], room),
    ):
        with pytest.raises(CodecError):
            codec.encode_into(pcm_, out)
    for payload, into in (
        (octets, sound[:959]),
        (octets, np.empty(960, np.float64)),
        (octets, wide[:, 0]),
        (octets.astype(np.int8), sound),
        (octets[None], sound),
        (np.repeat(octets, 2)[::2], sound),
        (octets[:0], sound),
    ):
        with pytest.raises(CodecError):
            codec.decode_into(payload, into)
    np.testing.assert_array_equal(
        codec.decode(codec.encode(pcm)), twin.decode(twin.encode(pcm)), "as if nothing had been"
    )
    frozen = sound.view()
    frozen.flags.writeable = False
    with pytest.raises(CodecError, match="not writable"):
        codec.decode_into(octets, frozen)


@pytest.mark.long
def test_ten_thousand_frames_are_the_same_copied_or_not() -> None:
    settings = OpusSettings(12_000, complexity=0, expected_loss=10)
    copying, writing = OpusCodec(8000, 1, settings), OpusCodec(8000, 1, settings)
    samples = np.resize(speech().samples[::2], 160 * 10_000)
    samples += np.random.default_rng(8).integers(-20, 20, samples.size).astype(np.int16)
    room, sound = np.empty(1276, np.uint8), np.empty(160, np.int16)
    for frame in frames(samples, 160):
        payload = copying.encode(frame)
        octets = writing.encode_into(frame, room)
        assert payload == room[:octets].tobytes()
        decoded = copying.decode(payload)
        assert writing.decode_into(room[:octets], sound) == 160
        assert decoded.tobytes() == sound.tobytes()


@pytest.mark.long
def test_nothing_grows_and_no_payload_is_allocated() -> None:
    """By a process of its own: in this one others allocate, too.

    The calls themselves take some 1,500 octets, however long the frame is.
    """
    program = Path(__file__).with_name("opus_memory.py")
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, check=True)
    figures = [[int(word) for word in line.split()] for line in done.stdout.splitlines()]
    assert len(figures) == 2  # of samples that may be written to, and of such that may not
    for longer, grown, peak, least in figures:
        assert longer > 1000
        assert grown < 1500, "a byte a packet would be growth"
        assert peak - least < longer / 2, "of a payload's size; PCM is three times as long"


# ---------------------------------------------------------------- the library


def test_without_any_library_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(CodecError, match="there is no libopus") as caught:
        open_library(iter(["libno-such.so.0", "libc.so.6"]))
    assert "libopus0" in caught.value.hint
    assert "pip install av" in caught.value.hint
    monkeypatch.setattr(binding, "candidates", lambda: iter(()))
    libopus.cache_clear()
    with pytest.raises(CodecError, match="there is no libopus"):
        default_registry().create(OPUS.format)


def test_the_copy_in_pyavs_wheel_will_do_and_pyav_is_not_loaded(missing) -> None:
    paths = [path for path in candidates() if "av.libs" in path]
    if not paths:
        missing("the package av is not installed")
    program = (
        "import sys; from voip.codecs.opus import binding\n"
        f"binding.candidates = lambda: iter([{paths[0]!r}])\n"
        "from voip.codecs.opus.codec import OpusCodec; import numpy as np\n"
        "codec = OpusCodec(16000)\n"
        "print(codec.decode(codec.encode(np.zeros(320, np.int16))).size)\n"
        "print('av' in sys.modules, binding.libopus().path)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["320", "False", paths[0]]
