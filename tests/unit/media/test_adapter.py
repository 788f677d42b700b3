"""The codec adapter and the transcoder, by every codec of the registry."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest
from hypotheses import examples
from hypothesis import given
from hypothesis import strategies as st

from voip.codecs.core import CodecFormat
from voip.codecs.registry import default_registry
from voip.errors import CodecError, ConfigError
from voip.media.adapter import CodecAdapter, Encoding, Payload, packet_frames
from voip.media.transcode import Transcoder
from voip.types import AudioFormat, AudioFrame

FORMATS = [
    CodecFormat("pcmu"),
    CodecFormat("pcma"),
    CodecFormat("g722"),
    CodecFormat("ilbc", fmtp="mode=20"),
    CodecFormat("ilbc", fmtp="mode=30"),
    CodecFormat("opus", 48000, 2),
    CodecFormat("l16", 16000),
]
SNR_DB = {"pcmu": 30, "pcma": 30, "g722": 30, "ilbc": 15, "opus": 15, "l16": 60}
"""What a tone keeps of itself where it is coded once."""

Pcm = npt.NDArray[np.int16]


def name_of(format_: CodecFormat) -> str:
    return f"{format_.name}{format_.fmtp[5:]}"


every_format = pytest.mark.parametrize("format_", FORMATS, ids=name_of)


def tone(seconds: float, rate: int, hz: float = 1000.0) -> Pcm:
    return (8000 * np.sin(2 * np.pi * hz * np.arange(int(seconds * rate)) / rate)).astype(np.int16)


def snr_db(heard: npt.NDArray[np.float64], rate: int, hz: float) -> float:
    """How much louder a tone of this frequency is than all else."""
    t = 2 * np.pi * hz * np.arange(heard.size) / rate
    basis = np.stack((np.sin(t), np.cos(t)), axis=1)
    fit = basis @ np.linalg.lstsq(basis, heard, rcond=None)[0]
    return float(10 * np.log10(np.mean(fit**2) / np.mean((heard - fit) ** 2)))


def ptime(format_: CodecFormat) -> int:
    return 30 if format_.fmtp == "mode=30" else 20


@pytest.mark.long
@every_format
def test_what_the_adapter_does_is_what_the_codec_does_to_the_bit(format_: CodecFormat) -> None:
    """The codec's own rate and frames: nothing is converted, and nothing changes."""
    registry = default_registry()
    direct, info = registry.create(format_), registry.create(format_).info
    adapter = CodecAdapter(registry.create(format_), AudioFormat(info.sample_rate), ptime(format_))
    size = info.sample_rate * ptime(format_) // 1000
    rng = np.random.default_rng(3)
    frames = {"ilbc": 120, "opus": 1000, "g722": 2000}.get(info.name, 10_000)
    for n in range(frames):
        pcm = rng.integers(-20_000, 20_000, size, np.int16)
        (payload,) = adapter.encode(AudioFrame(pcm, adapter.format, n * size))
        as_float = pcm.astype(np.float32) / 32768
        octets = direct.encode(as_float)  # libopus is not quite the same for int16
        assert payload.octets == octets
        assert payload.timestamp == n * size * info.clock_rate // info.sample_rate
        frame = adapter.decode(payload)
        out = np.empty(size, np.float32)
        assert direct.decode_into(np.frombuffer(octets, np.uint8), out) == size
        expected = np.clip(np.rint(out * 32768), -32768, 32767)
        assert np.array_equal(frame.samples, expected)
        assert frame.timestamp == n * size


@every_format
@pytest.mark.parametrize("rate", [8000, 16000, 24000, 44100, 48000])
def test_frames_of_any_rate_go_in_and_come_out(format_: CodecFormat, rate: int) -> None:
    adapter = CodecAdapter(default_registry().create(format_), AudioFormat(rate), 20)
    seconds = 1.2 if format_.name == "ilbc" else 2.0  # which takes long
    sound = tone(seconds, rate)
    payloads = [
        payload
        for at in range(0, sound.size, rate // 100)
        for payload in adapter.encode(
            AudioFrame(sound[at : at + rate // 100], AudioFormat(rate), at)
        )
    ]
    assert len(payloads) >= 1000 * seconds // adapter.ptime_ms - 1
    heard = np.concatenate([adapter.decode(payload).samples for payload in payloads])
    middle = heard[rate // 2 : heard.size - rate // 10].astype(float)
    assert middle.size > 0.5 * rate
    assert snr_db(middle, rate, 1000.0) > SNR_DB[format_.name] - 3


@every_format
@examples(12)
@given(
    st.sampled_from(range(10, 121, 10)),
    st.lists(st.integers(1, 3000), min_size=1, max_size=12),
)
def test_blocks_of_any_length_become_packets_of_one(
    format_: CodecFormat, ptime_ms: int, sizes: list[int]
) -> None:
    """What comes out depends on what goes in, and not on how it was cut."""
    registry = default_registry()
    codec = registry.create(format_)
    info = codec.info
    sound = np.random.default_rng(1).normal(0, 0.1, sum(sizes)).astype(np.float32)
    encoding = Encoding(codec, info.sample_rate, ptime_ms)
    found, at = [], 0
    for size in sizes:
        encoding.feed(sound[at : at + size])
        at += size
        while (payload := encoding.take()) is not None:
            found.append(payload.tobytes())
    whole = Encoding(registry.create(format_), info.sample_rate, ptime_ms)
    assert whole.ptime_ms == encoding.ptime_ms
    assert encoding.span == encoding.ptime_ms * info.clock_rate / 1000
    packet = round(encoding.ptime_ms * info.sample_rate / 1000)
    assert len(found) == sound.size // packet
    for n, payload in enumerate(found):
        whole.feed(sound[n * packet : (n + 1) * packet])
        expected = whole.take()
        assert expected is not None
        assert payload == expected.tobytes()
        assert whole.is_empty


@pytest.mark.parametrize(
    ("format_", "times"),
    [
        (CodecFormat("pcmu"), {10: 10, 20: 20, 30: 30, 120: 120}),
        (CodecFormat("g722"), {10: 10, 30: 30, 120: 120}),
        (CodecFormat("ilbc", fmtp="mode=20"), {10: 20, 20: 20, 30: 20, 60: 60, 120: 120}),
        (CodecFormat("ilbc", fmtp="mode=30"), {10: 30, 20: 30, 60: 60, 100: 90}),
        (CodecFormat("opus", 48000, 2), {10: 10, 30: 20, 50: 40, 70: 60, 90: 80, 120: 120}),
        (CodecFormat("l16", 16000), {20: 20, 40: 40, 50: 40, 120: 40}),
        (CodecFormat("l16", 48000), {10: 10, 20: 10}),
    ],
    ids=str,
)
def test_a_payload_has_as_many_whole_frames_as_fit(
    format_: CodecFormat, times: dict[int, int]
) -> None:
    info = default_registry().create(format_).info
    for wanted, got in times.items():
        assert packet_frames(info, wanted) * info.frame_samples * 1000 == got * info.sample_rate


def test_what_cannot_be_adapted_is_refused() -> None:
    registry = default_registry()
    with pytest.raises(CodecError, match="10 ms of l16/48000/2 fit into no packet"):
        Encoding(registry.create(CodecFormat("l16", 48000, 2)), 48000, 20)
    with pytest.raises(ConfigError, match="2 channels"):
        CodecAdapter(registry.create(CodecFormat("pcmu")), AudioFormat(8000, 2))
    adapter = CodecAdapter(registry.create(CodecFormat("ilbc")), AudioFormat(8000))
    with pytest.raises(ConfigError):
        adapter.encode(AudioFrame(np.zeros(160, np.int16), AudioFormat(16000), 0))
    with pytest.raises(CodecError, match="37 octets are no payload of ilbc"):
        adapter.decode(Payload(bytes(37), 0))


@pytest.mark.long
@pytest.mark.parametrize(
    ("source", "target"),
    list(itertools.product(FORMATS, FORMATS)),
    ids=name_of,
)
def test_any_codec_becomes_any_other(source: CodecFormat, target: CodecFormat) -> None:
    registry = default_registry()
    encoder = registry.create(source)
    rate, clock = encoder.info.sample_rate, encoder.info.clock_rate
    size = rate * ptime(source) // 1000
    sound = tone(2.0, rate, 900.0)
    transcoder = Transcoder(source, target, ptime_ms=ptime(target))
    came: list[Payload] = []
    for n in range(sound.size // size):
        octets = encoder.encode(sound[n * size : (n + 1) * size])
        came += transcoder.feed(Payload(octets, n * size * clock // rate))
    assert transcoder.undecodable == 0
    decoder = registry.create(target)
    heard = np.concatenate([decoder.decode(payload.octets) for payload in came])
    seconds = heard.size / decoder.info.sample_rate
    assert seconds == pytest.approx(2.0, abs=0.07)
    span = ptime(target) * decoder.info.clock_rate // 1000
    assert [p.timestamp - came[0].timestamp for p in came] == [n * span for n in range(len(came))]
    middle = heard[heard.size // 4 : -heard.size // 10].astype(float)
    bar = min(SNR_DB[source.name], SNR_DB[target.name]) - 4
    assert snr_db(middle, decoder.info.sample_rate, 900.0) > bar


def test_each_direction_has_a_state_of_its_own() -> None:
    """Two streams through two transcoders come to what each comes to alone."""
    ilbc, opus = CodecFormat("ilbc", fmtp="mode=20"), CodecFormat("opus", 48000, 2)

    def through(transcoder: Transcoder, sounds: list[bytes]) -> list[bytes]:
        return [
            out.octets
            for n, octets in enumerate(sounds)
            for out in transcoder.feed(Payload(octets, 160 * n))
        ]

    rng = np.random.default_rng(2)
    encoders = [default_registry().create(ilbc) for _ in range(2)]
    sounds = [
        [encoder.encode(rng.integers(-9000, 9000, 160, np.int16)) for _ in range(30)]
        for encoder in encoders
    ]
    alone = [through(Transcoder(ilbc, opus), one) for one in sounds]
    both = [Transcoder(ilbc, opus) for _ in sounds]
    together: list[list[bytes]] = [[], []]
    for n in range(30):
        for k, transcoder in enumerate(both):
            together[k] += [out.octets for out in transcoder.feed(Payload(sounds[k][n], 160 * n))]
    assert together == alone
    assert len(alone[0]) >= 29


def test_what_is_lost_or_broken_on_the_way_leaves_no_hole() -> None:
    source, target = CodecFormat("g722"), CodecFormat("pcmu")
    encoder = default_registry().create(CodecFormat("ilbc", fmtp="mode=20"))
    transcoder = Transcoder(CodecFormat("ilbc", fmtp="mode=20"), target)
    sound, out = tone(1.0, 8000), []
    for n in range(50):
        octets = encoder.encode(sound[160 * n : 160 * (n + 1)])
        if n == 20:
            out += transcoder.lost(160, 160 * n)
        else:
            out += transcoder.feed(Payload(octets[:-1] if n == 30 else octets, 160 * n))
    assert transcoder.undecodable == 1
    assert len(out) == 50
    assert [p.timestamp for p in out] == [160 * n for n in range(50)]
    assert Transcoder(source, target).lost(160, 0)[0].octets == b"\xff" * 160
